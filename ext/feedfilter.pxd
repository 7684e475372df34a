"""Which rows of a feed are wanted: a span of time, and globs of symbols and accounts."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t
from ext.definitions cimport NameTable
from ext.records cimport Bytes

@cython.final
cdef class RowFilter:
    cdef int64_t from_ns
    cdef int64_t to_ns
    cdef bint timed
    cdef NameTable symbols          # names seen, each judged once
    cdef NameTable accounts
    cdef Bytes symbol_verdicts      # uint8 per id
    cdef Bytes account_verdicts
    cdef Bytes symbol_globs         # length byte, then the pattern
    cdef Bytes account_globs

    # Whether to keep a row: 1, 0, or -1 without memory. `account` NULL: it has none, and no account glob looks at it.
    cdef int keeps(self, const uint8_t* symbol, size_t symbol_length, const uint8_t* account, size_t account_length,
                   int64_t time_ns, bint has_time) noexcept nogil
