"""How fills and marks move what limits keep."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.limits cimport (ACCOUNT_GROSS, ASK_KEY, ASK_POSITION, CONCENTRATION, GROSS_NOTIONAL, GROUP_SUMS, Held, Holders, Key, LEVEL_BITS,
                         LEVEL_OK, Limit, MAX_NOTIONAL, MAX_POSITION, NET_NOTIONAL, NO_MEMBER, Node, OF_POSITION, PER_POSITION,
                         REPEATED_TRADE, Rule, Slot, Standings, Sums, SymbolFactors, add_absolute, has_group, is_sum,
                         key_of_position, level_of_count, note_level, note_width, slots_of, sum_is_far, sums_of, touch)
from ext.positions cimport Cell, MARK_NONE, Members, Position, Symbol, members_of, valued_at
from ext.records cimport u128
from ext.wide cimport (Factor, Wide, abs_i64, abs_i128, divmod_u128, fits_i64, is_below_scaled, wide_addmul, wide_addmul2,
                       wide_fits192, wide_within, wide_zero, prefetch)

cdef enum:
    MEMBERS_AHEAD = 8               # positions between the look at one and its valuation


cdef bint node_stays_ok(LimitBook limits, const Node* node, const Valuation* at, const Factor* money) noexcept nogil:
    """Whether what a node's sum is kept for is ok, was, and that is to be seen at a glance."""
    cdef const Key* key = &(<const Key*>limits.keys.data)[node.key]
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[key.limit]
    cdef const Sums* sums = &(<const Sums*>limits.sums.data)[node.sum]
    cdef Wide part
    if key.level != LEVEL_OK or key.frozen:
        return False
    if node.kind != CONCENTRATION:
        return sum_is_far(sums, node.kind)
    if wide_within(&sums.sum, limit.floor_bound):
        return True
    if not (limit.narrow and at.marked and money.limbs == 1 and fits_i64(node.quantity) and wide_fits192(&sums.sum)):
        return False
    wide_zero(&part)
    wide_addmul(&part, <i128>(<u128>abs_i128(node.quantity) * <u128>abs_i64(at.mark)), money)
    # 100 x part / gross < warn, multiplied out; narrow: 100 x scale is below 2**63, and the part fits 192 bits.
    return is_below_scaled(part.v, 100 * limit.scale.v[0], sums.sum.v, limit.warn.v[0])


cdef void add_value(Wide* sum, const Node* node, const Valuation* at, bint subtract, const Factor* money) noexcept nogil:
    """sum += or -= what the node is worth at a valuation."""
    cdef i128 quantity = -node.quantity if subtract else node.quantity
    if node.kind == GROSS_NOTIONAL or node.kind == CONCENTRATION:
        if at.marked:
            add_absolute(sum, node.quantity, at.mark, subtract, money)
    elif at.marked:
        wide_addmul2(sum, quantity, at.mark, money)
    elif node.kind != NET_NOTIONAL and node.adjusted:
        wide_addmul(sum, -at.cost if subtract else at.cost, money)


cdef bint same_value(const Valuation* a, const Valuation* b) noexcept nogil:
    return a.marked == b.marked and (a.mark == b.mark if a.marked else a.cost == b.cost)


cdef bint is_flat(LimitBook limits, const Position* p) noexcept nogil:
    """Whether no cell of it holds anything, so that no mark can move it."""
    cdef uint32_t cell = p.first_cell
    cdef const Cell* c
    if p.quantity:
        return False
    while cell:
        c = &(<const Cell*>limits.book.store.cells.data)[cell]
        if c.quantity or c.quantity_carry:
            return False
        cell = c.next_in_position
    return True


