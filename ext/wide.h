/* Fixed-width signed integers for sums in limits, exact 128-bit helpers, and a hash of short texts.
 *
 * 768 bits: the sum of 2**32 products of quantity (i128), price (i64), multiplier and rate (10**18 each), on the finest
 * decimal scale that instruments and rates can have (DESIGN section 6: a sum in a limit never refuses a trade).
 */
#ifndef RISKWIRE_WIDE_H
#define RISKWIRE_WIDE_H

#include <stdint.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

typedef __int128 rw_i128;
typedef unsigned __int128 rw_u128;

#define RW_LIMBS 12

typedef struct {
    uint64_t v[RW_LIMBS]; /* two's complement, least significant first */
} rw_wide;

/* A product that is not negative, with the limbs that are in use, so that multiplying skips the rest. */
typedef struct {
    uint64_t v[RW_LIMBS];
    int limbs;
} rw_factor;

/* --- 128 bits ---------------------------------------------------------------------------------------------- */

static inline int rw_add_i128(rw_i128 a, rw_i128 b, rw_i128 *out) { return __builtin_add_overflow(a, b, out); }
static inline int rw_sub_i128(rw_i128 a, rw_i128 b, rw_i128 *out) { return __builtin_sub_overflow(a, b, out); }
static inline int rw_add_i64(int64_t a, int64_t b, int64_t *out) { return __builtin_add_overflow(a, b, out); }
static inline int rw_sub_i64(int64_t a, int64_t b, int64_t *out) { return __builtin_sub_overflow(a, b, out); }

/* a + b + c; 1 only where the result itself does not fit: whichever order overflows, another does not. */
static inline int rw_add3_i128(rw_i128 a, rw_i128 b, rw_i128 c, rw_i128 *out) {
    rw_i128 t;
    if (!__builtin_add_overflow(a, b, &t)) return __builtin_add_overflow(t, c, out);
    if (__builtin_add_overflow(a, c, &t)) return 1;
    return __builtin_add_overflow(t, b, out);
}

static const uint64_t rw_powers_of_ten[20] = {
    1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL,
    10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL,
    1000000000000000ULL, 10000000000000000ULL, 100000000000000000ULL, 1000000000000000000ULL,
    10000000000000000000ULL };

/* value x 10**shift where that is a whole int64 other than INT64_MIN, and shift is 0 to 18; 0 where it is not. */
static inline int rw_scale_up(int64_t value, int shift, int64_t *out) {
    int64_t scaled;
    if ((unsigned)shift > 18 || __builtin_mul_overflow(value, (int64_t)rw_powers_of_ten[shift], &scaled)) return 0;
    if (scaled == INT64_MIN) return 0;
    *out = scaled;
    return 1;
}

/* Word by word: a compiler's 16-byte copy of what was just written in halves has to wait until those have left the store
 * buffer, which was a fifth of the core's time. */
static inline void rw_set_i128(rw_i128 *to, rw_i128 value) {
    uint64_t half[2] = {(uint64_t)value, (uint64_t)((rw_u128)value >> 64)};
    __asm__("" : "+r"(half[0]), "+r"(half[1]));
    memcpy(to, half, sizeof half);
}

/* Without a branch: the signs of trades and positions are what no processor predicts, and a wrong guess costs 4 ns. */
static inline int64_t rw_pick_i64(int first, int64_t a, int64_t b) {
    int64_t all = -(int64_t)(first != 0);
    return (a & all) | (b & ~all);
}
static inline int64_t rw_negate_if(int negative, int64_t a) {
    uint64_t all = (uint64_t)0 - (uint64_t)(negative != 0);
    return (int64_t)(((uint64_t)a ^ all) - all);
}
static inline rw_i128 rw_negate_i128_if(int negative, rw_i128 a) {
    rw_u128 all = (rw_u128)0 - (rw_u128)(negative != 0);
    return (rw_i128)(((rw_u128)a ^ all) - all);
}
static inline rw_u128 rw_abs_i128(rw_i128 a) { return (rw_u128)rw_negate_i128_if(a < 0, a); }
static inline uint64_t rw_abs_i64(int64_t a) { return (uint64_t)rw_negate_if(a < 0, a); }
static inline int rw_fits_i64(rw_i128 a) { return a == (rw_i128)(int64_t)a; }
static inline uint64_t rw_low(rw_u128 a) { return (uint64_t)a; }
static inline uint64_t rw_high(rw_u128 a) { return (uint64_t)(a >> 64); }
static inline rw_u128 rw_u128_of(uint64_t high, uint64_t low) { return ((rw_u128)high << 64) | low; }
static inline rw_i128 rw_i128_of(uint64_t high, uint64_t low) { return (rw_i128)rw_u128_of(high, low); }

