"""RiskCore: the consumer's state machine. Each event is checked, applied, valued and judged before the next is looked at."""

import json

from libc.string cimport memset

from ext.arrays cimport Table, array_extend, table_either, table_home
from ext.definitions cimport Instrument, NO_NAME
from ext.invariant cimport IS_DEBUG, cash_holds
from ext.fills cimport fold_fill, remember
from ext.journal cimport Journal, frame_bytes
from ext.lasting cimport is_lasting
from ext.limitfile cimport read_limits
from ext.judge cimport Kill, TradeFacts, begin_event, is_killed
from ext.limits cimport (FETCH_CELLS, FETCH_KEYS, FETCH_SLOTS, FETCH_WINDOWS, Key, LEVEL_OK, MAX_DRAWDOWN, MAX_LOSS, Sums,
                         VOLUME_RATE, begin, fetch_cell_keys, fetch_cell_states, fetch_keys, fetch_slots, fetch_states, set_level,
                         to_fetch)
from ext.positions cimport (Baseline, Cell, ENTRY_ADJUST, ENTRY_TRADE, Holding, MARK_EVENT, MARK_NONE, MARK_TRADE, Position,
                            SLOTS_HERE, Store, Symbol, cell_add, cell_hash, holding_of, position_hash, quantity_of, set_holding,
                            valued_at)
from ext.records cimport (Definition, EVENT_ADJUST, EVENT_INSTRUMENT, EVENT_KILL, EVENT_LIMITS, EVENT_MARK,
                          EVENT_SESSION, EVENT_TRADE, EXEC_BUST, EXEC_NEW, FRAME_SEQUENCED, NAME_ACCOUNT, NAME_KINDS,
                          NAME_SYMBOL, NAME_VENUE, REASON_OVERFLOW, REASON_UNKNOWN_TRADE, SIDE_BUY, bytes_append,
                          bytes_free, frame_open, i128)
from ext.report cimport position_rows, positions_as, sorted_positions
from ext.valuation cimport (Move, Valuation, fill_adjusted, fill_cell, fill_cell_slots, fill_position, revalue_cells,
                            revalue_position, revalue_symbol, touch_all, touch_position)
from ext.wide cimport add_i64, prefetch, wide_zero
from ext.windows cimport Run, Window, run_clear, window_clear

from ext.limitfile import NO_LIMITS
from ext.records import FrameDecodeError

cdef enum:
    LEAD = 5 * STEP                 # records between the first look at a record and its application
    FEW = 4                         # records that are not worth looking ahead for


# --- one new trade, from its first look to its last: all of it in one piece of machine code ----------------------

cdef inline uint32_t likely_cell(const Table* table, uint64_t hash) noexcept nogil:
    """The first cell whose hash looks the same; 0: there is none."""
    cdef uint64_t place = table_home(table, hash)
    cdef uint64_t slot = table_either(table, place, hash)
    while slot and (slot ^ hash) >> 32:
        place = (place + 1) & table.mask
        slot = table.slots[place]
    return <uint32_t>slot


cdef inline uint32_t cell_at_once(const Table* table, const Record* r) noexcept nogil:
    if table.slots == NULL:
        return 0
    return likely_cell(table, cell_hash(r.account, r.symbol, r.venue, r.strategy))


cdef inline void fetch_position_place(const Store* store, const Record* r) noexcept nogil:
    """Where the position of a new cell is found, or will be."""
    if store.position_table.slots != NULL:
        prefetch(&store.position_table.slots[table_home(&store.position_table, position_hash(r.account, r.symbol))])