cdef int revalue_node(LimitBook limits, const Node* node, const Valuation* before, const Valuation* after,
                      const Factor* money) noexcept nogil:
    cdef Wide* sum = &(<Sums*>limits.sums.data)[node.sum].sum
    if before.marked and after.marked and fits_i64(node.quantity):
        # quantity x (mark - mark) at once: each product needs 127 bits at most.
        if node.kind == GROSS_NOTIONAL or node.kind == CONCENTRATION:
            wide_addmul(sum, <i128>abs_i128(node.quantity) * (<i128>abs_i64(after.mark) - <i128>abs_i64(before.mark)), money)
        else:
            wide_addmul(sum, node.quantity * <i128>after.mark - node.quantity * <i128>before.mark, money)
    elif not same_value(before, after):
        add_value(sum, node, before, True, money)
        add_value(sum, node, after, False, money)
    return 0 if node_stays_ok(limits, node, after, money) else touch(limits, node.key)


# --- positions ---------------------------------------------------------------------------------------------------

cdef void move_long(Sums* sums, uint8_t kind, const Move* move, const SymbolFactors* f) noexcept nogil:
    add_move(&sums.sum, kind, move, f)
    note_width(sums)


cdef void add_move(Wide* sum, uint8_t kind, const Move* move, const SymbolFactors* f) noexcept nogil:
    cdef const Valuation* before = &move.before
    cdef const Valuation* after = &move.after
    if kind == GROSS_NOTIONAL or kind == CONCENTRATION:
        if before.marked:
            add_absolute(sum, move.held, before.mark, True, &f.money)
        if after.marked:
            add_absolute(sum, move.holds, after.mark, False, &f.money)
        return
    if before.marked:
        wide_addmul2(sum, -<i128>move.held, before.mark, &f.money)
    elif kind != NET_NOTIONAL:
        wide_addmul(sum, -before.cost, &f.money)
    if after.marked:
        wide_addmul2(sum, move.holds, after.mark, &f.money)
    elif kind != NET_NOTIONAL:
        wide_addmul(sum, after.cost, &f.money)
    if kind != NET_NOTIONAL:
        wide_addmul2(sum, -<i128>move.quantity, move.price, &f.money)
        wide_addmul(sum, -<i128>move.fee, &f.fee)


cdef int keep_key(LimitBook limits, uint32_t limit, uint8_t kind, uint32_t position, bint near) noexcept nogil:
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[position]
    cdef uint32_t index = key_of_position(limits, p, limit)
    cdef const Key* key = &(<const Key*>limits.keys.data)[index]
    if not near and (index == 0 or (key.level == LEVEL_OK and not key.frozen)):
        return 0
    if index == 0:
        index = limits.ensure_key(limit, p.first_cell, kind, PER_POSITION)
        if index == 0 or limits.ensure_rule(index) < 0:
            return -1
    return touch(limits, index)


cdef void stay(Move* move, LimitBook limits, const Position* p, const Symbol* s) noexcept nogil:
    """A position goes to its symbol's current mark."""
    move.before.marked = valued_at(p, s, &move.before.mark)
    move.before.cost = move.after.cost = p.cost
    move.after.marked = s.source != MARK_NONE
    move.after.mark = s.mark
    move.held = move.holds = p.quantity
    move.price = move.quantity = move.fee = 0
    begin_move(move, &(<const SymbolFactors*>limits.factors.data)[p.symbol])


cdef int revalue_sums(LimitBook limits, uint32_t position, const Symbol* s) noexcept nogil:
    """Value a position in the sums of limits that match all of it."""
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[position]
    cdef Move move
    stay(&move, limits, p, s)
    return move_sums(limits, &slots_of(limits, p)[p.window_count], position, p, &move)


cdef int touch_near(LimitBook limits, uint32_t position) noexcept nogil:
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[position]
    cdef const Symbol* s = &(<const Symbol*>limits.book.store.symbols.data)[p.symbol]
    cdef const SymbolFactors* f = &(<const SymbolFactors*>limits.factors.data)[p.symbol]
    cdef const Slot* slot = slots_of(limits, p)
    cdef const Slot* end = slot + p.slot_count
    cdef Move move
    cdef bint near
    stay(&move, limits, p, s)
    move.after = move.before            # a concentration is judged as last valued
    move.is_now = move.was
    while slot < end:
        if slot.of == OF_POSITION:
            if slot.kind == CONCENTRATION:
                near = part_is_near(limits, slot, &move, f)
            else:
                near = quantity_is_near(limits, slot, p, abs_i64(p.quantity), abs_i64(s.mark) if s.source else 0)
            if keep_key(limits, slot.limit, slot.kind, position, near) < 0:
                return -1
        slot += 1
    return 0


