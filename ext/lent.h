/* Buffers of Python objects that libzmq has without a copy. It gives them back in one of its own threads, which has no
 * GIL: there they are only put on a list, and whoever has the GIL next lets them go. */
#ifndef RISKWIRE_LENT_H
#define RISKWIRE_LENT_H

#include <Python.h>

typedef struct rw_lent {
    Py_buffer buffer;
    struct rw_lent *next;
} rw_lent;

static rw_lent *rw_given_back;

/* What zmq_msg_init_data calls, from any thread. */
static void rw_give_back(void *data, void *hint) {
    rw_lent *lent = (rw_lent *)hint;
    (void)data;
    lent->next = __atomic_load_n(&rw_given_back, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&rw_given_back, &lent->next, lent, 1, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
    }
}

/* Let go of what was given back. With the GIL. */
static void rw_let_go(void) {
    rw_lent *lent = __atomic_exchange_n(&rw_given_back, NULL, __ATOMIC_ACQUIRE);
    while (lent) {
        rw_lent *next = lent->next;
        PyBuffer_Release(&lent->buffer);
        PyMem_RawFree(lent);
        lent = next;
    }
}

#endif
