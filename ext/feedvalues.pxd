"""Numbers and times of text, with short ways for the plain ones that tapes are made of."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from ext.decimals cimport DECIMAL_OK, Decimal64, parse_decimal, parse_time
from ext.records cimport REASON_INVALID, REASON_NONE, REASON_OVERFLOW, REASON_PRECISION, i128

cdef extern from "feedvalues.h":
    bint rw_eight_digits(const uint8_t* p, uint64_t* value) noexcept nogil
    uint64_t rw_load(const uint8_t* p) noexcept nogil
    bint rw_digits(const uint8_t* p, size_t n, uint64_t* value) noexcept nogil
    bint rw_short_decimal(const uint8_t* p, size_t n, uint64_t* value, int* exponent) noexcept nogil
    bint rw_long_decimal(const uint8_t* p, size_t n, uint64_t* value, int* exponent) noexcept nogil
    bint rw_iso_time(const uint8_t* p, size_t n, int64_t* out) noexcept nogil
    uint64_t rw_trim(uint64_t m, int* exponent) noexcept nogil
    uint64_t rw_load_masked(const uint8_t* p, size_t n) noexcept nogil
    uint32_t rw_id_if_zero(uint64_t x, uint32_t id) noexcept nogil
    const char* rw_two_digits


cdef inline void trim_i64(Decimal64* number) noexcept nogil:
    """Move trailing zeros of the mantissa into the exponent."""
    cdef int64_t m = number.mantissa
    if m > 0:
        number.mantissa = <int64_t>rw_trim(<uint64_t>m, &number.exponent)
    elif m < 0:
        number.mantissa = <int64_t>(0 - rw_trim(0 - <uint64_t>m, &number.exponent))
    else:
        number.exponent = 0


cdef inline int read_decimal(const uint8_t* p, size_t n, Decimal64* out) noexcept nogil:
    """parse_decimal, with a short way for the plain numbers that tapes are made of. 17 bytes at p must be readable."""
    cdef uint64_t value = 0
    cdef int exponent = 0
    cdef size_t sign = 1 if n and p[0] == 45 else 0
    cdef size_t digits = n - sign
    if digits == 0 or digits > 16 or not (
            rw_short_decimal(p + sign, digits, &value, &exponent) if digits <= 8 else
            rw_long_decimal(p + sign, digits, &value, &exponent)):
        return parse_decimal(p, n, out)
    out.mantissa = -<int64_t>value if sign else <int64_t>value
    out.exponent = exponent
    out.wide = 0
    return DECIMAL_OK


cdef inline bint read_digits(const uint8_t* p, size_t n, uint64_t* out) noexcept nogil:
    """1 to 19 ASCII digits; 8 bytes at p must be readable."""
    return 0 < n <= 19 and rw_digits(p, n, out)


cdef inline int read_time(const uint8_t* p, size_t n, int64_t* out) noexcept nogil:
    """parse_time, with short ways for integers and the usual ISO 8601 times. 32 bytes at p must be readable."""
    cdef uint64_t value
    if read_digits(p, n, &value):
        return scale_time(value, out)
    if rw_iso_time(p, n, out):
        return REASON_NONE
    return parse_time(p, n, out)


cdef struct NearTime:               # the first 11 of a time's 19 digits: they are the same for a tenth of a second
    uint64_t first                  # bytes 0 to 7
    uint64_t second                 # bytes 3 to 10
    int64_t base                    # ns of these with eight zeros


cdef inline bint read_near(const NearTime* near, const uint8_t* p, size_t n, int64_t* out) noexcept nogil:
    """read_time of what begins as the one kept: only its last digits are read. 0: it does not, or they are none."""
    cdef uint64_t tail
    if n != 19 or rw_load(p) != near.first or rw_load(p + 3) != near.second or not rw_eight_digits(p + 11, &tail):
        return False
    out[0] = near.base + <int64_t>tail
    return True


cdef inline void keep_near(NearTime* near, const uint8_t* p, size_t n) noexcept nogil:
    """Keep what a time begins with, where all that begin so are in ns and fit."""
    cdef uint64_t head
    if n == 19 and rw_digits(p, 11, &head) and 1000000000 <= head < 92233720368ULL:
        near.first = rw_load(p)
        near.second = rw_load(p + 3)
        near.base = <int64_t>(head * 100000000)


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
