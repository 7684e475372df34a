"""Latencies counted in HdrHistogram's layout: three significant digits from 1 ns to an hour, in 264 KiB."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t

cdef enum:
    SUB_BITS = 11
    SUBS = 1 << SUB_BITS            # linear counts of the first two thousand ns, then as many for each two doublings
    BUCKETS = 32
    COUNTS = (BUCKETS + 1) * (SUBS // 2)
    DIGITS = 3

# Which count a value belongs to, and the highest value of a count.
cdef size_t index_for(int64_t value_ns) noexcept nogil
cdef int64_t highest_for(size_t index) noexcept nogil

cdef class Histogram:
    cdef uint64_t* counts
    cdef readonly uint64_t total    # values counted
    cdef readonly int64_t max_ns    # the highest value, exact
    cdef void add(self, int64_t value_ns, uint64_t count) noexcept nogil
    # The value that this share of the values does not exceed, ns; 0 where there is none.
    cdef int64_t value_at(self, double percent) noexcept nogil
