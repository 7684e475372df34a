"""Exact decimal numbers and times from and to text, without floats and without Python objects."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint64_t

from ext.records cimport (
    REASON_INVALID, REASON_NONE, REASON_OVERFLOW, REASON_PRECISION, i128, u128,
)
from ext.wide cimport POWERS_OF_TEN

cdef extern from "feedvalues.h":
    uint64_t rw_trim(uint64_t m, int* exponent) noexcept nogil

cdef enum:
    EXPONENT_CLAMP = 100000         # written exponents beyond this cannot change the outcome

cdef uint64_t INT64_MAX_U = 0x7FFFFFFFFFFFFFFF


cdef inline bint is_digit(uint8_t c) noexcept nogil:
    return <uint8_t>(c - 48) < 10


cdef int parse_decimal(const uint8_t* text, size_t length, Decimal64* out) noexcept nogil:
    """Parse ``[+-]digits[.digits][e±digits]``: at least one digit before a point, and one behind it."""
    return DECIMAL_OK if parse_short(text, length, out) else parse_any(text, length, out)


cdef inline bint parse_short(const uint8_t* text, size_t length, Decimal64* out) noexcept nogil:
    """Parse what nearly all are, up to 18 digits with a point at most; False: it is something else."""
    cdef int64_t mantissa = 0
    cdef size_t i, point = length, last = length - 1
    cdef uint8_t d
    if length == 0 or length > 19 or text[0] == 46 or text[last] == 46:
        return False
    for i in range(length):
        d = text[i] - 48
        if d < 10:
            mantissa = mantissa * 10 + d
        elif text[i] == 46 and point == length:
            point = i
        else:
            return False
    if point == length and length > 18:
        return False
    out.exponent = 0 if point == length else -<int>(last - point)
    if mantissa == 0:
        out.exponent = 0
    else:
        mantissa = <int64_t>rw_trim(<uint64_t>mantissa, &out.exponent)
    out.mantissa = mantissa
    out.wide = 0
    return True


cdef int parse_any(const uint8_t* text, size_t length, Decimal64* out) noexcept nogil:
    cdef const uint8_t* p = text
    cdef const uint8_t* end = text + length
    cdef bint negative = False, negative_exponent = False, wide = False
    cdef uint64_t mantissa = 0
    cdef int exponent = 0, digits = 0, pending_zeros = 0, written = 0
    cdef uint8_t d
    cdef bint fraction = False
    if p < end and (p[0] == 43 or p[0] == 45):
        negative = p[0] == 45
        p += 1
    while p < end:
        if is_digit(p[0]):
            digits += 1
            d = p[0] - 48
            # Zeros wait until a later digit shows that they are not trailing.
            if d == 0:
                if mantissa != 0 or wide:
                    pending_zeros += 1
                elif fraction:
                    exponent -= 1
                if fraction and (mantissa != 0 or wide):
                    exponent -= 1
            else:
                while pending_zeros:
                    if not wide:
                        if mantissa > 922337203685477580ULL:
                            wide = True
                        else:
                            mantissa *= 10
                    pending_zeros -= 1
                if not wide:
                    if mantissa > (INT64_MAX_U - d) / 10:
                        wide = True
                    else:
                        mantissa = mantissa * 10 + d
                if fraction:
                    exponent -= 1
        elif p[0] == 46 and not fraction:
            if digits == 0:
                return DECIMAL_INVALID
            fraction = True
            digits = 0
        else:
            break
        p += 1
    if digits == 0:
        return DECIMAL_INVALID
    if p < end and (p[0] == 101 or p[0] == 69):
        p += 1
        if p < end and (p[0] == 43 or p[0] == 45):
            negative_exponent = p[0] == 45
            p += 1
        if p == end:
            return DECIMAL_INVALID
        while p < end and is_digit(p[0]):
            if written < EXPONENT_CLAMP:
                written = written * 10 + (p[0] - 48)
            p += 1
    if p != end:
        return DECIMAL_INVALID
    if mantissa == 0 and not wide:
        out.mantissa = 0
        out.exponent = 0
        out.wide = 0
        return DECIMAL_OK
    exponent += pending_zeros
    exponent += -written if negative_exponent else written
    out.wide = wide
    out.mantissa = <int64_t>INT64_MAX_U if wide else <int64_t>mantissa
    if negative:
        out.mantissa = -out.mantissa
    out.exponent = 127 if exponent > 127 else (-128 if exponent < -128 else exponent)
    return DECIMAL_OK


cdef int rescale_seldom(int64_t mantissa, int exponent, bint wide, int unit, int64_t* out) noexcept nogil:
    cdef int shift = exponent - unit
    cdef uint64_t magnitude, power
    if mantissa == 0:
        out[0] = 0
        return REASON_NONE
    if shift < 0:
        # An encoder removes trailing zeros, but a foreign publisher need not have.
        magnitude = <uint64_t>mantissa if mantissa > 0 else 0 - <uint64_t>mantissa
        if wide or shift < -19 or magnitude % POWERS_OF_TEN[-shift]:
            return REASON_PRECISION
        magnitude //= POWERS_OF_TEN[-shift]
        out[0] = <int64_t>magnitude if mantissa > 0 else -<int64_t>magnitude
        return REASON_NONE
    if wide or shift > 18:
        return REASON_OVERFLOW
    power = POWERS_OF_TEN[shift]
    magnitude = <uint64_t>mantissa if mantissa > 0 else 0 - <uint64_t>mantissa
    if magnitude > INT64_MAX_U // power:
        return REASON_OVERFLOW
    out[0] = <int64_t>(magnitude * power) if mantissa > 0 else -<int64_t>(magnitude * power)
    return REASON_NONE


cdef size_t format_i128(i128 value, int exponent, uint8_t* out) noexcept nogil:
    cdef uint8_t digits[48]
    cdef int count = 0, i
    cdef size_t n = 0
    cdef u128 v
    cdef uint64_t low
    if value == 0:
        out[0] = 48
        return 1
    if value < 0:
        out[0] = 45
        n = 1
        v = <u128>0 - <u128>value
    else:
        v = <u128>value
    while v >> 64:
        digits[count] = <uint8_t>(48 + <int>(v % 10))
        v = v // 10
        count += 1
    low = <uint64_t>v
    while low:
        digits[count] = <uint8_t>(48 + low % 10)
        low //= 10
        count += 1
    return n + place_point(digits, count, exponent, out + n)


cdef size_t place_point(const uint8_t* digits, int count, int exponent, uint8_t* out) noexcept nogil:
    """Write reversed ``digits`` times 10**exponent as text without trailing zeros after the point."""
    cdef int first = 0, i
    cdef size_t n = 0
    if exponent >= 0:
        for i in range(count - 1, -1, -1):
            out[n] = digits[i]
            n += 1
        for i in range(exponent):
            out[n] = 48
            n += 1
        return n
    while first < -exponent and first < count and digits[first] == 48:
        first += 1
    if count + exponent <= 0:
        out[0] = 48
        n = 1
    for i in range(count - 1, -exponent - 1, -1):
        out[n] = digits[i]
        n += 1
    if first >= -exponent:
        return n
    out[n] = 46
    n += 1
    for i in range(-exponent - count):
        out[n] = 48
        n += 1
    for i in range(min(count, -exponent) - 1, first - 1, -1):
        out[n] = digits[i]
        n += 1
    return n


# --- times -------------------------------------------------------------------------------------------------------

cdef int parse_time(const uint8_t* text, size_t length, int64_t* out) noexcept nogil:
    cdef size_t i, start = 0
    if length and (text[0] == 43 or text[0] == 45):
        start = 1
    if length == start:
        return REASON_INVALID
    for i in range(start, length):
        if not is_digit(text[i]):
            return parse_iso_time(text, length, out) if start == 0 else REASON_INVALID
    return parse_integer_time(text + start, length - start, start == 1 and text[0] == 45, out)


cdef int parse_integer_time(const uint8_t* p, size_t length, bint negative, int64_t* out) noexcept nogil:
    cdef uint64_t value = 0, scale
    cdef size_t i
    for i in range(length):
        if value > (INT64_MAX_U - (p[i] - 48)) // 10:
            return REASON_OVERFLOW
        value = value * 10 + (p[i] - 48)
    if value < 100000000000ULL:
        scale = 1000000000ULL
    elif value < 100000000000000ULL:
        scale = 1000000ULL
    elif value < 100000000000000000ULL:
        scale = 1000ULL
    else:
        scale = 1
    if value > INT64_MAX_U // scale:
        return REASON_OVERFLOW
    out[0] = -<int64_t>(value * scale) if negative else <int64_t>(value * scale)
    return REASON_NONE


cdef int two_digits(const uint8_t* p) noexcept nogil:
    if not is_digit(p[0]) or not is_digit(p[1]):
        return -1
    return (p[0] - 48) * 10 + (p[1] - 48)


cdef int64_t days_from_civil(int64_t y, int m, int d) noexcept nogil:
    """Days since 1970-01-01 of a Gregorian date (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    cdef int64_t era, yoe, doy, doe
    y -= m <= 2
    era = (y if y >= 0 else y - 399) // 400
    yoe = y - era * 400
    doy = (153 * (m + (-3 if m > 2 else 9)) + 2) // 5 + d - 1
    doe = yoe * 365 + yoe // 4 - yoe // 100 + doy
    return era * 146097 + doe - 719468


cdef int days_in_month(int y, int m) noexcept nogil:
    if m == 2:
        return 29 if (y % 4 == 0 and y % 100 != 0) or y % 400 == 0 else 28
    return 30 if m == 4 or m == 6 or m == 9 or m == 11 else 31


cdef int parse_iso_time(const uint8_t* p, size_t length, int64_t* out) noexcept nogil:
    """``YYYY-MM-DD[(T| )hh:mm[:ss[(.|,)fraction]][Z|±hh[[:]mm]]]``."""
    cdef const uint8_t* end = p + length
    cdef int year, month, day, hour = 0, minute = 0, second = 0, reason = REASON_NONE
    cdef int64_t nanos = 0, offset_s = 0
    cdef i128 total
    if length < 10 or two_digits(p) < 0 or two_digits(p + 2) < 0 or p[4] != 45 or p[7] != 45:
        return REASON_INVALID
    year = two_digits(p) * 100 + two_digits(p + 2)
    month = two_digits(p + 5)
    day = two_digits(p + 8)
    if month < 1 or month > 12 or day < 1 or day > days_in_month(year, month):
        return REASON_INVALID
    p += 10
    if p < end:
        if (p[0] != 84 and p[0] != 116 and p[0] != 32) or end - p < 6 or p[3] != 58:
            return REASON_INVALID
        hour = two_digits(p + 1)
        minute = two_digits(p + 4)
        p += 6
        if p < end and p[0] == 58:
            if end - p < 3:
                return REASON_INVALID
            second = two_digits(p + 1)
            p += 3
            if p < end and (p[0] == 46 or p[0] == 44):
                p = parse_fraction(p + 1, end, &nanos, &reason)
                if p == NULL:
                    return REASON_INVALID
        if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
            return REASON_INVALID
        if not parse_offset(p, end, &offset_s):
            return REASON_INVALID
    total = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s
    total = total * 1000000000 + nanos
    if reason != REASON_NONE:
        return reason
    if total > <i128>0x7FFFFFFFFFFFFFFF or total < -<i128>0x7FFFFFFFFFFFFFFF:
        return REASON_OVERFLOW
    out[0] = <int64_t>total
    return REASON_NONE


cdef const uint8_t* parse_fraction(const uint8_t* p, const uint8_t* end, int64_t* nanos, int* reason) noexcept nogil:
    cdef int digits = 0
    if p == end or not is_digit(p[0]):
        return NULL
    while p < end and is_digit(p[0]):
        if digits < 9:
            nanos[0] = nanos[0] * 10 + (p[0] - 48)
        elif p[0] != 48:
            reason[0] = REASON_PRECISION
        digits += 1
        p += 1
    while digits < 9:
        nanos[0] *= 10
        digits += 1
    return p


cdef bint parse_offset(const uint8_t* p, const uint8_t* end, int64_t* offset_s) noexcept nogil:
    cdef bint negative
    cdef int hours, minutes = 0
    if p == end:
        return True
    if p[0] == 90 or p[0] == 122:
        return p + 1 == end
    if (p[0] != 43 and p[0] != 45) or end - p < 3:
        return False
    negative = p[0] == 45
    hours = two_digits(p + 1)
    p += 3
    if p < end and p[0] == 58:
        p += 1
        if p == end:
            return False
    if p < end:
        if end - p != 2:
            return False
        minutes = two_digits(p)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return False
    offset_s[0] = hours * 3600 + minutes * 60
    if negative:
        offset_s[0] = -offset_s[0]
    return True


# --- the Python face ---------------------------------------------------------------------------------------------

def parse_number(bytes text not None):
    """Parse decimal text: (mantissa, exponent, wide), or None where it is no number of DESIGN section 9's form."""
    cdef Decimal64 d
    if parse_decimal(<const uint8_t*><const char*>text, len(text), &d):
        return None
    return d.mantissa, d.exponent, bool(d.wide)


def to_units(int64_t mantissa, int exponent, int unit, bint wide=False):
    """``mantissa x 10**exponent`` in units of ``10**unit``: (reason, value); reason 0 is success."""
    cdef int64_t value = 0
    cdef int reason = rescale(mantissa, exponent, wide, unit, &value)
    return reason, value


def parse_timestamp(bytes text not None):
    """Parse a time: (reason, ns); reason 0 is success (DESIGN section 9: scaled integer or ISO 8601)."""
    cdef int64_t value = 0
    cdef int reason = parse_time(<const uint8_t*><const char*>text, len(text), &value)
    return reason, value


def format_units(int64_t high, uint64_t low, int exponent):
    """``(high * 2**64 + low) x 10**exponent`` as trimmed decimal text."""
    cdef uint8_t out[256]
    cdef size_t n
    if not -128 <= exponent <= 128:
        raise ValueError(f"exponent {exponent} is outside [-128, 128]")
    n = format_i128(<i128>((<u128>high << 64) | low), exponent, out)
    return (<const char*>out)[:n].decode()
