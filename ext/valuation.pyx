"""How fills and marks move what limits keep."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from ext.limits cimport (ACCOUNT_GROSS, ASK_KEY, CONCENTRATION, GROSS_NOTIONAL, Held, Holders, Key, LEVEL_OK, Limit,
                         MAX_NOTIONAL, NET_NOTIONAL, Node, REPEATED_TRADE, Rule, Slot, Sums, SymbolFactors, add_absolute,
                         level_of_count, note_level, sum_is_far, touch)
from ext.positions cimport Cell, MARK_NONE, Position, Symbol, valued_at
from ext.records cimport u128
from ext.wide cimport (Factor, Wide, abs_i64, abs_i128, divmod_u128, fits_i64, wide_addmul, wide_addmul2, wide_cmp_scaled,
                       wide_fits192, wide_within, wide_zero, prefetch)


cdef bint node_stays_ok(LimitBook limits, const Node* node, const Valuation* at, const Factor* money) noexcept nogil:
    """Whether what a node's sum is kept for is ok, was, and that is to be seen at a glance."""
    cdef const Key* key = &(<const Key*>limits.keys.data)[node.key]
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[key.limit]
    cdef const Sums* sums = &(<const Sums*>limits.sums.data)[node.sum]
    cdef Wide part
    if key.level != LEVEL_OK or key.frozen:
        return False
    if node.kind != CONCENTRATION:
        return sum_is_far(sums, limit)
    if wide_within(&sums.sum, limit.floor_bound):
        return True
    if not (limit.narrow and at.marked and money.limbs == 1 and fits_i64(node.quantity) and wide_fits192(&sums.sum)):
        return False
    wide_zero(&part)
    wide_addmul(&part, <i128>(<u128>abs_i128(node.quantity) * <u128>abs_i64(at.mark)), money)
    # 100 x part / gross < warn, multiplied out; narrow: 100 x scale is below 2**63, and the part fits 192 bits.
    return wide_cmp_scaled(&part, 100 * limit.scale.v[0], &sums.sum, limit.warn.v[0]) < 0


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


cdef int revalue_position(LimitBook limits, uint32_t position) noexcept nogil:
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
    if limits.has_notional and (<const Cell*>limits.book.store.cells.data)[p.first_cell].next_in_position:
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
            if slot.kind == MAX_NOTIONAL and touch(limits, slot.key) < 0:
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
    cdef Rule* rule
    while index:
        number = index
        rule = &(<Rule*>limits.rules.data)[index]
        index = rule.next_in_symbol
        if (number >= limits.holders.count or (<const Limit*>limits.limits.data)[rule.limit].kind != MAX_NOTIONAL
                or is_quiet(limits, rule, abs_i64(s.mark) if s.source else 0)):
            continue
        rule.ok_max = rule.warn_max = 0         # found again while its keys are judged
        rule.warn_min = rule.breach_min = ~<uint64_t>0
        if revalue_holders(limits, rule, &(<const Holders*>limits.holders.data)[number], abs_i64(s.mark) if s.source else 0) < 0:
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
    s.valuation += 1
    s.valued_mark = s.mark
    s.valued = s.source != MARK_NONE
    return revalue_notionals(limits, symbol)


cdef int fill_cell(LimitBook limits, uint32_t cell, int64_t price, int64_t quantity, int64_t fee, Judge judge) noexcept nogil:
    cdef const Cell* c = &(<const Cell*>limits.book.store.cells.data)[cell]
    cdef uint32_t symbol = (<const Position*>limits.book.store.positions.data)[c.position].symbol
    return fill_slots(limits, c, &(<const Symbol*>limits.book.store.symbols.data)[symbol], price, quantity, fee, 0,
                      NULL, judge, NULL)


cdef int fill_node(LimitBook limits, const Slot* slot, int64_t price, int64_t quantity, int64_t fee,
                   i128 cost_change) noexcept nogil:
    cdef Node* node = &(<Node*>limits.nodes.data)[slot.node]
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
    return touch(limits, slot.key)


cdef int move_node(LimitBook limits, const Slot* slot, const Valuation* before, int64_t price, int64_t quantity,
                   int64_t fee) noexcept nogil:
    cdef Node* node = &(<Node*>limits.nodes.data)[slot.node]
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
    return 0 if node_stays_ok(limits, node, &after, &f.money) else touch(limits, slot.key)


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
    return 0
