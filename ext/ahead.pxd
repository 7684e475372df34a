"""Touch pages before they are written to, in a thread (ext/ahead.h)."""

from libc.stddef cimport size_t

cdef extern from "ahead.h" nogil:
    ctypedef struct rw_ahead:
        pass
    # NULL: no memory, no thread, or a system that cannot.
    rw_ahead* rw_ahead_start() noexcept
    # Whole pages; their content stays as it is. Memory (not a file's) stays mapped until stop.
    void rw_ahead_ask(rw_ahead* a, void* at, size_t size, bint file) noexcept
    void rw_ahead_stop(rw_ahead* a) noexcept
