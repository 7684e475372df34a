/* What identities are found by: the folded multiplication of wyhash, 64 bits of what two words and a text are; and slots of a
 * table by such bits (ext/dedup.pyx). */
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

/* The first empty slot from a place on, around by mask; NULL where one before it may be the same identity. Four at a time: how
 * far it is to the first empty one, no processor predicts. */
static inline uint64_t *rw_free_slot(uint64_t *slots, uint64_t mask, uint64_t at, uint64_t fingerprint, uint64_t code_mask) {
    for (;; at += 4) {
        unsigned empty = 0, same = 0;
        for (unsigned i = 0; i < 4; i++) {
            uint64_t slot = slots[(at + i) & mask];
            empty |= (unsigned)(slot == 0) << i;
            same |= (unsigned)((slot ^ fingerprint) <= code_mask) << i;
        }
        if (same & (empty - 1) & ~empty) return NULL; /* below the lowest empty one */
        if (empty) return &slots[(at + (unsigned)__builtin_ctz(empty)) & mask];
    }
}

#endif
