/* Growing arrays of structs, aligned to cache lines (and to huge pages once they are large), addressed by index.
 *
 * Element 0 is never handed out: index 0 means "none". New elements are zeroed.
 */
#ifndef RISKWIRE_ARRAYS_H
#define RISKWIRE_ARRAYS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define RW_LINE 64
#define RW_HUGE ((size_t)2 << 20)

typedef struct {
    char *data;
    uint32_t count; /* element 0 included, once anything was added */
    uint32_t capacity;
} rw_array;

static inline void *rw_aligned_alloc(size_t size) {
    void *p = NULL;
    size_t align = size >= RW_HUGE ? RW_HUGE : RW_LINE;
    if (posix_memalign(&p, align, size)) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (align == RW_HUGE) madvise(p, size, MADV_HUGEPAGE);
#endif
    return p;
}

/* For memory that is written front to back: plain pages, which the system has at hand more often than huge ones. */
static inline void *rw_streamed_alloc(size_t size) {
    void *p = NULL;
    if (posix_memalign(&p, 4096, size)) return NULL;
#if defined(__linux__) && defined(MADV_NOHUGEPAGE)
    madvise(p, size, MADV_NOHUGEPAGE);
#endif
    return p;
}

static inline int rw_array_reserve(rw_array *a, uint32_t count, size_t width) {
    if (count <= a->capacity) return 0;
    uint64_t capacity = a->capacity ? (uint64_t)a->capacity * 2 : 16;
    while (capacity < count) capacity *= 2;
    if (capacity > UINT32_MAX) capacity = UINT32_MAX;
    char *grown = (char *)rw_aligned_alloc((size_t)capacity * width);
    if (!grown) return -1;
    if (a->data) memcpy(grown, a->data, (size_t)a->count * width);
    free(a->data);
    a->data = grown;
    a->capacity = (uint32_t)capacity;
    return 0;
}

/* Index of one more zeroed element; 0 without memory. */
static inline uint32_t rw_array_add(rw_array *a, size_t width) {
    uint32_t at = a->count ? a->count : 1;
    if (at == UINT32_MAX || (at >= a->capacity && rw_array_reserve(a, at + 1, width))) return 0;
    if (a->count == 0) memset(a->data, 0, width);
    memset(a->data + (size_t)at * width, 0, width);
    a->count = at + 1;
    return at;
}

/* Elements 0 .. count - 1 exist, new ones zeroed; 0, or -1 without memory. */
static inline int rw_array_extend(rw_array *a, uint32_t count, size_t width) {
    if (count <= a->count) return 0;
    if (rw_array_reserve(a, count, width)) return -1;
    memset(a->data + (size_t)a->count * width, 0, (size_t)(count - a->count) * width);
    a->count = count;
    return 0;
}

static inline void rw_array_free(rw_array *a) {
    free(a->data);
    memset(a, 0, sizeof *a);
}

/* An open-addressing table of 32-bit values under 64-bit hashes; the caller compares what a value stands for.
 * A slot holds the upper half of the hash and the value, 0 when free. Nothing is ever taken out. */
typedef struct {
    uint64_t *slots;
    uint64_t mask;
    uint64_t count;
} rw_table;

static inline void rw_table_put(uint64_t *slots, uint64_t mask, uint64_t hash, uint32_t value) {
    uint64_t at = hash & mask;
    while (slots[at]) at = (at + 1) & mask;
    slots[at] = (hash & 0xFFFFFFFF00000000ULL) | value;
}

/* The upper half of a hash is kept, the lower half is not: it is given again by `rehash` when the table grows. */
static inline int rw_table_reserve(rw_table *t, uint64_t (*rehash)(void *, uint32_t), void *context) {
    if (t->slots && (t->count + 1) * 2 <= t->mask + 1) return 0;
    uint64_t size = t->slots ? (t->mask + 1) * 2 : 64;
    uint64_t *slots = (uint64_t *)rw_aligned_alloc(size * sizeof *slots);
    if (!slots) return -1;
    memset(slots, 0, size * sizeof *slots);
    for (uint64_t i = 0; t->slots && i <= t->mask; i++)
        if (t->slots[i]) rw_table_put(slots, size - 1, rehash(context, (uint32_t)t->slots[i]), (uint32_t)t->slots[i]);
    free(t->slots);
    t->slots = slots;
    t->mask = size - 1;
    return 0;
}

static inline void rw_table_free(rw_table *t) {
    free(t->slots);
    memset(t, 0, sizeof *t);
}

#endif