cdef int touch_position(LimitBook limits, uint32_t position) noexcept nogil:
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[position]
    cdef const Slot* slot = slots_of(limits, p)
    cdef const Slot* end = slot + p.slot_count
    while slot < end:
        if slot.of != OF_POSITION and (is_sum(slot.kind) or slot.kind == MAX_POSITION or slot.kind == MAX_NOTIONAL):
            if touch(limits, sums_of(limits, slot).key if is_sum(slot.kind) else slot.index) < 0:
                return -1
        slot += 1
    return touch_near(limits, position)


cdef int revalue_position(LimitBook limits, uint32_t position) noexcept nogil:
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[position]
    if has_group(limits, GROUP_SUMS) and revalue_sums(limits, position, &(<const Symbol*>limits.book.store.symbols.data)[p.symbol]) < 0:
        return -1
    return revalue_cells(limits, position)


cdef int revalue_cells(LimitBook limits, uint32_t position) noexcept nogil:
    cdef Position* p = &(<Position*>limits.book.store.positions.data)[position]
    cdef const Symbol* s = &(<const Symbol*>limits.book.store.symbols.data)[p.symbol]
    cdef Valuation before, after
    cdef uint32_t index
    cdef const Node* node
    if p.first_node:
        before.marked = valued_at(p, s, &before.mark)
        before.cost = after.cost = p.cost
        after.marked = s.source != MARK_NONE
        after.mark = s.mark
        index = p.first_node
        while index:
            node = &(<const Node*>limits.nodes.data)[index]
            if revalue_node(limits, node, &before, &after, &(<SymbolFactors*>limits.factors.data)[p.symbol].money) < 0:
                return -1
            index = node.next_in_position
    p.mark = s.mark
    p.valued = s.source != MARK_NONE
    p.valuation = s.valuation
    # The cell that a fill changes is touched by it; others of the position only by this valuation.
    if limits.has_cell_notional and (<const Cell*>limits.book.store.cells.data)[p.first_cell].next_in_position:
        return touch_notionals(limits, p.first_cell)
    return 0


cdef int touch_notionals(LimitBook limits, uint32_t cell) noexcept nogil:
    """A notional is judged at the current mark when any cell of its key is valued."""
    cdef const Cell* c
    cdef const Slot* slot
    cdef uint32_t i
    while cell:
        c = &(<const Cell*>limits.book.store.cells.data)[cell]
        for i in range(c.slot_count):
            slot = &(<const Slot*>limits.slots.data)[c.slots + i]
            if slot.kind == MAX_NOTIONAL and touch(limits, slot.index) < 0:
                return -1
        cell = c.next_in_position
    return 0


cdef bint is_quiet(LimitBook limits, const Rule* rule, uint64_t mark) noexcept nogil:
    """Whether no notional of the rule leaves its level at this mark, judged by the extremes of each level."""
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[rule.limit]
    cdef u128 low = rule.clear if limit.has_clear else rule.warn
    cdef uint64_t none = ~<uint64_t>0
    if rule.ok_max == none or rule.warn_max == none:        # wider than 64 bits
        return False
    return (<u128>rule.ok_max * <u128>mark < rule.warn and <u128>rule.warn_max * <u128>mark <= rule.above
            and (rule.warn_min == none or <u128>rule.warn_min * <u128>mark >= low)
            and (rule.breach_min == none or <u128>rule.breach_min * <u128>mark > rule.above))


