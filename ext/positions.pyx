"""Positions, cells and the trades they are made of: netting at average cost, exact to the last unit."""

from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from ext.ahead cimport rw_ahead_ask, rw_ahead_stop, rw_touch
from ext.arrays cimport (array_add, array_extend, array_free, array_reserve, list_reserve, streamed_alloc, table_free,
                         table_home, table_put, table_reserve)
from ext.fills cimport fold_fill, next_entry, place_word
from ext.records cimport (EVENT_ADJUST, REASON_AMBIGUOUS_TRADE, REASON_UNKNOWN_TRADE, Record, bytes_append,
                          bytes_free, i128, u128)
from ext.wide cimport copy_text, high_u128, i128_of, low_u128, prefetch, text_tag

cdef enum:
    REBUILD_AHEAD = 16              # entries between the look at one and its fill

# --- accounting --------------------------------------------------------------------------------------------------

cdef i128 cell_quantity(const Cell* cell) noexcept nogil:
    return <i128>cell.quantity + (<i128>cell.quantity_carry << 64)


cdef class Book:
    """All positions and cells by index, and every trade that made them."""

    def __cinit__(self):
        memset(&self.store, 0, sizeof(Store))
        self.entry_count = 1
        if array_extend(&self.store.members, 1, sizeof(Members)) < 0:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t i
        self.let_go()
        for i in range(self.store.members.count):
            free((<Members*>self.store.members.data)[i].positions)
        array_free(&self.store.members)
        array_free(&self.store.symbols)
        array_free(&self.store.positions)
        array_free(&self.store.cells)
        array_free(&self.store.baselines)
        array_free(&self.scratch)
        bytes_free(&self.before)
        table_free(&self.store.cell_table)
        table_free(&self.store.position_table)

    cdef void let_go(self) noexcept nogil:
        cdef uint32_t i
        rw_ahead_stop(&self.ahead)
        self.entry_count = 0
        self.entry_room = 0
        for i in range(self.chunk_count):
            free(self.chunks[i])
        free(self.chunks)
        for i in range(self.block_count):
            free(self.blocks[i])
        free(self.blocks)
        for i in range(1, self.holds.count):
            (<Hold*>self.holds.data)[i].release((<Hold*>self.holds.data)[i].what)
        array_free(&self.holds)
        self.chunks, self.blocks = NULL, NULL
        self.chunk_count = self.chunks_touched = self.block_count = 0
        self.arena_left = self.arena_rest = 0
        self.next_block = NULL
        self.held_start = self.held_end = NULL

    # --- positions and cells -------------------------------------------------------------------------------------

    cdef uint32_t find_position(self, uint32_t account, uint32_t symbol) noexcept nogil:
        cdef uint64_t hash = position_hash(account, symbol), at, slot
        cdef Position* position
        if self.store.position_table.slots == NULL:
            return 0
        at = table_home(&self.store.position_table, hash)
        while True:
            slot = self.store.position_table.slots[at]
            if slot == 0:
                return 0
            if (slot ^ hash) >> 32 == 0:
                position = &(<Position*>self.store.positions.data)[<uint32_t>slot]
                if position.account == account and position.symbol == symbol:
                    return <uint32_t>slot
            at = (at + 1) & self.store.position_table.mask

    cdef uint32_t find_cell(self, uint32_t account, uint32_t symbol, uint32_t venue, uint32_t strategy) noexcept nogil:
        cdef uint64_t hash = cell_hash(account, symbol, venue, strategy), at, slot
        cdef Cell* cell
        cdef Position* position
        if self.store.cell_table.slots == NULL:
            return 0
        at = table_home(&self.store.cell_table, hash)
        while True:
            slot = self.store.cell_table.slots[at]
            if slot == 0:
                return 0
            if (slot ^ hash) >> 32 == 0:
                cell = &(<Cell*>self.store.cells.data)[<uint32_t>slot]
                position = &(<Position*>self.store.positions.data)[cell.position]
                if (cell.venue == venue and cell.strategy == strategy and position.account == account
                        and position.symbol == symbol):
                    return <uint32_t>slot
            at = (at + 1) & self.store.cell_table.mask

    cdef uint32_t add_position(self, uint32_t account, uint32_t symbol) noexcept nogil:
        cdef Position* position
        cdef Symbol* of = &(<Symbol*>self.store.symbols.data)[symbol]
        cdef uint32_t index
        if table_reserve(&self.store.position_table) < 0:
            return 0
        index = array_add(&self.store.positions, sizeof(Position))
        if index == 0:
            return 0
        position = &(<Position*>self.store.positions.data)[index]
        position.account = account
        position.symbol = symbol
        position.valuation = of.valuation
        if self.add_member(index, symbol) < 0:
            return 0
        table_put(&self.store.position_table, position_hash(account, symbol), index)
        return index

    cdef int add_member(self, uint32_t position, uint32_t symbol) noexcept nogil:
        cdef Members* members
        if array_extend(&self.store.members, symbol + 1, sizeof(Members)) < 0:
            return -1
        members = &(<Members*>self.store.members.data)[symbol]
        if list_reserve(<void**>&members.positions, &members.capacity, members.count + 1, sizeof(uint32_t)) < 0:
            return -1
        members.positions[members.count] = position
        (<Position*>self.store.positions.data)[position].member = members.count
        members.count += 1
        return 0

    cdef uint32_t add_cell(self, uint32_t account, uint32_t symbol, uint32_t venue, uint32_t strategy) noexcept nogil:
        cdef uint32_t position = self.find_position(account, symbol), index
        cdef Cell* cell
        if position == 0:
            position = self.add_position(account, symbol)
        if position == 0 or table_reserve(&self.store.cell_table) < 0:
            return 0
        index = array_add(&self.store.cells, sizeof(Cell))
        if index == 0:
            return 0
        cell = &(<Cell*>self.store.cells.data)[index]
        cell.position = position
        cell.venue = venue
        cell.strategy = strategy
        cell.next_in_position = (<Position*>self.store.positions.data)[position].first_cell
        (<Position*>self.store.positions.data)[position].first_cell = index
        table_put(&self.store.cell_table, cell_hash(account, symbol, venue, strategy), index)
        return index

    cdef int rebuild_tables(self) noexcept nogil:
        cdef uint32_t i
        cdef const Position* p
        cdef const Cell* c
        for i in range(1, self.store.positions.count):
            if table_reserve(&self.store.position_table) < 0:
                return -1
            p = &(<const Position*>self.store.positions.data)[i]
            table_put(&self.store.position_table, position_hash(p.account, p.symbol), i)
            if self.add_member(i, p.symbol) < 0:
                return -1
        for i in range(1, self.store.cells.count):
            if table_reserve(&self.store.cell_table) < 0:
                return -1
            c = &(<const Cell*>self.store.cells.data)[i]
            p = &(<const Position*>self.store.positions.data)[c.position]
            table_put(&self.store.cell_table, cell_hash(p.account, p.symbol, c.venue, c.strategy), i)
        return 0

    cdef void take_baseline(self, uint32_t cell, Baseline* out) noexcept nogil:
        cdef const Cell* c = &(<const Cell*>self.store.cells.data)[cell]
        cdef const Position* p = &(<const Position*>self.store.positions.data)[c.position]
        memset(out, 0, sizeof(Baseline))
        out.cash = c.cash
        out.cash_carry = c.cash_carry
        out.fees = cell_fees(c)
        out.quantity = cell_quantity(c)
        out.marked = valued_at(p, &(<const Symbol*>self.store.symbols.data)[p.symbol], &out.mark)
        # Without a mark only adjustments are live, all in one cell: its cost is the position's, unrealized is 0.
        if not out.marked and c.venue == 0 and c.strategy == 0:
            out.cost = p.cost

    # --- entries -------------------------------------------------------------------------------------------------

    cdef Packed* entry(self, uint32_t index) noexcept nogil:
        return &self.chunks[index >> ENTRY_CHUNK_BITS][index & ENTRY_CHUNK_MASK]

    cdef void unpack(self, uint32_t index, Entry* out) noexcept nogil:
        cdef const Packed* e = self.entry(index)
        cdef const Record* r
        cdef const Copy* copy
        out.seq = seq_of(e)
        out.previous = e.previous
        out.cell = e.cell
        out.state = state_of(e)
        fill_of(e, &out.price, &out.quantity)
        if is_kept(e):
            r = record_of(e)
            out.fee = r.fee
            out.id = (<const uint8_t*>(r - index_of(e) + frame_of(e).record_count) + frame_of(e).definition_bytes
                      + r.id_offset)
            out.id_length = 0 if r.type == EVENT_ADJUST else r.id_length
            return
        copy = copy_at(e)
        out.fee = 0
        out.id = <const uint8_t*>copy + sizeof(Copy)
        out.id_length = copy.id_length
        if copy.has_fee:
            memcpy(&out.fee, out.id, sizeof(int64_t))
            out.id += sizeof(int64_t)

    # What is filled front to back is made ahead: with each step through the second half of one piece, two steps of the next
    # are touched in a thread, so that no trade waits for its pages.

    cdef int add_entry_room(self) noexcept nogil:
        cdef uint64_t chunk = self.entry_room >> ENTRY_CHUNK_BITS
        cdef uint64_t half = (self.entry_room & ENTRY_CHUNK_MASK) - (ENTRY_CHUNK_MASK + 1 >> 1)
        if self.chunk_count == chunk and self.add_chunk() < 0:
            return -1
        if (half <= ENTRY_CHUNK_MASK and chunk + 1 >= self.chunks_touched
                and (self.chunk_count > chunk + 1 or self.add_chunk() == 0)):       # else tried again
            rw_ahead_ask(&self.ahead, &self.chunks[chunk + 1][2 * half], 2 * ENTRY_STEP * sizeof(Packed), False)
        self.entry_room += ENTRY_STEP
        return 0

    cdef int make_room(self, uint64_t entries) noexcept nogil:
        # Half a piece more: in the second half of the last one, the next would be made.
        while <uint64_t>self.chunk_count << ENTRY_CHUNK_BITS < entries + (1 << ENTRY_CHUNK_BITS - 1):
            if self.add_chunk() < 0:
                return -1
        while self.chunks_touched < self.chunk_count:
            rw_touch(self.chunks[self.chunks_touched], sizeof(Packed) << ENTRY_CHUNK_BITS)
            self.chunks_touched += 1
        return 0

    cdef int add_chunk(self) noexcept nogil:
        cdef Packed** chunks = <Packed**>realloc(self.chunks, (self.chunk_count + 1) * sizeof(Packed*))
        if chunks == NULL:
            return -1
        self.chunks = chunks
        chunks[self.chunk_count] = <Packed*>streamed_alloc(sizeof(Packed) << ENTRY_CHUNK_BITS)
        if chunks[self.chunk_count] == NULL:
            return -1
        self.chunk_count += 1
        return 0

    cdef int add_arena_room(self) noexcept nogil:
        cdef size_t half = ARENA_BYTES // 2 - self.arena_rest       # beyond the half
        if self.arena_rest == 0:
            if self.next_block == NULL and self.add_block() < 0:
                return -1
            self.arena = self.next_block
            self.next_block = NULL
            self.arena_left = 0
            self.arena_rest = ARENA_BYTES
        elif half < ARENA_BYTES and (self.next_block != NULL or self.add_block() == 0):
            rw_ahead_ask(&self.ahead, self.next_block + 2 * half, 2 * ARENA_STEP, False)
        self.arena_left += ARENA_STEP
        self.arena_rest -= ARENA_STEP
        return 0

    cdef int add_block(self) noexcept nogil:
        cdef void** blocks = <void**>realloc(self.blocks, (self.block_count + 1) * sizeof(void*))
        if blocks == NULL:
            return -1
        self.blocks = blocks
        self.next_block = <uint8_t*>streamed_alloc(ARENA_BYTES)
        if self.next_block == NULL or <uint64_t><size_t>self.next_block >> PLACE_BITS:
            free(self.next_block)
            self.next_block = NULL
            return -1
        blocks[self.block_count] = self.next_block
        self.block_count += 1
        return 0

    cdef int hold(self, const uint8_t* start, size_t size, void (*release)(void*) noexcept nogil, void* what) noexcept nogil:
        cdef uint32_t index = array_add(&self.holds, sizeof(Hold))
        cdef Hold* hold
        if index == 0:
            return -1
        hold = &(<Hold*>self.holds.data)[index]
        self.held_start = start
        self.held_end = start + size
        hold.release = release
        hold.what = what
        return 0

    cdef uint64_t copy_of(self, uint64_t seq, int64_t price, int64_t quantity, int64_t fee, const uint8_t* id,
                          uint8_t id_length) noexcept nogil:
        cdef size_t fee_bytes = sizeof(int64_t) if fee else 0, size = sizeof(Copy) + fee_bytes + id_length
        cdef Copy* copy
        if size > self.arena_left and self.add_arena_room() < 0:
            return 0
        copy = <Copy*>self.arena
        copy.seq = seq
        copy.price = price
        copy.quantity = quantity
        copy.id_length = id_length
        copy.has_fee = fee != 0
        if fee:
            memcpy(self.arena + sizeof(Copy), &fee, sizeof(int64_t))
        copy_text(self.arena + sizeof(Copy) + fee_bytes, id, id_length)
        self.arena += size
        self.arena_left -= size
        return <uint64_t><size_t>copy

    cdef uint32_t new_entry(self, const Entry* values) noexcept nogil:
        cdef uint64_t copy = self.copy_of(values.seq, values.price, values.quantity, values.fee, values.id, values.id_length)
        cdef Packed* e = next_entry(self) if copy else NULL
        if e == NULL:
            return 0
        e.place = place_word(copy, values.state, values.id, values.id_length)
        e.previous = values.previous
        e.cell = values.cell
        return self.entry_count - 1

    cdef void note_before(self, uint32_t index) noexcept nogil:
        cdef Before before
        if self.frozen_from <= index < self.frozen_to:
            memset(&before, 0, sizeof(Before))
            before.index = index
            before.previous = self.entry(index).previous
            before.state = state_of(self.entry(index))
            if bytes_append(&self.before, &before, sizeof(Before)) < 0:
                self.before_lost = True

    cdef void kill_entry(self, uint32_t index) noexcept nogil:
        cdef Packed* e = self.entry(index)
        self.note_before(index)
        e.place &= ~(<uint64_t>3 << PLACE_STATE)         # ENTRY_DEAD

    cdef uint32_t replace_entry(self, uint32_t position, uint32_t replaced, const Entry* values) noexcept nogil:
        cdef Position* p = &(<Position*>self.store.positions.data)[position]
        cdef uint32_t index = self.new_entry(values), later = p.last_entry
        if index == 0:
            return 0
        self.kill_entry(replaced)
        self.entry(index).previous = replaced
        if later == replaced:
            p.last_entry = index
            return index
        while self.entry(later).previous != replaced:
            later = self.entry(later).previous
        self.note_before(later)
        self.entry(later).previous = index
        return index

    cdef int find_trade(self, uint32_t position, uint32_t venue, const uint8_t* id, size_t length, int side,
                        uint32_t* found) noexcept nogil:
        """A bust takes its own side's; where that side never had the id, the other's (docs/decisions/0002, 6)."""
        cdef uint64_t tag = text_tag(id, length)
        cdef uint32_t at = (<Position*>self.store.positions.data)[position].last_entry, own = 0, other = 0
        cdef const Packed* p
        cdef Entry e
        cdef int own_live = 0, other_live = 0
        cdef bint own_seen = False
        while at:
            p = self.entry(at)
            if p.place >> PLACE_TAG == tag:
                self.unpack(at, &e)
                if (e.id_length == length and e.state != ENTRY_ADJUST and memcmp(e.id, id, length) == 0
                        and (<Cell*>self.store.cells.data)[e.cell].venue == venue):
                    if side == 0 or (side > 0) == (e.quantity > 0):
                        own_seen = True
                        if e.state == ENTRY_TRADE:
                            own_live += 1
                            own = at
                    elif e.state == ENTRY_TRADE:
                        other_live += 1
                        other = at
            at = p.previous
        if not own_seen:
            own = other
            own_live = other_live
        found[0] = own
        if own_live == 0:
            return REASON_UNKNOWN_TRADE
        return REASON_AMBIGUOUS_TRADE if own_live > 1 else 0

    cdef int rebuild(self, uint32_t position, uint32_t changed, const Entry* values, Holding* out) noexcept nogil:
        cdef uint32_t at = (<Position*>self.store.positions.data)[position].last_entry, count = 0, i
        cdef const Packed* e
        cdef int64_t price, quantity
        while at:
            if array_reserve(&self.scratch, count + 1, sizeof(uint32_t)) < 0:
                return -1
            (<uint32_t*>self.scratch.data)[count] = at
            count += 1
            self.scratch.count = count      # what a growing array copies
            at = self.entry(at).previous
        self.scratch.count = 0
        memset(out, 0, sizeof(Holding))
        for i in range(count):
            if i + REBUILD_AHEAD < count:
                prefetch(<const void*><size_t>address_of(self.entry((<uint32_t*>self.scratch.data)[count - 1 - i - REBUILD_AHEAD])))
            at = (<uint32_t*>self.scratch.data)[count - 1 - i]
            if at == changed:
                if values != NULL and values.quantity and fold_fill(out, values.price, values.quantity):
                    return 1
                continue
            e = self.entry(at)
            if state_of(e) == ENTRY_DEAD:
                continue
            fill_of(e, &price, &quantity)
            if quantity and fold_fill(out, price, quantity):
                return 1
        return 0

    cdef bint latest_trade(self, uint32_t symbol, int64_t* price) noexcept nogil:
        cdef const Members* members = members_of(&self.store, symbol)
        cdef uint32_t at, i
        cdef uint64_t seq = 0
        cdef int64_t quantity
        cdef const Packed* e
        cdef const Position* p
        for i in range(members.count):
            p = &(<const Position*>self.store.positions.data)[members.positions[i]]
            at = p.last_entry if p.trades else 0
            while at:
                e = self.entry(at)
                if seq_of(e) < seq:
                    break
                if state_of(e) == ENTRY_TRADE:
                    seq = seq_of(e)
                    fill_of(e, price, &quantity)
                    break
                at = e.previous
        return seq != 0


# --- for tests ---------------------------------------------------------------------------------------------------

cdef object int_of(i128 value):
    cdef int64_t high = <int64_t>high_u128(<u128>value)
    return (int(high) << 64) | int(low_u128(<u128>value))


def fold(fills, cost=0, realized=0, quantity=0):
    """Apply (price, signed quantity) fills in raw units; (quantity, cost, realized), or None on overflow."""
    cdef Holding h
    h.quantity = quantity
    h.cost = i128_of((cost >> 64) & 0xFFFFFFFFFFFFFFFF, cost & 0xFFFFFFFFFFFFFFFF)
    h.realized = i128_of((realized >> 64) & 0xFFFFFFFFFFFFFFFF, realized & 0xFFFFFFFFFFFFFFFF)
    for price, signed in fills:
        if fold_fill(&h, price, signed):
            return None
    return h.quantity, int_of(h.cost), int_of(h.realized)
