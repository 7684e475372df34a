"""Frames that lie in a journal of this process, for a book whose entries then need no copies of its trades."""

from libc.stdint cimport uint8_t, uint64_t
from ext.journal cimport Journal, Mapping, hold_mapping, release_mapping
from ext.positions cimport Book


cdef inline void release_hold(void* mapping) noexcept nogil:
    release_mapping(<Mapping*>mapping)


cdef inline bint is_lasting(Book book, Journal journal, uint64_t first_seq, const uint8_t* data) noexcept nogil:
    """Whether the bytes of a frame that begins at first_seq are the journal's own; then the book holds on to their segment."""
    cdef Mapping* mapping
    cdef uint64_t index
    if book.held_start <= data < book.held_end:
        return True
    index = journal.index_of(first_seq)
    if index >= journal.frames() or journal.frame_at(index) != data:
        return False
    mapping = hold_mapping(journal, index)
    if book.hold(mapping.base, mapping.capacity, release_hold, mapping) < 0:
        release_mapping(mapping)
        return False
    return True
