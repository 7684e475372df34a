"""Positions, cells and the trades they are made of (DESIGN section 5). Integers in raw units; no limits here.

A raw unit of money is the instrument's price unit times its quantity unit; multiplier and currency come in where
something is valued. Indices are 32-bit, 0 is none.
"""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.ahead cimport rw_ahead
from ext.arrays cimport Array, Table
from ext.definitions cimport Instrument
from ext.records cimport Bytes, EVENT_ADJUST, FrameHeader, HEADER_BYTES, Record, SIDE_BUY, i128
from ext.wide cimport add_i64, add_i128, mix, negate_if, pick_i64, set_i128, sub_i64, sub_i128

cdef enum MarkSource:
    MARK_NONE = 0
    MARK_TRADE = 1                  # the price of the latest live trade by anyone
    MARK_EVENT = 2                  # MarkPrice: from then on only these

cdef enum EntryState:
    ENTRY_DEAD = 0                  # busted
    ENTRY_TRADE = 1
    ENTRY_ADJUST = 2

cdef enum:
    ENTRY_CHUNK_BITS = 18           # 4 MiB
    ENTRY_CHUNK_MASK = 262143
    ENTRY_STEP = 4096               # 64 KiB
    ARENA_BYTES = 2097152           # of a block
    ARENA_STEP = 65536              # the longest copy is shorter
    # Packed.place, from the low end: the address; EntryState; whether a Record lies there, whose address ends in three bits of 0,
    # which are the first of its index in its frame; the other ten of that; a tag of its id.
    PLACE_BITS = 48
    PLACE_STATE = 48
    PLACE_KEPT = 50
    PLACE_INDEX = 51
    PLACE_TAG = 61
    SLOTS_HERE = 4                  # of a position's limits, in the position itself

cdef struct Symbol:
    int64_t mark                    # price units
    int64_t valued_mark             # at which every holder was last valued at once
    int64_t clock                   # ns: executed_at of the last revaluation by trades
    uint32_t valuation              # how often every holder was valued at once
    uint8_t source                  # MarkSource
    uint8_t valued                  # 1: valued_mark is a price; 0: there was no mark
    uint8_t clocked                 # the clock runs
    uint8_t used                    # raw units exist: the exponents are fixed
    uint32_t first_node             # ext/limits.pxd
    uint32_t first_rule
    Instrument instrument

cdef struct Holding:                # what a sequence of fills comes to
    i128 cost                       # raw, signed like quantity x price
    i128 realized                   # raw
    int64_t quantity                # quantity units

cdef struct Position:               # of one account in one symbol; two cache lines
    i128 cost
    i128 realized
    int64_t quantity
    int64_t mark                    # at which it was last valued by itself
    uint32_t account
    uint32_t symbol
    uint32_t valuation              # the symbol's count then: below it, the symbol's valued_mark holds
    uint32_t trades                 # live ones
    uint32_t last_entry
    uint32_t first_cell
    uint32_t first_node
    uint32_t first_key              # of those that are kept for this account and symbol (ext/limits.pxd)
    uint32_t slots                  # of more limits than SLOTS_HERE that match all of it: where they are (slots_of, ext/limits.pxd)
    uint32_t member                 # its place among those of its symbol
    uint16_t slot_count             # limits that match all of it
    uint16_t window_count           # of these: first those of windows,
    uint16_t sum_count              # then those of sums over positions
    uint8_t valued                  # 1: mark is a price
    uint8_t unused
    uint64_t[SLOTS_HERE] here       # Slots, where they are no more

cdef struct Cell:                   # (account, symbol, venue, strategy): additive book-keeping for limits; one cache line
    i128 cash                       # raw, below the carry
    int64_t quantity                # below the carry
    uint64_t fees_low               # 1e-9, 96 bits: more than 2**32 trades can pay
    int32_t fees_high
    int32_t quantity_carry          # x 2**64: a part of a position may be wider than the whole; 2**32 trades fit
    uint32_t position
    uint32_t venue
    uint32_t strategy
    uint32_t slots                  # the limits that match it and not all of its position: first, and how many
    uint32_t next_in_position
    uint16_t slot_count
    int16_t cash_carry              # x 2**128: 131,072 trades of the highest price and the largest quantity fit

