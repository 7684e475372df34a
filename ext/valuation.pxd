"""How fills and marks move what limits keep (DESIGN section 5, "When things are valued"). All return 0, or -1 without memory."""

from libc.stdint cimport int64_t, uint8_t, uint64_t, uint32_t
from ext.judge cimport Judge, TradeFacts, is_small
from ext.limits cimport (CONCENTRATION, GROSS_NOTIONAL, Held, Key, LEVEL_OK, Limit, LimitBook, MAX_NOTIONAL, MAX_POSITION,
                         NET_NOTIONAL, OF_POSITION, REPEATED_TRADE, Rule, Slot, Sums, SymbolFactors, TRADE_RATE, VOLUME_RATE,
                         held_of, is_sum, run_of, set_standing, settle, slots_of, sum_is_far, touch)
from ext.positions cimport Cell, Position, Symbol
from ext.records cimport i128, u128
from ext.wide cimport (Part, Wide, abs_i64, abs_i128, is_below256, is_below_scaled, low_u128, part_addmul, part_set, wide_add_part,
                       within256)
from ext.windows cimport Window, run_restart, window_add, window_push

cdef struct Valuation:              # of a position
    int64_t mark
    bint marked
    i128 cost                       # what counts where there is no mark

cdef enum PartBit:                  # which parts of a Move are known
    PART_NET = 1
    PART_GROSS = 2
    PART_PNL = 4
    PART_WORTH = 8

cdef struct Move:                   # a position goes from one quantity and valuation to another
    Valuation before
    Valuation after
    int64_t held
    int64_t holds
    int64_t price                   # of the fill; quantity 0: there is none, only a new mark
    int64_t quantity                # signed
    int64_t fee
    bint plain                      # the parts say it; else each sum is worked out by itself
    int known                       # PartBit
    i128 was                        # held x mark before, 126 bits at most
    i128 is_now                     # holds x mark after
    Part net                        # what is added to the sums of all limits: found once, by the first that wants it
    Part gross
    Part pnl
    Part worth                      # the position's notional afterwards

# Value all of a position, or only what is kept for its cells, at its symbol's current mark; one without a mark counts by what it
# costs.
cdef int revalue_position(LimitBook limits, uint32_t position) noexcept nogil
cdef int revalue_cells(LimitBook limits, uint32_t position) noexcept nogil
# Value every holder of a symbol at its current mark.
cdef int revalue_symbol(LimitBook limits, uint32_t symbol) noexcept nogil

# Add to a sum what a move makes of it, whatever there is a mark for and however wide the factors are.
cdef void move_long(Sums* sums, uint8_t kind, const Move* move, const SymbolFactors* f) noexcept nogil
# Judge a key of a position at the end of the event, where it is not ok or `near`; made here, where it is not there yet.
cdef int keep_key(LimitBook limits, uint32_t limit, uint8_t kind, uint32_t position, bint near) noexcept nogil
# Judge what is kept for a position by itself, where it is near or was not ok.
cdef int touch_near(LimitBook limits, uint32_t position) noexcept nogil
# The same, and all keys that it is in: after `load_position` has moved what they come to.
cdef int touch_position(LimitBook limits, uint32_t position) noexcept nogil
# Move what a limit that sums over cells keeps for one by a fill, as `fill_slots` does: one that was valued before.
cdef int fill_node(LimitBook limits, const Slot* slot, int64_t price, int64_t quantity, int64_t fee,
                   i128 cost_change) noexcept nogil
# The same where the sum still has the cell, the only one of its position, at the valuation `before`.
cdef int move_node(LimitBook limits, const Slot* slot, const Valuation* before, int64_t price, int64_t quantity,
                   int64_t fee) noexcept nogil
# `fill_slots` and `fill_position` for what is no new trade, or seldom: not inlined.
cdef int fill_cell_slots(LimitBook limits, const Cell* c, const Symbol* s, const Move* move, const Valuation* before, Judge judge,
                         const TradeFacts* trade) noexcept nogil
