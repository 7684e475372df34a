"""Limits compiled into slots. A position and a cell are matched once, when they are first seen; from then on a trade costs only
what matches."""

from libc.stdint cimport UINT32_MAX
from libc.stdlib cimport free
from libc.string cimport memchr, memcpy, memset

from ext.arrays cimport (array_add, array_extend, array_free, array_reserve, list_reserve, table_free, table_home, table_put,
                         table_reserve)
from ext.definitions cimport glob_match
from ext.positions cimport SLOTS_HERE, Baseline, Members, cell_quantity, members_of, valued_at
from ext.records cimport NAME_ACCOUNT, NAME_SYMBOL, NAME_VENUE
from ext.wide cimport (abs_i64, abs_i128, factor_set, mix, wide_add, wide_bound, wide_addmul, wide_addmul2, wide_mul_pow10,
                       wide_fits224, wide_mul_u64, wide_quotient, wide_abs, wide_is_zero, wide_neg, wide_saturate_u128,
                       wide_set_u128, wide_sub, wide_zero)
from ext.windows cimport Run, Window, run_clear, window_clear

cdef enum:
    MONEY_SCALE = -26               # 1e-9 x 1e-8 x 1e-9: the defaults, with rates of nine decimals, never rescale
    QUANTITY_SCALE = -9


# --- values ------------------------------------------------------------------------------------------------------

cdef void to_units(Wide* out, const Wide* t, int exponent, const Wide* unit, int unit_exponent, bint up) noexcept nogil:
    cdef Wide by = unit[0]
    out[0] = t[0]
    if exponent >= unit_exponent:
        wide_mul_pow10(out, exponent - unit_exponent)
    else:
        wide_mul_pow10(&by, unit_exponent - exponent)
    wide_quotient(out, &by, 1 if up else 0)


cdef void add_absolute(Wide* sum, i128 quantity, int64_t mark, bint subtract, const Factor* factor) noexcept nogil:
    cdef i128 q = <i128>abs_i128(quantity)
    if (mark < 0) != subtract:
        q = -q
    wide_addmul2(sum, q, mark, factor)


cdef void add_baseline(Wide* sum, const Baseline* b, const SymbolFactors* f, bint subtract) noexcept nogil:
    """sum += or -= cash + quantity x mark - fees of a cell, in base currency."""
    cdef Wide part
    wide_zero(&part)
    if b.cash_carry:
        wide_addmul(&part, <i128>b.cash_carry, &f.money)
        wide_mul_u64(&part, <uint64_t>1 << 63)
        wide_mul_u64(&part, <uint64_t>1 << 63)
        wide_mul_u64(&part, 4)
    wide_addmul(&part, b.cash, &f.money)
    if b.marked:
        wide_addmul2(&part, b.quantity, b.mark, &f.money)
    else:
        wide_addmul(&part, b.cost, &f.money)
    wide_addmul(&part, -b.fees, &f.fee)
    if subtract:
        wide_sub(sum, &part)
    else:
        wide_add(sum, &part)


cdef uint64_t key_hash(uint32_t limit, uint8_t kind, uint8_t per, const Position* p, const Cell* c) noexcept nogil:
    cdef uint64_t a = <uint64_t>(p.account if per & PER_ACCOUNT else 0) << 32 | (p.symbol if per & PER_SYMBOL else 0)
    cdef uint64_t b = <uint64_t>(c.venue if per & PER_VENUE else 0) << 32 | (c.strategy if per & PER_STRATEGY else 0)
    return mix(mix(a, b), <uint64_t>kind << 32 | limit)


cdef bint same_names(uint8_t per, const Position* p, const Cell* c, const Position* q, const Cell* d) noexcept nogil:
    return ((not per & PER_ACCOUNT or p.account == q.account) and (not per & PER_SYMBOL or p.symbol == q.symbol)
            and (not per & PER_VENUE or c.venue == d.venue) and (not per & PER_STRATEGY or c.strategy == d.strategy))


cdef int group_of(const Limit* limit) noexcept nogil:
    if not limit.whole:
        return GROUP_CELLS
    if limit.kind == TRADE_RATE or limit.kind == VOLUME_RATE:
        return GROUP_WINDOWS
    if is_sum(limit.kind):
        return GROUP_SUMS
    return GROUP_OTHERS


cdef void notional_of(LimitBook limits, const Key* key, Wide* out) noexcept nogil:
    """|quantity| x |mark of its last judgement| in the base currency at money_scale."""
    cdef uint32_t symbol = (<const Rule*>limits.rules.data)[key.rule].symbol
    wide_zero(out)
    add_absolute(out, quantity_of_key(limits, key), key.mark, False, &(<SymbolFactors*>limits.factors.data)[symbol].money)


cdef void part_of_gross(LimitBook limits, const Key* key, Wide* out) noexcept nogil:
    """100 x the notional of a concentration key, as last valued."""
    cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[
        (<const Cell*>limits.book.store.cells.data)[key.cell].position]
    cdef i128 quantity = p.quantity
    cdef int64_t mark
    wide_zero(out)
    if not key.of_position:
        if key.node == 0:           # no cell of it matches any more
            return
        quantity = (<const Node*>limits.nodes.data)[key.node].quantity
    if valued_at(p, &(<const Symbol*>limits.book.store.symbols.data)[p.symbol], &mark):
        add_absolute(out, quantity, mark, False, &(<SymbolFactors*>limits.factors.data)[p.symbol].money)
    wide_mul_u64(out, 100)