cdef inline void look_ahead(Book book, LimitBook limits, const Record* records, size_t count, size_t at, Ahead* ahead) noexcept nogil:
    """One step each for six records, STEP apart: place in the table; cell; position; slots; what they lead to; what that leads to.

    Where no cell is likely, it is element 0, which is nobody's. Records before the first and behind the last, which are not there,
    lead to one that is nobody's or anybody's: it costs less to fetch in vain than to ask.
    """
    cdef const Table* table = &book.store.cell_table
    cdef const Cell* cells = <const Cell*>book.store.cells.data
    cdef const Position* positions = <const Position*>book.store.positions.data
    cdef const Record* r
    cdef const Position* p
    cdef const Cell* c
    cdef Look* look = &ahead.looks[at % RING]
    if at < count:
        r = &records[at]
        look.hash = cell_hash(r.account, r.symbol, r.venue, r.strategy)
        prefetch(&table.slots[table_home(table, look.hash)])
        prefetch(&table.slots[table_home(table, look.hash) + 1 & table.mask])
        prefetch(&(<const Symbol*>book.store.symbols.data)[r.symbol])
    at -= STEP
    look = &ahead.looks[at % RING]
    look.cell = likely_cell(table, look.hash)
    prefetch(&cells[look.cell])
    if look.cell == 0 and at < count:
        fetch_position_place(&book.store, &records[at])
    look = &ahead.looks[(at - STEP) % RING]
    look.position = cells[look.cell].position
    p = &positions[look.position]
    prefetch(p)
    prefetch(<const char*>p + 64)
    if ahead.what & (FETCH_SLOTS | FETCH_CELLS):
        look = &ahead.looks[(at - 2 * STEP) % RING]
        p = &positions[look.position]
        c = &cells[look.cell]
        if p.slot_count > SLOTS_HERE:
            fetch_slots(limits, p.slots, p.slot_count)
        fetch_slots(limits, c.slots, c.slot_count)
    look = &ahead.looks[(at - 3 * STEP) % RING]
    fetch_keys(limits, &positions[look.position], ahead.what)
    if ahead.what & FETCH_CELLS:
        fetch_cell_keys(limits, &cells[look.cell])
    if ahead.what & (FETCH_WINDOWS | FETCH_KEYS | FETCH_CELLS):
        look = &ahead.looks[(at - 4 * STEP) % RING]
        fetch_states(limits, &positions[look.position], ahead.what)
        if ahead.what & FETCH_CELLS:
            fetch_cell_states(limits, &cells[look.cell])


cdef inline int apply_record(RiskCore self, LimitBook limits, Judge judge, const Record* r, uint32_t likely) noexcept nogil:
    begin(limits)
    begin_event(judge, self.seq, self.view.heap, r)
    if r.type == EVENT_TRADE and r.exec_type == EXEC_NEW:
        return apply_trade(self, self.book, limits, judge, r, likely)
    return self.apply_other(r)


cdef inline bint is_cell_of(const Store* store, uint32_t cell, const Record* r) noexcept nogil:
    """Whether a trade is of this cell; then its names are sound, and its symbol is used."""
    cdef const Cell* c = &(<const Cell*>store.cells.data)[cell]
    cdef const Position* p
    if cell == 0 or c.venue != r.venue or c.strategy != r.strategy:
        return False
    p = &(<const Position*>store.positions.data)[c.position]
    return p.account == r.account and p.symbol == r.symbol


cdef inline int apply_trade(RiskCore self, Book book, LimitBook limits, Judge judge, const Record* r, uint32_t likely) noexcept nogil:
    cdef uint32_t cell = likely
    cdef int64_t quantity = quantity_of(r)
    cdef Cell* c
    cdef Position* p
    cdef Symbol* s
    cdef TradeFacts trade
    cdef Holding after
    cdef Move move
    cdef const Valuation* before
    cdef int status
    if not is_cell_of(&book.store, cell, r):
        status = self.open_cell(r, r.venue, r.strategy, quantity, &cell)
        if cell == 0:
            return status
    c = &(<Cell*>book.store.cells.data)[cell]
    p = &(<Position*>book.store.positions.data)[c.position]
    s = &(<Symbol*>book.store.symbols.data)[r.symbol]
    after = holding_of(p)
    if fold_fill(&after, r.price, quantity):
        return self.refuse(REASON_OVERFLOW)
    trade.price = r.price
    trade.quantity = quantity
    trade.cell = cell
    trade.mark = s.mark
    trade.marked = s.source != MARK_NONE
    if s.source != MARK_EVENT:
        s.mark = r.price
        s.source = MARK_TRADE
    if put_fill(self, book, limits, r, ENTRY_TRADE, cell, c, p, s, quantity, &after, &move, &before) < 0:
        return CORE_NO_MEMORY
    p.trades += 1
    if p.slot_count and fill_position(limits, c.position, p, s, &move, judge, &trade) < 0:
        return CORE_NO_MEMORY
    if c.slot_count and fill_cell_slots(limits, c, s, &move, before, judge, &trade) < 0:
        return CORE_NO_MEMORY
    if s.source == MARK_TRADE and ask_clock(limits, s, r) < 0:
        return CORE_NO_MEMORY
    return self.finish_trade(r, cell)


