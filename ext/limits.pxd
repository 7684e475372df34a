"""Limits compiled into slots: what each cell, position and symbol has to keep for them (DESIGN section 6)."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.arrays cimport Array, Table
from ext.definitions cimport Instrument, Instruments, NameTable
from ext.positions cimport SLOTS_HERE, Book, Cell, Position, Symbol
from ext.records cimport i128, u128
from ext.wide cimport (Factor, Wide, difference_within256, prefetch, wide_difference_within, wide_fits224, wide_negative,
                       wide_within, within256)
from ext.windows cimport Run, Window, window_place, window_settle

cdef enum:
    ASK_KEY = 0xFFFFFFFFFFFFFFFF
    ASK_POSITION = 0xFFFFFFFFFFFFFFFF       # of a Standing
    NO_MEMBER = 3
    # So many are in the second-level cache as they are.
    SUMS_AT_HAND = 1024             # 320 KiB
    WINDOWS_AT_HAND = 1024          # 64 KiB
    RULES_AT_HAND = 1024            # 64 KiB of the lines that trades look at
    KEYS_AT_HAND = 1024             # 64 KiB
    LEVEL_BITS = 2
    SUM_KINDS = 4300                # bits by LimitKind of those that sum over positions

cdef enum LimitKind:                # the order of DESIGN's table; numbers of the wire
    MAX_POSITION = 0
    MAX_NOTIONAL = 1
    GROSS_NOTIONAL = 2
    NET_NOTIONAL = 3
    MAX_TRADE_VOLUME = 4
    MAX_TRADE_NOTIONAL = 5
    MAX_LOSS = 6
    MAX_DRAWDOWN = 7
    TRADE_RATE = 8
    VOLUME_RATE = 9
    PRICE_COLLAR = 10
    RESTRICTED = 11
    CONCENTRATION = 12
    REPEATED_TRADE = 13
    TRADE_AFTER_KILL = 14
    LIMIT_KINDS = 15
    ACCOUNT_GROSS = 64              # no limit: a key that only holds an account's gross for concentration

cdef enum Dimension:                # bits of `per`, in the order that alerts are sorted by
    PER_ACCOUNT = 1
    PER_SYMBOL = 2
    PER_VENUE = 4
    PER_STRATEGY = 8
    PER_POSITION = 3                # account and symbol, and nothing else

cdef enum KillScope:
    KILL_NONE = 0
    KILL_ACCOUNT = 1
    KILL_FIRM = 2

cdef enum Level:
    LEVEL_OK = 0
    LEVEL_WARN = 1
    LEVEL_BREACH = 2

cdef struct Limit:
    # What a new position or cell is matched by comes first, in one cache line.
    const uint8_t* globs[4]         # by NameKind; NULL: matches all
    size_t glob_lengths[4]
    uint8_t kind                    # LimitKind
    uint8_t per                     # Dimension bits
    uint8_t kill                    # KillScope
    uint8_t has_clear
    uint8_t narrow                  # scale and threshold are below 2**56 and 2**64: products with them stay short
    uint8_t whole                   # it matches all of a position or nothing: one slot for all cells
    uint8_t of_position             # and is kept for each: see Key
    int exponent                    # <= 0: the four below are times 10**exponent
    int64_t window_ns
    Wide threshold
    Wide warn                       # warn_at x threshold
    Wide clear                      # clear_at x threshold
    Wide floor
    Wide sum_above                  # in units of the sum: breach above, warn from, ok below; rounded so that it is exact
    Wide sum_warn
    Wide sum_clear
    Wide sum_floor
    u128 sum_bound                  # of sum_warn (wide_bound)
    u128 floor_bound                # of sum_floor
    u128 count_above                # the same for counts
    u128 count_warn
    u128 count_clear
    Factor scale                    # 10**-exponent
    const uint8_t* id
    const uint8_t* threshold_text
    size_t id_length
    size_t threshold_length

cdef struct Rule:                   # a limit in one symbol: its levels in raw units of that symbol
    u128 above                      # breach above
    u128 warn                       # warn from
    u128 clear                      # not ok stays not ok from
    # Bounds of |quantity| over its max_notional keys by level: a mark that moves no bound's level moves no key's.
    uint64_t ok_max
    uint64_t warn_max               # up to here one cache line: all that a trade looks at
    uint64_t warn_min
    uint64_t breach_min
    uint32_t limit
    uint32_t symbol
    uint32_t next_in_symbol
    uint32_t unused[9]

# What a limit is kept for. One of a position (max_position, max_notional, concentration per account and symbol, of all
# cells) holds nothing that the position does not say while it is ok: it is made when it comes near its limit.
cdef struct Key:
    i128 quantity                   # max_position, max_notional: net; of a position: there
    int64_t mark                    # max_notional: of its last judgement
    uint32_t valuation              # the symbol's count then
    uint32_t rule                   # 0: none
    uint32_t cell                   # one of its cells: its names
    uint32_t state                  # sums, windows or runs; max_notional: its place among the holders of its rule
    uint32_t node                   # concentration: its node; volume_rate: sums
    uint32_t next_in_position       # kept for account and symbol: the next of them, in order of the limits
    uint32_t last                   # Last; 0: none yet
    uint16_t limit
    uint8_t of_position             # its quantity is its position's
    uint8_t is_touched              # by the event at hand
    uint32_t unused
    uint8_t kind
    uint8_t level                   # Level
    uint8_t per                     # Dimension bits
    uint8_t frozen                  # `last` holds what it was last judged at; else that is what it comes to now

cdef struct Held:                   # a max_notional key as a revaluation wants it: four to a cache line
    uint64_t quantity               # |net quantity| as last judged; ASK_KEY: look at the key itself
    uint32_t key
    uint32_t level                  # Level

cdef struct Holders:                # of one rule
    Held* entries
    uint32_t count
    uint32_t capacity

cdef struct Standings:              # of one rule of a max_notional that is kept for positions
    # By place among the symbol's members, as last judged: |quantity| << LEVEL_BITS | Level. ASK_POSITION: look at the position
    # and its key; NO_MEMBER: the limit is not for it.
    uint64_t* of
    uint32_t capacity

cdef struct Node:                   # one (account, symbol) inside a key that sums over symbols
    i128 quantity                   # of the cells that match
    uint32_t key
    uint32_t sum
    uint32_t position
    uint32_t next_in_symbol
    uint32_t next_in_position
    uint8_t kind
    uint8_t adjusted                # the cell of PositionAdjusted is among them
    uint8_t unused[2]

cdef enum SlotOf:                   # what a slot's limit is kept for
    OF_CELLS = 0
    OF_WHOLES = 1                   # whole positions
    OF_POSITION = 2                 # each position by itself; its key is made when it comes near its limit

cdef struct Slot:                   # one limit of one position, or of one cell
    # By kind: max_trade_volume, max_trade_notional, and one of a position: the rule; a rate: the window; a sum over positions:
    # the sums; repeated_trade of a position: the run; a sum of a cell: the node; price_collar, restricted: nothing; else the key.
    uint32_t index
    uint16_t limit
    uint8_t kind
    uint8_t of                      # SlotOf

cdef enum SlotGroup:                # in which order a position has its slots
    GROUP_WINDOWS = 0               # which lead to a window
    GROUP_SUMS = 1                  # which lead to sums
    GROUP_OTHERS = 2
    GROUP_CELLS = 3                 # a cell's, in the order of the limits

cdef enum Fetch:                    # what is to be fetched before a trade needs it (to_fetch)
    FETCH_WINDOWS = 1
    FETCH_SUMS = 2
    FETCH_RULES = 4
    FETCH_CELLS = 8                 # cells have slots
    FETCH_KEYS = 16
    FETCH_SLOTS = 32                # some position has more than it has room for

cdef struct Sums:
    uint32_t key                    # whose it is; volume_rate: 0
    uint8_t is_busy                 # that is not ok, or what it was last judged at is kept: it has to be judged
    uint8_t is_long                 # it may need more than 256 bits: then all of it has to be looked at
    uint8_t unused[10]
    u128 bound                      # of its limit: what it is far from; the end of what is mostly looked at is that of a cache line
    Wide sum                        # at money_scale (quantity_scale: volume_rate)
    Wide peak                       # max_drawdown
    uint64_t unused_too[12]         # five lines: with four, all of them would share a quarter of the first-level cache

cdef struct Last:                   # value / divisor x 10**exponent
    Wide value
    Wide divisor
    int exponent

cdef struct SymbolFactors:
    Factor money                    # raw money to base currency at money_scale
    Factor fee                      # 1e-9 of the symbol's currency, the same
    Wide rate                       # multiplier x fx mantissas
    int rate_exponent               # raw money x rate x 10**rate_exponent = base currency

cdef struct Rate:
    int64_t mantissa                # 0: no rate is known
    int exponent

@cython.final
cdef class LimitBook:
    cdef readonly Book book
    cdef readonly Instruments instruments
    cdef NameTable symbols
    cdef NameTable accounts
    cdef NameTable venues
    cdef NameTable strategies
    cdef readonly bytes source              # the canonical JSON
    cdef list texts                         # keeps what the structs point to
    cdef readonly int64_t revalue_every_ns
    cdef int money_scale
    cdef int quantity_scale
    cdef Array limits
    cdef Array by_group                     # uint32_t limits: SlotGroup by SlotGroup, in their order
    cdef uint32_t[5] group_at               # where each group begins there, and the last one ends
    cdef Array keys
    cdef Array slots
    cdef Array nodes
    cdef Array rules
    cdef Array holders                      # Holders by rule; made of the keys, in no snapshot
    cdef Array standings                    # Standings by rule; made of positions and keys, in no snapshot
    cdef Array sums
    cdef Array windows
    cdef Array runs
    cdef Array lasts
    cdef Array factors                      # SymbolFactors by symbol
    cdef Array rates                        # Rate by currency
    cdef Array touched                      # uint32_t keys
    cdef Table key_table                    # of the keys that no position leads to
    cdef uint32_t latest_key                # the one found last by way of its position: the next is mostly behind it
    cdef bint has_cell_notional             # some max_notional of cells

    cdef const uint8_t* name(self, int dimension, uint32_t cell, size_t* length) noexcept nogil
    cdef bint matches(self, const Limit* limit, uint32_t cell) noexcept nogil
    # Resolve a symbol's instrument and all that follows from it; call before its first use and when a definition changes it.
    cdef int use_symbol(self, uint32_t symbol) noexcept nogil
    cdef int set_factors(self, uint32_t symbol) noexcept nogil
    cdef int rescale_money(self, int scale) noexcept nogil
    cdef int rescale_quantity(self, int scale) noexcept nogil
    cdef void set_limit_levels(self) noexcept nogil
    cdef void set_bound(self, const Key* key) noexcept nogil         # of the sums of a key that sums
    cdef void set_rule_levels(self, Rule* rule) noexcept nogil

    # Find the limits that match all of a position (which has a cell), or one of its cells and not the rest, and give it its
    # slots, with what it already holds; 0, or -1 without memory.
    cdef int attach_position(self, uint32_t position) noexcept nogil
    cdef int attach_cell(self, uint32_t cell) noexcept nogil
    cdef object sort_limits(self)
    cdef int attach_limits(self, uint32_t cell, int group, uint32_t* first, uint16_t* count) noexcept nogil
    cdef int attach_limit(self, uint32_t limit, uint32_t cell, Slot* slot) noexcept nogil
    # The key of a limit (or its account's gross) that a cell belongs to; 0: there is none.
    cdef uint32_t find_key(self, uint32_t limit, uint32_t cell, uint8_t kind, uint8_t per) noexcept nogil
    cdef uint32_t ensure_key(self, uint32_t limit, uint32_t cell, uint8_t kind, uint8_t per) noexcept nogil
    # Give a key that has lost its cells the rule it needs to be judged; 0, or -1 without memory.
    cdef int ensure_rule(self, uint32_t key) noexcept nogil
    # The last key of a position before that of a limit; 0: there is none, the position's first is behind it.
    cdef uint32_t key_before(self, uint32_t position, uint32_t limit) noexcept nogil
    cdef void put_in_position(self, uint32_t index) noexcept nogil
    cdef int rebuild_key_table(self) noexcept nogil
    cdef uint64_t hash_of(self, const Key* key) noexcept nogil
    cdef int add_holder(self, uint32_t index) noexcept nogil
    cdef int rebuild_holders(self) noexcept nogil
    # Room for one more member, who holds what it holds and is ok.
    cdef int add_standing(self, uint32_t rule, const Position* p) noexcept nogil
    cdef int rebuild_standings(self) noexcept nogil
    cdef void rebuild_windows(self) noexcept nogil          # what they have of their keys, and their limits
    cdef void set_window(self, uint32_t key) noexcept nogil
    cdef int add_state(self, uint32_t key) noexcept nogil
    cdef uint32_t ensure_node(self, uint32_t key, uint32_t cell) noexcept nogil
    cdef uint32_t rule_of(self, uint32_t limit, uint32_t symbol) noexcept nogil
    cdef void load_cell(self, uint32_t cell) noexcept nogil
    # Take what a position comes to into what its limits keep, or out of it.
    cdef void load_position(self, uint32_t position, bint subtract) noexcept nogil
    cdef void load_pnl(self, uint32_t cell, Wide* sum, bint subtract) noexcept nogil
    # Take what a symbol's positions and cells come to into their sums, or out of them.
    cdef void load_symbol(self, uint32_t symbol, bint subtract) noexcept nogil
    # Give a used symbol the multiplier and currency that it resolves to now; 0, or -1 without memory.
    cdef int redefine_symbol(self, uint32_t symbol) noexcept nogil
    cdef int define(self, uint32_t symbol, const Instrument* instrument) noexcept nogil
    # Keep what the keys of a symbol that are not ok were judged at, before what they come to changes unjudged.
    cdef int freeze_symbol(self, uint32_t symbol) noexcept nogil
    cdef int freeze_position(self, const Position* p) noexcept nogil
    cdef int freeze_key(self, uint32_t key) noexcept nogil
    cdef int value_of_key(self, const Key* key, Wide* value, Wide* divisor) noexcept nogil

    cdef int touch_new(self, uint32_t key) noexcept nogil               # where the list has to grow

cdef void sum_value(const Sums* sums, uint8_t kind, Wide* out) noexcept nogil
cdef void notional_of(LimitBook limits, const Key* key, Wide* out) noexcept nogil
# 100 x the notional of a concentration key, as last valued.
cdef void part_of_gross(LimitBook limits, const Key* key, Wide* out) noexcept nogil
# sum += or -= |quantity| x |mark| x factor
cdef void add_absolute(Wide* sum, i128 quantity, int64_t mark, bint subtract, const Factor* factor) noexcept nogil
# t x 10**exponent in units of unit x 10**unit_exponent, rounded down or up.
cdef void to_units(Wide* out, const Wide* t, int exponent, const Wide* unit, int unit_exponent, bint up) noexcept nogil

cdef inline bint has_group(LimitBook limits, int group) noexcept nogil:
    """Whether there are limits of a SlotGroup."""
    return limits.group_at[group] < limits.group_at[group + 1]


cdef inline bint is_sum(uint8_t kind) noexcept nogil:
    return <uint64_t>SUM_KINDS >> (kind & 63) & 1       # ACCOUNT_GROSS: as max_position


cdef inline i128 quantity_of_key(LimitBook limits, const Key* key) noexcept nogil:
    """The net quantity of a max_position, a max_notional or a position's concentration."""
    if key.of_position:
        return (<const Position*>limits.book.store.positions.data)[
            (<const Cell*>limits.book.store.cells.data)[key.cell].position].quantity
    return key.quantity


