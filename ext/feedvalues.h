/* Numbers and times of text, a word of eight bytes at a time. All of it is little-endian only, as the frames are: the
 * first byte of a text is the lowest of the word it is loaded into. */
#ifndef RISKWIRE_FEEDVALUES_H
#define RISKWIRE_FEEDVALUES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RW_BYTES(x) ((uint64_t)(x) * 0x0101010101010101ull)

static inline uint64_t rw_load(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

/* A digit's byte with the bits of '0' flipped is 0 to 9: of any other byte this has its highest bit set, or one
 * before it has. */
static inline uint64_t rw_no_digits(uint64_t flipped) { return flipped | (flipped + RW_BYTES(0x76)); }

static inline uint64_t rw_number_of(uint64_t v) {   /* eight bytes 0 to 9 */
    v = v * 10 + (v >> 8);
    return ((((v & 0x000000FF000000FFull) * 0x000F424000000064ull) +
             (((v >> 16) & 0x000000FF000000FFull) * 0x0000271000000001ull)) >> 32) & 0xFFFFFFFFull;
}

/* n ASCII digits, 1 to 19: 1; 0 for anything else. 8 bytes at p must be readable. */
static inline int rw_digits(const uint8_t *p, size_t n, uint64_t *value) {
    size_t head = n & 7;
    uint64_t v = rw_load(p) ^ RW_BYTES('0'), total = 0, bad = 0;
    if (head) {
        /* At the word's upper end, behind zeros. */
        v <<= 64 - 8 * head;
        bad = rw_no_digits(v);
        total = rw_number_of(v);
        p += head;
    }
    for (n >>= 3; n; n--) {
        v = rw_load(p) ^ RW_BYTES('0');
        bad |= rw_no_digits(v);
        total = total * 100000000 + rw_number_of(v);
        p += 8;
    }
    *value = total;
    return (bad & RW_BYTES(0x80)) == 0;
}

/* Eight ASCII digits: 1; 0 for anything else. */
static inline int rw_eight_digits(const uint8_t *p, uint64_t *value) {
    uint64_t v = rw_load(p) ^ RW_BYTES('0');
    *value = rw_number_of(v);
    return (rw_no_digits(v) & RW_BYTES(0x80)) == 0;
}

static inline uint64_t rw_points(uint64_t flipped) {    /* the lowest bit set is the first point's highest */
    uint64_t t = flipped ^ RW_BYTES('.' ^ '0');
    return (t - RW_BYTES(1)) & ~t & RW_BYTES(0x80);
}

/* Digits with at most one point among them, n in 1..8, without sign, as value x 10**exponent without trailing
 * zeros: 1; 0 for anything else. 8 bytes at p must be readable. */
static inline int rw_short_decimal(const uint8_t *p, size_t n, uint64_t *value, int *exponent) {
    uint64_t v = (rw_load(p) ^ RW_BYTES('0')) << (64 - 8 * n), points = rw_points(v);
    size_t zeros;
    *exponent = 0;
    if (points) {
        size_t k = (size_t)__builtin_ctzll(points) >> 3;
        uint64_t through = points ^ (points - 1);       /* the bits up to the point's highest */
        if (k == 8 - n || k == 7) return 0;
        v = (v & ~through) | ((v << 8) & through);
        *exponent = (int)k - 7;
    }
    if (rw_no_digits(v) & RW_BYTES(0x80)) return 0;
    if (v == 0) {
        *value = 0;
        *exponent = 0;
        return 1;
    }
    zeros = (size_t)__builtin_clzll(v) >> 3;
    *exponent += (int)zeros;
    *value = rw_number_of(v << (8 * zeros));
    return 1;
}

/* The same for n in 9..16. 16 bytes at p must be readable. */
__attribute__((noinline))
static int rw_long_decimal(const uint8_t *p, size_t n, uint64_t *value, int *exponent) {
    typedef unsigned __int128 wide;
    wide v = (((wide)(rw_load(p + 8) ^ RW_BYTES('0')) << 64) | (rw_load(p) ^ RW_BYTES('0'))) << (128 - 8 * n);
    uint64_t low = rw_points((uint64_t)v), high = low ? 0 : rw_points((uint64_t)(v >> 64));
    size_t zeros;
    *exponent = 0;
    if (low || high) {
        size_t k = low ? (size_t)__builtin_ctzll(low) >> 3 : 8 + ((size_t)__builtin_ctzll(high) >> 3);
        wide through = (~(wide)0) >> (8 * (15 - k));
        if (k == 16 - n || k == 15) return 0;
        v = (v & ~through) | ((v << 8) & through);
        *exponent = (int)k - 15;
    }
    low = (uint64_t)v;
    high = (uint64_t)(v >> 64);
    if ((rw_no_digits(low) | rw_no_digits(high)) & RW_BYTES(0x80)) return 0;
    if (v == 0) {
        *value = 0;
        *exponent = 0;
        return 1;
    }
    zeros = high ? (size_t)__builtin_clzll(high) >> 3 : 8 + ((size_t)__builtin_clzll(low) >> 3);
    v <<= 8 * zeros;
    *exponent += (int)zeros;
    *value = rw_number_of((uint64_t)v) * 100000000 + rw_number_of((uint64_t)(v >> 64));
    return 1;
}

/* Move trailing zeros of a number above 0 into the exponent. A multiple of ten times the inverse of five, halved by
 * a rotation, is its tenth; of any other number the result is above what a tenth can be. */
static inline uint64_t rw_trim(uint64_t m, int *exponent) {
    for (;;) {
        uint64_t tenth = m * 0xCCCCCCCCCCCCCCCDull;
        tenth = (tenth >> 1) | (tenth << 63);
        if (tenth > 0x1999999999999999ull) return m;
        m = tenth;
        *exponent += 1;
    }
}

/* n digits of a fraction of a second, 1 to 9, in ns; -1 where one is no digit. 16 bytes at p must be readable. */
static inline int64_t rw_fraction(const uint8_t *p, size_t n) {
    static const uint32_t scale[10] = {1000000000, 100000000, 10000000, 1000000, 100000, 10000, 1000, 100, 10, 1};
    uint64_t value;
    return rw_digits(p, n, &value) ? (int64_t)(value * scale[n]) : -1;
}

static inline uint64_t rw_byte(uint64_t v, int k) { return (v >> (8 * k)) & 0xFF; }

/* Days since 1970 of a date of the Gregorian calendar from 1970 on (Hinnant's algorithm); -1: there is no such date. */
static inline int64_t rw_days(uint64_t year, uint64_t month, uint64_t day) {
    static const uint8_t of_month[16] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t y, era, of_era, of_year;
    if (year < 1970 || month > 12 || day < 1 || day > of_month[month]) return -1;
    if (month == 2 && day == 29 && (year % 4 || (year % 100 == 0 && year % 400))) return -1;
    y = year - (month <= 2);
    era = y / 400;
    of_era = y - era * 400;
    of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return (int64_t)(era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year) - 719468;
}

/* YYYY-MM-DDThh:mm:ss[.fraction][Z|+00:00] of 1970-01-01 to 2262-04-10, T or a blank, at most 9 digits, in ns
 * since 1970: 1; 0 for anything else, be it a time or none. 32 bytes at p must be readable. */
static int rw_iso_time(const uint8_t *p, size_t n, int64_t *out) {
    /* What is left of each byte is a digit's number, or 0 of what stands between digits. */
    uint64_t a, b, c, odd, bad, seconds;
    int64_t days, fraction = 0;
    if (n < 19 || n > 35) return 0;
    a = rw_load(p) ^ 0x2D30302D30303030ull;                         /* 0000-00- */
    b = rw_load(p + 8) ^ 0x30303A3030543030ull;                     /* 00T00:00 */
    c = (rw_load(p + 16) ^ 0x000000000030303Aull) & 0xFFFFFF;       /* :00 */
    if (rw_byte(b, 2) == ('T' ^ ' ')) b &= ~0xFF0000ull;
    odd = (a & 0xFF0000FF00000000ull) | (b & 0x0000FF0000FF0000ull) | (c & 0xFF);
    bad = rw_no_digits(a) | rw_no_digits(b) | rw_no_digits(c);
    if (odd | (bad & RW_BYTES(0x80))) return 0;
    a = a * 10 + (a >> 8);                                          /* pairs of digits, in the first byte of each */
    b = b * 10 + (b >> 8);
    c = c * 10 + (c >> 8);
    if (rw_byte(b, 3) > 23 || rw_byte(b, 6) > 59 || rw_byte(c, 1) > 59) return 0;
    days = rw_days(rw_byte(a, 0) * 100 + rw_byte(a, 2), rw_byte(a, 5), rw_byte(b, 0));
    if (days < 0 || days >= 106751) return 0;                       /* the first day that int64 has not whole */
    if (n > 19 && p[n - 1] == 'Z') n -= 1;
    else if (n >= 25 && memcmp(p + n - 6, "+00:00", 6) == 0) n -= 6;
    if (n > 19) {
        if (p[19] != '.' || n < 21 || n > 29) return 0;
        fraction = rw_fraction(p + 20, n - 20);
        if (fraction < 0) return 0;
    }
    seconds = (uint64_t)days * 86400 + rw_byte(b, 3) * 3600 + rw_byte(b, 6) * 60 + rw_byte(c, 1);
    *out = (int64_t)seconds * 1000000000 + fraction;
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

/* id where x is 0, else 0: arithmetic, which no compiler makes a branch of. */
static inline uint32_t rw_id_if_zero(uint64_t x, uint32_t id) {
    return id & (uint32_t)((int64_t)(~x & (x - 1)) >> 63);
}

#endif