cdef inline int put_fill(RiskCore self, Book book, LimitBook limits, const Record* r, uint8_t state, uint32_t cell, Cell* c,
                         Position* p, const Symbol* s, int64_t quantity, const Holding* after, Move* move,
                         const Valuation** before) noexcept nogil:
    """Remember a fill that fits, value its position at the mark of the moment, and put it into position and cell.

    move: what is to be known of it before `fill_position`: its quantity, and the rest where something sums.
    before: how it was valued, where the limits that sum over its cells do not know yet that it no longer is; else NULL.
    """
    if remember(book, p, self.view, r, cell, state, self.lasting) < 0:
        return -1
    move.quantity = quantity
    if p.sum_count or c.slot_count:
        move.before.marked = valued_at(p, s, &move.before.mark)
        move.before.cost = p.cost
        move.held = p.quantity
        move.price = r.price
        move.fee = r.fee
    # Where it has other cells too, all of them are valued first; else the fill finds what to value (`before`).
    before[0] = NULL
    if p.first_cell != cell or c.next_in_position:
        if revalue_cells(limits, c.position) < 0:
            return -1
    else:
        if p.first_node:
            before[0] = &move.before
        p.mark = s.mark
        p.valued = s.source != MARK_NONE
        p.valuation = s.valuation
    set_holding(p, after)
    cell_add(c, r.price, quantity, r.fee, False)
    return CORE_CORRUPT if IS_DEBUG and not cash_holds(&book.store, c.position) else 0


cdef inline int ask_clock(LimitBook limits, Symbol* s, const Record* r) noexcept nogil:
    """Where trades make the mark, other holders follow it every `revalue_every`."""
    cdef int64_t due
    if not s.clocked:
        s.clocked = 1
        s.clock = r.executed_at
        return 0
    if add_i64(s.clock, limits.revalue_every_ns, &due) or r.executed_at < due:
        return 0
    s.clock = r.executed_at
    return revalue_symbol(limits, r.symbol)