cdef struct Baseline:               # of one cell when the session started
    i128 cash
    i128 fees
    i128 quantity
    i128 cost                       # where it was not valued: what was paid
    int64_t mark
    int16_t cash_carry
    uint8_t marked
    uint8_t unused[5]

cdef struct Entry:                  # one trade or adjustment at its place in the sequence
    uint64_t seq
    int64_t price
    int64_t quantity                # signed
    int64_t fee                     # 1e-9
    const uint8_t* id               # trade id
    uint32_t previous               # of the same position
    uint32_t cell
    uint8_t id_length
    uint8_t state                   # EntryState

cdef packed struct Packed:          # an entry as it is kept: 16 bytes
    uint64_t place                  # of its Record, in a frame that stays where it is, or of its Copy; and the bits above
    uint32_t previous
    uint32_t cell

cdef packed struct Copy:            # what an entry has where its frame does not stay; then the fee unless it is 0, and the id
    uint64_t seq
    int64_t price
    int64_t quantity                # signed
    uint8_t id_length
    uint8_t has_fee

cdef struct Before:                 # what changed of an entry that is being copied, as it was
    uint32_t index
    uint32_t previous
    uint8_t state                   # EntryState
    uint8_t unused[3]

cdef struct Hold:                   # of memory with records that entries lie in
    void (*release)(void* what) noexcept nogil
    void* what

cdef struct Members:                # the positions in one symbol, in the order in which they came
    uint32_t* positions
    uint32_t count
    uint32_t capacity

cdef struct Store:
    Array symbols                   # Symbol by name id
    Array positions
    Array members                   # Members by symbol; made of the positions, in no snapshot
    Array cells
    Array baselines                 # Baseline by cell; cells beyond its end have none
    Table cell_table                # (account, symbol, venue, strategy)
    Table position_table            # (account, symbol)

cdef inline uint8_t state_of(const Packed* e) noexcept nogil:
    return e.place >> PLACE_STATE & 3

cdef inline uint64_t address_of(const Packed* e) noexcept nogil:
    return e.place & ((<uint64_t>1 << PLACE_BITS) - 1)

cdef inline bint is_kept(const Packed* e) noexcept nogil:
    """Whether its Record lies in a frame that stays."""
    return e.place >> PLACE_KEPT & 1

cdef inline const Record* record_of(const Packed* e) noexcept nogil:
    """Of one that is_kept."""
    return <const Record*><size_t>(address_of(e) & ~<uint64_t>7)

cdef inline uint32_t index_of(const Packed* e) noexcept nogil:
    """The same: its index in its frame."""
    return <uint32_t>(e.place & 7 | (e.place >> PLACE_INDEX & 1023) << 3)

cdef inline const FrameHeader* frame_of(const Packed* e) noexcept nogil:
    """The same."""
    return <const FrameHeader*>(<const uint8_t*>(record_of(e) - index_of(e)) - HEADER_BYTES)

cdef inline const Copy* copy_at(const Packed* e) noexcept nogil:
    """Of one that is not."""
    return <const Copy*><size_t>address_of(e)

cdef inline uint64_t seq_of(const Packed* e) noexcept nogil:
    return frame_of(e).first_seq + index_of(e) if is_kept(e) else copy_at(e).seq

cdef inline int64_t quantity_of(const Record* r) noexcept nogil:
    """What a trade or an adjustment adds to its position, signed."""
    return negate_if((r.type != EVENT_ADJUST) & (r.side != SIDE_BUY), r.volume)

