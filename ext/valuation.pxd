"""How fills and marks move what limits keep (DESIGN section 5, "When things are valued"). All return 0, or -1 without memory."""

from libc.stdint cimport int64_t, uint64_t, uint32_t
from ext.judge cimport Judge, TradeFacts, is_small
from ext.limits cimport (Held, Key, LEVEL_OK, Limit, LimitBook, MAX_NOTIONAL, MAX_POSITION, REPEATED_TRADE, Rule, Slot, Sums,
                         TRADE_RATE, VOLUME_RATE, held_of, touch)
from ext.positions cimport Cell, Symbol
from ext.records cimport i128, u128
from ext.wide cimport Wide, abs_i64, abs_i128, low_u128
from ext.windows cimport Run, Window, run_restart, window_push

# Value one (account, symbol) at its symbol's current mark; one without a mark counts by what it costs.
cdef int revalue_position(LimitBook limits, uint32_t position) noexcept nogil
# Value every holder of a symbol at its current mark.
cdef int revalue_symbol(LimitBook limits, uint32_t symbol) noexcept nogil
cdef struct Valuation:              # of a position
    int64_t mark
    bint marked
    i128 cost                       # what counts where there is no mark

# Move what a limit that sums over symbols keeps for a cell by a fill, as `fill_slots` does: one that was valued before.
cdef int fill_node(LimitBook limits, const Slot* slot, int64_t price, int64_t quantity, int64_t fee,
                   i128 cost_change) noexcept nogil
# The same where the sum still has the cell, the only one of its position, at the valuation `before`.
cdef int move_node(LimitBook limits, const Slot* slot, const Valuation* before, int64_t price, int64_t quantity,
                   int64_t fee) noexcept nogil
# Take a fill that was in a cell out of what its limits keep, or put one in, when a trade is revised.
cdef int fill_cell(LimitBook limits, uint32_t cell, int64_t price, int64_t quantity, int64_t fee, Judge judge) noexcept nogil
cdef int touch_all(LimitBook limits) noexcept nogil


cdef inline bint notional_stays_ok(LimitBook limits, Key* key, const Symbol* s, int64_t mark) noexcept nogil:
    """Judge a notional where it stands: whether it was ok and is, as nearly always; False: nothing was done."""
    cdef Rule* rule = &(<Rule*>limits.rules.data)[key.rule]
    cdef u128 magnitude = abs_i128(key.quantity)
    cdef uint64_t quantity = low_u128(magnitude)
    cdef Held* held
    if magnitude >> 64 or <u128>quantity * <u128>abs_i64(mark) >= rule.warn:
        return False
    key.mark = mark
    key.valuation = s.valuation
    key.frozen = 0
    if quantity > rule.ok_max:
        rule.ok_max = quantity
    held = held_of(limits, key)
    held.quantity = quantity
    held.level = LEVEL_OK
    return True


cdef inline bint rate_stays_ok(LimitBook limits, Key* key, const Slot* slot, int64_t at, int exponent) noexcept nogil:
    """Count a trade in a window that is far from its limit; False: nothing was done."""
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[slot.limit]
    cdef Window* window = &(<Window*>limits.windows.data)[key.state]
    if (key.level != LEVEL_OK or key.frozen or <u128>window.size + 1 >= limit.count_warn
            or not window_push(window, at, 1, exponent, limit.window_ns, NULL, 0)):
        return False
    key.stamp = limits.stamp            # as if it had been put on the list: a state says nothing of a window's capacity
    return True


cdef inline int fill_window(LimitBook limits, const Slot* slot, int64_t at, const TradeFacts* trade, int exponent) noexcept nogil:
    """Take a trade into its window or run, where that is the usual one; 1: not so, nothing was done, 0, or -1 without memory."""
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[slot.limit]
    cdef Key* key = &(<Key*>limits.keys.data)[slot.key]
    cdef Wide* sum
    if slot.kind == TRADE_RATE:
        return 0 if trade.counts and rate_stays_ok(limits, key, slot, at, exponent) else 1
    if slot.kind == VOLUME_RATE:
        sum = &(<Sums*>limits.sums.data)[key.node].sum
        if not trade.counts or not window_push(&(<Window*>limits.windows.data)[key.state], at, <int64_t>abs_i64(trade.quantity),
                                               exponent, limit.window_ns, sum, limits.quantity_scale):
            return 1
        return touch(limits, slot.key)
    if slot.kind == REPEATED_TRADE and limit.count_warn > 1:
        return 0 if run_restart(&(<Run*>limits.runs.data)[key.state], at, trade.price, trade.quantity) else 1
    return 1


cdef inline int fill_slots(LimitBook limits, const Cell* c, const Symbol* s, int64_t price, int64_t quantity, int64_t fee,
                           i128 cost_change, const Valuation* before, Judge judge, const TradeFacts* trade) noexcept nogil:
    """Add a fill (quantity signed; negated where one is taken out) to what the cell's limits keep, and judge it.

    At the valuation that its position has. before: the one that sums over it still have it at (NULL: the same).
    cost_change: of the position, counted where it has no mark. trade: what judges it as the trade that it is (NULL: it is
    none, or not yet).
    """
    cdef const Slot* slot = &(<const Slot*>limits.slots.data)[c.slots]
    cdef const Slot* end = slot + c.slot_count
    cdef int64_t mark = s.mark if s.source else 0
    cdef Key* key
    cdef int status
    while slot < end:
        if slot.kind == MAX_POSITION:
            key = &(<Key*>limits.keys.data)[slot.key]
            key.quantity += quantity
            # warn_at is at most 1: what is below it is no breach either.
            if ((key.level != LEVEL_OK or abs_i128(key.quantity) >= (<const Rule*>limits.rules.data)[key.rule].warn)
                    and touch(limits, slot.key) < 0):
                return -1
        elif slot.kind == MAX_NOTIONAL:
            key = &(<Key*>limits.keys.data)[slot.key]
            key.quantity += quantity
            if not (key.level == LEVEL_OK and notional_stays_ok(limits, key, s, mark)) and touch(limits, slot.key) < 0:
                return -1
        elif slot.node:
            if before != NULL:
                status = move_node(limits, slot, before, price, quantity, fee)
            else:
                status = fill_node(limits, slot, price, quantity, fee, cost_change)
            if status < 0:
                return -1
        elif trade != NULL and not is_small(limits, slot, trade):
            status = fill_window(limits, slot, judge.event.executed_at, trade, s.instrument.quantity_exponent)
            if status < 0 or (status and judge.judge_slot(limits, slot, trade) < 0):
                return -1
        slot += 1
    return 0