cdef int fill_adjusted(LimitBook limits, uint32_t position, const Position* p, const Symbol* s, Move* move, Judge judge) noexcept nogil
# Take a fill that was in a cell out of what is kept for the cell, or put one in, when a trade is revised.
cdef int fill_cell(LimitBook limits, uint32_t cell, int64_t price, int64_t quantity, int64_t fee, Judge judge) noexcept nogil
cdef int touch_all(LimitBook limits) noexcept nogil


# --- what is kept for whole positions ---

cdef inline void begin_move(Move* move, const SymbolFactors* f) noexcept nogil:
    """All but the parts is set."""
    move.known = 0
    move.plain = (move.after.marked and (move.before.marked or (move.held == 0 and move.before.cost == 0))
                  and f.money.limbs == 1 and f.fee.limbs == 1)
    move.was = <i128>move.held * move.before.mark
    move.is_now = <i128>move.holds * move.after.mark


cdef inline void end_move(Move* move, const Position* p, const SymbolFactors* f) noexcept nogil:
    """Where a position has come to by its fill."""
    move.after.marked = p.valued
    move.after.mark = p.mark
    move.after.cost = p.cost
    move.holds = p.quantity
    begin_move(move, f)


cdef inline const Part* part_of(Move* move, uint8_t kind, const SymbolFactors* f) noexcept nogil:
    """What a plain move adds to a sum."""
    if kind == NET_NOTIONAL:
        if not move.known & PART_NET:
            part_set(&move.net, move.is_now - move.was, f.money.v[0])
            move.known |= PART_NET
        return &move.net
    if kind == GROSS_NOTIONAL or kind == CONCENTRATION:
        if not move.known & PART_GROSS:
            part_set(&move.gross, <i128>(abs_i128(move.is_now) - abs_i128(move.was)), f.money.v[0])
            move.known |= PART_GROSS
        return &move.gross
    if not move.known & PART_PNL:
        # What is bought at the mark is worth what was paid for it.
        part_set(&move.pnl, <i128>move.held * move.after.mark - move.was, f.money.v[0])
        if move.quantity and move.after.mark != move.price:
            part_addmul(&move.pnl, move.quantity * <i128>move.after.mark - move.quantity * <i128>move.price, f.money.v[0])
        if move.fee:
            part_addmul(&move.pnl, -<i128>move.fee, f.fee.v[0])
        move.known |= PART_PNL
    return &move.pnl


cdef inline int move_sum(LimitBook limits, const Slot* slot, Move* move, const SymbolFactors* f) noexcept nogil:
    """Move the sum of a limit that a position is in, and judge it where it is not far from its limit."""
    cdef Sums* sums = &(<Sums*>limits.sums.data)[slot.index]
    if move.plain:
        wide_add_part(&sums.sum, part_of(move, slot.kind, f))
    else:
        move_long(sums, slot.kind, move, f)
    if not sums.is_busy and sum_is_far(sums, slot.kind):
        return 0
    return touch(limits, sums.key)


cdef inline bint part_is_near(LimitBook limits, const Slot* slot, Move* move, const SymbolFactors* f) noexcept nogil:
    """Whether a position's part of its account's gross may come to what its limit warns from; seldom that is not known."""
    cdef const Sums* gross = &(<const Sums*>limits.sums.data)[slot.index]
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[slot.limit]
    if gross.is_long:
        return True
    if within256(gross.sum.v, gross.bound):         # up to its floor
        return False
    if not (limit.narrow and move.after.marked and f.money.limbs == 1 and gross.sum.v[3] == 0):
        return True
    if not move.known & PART_WORTH:
        part_set(&move.worth, <i128>abs_i128(move.is_now), f.money.v[0])
        move.known |= PART_WORTH
    # 100 x worth / gross < warn, multiplied out; narrow: 100 x scale is below 2**63, and the worth fits 192 bits.
    return not is_below_scaled(move.worth.v, 100 * limit.scale.v[0], gross.sum.v, limit.warn.v[0])


