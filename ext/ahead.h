/* A thread that touches pages before they are written to, so that no trade waits for the system to find and clear them.
 *
 * The first touch of a page costs 1.4 us in memory and 2.7 in a mapped file; on a virtual machine whose host hands out
 * memory page by page up to 10 us (docs/decisions/0006). Where the system has no MADV_POPULATE_WRITE (Linux 5.14), there is
 * no thread, and the writer touches its pages itself.
 */
#ifndef RISKWIRE_AHEAD_H
#define RISKWIRE_AHEAD_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* Not by madvise: that holds up whoever maps memory meanwhile, the imports of a start among them. A writer's byte that comes
 * at the same time is not lost, and stays as it is. */
static inline void rw_touch(void *at, size_t size) {
    for (size_t i = 0; i < size; i += 4096) __atomic_fetch_or((char *)at + i, 0, __ATOMIC_RELAXED);
}

#ifdef __linux__
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define RW_AHEAD_ASKED 8
#define RW_AHEAD_STEP ((size_t)256 << 10) /* what stopping has to wait for */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

typedef struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct { char *at; size_t size; int file; } asked[RW_AHEAD_ASKED]; /* a ring */
    unsigned first, count;
    int waiting, stopping;
    pid_t process; /* a fork has no such thread */
} rw_ahead;

static void *rw_ahead_run(void *of) {
    rw_ahead *a = (rw_ahead *)of;
    prctl(PR_SET_NAME, "touch-ahead"); /* as top and ps show it */
    pthread_mutex_lock(&a->lock);
    while (!a->stopping) {
        if (!a->count) {
            a->waiting = 1;
            pthread_cond_wait(&a->changed, &a->lock);
            a->waiting = 0;
            continue;
        }
        char *at = a->asked[a->first].at;
        size_t size = a->asked[a->first].size;
        int file = a->asked[a->first].file;
        if (size > RW_AHEAD_STEP) {
            size = RW_AHEAD_STEP;
            a->asked[a->first].at += size;
            a->asked[a->first].size -= size;
        } else {
            a->first = (a->first + 1) % RW_AHEAD_ASKED;
            a->count--;
        }
        pthread_mutex_unlock(&a->lock);
        if (file) madvise(at, size, MADV_POPULATE_WRITE); /* fails where it was cut or is full: the writer finds out by itself */
        else rw_touch(at, size);
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* NULL: no memory, no thread, or a system that cannot. */
static rw_ahead *rw_ahead_start(void) {
    sigset_t all, before;
    rw_ahead *a;
    int failed;
    if (madvise(NULL, 0, MADV_POPULATE_WRITE) || !(a = (rw_ahead *)calloc(1, sizeof *a))) return NULL;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->changed, NULL);
    a->process = getpid();
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&a->thread, NULL, rw_ahead_run, a);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        free(a);
        return NULL;
    }
    return a;
}

/* Touch whole pages, in a thread that the first call starts (`of`: NULL until then, or where there can be none); their content
 * stays as it is. Memory must stay mapped until stop, but for a file's, which may be gone by then. What was asked for and is
 * too much is forgotten. Whether there is a thread. */
static int rw_ahead_ask(rw_ahead **of, void *at, size_t size, int file) {
    if (!*of) *of = rw_ahead_start();
    rw_ahead *a = *of;
    if (!a) return 0;
    if (a->process != getpid()) return 1; /* nor is the lock of a fork ever given back, if it was held then */
    pthread_mutex_lock(&a->lock);
    if (a->count < RW_AHEAD_ASKED) {
        unsigned last = (a->first + a->count++) % RW_AHEAD_ASKED;
        a->asked[last].at = (char *)at;
        a->asked[last].size = size;
        a->asked[last].file = file;
        if (a->waiting) pthread_cond_signal(&a->changed);
    }
    pthread_mutex_unlock(&a->lock);
    return 1;
}

/* End the thread, if there is one, and forget what was asked for and not done yet. */
static void rw_ahead_stop(rw_ahead **of) {
    rw_ahead *a = *of;
    *of = NULL;
    if (!a) return;
    if (a->process == getpid()) {
        pthread_mutex_lock(&a->lock);
        a->stopping = 1;
        pthread_cond_signal(&a->changed);
        pthread_mutex_unlock(&a->lock);
        pthread_join(a->thread, NULL);
    }
    free(a);
}
#else
typedef struct { int none; } rw_ahead;
static int rw_ahead_ask(rw_ahead **of, void *at, size_t size, int file) { return (void)of, (void)at, (void)size, (void)file, 0; }
static void rw_ahead_stop(rw_ahead **of) { (void)of; }
#endif
#endif
