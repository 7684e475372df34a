/* The folded multiplication of wyhash: 64 bits of what two words and a text are. */
#ifndef RW_IDENTITY_H
#define RW_IDENTITY_H

#include <stdint.h>
#include <string.h>

static inline uint64_t rw_fold(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Two words and a text under a key of five words. */
static inline uint64_t rw_identity(const uint64_t *key, uint64_t w0, uint64_t w1, const uint8_t *p, size_t n) {
    uint64_t h = rw_fold(w0 ^ key[0], w1 ^ key[1]), a, b;
    size_t length = n;
    while (n > 16) {
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = rw_fold(a ^ key[2] ^ h, b ^ key[3]);
        p += 16;
        n -= 16;
    }
    a = b = 0;
    if (n >= 8) {
        memcpy(&a, p, 8);
        memcpy(&b, p + n - 8, 8);
    } else if (n >= 4) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        a = low;
        b = high;
    } else if (n) {
        a = p[0];
        b = ((uint64_t)p[n >> 1] << 8) | p[n - 1];
    }
    h = rw_fold(a ^ key[2] ^ h, b ^ key[3]);
    return rw_fold(h ^ key[4], (uint64_t)length ^ key[0]);
}

#endif