cdef int revalue_notionals(LimitBook limits, uint32_t symbol) noexcept nogil:
    cdef const Symbol* s = &(<const Symbol*>limits.book.store.symbols.data)[symbol]
    cdef uint32_t index = s.first_rule, number
    cdef uint64_t mark = abs_i64(s.mark) if s.source else 0
    cdef const Limit* limit
    cdef Rule* rule
    while index:
        number = index
        rule = &(<Rule*>limits.rules.data)[index]
        index = rule.next_in_symbol
        limit = &(<const Limit*>limits.limits.data)[rule.limit]
        if limit.kind != MAX_NOTIONAL or is_quiet(limits, rule, mark):
            continue
        rule.ok_max = rule.warn_max = 0         # found again while its keys are judged
        rule.warn_min = rule.breach_min = ~<uint64_t>0
        if number < limits.standings.count and revalue_standings(limits, number, mark) < 0:
            return -1
        if number < limits.holders.count and revalue_holders(limits, rule, &(<const Holders*>limits.holders.data)[number], mark) < 0:
            return -1
    return 0


cdef uint64_t least_quantity(u128 value, uint64_t mark) noexcept nogil:
    """The least quantity that comes to a value at a mark: one below it is worth less. At most ASK_KEY."""
    cdef uint64_t rest
    cdef u128 quantity
    if mark == 0:
        return <uint64_t>ASK_KEY if value else 0
    quantity = divmod_u128(value, mark, &rest)
    if rest:
        quantity += 1
    return <uint64_t>min(quantity, <u128><uint64_t>ASK_KEY)


cdef int revalue_holders(LimitBook limits, Rule* rule, const Holders* holders, uint64_t mark) noexcept nogil:
    """Judge notionals at a new mark where they stand; only keys whose level changes are put on the list."""
    cdef const Held* held = holders.entries
    cdef const Held* end = held + holders.count
    cdef uint64_t fine = least_quantity(rule.warn, mark), ok_max = 0
    cdef u128 value
    while held < end:
        # Most are ok and stay it.
        if held.quantity < fine and held.level == LEVEL_OK:
            ok_max = max(ok_max, held.quantity)
            held += 1
            continue
        value = <u128>held.quantity * <u128>mark
        if (held.quantity == <uint64_t>ASK_KEY
                or level_of_count(value, rule.above, rule.warn, rule.clear, <uint8_t>held.level) != held.level):
            if touch(limits, held.key) < 0:
                return -1
        else:
            note_level(rule, <uint8_t>held.level, held.quantity)
        held += 1
    note_level(rule, LEVEL_OK, ok_max)
    return 0


cdef int revalue_standings(LimitBook limits, uint32_t number, uint64_t mark) noexcept nogil:
    """As `revalue_holders`, for a rule whose keys are kept for each position and mostly not made."""
    cdef Rule* rule = &(<Rule*>limits.rules.data)[number]
    cdef const Standings* standings = &(<const Standings*>limits.standings.data)[number]
    cdef uint64_t fine = least_quantity(rule.warn, mark), quantity, ok_max = 0
    cdef uint32_t i
    cdef uint8_t level
    for i in range(standings.capacity):
        quantity = standings.of[i] >> LEVEL_BITS
        level = standings.of[i] & ((1 << LEVEL_BITS) - 1)
        # Most are ok and stay it.
        if level == LEVEL_OK and quantity < fine:
            ok_max = max(ok_max, quantity)
            continue
        if standings.of[i] == NO_MEMBER:
            continue
        if (standings.of[i] == <uint64_t>ASK_POSITION
                or level_of_count(<u128>quantity * <u128>mark, rule.above, rule.warn, rule.clear, level) != level):
            if keep_key(limits, rule.limit, MAX_NOTIONAL, members_of(&limits.book.store, rule.symbol).positions[i], True) < 0:
                return -1
        else:
            note_level(rule, level, quantity)
    note_level(rule, LEVEL_OK, ok_max)
    return 0


