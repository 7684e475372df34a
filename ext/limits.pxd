"""Limits compiled into slots: what each cell, position and symbol has to keep for them (DESIGN section 6)."""

cimport cython
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from ext.arrays cimport Array, Table
from ext.definitions cimport Instrument, Instruments, NameTable
from ext.positions cimport Book, Cell, Position, Symbol
from ext.records cimport i128, u128
from ext.wide cimport Factor, Wide, prefetch, wide_difference_within, wide_negative, wide_within
from ext.windows cimport Run, Window

cdef enum:
    ASK_KEY = 0xFFFFFFFFFFFFFFFF

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
    uint8_t kind                    # LimitKind
    uint8_t per                     # Dimension bits
    uint8_t kill                    # KillScope
    uint8_t has_clear
    uint8_t narrow                  # scale and threshold are below 2**56 and 2**64: products with them stay short
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
    const uint8_t* globs[4]         # by NameKind; NULL: matches all
    size_t glob_lengths[4]

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

cdef struct Key:                    # what a limit is kept for
    i128 quantity                   # max_position, max_notional: net
    int64_t mark                    # max_notional: of its last judgement
    uint32_t valuation              # the symbol's count then
    uint32_t stamp                  # the event that touched it last
    uint32_t limit
    uint32_t rule                   # 0: none
    uint32_t cell                   # one of its cells: its names
    uint32_t state                  # sums, windows or runs; max_notional: its place among the holders of its rule
    uint32_t node                   # concentration: its node; volume_rate: sums
    uint32_t next_in_position       # kept for account and symbol: the next of them, in order of the limits
    uint32_t last                   # Last; 0: none yet
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

cdef struct Slot:                   # one limit of one cell
    uint32_t key
    uint32_t node
    uint32_t rule
    uint16_t limit
    uint8_t kind
    uint8_t unused

cdef struct Sums:
    Wide sum                        # at money_scale (quantity_scale: volume_rate)
    Wide peak                       # max_drawdown

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
    cdef Array keys
    cdef Array slots
    cdef Array nodes
    cdef Array rules
    cdef Array holders                      # Holders by rule; made of the keys, in no snapshot
    cdef Array sums
    cdef Array windows
    cdef Array runs
    cdef Array lasts
    cdef Array factors                      # SymbolFactors by symbol
    cdef Array rates                        # Rate by currency
    cdef Array touched                      # uint32_t keys
    cdef Table key_table                    # of the keys that no position leads to
    cdef uint32_t latest_key                # the one found last by way of its position: the next is mostly behind it
    cdef uint32_t stamp
    cdef bint has_notional                  # some max_notional

    cdef const uint8_t* name(self, int dimension, uint32_t cell, size_t* length) noexcept nogil
    cdef bint matches(self, const Limit* limit, uint32_t cell) noexcept nogil
    # Resolve a symbol's instrument and all that follows from it; call before its first use and when a definition changes it.
    cdef int use_symbol(self, uint32_t symbol) noexcept nogil
    cdef int set_factors(self, uint32_t symbol) noexcept nogil
    cdef int rescale_money(self, int scale) noexcept nogil
    cdef int rescale_quantity(self, int scale) noexcept nogil
    cdef void set_limit_levels(self) noexcept nogil
    cdef void set_rule_levels(self, Rule* rule) noexcept nogil

    # Find the limits that match a cell and give it its slots, with what the cell already holds; 0, or -1 without memory.
    cdef int attach_cell(self, uint32_t cell) noexcept nogil
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
    cdef int add_state(self, uint32_t key) noexcept nogil
    cdef uint32_t ensure_node(self, uint32_t key, uint32_t cell) noexcept nogil
    cdef uint32_t rule_of(self, uint32_t limit, uint32_t symbol) noexcept nogil
    cdef void load_cell(self, uint32_t cell) noexcept nogil
    cdef void load_pnl(self, uint32_t cell, Wide* sum, bint subtract) noexcept nogil
    # Take what a symbol's cells come to into its sums, or out of them.
    cdef void load_symbol(self, uint32_t symbol, bint subtract) noexcept nogil
    # Give a used symbol the multiplier and currency that it resolves to now; 0, or -1 without memory.
    cdef int redefine_symbol(self, uint32_t symbol) noexcept nogil
    cdef int define(self, uint32_t symbol, const Instrument* instrument) noexcept nogil
    # Keep what the keys of a symbol that are not ok were judged at, before what they come to changes unjudged.
    cdef int freeze_symbol(self, uint32_t symbol) noexcept nogil
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

cdef inline Held* held_of(LimitBook limits, const Key* key) noexcept nogil:
    return (<Holders*>limits.holders.data)[key.rule].entries + key.state


cdef inline void begin(LimitBook limits) noexcept nogil:
    """The next event: nothing is touched."""
    limits.stamp += 1
    limits.touched.count = 0


cdef inline int touch(LimitBook limits, uint32_t index) noexcept nogil:
    """Put a key on the list of those that the event at hand touches, once; 0, or -1 without memory."""
    cdef Key* key = &(<Key*>limits.keys.data)[index]
    if key.stamp == limits.stamp:
        return 0
    if limits.touched.count == limits.touched.capacity:
        return limits.touch_new(index)
    key.stamp = limits.stamp
    (<uint32_t*>limits.touched.data)[limits.touched.count] = index
    limits.touched.count += 1
    return 0


cdef inline bint sum_is_far(const Sums* sums, const Limit* limit) noexcept nogil:
    """Whether what a sum comes to is surely below what its limit warns from (not asked for concentration)."""
    if limit.kind == MAX_DRAWDOWN:
        return wide_difference_within(&sums.peak, &sums.sum, limit.sum_bound)
    return (limit.kind == MAX_LOSS and not wide_negative(&sums.sum)) or wide_within(&sums.sum, limit.sum_bound)


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

cdef inline void fetch_slots(LimitBook limits, const Cell* cell) noexcept nogil:
    if cell.slot_count:
        prefetch(&(<const Slot*>limits.slots.data)[cell.slots])
        prefetch(&(<const Slot*>limits.slots.data)[cell.slots + cell.slot_count - 1])


cdef inline void fetch_keys(LimitBook limits, const Cell* cell) noexcept nogil:
    cdef const Slot* slot = &(<const Slot*>limits.slots.data)[cell.slots]
    cdef const Slot* end = slot + cell.slot_count
    while slot < end:
        prefetch(&(<const Key*>limits.keys.data)[slot.key])
        if slot.node:
            prefetch(&(<const Node*>limits.nodes.data)[slot.node])
        slot += 1


cdef inline void fetch_holders(LimitBook limits, const Cell* cell) noexcept nogil:
    cdef const Slot* slot = &(<const Slot*>limits.slots.data)[cell.slots]
    cdef const Slot* end = slot + cell.slot_count
    while slot < end:
        if slot.kind == MAX_NOTIONAL:
            prefetch(held_of(limits, &(<const Key*>limits.keys.data)[slot.key]))
        elif slot.kind == TRADE_RATE or slot.kind == VOLUME_RATE:
            prefetch(&(<const Window*>limits.windows.data)[(<const Key*>limits.keys.data)[slot.key].state])
        elif slot.kind == REPEATED_TRADE:
            prefetch(&(<const Run*>limits.runs.data)[(<const Key*>limits.keys.data)[slot.key].state])
        slot += 1
