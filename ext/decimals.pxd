"""Exact decimal numbers from and to text, without floats and without Python objects."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from ext.records cimport REASON_NONE, i128
from ext.wide cimport scale_up

cdef enum DecimalError:
    DECIMAL_OK = 0
    DECIMAL_INVALID = 1             # not [+-]digits[.digits][e±digits] in ASCII

cdef struct Decimal64:
    int64_t mantissa                # without trailing zeros (0 has exponent 0); saturated at ±INT64_MAX when wide
    int exponent                    # clamped to [-128, 127]
    uint8_t wide                    # 1: |mantissa| does not fit int64

cdef int parse_decimal(const uint8_t* text, size_t length, Decimal64* out) noexcept nogil
cdef int rescale_seldom(int64_t mantissa, int exponent, bint wide, int unit, int64_t* out) noexcept nogil

cdef inline int rescale(int64_t mantissa, int exponent, bint wide, int unit, int64_t* out) noexcept nogil:
    """value x 10**exponent in units of 10**unit: 0, REASON_PRECISION or REASON_OVERFLOW. Precision is judged first."""
    if not wide and scale_up(mantissa, exponent - unit, out):
        return REASON_NONE
    return rescale_seldom(mantissa, exponent, wide, unit, out)

# Integer x 10**exponent as trimmed decimal text; returns bytes written (at most 80 for |exponent| <= 36).
cdef size_t format_i128(i128 value, int exponent, uint8_t* out) noexcept nogil
# Text of a time (DESIGN section 9: an integer scaled by size, or ISO 8601) in ns; 0, REASON_INVALID, REASON_PRECISION or REASON_OVERFLOW.
cdef int parse_time(const uint8_t* text, size_t length, int64_t* out) noexcept nogil