cdef inline Slot* slots_of(LimitBook limits, const Position* p) noexcept nogil:
    """Of a position: its slot_count, in the order of their groups."""
    return <Slot*>p.here if p.slot_count <= SLOTS_HERE else &(<Slot*>limits.slots.data)[p.slots]


cdef inline Sums* sums_of(LimitBook limits, const Slot* slot) noexcept nogil:
    """Of a position's slot that sums."""
    return &(<Sums*>limits.sums.data)[slot.index]


cdef inline void set_level(LimitBook limits, Key* key, uint8_t level, bint frozen) noexcept nogil:
    key.level = level
    key.frozen = frozen
    if is_sum(key.kind) and key.kind != CONCENTRATION:
        (<Sums*>limits.sums.data)[key.state].is_busy = level != LEVEL_OK or frozen
    elif key.kind == TRADE_RATE or key.kind == VOLUME_RATE:
        (<Window*>limits.windows.data)[key.state].is_busy = level != LEVEL_OK or frozen


cdef inline const Window* settle(LimitBook limits, uint32_t window) noexcept nogil:
    """A window, and what its amounts add up to, without what has left it."""
    cdef Window* w = &(<Window*>limits.windows.data)[window]
    window_settle(w, &(<Sums*>limits.sums.data)[w.sums].sum if w.has_amounts else NULL, limits.quantity_scale)
    return w


