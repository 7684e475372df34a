"""Growing arrays and hash tables addressed by index (ext/arrays.h)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint32_t, uint64_t

cdef extern from "arrays.h" nogil:
    ctypedef struct Array "rw_array":
        char* data
        uint32_t count                      # element 0, which is nobody's, included
        uint32_t capacity
    ctypedef struct Table "rw_table":       # slot: upper half of the hash, 32-bit value; 0 is free
        uint64_t* slots
        uint64_t mask
        uint64_t count
        uint32_t shift

    void* streamed_alloc "rw_streamed_alloc"(size_t size)
    int array_reserve "rw_array_reserve"(Array* a, uint32_t count, size_t width)
    uint32_t array_add "rw_array_add"(Array* a, size_t width)           # 0: no memory
    int array_extend "rw_array_extend"(Array* a, uint32_t count, size_t width)
    void array_free "rw_array_free"(Array* a)
    int list_reserve "rw_list_reserve"(void** items, uint32_t* capacity, uint32_t count, size_t width)
    uint64_t table_home "rw_table_home"(const Table* t, uint64_t hash)  # where to begin to look; then on, around by mask
    uint64_t table_either "rw_table_either"(const Table* t, uint64_t at, uint64_t hash)      # of the slots at a place and behind it
    void table_put "rw_table_put"(Table* t, uint64_t hash, uint32_t value)
    int table_reserve "rw_table_reserve"(Table* t)                      # room for one more; 0, or -1 without memory
    void table_free "rw_table_free"(Table* t)