cdef int revalue_symbol(LimitBook limits, uint32_t symbol) noexcept nogil:
    cdef Symbol* s = &(<Symbol*>limits.book.store.symbols.data)[symbol]
    cdef const Factor* money = &(<SymbolFactors*>limits.factors.data)[symbol].money
    cdef const Position* p
    cdef const Node* node
    cdef const Node* coming
    cdef Valuation before, after
    cdef uint32_t index = s.first_node
    after.mark = s.mark
    after.marked = s.source != MARK_NONE
    while index:
        node = &(<const Node*>limits.nodes.data)[index]
        coming = &(<const Node*>limits.nodes.data)[node.next_in_symbol]
        prefetch(&(<const Node*>limits.nodes.data)[coming.next_in_symbol])
        prefetch(&(<const Position*>limits.book.store.positions.data)[coming.position])
        p = &(<const Position*>limits.book.store.positions.data)[node.position]
        before.marked = valued_at(p, s, &before.mark)
        before.cost = after.cost = p.cost
        if not is_flat(limits, p) and revalue_node(limits, node, &before, &after, money) < 0:
            return -1
        index = node.next_in_symbol
    if has_group(limits, GROUP_SUMS) and revalue_members_sums(limits, symbol) < 0:
        return -1
    s.valuation += 1
    s.valued_mark = s.mark
    s.valued = s.source != MARK_NONE
    return revalue_notionals(limits, symbol)