cdef inline Run* run_of(LimitBook limits, const Slot* slot) noexcept nogil:
    """Of a repeated_trade."""
    cdef uint32_t index = slot.index
    if slot.of == OF_CELLS:
        index = (<const Key*>limits.keys.data)[index].state
    return &(<Run*>limits.runs.data)[index]


cdef inline Held* held_of(LimitBook limits, const Key* key) noexcept nogil:
    return (<Holders*>limits.holders.data)[key.rule].entries + key.state


cdef inline void set_standing(LimitBook limits, uint32_t rule, const Position* p, uint64_t quantity, uint8_t level) noexcept nogil:
    (<Standings*>limits.standings.data)[rule].of[p.member] = (
        <uint64_t>ASK_POSITION if quantity >> (64 - LEVEL_BITS) else quantity << LEVEL_BITS | level)


cdef inline uint32_t key_of_position(LimitBook limits, const Position* p, uint32_t limit) noexcept nogil:
    """The key of a limit that is kept for the position; 0: there is none."""
    cdef const Key* keys = <const Key*>limits.keys.data
    cdef uint32_t index = p.first_key
    while index and keys[index].limit < limit:
        index = keys[index].next_in_position
    return index if index and keys[index].limit == limit else 0


cdef inline void begin(LimitBook limits) noexcept nogil:
    """The next event: nothing is touched."""
    limits.touched.count = 0


