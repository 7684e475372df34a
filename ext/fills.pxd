"""What one fill does to a holding, and to what is remembered of it: inlined into the loop over records."""

from libc.string cimport memcpy
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from ext.positions cimport (ARENA_BITS, ARENA_UNITS, Book, ENTRY_CHUNK_BITS, ENTRY_CHUNK_MASK, ENTRY_HAS_FEE, Holding,
                            Packed)
from ext.records cimport i128
from ext.wide cimport abs_i64, abs_i128, add3_i128, add_i64, add_i128, copy_text, removed_cost, sub_i128, text_end


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
        h.cost = cost
        h.quantity = after
        return 0
    if closed > held:
        closed = held
    removed = <i128>removed_cost(abs_i128(h.cost), held, closed)
    if h.cost < 0:
        removed = -removed
    rest = quantity + h.quantity if closed == held else 0       # what opens on the other side; cannot overflow
    proceeds = <i128>price * <i128>closed if h.quantity > 0 else -(<i128>price * <i128>closed)
    if add3_i128(h.realized, proceeds, -removed, &realized):
        return 1
    cost = h.cost - removed
    if rest != 0:
        cost = <i128>price * <i128>rest
    # realized - cost is the cash that flowed, to the last unit: a whole number of units that was paid or received.
    if sub_i128(realized, cost, &cash) or cash - (h.realized - h.cost) != -(<i128>price * <i128>quantity):
        return 1
    h.cost = cost
    h.realized = realized
    h.quantity = after
    return 0


cdef inline Packed* next_entry(Book book, int64_t fee, const uint8_t* id, uint8_t id_length, uint8_t state) noexcept nogil:
    """The next entry with its texts; the caller fills in the rest. NULL: no memory."""
    cdef uint32_t index = book.entry_count, fee_bytes = sizeof(int64_t) if fee else 0
    cdef uint32_t units = (fee_bytes + id_length + 3) >> <uint32_t>2
    cdef uint8_t* text
    cdef Packed* e
    if (index + 1 == 0 or (index >> <uint32_t>ENTRY_CHUNK_BITS) == book.chunk_count
            or book.arena_used + units > ARENA_UNITS):
        if book.make_room(units) < 0:
            return NULL
    e = &book.chunks[index >> ENTRY_CHUNK_BITS][index & ENTRY_CHUNK_MASK]
    e.text = (book.block_count - 1) << <uint32_t>ARENA_BITS | book.arena_used if units else 0
    e.id_end = text_end(id, id_length)
    e.id_length = id_length
    e.state = state | ENTRY_HAS_FEE if fee else state
    text = book.arena + 4 * <size_t>book.arena_used
    if fee:
        memcpy(text, &fee, sizeof(int64_t))
    copy_text(text + fee_bytes, id, id_length)
    book.arena_used += units
    book.entry_count = index + 1
    return e