cdef class RiskCore:
    """Positions, limits and alerts of one sequence.

    Give it sequenced frames in order (``apply``); ask it for positions, alerts and refusals. One thread at a time.
    """

    def __cinit__(self):
        self.alerts = AlertLog()
        self.book = Book()
        self.instruments = Instruments()
        self.judge = Judge(self.alerts)
        self.symbols, self.accounts, self.venues, self.strategies = (NameTable() for _ in range(NAME_KINDS))
        if array_extend(&self.book.store.symbols, 1, sizeof(Symbol)) < 0:
            raise MemoryError
        self.limits = self.compile_limits(NO_LIMITS)

    def __dealloc__(self):
        bytes_free(&self.refusals)

    def compile_limits(self, bytes source):
        """A set of limits in canonical JSON (``engine.limitset.LimitSet.to_json``), not attached to anything yet."""
        names = (self.symbols, self.accounts, self.venues, self.strategies)
        cdef LimitBook limits = LimitBook(self.book, self.instruments, names, source)
        read_limits(limits)
        return limits

    # --- frames --------------------------------------------------------------------------------------------------

    cdef int apply_frame(self, const FrameView* view, bint lasting) noexcept nogil:
        cdef uint64_t first = view.header.first_seq
        cdef int status
        if self.book.entry_count == 0:
            return CORE_PYTHON
        if view.header.kind != FRAME_SEQUENCED:
            return CORE_CORRUPT
        if first > self.applied_seq + 1:
            return CORE_GAP
        status = self.take_names(view)
        if status < 0 or self.applied_seq + 1 - first >= view.header.record_count:
            return status
        self.lasting = lasting
        return self.apply_records(view, self.applied_seq + 1 - first)

    cdef int take_names(self, const FrameView* view) noexcept nogil:
        """Names come in the order of their ids, each before its first use; those known already are passed over."""
        cdef size_t at = 0
        cdef const Definition* d
        cdef const uint8_t* text
        cdef uint32_t id, count
        while at < view.header.definition_bytes:
            d = <const Definition*>(view.definitions + at)
            text = view.definitions + at + sizeof(Definition)
            if d.kind == NAME_SYMBOL:
                id = self.symbols.intern(text, d.length)
            elif d.kind == NAME_ACCOUNT:
                id = self.accounts.intern(text, d.length)
            elif d.kind == NAME_VENUE:
                id = self.venues.intern(text, d.length)
            else:
                id = self.strategies.intern(text, d.length)
            if id == <uint32_t>NO_NAME:
                return CORE_NO_MEMORY
            if id != d.id:
                return CORE_CORRUPT
            at += sizeof(Definition) + ((d.length + 3) & ~3)
        return array_extend(&self.book.store.symbols, self.symbols.count, sizeof(Symbol))

    cdef int apply_records(self, const FrameView* view, size_t first) noexcept nogil:
        """Apply one by one; what later records need is fetched meanwhile, one step of the way at a time, so that no step
        waits for the one before it (the likely cell of a record is a guess: names alone decide)."""
        cdef size_t left = view.header.record_count - first, lead = LEAD, i
        cdef const Record* records = view.records + first
        cdef uint32_t likely
        cdef Ahead ahead
        cdef int status
        self.view = view
        self.seq = view.header.first_seq + first - 1
        ahead.what = to_fetch(self.limits)
        if left <= FEW or self.book.store.cell_table.slots == NULL:
            lead = 0
        else:
            memset(ahead.looks, 0, sizeof(ahead.looks))
        for i in range(left + lead):
            if lead == 0:
                likely = cell_at_once(&self.book.store.cell_table, &records[i])
            else:
                look_ahead(self.book, self.limits, records, left, i, &ahead)
                if i < lead:
                    continue
                likely = ahead.looks[(i - lead) % RING].cell
            self.seq += 1
            status = apply_record(self, self.limits, self.judge, &records[i - lead], likely)
            if status < 0:
                return status
            self.applied_seq = self.seq
        return 0

    cdef int apply_other(self, const Record* r) noexcept nogil:
        """Any event but a new trade."""
        if not self.is_sound(r):
            return CORE_CORRUPT
        if r.type == EVENT_TRADE:
            return self.apply_revision(r)
        if r.type == EVENT_MARK:
            return self.apply_mark(r)
        if r.type == EVENT_ADJUST:
            return self.apply_adjust(r)
        if r.type == EVENT_SESSION:
            return self.apply_session(r)
        if r.type == EVENT_INSTRUMENT:
            return self.apply_instrument(r)
        if r.type == EVENT_LIMITS:
            return self.apply_limits(r)
        if r.type == EVENT_KILL:
            return self.apply_kill(r)
        return CORE_CORRUPT

    # --- what all events share -----------------------------------------------------------------------------------

    cdef int refuse(self, uint8_t reason) noexcept nogil:
        cdef Refusal refusal
        memset(&refusal, 0, sizeof(refusal))
        refusal.seq = self.seq
        refusal.reason = reason
        return bytes_append(&self.refusals, &refusal, sizeof(refusal))

    cdef bint is_sound(self, const Record* r) noexcept nogil:
        return (r.symbol < self.symbols.count and r.account < self.accounts.count and r.venue < self.venues.count
                and r.strategy < self.strategies.count)

    cdef inline int ensure_used(self, uint32_t symbol) noexcept nogil:
        """What a symbol's numbers mean is fixed by the first event that names it."""
        if (<Symbol*>self.book.store.symbols.data)[symbol].used:
            return 0
        return self.limits.use_symbol(symbol)

    cdef int open_cell(self, const Record* r, uint32_t venue, uint32_t strategy, int64_t quantity, uint32_t* cell) noexcept nogil:
        """Find the cell of a fill that was not found ahead, or make it; where that leaves none, what is returned ends
        the event (0: it was refused)."""
        cdef Holding after
        cdef uint32_t found, position
        cell[0] = 0
        if not self.is_sound(r):
            return CORE_CORRUPT
        if self.ensure_used(r.symbol) < 0:
            return CORE_NO_MEMORY
        found = self.book.find_cell(r.account, r.symbol, venue, strategy)
        if found == 0:
            position = self.book.find_position(r.account, r.symbol)
            if position:
                after = holding_of(&(<const Position*>self.book.store.positions.data)[position])
                if fold_fill(&after, r.price, quantity):
                    return self.refuse(REASON_OVERFLOW)
            found = self.add_cell(r, venue, strategy)
            if found == 0:
                return CORE_NO_MEMORY
        cell[0] = found
        return 0

    cdef uint32_t add_cell(self, const Record* r, uint32_t venue, uint32_t strategy) noexcept nogil:
        cdef uint32_t cell = self.book.add_cell(r.account, r.symbol, venue, strategy)
        cdef const Cell* c = &(<const Cell*>self.book.store.cells.data)[cell]
        if cell == 0 or (c.next_in_position == 0 and self.limits.attach_position(c.position) < 0):
            return 0
        return cell if self.limits.attach_cell(cell) == 0 else 0

    cdef inline int finish_trade(self, const Record* r, uint32_t cell) noexcept nogil:
        if is_killed(self.judge, r.account) and self.judge.add_after_kill(cell) < 0:
            return CORE_NO_MEMORY
        return self.finish()

    cdef inline int finish(self) noexcept nogil:
        if self.limits.touched.count and self.judge.judge_touched(self.limits) < 0:
            return CORE_NO_MEMORY
        if self.judge.pending.count > 1 and self.judge.flush(self.limits) < 0:
            return CORE_NO_MEMORY
        return 0

    cdef int apply_adjust(self, const Record* r) noexcept nogil:
        cdef Holding after
        cdef Move move
        cdef const Valuation* before
        cdef uint32_t cell
        cdef Cell* c
        cdef Position* p
        cdef Symbol* s
        cdef int status = self.open_cell(r, 0, 0, r.volume, &cell)
        if cell == 0:
            return status
        c = &(<Cell*>self.book.store.cells.data)[cell]
        p = &(<Position*>self.book.store.positions.data)[c.position]
        s = &(<Symbol*>self.book.store.symbols.data)[r.symbol]
        after = holding_of(p)
        if fold_fill(&after, r.price, r.volume):
            return self.refuse(REASON_OVERFLOW)
        if (put_fill(self, self.book, self.limits, r, ENTRY_ADJUST, cell, c, p, s, r.volume, &after, &move, &before) < 0
                or fill_adjusted(self.limits, c.position, p, s, &move, self.judge) < 0
                or fill_cell_slots(self.limits, c, s, &move, before, self.judge, NULL) < 0):
            return CORE_NO_MEMORY
        return self.finish()

    # --- busts and corrections -----------------------------------------------------------------------------------

    cdef int apply_revision(self, const Record* r) noexcept nogil:
        cdef uint32_t position, found = 0
        cdef Entry revised
        cdef int reason, side = 0
        if self.ensure_used(r.symbol) < 0:
            return CORE_NO_MEMORY
        position = self.book.find_position(r.account, r.symbol)
        if position == 0:
            return self.refuse(REASON_UNKNOWN_TRADE)
        if r.exec_type == EXEC_BUST:
            side = 1 if r.side == SIDE_BUY else -1
        reason = self.book.find_trade(position, r.venue, self.view.heap + r.ref_offset, r.ref_length, side, &found)
        if reason:
            return self.refuse(<uint8_t>reason)
        if r.exec_type == EXEC_BUST:
            return self.revise(r, position, found, NULL)
        self.book.unpack(found, &revised)
        revised.price = r.price
        revised.quantity = quantity_of(r)
        revised.fee = r.fee
        revised.id = self.view.heap + r.id_offset
        revised.id_length = r.id_length
        return self.revise(r, position, found, &revised)

    cdef int revise(self, const Record* r, uint32_t position, uint32_t found, const Entry* revised) noexcept nogil:
        """Make it so that the found trade had always been the revised one (NULL: had never been)."""
        cdef Entry old, new
        cdef Symbol* s = &(<Symbol*>self.book.store.symbols.data)[r.symbol]
        cdef Holding after
        cdef TradeFacts facts
        cdef int status = self.book.rebuild(position, found, revised, &after)
        self.book.unpack(found, &old)
        if status:
            return self.refuse(REASON_OVERFLOW) if status == 1 else CORE_NO_MEMORY
        facts.mark = s.mark
        facts.marked = s.source != MARK_NONE
        self.limits.load_position(position, True)
        if fill_cell(self.limits, old.cell, old.price, -old.quantity, -old.fee, self.judge) < 0:
            return CORE_NO_MEMORY
        cell_add(&(<Cell*>self.book.store.cells.data)[old.cell], old.price, old.quantity, old.fee, True)
        if revised == NULL:
            self.book.kill_entry(found)
            (<Position*>self.book.store.positions.data)[position].trades -= 1
        else:
            new = revised[0]
            new.cell = self.book.find_cell(r.account, r.symbol, r.venue, r.strategy)
            if new.cell == 0:
                new.cell = self.add_cell(r, r.venue, r.strategy)
            if new.cell == 0 or self.book.replace_entry(position, found, &new) == 0:
                return CORE_NO_MEMORY
            if fill_cell(self.limits, new.cell, new.price, new.quantity, new.fee, self.judge) < 0:
                return CORE_NO_MEMORY
            cell_add(&(<Cell*>self.book.store.cells.data)[new.cell], new.price, new.quantity, new.fee, False)
            facts.price = new.price
            facts.quantity = new.quantity
            facts.cell = new.cell
        set_holding(&(<Position*>self.book.store.positions.data)[position], &after)
        if IS_DEBUG and not cash_holds(&self.book.store, position):
            return CORE_CORRUPT
        self.limits.load_position(position, False)
        status = self.remark(r.symbol, r.executed_at)
        if status < 0 or revalue_position(self.limits, position) < 0 or touch_position(self.limits, position) < 0:
            return CORE_NO_MEMORY
        if revised == NULL:
            return self.finish()
        if self.judge.judge_trade(self.limits, &facts) < 0:
            return CORE_NO_MEMORY
        return self.finish_trade(r, facts.cell)

    cdef int remark(self, uint32_t symbol, int64_t executed_at) noexcept nogil:
        """Find the mark again after a trade has changed; where it moves, every holder is valued."""
        cdef Symbol* s = &(<Symbol*>self.book.store.symbols.data)[symbol]
        cdef int64_t mark = 0
        cdef bint found
        if s.source == MARK_EVENT:
            return 0
        found = self.book.latest_trade(symbol, &mark)
        if found == (s.source != MARK_NONE) and mark == s.mark:
            return 0
        s.mark = mark
        s.source = MARK_TRADE if found else MARK_NONE
        if s.clocked and executed_at > s.clock:
            s.clock = executed_at
        return revalue_symbol(self.limits, symbol)

    # --- marks, sessions, instruments, kills ---------------------------------------------------------------------

    cdef int apply_mark(self, const Record* r) noexcept nogil:
        cdef Symbol* s
        if self.ensure_used(r.symbol) < 0:
            return CORE_NO_MEMORY
        s = &(<Symbol*>self.book.store.symbols.data)[r.symbol]
        s.mark = r.price
        s.source = MARK_EVENT
        if revalue_symbol(self.limits, r.symbol) < 0:
            return CORE_NO_MEMORY
        return self.finish()

    cdef int apply_session(self, const Record* r) noexcept nogil:
        cdef uint32_t i
        cdef Symbol* s
        cdef Baseline* bases
        for i in range(1, self.book.store.symbols.count):
            s = &(<Symbol*>self.book.store.symbols.data)[i]
            if not s.used:
                continue
            if s.clocked and r.executed_at > s.clock:
                s.clock = r.executed_at
            if revalue_symbol(self.limits, i) < 0:
                return CORE_NO_MEMORY
        if array_extend(&self.book.store.baselines, self.book.store.cells.count, sizeof(Baseline)) < 0:
            return CORE_NO_MEMORY
        bases = <Baseline*>self.book.store.baselines.data
        for i in range(1, self.book.store.cells.count):
            self.book.take_baseline(i, &bases[i])
        self.restart_keys()
        if touch_all(self.limits) < 0:
            return CORE_NO_MEMORY
        return self.finish()

    cdef void restart_keys(self) noexcept nogil:
        """Empty windows, tails and peaks; P&L counts from here."""
        cdef uint32_t i
        cdef const Key* key
        cdef Sums* sums = <Sums*>self.limits.sums.data
        for i in range(1, self.limits.windows.count):
            window_clear(&(<Window*>self.limits.windows.data)[i])
        for i in range(1, self.limits.runs.count):
            run_clear(&(<Run*>self.limits.runs.data)[i])
        for i in range(1, self.limits.keys.count):
            key = &(<const Key*>self.limits.keys.data)[i]
            if key.kind == MAX_LOSS or key.kind == MAX_DRAWDOWN:
                wide_zero(&sums[key.state].sum)
                wide_zero(&sums[key.state].peak)
            elif key.kind == VOLUME_RATE:
                wide_zero(&sums[key.node].sum)

    cdef int apply_instrument(self, const Record* r) noexcept nogil:
        cdef Instrument instrument
        memset(&instrument, 0, sizeof(instrument))
        instrument.multiplier = r.price
        instrument.multiplier_exponent = <signed char>r.volume
        instrument.price_exponent = r.price_exponent
        instrument.quantity_exponent = r.volume_exponent
        instrument.currency = self.instruments.currencies.intern(self.view.heap + r.ref_offset, r.ref_length)
        if instrument.currency == <uint32_t>NO_NAME:
            return CORE_NO_MEMORY
        return self.limits.define(r.symbol, &instrument)

    cdef int apply_kill(self, const Record* r) noexcept nogil:
        return self.judge.set_killed(r.account, r.exec_type != 0)

    # --- limits --------------------------------------------------------------------------------------------------

    cdef int apply_limits(self, const Record* r) noexcept nogil:
        cdef int status = 0
        with gil:
            try:
                source = (<const char*>self.view.heap + r.ref_offset)[:r.volume]
                self.change_limits(source, r.executed_at)
            except BaseException as problem:
                self.error = problem
                status = CORE_PYTHON
        return status

    cdef object change_limits(self, bytes source, int64_t at):
        """Put a new set of limits in the place of the old: clear what is gone, take over levels, judge."""
        cdef LimitBook old = self.limits
        cdef LimitBook new = self.compile_limits(source)
        cdef uint32_t i
        stays = staying(old.source, source)
        for i in range(1, old.limits.count):
            if i not in stays and self.judge.send_gone(old, i) < 0:
                raise MemoryError
        if self.judge.flush(old) < 0:
            raise MemoryError
        self.detach()
        self.limits = new
        for i in range(1, self.book.store.symbols.count):
            if (<Symbol*>self.book.store.symbols.data)[i].used and new.set_factors(i) < 0:
                raise MemoryError
        for i in range(1, self.book.store.positions.count):
            if new.attach_position(i) < 0:
                raise MemoryError
        for i in range(1, self.book.store.cells.count):
            if new.attach_cell(i) < 0:
                raise MemoryError
        self.keep_levels(old, stays)
        begin(new)
        if touch_all(new) < 0 or self.finish() < 0:
            raise MemoryError

    cdef object detach(self):
        cdef uint32_t i
        for i in range(1, self.book.store.symbols.count):
            (<Symbol*>self.book.store.symbols.data)[i].first_node = 0
            (<Symbol*>self.book.store.symbols.data)[i].first_rule = 0
        for i in range(1, self.book.store.positions.count):
            (<Position*>self.book.store.positions.data)[i].first_node = 0
            (<Position*>self.book.store.positions.data)[i].first_key = 0
            (<Position*>self.book.store.positions.data)[i].slots = 0
            (<Position*>self.book.store.positions.data)[i].slot_count = 0
        for i in range(1, self.book.store.cells.count):
            (<Cell*>self.book.store.cells.data)[i].slots = 0
            (<Cell*>self.book.store.cells.data)[i].slot_count = 0

    cdef object keep_levels(self, LimitBook old, dict stays):
        cdef uint32_t i, index, limit
        cdef const Key* key
        for i in range(1, old.keys.count):
            key = &(<const Key*>old.keys.data)[i]
            if key.level == LEVEL_OK or key.limit not in stays:
                continue
            limit = stays[key.limit]
            index = self.limits.ensure_key(limit, key.cell, key.kind, key.per)
            if index == 0 or self.limits.ensure_rule(index) < 0:
                raise MemoryError
            set_level(self.limits, &(<Key*>self.limits.keys.data)[index], key.level, False)

    # --- the Python face -----------------------------------------------------------------------------------------

    def apply(self, frame not None):
        """Apply one sequenced frame (any buffer of bytes).

        Raises FrameDecodeError for bytes that are no frame, ValueError for a gap or a frame that no broker makes,
        MemoryError; and what went wrong while a LimitsChanged was compiled.
        """
        cdef const unsigned char[::1] data = frame
        cdef FrameView view
        cdef int status
        if data.shape[0] == 0:
            raise FrameDecodeError(1)
        status = frame_open(&data[0], data.shape[0], True, &view)
        if status:
            raise FrameDecodeError(status)
        with nogil:
            status = self.apply_frame(&view, False)
        self.raise_for(status, view.header.first_seq)

    def follow(self, Journal journal not None, *, bint check_crc=False):
        """Apply what an open journal holds above ``applied_seq``, where it lies: trades are remembered by their records there.

        check_crc: check each frame again (opening the journal did). Raises as ``apply`` does. In the thread that writes the
        journal, or while nobody does; nothing of it may be removed as long as this core is.
        """
        cdef uint64_t index = journal.index_of(self.applied_seq + 1)
        cdef const unsigned char* data
        cdef FrameView view
        cdef int status = 0, bad = 0
        with nogil:
            while status == 0 and bad == 0 and index < journal.frames():
                if check_crc:
                    data = journal.frame_at(index)
                    bad = frame_open(data, frame_bytes(data), True, &view)
                else:
                    journal.view_at(index, &view)
                if bad == 0:
                    status = self.apply_frame(&view, is_lasting(self.book, journal, &view))
                index += 1
        if bad:
            raise FrameDecodeError(bad)
        self.raise_for(status, view.header.first_seq if status else 0)

    def make_room(self, uint64_t trades):
        """Have memory for so many trades at hand, 16 bytes each, before the first one comes. Raises MemoryError."""
        cdef int status
        with nogil:
            status = self.book.make_room(self.book.entry_count + trades)
        if status < 0:
            raise MemoryError

    def end(self):
        """Apply nothing more. From now on the core can be asked for positions, alerts and the like; to apply a frame or take a
        snapshot raises ValueError."""
        self.error = ValueError("the core has let go of its trades: it can be asked, and no more")
        self.book.entry_count = 0

    def let_go(self):
        """Give back the memory of the trades that positions are made of, after ``end``, or with it. Another thread can ask the core
        meanwhile."""
        self.end()
        with nogil:
            self.book.let_go()

    cdef object raise_for(self, int status, uint64_t first_seq):
        if status == CORE_GAP:
            raise ValueError(f"a frame starts at seq {first_seq}, expected at most {self.applied_seq + 1}: "
                             f"fetch what is missing first")
        if status == CORE_PYTHON:
            raise self.error
        if status == CORE_CORRUPT:
            raise ValueError(f"the frame at seq {first_seq} is not one a broker makes: another kind of frame, or a name "
                             f"that nothing defined")
        if status < 0:
            raise MemoryError(f"out of memory at seq {self.applied_seq + 1}")

    def positions(self, account=None, symbol=None):
        """Position rows as dicts (``ext.report.POSITION_FIELDS``; decimals as text), sorted by account then symbol.

        account, symbol: globs; None is all.
        """
        return position_rows(self.book, self.accounts, self.symbols, account, symbol)

    def positions_json(self):
        """All positions as the bytes of one JSON array (DESIGN section 9, a position row)."""
        pieces = []
        self.write_positions_json(pieces.append)
        return b"".join(pieces)

    def write_positions_json(self, write):
        """Hand the bytes of ``positions_json`` to ``write``, piece by piece."""
        positions_as(self.book, self.accounts, self.symbols, False, write)

    def positions_csv(self):
        """All positions as CSV bytes with a header."""
        pieces = []
        self.write_positions_csv(pieces.append)
        return b"".join(pieces)

    def write_positions_csv(self, write):
        """Hand the bytes of ``positions_csv`` to ``write``, piece by piece."""
        positions_as(self.book, self.accounts, self.symbols, True, write)

    def snapshot(self):
        """The whole state as bytes, with version and checksum (``ext.snapshot``)."""
        from ext.snapshot import dump
        return dump(self)

    def restore(self, snapshot not None):
        """Take up the state of a ``snapshot`` of this build; the core must be new. Raises SnapshotError."""
        from ext.snapshot import load
        load(self, bytes(snapshot))

    def state_hash(self):
        """16 bytes that are equal for equal histories, whichever frames they came in."""
        from ext.snapshot import state_hash
        return state_hash(self)

    def refused(self, size_t first=0):
        """Events refused in the sequence, from the ``first`` on: (seq, number of the reason as in ``ext.records.REASONS``)."""
        cdef const Refusal* refusals = <const Refusal*>self.refusals.data
        cdef size_t i
        return [(refusals[i].seq, refusals[i].reason) for i in range(first, self.refusals.size // sizeof(Refusal))]

    @property
    def refused_count(self):
        """How many events were refused in the sequence."""
        return self.refusals.size // sizeof(Refusal)

    def position_integers(self):
        """(account, symbol, quantity, mark, marked, trades, quantity_exponent, price_exponent) of all positions, sorted."""
        cdef const Position* p
        cdef const Symbol* s
        cdef uint32_t i
        rows = []
        for i in sorted_positions(self.book, self.accounts, self.symbols, None, None):
            p = &(<const Position*>self.book.store.positions.data)[i]
            s = &(<const Symbol*>self.book.store.symbols.data)[p.symbol]
            rows.append((self.accounts[p.account], self.symbols[p.symbol], p.quantity,
                         s.mark if s.source != MARK_NONE else 0, s.source != MARK_NONE, p.trades,
                         s.instrument.quantity_exponent, s.instrument.price_exponent))
        return rows

    def kills(self):
        """What limits have stopped, oldest first: (seq, account or b"*", limit id); for who announces them."""
        cdef const Kill* kills = <const Kill*>self.judge.kills.data
        cdef size_t i
        return [(kills[i].seq, self.accounts[kills[i].account] if kills[i].account else b"*",
                 kills[i].limit_id[:kills[i].length]) for i in range(self.judge.kills.size // sizeof(Kill))]

    def killed(self):
        """Accounts whose switch is engaged now, and b"*" where everybody's is."""
        cdef uint32_t i
        names = [self.accounts[i] for i in range(self.judge.killed.count) if (<uint8_t*>self.judge.killed.data)[i]]
        return ([b"*"] if self.judge.firm_killed else []) + sorted(names)

    def name(self, int kind, uint32_t id):
        """The text of a name id (kind: 0 symbol, 1 account, 2 venue, 3 strategy)."""
        return (self.symbols, self.accounts, self.venues, self.strategies)[kind][id]

    def limits_json(self):
        """The limits at work, in canonical JSON."""
        return self.limits.source


def staying(bytes old, bytes new):
    """Number in the old set to number in the new, of limits with the same id, kind and per (from 1)."""
    def identities(source):
        return [(limit["id"], limit["kind"], tuple(limit["per"])) for limit in json.loads(source).get("limit", [])]
    places = {identity: place for place, identity in enumerate(identities(new), 1)}
    return {place: places[identity] for place, identity in enumerate(identities(old), 1) if identity in places}
