"""Touch pages before they are written to, at once or in a thread (ext/ahead.h)."""

from libc.stddef cimport size_t

cdef extern from "ahead.h" nogil:
    ctypedef struct rw_ahead:
        pass
    void rw_touch(void* at, size_t size) noexcept           # at once; their content stays as it is
    # Whole pages; their content stays as it is. Memory (not a file's) stays mapped until stop. of: begins as NULL. False: there
    # is no memory for a thread, or the system cannot.
    bint rw_ahead_ask(rw_ahead** of, void* at, size_t size, bint file) noexcept
    void rw_ahead_stop(rw_ahead** of) noexcept
