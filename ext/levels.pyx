"""What the limits of a core stand at: levels, and the sums, windows and peaks behind them; and whether its cash is right."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from ext.invariant cimport IS_DEBUG, cash_holds
from ext.limits cimport (CONCENTRATION, GROSS_NOTIONAL, Key, LEVEL_BREACH, LEVEL_OK, Limit, LimitBook, MAX_DRAWDOWN,
                         MAX_LOSS, MAX_NOTIONAL, MAX_POSITION, NET_NOTIONAL, OF_POSITION, PER_POSITION, Rule, Slot, Sums,
                         TRADE_RATE, VOLUME_RATE, part_of_gross, quantity_of_key, settle, slots_of)
from ext.positions cimport Position, Symbol
from ext.records cimport NAME_ACCOUNT, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, i128, u128
from ext.risk cimport RiskCore
from ext.wide cimport (Factor, Part, Wide, difference_within256, factor_set, high_u128, i128_of, is_below_scaled, low_u128,
                       part_addmul, part_set, wide_add_part, wide_addmul, wide_bound, wide_difference_within, wide_fits224,
                       wide_fits256, wide_within, within256)

from ext.limitfile import DIMENSIONS

DEBUG = bool(IS_DEBUG)

cdef set ADDED = {MAX_POSITION, MAX_NOTIONAL, GROSS_NOTIONAL, NET_NOTIONAL, MAX_LOSS, MAX_DRAWDOWN, TRADE_RATE,
                  VOLUME_RATE, CONCENTRATION}
cdef int[4] NAME_KIND_OF = [NAME_ACCOUNT, NAME_SYMBOL, NAME_VENUE, NAME_STRATEGY]


cdef object name_of(LimitBook limits, const Key* key):
    """(limit id, (account, symbol, venue, strategy)); `*` where the key has none."""
    cdef const Limit* limit = &(<const Limit*>limits.limits.data)[key.limit]
    cdef const uint8_t* text
    cdef size_t length
    names = []
    for place, bit in enumerate(DIMENSIONS.values()):
        if key.per & <uint8_t>bit:
            text = limits.name(NAME_KIND_OF[place], key.cell, &length)
            names.append(text[:length].decode())
        else:
            names.append("*")
    return limit.id[:limit.id_length].decode(), tuple(names)


def levels(RiskCore core not None):
    """Return the keys that are not ok: (limit id, (account, symbol, venue, strategy)) to ``warn`` or ``breach``."""
    cdef LimitBook limits = core.limits
    cdef const Key* key
    cdef uint32_t i
    found = {}
    for i in range(1, limits.keys.count):
        key = &(<const Key*>limits.keys.data)[i]
        if key.level != LEVEL_OK:
            found[name_of(limits, key)] = "breach" if key.level == LEVEL_BREACH else "warn"
    return found


cdef object int_of_wide(const Wide* value):
    return int.from_bytes((<const char*>value.v)[:sizeof(value.v)], "little", signed=True)


cdef object int_of_i128(i128 value):
    return (int(<long long>high_u128(<u128>value)) << 64) | int(low_u128(<u128>value))


cdef object sum_of(LimitBook limits, const Key* key):
    """(mantissa, exponent of ten, peak): what is added up for a key now, signed, in base currency or quantity."""
    cdef const Symbol* symbol
    cdef const Sums* sums = <const Sums*>limits.sums.data
    cdef Wide part
    if key.kind == MAX_POSITION or key.kind == MAX_NOTIONAL:
        symbol = &(<const Symbol*>limits.book.store.symbols.data)[(<const Rule*>limits.rules.data)[key.rule].symbol]
        return int_of_i128(quantity_of_key(limits, key)), symbol.instrument.quantity_exponent, 0
    if key.kind == TRADE_RATE:
        return int(settle(limits, key.state).size), 0, 0
    if key.kind == VOLUME_RATE:
        settle(limits, key.state)
        return int_of_wide(&sums[key.node].sum), limits.quantity_scale, 0
    if not sums[key.state].is_long and not (wide_fits256(&sums[key.state].sum) and wide_fits256(&sums[key.state].peak)):
        raise AssertionError(f"the sum of {name_of(limits, key)} is longer than what is looked at")
    if key.kind == CONCENTRATION:
        part_of_gross(limits, key, &part)
        return int_of_wide(&part) // 100, limits.money_scale, 0
    return int_of_wide(&sums[key.state].sum), limits.money_scale, int_of_wide(&sums[key.state].peak)


def sums(RiskCore core not None):
    """Return what each key adds up to: (limit id, names) to (mantissa, exponent of ten, peak), of the kinds that add.

    max_position and max_notional: net quantity; notionals, and P&L since the session started: base currency, signed;
    rates: trades or quantity in the window; concentration: notional in the symbol. Only max_drawdown has a peak.
    Raises AssertionError where a sum is longer than the core takes it to be.
    """
    cdef LimitBook limits = core.limits
    cdef const Key* key
    cdef uint32_t i
    found = {}
    for i in range(1, limits.keys.count):
        key = &(<const Key*>limits.keys.data)[i]
        if key.kind in ADDED:
            found[name_of(limits, key)] = sum_of(limits, key)
    for i in range(1, core.book.store.positions.count):
        found.update(sums_of_position(limits, &(<const Position*>core.book.store.positions.data)[i]))
    return found


cdef object sums_of_position(LimitBook limits, const Position* p):
    """The same of the keys that are made when they come near their limit."""
    cdef const Slot* slot
    cdef Key key
    cdef uint32_t i
    found = {}
    for i in range(p.slot_count):
        slot = &slots_of(limits, p)[i]
        if slot.of == OF_POSITION:
            memset(&key, 0, sizeof(key))
            key.of_position = True
            key.limit = slot.limit
            key.kind = slot.kind
            key.per = PER_POSITION
            key.cell = p.first_cell
            key.rule = slot.index
            found[name_of(limits, &key)] = sum_of(limits, &key)
    return found


def check_cash(RiskCore core not None):
    """Check that each position's realized - open cost is the cash that flowed, to the last unit (DESIGN section 5).

    Also that its quantity is what its cells hold. Raises AssertionError naming the first position where not.
    """
    cdef const Position* p
    cdef uint32_t i
    for i in range(1, core.book.store.positions.count):
        if not cash_holds(&core.book.store, i):
            p = &(<const Position*>core.book.store.positions.data)[i]
            raise AssertionError(f"realized - cost is not the cash that flowed in {core.accounts[p.account].decode()}/"
                                 f"{core.symbols[p.symbol].decode()}")


cdef int wide_of(Wide* out, value) except -1:
    cdef bytes raw = value.to_bytes(sizeof(Wide), "little", signed=True)
    memcpy(out, <const char*>raw, sizeof(Wide))
    return 0


def add_product(total, raw, factor):
    """total + raw x factor, as limits add to a sum; total of 768 bits, raw of 128, factor of 64."""
    cdef Wide sum, by
    cdef Factor f
    cdef uint64_t low = raw & 0xFFFFFFFFFFFFFFFF, high = (raw >> 64) & 0xFFFFFFFFFFFFFFFF
    wide_of(&sum, total)
    wide_of(&by, factor)
    factor_set(&f, &by)
    wide_addmul(&sum, i128_of(high, low), &f)
    return int_of_wide(&sum)


def add_part(total, products):
    """total + the sum of raw x factor, as what a position changes is added; raw of 128 bits, factor of 64."""
    cdef Wide sum
    cdef Part part
    wide_of(&sum, total)
    part_set(&part, 0, 0)
    for raw, factor in products:
        part_addmul(&part, i128_of((raw >> 64) & 0xFFFFFFFFFFFFFFFF, raw & 0xFFFFFFFFFFFFFFFF), factor)
    wide_add_part(&sum, &part)
    return int_of_wide(&sum)


def is_within(value, below, warn):
    """Whether a glance tells |value| < warn, and 0 <= value - below < warn, of 768 bits each; then the same two as looked at
    where value and below fit 256 bits (None: they do not)."""
    cdef Wide a, b, w
    wide_of(&a, value)
    wide_of(&b, below)
    wide_of(&w, warn)
    short = wide_fits224(&a) and wide_fits224(&b)
    return (bool(wide_within(&a, wide_bound(&w))), bool(wide_difference_within(&a, &b, wide_bound(&w))),
            bool(within256(a.v, wide_bound(&w))) if short else None,
            bool(difference_within256(a.v, b.v, wide_bound(&w))) if short else None)


def is_below(a, x, b, y):
    """Whether a x x < b x y; a and b of 192 bits, x and y of 64, none negative."""
    cdef Wide left, right
    wide_of(&left, a)
    wide_of(&right, b)
    return bool(is_below_scaled(left.v, x, right.v, y))
