"""Levels and alerts. Levels are decided on exact integers; texts are made only for what is sent."""

from libc.string cimport memcmp, memcpy, memset

from ext.alertlog cimport (ALERT_ACCOUNT, ALERT_LIMIT_ID, ALERT_STRATEGY, ALERT_SYMBOL, ALERT_THRESHOLD,
                           ALERT_TRADE_ID, ALERT_UTILIZATION, ALERT_VALUE, ALERT_VENUE, SEVERITY_BREACH,
                           SEVERITY_CLEAR)
from ext.arrays cimport array_add, array_extend, array_free, array_reserve
from ext.limits cimport (CONCENTRATION, Held, KILL_FIRM, KILL_NONE, LEVEL_BREACH, LEVEL_OK, MAX_DRAWDOWN, MAX_LOSS,
                         MAX_NOTIONAL, MAX_POSITION, MAX_TRADE_NOTIONAL, MAX_TRADE_VOLUME, PER_ACCOUNT, PER_STRATEGY,
                         PER_SYMBOL, PER_VENUE, PRICE_COLLAR, REPEATED_TRADE, RESTRICTED, Rule, Sums, SymbolFactors,
                         TRADE_AFTER_KILL, TRADE_RATE, VOLUME_RATE, Last, held_of, level_of, level_of_count,
                         note_level, notional_of, part_of_gross, quantity_of_key, run_of, set_level, set_standing, settle, slots_of,
                         sum_is_far, sum_value, touch)
from ext.positions cimport Cell, Position, Symbol
from ext.records cimport (EVENT_TRADE, NAME_ACCOUNT, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, bytes_append, bytes_free,
                          bytes_reserve, i128)
from ext.wide cimport (RW_TEXT_MAX, abs_i128, abs_i64, cmp_scaled, format_ratio, is_below_scaled, low_u128, wide_cmp,
                       wide_fits192, wide_mul, wide_set_u128)
from ext.windows cimport run_add

# The order in which names decide the order of alerts, with the bit of `per` for each.
cdef int ORDER_NAMES[4]
cdef uint8_t ORDER_BITS[4]
cdef int ORDER_TEXTS[4]
ORDER_NAMES[:] = [NAME_ACCOUNT, NAME_SYMBOL, NAME_VENUE, NAME_STRATEGY]
ORDER_BITS[:] = [PER_ACCOUNT, PER_SYMBOL, PER_VENUE, PER_STRATEGY]
ORDER_TEXTS[:] = [ALERT_ACCOUNT, ALERT_SYMBOL, ALERT_VENUE, ALERT_STRATEGY]


cdef uint8_t level_of_sum(const Wide* value, const Limit* limit, uint8_t before) noexcept nogil:
    if before == LEVEL_OK and wide_cmp(value, &limit.sum_warn) < 0:     # warn_at is at most 1: no breach either
        return LEVEL_OK
    return level_of(wide_cmp(value, &limit.sum_above) > 0, wide_cmp(value, &limit.sum_warn) >= 0,
                    wide_cmp(value, &limit.sum_clear) >= 0, before)


cdef uint8_t level_of_ratio(const Wide* value, const Wide* divisor, const Limit* limit, uint8_t before) noexcept nogil:
    """value / divisor against a limit, multiplied out."""
    cdef Wide left, scale, above, warn, clear
    cdef uint64_t by = limit.scale.v[0]
    if limit.narrow and wide_fits192(value) and wide_fits192(divisor):
        if before == LEVEL_OK and is_below_scaled(value.v, by, divisor.v, limit.warn.v[0]):
            return LEVEL_OK
        return level_of(cmp_scaled(value.v, by, divisor.v, limit.threshold.v[0]) > 0,
                        cmp_scaled(value.v, by, divisor.v, limit.warn.v[0]) >= 0,
                        cmp_scaled(value.v, by, divisor.v, limit.clear.v[0]) >= 0, before)
    left = value[0]
    above = warn = clear = divisor[0]
    memcpy(&scale, &limit.scale, sizeof(Wide))
    wide_mul(&left, &scale)
    wide_mul(&above, &limit.threshold)
    wide_mul(&warn, &limit.warn)
    wide_mul(&clear, &limit.clear)
    return level_of(wide_cmp(&left, &above) > 0, wide_cmp(&left, &warn) >= 0, wide_cmp(&left, &clear) >= 0, before)


