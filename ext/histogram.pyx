"""Latencies counted in HdrHistogram's layout: adding, percentiles, merging, and the text that HdrHistogram tools read.

A value is counted exactly up to 2 µs and to a thousandth above. Layout and encoding: HdrHistogram's V2
(https://github.com/HdrHistogram/HdrHistogram), 3 significant digits from 1 ns; the counts as zig-zag LEB128 with runs of
zeros negative, deflated, in base64.
"""

import base64
import binascii
import struct
import zlib

from libc.math cimport ceil
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

HIGHEST_NS = 3_600_000_000_000
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)

_HEADER = struct.Struct(">iiiiqqd")     # cookie, bytes of counts, normalizing offset, digits, lowest, highest, ratio
_OUTER = struct.Struct(">ii")           # cookie, bytes that follow
_COOKIE = 0x1C849303 | 0x10             # | 0x10: V2's word size
_COMPRESSED_COOKIE = 0x1C849304 | 0x10

cdef enum:
    LEB_BYTES_MAX = 9


cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil


cdef size_t index_for(int64_t value_ns) noexcept nogil:
    cdef uint64_t value = <uint64_t>value_ns if value_ns > 0 else 0
    cdef size_t bucket = 64 - __builtin_clzll(value | (SUBS - 1)) - SUB_BITS
    cdef size_t index = bucket * (SUBS // 2) + <size_t>(value >> bucket)
    return index if index < COUNTS else COUNTS - 1


cdef int64_t highest_for(size_t index) noexcept nogil:
    cdef int64_t bucket = <int64_t>(index // (SUBS // 2)) - 1
    if bucket < 0:
        bucket = 0
    return ((<int64_t>index - bucket * (SUBS // 2) + 1) << bucket) - 1


def index_of(int64_t value_ns):
    """Return which count a value belongs to; below 0 as 0, beyond two hours the last one."""
    return index_for(value_ns)


def highest_of(size_t index):
    """Return the highest value, in ns, that belongs to a count."""
    return highest_for(index)


cdef class Histogram:
    """Counts of latencies in ns, from 0 to about two hours; higher ones go into the last count.

    >>> found = Histogram()
    >>> found.record_all(np.array([5_000, 7_000, 90_000]))
    >>> found.total, found.percentile(50.0), found.max_ns
    (3, 7003, 90000)
    """

    def __cinit__(self):
        self.counts = <uint64_t*>calloc(COUNTS, sizeof(uint64_t))
        if self.counts == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.counts)

    cdef void add(self, int64_t value_ns, uint64_t count) noexcept nogil:
        self.counts[index_for(value_ns)] += count
        self.total += count
        if count and value_ns > self.max_ns:
            self.max_ns = value_ns

    cdef int64_t value_at(self, double percent) noexcept nogil:
        cdef uint64_t wanted = <uint64_t>ceil(<double>self.total * percent / 100.0 - 1e-9), seen = 0
        cdef size_t i
        if wanted == 0:
            wanted = 1
        for i in range(COUNTS):
            seen += self.counts[i]
            if seen >= wanted:
                return min(highest_for(i), self.max_ns)
        return self.max_ns

    def record(self, int64_t value_ns, uint64_t count=1):
        """Count a value ``count`` times."""
        self.add(value_ns, count)

    def record_all(self, const int64_t[:] values_ns not None):
        """Count each value of a one-dimensional int64 array."""
        cdef Py_ssize_t i
        with nogil:
            for i in range(values_ns.shape[0]):
                self.add(values_ns[i], 1)

    def merge(self, Histogram other not None):
        """Add all that another histogram has counted."""
        cdef size_t i
        for i in range(COUNTS):
            self.counts[i] += other.counts[i]
        self.total += other.total
        self.max_ns = max(self.max_ns, other.max_ns)

    def percentile(self, double percent):
        """Return the value that ``percent`` of the values do not exceed: ns, to three digits; 0 where there is none.

        Raises ValueError for a share that is not from 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile is from 0 to 100, this is {percent}")
        return self.value_at(percent)

    def nonzero(self):
        """Return {index: count} of the counts that are not 0."""
        return {i: self.counts[i] for i in range(COUNTS) if self.counts[i]}

    @staticmethod
    def of_counts(pairs, int64_t max_ns):
        """Return a histogram of (index, count) pairs in this layout. Raises ValueError for an index out of it."""
        cdef Histogram made = Histogram()
        for index, count in pairs:
            if not 0 <= index < COUNTS:
                raise ValueError(f"count {index} of a histogram with {COUNTS} counts")
            made.counts[<size_t>index] += <uint64_t>count
            made.total += <uint64_t>count
        made.max_ns = max_ns
        return made

    def encode(self):
        """Return the histogram as HdrHistogram's compressed V2, in base64: what its tools and logs take."""
        cdef size_t i, zeros = 0
        body = bytearray()
        for i in range(COUNTS):
            if self.counts[i] == 0:
                zeros += 1
                continue
            if zeros:
                append_zigzag(body, -<int64_t>zeros)
            append_zigzag(body, <int64_t>self.counts[i])
            zeros = 0
        packed = zlib.compress(_HEADER.pack(_COOKIE, len(body), 0, DIGITS, 1, HIGHEST_NS, 1.0) + bytes(body))
        return base64.b64encode(_OUTER.pack(_COMPRESSED_COOKIE, len(packed)) + packed).decode()

    @staticmethod
    def decode(text):
        """Return what ``encode`` wrote, or another program with 3 digits from 1 ns. Raises ValueError for anything else.

        The highest value is then known to three digits only.
        """
        try:
            outer = base64.b64decode(text, validate=True)
            cookie, length = _OUTER.unpack_from(outer)
            inner = zlib.decompress(outer[_OUTER.size:_OUTER.size + length])
            cookie_inner, size, offset, digits, lowest, _, ratio = _HEADER.unpack_from(inner)
        except (binascii.Error, struct.error, zlib.error, TypeError, ValueError) as problem:
            raise ValueError(f"no HdrHistogram V2 in base64: {problem}") from None
        if (cookie, cookie_inner) != (_COMPRESSED_COOKIE, _COOKIE) or len(inner) != _HEADER.size + size:
            raise ValueError(f"no HdrHistogram V2: cookies {cookie:#x} and {cookie_inner:#x}, {len(inner)} bytes")
        if (digits, lowest, offset, ratio) != (DIGITS, 1, 0, 1.0):
            raise ValueError(f"a histogram of {digits} digits from {lowest} ns; only 3 digits from 1 ns are read")
        return of_body(inner[_HEADER.size:])


cdef void append_zigzag(bytearray out, int64_t value):
    cdef uint64_t left = (<uint64_t>value << 1) ^ <uint64_t>(value >> 63)
    cdef int n
    for n in range(LEB_BYTES_MAX - 1):
        if left <= 0x7F:
            break
        out.append(<uint8_t>(left & 0x7F | 0x80))
        left >>= 7
    out.append(<uint8_t>left)       # the ninth byte holds eight bits


cdef Histogram of_body(const uint8_t[::1] body):
    """Count what the body of an encoded histogram holds."""
    cdef Histogram made = Histogram()
    cdef size_t at = 0, index = 0, size = body.shape[0]
    cdef uint64_t word
    cdef int64_t value
    cdef int n
    while at < size:
        word = 0
        for n in range(LEB_BYTES_MAX):
            if at == size:
                raise ValueError("no HdrHistogram V2: its counts are cut off")
            word |= <uint64_t>(body[at] if n == LEB_BYTES_MAX - 1 else body[at] & 0x7F) << (7 * n)
            at += 1
            if not body[at - 1] & 0x80:
                break
        value = <int64_t>(word >> 1) ^ -<int64_t>(word & 1)
        if value < 0:
            if <uint64_t>-value > COUNTS - index:
                raise ValueError(f"no HdrHistogram V2 of this range: more than {COUNTS} counts")
            index += <size_t>-value
            continue
        if index == COUNTS:
            raise ValueError(f"no HdrHistogram V2 of this range: more than {COUNTS} counts")
        if value:
            made.add(highest_for(index), <uint64_t>value)
        index += 1
    return made