cdef int revalue_members_sums(LimitBook limits, uint32_t symbol) noexcept nogil:
    cdef const Symbol* s = &(<const Symbol*>limits.book.store.symbols.data)[symbol]
    cdef const Members* members = members_of(&limits.book.store, symbol)
    cdef const Position* positions = <const Position*>limits.book.store.positions.data
    cdef const Position* p
    cdef uint32_t i
    for i in range(members.count):
        if i + MEMBERS_AHEAD < members.count:
            prefetch(&positions[members.positions[i + MEMBERS_AHEAD]])
            prefetch(&positions[members.positions[i + MEMBERS_AHEAD]].slot_count)
        if i + MEMBERS_AHEAD // 2 < members.count:
            p = &positions[members.positions[i + MEMBERS_AHEAD // 2]]
            prefetch(&slots_of(limits, p)[p.window_count])
        p = &positions[members.positions[i]]
        if p.sum_count and not (p.quantity == 0 and is_flat(limits, p)) and revalue_sums(limits, members.positions[i], s) < 0:
            return -1
    return 0


cdef int fill_cell_slots(LimitBook limits, const Cell* c, const Symbol* s, const Move* move, const Valuation* before, Judge judge,
                         const TradeFacts* trade) noexcept nogil:
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[c.position]
    return fill_slots(limits, c, s, move.price, move.quantity, move.fee, p.cost - move.before.cost, before, judge, trade)


cdef int fill_adjusted(LimitBook limits, uint32_t position, const Position* p, const Symbol* s, Move* move, Judge judge) noexcept nogil:
    return fill_position(limits, position, p, s, move, judge, NULL)


cdef int fill_cell(LimitBook limits, uint32_t cell, int64_t price, int64_t quantity, int64_t fee, Judge judge) noexcept nogil:
    cdef const Cell* c = &(<const Cell*>limits.book.store.cells.data)[cell]
    cdef uint32_t symbol = (<const Position*>limits.book.store.positions.data)[c.position].symbol
    return fill_slots(limits, c, &(<const Symbol*>limits.book.store.symbols.data)[symbol], price, quantity, fee, 0,
                      NULL, judge, NULL)


cdef int fill_node(LimitBook limits, const Slot* slot, int64_t price, int64_t quantity, int64_t fee,
                   i128 cost_change) noexcept nogil:
    cdef Node* node = &(<Node*>limits.nodes.data)[slot.index]
    cdef Wide* sum = &(<Sums*>limits.sums.data)[node.sum].sum
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[node.position]
    cdef const SymbolFactors* f = &(<SymbolFactors*>limits.factors.data)[p.symbol]
    cdef int64_t mark
    cdef bint marked = valued_at(p, &(<const Symbol*>limits.book.store.symbols.data)[p.symbol], &mark)
    if slot.kind == GROSS_NOTIONAL or slot.kind == CONCENTRATION:
        if marked:
            add_absolute_change(sum, node.quantity, node.quantity + quantity, mark, &f.money)
    elif slot.kind == NET_NOTIONAL:
        if marked:
            wide_addmul2(sum, quantity, mark, &f.money)
    elif not marked or mark != price:
        if marked:
            wide_addmul2(sum, quantity, mark, &f.money)
        add_pnl(sum, price, quantity, fee, 0 if marked else cost_change, f)
    else:
        # What is bought at the mark is worth what was paid for it.
        wide_addmul(sum, -<i128>fee, &f.fee)
    node.quantity += quantity
    return touch(limits, node.key)


cdef int move_node(LimitBook limits, const Slot* slot, const Valuation* before, int64_t price, int64_t quantity,
                   int64_t fee) noexcept nogil:
    cdef Node* node = &(<Node*>limits.nodes.data)[slot.index]
    cdef Wide* sum = &(<Sums*>limits.sums.data)[node.sum].sum
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[node.position]
    cdef const SymbolFactors* f = &(<SymbolFactors*>limits.factors.data)[p.symbol]
    cdef i128 held = node.quantity, holds = held + quantity, change
    cdef Valuation after
    cdef int64_t mark = before.mark if before.marked else 0
    after.mark = p.mark
    after.marked = p.valued
    after.cost = before.cost
    if not (after.marked and (before.marked or (held == 0 and before.cost == 0)) and fits_i64(held) and fits_i64(holds)):
        if revalue_node(limits, node, before, &after, &f.money) < 0:
            return -1
        return fill_node(limits, slot, price, quantity, fee, p.cost - before.cost)
    # Each product needs 126 bits at most.
    if node.kind == GROSS_NOTIONAL or node.kind == CONCENTRATION:
        change = <i128>abs_i128(holds) * <i128>abs_i64(after.mark) - <i128>abs_i128(held) * <i128>abs_i64(mark)
    elif node.kind == NET_NOTIONAL:
        change = holds * <i128>after.mark - held * <i128>mark
    else:
        # What is bought at the mark is worth what was paid for it.
        change = held * <i128>after.mark - held * <i128>mark
        if after.mark != price:
            wide_addmul(sum, <i128>quantity * <i128>after.mark - <i128>quantity * <i128>price, &f.money)
        if fee:
            wide_addmul(sum, -<i128>fee, &f.fee)
    wide_addmul(sum, change, &f.money)
    node.quantity = holds
    return 0 if node_stays_ok(limits, node, &after, &f.money) else touch(limits, node.key)


cdef void add_absolute_change(Wide* sum, i128 before, i128 after, int64_t mark, const Factor* money) noexcept nogil:
    cdef i128 change
    if fits_i64(before) and fits_i64(after):
        change = <i128>abs_i128(after) - <i128>abs_i128(before)
        wide_addmul(sum, change * <i128>abs_i64(mark), money)
        return
    add_absolute(sum, before, mark, True, money)
    add_absolute(sum, after, mark, False, money)


cdef void add_pnl(Wide* sum, int64_t price, int64_t quantity, int64_t fee, i128 cost_change, const SymbolFactors* f) noexcept nogil:
    wide_addmul2(sum, -<i128>quantity, price, &f.money)
    wide_addmul(sum, cost_change, &f.money)
    wide_addmul(sum, -<i128>fee, &f.fee)


cdef int touch_all(LimitBook limits) noexcept nogil:
    """Every key that has a level."""
    cdef uint32_t i
    cdef const Key* key
    for i in range(1, limits.keys.count):
        key = &(<const Key*>limits.keys.data)[i]
        if key.kind != ACCOUNT_GROSS and key.kind != REPEATED_TRADE and touch(limits, i) < 0:
            return -1
    for i in range(1, limits.book.store.positions.count):
        if touch_near(limits, i) < 0:
            return -1
    return 0