/* Quotient and remainder, in 64 bits where that is exact. */
static inline rw_u128 rw_divmod(rw_u128 a, uint64_t b, uint64_t *rest) {
    if ((uint64_t)(a >> 64) == 0) {
        uint64_t low = (uint64_t)a;
        *rest = low % b;
        return low / b;
    }
#if defined(__x86_64__)
    if ((uint64_t)(a >> 64) < b) { /* the quotient fits a word: one instruction, which no compiler dares to use */
        uint64_t quotient;
        __asm__("divq %4" : "=a"(quotient), "=d"(*rest) : "0"((uint64_t)a), "1"((uint64_t)(a >> 64)), "r"(b) : "cc");
        return quotient;
    }
#endif
    rw_u128 q = a / b;
    *rest = (uint64_t)(a - q * b);
    return q;
}

/* The part of |cost| that leaves when c of q units go (DESIGN section 5), 0 < c <= q:
 * cost = a*q + r; a*c + r*c/q, rounded half to even by the exact remainder. No intermediate exceeds 128 bits. */
static inline rw_u128 rw_removed_cost(rw_u128 cost, uint64_t q, uint64_t c) {
    uint64_t r, rest;
    if (c == q) return cost;
    rw_u128 a = rw_divmod(cost, q, &r);
    rw_u128 sum = a * c + rw_divmod((rw_u128)r * c, q, &rest);
    rw_u128 twice = (rw_u128)rest * 2;
    return sum + (rw_u128)((twice > q) | ((twice == q) & (int)(sum & 1)));
}

/* --- wide -------------------------------------------------------------------------------------------------- */

static inline void rw_wide_zero(rw_wide *w) { memset(w, 0, sizeof *w); }
static inline int rw_wide_negative(const rw_wide *w) { return (int64_t)w->v[RW_LIMBS - 1] < 0; }

static inline int rw_wide_is_zero(const rw_wide *w) {
    uint64_t any = 0;
    for (int i = 0; i < RW_LIMBS; i++) any |= w->v[i];
    return any == 0;
}

static inline void rw_wide_set_u128(rw_wide *w, rw_u128 a) {
    rw_wide_zero(w);
    w->v[0] = (uint64_t)a;
    w->v[1] = (uint64_t)(a >> 64);
}

static inline int rw_wide_cmp(const rw_wide *a, const rw_wide *b) {
    int64_t x = (int64_t)a->v[RW_LIMBS - 1], y = (int64_t)b->v[RW_LIMBS - 1];
    if (x != y) return x < y ? -1 : 1;
    for (int i = RW_LIMBS - 2; i >= 0; i--)
        if (a->v[i] != b->v[i]) return a->v[i] < b->v[i] ? -1 : 1;
    return 0;
}

/* One limb with carry or borrow, which compilers turn into add-with-carry only where they are asked for it. */
static inline unsigned char rw_add_limb(unsigned char carry, uint64_t a, uint64_t b, uint64_t *out) {
#ifdef __x86_64__
    unsigned long long sum;
    carry = _addcarry_u64(carry, a, b, &sum);
    *out = sum;
    return carry;
#else
    rw_u128 sum = (rw_u128)a + b + carry;
    *out = (uint64_t)sum;
    return (unsigned char)(sum >> 64);
#endif
}

static inline unsigned char rw_sub_limb(unsigned char borrow, uint64_t a, uint64_t b, uint64_t *out) {
#ifdef __x86_64__
    unsigned long long difference;
    borrow = _subborrow_u64(borrow, a, b, &difference);
    *out = difference;
    return borrow;
#else
    rw_u128 difference = (rw_u128)a - b - borrow;
    *out = (uint64_t)difference;
    return (unsigned char)((difference >> 64) & 1);
#endif
}

static inline void rw_wide_add(rw_wide *a, const rw_wide *b) {
    unsigned char carry = 0;
    for (int i = 0; i < RW_LIMBS; i++) carry = rw_add_limb(carry, a->v[i], b->v[i], &a->v[i]);
}

