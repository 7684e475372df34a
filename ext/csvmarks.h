/* Where the delimiters, line ends and quotes of a CSV text are: one way for each kind of processor, same results. */
#ifndef RISKWIRE_CSVMARKS_H
#define RISKWIRE_CSVMARKS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Marks that may be written beyond the last one found. */
#define RW_CSV_MARKS_SLACK 64

/* What a pass found: each appends the offsets in [from, to) to `out`, and returns where it stopped; the rest, below 64
 * bytes, is looked at byte by byte. `high` has bits of 0x80 set where a byte was above 127. */
typedef struct {
    uint32_t *out;
    uint64_t high;
} rw_csv_found;

typedef size_t (*rw_csv_scan)(const uint8_t *data, size_t from, size_t to, uint8_t delimiter, rw_csv_found *found);

/* 0x80 in each byte that is 0. Unlike the shorter form it is exact in every byte, not only in the lowest. */
static inline uint64_t rw_csv_zeros(uint64_t t) {
    const uint64_t low = 0x7F7F7F7F7F7F7F7Full;
    return ~(((t & low) + low) | t | low);
}

static size_t rw_csv_scan_words(const uint8_t *data, size_t i, size_t to, uint8_t delimiter, rw_csv_found *found) {
    const uint64_t ones = 0x0101010101010101ull, a = ones * delimiter, b = ones * '\n', c = ones * '"';
    uint32_t *out = found->out;
    uint64_t high = 0;
    for (; i + 8 <= to; i += 8) {
        uint64_t x, hit;
        memcpy(&x, data + i, 8);                        /* little-endian only, as the frames are */
        high |= x;
        hit = rw_csv_zeros(x ^ a) | rw_csv_zeros(x ^ b) | rw_csv_zeros(x ^ c);
        for (; hit; hit &= hit - 1) *out++ = (uint32_t)(i + (__builtin_ctzll(hit) >> 3));
    }
    found->out = out;
    found->high |= high & (ones << 7);
    return i;
}

#if defined(__x86_64__)
#include <immintrin.h>

static size_t rw_csv_scan_sse2(const uint8_t *data, size_t i, size_t to, uint8_t delimiter, rw_csv_found *found) {
    const __m128i a = _mm_set1_epi8((char)delimiter), b = _mm_set1_epi8('\n'), c = _mm_set1_epi8('"');
    __m128i any = _mm_setzero_si128();
    uint32_t *out = found->out;
    for (; i + 64 <= to; i += 64) {
        uint64_t hits = 0;
        for (int k = 0; k < 4; k++) {
            __m128i x = _mm_loadu_si128((const __m128i *)(data + i + 16 * k));
            __m128i hit = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, a), _mm_cmpeq_epi8(x, b)), _mm_cmpeq_epi8(x, c));
            hits |= (uint64_t)(uint32_t)_mm_movemask_epi8(hit) << (16 * k);
            any = _mm_or_si128(any, x);
        }
        for (; hits; hits &= hits - 1) *out++ = (uint32_t)(i + __builtin_ctzll(hits));
    }
    found->out = out;
    if (_mm_movemask_epi8(any)) found->high |= 0x80;
    return i;
}

/* Twelve marks of a block are written whether there are so many or not: how many there are cannot be foreseen, and a
 * loop that ends where they do would be mispredicted once a block. */
__attribute__((target("avx2,bmi,popcnt")))
static size_t rw_csv_scan_avx2(const uint8_t *data, size_t i, size_t to, uint8_t delimiter, rw_csv_found *found) {
    const __m256i a = _mm256_set1_epi8((char)delimiter), b = _mm256_set1_epi8('\n'), c = _mm256_set1_epi8('"');
    __m256i any = _mm256_setzero_si256();
    uint32_t *out = found->out;
    for (; i + 64 <= to; i += 64) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(data + i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(data + i + 32));
        __m256i hit_x = _mm256_or_si256(_mm256_or_si256(_mm256_cmpeq_epi8(x, a), _mm256_cmpeq_epi8(x, b)),
                                        _mm256_cmpeq_epi8(x, c));
        __m256i hit_y = _mm256_or_si256(_mm256_or_si256(_mm256_cmpeq_epi8(y, a), _mm256_cmpeq_epi8(y, b)),
                                        _mm256_cmpeq_epi8(y, c));
        uint64_t hits = (uint64_t)(uint32_t)_mm256_movemask_epi8(hit_x) |
                        (uint64_t)(uint32_t)_mm256_movemask_epi8(hit_y) << 32;
        size_t count = (size_t)_mm_popcnt_u64(hits), k = 12;
        any = _mm256_or_si256(any, _mm256_or_si256(x, y));
    #pragma GCC unroll 12
        for (int j = 0; j < 12; j++) {
            out[j] = (uint32_t)(i + _tzcnt_u64(hits));
            hits = _blsr_u64(hits);
        }
        for (; hits; hits = _blsr_u64(hits)) out[k++] = (uint32_t)(i + _tzcnt_u64(hits));
        out += count;
    }
    found->out = out;
    if (_mm256_movemask_epi8(any)) found->high |= 0x80;
    return i;
}

