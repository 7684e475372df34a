"""Numbers and times of text, with short ways for the plain ones that tapes are made of."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from ext.decimals cimport DECIMAL_OK, Decimal64, parse_decimal, parse_time
from ext.records cimport REASON_NONE, REASON_OVERFLOW, i128

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Eight ASCII digits as a number; -1 where one is no digit. Little-endian only, as the frames are. */
    static inline int64_t rw_eight_digits(const uint8_t *p) {
        uint64_t v;
        memcpy(&v, p, 8);
        if ((v & 0xF0F0F0F0F0F0F0F0ull) != 0x3030303030303030ull) return -1;
        if (((v + 0x0606060606060606ull) & 0xF0F0F0F0F0F0F0F0ull) != 0x3030303030303030ull) return -1;
        v -= 0x3030303030303030ull;
        v = v * 10 + (v >> 8);
        v = (((v & 0x000000FF000000FFull) * 0x000F424000000064ull) +
             (((v >> 16) & 0x000000FF000000FFull) * 0x0000271000000001ull)) >> 32;
        return (int64_t)(v & 0xFFFFFFFFull);
    }

    static const char rw_two_digits[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354"
        "555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

    static inline uint64_t rw_load_masked(const uint8_t *p, size_t n) {   /* n in 1..8 */
        uint64_t v;
        memcpy(&v, p, 8);
        return n >= 8 ? v : v & ((1ull << (8 * n)) - 1);
    }
    """
    int64_t rw_eight_digits(const uint8_t* p) noexcept nogil
    uint64_t rw_load_masked(const uint8_t* p, size_t n) noexcept nogil
    const char* rw_two_digits


cdef inline int read_decimal(const uint8_t* p, size_t n, Decimal64* out) noexcept nogil:
    """parse_decimal, with a short way for the plain numbers that tapes are made of."""
    cdef const uint8_t* q = p
    cdef const uint8_t* end = p + n
    cdef uint64_t value = 0
    cdef uint8_t d
    cdef int exponent = 0
    if n > 18 or n == 0:
        return parse_decimal(p, n, out)
    if q[0] == 45:
        q += 1
    while q < end:
        d = q[0] - 48
        if d > 9:
            break
        value = value * 10 + d
        q += 1
    if q < end:
        # A point needs digits on both sides here; everything else is parse_decimal's to judge.
        if q[0] != 46 or q == p or q + 1 == end or (q - 1)[0] == 45:
            return parse_decimal(p, n, out)
        exponent = <int>(q + 1 - end)
        q += 1
        while q < end:
            d = q[0] - 48
            if d > 9:
                return parse_decimal(p, n, out)
            value = value * 10 + d
            q += 1
    elif (end - 1)[0] == 45:
        return DECIMAL_OK + 1
    if (end - 1)[0] == 48:
        if value == 0:
            exponent = 0
        while value != 0 and value % 10 == 0:
            value //= 10
            exponent += 1
    out.mantissa = -<int64_t>value if p[0] == 45 else <int64_t>value
    out.exponent = exponent
    out.wide = 0
    return DECIMAL_OK


cdef inline bint read_digits(const uint8_t* p, size_t n, uint64_t* out) noexcept nogil:
    """1 to 19 ASCII digits; the bytes behind them must be readable."""
    cdef uint64_t value = 0
    cdef int64_t eight
    cdef uint8_t d
    if n == 0 or n > 19:
        return False
    while n >= 8:
        eight = rw_eight_digits(p)
        if eight < 0:
            return False
        value = value * 100000000ULL + <uint64_t>eight
        p += 8
        n -= 8
    while n:
        d = p[0] - 48
        if d > 9:
            return False
        value = value * 10 + d
        p += 1
        n -= 1
    out[0] = value
    return True


cdef inline int read_time(const uint8_t* p, size_t n, int64_t* out) noexcept nogil:
    """parse_time, with a short way for integers."""
    cdef uint64_t value
    if not read_digits(p, n, &value):
        return parse_time(p, n, out)
    return scale_time(value, out)


cdef inline int scale_time(uint64_t value, int64_t* out) noexcept nogil:
    """An integer time in ns, its unit seen from its size (DESIGN section 9)."""
    if value < 100000000000ULL:
        if value > 9223372036ULL:
            return REASON_OVERFLOW
        out[0] = <int64_t>(value * 1000000000ULL)
    elif value < 100000000000000ULL:
        if value > 9223372036854ULL:
            return REASON_OVERFLOW
        out[0] = <int64_t>(value * 1000000ULL)
    elif value < 100000000000000000ULL:
        if value > 9223372036854775ULL:
            return REASON_OVERFLOW
        out[0] = <int64_t>(value * 1000ULL)
    elif value > 9223372036854775807ULL:
        return REASON_OVERFLOW
    else:
        out[0] = <int64_t>value
    return REASON_NONE


cdef inline void trim_i64(Decimal64* number) noexcept nogil:
    """Move trailing zeros of the mantissa into the exponent."""
    cdef int64_t m = number.mantissa
    if m == 0:
        number.exponent = 0
        return
    while not m & 1 and m % 10 == 0:
        m //= 10
        number.exponent += 1
    number.mantissa = m


cdef inline int compare_prices(int64_t a, int a_exponent, int64_t b, int b_exponent) noexcept nogil:
    """Sign of a x 10**a_exponent - b x 10**b_exponent, exactly."""
    cdef i128 x = a, y = b
    cdef int shift = a_exponent - b_exponent
    if a == 0 or b == 0 or (a > 0) != (b > 0) or shift == 0:
        return (a > b) - (a < b)
    if shift > 18:                  # |a| x 10**19 is beyond any int64
        return 1 if a > 0 else -1
    if shift < -18:
        return -1 if b > 0 else 1
    while shift > 0:
        x = x * 10
        shift -= 1
    while shift < 0:
        y = y * 10
        shift += 1
    return (x > y) - (x < y)


cdef inline size_t write_number(uint64_t value, uint8_t* out) noexcept nogil:
    cdef uint8_t digits[20]
    cdef size_t n = 20
    cdef uint64_t rest
    while value >= 100:
        rest = value // 100
        n -= 2
        memcpy(digits + n, rw_two_digits + 2 * (value - rest * 100), 2)
        value = rest
    if value >= 10:
        n -= 2
        memcpy(digits + n, rw_two_digits + 2 * value, 2)
    else:
        n -= 1
        digits[n] = <uint8_t>(48 + value)
    memcpy(out, digits + n, 20 - n)
    return 20 - n
