"""Numbers and times of text, with short ways for the plain ones that tapes are made of."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy
from ext.decimals cimport DECIMAL_OK, Decimal64, parse_decimal, parse_time
from ext.records cimport REASON_INVALID, REASON_NONE, REASON_OVERFLOW, REASON_PRECISION, i128

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

    /* Digits with at most one point among them, n in 1..8, without sign: 1; 0 for anything else. Little-endian only. */
    static inline int rw_short_decimal(const uint8_t *p, size_t n, uint64_t *value, int *exponent) {
        uint64_t v, t, points, below;
        memcpy(&v, p, 8);
        if (n < 8) v &= (1ull << (8 * n)) - 1;
        t = v ^ 0x2E2E2E2E2E2E2E2Eull;
        points = (t - 0x0101010101010101ull) & ~t & 0x8080808080808080ull;
        *exponent = 0;
        if (points) {
            size_t k = (size_t)__builtin_ctzll(points) >> 3;        /* digits before the point */
            if (k == 0 || k + 1 == n) return 0;
            below = (1ull << (8 * k)) - 1;
            v = (v & below) | ((v >> 8) & ~below);
            n -= 1;
            *exponent = (int)k - (int)n;
        }
        if (n < 8) v = (v << (64 - 8 * n)) | (0x3030303030303030ull >> (8 * n));
        if ((v & 0xF0F0F0F0F0F0F0F0ull) != 0x3030303030303030ull) return 0;
        if (((v + 0x0606060606060606ull) & 0xF0F0F0F0F0F0F0F0ull) != 0x3030303030303030ull) return 0;
        v -= 0x3030303030303030ull;
        v = v * 10 + (v >> 8);
        *value = ((((v & 0x000000FF000000FFull) * 0x000F424000000064ull) +
                   (((v >> 16) & 0x000000FF000000FFull) * 0x0000271000000001ull)) >> 32) & 0xFFFFFFFFull;
        return 1;
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
    bint rw_short_decimal(const uint8_t* p, size_t n, uint64_t* value, int* exponent) noexcept nogil
    uint64_t rw_load_masked(const uint8_t* p, size_t n) noexcept nogil
    const char* rw_two_digits


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


cdef inline int read_decimal(const uint8_t* p, size_t n, Decimal64* out) noexcept nogil:
    """parse_decimal, with short ways for the plain numbers that tapes are made of. 8 bytes at p must be readable."""
    cdef const uint8_t* q = p
    cdef const uint8_t* end = p + n
    cdef uint64_t value = 0
    cdef uint8_t d
    cdef int exponent = 0
    if n > 18 or n == 0:
        return parse_decimal(p, n, out)
    if n <= 8 and rw_short_decimal(p, n, &value, &exponent):
        out.mantissa = <int64_t>value
        out.exponent = exponent
        out.wide = 0
        if p[n - 1] == 48:
            trim_i64(out)
        return DECIMAL_OK
    value = 0
    exponent = 0
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


cdef inline int two_of(const uint8_t* p) noexcept nogil:
    """Two digits as a number; -1 where they are none."""
    cdef int a = p[0] - 48, b = p[1] - 48
    return a * 10 + b if 0 <= a <= 9 and 0 <= b <= 9 else -1


cdef inline int64_t days_since_1970(int year, int month, int day) noexcept nogil:
    """Days of a date of the Gregorian calendar (Hinnant's algorithm), year >= 1."""
    cdef int64_t y = year - (month <= 2)
    cdef int64_t era = y // 400, of_era = y - era * 400
    cdef int64_t of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


cdef inline int days_of_month(int year, int month) noexcept nogil:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef inline int fix_time(const uint8_t* p, size_t n, int64_t* out) noexcept nogil:
    """A UTCTimestamp, YYYYMMDD-HH:MM:SS[.fraction], in ns: 0, or a Reason. A leap second is the one after it."""
    cdef int year, month, day, hour, minute, second
    cdef int64_t fraction = 0, unit = 100000000
    cdef size_t i
    cdef i128 total
    cdef bint fine = False
    if n < 17 or n > 40 or p[8] != 45 or p[11] != 58 or p[14] != 58:
        return REASON_INVALID
    year = two_of(p) * 100 + two_of(p + 2)
    month, day, hour, minute, second = two_of(p + 4), two_of(p + 6), two_of(p + 9), two_of(p + 12), two_of(p + 15)
    if (two_of(p) < 0 or two_of(p + 2) < 0 or year < 1 or not 1 <= month <= 12
            or not 1 <= day <= days_of_month(year, month) or not 0 <= hour <= 23 or not 0 <= minute <= 59
            or not 0 <= second <= 60):
        return REASON_INVALID
    if n > 17:
        if p[17] != 46 or n == 18:
            return REASON_INVALID
        for i in range(18, n):
            if not 48 <= p[i] <= 57:
                return REASON_INVALID
            fraction += (p[i] - 48) * unit
            fine |= unit == 0 and p[i] != 48
            unit //= 10
    total = <i128>days_since_1970(year, month, day) * <i128>86400 + <i128>(hour * 3600 + minute * 60 + second)
    total = total * <i128>1000000000 + <i128>fraction
    if fine:
        return REASON_PRECISION
    if total > <i128>0x7FFFFFFFFFFFFFFF or total < -<i128>0x7FFFFFFFFFFFFFFF:
        return REASON_OVERFLOW
    out[0] = <int64_t>total
    return REASON_NONE