cdef void sum_value(const Sums* sums, uint8_t kind, Wide* out) noexcept nogil:
    out[0] = sums.sum
    if kind == NET_NOTIONAL:
        wide_abs(out)
    elif kind == MAX_LOSS:
        wide_neg(out)
    elif kind == MAX_DRAWDOWN:
        out[0] = sums.peak
        wide_sub(out, &sums.sum)


cdef class LimitBook:
    """One set of limits over a book of positions; a LimitsChanged makes a new one. Its limits are read by ext/limitfile.pyx."""

    def __cinit__(self, Book book not None, Instruments instruments not None, names not None, bytes source not None):
        self.book = book
        self.instruments = instruments
        self.symbols, self.accounts, self.venues, self.strategies = names
        self.source = source
        self.texts = []
        self.money_scale = MONEY_SCALE
        self.quantity_scale = QUANTITY_SCALE

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self.windows.count):
            window_clear(&(<Window*>self.windows.data)[i])
        for i in range(self.runs.count):
            run_clear(&(<Run*>self.runs.data)[i])
        for i in range(self.holders.count):
            free((<Holders*>self.holders.data)[i].entries)
        for i in range(self.standings.count):
            free((<Standings*>self.standings.data)[i].of)
        array_free(&self.holders)
        array_free(&self.standings)
        array_free(&self.limits)
        array_free(&self.keys)
        array_free(&self.slots)
        array_free(&self.nodes)
        array_free(&self.rules)
        array_free(&self.sums)
        array_free(&self.windows)
        array_free(&self.by_group)
        array_free(&self.runs)
        array_free(&self.lasts)
        array_free(&self.factors)
        array_free(&self.rates)
        array_free(&self.touched)
        table_free(&self.key_table)

    # --- names and matching --------------------------------------------------------------------------------------

    cdef const uint8_t* name(self, int dimension, uint32_t cell, size_t* length) noexcept nogil:
        cdef const Cell* c = &(<const Cell*>self.book.store.cells.data)[cell]
        cdef const Position* p = &(<const Position*>self.book.store.positions.data)[c.position]
        if dimension == NAME_SYMBOL:
            return self.symbols.text(p.symbol, length)
        if dimension == NAME_ACCOUNT:
            return self.accounts.text(p.account, length)
        if dimension == NAME_VENUE:
            return self.venues.text(c.venue, length)
        return self.strategies.text(c.strategy, length)

    cdef bint matches(self, const Limit* limit, uint32_t cell) noexcept nogil:
        cdef size_t length
        cdef const uint8_t* text
        cdef int i
        for i in range(4):
            if limit.globs[i] != NULL:
                text = self.name(i, cell, &length)
                if not glob_match(limit.globs[i], limit.glob_lengths[i], text, length):
                    return False
        return True

    # --- units ---------------------------------------------------------------------------------------------------

    cdef int use_symbol(self, uint32_t symbol) noexcept nogil:
        cdef Symbol* s = &(<Symbol*>self.book.store.symbols.data)[symbol]
        cdef size_t length
        cdef const uint8_t* text = self.symbols.text(symbol, &length)
        self.instruments.resolve(text, length, &s.instrument)
        s.used = 1
        return self.set_factors(symbol)

    cdef int set_factors(self, uint32_t symbol) noexcept nogil:
        cdef const Symbol* s = &(<const Symbol*>self.book.store.symbols.data)[symbol]
        cdef SymbolFactors* f
        cdef Rate rate
        cdef Wide w
        cdef int money
        if array_extend(&self.factors, symbol + 1, sizeof(SymbolFactors)) < 0:
            return -1
        f = &(<SymbolFactors*>self.factors.data)[symbol]
        memset(&rate, 0, sizeof(rate))      # a currency without a rate is worth nothing: never 1.0
        if s.instrument.currency < self.rates.count:
            rate = (<Rate*>self.rates.data)[s.instrument.currency]
        money = (s.instrument.price_exponent + s.instrument.quantity_exponent
                 + s.instrument.multiplier_exponent + rate.exponent)
        if money < self.money_scale and self.rescale_money(money) < 0:
            return -1
        if rate.exponent - 9 < self.money_scale and self.rescale_money(rate.exponent - 9) < 0:
            return -1
        if s.instrument.quantity_exponent < self.quantity_scale:
            self.rescale_quantity(s.instrument.quantity_exponent)
        wide_set_u128(&f.rate, <uint64_t>rate.mantissa)
        wide_mul_u64(&f.rate, <uint64_t>s.instrument.multiplier)
        f.rate_exponent = money
        w = f.rate
        wide_mul_pow10(&w, money - self.money_scale)
        factor_set(&f.money, &w)
        wide_set_u128(&w, <uint64_t>rate.mantissa)
        wide_mul_pow10(&w, rate.exponent - 9 - self.money_scale)
        factor_set(&f.fee, &w)
        return 0

    cdef int rescale_money(self, int scale) noexcept nogil:
        """A finer unit of money has come: everything kept in the old one is worth more of the new."""
        cdef uint32_t i, symbol
        cdef int shift = self.money_scale - scale
        cdef Key* key
        cdef Sums* sums
        self.money_scale = scale
        for i in range(1, self.keys.count):
            key = &(<Key*>self.keys.data)[i]
            if is_sum(key.kind) and key.kind != CONCENTRATION or key.kind == ACCOUNT_GROSS:
                sums = &(<Sums*>self.sums.data)[key.state]
                wide_mul_pow10(&sums.sum, shift)
                wide_mul_pow10(&sums.peak, shift)
                note_width(sums)
                sums.is_long |= not wide_fits224(&sums.peak)
        self.set_limit_levels()
        for symbol in range(1, self.book.store.symbols.count):
            if (<Symbol*>self.book.store.symbols.data)[symbol].used and symbol < self.factors.count:
                if self.set_factors(symbol) < 0:
                    return -1
        return 0

    cdef int rescale_quantity(self, int scale) noexcept nogil:
        cdef uint32_t i
        cdef Key* key
        for i in range(1, self.keys.count):
            key = &(<Key*>self.keys.data)[i]
            if key.kind == VOLUME_RATE:
                wide_mul_pow10(&(<Sums*>self.sums.data)[key.node].sum, self.quantity_scale - scale)
        self.quantity_scale = scale
        self.set_limit_levels()
        return 0

    cdef void set_limit_levels(self) noexcept nogil:
        cdef uint32_t i
        cdef Limit* limit
        cdef Wide one, count
        cdef int scale
        wide_set_u128(&one, 1)
        for i in range(1, self.limits.count):
            limit = &(<Limit*>self.limits.data)[i]
            scale = self.quantity_scale if limit.kind == VOLUME_RATE else self.money_scale
            to_units(&limit.sum_above, &limit.threshold, limit.exponent, &one, scale, False)
            to_units(&limit.sum_warn, &limit.warn, limit.exponent, &one, scale, True)
            to_units(&limit.sum_clear, &limit.clear, limit.exponent, &one, scale, True)
            to_units(&limit.sum_floor, &limit.floor, limit.exponent, &one, scale, False)
            limit.sum_bound = wide_bound(&limit.sum_warn)
            limit.floor_bound = wide_bound(&limit.sum_floor)
            to_units(&count, &limit.threshold, limit.exponent, &one, 0, False)
            limit.count_above = wide_saturate_u128(&count)
            to_units(&count, &limit.warn, limit.exponent, &one, 0, True)
            limit.count_warn = wide_saturate_u128(&count)
            to_units(&count, &limit.clear, limit.exponent, &one, 0, True)
            limit.count_clear = wide_saturate_u128(&count)

        for i in range(1, self.keys.count):
            self.set_bound(&(<const Key*>self.keys.data)[i])

    cdef void set_bound(self, const Key* key) noexcept nogil:
        cdef const Limit* limit = &(<const Limit*>self.limits.data)[key.limit]
        if key.kind == ACCOUNT_GROSS:
            (<Sums*>self.sums.data)[key.state].bound = limit.floor_bound
        elif is_sum(key.kind) and key.kind != CONCENTRATION:
            (<Sums*>self.sums.data)[key.state].bound = limit.sum_bound

    cdef void set_rule_levels(self, Rule* rule) noexcept nogil:
        cdef const Limit* limit = &(<const Limit*>self.limits.data)[rule.limit]
        cdef const Symbol* s = &(<const Symbol*>self.book.store.symbols.data)[rule.symbol]
        cdef const SymbolFactors* f = &(<const SymbolFactors*>self.factors.data)[rule.symbol]
        cdef Wide unit, w
        cdef int exponent = s.instrument.quantity_exponent
        wide_set_u128(&unit, 1)
        if limit.kind == MAX_NOTIONAL or limit.kind == MAX_TRADE_NOTIONAL:
            unit = f.rate
            exponent = f.rate_exponent
            if f.money.limbs == 1 and f.money.v[0] == 0:        # no rate: nothing is worth anything
                rule.above = rule.warn = rule.clear = ~<u128>0
                return
        to_units(&w, &limit.threshold, limit.exponent, &unit, exponent, False)
        rule.above = wide_saturate_u128(&w)
        to_units(&w, &limit.warn, limit.exponent, &unit, exponent, True)
        rule.warn = wide_saturate_u128(&w)
        to_units(&w, &limit.clear, limit.exponent, &unit, exponent, True)
        rule.clear = wide_saturate_u128(&w)

    # --- slots, keys, nodes, rules -------------------------------------------------------------------------------

    cdef object sort_limits(self):
        cdef uint32_t i
        cdef int group
        if array_reserve(&self.by_group, self.limits.count + 1, sizeof(uint32_t)) < 0:
            raise MemoryError
        self.group_at[0] = 1
        for group in range(GROUP_CELLS + 1):
            for i in range(1, self.limits.count):
                if group_of(&(<const Limit*>self.limits.data)[i]) == group:
                    (<uint32_t*>self.by_group.data)[array_add(&self.by_group, sizeof(uint32_t))] = i
            self.group_at[group + 1] = max(self.by_group.count, <uint32_t>1)

    cdef int attach_position(self, uint32_t position) noexcept nogil:
        cdef Position* p = &(<Position*>self.book.store.positions.data)[position]
        cdef uint32_t first
        cdef uint16_t[3] counts
        cdef int group
        p.slots = p.slot_count = 0
        for group in range(GROUP_CELLS):
            if self.attach_limits(p.first_cell, group, &first, &counts[group]) < 0:
                return -1
            if p.slot_count == 0:
                p.slots = first
            p.slot_count += counts[group]
        p.window_count = counts[<int>GROUP_WINDOWS]
        p.sum_count = counts[<int>GROUP_SUMS]
        if p.slot_count <= SLOTS_HERE:
            memcpy(p.here, &(<const Slot*>self.slots.data)[p.slots], p.slot_count * sizeof(Slot))
            self.slots.count -= p.slot_count
            p.slots = 0
        self.load_position(position, False)
        return 0

    cdef int attach_cell(self, uint32_t cell) noexcept nogil:
        cdef Cell* c = &(<Cell*>self.book.store.cells.data)[cell]
        if self.attach_limits(cell, GROUP_CELLS, &c.slots, &c.slot_count) < 0:
            return -1
        self.load_cell(cell)
        return 0

    cdef int attach_limits(self, uint32_t cell, int group, uint32_t* first, uint16_t* count) noexcept nogil:
        cdef Slot slot
        cdef const Limit* limit
        cdef uint32_t i, k, at
        first[0] = count[0] = 0
        for k in range(self.group_at[group], self.group_at[group + 1]):
            i = (<const uint32_t*>self.by_group.data)[k]
            limit = &(<const Limit*>self.limits.data)[i]
            if not self.matches(limit, cell):
                continue
            if self.attach_limit(i, cell, &slot) < 0:
                return -1
            at = array_add(&self.slots, sizeof(Slot))
            if at == 0:
                return -1
            (<Slot*>self.slots.data)[at] = slot
            if count[0] == 0:
                first[0] = at
            count[0] += 1
        return 0

    cdef int attach_limit(self, uint32_t limit, uint32_t cell, Slot* slot) noexcept nogil:
        cdef const Limit* l = &(<const Limit*>self.limits.data)[limit]
        cdef uint8_t kind = l.kind
        cdef uint32_t key
        memset(slot, 0, sizeof(Slot))
        slot.limit = <uint16_t>limit
        slot.kind = kind
        slot.of = OF_POSITION if l.of_position else OF_WHOLES if l.whole else OF_CELLS
        if kind == PRICE_COLLAR or kind == RESTRICTED:
            return 0
        if kind in (MAX_TRADE_VOLUME, MAX_TRADE_NOTIONAL) or (l.of_position and kind != CONCENTRATION):
            slot.index = self.rule_of(limit, (<const Position*>self.book.store.positions.data)[
                (<const Cell*>self.book.store.cells.data)[cell].position].symbol)
        elif kind == REPEATED_TRADE and l.whole:
            slot.index = array_add(&self.runs, sizeof(Run))
        elif l.of_position:
            key = self.ensure_key(limit, cell, ACCOUNT_GROSS, PER_ACCOUNT)
            slot.index = (<const Key*>self.keys.data)[key].state        # 0 without memory: element 0 is nobody's
        else:
            key = self.ensure_key(limit, cell, kind, l.per)
            if key == 0 or self.ensure_rule(key) < 0:
                return -1
            if is_sum(kind):
                slot.index = (<const Key*>self.keys.data)[key].state if l.whole else self.ensure_node(key, cell)
            elif kind == TRADE_RATE or kind == VOLUME_RATE:
                slot.index = (<const Key*>self.keys.data)[key].state
            else:
                slot.index = key
        if slot.index == 0:
            return -1
        if l.of_position and kind == MAX_NOTIONAL:
            return self.add_standing(slot.index, &(<const Position*>self.book.store.positions.data)[
                (<const Cell*>self.book.store.cells.data)[cell].position])
        return 0

    cdef uint32_t find_key(self, uint32_t limit, uint32_t cell, uint8_t kind, uint8_t per) noexcept nogil:
        cdef const Cell* cells = <const Cell*>self.book.store.cells.data
        cdef const Position* positions = <const Position*>self.book.store.positions.data
        cdef const Cell* c = &cells[cell]
        cdef const Position* p = &positions[c.position]
        cdef uint64_t hash, at, slot
        cdef uint32_t index
        cdef const Key* key
        if per == PER_POSITION:
            index = self.key_before(c.position, limit)
            index = (<const Key*>self.keys.data)[index].next_in_position if index else p.first_key
            if index == 0 or (<const Key*>self.keys.data)[index].limit != limit:
                return 0
            self.latest_key = index
            return index
        if self.key_table.slots == NULL:
            return 0
        hash = key_hash(limit, kind, per, p, c)
        at = table_home(&self.key_table, hash)
        while True:
            slot = self.key_table.slots[at]
            if slot == 0:
                return 0
            if (slot ^ hash) >> 32 == 0:
                key = &(<const Key*>self.keys.data)[<uint32_t>slot]
                if (key.limit == limit and key.kind == kind and key.per == per
                        and same_names(per, p, c, &positions[cells[key.cell].position], &cells[key.cell])):
                    return <uint32_t>slot
            at = (at + 1) & self.key_table.mask

    cdef uint32_t ensure_key(self, uint32_t limit, uint32_t cell, uint8_t kind, uint8_t per) noexcept nogil:
        cdef uint32_t index = self.find_key(limit, cell, kind, per)
        cdef Key* key
        if index:
            return index
        if per != PER_POSITION and table_reserve(&self.key_table) < 0:
            return 0
        index = array_add(&self.keys, sizeof(Key))
        if index == 0:
            return 0
        key = &(<Key*>self.keys.data)[index]
        key.limit = <uint16_t>limit
        key.cell = cell
        key.kind = kind
        key.per = per
        # It may have lost its cells: then it holds nothing, whatever the position does.
        key.of_position = ((<const Limit*>self.limits.data)[limit].of_position and kind != ACCOUNT_GROSS
                           and self.matches(&(<const Limit*>self.limits.data)[limit], cell))
        if self.add_state(index) < 0:
            return 0
        if per == PER_POSITION:
            self.put_in_position(index)
        else:
            table_put(&self.key_table, self.hash_of(&(<const Key*>self.keys.data)[index]), index)
        return index

    cdef uint32_t key_before(self, uint32_t position, uint32_t limit) noexcept nogil:
        cdef const Key* keys = <const Key*>self.keys.data
        cdef const Key* latest
        cdef uint32_t before = 0, index = (<const Position*>self.book.store.positions.data)[position].first_key
        if self.latest_key:
            latest = &keys[self.latest_key]
            if latest.limit < limit and (<const Cell*>self.book.store.cells.data)[latest.cell].position == position:
                before = self.latest_key
                index = latest.next_in_position
        while index and keys[index].limit < limit:
            before = index
            index = keys[index].next_in_position
        return before

    cdef void put_in_position(self, uint32_t index) noexcept nogil:
        cdef Key* keys = <Key*>self.keys.data
        cdef uint32_t position = (<const Cell*>self.book.store.cells.data)[keys[index].cell].position
        cdef uint32_t before = self.key_before(position, keys[index].limit)
        cdef Position* p = &(<Position*>self.book.store.positions.data)[position]
        if before:
            keys[index].next_in_position = keys[before].next_in_position
            keys[before].next_in_position = index
        else:
            keys[index].next_in_position = p.first_key
            p.first_key = index
        self.latest_key = index

    cdef int rebuild_key_table(self) noexcept nogil:
        cdef uint32_t i
        for i in range(1, self.keys.count):
            if (<const Key*>self.keys.data)[i].per == PER_POSITION:
                continue
            if table_reserve(&self.key_table) < 0:
                return -1
            table_put(&self.key_table, self.hash_of(&(<const Key*>self.keys.data)[i]), i)
        return 0

    cdef uint64_t hash_of(self, const Key* key) noexcept nogil:
        cdef const Cell* cell = &(<const Cell*>self.book.store.cells.data)[key.cell]
        return key_hash(key.limit, key.kind, key.per, &(<const Position*>self.book.store.positions.data)[cell.position], cell)

    cdef int ensure_rule(self, uint32_t index) noexcept nogil:
        cdef const Key* key = &(<const Key*>self.keys.data)[index]
        cdef uint32_t position = (<Cell*>self.book.store.cells.data)[key.cell].position, rule
        if key.rule or (key.kind != MAX_POSITION and key.kind != MAX_NOTIONAL):
            return 0
        rule = self.rule_of(key.limit, (<Position*>self.book.store.positions.data)[position].symbol)
        if rule == 0:
            return -1
        (<Key*>self.keys.data)[index].rule = rule
        return self.add_holder(index) if key.kind == MAX_NOTIONAL and not key.of_position else 0

    cdef int add_holder(self, uint32_t index) noexcept nogil:
        """Give a max_notional key its place among the holders of its rule; 0, or -1 without memory."""
        cdef Key* key = &(<Key*>self.keys.data)[index]
        cdef Holders* holders
        if array_extend(&self.holders, key.rule + 1, sizeof(Holders)) < 0:
            return -1
        holders = &(<Holders*>self.holders.data)[key.rule]
        if list_reserve(<void**>&holders.entries, &holders.capacity, holders.count + 1, sizeof(Held)) < 0:
            return -1
        key.state = holders.count
        holders.entries[holders.count].quantity = ASK_KEY
        holders.entries[holders.count].key = index
        holders.entries[holders.count].level = key.level
        holders.count += 1
        return 0

    cdef int rebuild_holders(self) noexcept nogil:
        """Find the holders again from the keys, as they were between two events."""
        cdef uint32_t i
        cdef const Key* key
        cdef u128 magnitude
        for i in range(1, self.keys.count):
            key = &(<const Key*>self.keys.data)[i]
            if key.kind != MAX_NOTIONAL or key.rule == 0 or key.of_position:
                continue
            if self.add_holder(i) < 0:
                return -1
            magnitude = abs_i128(key.quantity)
            if not key.frozen and not magnitude >> 64:
                held_of(self, key).quantity = <uint64_t>magnitude
        return 0

    cdef int add_standing(self, uint32_t rule, const Position* p) noexcept nogil:
        cdef Standings* standings
        cdef uint32_t i
        if array_extend(&self.standings, rule + 1, sizeof(Standings)) < 0:
            return -1
        standings = &(<Standings*>self.standings.data)[rule]
        i = standings.capacity
        if list_reserve(<void**>&standings.of, &standings.capacity, p.member + 1, sizeof(uint64_t)) < 0:
            return -1
        for i in range(i, standings.capacity):
            standings.of[i] = NO_MEMBER
        set_standing(self, rule, p, abs_i64(p.quantity), LEVEL_OK)
        return 0

    cdef int rebuild_standings(self) noexcept nogil:
        """Find the standings again from positions and keys, as they were between two events."""
        cdef const Position* p
        cdef const Slot* slot
        cdef const Key* key
        cdef uint32_t i, k, index
        for i in range(1, self.book.store.positions.count):
            p = &(<const Position*>self.book.store.positions.data)[i]
            for k in range(p.slot_count):
                slot = &slots_of(self, p)[k]
                if slot.of != OF_POSITION or slot.kind != MAX_NOTIONAL:
                    continue
                if self.add_standing(slot.index, p) < 0:
                    return -1
                index = key_of_position(self, p, slot.limit)
                key = &(<const Key*>self.keys.data)[index]
                if index:
                    set_standing(self, slot.index, p, <uint64_t>ASK_POSITION if key.frozen else abs_i64(p.quantity), key.level)
        return 0

    cdef void rebuild_windows(self) noexcept nogil:
        cdef uint32_t i
        cdef Key* key
        for i in range(1, self.keys.count):
            key = &(<Key*>self.keys.data)[i]
            if key.kind == TRADE_RATE or key.kind == VOLUME_RATE:
                self.set_window(i)
                set_level(self, key, key.level, key.frozen)

    cdef void set_window(self, uint32_t index) noexcept nogil:
        cdef const Key* key = &(<const Key*>self.keys.data)[index]
        cdef const Limit* limit = &(<const Limit*>self.limits.data)[key.limit]
        cdef Window* window = &(<Window*>self.windows.data)[key.state]
        window.key = index
        window.sums = key.node
        window.span = limit.window_ns
        window.near = <uint32_t>UINT32_MAX if limit.count_warn >> 32 else <uint32_t>limit.count_warn
        window.has_amounts = key.kind == VOLUME_RATE

    cdef int add_state(self, uint32_t index) noexcept nogil:
        """Give a new key what its kind keeps; 0, or -1 without memory."""
        cdef Key* key = &(<Key*>self.keys.data)[index]
        cdef uint8_t kind = key.kind
        cdef uint32_t gross
        if kind == CONCENTRATION:
            gross = self.ensure_key(key.limit, key.cell, ACCOUNT_GROSS, PER_ACCOUNT)
            key = &(<Key*>self.keys.data)[index]        # keys may have moved
            if gross == 0:
                return -1
            key.state = (<Key*>self.keys.data)[gross].state
            return 0
        if kind == TRADE_RATE or kind == VOLUME_RATE:
            key.state = array_add(&self.windows, sizeof(Window))
            if kind == VOLUME_RATE:
                key.node = array_add(&self.sums, sizeof(Sums))
                if key.node == 0:
                    return -1
            if key.state:
                self.set_window(index)
        elif kind == REPEATED_TRADE:
            key.state = array_add(&self.runs, sizeof(Run))
        elif is_sum(kind) or kind == ACCOUNT_GROSS:
            key.state = array_add(&self.sums, sizeof(Sums))
            if key.state:
                (<Sums*>self.sums.data)[key.state].key = index
                self.set_bound(key)
                # Nodes add more at once than what is looked at in short.
                (<Sums*>self.sums.data)[key.state].is_long = not (<const Limit*>self.limits.data)[key.limit].whole
        else:
            return 0
        return 0 if key.state else -1

    cdef uint32_t ensure_node(self, uint32_t key, uint32_t cell) noexcept nogil:
        cdef const Cell* c = &(<const Cell*>self.book.store.cells.data)[cell]
        cdef Position* p = &(<Position*>self.book.store.positions.data)[c.position]
        cdef Symbol* s = &(<Symbol*>self.book.store.symbols.data)[p.symbol]
        cdef uint32_t index = p.first_node
        cdef Node* node
        while index:
            node = &(<Node*>self.nodes.data)[index]
            if node.key == key:
                break
            index = node.next_in_position
        if index == 0:
            index = array_add(&self.nodes, sizeof(Node))
            if index == 0:
                return 0
            node = &(<Node*>self.nodes.data)[index]
            node.key = key
            node.kind = (<Key*>self.keys.data)[key].kind
            node.sum = (<Key*>self.keys.data)[key].state
            node.position = c.position
            node.next_in_position = p.first_node
            p.first_node = index
            node.next_in_symbol = s.first_node
            s.first_node = index
            if node.kind == CONCENTRATION:
                (<Key*>self.keys.data)[key].node = index
        if c.venue == 0 and c.strategy == 0:
            node.adjusted = 1
        return index

    cdef uint32_t rule_of(self, uint32_t limit, uint32_t symbol) noexcept nogil:
        cdef Symbol* s = &(<Symbol*>self.book.store.symbols.data)[symbol]
        cdef uint32_t index = s.first_rule
        cdef Rule* rule
        while index:
            rule = &(<Rule*>self.rules.data)[index]
            if rule.limit == limit:
                return index
            index = rule.next_in_symbol
        index = array_add(&self.rules, sizeof(Rule))
        if index == 0:
            return 0
        rule = &(<Rule*>self.rules.data)[index]
        rule.limit = limit
        rule.symbol = symbol
        rule.next_in_symbol = s.first_rule
        rule.warn_min = rule.breach_min = ~<uint64_t>0
        s.first_rule = index
        self.set_rule_levels(rule)
        return index

    # --- what cells hold -----------------------------------------------------------------------------------------

    cdef void load_cell(self, uint32_t cell) noexcept nogil:
        cdef const Cell* c = &(<const Cell*>self.book.store.cells.data)[cell]
        cdef const Position* p = &(<const Position*>self.book.store.positions.data)[c.position]
        cdef const Factor* money = &(<SymbolFactors*>self.factors.data)[p.symbol].money
        cdef Slot* slot
        cdef Node* node
        cdef Wide* sum
        cdef int64_t mark
        cdef bint marked = valued_at(p, &(<const Symbol*>self.book.store.symbols.data)[p.symbol], &mark)
        cdef uint32_t i
        for i in range(c.slots, c.slots + c.slot_count):
            slot = &(<Slot*>self.slots.data)[i]
            if slot.kind == MAX_POSITION or slot.kind == MAX_NOTIONAL:
                (<Key*>self.keys.data)[slot.index].quantity += cell_quantity(c)
            if not is_sum(slot.kind):
                continue
            node = &(<Node*>self.nodes.data)[slot.index]
            sum = &(<Sums*>self.sums.data)[node.sum].sum
            if slot.kind == GROSS_NOTIONAL or slot.kind == CONCENTRATION:
                if marked:
                    add_absolute(sum, node.quantity, mark, True, money)
                    add_absolute(sum, node.quantity + cell_quantity(c), mark, False, money)
            elif slot.kind == NET_NOTIONAL:
                if marked:
                    wide_addmul2(sum, cell_quantity(c), mark, money)
            else:
                self.load_pnl(cell, sum, False)
            node.quantity += cell_quantity(c)

    cdef void load_position(self, uint32_t position, bint subtract) noexcept nogil:
        cdef const Position* p = &(<const Position*>self.book.store.positions.data)[position]
        cdef const Factor* money = &(<SymbolFactors*>self.factors.data)[p.symbol].money
        cdef const Slot* slot
        cdef Wide* sum
        cdef int64_t mark
        cdef bint marked = valued_at(p, &(<const Symbol*>self.book.store.symbols.data)[p.symbol], &mark)
        cdef i128 quantity = -<i128>p.quantity if subtract else <i128>p.quantity
        cdef uint32_t i, cell
        for i in range(p.slot_count):
            slot = &slots_of(self, p)[i]
            if (slot.kind == MAX_POSITION or slot.kind == MAX_NOTIONAL) and slot.of != OF_POSITION:
                (<Key*>self.keys.data)[slot.index].quantity += quantity
            if not is_sum(slot.kind):
                continue
            sum = &sums_of(self, slot).sum
            if slot.kind == MAX_LOSS or slot.kind == MAX_DRAWDOWN:
                cell = p.first_cell
                while cell:
                    self.load_pnl(cell, sum, subtract)
                    cell = (<const Cell*>self.book.store.cells.data)[cell].next_in_position
            elif marked and slot.kind == NET_NOTIONAL:
                wide_addmul2(sum, quantity, mark, money)
            elif marked:
                add_absolute(sum, p.quantity, mark, subtract, money)
            note_width(sums_of(self, slot))

    cdef void load_pnl(self, uint32_t cell, Wide* sum, bint subtract) noexcept nogil:
        cdef const Cell* c = &(<const Cell*>self.book.store.cells.data)[cell]
        cdef const Position* p = &(<const Position*>self.book.store.positions.data)[c.position]
        cdef const SymbolFactors* f = &(<SymbolFactors*>self.factors.data)[p.symbol]
        cdef Baseline now
        cdef const Baseline* then
        self.book.take_baseline(cell, &now)
        add_baseline(sum, &now, f, subtract)
        if cell < self.book.store.baselines.count:
            then = &(<const Baseline*>self.book.store.baselines.data)[cell]
            add_baseline(sum, then, f, not subtract)

    cdef void load_symbol(self, uint32_t symbol, bint subtract) noexcept nogil:
        cdef const Members* members = members_of(&self.book.store, symbol)
        cdef const Position* p
        cdef const Cell* c
        cdef const Slot* slot
        cdef uint32_t cell, i, k, index
        cdef const Node* node
        cdef Wide* sum
        cdef int64_t mark
        cdef const Factor* money = &(<SymbolFactors*>self.factors.data)[symbol].money
        for k in range(members.count):
            p = &(<const Position*>self.book.store.positions.data)[members.positions[k]]
            self.load_position(members.positions[k], subtract)
            cell = p.first_cell
            while cell:
                c = &(<const Cell*>self.book.store.cells.data)[cell]
                for i in range(c.slots, c.slots + c.slot_count):
                    slot = &(<const Slot*>self.slots.data)[i]
                    if slot.kind == MAX_LOSS or slot.kind == MAX_DRAWDOWN:
                        self.load_pnl(cell, &(<Sums*>self.sums.data)[(<Node*>self.nodes.data)[slot.index].sum].sum, subtract)
                cell = c.next_in_position
            index = p.first_node if valued_at(p, &(<const Symbol*>self.book.store.symbols.data)[p.symbol], &mark) else 0
            while index:
                node = &(<const Node*>self.nodes.data)[index]
                sum = &(<Sums*>self.sums.data)[node.sum].sum
                if node.kind == NET_NOTIONAL:
                    wide_addmul2(sum, -node.quantity if subtract else node.quantity, mark, money)
                elif node.kind == GROSS_NOTIONAL or node.kind == CONCENTRATION:
                    add_absolute(sum, node.quantity, mark, subtract, money)
                index = node.next_in_position

    # --- instruments that change ---------------------------------------------------------------------------------

    cdef int define(self, uint32_t symbol, const Instrument* instrument) noexcept nogil:
        """Take in a definition; what is held is worth more or less from now on, and nobody is judged for it."""
        cdef size_t length
        cdef const uint8_t* text = self.symbols.text(symbol, &length)
        cdef uint32_t i
        if self.instruments.define(text, length, instrument) < 0:
            return -1
        if memchr(text, 42, length) == NULL and memchr(text, 63, length) == NULL and memchr(text, 91, length) == NULL:
            return self.redefine_symbol(symbol)
        for i in range(1, self.book.store.symbols.count):
            if self.redefine_symbol(i) < 0:
                return -1
        return 0

    cdef int redefine_symbol(self, uint32_t symbol) noexcept nogil:
        cdef Symbol* s = &(<Symbol*>self.book.store.symbols.data)[symbol]
        cdef Instrument now
        cdef size_t length
        cdef const uint8_t* text
        cdef uint32_t rule
        if not s.used:
            return 0
        text = self.symbols.text(symbol, &length)
        self.instruments.resolve(text, length, &now)
        if (now.multiplier == s.instrument.multiplier and now.currency == s.instrument.currency
                and now.multiplier_exponent == s.instrument.multiplier_exponent):
            return 0
        if self.freeze_symbol(symbol) < 0:
            return -1
        self.load_symbol(symbol, True)
        s.instrument.multiplier = now.multiplier
        s.instrument.multiplier_exponent = now.multiplier_exponent
        s.instrument.currency = now.currency
        if self.set_factors(symbol) < 0:
            return -1
        self.load_symbol(symbol, False)
        rule = s.first_rule
        while rule:
            self.set_rule_levels(&(<Rule*>self.rules.data)[rule])
            # The next revaluation judges each key, moved or not: what is frozen is then its value no more.
            (<Rule*>self.rules.data)[rule].ok_max = ~<uint64_t>0
            rule = (<Rule*>self.rules.data)[rule].next_in_symbol
        return 0

    cdef int freeze_symbol(self, uint32_t symbol) noexcept nogil:
        cdef const Symbol* s = &(<const Symbol*>self.book.store.symbols.data)[symbol]
        cdef const Members* members = members_of(&self.book.store, symbol)
        cdef const Holders* holders
        cdef uint32_t index = s.first_node, i
        while index:
            if self.freeze_key((<Node*>self.nodes.data)[index].key) < 0:
                return -1
            index = (<Node*>self.nodes.data)[index].next_in_symbol
        index = s.first_rule
        while index:
            if index < self.holders.count:
                holders = &(<const Holders*>self.holders.data)[index]
                for i in range(holders.count):
                    if self.freeze_key(holders.entries[i].key) < 0:
                        return -1
            index = (<Rule*>self.rules.data)[index].next_in_symbol
        for i in range(members.count):
            if self.freeze_position(&(<const Position*>self.book.store.positions.data)[members.positions[i]]) < 0:
                return -1
        return 0

    cdef int freeze_position(self, const Position* p) noexcept nogil:
        cdef const Slot* slot
        cdef const Key* key
        cdef uint32_t i, index = p.first_key
        for i in range(p.slot_count):
            slot = &slots_of(self, p)[i]
            if is_sum(slot.kind) and slot.of != OF_POSITION and self.freeze_key(sums_of(self, slot).key) < 0:
                return -1
        while index:
            key = &(<const Key*>self.keys.data)[index]
            if key.of_position and key.kind != MAX_POSITION and key.level and self.freeze_key(index) < 0:
                return -1
            index = key.next_in_position
        return 0

    cdef int freeze_key(self, uint32_t index) noexcept nogil:
        cdef Key* key = &(<Key*>self.keys.data)[index]
        cdef const Symbol* s
        cdef Last* last
        if key.frozen:
            return 0
        if key.last == 0:
            key.last = array_add(&self.lasts, sizeof(Last))
            if key.last == 0:
                return -1
        if key.kind == MAX_NOTIONAL:
            # Judged where it was last valued, by itself or with every holder.
            s = &(<const Symbol*>self.book.store.symbols.data)[(<const Rule*>self.rules.data)[key.rule].symbol]
            if s.valuation > key.valuation:
                key.mark = s.valued_mark if s.valued else 0
            if key.of_position:
                set_standing(self, key.rule, &(<const Position*>self.book.store.positions.data)[
                    (<const Cell*>self.book.store.cells.data)[key.cell].position], <uint64_t>ASK_POSITION, key.level)
            else:
                held_of(self, key).quantity = ASK_KEY
        last = &(<Last*>self.lasts.data)[key.last]
        last.exponent = self.value_of_key(key, &last.value, &last.divisor)
        set_level(self, key, key.level, True)
        return 0

    cdef int value_of_key(self, const Key* key, Wide* value, Wide* divisor) noexcept nogil:
        """The value as of the key's last judgement: value / divisor x 10**(what is returned)."""
        cdef const Rule* rule
        wide_set_u128(divisor, 1)
        if key.kind == MAX_POSITION:
            rule = &(<const Rule*>self.rules.data)[key.rule]
            wide_set_u128(value, abs_i128(quantity_of_key(self, key)))
            return (<const Symbol*>self.book.store.symbols.data)[rule.symbol].instrument.quantity_exponent
        if key.kind == MAX_NOTIONAL:
            notional_of(self, key, value)
            return self.money_scale
        if key.kind == TRADE_RATE:
            wide_set_u128(value, settle(self, key.state).size)
            return 0
        if key.kind == VOLUME_RATE:
            settle(self, key.state)
            value[0] = (<const Sums*>self.sums.data)[key.node].sum
            return self.quantity_scale
        if key.kind == CONCENTRATION:
            part_of_gross(self, key, value)
            if not wide_is_zero(&(<const Sums*>self.sums.data)[key.state].sum):
                divisor[0] = (<const Sums*>self.sums.data)[key.state].sum
            return 0
        sum_value(&(<const Sums*>self.sums.data)[key.state], key.kind, value)
        return self.money_scale

    # --- one event -----------------------------------------------------------------------------------------------

    cdef int touch_new(self, uint32_t index) noexcept nogil:
        if array_reserve(&self.touched, self.touched.count + 1, sizeof(uint32_t)) < 0:
            return -1
        return touch(self, index)