cdef uint8_t level_of_notional(LimitBook limits, Key* key) noexcept nogil:
    cdef Rule* rule = &(<Rule*>limits.rules.data)[key.rule]
    cdef const Symbol* s = &(<const Symbol*>limits.book.store.symbols.data)[rule.symbol]
    cdef u128 magnitude = abs_i128(quantity_of_key(limits, key))
    cdef uint64_t quantity
    cdef uint8_t level
    cdef Wide value
    cdef Held* held
    key.mark = s.mark if s.source else 0
    key.valuation = s.valuation
    if magnitude >> 64:
        notional_of(limits, key, &value)
        level = level_of_sum(&value, &(<Limit*>limits.limits.data)[key.limit], key.level)
        quantity = ~<uint64_t>0
    else:
        quantity = low_u128(magnitude)
        level = level_of_count(<u128>quantity * <u128>abs_i64(key.mark), rule.above, rule.warn, rule.clear, key.level)
    note_level(rule, level, quantity)
    if key.of_position:
        set_standing(limits, key.rule, &(<const Position*>limits.book.store.positions.data)[
            (<const Cell*>limits.book.store.cells.data)[key.cell].position], quantity, level)
    else:
        held = held_of(limits, key)
        held.quantity = quantity
        held.level = level
    return level


cdef uint8_t level_of_concentration(LimitBook limits, const Key* key) noexcept nogil:
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[key.limit]
    cdef const Wide* gross = &(<const Sums*>limits.sums.data)[key.state].sum
    cdef Wide part
    if wide_cmp(gross, &limit.sum_floor) <= 0:
        return LEVEL_OK
    part_of_gross(limits, key, &part)
    return level_of_ratio(&part, gross, limit, key.level)


cdef uint8_t level_of_key(LimitBook limits, Key* key) noexcept nogil:
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[key.limit]
    cdef const Rule* rule
    cdef Sums* sums
    cdef Wide value
    if key.kind == MAX_POSITION:
        rule = &(<const Rule*>limits.rules.data)[key.rule]
        return level_of_count(abs_i128(quantity_of_key(limits, key)), rule.above, rule.warn, rule.clear, key.level)
    if key.kind == MAX_NOTIONAL:
        return level_of_notional(limits, key)
    if key.kind == TRADE_RATE:
        return level_of_count(settle(limits, key.state).size, limit.count_above, limit.count_warn,
                              limit.count_clear, key.level)
    if key.kind == VOLUME_RATE:
        settle(limits, key.state)
        return level_of_sum(&(<const Sums*>limits.sums.data)[key.node].sum, limit, key.level)
    if key.kind == CONCENTRATION:
        return level_of_concentration(limits, key)
    sums = &(<Sums*>limits.sums.data)[key.state]
    if key.kind == MAX_DRAWDOWN and wide_cmp(&sums.sum, &sums.peak) > 0:
        sums.peak = sums.sum
    if key.level == LEVEL_OK and sum_is_far(sums, key.kind):
        return LEVEL_OK
    sum_value(sums, key.kind, &value)
    return level_of_sum(&value, limit, key.level)


cdef int compare_texts(const uint8_t* a, size_t a_length, const uint8_t* b, size_t b_length) noexcept nogil:
    cdef int order = memcmp(a, b, a_length if a_length < b_length else b_length)
    if order:
        return order
    return (a_length > b_length) - (a_length < b_length)


cdef bint comes_first(LimitBook limits, const Pending* a, const Pending* b) noexcept nogil:
    """Whether a stays before b: the limits file, then account, symbol, venue, strategy bytewise."""
    cdef const uint8_t* x
    cdef const uint8_t* y
    cdef size_t x_length, y_length
    cdef int i, order
    if a.limit != b.limit:
        return a.limit < b.limit
    for i in range(4):
        if a.per & ORDER_BITS[i]:
            x = limits.name(ORDER_NAMES[i], a.cell, &x_length)
            y = limits.name(ORDER_NAMES[i], b.cell, &y_length)
            order = compare_texts(x, x_length, y, y_length)
            if order:
                return order < 0
    return True