cdef inline Holding holding_of(const Position* p) noexcept nogil:
    cdef Holding held
    held.cost = p.cost
    held.realized = p.realized
    held.quantity = p.quantity
    return held

cdef inline void set_holding(Position* p, const Holding* h) noexcept nogil:
    set_i128(&p.cost, h.cost)
    set_i128(&p.realized, h.realized)
    p.quantity = h.quantity

cdef inline void fill_of(const Packed* e, int64_t* price, int64_t* quantity) noexcept nogil:
    cdef const Record* r
    cdef const Copy* copy
    if is_kept(e):
        r = record_of(e)
        price[0] = r.price
        quantity[0] = quantity_of(r)
    else:
        copy = copy_at(e)
        price[0] = copy.price
        quantity[0] = copy.quantity

cdef inline i128 cell_fees(const Cell* cell) noexcept nogil:
    return (<i128>cell.fees_high << 64) | <i128>cell.fees_low

cdef inline void set_cell_fees(Cell* cell, i128 fees) noexcept nogil:
    cell.fees_low = <uint64_t>fees
    cell.fees_high = <int32_t>(fees >> 64)

cdef inline void cell_add(Cell* cell, int64_t price, int64_t quantity, int64_t fee, bint remove) noexcept nogil:
    """Add a fill to a cell, or take one out. Never refused: what runs over is carried."""
    cdef i128 paid = <i128>price * <i128>quantity
    cdef bint down
    if remove:
        down = quantity > 0
        if sub_i64(cell.quantity, quantity, &cell.quantity):
            cell.quantity_carry += -1 if down else 1
        if add_i128(cell.cash, paid, &cell.cash):
            cell.cash_carry += -1 if paid < 0 else 1
        set_cell_fees(cell, cell_fees(cell) - fee)
    else:
        down = quantity < 0
        if add_i64(cell.quantity, quantity, &cell.quantity):
            cell.quantity_carry += -1 if down else 1
        if sub_i128(cell.cash, paid, &cell.cash):
            cell.cash_carry += -1 if paid > 0 else 1
        set_cell_fees(cell, cell_fees(cell) + fee)

cdef i128 cell_quantity(const Cell* cell) noexcept nogil

cdef inline uint64_t cell_hash(uint32_t account, uint32_t symbol, uint32_t venue, uint32_t strategy) noexcept nogil:
    return mix(<uint64_t>account << 32 | symbol, <uint64_t>venue << 32 | strategy)

cdef inline uint64_t position_hash(uint32_t account, uint32_t symbol) noexcept nogil:
    return mix(<uint64_t>account << 32 | symbol, 0x50)

cdef inline bint valued_at(const Position* position, const Symbol* symbol, int64_t* mark) noexcept nogil:
    """The mark at which a position was last valued, by itself or with every holder; False: without a mark."""
    cdef bint with_all = symbol.valuation > position.valuation
    mark[0] = pick_i64(with_all, symbol.valued_mark, position.mark)
    return pick_i64(with_all, symbol.valued, position.valued)

cdef inline const Members* members_of(const Store* store, uint32_t symbol) noexcept nogil:
    """The positions in a symbol; those of element 0, which has none, where it has none yet."""
    return &(<const Members*>store.members.data)[symbol if symbol < store.members.count else 0]