cdef inline int touch(LimitBook limits, uint32_t index) noexcept nogil:
    """Put a key on the list of those that the event at hand touches, once; 0, or -1 without memory."""
    cdef Key* key = &(<Key*>limits.keys.data)[index]
    if key.is_touched:
        return 0
    if limits.touched.count == limits.touched.capacity:
        return limits.touch_new(index)
    key.is_touched = True
    (<uint32_t*>limits.touched.data)[limits.touched.count] = index
    limits.touched.count += 1
    return 0


cdef inline bint sum_is_far(const Sums* sums, uint8_t kind) noexcept nogil:
    """Whether what a sum comes to is surely below what its limit warns from (not asked for concentration)."""
    if not sums.is_long:
        if kind == MAX_DRAWDOWN:
            return difference_within256(sums.peak.v, sums.sum.v, sums.bound)
        return (kind == MAX_LOSS and <int64_t>sums.sum.v[3] >= 0) or within256(sums.sum.v, sums.bound)
    if kind == MAX_DRAWDOWN:
        return wide_difference_within(&sums.peak, &sums.sum, sums.bound)
    return (kind == MAX_LOSS and not wide_negative(&sums.sum)) or wide_within(&sums.sum, sums.bound)


cdef inline void note_width(Sums* sums) noexcept nogil:
    """A sum was changed by other than Parts. Once long, it stays so."""
    sums.is_long |= not wide_fits224(&sums.sum)


