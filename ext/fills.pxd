"""What one fill does to a holding, and to what is remembered of it: inlined into the loop over records."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.positions cimport (Book, ENTRY_ADJUST, ENTRY_CHUNK_BITS, ENTRY_CHUNK_MASK, Holding, PLACE_INDEX, PLACE_KEPT, PLACE_STATE,
                            PLACE_TAG, Packed, Position, quantity_of)
from ext.records cimport FrameView, Record, i128
from ext.wide cimport abs_i64, abs_i128, add3_i128, add_i64, add_i128, negate_i128_if, removed_cost, set_i128, sub_i128, text_tag


cdef inline int fold_fill(Holding* h, int64_t price, int64_t quantity) noexcept nogil:
    """Open, add, reduce, close or turn through zero; everything is computed before anything is written.

    0, or 1 where an accumulator would overflow (nothing changed). quantity is not 0.
    """
    cdef int64_t after, rest
    cdef uint64_t held = abs_i64(h.quantity), closed = abs_i64(quantity)
    cdef i128 cost, realized, removed, proceeds, cash
    if add_i64(h.quantity, quantity, &after):
        return 1
    if h.quantity == 0 or (h.quantity < 0) == (quantity < 0):
        if add_i128(h.cost, <i128>price * <i128>quantity, &cost) or sub_i128(h.realized, cost, &cash):
            return 1
        set_i128(&h.cost, cost)
        h.quantity = after
        return 0
    if closed > held:
        closed = held
    removed = negate_i128_if(h.cost < 0, <i128>removed_cost(abs_i128(h.cost), held, closed))
    rest = quantity + h.quantity if closed == held else 0       # what opens on the other side; cannot overflow
    proceeds = negate_i128_if(h.quantity < 0, <i128>price * <i128>closed)
    if add3_i128(h.realized, proceeds, -removed, &realized):
        return 1
    cost = h.cost - removed
    if rest != 0:
        cost = <i128>price * <i128>rest
    # realized - cost is the cash that flowed, to the last unit: a whole number of units that was paid or received.
    if sub_i128(realized, cost, &cash) or cash - (h.realized - h.cost) != -(<i128>price * <i128>quantity):
        return 1
    set_i128(&h.cost, cost)
    set_i128(&h.realized, realized)
    h.quantity = after
    return 0


cdef inline Packed* next_entry(Book book) noexcept nogil:
    """The next entry, for the caller to fill in; NULL: no memory."""
    cdef uint32_t index = book.entry_count
    if index + 1 == 0 or (index >= book.entry_room and book.add_entry_room() < 0):
        return NULL                     # also where all indices are used
    book.entry_count = index + 1
    return &book.chunks[index >> ENTRY_CHUNK_BITS][index & ENTRY_CHUNK_MASK]


cdef inline uint64_t place_word(uint64_t address, uint8_t state, const uint8_t* id, uint8_t id_length) noexcept nogil:
    return address | <uint64_t>state << PLACE_STATE | text_tag(id, id_length) << PLACE_TAG


cdef inline uint64_t kept_word(uint32_t index) noexcept nogil:
    """The rest, where a Record lies there."""
    return <uint64_t>1 << PLACE_KEPT | index & 7 | <uint64_t>(index >> 3) << PLACE_INDEX


cdef inline int remember(Book book, Position* p, const FrameView* view, const Record* r, uint32_t cell, uint8_t state,
                         bint kept) noexcept nogil:
    """Put a trade or an adjustment, of a frame, behind what its position has.

    state: ENTRY_TRADE or ENTRY_ADJUST. kept: the frame stays where it is (ext/lasting.pxd), and where it lies is all that is kept.
    0, or -1 without memory.
    """
    cdef const uint8_t* heap = view.heap
    cdef uint32_t index = <uint32_t>(r - view.records)
    cdef const uint8_t* id = heap + r.id_offset
    cdef uint8_t id_length = 0 if state == ENTRY_ADJUST else r.id_length
    cdef uint64_t place = <uint64_t><size_t>r
    cdef Packed* e
    if kept:
        place |= kept_word(index)
    else:
        place = book.copy_of(view.header.first_seq + index, r.price, quantity_of(r), r.fee, id, id_length)
    e = next_entry(book) if place else NULL
    if e == NULL:
        return -1
    e.place = place_word(place, state, id, id_length)
    e.previous = p.last_entry
    e.cell = cell
    p.last_entry = book.entry_count - 1
    return 0