@cython.final
cdef class Book:
    cdef Store store
    cdef Packed** chunks
    cdef uint32_t chunk_count
    cdef uint32_t chunks_touched            # that need not be touched ahead (make_room)
    cdef readonly uint32_t entry_count      # entry 0 included; 0: they were let go of
    cdef uint64_t entry_room                # entries below it may be used: a step more at a time
    cdef uint8_t* arena                     # where the next Copy goes
    cdef size_t arena_left
    cdef size_t arena_rest                  # of its block, behind that
    cdef uint8_t* next_block                # made and touched before it is needed; NULL: not yet
    cdef rw_ahead* ahead                    # what touches it; NULL: nothing does
    cdef void** blocks
    cdef uint32_t block_count
    cdef Array holds                        # Hold
    cdef const uint8_t* held_start          # of the latest
    cdef const uint8_t* held_end
    cdef Array scratch                      # uint32_t entries in order, while rebuilding
    # Entries that are copied piece by piece while the book goes on (ext/snapshot.pyx): what changes of them meanwhile
    # is noted as it was. Set back with frozen_to = 0.
    cdef uint32_t frozen_from               # below it, all is copied
    cdef uint32_t frozen_to                 # 0: nothing is being copied
    cdef Bytes before                       # Before, in order of the changes
    cdef bint before_lost                   # there was no memory for one

    cdef void note_before(self, uint32_t index) noexcept nogil
    # Free all entries and what they lie in, entry 0 too: what they made can be read, and nothing else be done.
    cdef void let_go(self) noexcept nogil

    # Find what is in the arrays again, after they were filled at once; 0, or -1 without memory.
    cdef int rebuild_tables(self) noexcept nogil
    cdef uint32_t find_cell(self, uint32_t account, uint32_t symbol, uint32_t venue, uint32_t strategy) noexcept nogil
    cdef uint32_t find_position(self, uint32_t account, uint32_t symbol) noexcept nogil
    # Index of the cell and, where needed, its position, made now; 0: no memory.
    cdef uint32_t add_cell(self, uint32_t account, uint32_t symbol, uint32_t venue, uint32_t strategy) noexcept nogil
    cdef uint32_t add_position(self, uint32_t account, uint32_t symbol) noexcept nogil
    cdef int add_member(self, uint32_t position, uint32_t symbol) noexcept nogil        # 0, or -1 without memory
    cdef Packed* entry(self, uint32_t index) noexcept nogil
    cdef void unpack(self, uint32_t index, Entry* out) noexcept nogil       # id: where it lies
    # Let entries lie in the records of memory that stays until `release(what)`, which the book calls at its end; 0, or -1
    # without memory.
    cdef int hold(self, const uint8_t* start, size_t size, void (*release)(void*) noexcept nogil, void* what) noexcept nogil
    # Have memory for so many entries at hand, all of it touched; 0, or -1 without memory.
    cdef int make_room(self, uint64_t entries) noexcept nogil
    # A step more of entries, and of a block for copies; 0, or -1 without memory.
    cdef int add_entry_room(self) noexcept nogil
    cdef int add_arena_room(self) noexcept nogil
    cdef int add_chunk(self) noexcept nogil
    cdef int add_block(self) noexcept nogil
    # The live trade that a bust (side: +1 buy, -1 sell) or a correct (side 0) names: 0, or the Reason of its refusal.
    cdef int find_trade(self, uint32_t position, uint32_t venue, const uint8_t* id, size_t length, int side,
                        uint32_t* found) noexcept nogil
    # The holding of a position had entry `changed` been `values` (dead: NULL); 0, 1: overflow, -1: no memory.
    cdef int rebuild(self, uint32_t position, uint32_t changed, const Entry* values, Holding* out) noexcept nogil
    # Put a correction right behind the entry it replaces, which is dead from now on; 0: no memory.
    cdef uint32_t replace_entry(self, uint32_t position, uint32_t replaced, const Entry* values) noexcept nogil
    cdef void kill_entry(self, uint32_t index) noexcept nogil
    # Copy what an entry has; its place, or 0 without memory.
    cdef uint64_t copy_of(self, uint64_t seq, int64_t price, int64_t quantity, int64_t fee, const uint8_t* id,
                          uint8_t id_length) noexcept nogil
    cdef uint32_t new_entry(self, const Entry* values) noexcept nogil
    # Price of the latest live trade in a symbol by anyone; False: there is none.
    cdef bint latest_trade(self, uint32_t symbol, int64_t* price) noexcept nogil
    # What a cell holds, as last valued.
    cdef void take_baseline(self, uint32_t cell, Baseline* out) noexcept nogil