cdef inline int move_concentration(LimitBook limits, const Slot* slot, uint32_t position, const Position* p, Move* move,
                                   const SymbolFactors* f) noexcept nogil:
    cdef Sums* gross = &(<Sums*>limits.sums.data)[slot.index]
    cdef bint near
    if move.plain:
        wide_add_part(&gross.sum, part_of(move, CONCENTRATION, f))
    else:
        move_long(gross, CONCENTRATION, move, f)
    near = part_is_near(limits, slot, move, f)
    return keep_key(limits, slot.limit, CONCENTRATION, position, near) if near or p.first_key else 0


cdef inline int move_sums(LimitBook limits, const Slot* slot, uint32_t position, const Position* p, Move* move) noexcept nogil:
    """All sums that a position is in; slot: the first of them."""
    cdef const Slot* end = slot + p.sum_count
    cdef const SymbolFactors* f = &(<const SymbolFactors*>limits.factors.data)[p.symbol]
    while slot < end:
        if slot.kind == CONCENTRATION:
            if move_concentration(limits, slot, position, p, move, f) < 0:
                return -1
        elif move_sum(limits, slot, move, f) < 0:
            return -1
        slot += 1
    return 0


cdef inline bint quantity_is_near(LimitBook limits, const Slot* slot, const Position* p, uint64_t quantity, uint64_t mark) noexcept nogil:
    """Whether a max_position or max_notional comes to what its limit warns from; warn_at is at most 1: what is below it is no
    breach either, and ok, unless it has a key that says otherwise."""
    cdef Rule* rule = &(<Rule*>limits.rules.data)[slot.index]
    if slot.kind == MAX_POSITION:
        return <u128>quantity >= rule.warn
    if <u128>quantity * <u128>mark >= rule.warn:
        return True
    if quantity > rule.ok_max:
        rule.ok_max = quantity
    set_standing(limits, slot.index, p, quantity, LEVEL_OK)
    return False


# --- what is kept for cells, or for keys of any size ---

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


cdef inline bint is_near(LimitBook limits, const Slot* slot, const Window* window, const Wide* sum) noexcept nogil:
    """Whether what a window holds comes to what its limit warns from. sum: NULL where it counts.

    2**32 amounts fit 256 bits. Where what it warns from does not, its low bits may say no: then it is judged in full.
    """
    if sum == NULL:
        return window.size >= window.near
    return not is_below256(sum.v, (<const Limit*>limits.limits.data)[slot.limit].sum_warn.v)


cdef inline int fill_window(LimitBook limits, const Slot* slot, Judge judge, const TradeFacts* trade, int exponent) noexcept nogil:
    """Take a trade into its window, and judge it where it is not far from its limit."""
    cdef Window* window = &(<Window*>limits.windows.data)[slot.index]
    cdef int64_t at = judge.event.executed_at, amount = 1
    cdef Wide* sum = NULL
    if trade == NULL:
        return 0
    if slot.kind == VOLUME_RATE:
        amount = <int64_t>abs_i64(trade.quantity)
        sum = &(<Sums*>limits.sums.data)[window.sums].sum
    if (not window_push(window, at, amount, exponent, sum, limits.quantity_scale)
            and window_add(window, at, amount, exponent, sum, limits.quantity_scale) < 0):
        return -1
    if window.is_busy or (is_near(limits, slot, window, sum) and is_near(limits, slot, settle(limits, slot.index), sum)):
        return touch(limits, window.key)
    return 0


