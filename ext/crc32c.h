/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the processor's instruction where it has one. */
#ifndef RISKWIRE_CRC32C_H
#define RISKWIRE_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RW_CRC32C_POLYNOMIAL 0x82F63B78u

static uint32_t rw_crc32c_table[8][256];

static void rw_crc32c_init(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ RW_CRC32C_POLYNOMIAL : c >> 1;
        rw_crc32c_table[0][n] = c;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++)
            rw_crc32c_table[k][n] =
                (rw_crc32c_table[k - 1][n] >> 8) ^ rw_crc32c_table[0][rw_crc32c_table[k - 1][n] & 0xFF];
}

static uint32_t rw_crc32c_software(uint32_t crc, const uint8_t *p, size_t n) {
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        word ^= crc;
        crc = 0;
        for (int k = 0; k < 8; k++) crc ^= rw_crc32c_table[7 - k][(word >> (8 * k)) & 0xFF];
        p += 8;
        n -= 8;
    }
    while (n--) crc = (crc >> 8) ^ rw_crc32c_table[0][(crc ^ *p++) & 0xFF];
    return crc;
}

/* The instruction takes three cycles but starts one a cycle, so three blocks are summed side by side. What a block's
 * sum becomes behind another RW_CRC32C_BLOCK bytes of zeros is linear in its bits: four look-ups. */
#define RW_CRC32C_BLOCK 1024
static uint32_t rw_crc32c_behind[4][256];

static void rw_crc32c_init_blocks(void) {
    uint32_t bit[32];
    for (int i = 0; i < 32; i++) {
        uint32_t c = (uint32_t)1 << i;
        for (int k = 0; k < RW_CRC32C_BLOCK; k++) c = (c >> 8) ^ rw_crc32c_table[0][c & 0xFF];
        bit[i] = c;
    }
    for (int k = 0; k < 4; k++)
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t c = 0;
            for (int i = 0; i < 8; i++)
                if (n >> i & 1) c ^= bit[8 * k + i];
            rw_crc32c_behind[k][n] = c;
        }
}

static inline uint32_t rw_crc32c_push(uint32_t c) {
    return rw_crc32c_behind[0][c & 0xFF] ^ rw_crc32c_behind[1][c >> 8 & 0xFF] ^ rw_crc32c_behind[2][c >> 16 & 0xFF] ^
           rw_crc32c_behind[3][c >> 24];
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define RW_CRC32C_TARGET __attribute__((target("sse4.2")))
#define RW_CRC32C_WORD _mm_crc32_u64
#define RW_CRC32C_BYTE _mm_crc32_u8
typedef uint64_t rw_crc32c_sum; /* as the instruction has it */
static int rw_crc32c_has_hardware(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define RW_CRC32C_TARGET
#define RW_CRC32C_WORD __crc32cd
#define RW_CRC32C_BYTE __crc32cb
typedef uint32_t rw_crc32c_sum;
static int rw_crc32c_has_hardware(void) { return 1; }
#endif

#ifdef RW_CRC32C_WORD
RW_CRC32C_TARGET
static uint32_t rw_crc32c_hardware(uint32_t crc, const uint8_t *p, size_t n) {
    rw_crc32c_sum c = crc;
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        c = RW_CRC32C_WORD(c, word);
        p += 8;
        n -= 8;
    }
    while (n--) c = RW_CRC32C_BYTE((uint32_t)c, *p++);
    return (uint32_t)c;
}

RW_CRC32C_TARGET
static uint32_t rw_crc32c_three(uint32_t crc, const uint8_t *p) {
    rw_crc32c_sum a = crc, b = 0, c = 0;
    for (int line = 0; line < RW_CRC32C_BLOCK; line += 64) {
        /* The next three; where a frame ends before, nothing is lost. */
        __builtin_prefetch(p + 3 * RW_CRC32C_BLOCK + line);
        __builtin_prefetch(p + 4 * RW_CRC32C_BLOCK + line);
        __builtin_prefetch(p + 5 * RW_CRC32C_BLOCK + line);
        for (int i = line; i < line + 64; i += 8) {
            uint64_t x, y, z;
            memcpy(&x, p + i, 8);
            memcpy(&y, p + RW_CRC32C_BLOCK + i, 8);
            memcpy(&z, p + 2 * RW_CRC32C_BLOCK + i, 8);
            a = RW_CRC32C_WORD(a, x);
            b = RW_CRC32C_WORD(b, y);
            c = RW_CRC32C_WORD(c, z);
        }
    }
    return rw_crc32c_push(rw_crc32c_push((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}
#else
#define rw_crc32c_hardware rw_crc32c_software
static uint32_t rw_crc32c_three(uint32_t crc, const uint8_t *p) { return rw_crc32c_software(crc, p, 3 * RW_CRC32C_BLOCK); }
static int rw_crc32c_has_hardware(void) { return 0; }
#endif

static int rw_crc32c_use_hardware = 0;

/* Call once before use (module import). */
static void rw_crc32c_setup(void) {
    rw_crc32c_init();
    rw_crc32c_init_blocks();
    rw_crc32c_use_hardware = rw_crc32c_has_hardware();
}

/* Continue from `crc`, a finished CRC of what came before (0 at the start). */
static uint32_t rw_crc32c(uint32_t crc, const uint8_t *p, size_t n) {
    crc = ~crc;
    if (!rw_crc32c_use_hardware) return ~rw_crc32c_software(crc, p, n);
    while (n >= 3 * RW_CRC32C_BLOCK) {
        crc = rw_crc32c_three(crc, p);
        p += 3 * RW_CRC32C_BLOCK;
        n -= 3 * RW_CRC32C_BLOCK;
    }
    return ~rw_crc32c_hardware(crc, p, n);
}

#endif
