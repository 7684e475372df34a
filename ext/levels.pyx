"""What the limits of a core stand at: levels, and the sums, windows and peaks behind them; and whether its cash is right."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ext.invariant cimport IS_DEBUG, cash_holds
from ext.limits cimport (CONCENTRATION, GROSS_NOTIONAL, Key, LEVEL_BREACH, LEVEL_OK, Limit, LimitBook, MAX_DRAWDOWN,
                         MAX_LOSS, MAX_NOTIONAL, MAX_POSITION, NET_NOTIONAL, Rule, Sums, TRADE_RATE, VOLUME_RATE,
                         part_of_gross)
from ext.positions cimport Position, Symbol
from ext.records cimport NAME_ACCOUNT, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE, i128, u128
from ext.risk cimport RiskCore
from ext.wide cimport (Factor, Wide, factor_set, high_u128, i128_of, low_u128, wide_addmul, wide_bound,
                       wide_difference_within, wide_within)
from ext.windows cimport Window

from ext.limits import DIMENSIONS

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
        return int_of_i128(key.quantity), symbol.instrument.quantity_exponent, 0
    if key.kind == TRADE_RATE:
        return int((<const Window*>limits.windows.data)[key.state].size), 0, 0
    if key.kind == VOLUME_RATE:
        return int_of_wide(&sums[key.node].sum), limits.quantity_scale, 0
    if key.kind == CONCENTRATION:
        part_of_gross(limits, key, &part)
        return int_of_wide(&part) // 100, limits.money_scale, 0
    return int_of_wide(&sums[key.state].sum), limits.money_scale, int_of_wide(&sums[key.state].peak)


def sums(RiskCore core not None):
    """Return what each key adds up to: (limit id, names) to (mantissa, exponent of ten, peak), of the kinds that add.

    max_position and max_notional: net quantity; notionals, and P&L since the session started: base currency, signed;
    rates: trades or quantity in the window; concentration: notional in the symbol. Only max_drawdown has a peak.
    """
    cdef LimitBook limits = core.limits
    cdef const Key* key
    cdef uint32_t i
    found = {}
    for i in range(1, limits.keys.count):
        key = &(<const Key*>limits.keys.data)[i]
        if key.kind in ADDED:
            found[name_of(limits, key)] = sum_of(limits, key)
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


def is_within(value, below, warn):
    """(whether a glance tells |value| < warn, whether one tells 0 <= value - below < warn); all of 768 bits."""
    cdef Wide a, b, w
    wide_of(&a, value)
    wide_of(&b, below)
    wide_of(&w, warn)
    return bool(wide_within(&a, wide_bound(&w))), bool(wide_difference_within(&a, &b, wide_bound(&w)))
