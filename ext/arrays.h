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
    size_t mapped; /* rw_release */
} rw_array;

/* For memory that is written front to back: plain pages, which the system has at hand more often than huge ones. */
static inline void *rw_streamed_alloc(size_t size) {
    void *p = NULL;
    if (posix_memalign(&p, 4096, size)) return NULL;
#if defined(__linux__) && defined(MADV_NOHUGEPAGE)
    madvise(p, size, MADV_NOHUGEPAGE);
#endif
    return p;
}

#ifdef __linux__
/* A large array's own pages, huge ones where there are: they move to where there is more room, instead of what is in them,
 * which would have to be written once more into pages that were never touched (docs/decisions/0006). NULL without memory. */
static inline char *rw_map(char *old, size_t old_size, size_t size) {
    const int access = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *room = (char *)mmap(NULL, size + RW_HUGE, old ? PROT_NONE : access, flags, -1, 0), *at;
    if (room == (char *)MAP_FAILED) return NULL;
    at = (char *)(((uintptr_t)room + RW_HUGE - 1) & ~(uintptr_t)(RW_HUGE - 1));
    if (at > room) munmap(room, at - room);
    if (at < room + RW_HUGE) munmap(at + size, room + RW_HUGE - at);
    if (old && mremap(old, old_size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) == MAP_FAILED) {
        munmap(at, size);
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    madvise(at, size, MADV_HUGEPAGE);
#endif
    return at;
}
#endif

/* mapped: bytes, where the system gave them itself; else 0. */
static inline void rw_release(void *data, size_t mapped) {
#ifdef __linux__
    if (mapped) {
        munmap(data, mapped);
        return;
    }
#endif
    free(data);
}

/* Memory for so many bytes, aligned to cache lines: zeroed pages of the system's own where it is large, which are those of `old`
 * where it had such; else malloc's, as it is. mapped: for rw_release. NULL without memory. */
static inline char *rw_room(char *old, size_t old_mapped, size_t size, size_t *mapped) {
    void *p = NULL;
    *mapped = 0;
#ifdef __linux__
    if (size >= RW_HUGE) {
        *mapped = (size + RW_HUGE - 1) & ~(RW_HUGE - 1);
        return rw_map(old_mapped ? old : NULL, old_mapped, *mapped);
    }
#endif
    return posix_memalign(&p, RW_LINE, size) ? NULL : (char *)p;
}

static inline int rw_array_reserve(rw_array *a, uint32_t count, size_t width) {
    if (count <= a->capacity) return 0;
    uint64_t capacity = a->capacity ? (uint64_t)a->capacity * 2 : 16;
    while (capacity < count) capacity *= 2;
    if (capacity > UINT32_MAX) capacity = UINT32_MAX;
    size_t mapped;
    char *grown = rw_room(a->data, a->mapped, (size_t)capacity * width, &mapped);
    if (!grown) return -1;
    if (!a->mapped) {
        if (a->data) memcpy(grown, a->data, (size_t)a->count * width);
        free(a->data);
    }
    a->data = grown;
    a->capacity = (uint32_t)capacity;
    a->mapped = mapped;
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

/* Room for `count` items in a list that is not an array; 0, or -1 without memory. New room is as it is. */
static inline int rw_list_reserve(void **items, uint32_t *capacity, uint32_t count, size_t width) {
    uint32_t larger = *capacity ? *capacity : 4;
    if (count <= *capacity) return 0;
    while (larger < count) larger += larger / 2;
    void *grown = realloc(*items, larger * width);
    if (!grown) return -1;
    *items = grown;
    *capacity = larger;
    return 0;
}

static inline void rw_array_free(rw_array *a) {
    rw_release(a->data, a->mapped);
    memset(a, 0, sizeof *a);
}

/* An open-addressing table of 32-bit values under 64-bit hashes; the caller compares what a value stands for.
 * A slot holds the upper half of the hash and the value, 0 when free. A value is at home where the hash's upper bits say, at
 * most 32 of them, so that a table grows from what its slots hold, front to back. Nothing is ever taken out. */
typedef struct {
    uint64_t *slots;
    uint64_t mask;
    uint64_t count;
    size_t mapped; /* rw_release */
    uint32_t shift; /* 64 less the bits of mask */
} rw_table;

static inline uint64_t rw_table_home(const rw_table *t, uint64_t hash) { return hash >> t->shift; }

/* The slot at a place unless that of the next one looks more like the hash; which of the two, no processor predicts. */
static inline uint64_t rw_table_either(const rw_table *t, uint64_t at, uint64_t hash) {
    uint64_t first = t->slots[at], second = t->slots[(at + 1) & t->mask];
    uint64_t other = (uint64_t)0 - (uint64_t)(((second ^ hash) >> 32) == 0);
    return (second & other) | (first & ~other);
}

static inline void rw_table_place(rw_table *t, uint64_t slot) {
    uint64_t at = rw_table_home(t, slot);
    while (t->slots[at]) at = (at + 1) & t->mask;
    t->slots[at] = slot;
}

/* Put in a value, for which there is room (rw_table_reserve). */
static inline void rw_table_put(rw_table *t, uint64_t hash, uint32_t value) {
    rw_table_place(t, (hash & 0xFFFFFFFF00000000ULL) | value);
    t->count++;
}

/* Room for one more; 0, or -1 without memory. */
static inline int rw_table_reserve(rw_table *t) {
    if (t->slots && (t->count + 1) * 2 <= t->mask + 1) return 0;
    rw_table grown = {NULL, 0, t->count, 0, 0};
    uint64_t size = t->slots ? (t->mask + 1) * 2 : 64;
    if (size > (uint64_t)1 << 32) return -1;
    grown.slots = (uint64_t *)rw_room(NULL, 0, size * sizeof *grown.slots, &grown.mapped);
    if (!grown.slots) return -1;
    if (!grown.mapped) memset(grown.slots, 0, size * sizeof *grown.slots);
    grown.mask = size - 1;
    grown.shift = 64 - (uint32_t)__builtin_ctzll(size);
    for (uint64_t i = 0; t->slots && i <= t->mask; i++)
        if (t->slots[i]) rw_table_place(&grown, t->slots[i]);
    rw_release(t->slots, t->mapped);
    *t = grown;
    return 0;
}

static inline void rw_table_free(rw_table *t) {
    rw_release(t->slots, t->mapped);
    memset(t, 0, sizeof *t);
}

#endif
