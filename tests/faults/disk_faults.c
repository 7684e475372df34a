/* Makes chosen calls of the operating system fail: LD_PRELOAD this, then arm it through ctypes.
 *
 * One call can be armed at a time: from its n-th use on it fails `times` times with an error number; for write(2)
 * error 0 means a short write. Only calls on regular files and folders count.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char armed[32], only[64]; /* only: what a file's path must end with */
static long skip, left, uses;
static int number;

void rw_fault_arm(const char *call, long nth, long times, int error) {
    pthread_mutex_lock(&lock);
    strncpy(armed, call, sizeof armed - 1);
    skip = nth - 1;
    left = times;
    number = error;
    uses = 0;
    pthread_mutex_unlock(&lock);
}

/* RW_FAULT="call nth times errno ending" arms it from the start, for files whose path has this ending. */
__attribute__((constructor)) static void arm_from_environment(void) {
    char call[32];
    long nth, times;
    int error;
    const char *text = getenv("RW_FAULT");
    if (text && sscanf(text, "%31s %ld %ld %d %63s", call, &nth, &times, &error, only) == 5)
        rw_fault_arm(call, nth, times, error);
}

long rw_fault_uses(void) { return uses; }
long rw_fault_left(void) { return left; }

static int ends_with_only(int fd) {
    char link[64], path[1024];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    ssize_t wanted = (ssize_t)strlen(only);
    return length >= wanted && memcmp(path + length - wanted, only, wanted) == 0;
}

/* 1: this use is to fail. */
static int hit(const char *call, int fd) {
    struct stat info;
    int result = 0;
    if (only[0] && !ends_with_only(fd)) return 0;
    if (fstat(fd, &info) != 0 || !(S_ISREG(info.st_mode) || S_ISDIR(info.st_mode))) return 0;
    pthread_mutex_lock(&lock);
    if (strcmp(call, armed) == 0) {
        uses++;
        if (uses > skip && left > 0) {
            left--;
            result = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return result;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

int fdatasync(int fd) {
    REAL(fdatasync);
    if (hit("fdatasync", fd)) { errno = number; return -1; }
    return real(fd);
}

int fsync(int fd) {
    REAL(fsync);
    if (hit("fsync", fd)) { errno = number; return -1; }
    return real(fd);
}

int posix_fallocate(int fd, off_t offset, off_t length) {
    REAL(posix_fallocate);
    return hit("posix_fallocate", fd) ? number : real(fd, offset, length);
}

int posix_fallocate64(int fd, off_t offset, off_t length) {
    REAL(posix_fallocate64);
    return hit("posix_fallocate", fd) ? number : real(fd, offset, length);
}

int ftruncate(int fd, off_t length) {
    REAL(ftruncate);
    if (hit("ftruncate", fd)) { errno = number; return -1; }
    return real(fd, length);
}

int ftruncate64(int fd, off_t length) {
    REAL(ftruncate64);
    if (hit("ftruncate", fd)) { errno = number; return -1; }
    return real(fd, length);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (size > 1 && hit("write", fd)) {
        if (number) { errno = number; return -1; }
        return real(fd, data, size / 2);
    }
    return real(fd, data, size);
}
