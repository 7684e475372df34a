"""Levels and alerts: what one event makes of the keys and limits that it touches (DESIGN section 6)."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.alertlog cimport AlertLog
from ext.arrays cimport Array
from ext.limits cimport Key, Limit, LimitBook, MAX_TRADE_NOTIONAL, MAX_TRADE_VOLUME, PRICE_COLLAR, Rule, Slot
from ext.records cimport Bytes, Record, i128, u128
from ext.wide cimport Wide, abs_i64

cdef struct Pending:                # an alert of the event at hand, before they are put in order
    uint32_t limit                  # 0: trade_after_kill
    uint32_t cell
    uint32_t text                   # value, utilization: in Judge.texts
    uint16_t value_length
    uint16_t utilization_length
    uint8_t kind
    uint8_t severity
    uint8_t per
    uint8_t unused

cdef struct Kill:                   # an account, or everybody, that a limit stopped
    uint64_t seq
    uint32_t account                # 0: every account
    uint8_t length
    uint8_t limit_id[64]

cdef struct TradeFacts:             # what the kinds that judge one trade look at
    int64_t price
    int64_t quantity                # signed
    int64_t mark                    # before this trade
    bint marked
    uint32_t cell

@cython.final
cdef class Judge:
    cdef AlertLog alerts
    cdef Array pending
    cdef Array order                # uint32_t, twice over: for sorting
    cdef Bytes texts
    cdef Bytes kills                # Kill, in order of seq
    cdef Array killed               # uint8_t by account
    cdef bint firm_killed
    cdef uint64_t seq
    cdef const Record* event        # at hand
    cdef const uint8_t* heap        # its texts

    # All return 0, or -1 without memory.
    cdef int judge_trade(self, LimitBook limits, const TradeFacts* trade) noexcept nogil
    cdef int judge_slots(self, LimitBook limits, const Slot* slot, uint16_t count, const TradeFacts* trade) noexcept nogil
    cdef int judge_slot(self, LimitBook limits, const Slot* slot, const TradeFacts* trade) noexcept nogil
    cdef int judge_collar(self, LimitBook limits, const Slot* slot, const TradeFacts* trade) noexcept nogil
    cdef int judge_touched(self, LimitBook limits) noexcept nogil
    cdef int judge_key(self, LimitBook limits, uint32_t index) noexcept nogil
    cdef int send_gone(self, LimitBook limits, uint32_t limit) noexcept nogil
    cdef int add(self, LimitBook limits, uint32_t limit, uint32_t cell, uint8_t severity, Wide* value, Wide* divisor,
                 int exponent) noexcept nogil
    cdef int add_after_kill(self, uint32_t cell) noexcept nogil
    cdef int flush(self, LimitBook limits) noexcept nogil
    cdef int sort(self, LimitBook limits) noexcept nogil
    cdef int send(self, LimitBook limits, const Pending* alert) noexcept nogil
    cdef int engage(self, LimitBook limits, const Pending* alert) noexcept nogil
    cdef int set_killed(self, uint32_t account, bint engaged) noexcept nogil


cdef inline bint is_small(LimitBook limits, const Slot* slot, const TradeFacts* trade) noexcept nogil:
    """Whether a trade by itself is below what its limit warns from: nearly always."""
    cdef const Limit* limit
    cdef uint64_t off
    if slot.kind == MAX_TRADE_VOLUME:
        return <u128>abs_i64(trade.quantity) < (<const Rule*>limits.rules.data)[slot.index].warn
    if slot.kind == MAX_TRADE_NOTIONAL:
        return (<u128>abs_i64(trade.quantity) * <u128>abs_i64(trade.price)
                < (<const Rule*>limits.rules.data)[slot.index].warn)
    if slot.kind == PRICE_COLLAR:
        limit = &(<const Limit*>limits.limits.data)[slot.limit]
        off = (<uint64_t>trade.price - <uint64_t>trade.mark if trade.price > trade.mark
               else <uint64_t>trade.mark - <uint64_t>trade.price)
        return not trade.marked or trade.mark == 0 or (limit.narrow and (       # 100 x scale is below 2**63
            <u128>off * <u128>(100 * limit.scale.v[0]) < <u128>abs_i64(trade.mark) * <u128>limit.warn.v[0]))
    return False


cdef inline void begin_event(Judge judge, uint64_t seq, const uint8_t* heap, const Record* event) noexcept nogil:
    judge.seq = seq
    judge.event = event
    judge.heap = heap
    judge.pending.count = 0
    judge.texts.size = 0


cdef inline bint is_killed(Judge judge, uint32_t account) noexcept nogil:
    return judge.firm_killed or (account < judge.killed.count and (<uint8_t*>judge.killed.data)[account] != 0)
