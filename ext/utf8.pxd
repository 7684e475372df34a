"""Texts as bytes: whether they are UTF-8, or ASCII. Inlined where they are looked at."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline size_t utf8_step(const uint8_t* p, size_t n) noexcept nogil:
    """Bytes of the character at p; 0 where there is none (Unicode 15, table 3-7)."""
    cdef uint8_t c = p[0]
    if c < 0x80:
        return 1
    if c < 0xC2 or c > 0xF4 or n < 2 or (p[1] & 0xC0) != 0x80:
        return 0
    if c < 0xE0:
        return 2
    if n < 3 or (p[2] & 0xC0) != 0x80:
        return 0
    if c < 0xF0:
        if (c == 0xE0 and p[1] < 0xA0) or (c == 0xED and p[1] > 0x9F):
            return 0
        return 3
    if n < 4 or (p[3] & 0xC0) != 0x80 or (c == 0xF0 and p[1] < 0x90) or (c == 0xF4 and p[1] > 0x8F):
        return 0
    return 4


cdef inline bint is_utf8(const uint8_t* p, size_t n) noexcept nogil:
    cdef size_t i = 0, step
    cdef uint64_t eight
    while i < n:
        if n >= 8:
            # The last eight overlap those before: no rest is left to be looked at byte by byte.
            memcpy(&eight, p + (i if i + 8 <= n else n - 8), 8)
            if eight & 0x8080808080808080ULL == 0:
                i += 8
                continue
        step = utf8_step(p + i, n - i)
        if step == 0:
            return False
        i += step
    return True


cdef inline bint is_ascii(const uint8_t* p, size_t n) noexcept nogil:
    """n > 0. Words that overlap, in place of a loop over the bytes that are left."""
    cdef uint64_t word, high = 0
    cdef uint32_t first, last
    cdef size_t at = 8
    if n >= 8:
        memcpy(&high, p, 8)
        while at + 8 < n:
            memcpy(&word, p + at, 8)
            high |= word
            at += 8
        memcpy(&word, p + n - 8, 8)
        high |= word
    elif n >= 4:
        memcpy(&first, p, 4)
        memcpy(&last, p + n - 4, 4)
        high = first | last
    else:
        high = p[0] | p[n >> 1] | p[n - 1]
    return high & <uint64_t>0x8080808080808080 == 0
