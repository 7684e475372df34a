/* What the journal needs from the operating system, the same on Linux and macOS. */
#ifndef RW_JOURNAL_OS_H
#define RW_JOURNAL_OS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Give the file `size` bytes of real disk space, so that a full disk is an error here and not a SIGBUS later. */
static int rw_preallocate(int fd, int64_t size) {
#ifdef __APPLE__
    fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, size, 0};
    struct stat info;
    if (fstat(fd, &info) != 0) return errno;
    if (info.st_size < size) {
        store.fst_length = size - info.st_size;
        if (fcntl(fd, F_PREALLOCATE, &store) == -1) return errno;
        if (ftruncate(fd, size) != 0) return errno;
    }
    return 0;
#else
    int error;
    do error = posix_fallocate(fd, 0, size); while (error == EINTR);
    return error;
#endif
}

/* Make everything written to the file so far survive a power loss. */
static int rw_datasync(int fd) {
#ifdef __APPLE__
    return fcntl(fd, F_FULLFSYNC) == -1 ? errno : 0;
#else
    return fdatasync(fd) != 0 ? errno : 0;
#endif
}

/* Make a new name in a directory survive a power loss. */
static int rw_sync_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = 0;
    if (fd < 0) return errno;
    if (fsync(fd) != 0 && errno != EINVAL) error = errno;
    close(fd);
    return error;
}

/* Map a file, or memory when fd is -1. NULL: errno says why. */
static uint8_t *rw_map(int fd, size_t size, int writable) {
    int protection = PROT_READ | (writable ? PROT_WRITE : 0);
    void *base;
    if (fd >= 0) {
        base = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    } else {
        base = mmap(NULL, size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    return base == MAP_FAILED ? NULL : (uint8_t *)base;
}

/* Memory that is read at random, in huge pages where the system has them, so that a look-up does not wait for a page walk. */
static inline void rw_advise_huge_pages(uint64_t *base, size_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(base, size, MADV_HUGEPAGE);
#endif
}

static inline uint64_t rw_load_acquire(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void rw_store_release(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline int64_t rw_add(int64_t *p, int64_t n) { return __atomic_add_fetch(p, n, __ATOMIC_ACQ_REL); }
static inline int rw_log2(uint64_t v) { return 63 - __builtin_clzll(v); }

#endif
