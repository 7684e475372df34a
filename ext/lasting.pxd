"""Frames that lie in a journal of this process, for a book whose entries then need no copies of its trades."""

from libc.stdint cimport uint8_t, uint64_t
from ext.journal cimport Journal, Mapping, hold_mapping, release_mapping
from ext.positions cimport Book


cdef inline void release_hold(void* mapping) noexcept nogil:
    release_mapping(<Mapping*>mapping)


cdef inline bint is_lasting(Book book, Journal journal, uint64_t index, const uint8_t* data) noexcept nogil:
    """Whether a frame's bytes are those of frame `index` of the journal; then the book holds on to its segment."""
    cdef Mapping* mapping
    if book.held_start <= data < book.held_end:
        return True
    if not journal.first_frame() <= index < journal.frames() or journal.frame_at(index) != data:
        return False
    mapping = hold_mapping(journal, index)
    if book.hold(mapping.base, mapping.capacity, release_hold, mapping) < 0:
        release_mapping(mapping)
        return False
    return True

