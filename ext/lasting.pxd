"""Frames that lie in a journal of this process, for a book whose entries then need no copies of its trades."""

from libc.stdint cimport uint8_t, uint64_t
from ext.journal cimport Journal, Mapping, hold_mapping, release_mapping
from ext.positions cimport PLACE_BITS, Book
from ext.records cimport FrameView


cdef inline void release_hold(void* mapping) noexcept nogil:
    release_mapping(<Mapping*>mapping)


cdef inline bint fits_entries(const FrameView* view) noexcept nogil:
    """Whether an entry has room for where any record of a frame lies."""
    cdef uint64_t at = <uint64_t><size_t>view.header
    return (at + view.size) >> PLACE_BITS == 0 and at & 7 == 0


cdef inline bint is_lasting(Book book, Journal journal, const FrameView* view) noexcept nogil:
    """Whether entries can point into a frame: its bytes are the journal's own, whose segment the book then holds on to."""
    cdef const uint8_t* data = <const uint8_t*>view.header
    cdef Mapping* mapping
    cdef uint64_t index
    if not fits_entries(view):
        return False
    if book.held_start <= data < book.held_end:
        return True
    index = journal.index_of(view.header.first_seq)
    if index >= journal.frames() or journal.frame_at(index) != data:
        return False
    mapping = hold_mapping(journal, index)
    if book.hold(mapping.base, mapping.capacity, release_hold, mapping) < 0:
        release_mapping(mapping)
        return False
    return True