/* A block's marks in one register, moved together by the processor: sixteen of them are written whether there are so
 * many or not, as above. */
__attribute__((target("avx512f,avx512bw,avx512vbmi2,popcnt")))
static size_t rw_csv_scan_avx512(const uint8_t *data, size_t i, size_t to, uint8_t delimiter, rw_csv_found *found) {
    static const uint8_t numbers[64] = {
        0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
        22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
        44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
    const __m512i a = _mm512_set1_epi8((char)delimiter), b = _mm512_set1_epi8('\n'), c = _mm512_set1_epi8('"');
    const __m512i places = _mm512_loadu_si512(numbers);
    __m512i any = _mm512_setzero_si512();
    uint32_t *out = found->out;
    for (; i + 64 <= to; i += 64) {
        __m512i x = _mm512_loadu_si512(data + i), from = _mm512_set1_epi32((int)i);
        __mmask64 hits = _mm512_cmpeq_epi8_mask(x, a) | _mm512_cmpeq_epi8_mask(x, b) | _mm512_cmpeq_epi8_mask(x, c);
        __m512i at = _mm512_maskz_compress_epi8(hits, places);
        size_t count = (size_t)_mm_popcnt_u64(hits);
        any = _mm512_or_si512(any, x);
        _mm512_storeu_si512(out, _mm512_add_epi32(from, _mm512_cvtepu8_epi32(_mm512_castsi512_si128(at))));
        if (count > 16) {
            __m128i second = _mm512_extracti32x4_epi32(at, 1), third = _mm512_extracti32x4_epi32(at, 2);
            __m128i fourth = _mm512_extracti32x4_epi32(at, 3);
            _mm512_storeu_si512(out + 16, _mm512_add_epi32(from, _mm512_cvtepu8_epi32(second)));
            _mm512_storeu_si512(out + 32, _mm512_add_epi32(from, _mm512_cvtepu8_epi32(third)));
            _mm512_storeu_si512(out + 48, _mm512_add_epi32(from, _mm512_cvtepu8_epi32(fourth)));
        }
        out += count;
    }
    found->out = out;
    if (_mm512_movepi8_mask(any)) found->high |= 0x80;
    return i;
}
#endif

static rw_csv_scan rw_csv_scan_used = rw_csv_scan_words;

/* Take a way to scan by its number, where the processor has it: 0 words, 1 SSE2, 2 AVX2, 3 AVX-512. Whether it was taken. */
static int rw_csv_take_scan(int way) {
    if (way == 0) rw_csv_scan_used = rw_csv_scan_words;
#if defined(__x86_64__)
    else if (way == 1) rw_csv_scan_used = rw_csv_scan_sse2;
    else if (way == 2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
             __builtin_cpu_supports("popcnt")) rw_csv_scan_used = rw_csv_scan_avx2;
    else if (way == 3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("popcnt"))
        rw_csv_scan_used = rw_csv_scan_avx512;
#endif
    else return 0;
    return 1;
}

/* Offsets in [from, to) of the delimiter, line ends and quotes into out, which has room for to - from and the slack. */
static size_t rw_csv_marks(const uint8_t *data, size_t from, size_t to, uint8_t delimiter, uint32_t *out,
                           int *non_ascii) {
    rw_csv_found found = {out, 0};
    size_t i = rw_csv_scan_used(data, from, to, delimiter, &found);
    for (; i < to; i++) {
        uint8_t x = data[i];
        found.high |= x & 0x80;
        if (x == delimiter || x == '\n' || x == '"') *found.out++ = (uint32_t)i;
    }
    if (found.high) *non_ascii = 1;
    return (size_t)(found.out - out);
}

#endif
