"""A set of limits, from its canonical JSON (`engine.limitset.LimitSet.to_json`) into the structs of ext/limits.pxd."""

import json
from decimal import Decimal

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from ext.arrays cimport array_add, array_extend
from ext.limits cimport (CONCENTRATION, KILL_ACCOUNT, KILL_FIRM, Limit, LimitBook, MAX_NOTIONAL, MAX_POSITION, MAX_TRADE_NOTIONAL,
                         MAX_TRADE_VOLUME, PER_ACCOUNT, PER_POSITION, PER_STRATEGY, PER_SYMBOL, PER_VENUE, PRICE_COLLAR, RESTRICTED,
                         Rate)
from ext.records cimport NAME_ACCOUNT, NAME_STRATEGY, NAME_SYMBOL, NAME_VENUE
from ext.wide cimport Wide, factor_set, wide_limbs

KINDS = ("max_position", "max_notional", "gross_notional", "net_notional", "max_trade_volume", "max_trade_notional",
         "max_loss", "max_drawdown", "trade_rate", "volume_rate", "price_collar", "restricted", "concentration",
         "repeated_trade", "trade_after_kill")
DIMENSIONS = {"account": PER_ACCOUNT, "symbol": PER_SYMBOL, "venue": PER_VENUE, "strategy": PER_STRATEGY}
NAME_KINDS = {"symbol": NAME_SYMBOL, "account": NAME_ACCOUNT, "venue": NAME_VENUE, "strategy": NAME_STRATEGY}
NO_LIMITS = b'{"settings":{"base_currency":"USD","revalue_every_ns":100000000,"fx":{}},"limit":[]}'


cdef object read_limits(LimitBook book):
    """Read a new book's `source` into it. Raises ValueError where a limit does not fit the structs, MemoryError."""
    wanted = json.loads(book.source)
    read_settings(book, wanted.get("settings", {}))
    for limit in wanted.get("limit", []):
        read_limit(book, limit)
    book.sort_limits()
    book.set_limit_levels()


cdef object read_settings(LimitBook book, settings):
    book.revalue_every_ns = settings.get("revalue_every_ns", 100_000_000)
    read_rate(book, "", "1")
    read_rate(book, settings.get("base_currency", "USD"), "1")
    for currency, rate in settings.get("fx", {}).items():
        read_rate(book, currency, rate)


cdef object read_rate(LimitBook book, currency, text):
    cdef uint32_t id = book.instruments.currencies.add(currency.encode())
    mantissa, exponent = integer_of(Decimal(text))
    if array_extend(&book.rates, id + 1, sizeof(Rate)) < 0:
        raise MemoryError
    (<Rate*>book.rates.data)[id].mantissa = mantissa
    (<Rate*>book.rates.data)[id].exponent = exponent


cdef object read_limit(LimitBook book, wanted):
    cdef uint32_t index = array_add(&book.limits, sizeof(Limit))
    cdef Limit* limit
    cdef bytes text
    if index == 0:
        raise MemoryError
    if index > 0xFFFF:
        raise ValueError("more limits than 65535")
    limit = &(<Limit*>book.limits.data)[index]
    limit.kind = KINDS.index(wanted["kind"])
    for dimension in wanted["per"]:
        limit.per |= <uint8_t>DIMENSIONS[dimension]
    limit.window_ns = wanted.get("window_ns") or 0
    if wanted.get("action") == "kill":
        limit.kill = KILL_FIRM if wanted["kill_scope"] == "firm" else KILL_ACCOUNT
    read_levels(book, limit, wanted)
    text = keep(book, wanted["id"].encode())
    limit.id = <const uint8_t*><const char*>text
    limit.id_length = len(text)
    for dimension, glob in wanted["match"].items():
        text = keep(book, glob.encode())
        limit.globs[<int>NAME_KINDS[dimension]] = <const uint8_t*><const char*>text
        limit.glob_lengths[<int>NAME_KINDS[dimension]] = len(text)
    limit.whole = limit.globs[<int>NAME_VENUE] == NULL and limit.globs[<int>NAME_STRATEGY] == NULL and (
        limit.kind in (MAX_TRADE_VOLUME, MAX_TRADE_NOTIONAL, PRICE_COLLAR, RESTRICTED)
        or not limit.per & (PER_VENUE | PER_STRATEGY))
    limit.of_position = (limit.whole and limit.per == PER_POSITION
                         and limit.kind in (MAX_POSITION, MAX_NOTIONAL, CONCENTRATION))
    if limit.kind == MAX_NOTIONAL and not limit.whole:
        book.has_cell_notional = True


cdef object read_levels(LimitBook book, Limit* limit, wanted):
    """Threshold, warn, clear and floor in one exponent, so that all of them are whole numbers."""
    cdef bytes text
    cdef Wide one
    threshold = exact(wanted.get("threshold") or "0")
    warn = times(threshold, exact(wanted["warn_at"]))
    limit.has_clear = wanted.get("clear_at") is not None
    clear = times(threshold, exact(wanted["clear_at"])) if limit.has_clear else warn
    floor = exact(wanted.get("floor") or "0")
    limit.exponent = min(0, threshold[1], warn[1], clear[1], floor[1])
    set_wide(&limit.threshold, threshold, limit.exponent)
    set_wide(&limit.warn, warn, limit.exponent)
    set_wide(&limit.clear, clear, limit.exponent)
    set_wide(&limit.floor, floor, limit.exponent)
    set_wide(&one, (1, -limit.exponent), 0)
    factor_set(&limit.scale, &one)
    limit.narrow = (limit.scale.limbs == 1 and limit.scale.v[0] < <uint64_t>1 << 56
                    and wide_limbs(&limit.threshold) == 1 and wide_limbs(&limit.clear) == 1)
    text = keep(book, plain(threshold).encode())
    limit.threshold_text = <const uint8_t*><const char*>text
    limit.threshold_length = len(text)


cdef bytes keep(LimitBook book, bytes text):
    """What a struct points into lives as long as its book."""
    book.texts.append(text)
    return text


# --- decimals, exactly -------------------------------------------------------------------------------------------

def exact(text):
    """(mantissa, exponent) of a decimal text that is not negative."""
    return integer_of(Decimal(text))


def integer_of(decimal):
    """(mantissa, exponent) without trailing zeros; any number of digits."""
    _, digits, exponent = decimal.as_tuple()
    mantissa = int("".join(map(str, digits)))
    while mantissa and mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    return mantissa, exponent if mantissa else 0


def times(a, b):
    return a[0] * b[0], a[1] + b[1]


def plain(number):
    """Decimal text without exponent and trailing zeros."""
    mantissa, exponent = number
    if exponent >= 0:
        return str(mantissa * 10**exponent)
    digits = str(mantissa).rjust(1 - exponent, "0")
    text = f"{digits[:exponent]}.{digits[exponent:]}"
    return text.rstrip("0").rstrip(".")


cdef int set_wide(Wide* out, number, int exponent) except -1:
    """number = (mantissa, its exponent) as an integer times 10**exponent."""
    cdef bytes raw
    value = number[0] * 10 ** (number[1] - exponent)
    if value.bit_length() >= 512:
        raise ValueError(f"a number in a limit is too large or too fine: {plain(number)}")
    raw = value.to_bytes(sizeof(Wide), "little")
    memcpy(out, <const char*>raw, sizeof(Wide))
    return 0
