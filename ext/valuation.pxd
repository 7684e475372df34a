"""How fills and marks move what limits keep (DESIGN section 5, "When things are valued"). All return 0, or -1 without memory."""

from libc.stdint cimport int64_t, uint32_t
from ext.judge cimport Judge, TradeFacts
from ext.limits cimport LimitBook
from ext.records cimport i128

# Value one (account, symbol) at its symbol's current mark. cost: what it cost before this event, for one without a mark.
cdef int revalue_position(LimitBook limits, uint32_t position, i128 cost_before, i128 cost_after) noexcept nogil
# Value every holder of a symbol at its current mark.
cdef int revalue_symbol(LimitBook limits, uint32_t symbol) noexcept nogil
# Add quantity (signed; negated where a fill is taken out) at a price to what the cell's limits keep, at the valuation
# that its position has, and judge it as the trade that it is (NULL: it is none, or not yet). cost_change: of the position,
# counted where it has no mark.
cdef int fill_cell(LimitBook limits, uint32_t cell, int64_t price, i128 quantity, i128 fee, i128 cost_change,
                   Judge judge, const TradeFacts* trade) noexcept nogil
cdef int touch_all(LimitBook limits) noexcept nogil