cdef class Judge:
    """Judges events one after another and writes the alerts; keeps who is killed."""

    def __cinit__(self, AlertLog alerts not None):
        self.alerts = alerts

    def __dealloc__(self):
        array_free(&self.pending)
        array_free(&self.order)
        array_free(&self.killed)
        bytes_free(&self.texts)
        bytes_free(&self.kills)

    # --- one trade -----------------------------------------------------------------------------------------------

    cdef int judge_trade(self, LimitBook limits, const TradeFacts* trade) noexcept nogil:
        cdef const Cell* c = &(<const Cell*>limits.book.store.cells.data)[trade.cell]
        cdef const Position* p = &(<const Position*>limits.book.store.positions.data)[c.position]
        if self.judge_slots(limits, slots_of(limits, p), p.slot_count, trade) < 0:
            return -1
        return self.judge_slots(limits, &(<const Slot*>limits.slots.data)[c.slots], c.slot_count, trade)

    cdef int judge_slots(self, LimitBook limits, const Slot* slot, uint16_t count, const TradeFacts* trade) noexcept nogil:
        cdef uint32_t i
        cdef uint8_t kind
        for i in range(count):
            kind = slot[i].kind
            if kind < MAX_TRADE_VOLUME or (MAX_LOSS <= kind <= MAX_DRAWDOWN) or is_small(limits, &slot[i], trade):
                continue
            if self.judge_slot(limits, &slot[i], trade) < 0:
                return -1
        return 0

    cdef int judge_slot(self, LimitBook limits, const Slot* slot, const TradeFacts* trade) noexcept nogil:
        cdef const Limit* limit = &(<const Limit*>limits.limits.data)[slot.limit]
        cdef const Symbol* s
        cdef uint64_t volume = abs_i64(trade.quantity)
        cdef const Rule* rule
        cdef u128 raw
        cdef int64_t length
        cdef uint8_t level
        cdef Wide value, one
        cdef int exponent = 0
        cdef uint8_t kind = slot.kind
        if kind == MAX_TRADE_VOLUME or kind == MAX_TRADE_NOTIONAL:
            rule = &(<const Rule*>limits.rules.data)[slot.index]
            raw = volume
            if kind == MAX_TRADE_NOTIONAL:
                raw = <u128>volume * <u128>abs_i64(trade.price)
            level = level_of_count(raw, rule.above, rule.warn, rule.warn, LEVEL_OK)
            if level == LEVEL_OK:
                return 0
            s = &(<const Symbol*>limits.book.store.symbols.data)[rule.symbol]
            wide_set_u128(&value, raw)
            exponent = s.instrument.quantity_exponent
            if kind == MAX_TRADE_NOTIONAL:
                wide_mul(&value, &(<SymbolFactors*>limits.factors.data)[rule.symbol].rate)
                exponent = (<SymbolFactors*>limits.factors.data)[rule.symbol].rate_exponent
        elif kind == TRADE_RATE or kind == VOLUME_RATE:
            return 0                    # a new trade's are in fill_window; corrects neither enter nor leave
        elif kind == PRICE_COLLAR:
            return self.judge_collar(limits, slot, trade)
        elif kind == RESTRICTED:
            level = LEVEL_BREACH
            wide_set_u128(&value, 1)
        elif kind == REPEATED_TRADE:
            length = run_add(run_of(limits, slot), self.event.executed_at, trade.price, trade.quantity,
                             limit.window_ns)
            if length < 0:
                return -1
            level = level_of_count(<u128>length, limit.count_above, limit.count_warn, limit.count_warn, LEVEL_OK)
            if level == LEVEL_OK:
                return 0
            wide_set_u128(&value, <u128>length)
        else:
            return 0
        wide_set_u128(&one, 1)
        return self.add(limits, slot.limit, trade.cell, level, &value, &one, exponent)

    cdef int judge_collar(self, LimitBook limits, const Slot* slot, const TradeFacts* trade) noexcept nogil:
        cdef const Limit* limit = &(<const Limit*>limits.limits.data)[slot.limit]
        cdef uint8_t level
        cdef Wide value, divisor
        if not trade.marked or trade.mark == 0:
            return 0
        wide_set_u128(&value, abs_i128(<i128>trade.price - <i128>trade.mark) * 100)
        wide_set_u128(&divisor, abs_i64(trade.mark))
        level = level_of_ratio(&value, &divisor, limit, LEVEL_OK)
        if level == LEVEL_OK:
            return 0
        return self.add(limits, slot.limit, trade.cell, level, &value, &divisor, 0)

    # --- keys ----------------------------------------------------------------------------------------------------

    cdef int judge_touched(self, LimitBook limits) noexcept nogil:
        cdef uint32_t i, index
        cdef Key* key
        for i in range(limits.touched.count):
            index = (<uint32_t*>limits.touched.data)[i]
            key = &(<Key*>limits.keys.data)[index]
            key.is_touched = False
            # The most common outcome, a plain quantity far from its limit, is decided here.
            if key.kind == MAX_POSITION and key.level == LEVEL_OK and (
                    abs_i128(quantity_of_key(limits, key)) < (<const Rule*>limits.rules.data)[key.rule].warn):
                continue
            if self.judge_key(limits, index) < 0:
                return -1
        return 0

    cdef int judge_key(self, LimitBook limits, uint32_t index) noexcept nogil:
        cdef Key* key = &(<Key*>limits.keys.data)[index]
        cdef uint8_t level = level_of_key(limits, key)
        cdef Wide value, divisor
        cdef int exponent
        set_level(limits, key, key.level, False)
        if level == key.level and key.kind != CONCENTRATION:
            return 0
        if key.kind == CONCENTRATION:
            # Trades in other symbols move its gross without judging it.
            if level != LEVEL_OK and limits.freeze_key(index) < 0:
                return -1
            if level == key.level:
                return 0
        set_level(limits, key, level, key.frozen)
        exponent = limits.value_of_key(key, &value, &divisor)
        return self.add(limits, key.limit, key.cell, level, &value, &divisor, exponent)

    cdef int send_gone(self, LimitBook limits, uint32_t limit) noexcept nogil:
        """Clear every key of a limit that is no more, with its last value."""
        cdef uint32_t i
        cdef const Key* key
        cdef const Last* last
        cdef Wide value, divisor
        cdef int exponent
        for i in range(1, limits.keys.count):
            key = &(<const Key*>limits.keys.data)[i]
            if key.limit != limit or key.level == LEVEL_OK:
                continue
            if limits.freeze_key(i) < 0:
                return -1
            last = &(<const Last*>limits.lasts.data)[key.last]
            value = last.value
            divisor = last.divisor
            exponent = last.exponent
            if self.add(limits, limit, key.cell, SEVERITY_CLEAR, &value, &divisor, exponent) < 0:
                return -1
        return 0

    # --- alerts --------------------------------------------------------------------------------------------------

    cdef int add(self, LimitBook limits, uint32_t limit, uint32_t cell, uint8_t severity, Wide* value, Wide* divisor,
                 int exponent) noexcept nogil:
        cdef const Limit* l = &(<const Limit*>limits.limits.data)[limit]
        cdef Pending* alert
        cdef uint32_t index = array_add(&self.pending, sizeof(Pending))
        if index == 0 or bytes_reserve(&self.texts, 2 * RW_TEXT_MAX) < 0:
            return -1
        alert = &(<Pending*>self.pending.data)[index]
        alert.limit = limit
        alert.cell = cell
        alert.kind = l.kind
        alert.severity = severity
        alert.per = l.per
        alert.text = <uint32_t>self.texts.size
        alert.value_length = <uint16_t>format_ratio(value, divisor, exponent, <char*>self.texts.data + self.texts.size)
        self.texts.size += alert.value_length
        if l.kind == RESTRICTED:
            wide_set_u128(divisor, 1)
        else:
            wide_mul(divisor, &l.threshold)
            exponent -= l.exponent
        alert.utilization_length = <uint16_t>format_ratio(value, divisor, exponent,
                                                          <char*>self.texts.data + self.texts.size)
        self.texts.size += alert.utilization_length
        return 0

    cdef int add_after_kill(self, uint32_t cell) noexcept nogil:
        cdef uint32_t index = array_add(&self.pending, sizeof(Pending))
        cdef Pending* alert
        if index == 0 or bytes_reserve(&self.texts, 2) < 0:
            return -1
        alert = &(<Pending*>self.pending.data)[index]
        alert.cell = cell
        alert.kind = TRADE_AFTER_KILL
        alert.severity = SEVERITY_BREACH
        alert.per = PER_ACCOUNT
        alert.text = <uint32_t>self.texts.size
        alert.value_length = alert.utilization_length = 1
        bytes_append(&self.texts, <const char*>b"11", 2)
        return 0

    cdef int flush(self, LimitBook limits) noexcept nogil:
        """Put the event's alerts in order, send them, and let their kills take effect."""
        cdef uint32_t i
        cdef const Pending* alert
        if self.pending.count <= 1:         # element 0 is nobody's
            return 0
        if self.sort(limits) < 0:
            return -1
        for i in range(self.pending.count - 1):
            alert = &(<const Pending*>self.pending.data)[(<uint32_t*>self.order.data)[i]]
            if self.send(limits, alert) < 0:
                return -1
            if alert.severity == SEVERITY_BREACH and alert.limit and self.engage(limits, alert) < 0:
                return -1
        self.pending.count = 0
        self.texts.size = 0
        return 0

    cdef int sort(self, LimitBook limits) noexcept nogil:
        """A bottom-up merge sort of the indices of what is pending: stable, and no worse on many."""
        cdef uint32_t n = self.pending.count - 1, width = 1, low, middle, high, i, j, k
        cdef const Pending* all = <const Pending*>self.pending.data
        cdef uint32_t* a
        cdef uint32_t* b
        if array_reserve(&self.order, 2 * n, sizeof(uint32_t)) < 0:
            return -1
        a = <uint32_t*>self.order.data
        b = a + n
        for i in range(n):
            a[i] = i + 1
        while width < n:
            low = 0
            while low < n:
                middle = min(low + width, n)
                high = min(middle + width, n)
                i = low
                j = middle
                for k in range(low, high):
                    if j >= high or (i < middle and comes_first(limits, &all[a[i]], &all[a[j]])):
                        b[k] = a[i]
                        i += 1
                    else:
                        b[k] = a[j]
                        j += 1
                low = high
            a, b = b, a
            width *= 2
        if a != <uint32_t*>self.order.data:
            memcpy(self.order.data, a, n * sizeof(uint32_t))
        return 0

    cdef int send(self, LimitBook limits, const Pending* alert) noexcept nogil:
        cdef const uint8_t* texts[9]
        cdef size_t lengths[9]
        cdef const Limit* l = &(<const Limit*>limits.limits.data)[alert.limit]
        cdef int i
        for i in range(4):
            if alert.per & ORDER_BITS[i]:
                texts[ORDER_TEXTS[i]] = limits.name(ORDER_NAMES[i], alert.cell, &lengths[ORDER_TEXTS[i]])
            else:
                texts[ORDER_TEXTS[i]] = <const uint8_t*>b"*"
                lengths[ORDER_TEXTS[i]] = 1
        texts[<int>ALERT_TRADE_ID] = self.heap + self.event.id_offset
        lengths[<int>ALERT_TRADE_ID] = self.event.id_length if self.event.type == EVENT_TRADE else 0
        texts[<int>ALERT_VALUE] = self.texts.data + alert.text
        lengths[<int>ALERT_VALUE] = alert.value_length
        texts[<int>ALERT_UTILIZATION] = texts[<int>ALERT_VALUE] + alert.value_length
        lengths[<int>ALERT_UTILIZATION] = alert.utilization_length
        if alert.limit == 0:
            texts[<int>ALERT_LIMIT_ID] = <const uint8_t*>b"kill"
            lengths[<int>ALERT_LIMIT_ID] = 4
            texts[<int>ALERT_THRESHOLD] = <const uint8_t*>b"0"
            lengths[<int>ALERT_THRESHOLD] = 1
        else:
            texts[<int>ALERT_LIMIT_ID] = l.id
            lengths[<int>ALERT_LIMIT_ID] = l.id_length
            texts[<int>ALERT_THRESHOLD] = l.threshold_text
            lengths[<int>ALERT_THRESHOLD] = l.threshold_length
        return self.alerts.append(self.seq, self.event.executed_at, alert.kind, alert.severity, texts, lengths)

    # --- kills ---------------------------------------------------------------------------------------------------

    cdef int engage(self, LimitBook limits, const Pending* alert) noexcept nogil:
        cdef const Limit* l = &(<const Limit*>limits.limits.data)[alert.limit]
        cdef Kill kill
        if l.kill == KILL_NONE:
            return 0
        memset(&kill, 0, sizeof(kill))
        kill.seq = self.seq
        kill.length = <uint8_t>l.id_length
        memcpy(kill.limit_id, l.id, l.id_length)
        if l.kill == KILL_FIRM:
            if self.firm_killed:
                return 0
        else:
            kill.account = (<const Position*>limits.book.store.positions.data)[
                (<const Cell*>limits.book.store.cells.data)[alert.cell].position].account
            if kill.account < self.killed.count and (<uint8_t*>self.killed.data)[kill.account]:
                return 0
        if self.set_killed(kill.account, True) < 0:
            return -1
        return bytes_append(&self.kills, &kill, sizeof(kill))

    cdef int set_killed(self, uint32_t account, bint engaged) noexcept nogil:
        """Account 0 is the firm: a switch of its own; released, it releases every account too."""
        if account == 0:
            self.firm_killed = engaged
            if not engaged and self.killed.count:
                memset(self.killed.data, 0, self.killed.count)
            return 0
        if array_extend(&self.killed, account + 1, 1) < 0:
            return -1
        (<uint8_t*>self.killed.data)[account] = engaged
        return 0