static inline void rw_wide_sub(rw_wide *a, const rw_wide *b) {
    unsigned char borrow = 0;
    for (int i = 0; i < RW_LIMBS; i++) borrow = rw_sub_limb(borrow, a->v[i], b->v[i], &a->v[i]);
}

static inline void rw_wide_neg(rw_wide *a) {
    rw_wide zero;
    rw_wide_zero(&zero);
    rw_wide_sub(&zero, a);
    *a = zero;
}

static inline void rw_wide_abs(rw_wide *a) {
    if (rw_wide_negative(a)) rw_wide_neg(a);
}

/* In place, modulo 2**768, which is right for negative numbers too. */
static inline void rw_wide_mul_u64(rw_wide *a, uint64_t m) {
    rw_u128 carry = 0;
    for (int i = 0; i < RW_LIMBS; i++) {
        carry += (rw_u128)a->v[i] * m;
        a->v[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

static inline void rw_wide_mul(rw_wide *a, const rw_wide *b) {
    rw_wide out;
    rw_wide_zero(&out);
    for (int i = 0; i < RW_LIMBS; i++) {
        rw_u128 carry = 0;
        if (a->v[i] == 0) continue;
        for (int j = 0; i + j < RW_LIMBS; j++) {
            carry += (rw_u128)a->v[i] * b->v[j] + out.v[i + j];
            out.v[i + j] = (uint64_t)carry;
            carry >>= 64;
        }
    }
    *a = out;
}

/* Whether w is at least 0 and below 2**192. */
static inline int rw_wide_fits192(const rw_wide *w) {
    uint64_t any = 0;
    for (int i = 3; i < RW_LIMBS; i++) any |= w->v[i];
    return any == 0;
}

/* a * x against b * y as -1, 0 or 1, for numbers of three limbs that are not negative. */
static inline int rw_cmp_scaled(const uint64_t *a, uint64_t x, const uint64_t *b, uint64_t y) {
    uint64_t left[4], right[4];
    rw_u128 p = 0, q = 0;
    for (int i = 0; i < 3; i++) {
        p += (rw_u128)a[i] * x;
        q += (rw_u128)b[i] * y;
        left[i] = (uint64_t)p;
        right[i] = (uint64_t)q;
        p >>= 64;
        q >>= 64;
    }
    left[3] = (uint64_t)p;
    right[3] = (uint64_t)q;
    for (int i = 3; i >= 0; i--)
        if (left[i] != right[i]) return left[i] < right[i] ? -1 : 1;
    return 0;
}

/* Whether a * x < b * y, of the same; mostly the middle limbs tell. */
static inline int rw_is_below_scaled(const uint64_t *a, uint64_t x, const uint64_t *b, uint64_t y) {
    if (a[2] == 0 && x >> 63 == 0 && (rw_u128)a[1] * x + x < (rw_u128)b[1] * y) return 1;
    return rw_cmp_scaled(a, x, b, y) < 0;
}

/* The high 128 of the low 192 bits less one, for rw_wide_within; all ones where w is 2**192 or more, 0 where it is below 0. */
static inline rw_u128 rw_wide_bound(const rw_wide *w) {
    if (rw_wide_negative(w)) return 0;
    if (!rw_wide_fits192(w)) return ~(rw_u128)0;
    rw_u128 high = rw_u128_of(w->v[2], w->v[1]);
    return high ? high - 1 : 0;
}

/* Whether |w| is surely below what the bound was made of: without a look at the lowest limb, so not always where it is. */
static inline int rw_wide_within(const rw_wide *w, rw_u128 bound) {
    uint64_t sign = (uint64_t)((int64_t)w->v[RW_LIMBS - 1] >> 63), other = 0;
    for (int i = 3; i < RW_LIMBS; i++) other |= w->v[i] ^ sign;
    return !other && rw_u128_of(w->v[2] ^ sign, w->v[1] ^ sign) < bound;
}

/* The same for a sum that fits 256 bits. */
static inline int rw_within256(const uint64_t *v, rw_u128 bound) {
    uint64_t sign = (uint64_t)((int64_t)v[3] >> 63);
    return v[3] == sign && rw_u128_of(v[2] ^ sign, v[1] ^ sign) < bound;
}

static inline int rw_wide_fits256(const rw_wide *w) {
    uint64_t sign = (uint64_t)((int64_t)w->v[RW_LIMBS - 1] >> 63), other = (w->v[3] ^ sign) >> 63;
    for (int i = 4; i < RW_LIMBS; i++) other |= w->v[i] ^ sign;
    return !other;
}

/* Whether a < b, of the low 256 bits; neither is negative. */
static inline int rw_is_below256(const uint64_t *a, const uint64_t *b) {
    uint64_t rest;
    unsigned char borrow = rw_sub_limb(0, a[0], b[0], &rest);
    for (int i = 1; i < 4; i++) borrow = rw_sub_limb(borrow, a[i], b[i], &rest);
    return borrow;
}

/* Whether w fits 224 bits and a sign: with all that 2**32 trades and positions of 2**191 each can add to it, it fits 256. */
static inline int rw_wide_fits224(const rw_wide *w) {
    uint64_t sign = (uint64_t)((int64_t)w->v[RW_LIMBS - 1] >> 63);
    return rw_wide_fits256(w) && !((w->v[3] ^ sign) >> 32);
}

/* Whether 0 <= a - b, surely below what the bound was made of; both fit 256 bits. */
static inline int rw_difference_within256(const uint64_t *a, const uint64_t *b, rw_u128 bound) {
    uint64_t low, middle, high, top;
    unsigned char borrow = rw_sub_limb(0, a[0], b[0], &low);
    borrow = rw_sub_limb(borrow, a[1], b[1], &middle);
    borrow = rw_sub_limb(borrow, a[2], b[2], &high);
    rw_sub_limb(borrow, a[3], b[3], &top);
    return !top && rw_u128_of(high, middle) < bound;
}

/* rw_wide_within of a - b, where that is not negative. */
static inline int rw_wide_difference_within(const rw_wide *a, const rw_wide *b, rw_u128 bound) {
    uint64_t sign = (uint64_t)((int64_t)a->v[RW_LIMBS - 1] >> 63), mark = (uint64_t)((int64_t)b->v[RW_LIMBS - 1] >> 63);
    uint64_t other = 0, low, middle, high, top;
    for (int i = 3; i < RW_LIMBS; i++) other |= (a->v[i] ^ sign) | (b->v[i] ^ mark);
    unsigned char borrow = rw_sub_limb(0, a->v[0], b->v[0], &low);
    borrow = rw_sub_limb(borrow, a->v[1], b->v[1], &middle);
    borrow = rw_sub_limb(borrow, a->v[2], b->v[2], &high);
    rw_sub_limb(borrow, sign, mark, &top);
    return !other && !top && rw_u128_of(high, middle) < bound;
}

static inline void rw_wide_mul_pow10(rw_wide *a, int exponent) {
    while (exponent >= 19) {
        rw_wide_mul_u64(a, 10000000000000000000ULL);
        exponent -= 19;
    }
    if (exponent > 0) rw_wide_mul_u64(a, rw_powers_of_ten[exponent]);
}

static inline int rw_wide_limbs(const rw_wide *a) {
    int n = RW_LIMBS;
    while (n > 1 && a->v[n - 1] == 0) n--;
    return n;
}

static inline void rw_factor_set(rw_factor *f, const rw_wide *w) {
    memcpy(f->v, w->v, sizeof f->v);
    f->limbs = rw_wide_limbs(w);
}

/* acc += or -= magnitude[0..n), with the carry only as far as it goes. */
static inline void rw_wide_accumulate(rw_wide *acc, const uint64_t *magnitude, int n, int negative) {
    uint64_t carry = 0;
    int i = 0;
    if (negative) {
        for (; i < n; i++) {
            rw_u128 d = (rw_u128)acc->v[i] - magnitude[i] - carry;
            acc->v[i] = (uint64_t)d;
            carry = (uint64_t)(d >> 64) & 1;
        }
        for (; carry && i < RW_LIMBS; i++) {
            carry = acc->v[i] == 0;
            acc->v[i] -= 1;
        }
    } else {
        for (; i < n; i++) {
            rw_u128 s = (rw_u128)acc->v[i] + magnitude[i] + carry;
            acc->v[i] = (uint64_t)s;
            carry = (uint64_t)(s >> 64);
        }
        for (; carry && i < RW_LIMBS; i++) {
            acc->v[i] += 1;
            carry = acc->v[i] == 0;
        }
    }
}

/* The same for three limbs, in a straight line. */
static inline void rw_wide_accumulate3(rw_wide *acc, uint64_t low, uint64_t middle, uint64_t high, int negative) {
    unsigned char carry;
    int i = 3;
    if (negative) {
        carry = rw_sub_limb(0, acc->v[0], low, &acc->v[0]);
        carry = rw_sub_limb(carry, acc->v[1], middle, &acc->v[1]);
        carry = rw_sub_limb(carry, acc->v[2], high, &acc->v[2]);
        for (; carry && i < RW_LIMBS; i++) carry = acc->v[i]-- == 0;
    } else {
        carry = rw_add_limb(0, acc->v[0], low, &acc->v[0]);
        carry = rw_add_limb(carry, acc->v[1], middle, &acc->v[1]);
        carry = rw_add_limb(carry, acc->v[2], high, &acc->v[2]);
        for (; carry && i < RW_LIMBS; i++) carry = ++acc->v[i] == 0;
    }
}

#define RW_SELDOM __attribute__((noinline, cold))

RW_SELDOM static void rw_wide_addmul_long(rw_wide *acc, rw_i128 raw, const rw_factor *f) {
    rw_u128 magnitude = rw_abs_i128(raw);
    uint64_t low = (uint64_t)magnitude, high = (uint64_t)(magnitude >> 64);
    uint64_t product[RW_LIMBS + 2];
    int n = f->limbs < RW_LIMBS - 1 ? f->limbs : RW_LIMBS - 2;
    rw_u128 carry = 0;
    for (int i = 0; i < n; i++) {
        carry += (rw_u128)f->v[i] * low;
        product[i] = (uint64_t)carry;
        carry >>= 64;
    }
    product[n] = (uint64_t)carry;
    product[n + 1] = 0;
    if (high) {
        carry = 0;
        for (int i = 0; i < n; i++) {
            carry += (rw_u128)f->v[i] * high + product[i + 1];
            product[i + 1] = (uint64_t)carry;
            carry >>= 64;
        }
        product[n + 1] = (uint64_t)carry;
    }
    rw_wide_accumulate(acc, product, n + 2, raw < 0);
}

/* acc += raw * factor */
static inline void rw_wide_addmul(rw_wide *acc, rw_i128 raw, const rw_factor *f) {
    if (raw == 0) return;
    if (f->limbs != 1) { /* rates and multipliers of more than 19 digits together */
        rw_wide_addmul_long(acc, raw, f);
        return;
    }
    /* Two's complement, so that no branch asks for the sign, which is anybody's guess. */
    rw_u128 low = (rw_u128)(uint64_t)raw * f->v[0];
    rw_i128 high = (rw_i128)(int64_t)(raw >> 64) * (rw_i128)(rw_u128)f->v[0] + (rw_i128)(rw_u128)(uint64_t)(low >> 64);
    unsigned char carry = rw_add_limb(0, acc->v[0], (uint64_t)low, &acc->v[0]);
    carry = rw_add_limb(carry, acc->v[1], (uint64_t)high, &acc->v[1]);
    carry = rw_add_limb(carry, acc->v[2], (uint64_t)((rw_u128)high >> 64), &acc->v[2]);
    int64_t above = (int64_t)(high >> 127) + carry; /* 0, but where the sum passes a power of 2**192 */
    if (above > 0)
        for (int i = 3; carry && i < RW_LIMBS; i++) carry = ++acc->v[i] == 0;
    else if (above < 0)
        for (int i = 3, borrow = 1; borrow && i < RW_LIMBS; i++) borrow = acc->v[i]-- == 0;
}

RW_SELDOM static void rw_wide_addmul2_long(rw_wide *acc, rw_i128 a, int64_t b, const rw_factor *f) {
    rw_u128 magnitude = rw_abs_i128(a);
    rw_wide part;
    rw_wide_zero(&part);
    rw_u128 by = rw_abs_i64(b);
    rw_u128 high = (magnitude >> 62) * by, low = (magnitude & (((rw_u128)1 << 62) - 1)) * by;
    /* high can need 66 + 63 bits: split once more. */
    rw_wide_addmul(&part, (rw_i128)(high >> 64), f);
    rw_wide_mul_u64(&part, 1ULL << 32);
    rw_wide_mul_u64(&part, 1ULL << 32);
    rw_wide_addmul(&part, (rw_i128)(high & 0xFFFFFFFFFFFFFFFFULL), f);
    rw_wide_mul_u64(&part, 1ULL << 62);
    rw_wide_addmul(&part, (rw_i128)low, f);
    if ((a < 0) != (b < 0)) rw_wide_sub(acc, &part); else rw_wide_add(acc, &part);
}

/* acc += a * b * factor, where a * b may need 191 bits: a in two parts, each of which fits. */
static inline void rw_wide_addmul2(rw_wide *acc, rw_i128 a, int64_t b, const rw_factor *f) {
    if (rw_fits_i64(a)) rw_wide_addmul(acc, a * b, f);
    else rw_wide_addmul2_long(acc, a, b, f);
}

/* What one position adds to sums of several limits, made once: 256 bits, two's complement. */
typedef struct {
    uint64_t v[4];
} rw_part;

/* part = raw * f; 191 bits at most. */
static inline void rw_part_set(rw_part *part, rw_i128 raw, uint64_t f) {
    uint64_t sign = (uint64_t)(raw >> 127);
    rw_u128 low = (rw_u128)(uint64_t)raw * f;
    rw_u128 high = (rw_u128)(uint64_t)((rw_u128)raw >> 64) * f + (uint64_t)(low >> 64);
    part->v[0] = (uint64_t)low;
    part->v[1] = (uint64_t)high;
    part->v[2] = (uint64_t)(high >> 64) - (f & sign); /* the high word of a negative number stands 2**64 too high */
    part->v[3] = (uint64_t)((int64_t)part->v[2] >> 63);
}

static inline void rw_part_addmul(rw_part *part, rw_i128 raw, uint64_t f) {
    rw_part more;
    unsigned char carry = 0;
    rw_part_set(&more, raw, f);
    for (int i = 0; i < 4; i++) carry = rw_add_limb(carry, part->v[i], more.v[i], &part->v[i]);
}

static inline void rw_wide_add_part(rw_wide *acc, const rw_part *part) {
    unsigned char carry = rw_add_limb(0, acc->v[0], part->v[0], &acc->v[0]);
    carry = rw_add_limb(carry, acc->v[1], part->v[1], &acc->v[1]);
    carry = rw_add_limb(carry, acc->v[2], part->v[2], &acc->v[2]);
    carry = rw_add_limb(carry, acc->v[3], part->v[3], &acc->v[3]);
    int64_t above = ((int64_t)part->v[3] >> 63) + carry; /* 0, but where the sum turns its sign or passes 2**256 */
    if (__builtin_expect(above != 0, 0)) {
        if (above > 0)
            for (int i = 4; carry && i < RW_LIMBS; i++) carry = ++acc->v[i] == 0;
        else
            for (int i = 4, borrow = 1; borrow && i < RW_LIMBS; i++) borrow = acc->v[i]-- == 0;
    }
}

/* In place, for numbers that are not negative; the remainder comes back. */
static inline uint64_t rw_wide_div_u64(rw_wide *a, uint64_t d) {
    rw_u128 rest = 0;
    for (int i = rw_wide_limbs(a) - 1; i >= 0; i--) {
        rest = (rest << 64) | a->v[i];
        uint64_t q = (uint64_t)(rest / d);
        a->v[i] = q;
        rest -= (rw_u128)q * d;
    }
    return (uint64_t)rest;
}

/* num = num / den, rest = num % den; num >= 0, den > 0 (Knuth, The Art of Computer Programming 4.3.1, algorithm D). */
static inline void rw_wide_divmod(rw_wide *num, const rw_wide *den, rw_wide *rest) {
    int n = rw_wide_limbs(den), m = rw_wide_limbs(num);
    if (n == 1) {
        uint64_t r = rw_wide_div_u64(num, den->v[0]);
        rw_wide_set_u128(rest, r);
        return;
    }
    if (rw_wide_cmp(num, den) < 0) {
        *rest = *num;
        rw_wide_zero(num);
        return;
    }
    int shift = __builtin_clzll(den->v[n - 1]);
    uint64_t u[RW_LIMBS + 1], v[RW_LIMBS];
    for (int i = n - 1; i >= 0; i--)
        v[i] = (den->v[i] << shift) | (shift && i ? den->v[i - 1] >> (64 - shift) : 0);
    u[m] = shift ? num->v[m - 1] >> (64 - shift) : 0;
    for (int i = m - 1; i >= 0; i--)
        u[i] = (num->v[i] << shift) | (shift && i ? num->v[i - 1] >> (64 - shift) : 0);
    rw_wide q;
    rw_wide_zero(&q);
    for (int j = m - n; j >= 0; j--) {
        rw_u128 top = ((rw_u128)u[j + n] << 64) | u[j + n - 1];
        rw_u128 guess = top / v[n - 1], left = top % v[n - 1];
        while ((guess >> 64) || (rw_u128)(uint64_t)guess * v[n - 2] > ((left << 64) | u[j + n - 2])) {
            guess -= 1;
            left += v[n - 1];
            if (left >> 64) break;
        }
        rw_u128 carry = 0;
        uint64_t borrow = 0;
        for (int i = 0; i < n; i++) {
            carry += (rw_u128)(uint64_t)guess * v[i];
            rw_u128 d = (rw_u128)u[i + j] - (uint64_t)carry - borrow;
            u[i + j] = (uint64_t)d;
            borrow = (uint64_t)(d >> 64) & 1;
            carry >>= 64;
        }
        rw_u128 d = (rw_u128)u[j + n] - (uint64_t)carry - borrow;
        u[j + n] = (uint64_t)d;
        if ((d >> 64) & 1) { /* the guess was one too high */
            guess -= 1;
            rw_u128 c = 0;
            for (int i = 0; i < n; i++) {
                c += (rw_u128)u[i + j] + v[i];
                u[i + j] = (uint64_t)c;
                c >>= 64;
            }
            u[j + n] += (uint64_t)c;
        }
        q.v[j] = (uint64_t)guess;
    }
    rw_wide_zero(rest);
    for (int i = 0; i < n; i++)
        rest->v[i] = (u[i] >> shift) | (shift ? u[i + 1] << (64 - shift) : 0);
    *num = q;
}

/* num / den rounded down (0), up (1) or half to even (2); num >= 0, den > 0. */
static inline void rw_wide_quotient(rw_wide *num, const rw_wide *den, int rounding) {
    rw_wide rest, twice;
    rw_wide one;
    rw_wide_set_u128(&one, 1);
    rw_wide_divmod(num, den, &rest);
    if (rw_wide_is_zero(&rest) || rounding == 0) return;
    if (rounding == 1) {
        rw_wide_add(num, &one);
        return;
    }
    twice = rest;
    rw_wide_add(&twice, &rest);
    int order = rw_wide_cmp(&twice, den);
    if (order > 0 || (order == 0 && (num->v[0] & 1))) rw_wide_add(num, &one);
}

/* What fits u128, else its highest value. */
static inline rw_u128 rw_wide_saturate_u128(const rw_wide *w) {
    return rw_wide_limbs(w) > 2 ? ~(rw_u128)0 : rw_u128_of(w->v[1], w->v[0]);
}

/* --- texts ------------------------------------------------------------------------------------------------- */

#define RW_TEXT_MAX 288 /* 768 bits are 232 digits; a point, a sign, and zeros for an exponent of 38 */

static inline int rw_digits_u64(uint64_t v, char *end) { /* writes backwards from end; digits written */
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    char *p = end;
    for (; v >= 100; v /= 100) memcpy(p -= 2, pairs + 2 * (v % 100), 2);
    if (v >= 10) memcpy(p -= 2, pairs + 2 * v, 2);
    else *--p = (char)('0' + v);
    return (int)(end - p);
}

/* Lay out count digits (most significant first) x 10**exponent as trimmed decimal text; bytes written. */
static inline size_t rw_place(const char *digits, int count, int exponent, int negative, char *out) {
    char *p = out;
    while (count > 0 && *digits == '0') digits++, count--;
    while (count > 0 && digits[count - 1] == '0') count--, exponent++;
    if (count == 0) {
        *p = '0';
        return 1;
    }
    if (negative) *p++ = '-';
    int whole = count + exponent; /* digits before the point */
    if (whole <= 0) {
        *p++ = '0';
        *p++ = '.';
        for (; whole < 0; whole++) *p++ = '0';
        memcpy(p, digits, count);
        p += count;
    } else if (exponent >= 0) {
        memcpy(p, digits, count);
        p += count;
        memset(p, '0', exponent);
        p += exponent;
    } else {
        memcpy(p, digits, whole);
        p += whole;
        *p++ = '.';
        memcpy(p, digits + whole, count - whole);
        p += count - whole;
    }
    return (size_t)(p - out);
}

static inline size_t rw_format_u128(rw_u128 v, int exponent, int negative, char *out) {
    char digits[48], *end = digits + 48, *p = end;
    while (v >> 64) {
        rw_u128 q = v / 10000000000000000000ULL;
        char *from = p - 19;
        p -= rw_digits_u64((uint64_t)(v - q * 10000000000000000000ULL), p);
        while (p > from) *--p = '0';
        v = q;
    }
    p -= rw_digits_u64((uint64_t)v, p);
    return rw_place(p, (int)(end - p), exponent, negative, out);
}

/* w x 10**exponent as trimmed decimal text; out holds RW_TEXT_MAX bytes. */
static inline size_t rw_format_wide(const rw_wide *w, int exponent, char *out) {
    rw_wide v = *w;
    int negative = rw_wide_negative(w);
    rw_wide_abs(&v);
    if (rw_wide_limbs(&v) <= 2) return rw_format_u128(rw_u128_of(v.v[1], v.v[0]), exponent, negative, out);
    char digits[RW_LIMBS * 20 + 20], *end = digits + sizeof digits, *p = end;
    while (!rw_wide_is_zero(&v)) {
        char *from = p - 19;
        p -= rw_digits_u64(rw_wide_div_u64(&v, 10000000000000000000ULL), p);
        while (p > from) *--p = '0';
    }
    return rw_place(p, (int)(end - p), exponent, negative, out);
}

/* n / d x 10**-9, the same; d > 0. */
static inline size_t rw_format_quotient(rw_u128 n, uint64_t d, int negative, char *out) {
    uint64_t rest;
    rw_u128 q = rw_divmod(n, d, &rest), twice = (rw_u128)rest * 2;
    if (twice > d || (twice == d && (q & 1))) q += 1;
    return rw_format_u128(q, -9, negative, out);
}

/* num / den x 10**exponent rounded half to even at nine decimals, as trimmed decimal text; den > 0. */
static inline size_t rw_format_ratio(const rw_wide *num, const rw_wide *den, int exponent, char *out) {
    rw_wide n = *num, d = *den;
    int negative = rw_wide_negative(num), shift = exponent + 9;
    rw_wide_abs(&n);
    /* Nearly all: two numbers of 64 bits, whose product with a power of ten has 128. */
    if (shift >= 0 && shift <= 19 && rw_wide_limbs(&n) <= 1 && rw_wide_limbs(&d) == 1)
        return rw_format_quotient((rw_u128)n.v[0] * rw_powers_of_ten[shift], d.v[0], negative, out);
    if (shift >= 0) rw_wide_mul_pow10(&n, shift);
    else rw_wide_mul_pow10(&d, -shift);
    if (rw_wide_limbs(&n) <= 2 && rw_wide_limbs(&d) == 1)
        return rw_format_quotient(rw_u128_of(n.v[1], n.v[0]), d.v[0], negative, out);
    rw_wide_quotient(&n, &d, 2);
    if (negative) rw_wide_neg(&n);
    return rw_format_wide(&n, -9, out);
}

/* --- hashes ------------------------------------------------------------------------------------------------ */

static inline uint64_t rw_mix(uint64_t a, uint64_t b) {
    rw_u128 m = (rw_u128)(a ^ 0x9E3779B97F4A7C15ULL) * (b ^ 0xD6E8FEB86659FD93ULL);
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Copy a text in whole words; ids have mostly two or fewer. */
static inline void rw_copy_text(uint8_t *to, const uint8_t *p, size_t n) {
    if (n >= 8) {
        memcpy(to, p, 8);
        for (size_t i = 8; i + 8 < n; i += 8) memcpy(to + i, p + i, 8);
        memcpy(to + n - 8, p + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, p, 4);
        memcpy(to + n - 4, p + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++) to[i] = p[i];
    }
}

/* Three bits of its end, where ids differ. */
static inline uint64_t rw_text_tag(const uint8_t *p, size_t n) {
    uint64_t end = 0;
    if (n >= 8) memcpy(&end, p + n - 8, 8);
    else rw_copy_text((uint8_t *)&end, p, n);
    return end * 0x9E3779B97F4A7C15ULL >> 61;
}

/* Volatile, for compilers drop a function that does nothing but fetch. */
static inline void rw_prefetch(const void *p) {
    __builtin_prefetch(p, 1, 3);
    __asm__ __volatile__("");
}

#endif