cdef inline uint8_t level_of(bint breach, bint warn, bint held, uint8_t before) noexcept nogil:
    """held: at or above clear_at x threshold, where there is one (else at or above warn_at x threshold)."""
    if breach:
        return LEVEL_BREACH
    if warn or (held and before != LEVEL_OK):
        return LEVEL_WARN
    return LEVEL_OK


cdef inline uint8_t level_of_count(u128 value, u128 above, u128 warn, u128 clear, uint8_t before) noexcept nogil:
    return level_of(value > above, value >= warn, value >= clear, before)


cdef inline void note_level(Rule* rule, uint8_t level, uint64_t quantity) noexcept nogil:
    """Widen the bounds of the rule's notionals by one of this level."""
    if level == LEVEL_OK:
        if quantity > rule.ok_max:
            rule.ok_max = quantity
    elif level == LEVEL_WARN:
        if quantity > rule.warn_max:
            rule.warn_max = quantity
        if quantity < rule.warn_min:
            rule.warn_min = quantity
    elif quantity < rule.breach_min:
        rule.breach_min = quantity


# --- into the cache, for an event to come ---

cdef inline void fetch_slots(LimitBook limits, uint32_t first, uint32_t count) noexcept nogil:
    cdef const Slot* slots = <const Slot*>limits.slots.data
    if count:
        prefetch(&slots[first])
        prefetch(&slots[first + count - 1])


