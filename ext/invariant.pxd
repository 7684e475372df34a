"""The cash invariant of DESIGN section 5, over all that a position is made of: for tests and debug builds."""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from ext.positions cimport Cell, Position, Store
from ext.records cimport i128, u128

cdef extern from *:
    """
    #ifdef RISKWIRE_DEBUG
    #define RW_IS_DEBUG 1
    #else
    #define RW_IS_DEBUG 0
    #endif
    """
    bint IS_DEBUG "RW_IS_DEBUG"             # a build with RISKWIRE_DEBUG: a constant, so that `if IS_DEBUG` costs nothing


cdef inline bint cash_holds(const Store* store, uint32_t position) noexcept nogil:
    """Whether realized - open cost is the cash that flowed, and the quantity what the cells hold, to the last unit.

    Modulo 2**128 and with the carries summed apart, as cells may be wider than the position that they add up to.
    """
    cdef const Position* p = &(<const Position*>store.positions.data)[position]
    cdef const Cell* c
    cdef uint32_t cell = p.first_cell
    cdef u128 cash = 0, quantity = 0
    while cell:
        c = &(<const Cell*>store.cells.data)[cell]
        cash += <u128>c.cash
        quantity += <u128><i128>c.quantity + (<u128><i128>c.quantity_carry << 64)
        cell = c.next_in_position
    return <u128>p.realized - <u128>p.cost == cash and <u128><i128>p.quantity == quantity
