"""Exact integers beyond 64 bits (ext/wide.h). Units are the caller's."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.records cimport i128, u128

cdef extern from "wide.h" nogil:
    enum:
        RW_LIMBS
        RW_TEXT_MAX
    ctypedef struct Wide "rw_wide":         # 768 bits, two's complement
        uint64_t v[12]
    ctypedef struct Factor "rw_factor":     # not negative, with the limbs in use
        uint64_t v[12]
        int limbs
    ctypedef struct Part "rw_part":         # 256 bits, two's complement
        uint64_t v[4]

    # 128 bits; add and sub return 1 on overflow and write nothing that may be used.
    bint add_i128 "rw_add_i128"(i128 a, i128 b, i128* out)
    bint sub_i128 "rw_sub_i128"(i128 a, i128 b, i128* out)
    bint add_i64 "rw_add_i64"(int64_t a, int64_t b, int64_t* out)
    bint sub_i64 "rw_sub_i64"(int64_t a, int64_t b, int64_t* out)
    bint add3_i128 "rw_add3_i128"(i128 a, i128 b, i128 c, i128* out)
    const uint64_t[20] POWERS_OF_TEN "rw_powers_of_ten"
    # value x 10**shift; False where it does not fit, or shift is not 0 to 18.
    bint scale_up "rw_scale_up"(int64_t value, int shift, int64_t* out)
    void set_i128 "rw_set_i128"(i128* to, i128 value)
    int64_t pick_i64 "rw_pick_i64"(bint first, int64_t a, int64_t b)
    int64_t negate_if "rw_negate_if"(bint negative, int64_t a)
    i128 negate_i128_if "rw_negate_i128_if"(bint negative, i128 a)
    u128 abs_i128 "rw_abs_i128"(i128 a)
    uint64_t abs_i64 "rw_abs_i64"(int64_t a)
    u128 divmod_u128 "rw_divmod"(u128 a, uint64_t b, uint64_t* rest)
    bint fits_i64 "rw_fits_i64"(i128 a)
    uint64_t low_u128 "rw_low"(u128 a)
    uint64_t high_u128 "rw_high"(u128 a)
    i128 i128_of "rw_i128_of"(uint64_t high, uint64_t low)
    u128 u128_of "rw_u128_of"(uint64_t high, uint64_t low)
    u128 removed_cost "rw_removed_cost"(u128 cost, uint64_t quantity, uint64_t closed)

    void wide_zero "rw_wide_zero"(Wide* w)
    bint wide_negative "rw_wide_negative"(const Wide* w)
    bint wide_is_zero "rw_wide_is_zero"(const Wide* w)
    void wide_set_u128 "rw_wide_set_u128"(Wide* w, u128 a)
    u128 wide_bound "rw_wide_bound"(const Wide* w)
    bint wide_within "rw_wide_within"(const Wide* w, u128 bound)                # |w| is surely below what it was made of
    bint wide_difference_within "rw_wide_difference_within"(const Wide* a, const Wide* b, u128 bound)      # 0 <= a - b, so
    bint within256 "rw_within256"(const uint64_t* v, u128 bound)                # the same of what fits 256 bits
    bint difference_within256 "rw_difference_within256"(const uint64_t* a, const uint64_t* b, u128 bound)
    bint is_below256 "rw_is_below256"(const uint64_t* a, const uint64_t* b)     # neither negative
    bint wide_fits192 "rw_wide_fits192"(const Wide* w)
    bint wide_fits256 "rw_wide_fits256"(const Wide* w)
    bint wide_fits224 "rw_wide_fits224"(const Wide* w)                          # with all Parts to come it fits 256 bits
    int cmp_scaled "rw_cmp_scaled"(const uint64_t* a, uint64_t x, const uint64_t* b, uint64_t y)        # of three limbs
    bint is_below_scaled "rw_is_below_scaled"(const uint64_t* a, uint64_t x, const uint64_t* b, uint64_t y)     # a x x < b x y
    void wide_accumulate3 "rw_wide_accumulate3"(Wide* acc, uint64_t low, uint64_t middle, uint64_t high, bint negative)
    int wide_cmp "rw_wide_cmp"(const Wide* a, const Wide* b)
    void wide_add "rw_wide_add"(Wide* a, const Wide* b)
    void wide_sub "rw_wide_sub"(Wide* a, const Wide* b)
    void wide_neg "rw_wide_neg"(Wide* a)
    void wide_abs "rw_wide_abs"(Wide* a)
    void wide_mul_u64 "rw_wide_mul_u64"(Wide* a, uint64_t m)
    void wide_mul "rw_wide_mul"(Wide* a, const Wide* b)
    void wide_mul_pow10 "rw_wide_mul_pow10"(Wide* a, int exponent)
    int wide_limbs "rw_wide_limbs"(const Wide* a)
    void factor_set "rw_factor_set"(Factor* f, const Wide* w)
    void wide_addmul "rw_wide_addmul"(Wide* acc, i128 raw, const Factor* f)                 # acc += raw x f
    void wide_addmul2 "rw_wide_addmul2"(Wide* acc, i128 a, int64_t b, const Factor* f)      # acc += a x b x f
    void part_set "rw_part_set"(Part* part, i128 raw, uint64_t f)                           # part = raw x f
    void part_addmul "rw_part_addmul"(Part* part, i128 raw, uint64_t f)                     # part += raw x f
    void wide_add_part "rw_wide_add_part"(Wide* acc, const Part* part)
    void wide_quotient "rw_wide_quotient"(Wide* num, const Wide* den, int rounding)         # 0 down, 1 up, 2 half even
    u128 wide_saturate_u128 "rw_wide_saturate_u128"(const Wide* w)

    size_t format_u128 "rw_format_u128"(u128 v, int exponent, bint negative, char* out)
    size_t format_wide "rw_format_wide"(const Wide* w, int exponent, char* out)             # trimmed; RW_TEXT_MAX bytes
    size_t format_quotient "rw_format_quotient"(u128 n, uint64_t d, bint negative, char* out)      # n / d x 10**-9, as below
    # num / den x 10**exponent, rounded half to even at nine decimals, trimmed.
    size_t format_ratio "rw_format_ratio"(const Wide* num, const Wide* den, int exponent, char* out)

    uint64_t mix "rw_mix"(uint64_t a, uint64_t b)
    void copy_text "rw_copy_text"(uint8_t* to, const uint8_t* p, size_t n)
    uint64_t text_tag "rw_text_tag"(const uint8_t* p, size_t n)
    void prefetch "rw_prefetch"(const void* p)