cdef inline int to_fetch(LimitBook limits) noexcept nogil:
    """What there is, and too much of to be in a cache already (Fetch): to fetch what is at hand costs instructions alone."""
    return ((FETCH_WINDOWS if limits.windows.count > WINDOWS_AT_HAND else 0)
            | (FETCH_SUMS if limits.sums.count > SUMS_AT_HAND else 0)
            | (FETCH_RULES if limits.rules.count > RULES_AT_HAND else 0)
            | (FETCH_KEYS if limits.keys.count > KEYS_AT_HAND else 0)
            | (FETCH_CELLS if has_group(limits, GROUP_CELLS) else 0)
            | (FETCH_SLOTS if limits.group_at[<int>GROUP_CELLS] - limits.group_at[0] > SLOTS_HERE else 0))


cdef inline void fetch_end(const Window* w) noexcept nogil:
    """Where a window takes the next trade in."""
    if w.capacity:
        prefetch(&w.times[window_place(w, w.size)])
        if w.has_amounts:
            prefetch(&w.amounts[window_place(w, w.size)])


cdef inline void fetch_keys(LimitBook limits, const Position* p, int what) noexcept nogil:
    """What a position and its slots lead to; what windows at hand lead to."""
    cdef const Slot* slot = slots_of(limits, p)
    cdef const Slot* end = slot + p.window_count
    cdef const Slot* last = slot + p.slot_count
    if what & FETCH_KEYS:
        prefetch(&(<const Key*>limits.keys.data)[p.first_key])
    if what & FETCH_WINDOWS:
        while slot < end:
            prefetch(&(<const Window*>limits.windows.data)[slot.index])
            slot += 1
    else:
        while slot < end:
            fetch_end(&(<const Window*>limits.windows.data)[slot.index])
            slot += 1
    end += p.sum_count
    while slot < end and what & FETCH_SUMS:
        prefetch(&(<const Sums*>limits.sums.data)[slot.index])
        slot += 1
    slot = end
    while slot < last:
        if slot.of == OF_POSITION or slot.kind == MAX_TRADE_VOLUME or slot.kind == MAX_TRADE_NOTIONAL:
            if what & FETCH_RULES:
                prefetch(&(<const Rule*>limits.rules.data)[slot.index])
            if slot.of == OF_POSITION and slot.kind == MAX_NOTIONAL:
                prefetch(&(<const Standings*>limits.standings.data)[slot.index].of[p.member])
        elif slot.kind == REPEATED_TRADE:
            prefetch(&(<const Run*>limits.runs.data)[slot.index])
        else:
            prefetch(&(<const Key*>limits.keys.data)[slot.index])
        slot += 1


cdef inline void fetch_states(LimitBook limits, const Position* p, int what) noexcept nogil:
    """And what those lead to: the second key, what windows that were fetched lead to."""
    cdef const Slot* slot
    cdef const Slot* end
    if what & FETCH_KEYS and p.first_key:
        prefetch(&(<const Key*>limits.keys.data)[(<const Key*>limits.keys.data)[p.first_key].next_in_position])
    if what & FETCH_WINDOWS:
        slot = slots_of(limits, p)
        end = slot + p.window_count
        while slot < end:
            fetch_end(&(<const Window*>limits.windows.data)[slot.index])
            slot += 1


cdef inline void fetch_cell_keys(LimitBook limits, const Cell* cell) noexcept nogil:
    """The same of what is kept for a cell."""
    cdef const Slot* slot = &(<const Slot*>limits.slots.data)[cell.slots]
    cdef const Slot* end = slot + cell.slot_count
    while slot < end:
        if is_sum(slot.kind):
            prefetch(&(<const Node*>limits.nodes.data)[slot.index])
        elif slot.kind == TRADE_RATE or slot.kind == VOLUME_RATE:
            prefetch(&(<const Window*>limits.windows.data)[slot.index])
        elif not MAX_TRADE_VOLUME <= slot.kind <= MAX_TRADE_NOTIONAL:
            prefetch(&(<const Key*>limits.keys.data)[slot.index])
        slot += 1


cdef inline void fetch_cell_states(LimitBook limits, const Cell* cell) noexcept nogil:
    cdef const Slot* slot = &(<const Slot*>limits.slots.data)[cell.slots]
    cdef const Slot* end = slot + cell.slot_count
    cdef const Key* keys = <const Key*>limits.keys.data
    while slot < end:
        if slot.kind == REPEATED_TRADE:
            prefetch(&(<const Run*>limits.runs.data)[keys[slot.index].state])
        elif slot.kind == MAX_NOTIONAL:
            prefetch(held_of(limits, &keys[slot.index]))
        slot += 1