cdef inline int fill_slot(LimitBook limits, const Slot* slot, const Symbol* s, int64_t mark, int64_t quantity, Judge judge,
                          const TradeFacts* trade) noexcept nogil:
    """Add a fill to what a limit keeps that has no window, does not sum and does not leave it to the position; and judge it."""
    cdef Key* key
    if slot.kind == MAX_POSITION:
        key = &(<Key*>limits.keys.data)[slot.index]
        key.quantity += quantity
        if key.level != LEVEL_OK or abs_i128(key.quantity) >= (<const Rule*>limits.rules.data)[key.rule].warn:
            return touch(limits, slot.index)
    elif slot.kind == MAX_NOTIONAL:
        key = &(<Key*>limits.keys.data)[slot.index]
        key.quantity += quantity
        if not (key.level == LEVEL_OK and notional_stays_ok(limits, key, s, mark)):
            return touch(limits, slot.index)
    elif trade != NULL and not is_small(limits, slot, trade):
        # A run of one trade says nothing, unless its limit warns from one.
        if (slot.kind != REPEATED_TRADE or (<const Limit*>limits.limits.data)[slot.limit].count_warn <= 1
                or not run_restart(run_of(limits, slot), judge.event.executed_at, trade.price, trade.quantity)):
            return judge.judge_slot(limits, slot, trade)
    return 0


cdef inline int fill_slots(LimitBook limits, const Cell* c, const Symbol* s, int64_t price, int64_t quantity, int64_t fee,
                           i128 cost_change, const Valuation* before, Judge judge, const TradeFacts* trade) noexcept nogil:
    """Add a fill (quantity signed; negated where one is taken out) to what is kept for a cell, and judge it.

    At the valuation that its position has. before: the one that sums over it still have it at (NULL: the same).
    cost_change: of the position, counted where it has no mark. trade: what judges it as the trade that it is (NULL: it is
    none, or not yet).
    """
    cdef const Slot* slot = &(<const Slot*>limits.slots.data)[c.slots]
    cdef const Slot* end = slot + c.slot_count
    cdef int64_t mark = s.mark if s.source else 0
    cdef int status
    while slot < end:
        if slot.kind == TRADE_RATE or slot.kind == VOLUME_RATE:
            status = fill_window(limits, slot, judge, trade, s.instrument.quantity_exponent)
        elif not is_sum(slot.kind):
            status = fill_slot(limits, slot, s, mark, quantity, judge, trade)
        elif before != NULL:
            status = move_node(limits, slot, before, price, quantity, fee)
        else:
            status = fill_node(limits, slot, price, quantity, fee, cost_change)
        if status < 0:
            return -1
        slot += 1
    return 0


cdef inline int fill_position(LimitBook limits, uint32_t position, const Position* p, const Symbol* s, Move* move, Judge judge,
                              const TradeFacts* trade) noexcept nogil:
    """Add a fill, which the position has, to what is kept for the position, and judge it. trade: as for `fill_slots`.

    move: `before`, `held` and the fill; what follows from them is found where it is wanted.
    """
    cdef const Slot* slot = slots_of(limits, p)
    cdef const Slot* end = slot + p.window_count
    cdef const Slot* last = slot + p.slot_count
    cdef int64_t mark = s.mark if s.source else 0
    cdef uint64_t quantity = abs_i64(p.quantity), price = abs_i64(mark)
    cdef bint near
    while slot < end:
        if fill_window(limits, slot, judge, trade, s.instrument.quantity_exponent) < 0:
            return -1
        slot += 1
    if p.sum_count:
        end_move(move, p, &(<const SymbolFactors*>limits.factors.data)[p.symbol])
        if move_sums(limits, slot, position, p, move) < 0:
            return -1
        slot += p.sum_count
    while slot < last:
        if slot.of == OF_POSITION:
            near = quantity_is_near(limits, slot, p, quantity, price)
            if (near or p.first_key) and keep_key(limits, slot.limit, slot.kind, position, near) < 0:
                return -1
        elif fill_slot(limits, slot, s, mark, move.quantity, judge, trade) < 0:
            return -1
        slot += 1
    return 0
