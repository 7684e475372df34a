"""Limits of the reference: what each kind compares with its threshold, key by key."""

from __future__ import annotations

import bisect
import heapq
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

from engine.limitset import DIMENSIONS, Limit, Settings
from engine.oracle.book import FEE_EXPONENT, MULTIPLIER_EXPONENT, Cell, CellName, Pair, Symbol
from engine.oracle.numbers import VALUE_EXPONENT, VALUE_ONE, units

OK, WARN, BREACH = 0, 1, 2
SEVERITY = ("clear", "warn", "breach")
FX_EXPONENT = -18
ANY = "*"

Key = tuple[str, str, str, str]  # account, symbol, venue, strategy; "*" where the limit is not kept per that
Value = tuple[int, int]  # numerator in units of 1e-72, denominator > 0

# Kinds whose value a mark can move without any trade of the key.
MOVED_BY_MARKS = frozenset(
    {"max_notional", "gross_notional", "net_notional", "max_loss", "max_drawdown", "concentration"}
)
RATES = frozenset({"trade_rate", "volume_rate"})
ONE_TRADE = frozenset({"max_trade_volume", "max_trade_notional", "price_collar", "restricted", "repeated_trade"})


class Money:
    """Turns an instrument's whole numbers into values of limits: base currency, units of 1e-72."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._fx = {name: units(Decimal(rate), FX_EXPONENT) for name, rate in settings.fx.items()}
        self._fx[settings.base_currency] = self._fx[""] = 10**-FX_EXPONENT
        self._factors: dict[Symbol, int] = {}

    def has_rate(self, currency: str) -> bool:
        """Tell whether money in a currency can be converted."""
        return currency in self._fx

    def forget(self, symbol: Symbol) -> None:
        """Look a symbol's instrument up again: it has changed."""
        self._factors.pop(symbol, None)

    def factor(self, symbol: Symbol) -> int:
        """Return the value of one price unit x one quantity unit, with multiplier and fx rate."""
        found = self._factors.get(symbol)
        if found is None:
            instrument = symbol.instrument
            exponent = instrument.price_exponent + instrument.quantity_exponent + MULTIPLIER_EXPONENT + FX_EXPONENT
            found = instrument.multiplier * self._fx[instrument.currency] * 10 ** (exponent - VALUE_EXPONENT)
            self._factors[symbol] = found
        return found

    def fee_factor(self, symbol: Symbol) -> int:
        """Return the value of one unit of a fee."""
        exponent = FEE_EXPONENT + FX_EXPONENT - VALUE_EXPONENT
        return int(self._fx[symbol.instrument.currency] * 10**exponent)


def quantity_factor(symbol: Symbol) -> int:
    """Return one quantity unit in units of 1e-72."""
    return int(10 ** (symbol.instrument.quantity_exponent - VALUE_EXPONENT))


class TradeFacts(NamedTuple):
    """A new trade, or a correct with its new values, as the kinds that judge one trade see it."""

    account: str
    symbol: Symbol
    venue: str
    strategy: str
    quantity: int  # signed, in the instrument's unit
    price: int
    executed_at: int
    mark_before: int | None
    is_new: bool


@dataclass(slots=True, eq=False)
class KeyState:
    """What a limit knows of one key. parts: what each (account, symbol) adds to the total."""

    level: int = OK
    value: Value = (0, 1)  # as last judged
    parts: dict[Pair, int] = field(default_factory=dict)
    total: int = 0
    peak: int = 0
    latest_ns: int | None = None  # t of the window (t - window, t]
    window: list[tuple[int, int]] = field(default_factory=list)  # a heap of (executed_at, amount)
    tail: list[tuple[int, int]] = field(default_factory=list)  # (executed_at, place in the tail) of trades alike,
    # those that are later than all before them
    tail_length: int = 0
    tail_of: tuple[int, int] | None = None  # their price and signed quantity

    def start_again(self) -> None:
        """Empty peak, window and tail."""
        self.peak = 0
        self.latest_ns = None
        self.window.clear()
        self.tail.clear()
        self.tail_length = 0
        self.tail_of = None


class Rule:
    """One limit at work."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.kind = limit.kind
        self.keys: dict[Key, KeyState] = {}
        self.account_gross: dict[str, int] = {}  # concentration only
        self.threshold = units(Decimal(limit.threshold), VALUE_EXPONENT)
        self.warn_at = self._share(limit.warn_at)
        self.clear_at = None if limit.clear_at is None else self._share(limit.clear_at)
        self.floor = units(Decimal(limit.floor), VALUE_EXPONENT)
        self._globs = tuple(limit.match.get(name) for name in DIMENSIONS)
        self._per = tuple(name in limit.per for name in DIMENSIONS)
        self._groups: dict[Pair, tuple[int, dict[Key, list[tuple[CellName, Cell]]]]] = {}

    def _share(self, ratio: str) -> int:
        # 1e-18 x 1e-18: the threshold's and the ratio's finest digits still fit units of 1e-72.
        whole, rest = divmod(self.threshold * units(Decimal(ratio), -18), 10**18)
        assert rest == 0
        return whole

    def matches(self, names: Key) -> bool:
        """Tell whether a cell is one that the limit selects."""
        return all(glob is None or fnmatchcase(name, glob) for name, glob in zip(names, self._globs, strict=True))

    def key_of(self, names: Key) -> Key:
        """Return the key that a cell belongs to."""
        account, symbol, venue, strategy = (name if kept else ANY for name, kept in zip(names, self._per, strict=True))
        return account, symbol, venue, strategy

    def groups(self, pair: Pair) -> dict[Key, list[tuple[CellName, Cell]]]:
        """Return the pair's selected cells by key. Cells never go away, so their number says whether one is new."""
        found = self._groups.get(pair)
        if found is None or found[0] != len(pair.cells):
            groups: dict[Key, list[tuple[CellName, Cell]]] = {}
            for name, cell in pair.cells.items():
                names = (pair.account, pair.symbol.name, *name)
                if self.matches(names):
                    groups.setdefault(self.key_of(names), []).append((name, cell))
            found = self._groups[pair] = (len(pair.cells), groups)
        return found[1]

    def state(self, key: Key) -> KeyState:
        """Return what is known of a key."""
        found = self.keys.get(key)
        if found is None:
            found = self.keys[key] = KeyState()
        return found

    # --- sums ---------------------------------------------------------------------------------------------------

    def update(self, pair: Pair, money: Money) -> dict[Key, list[tuple[CellName, Cell]]]:
        """Take in what a pair's cells add up to now. Returns the keys touched."""
        groups = self.groups(pair)
        for key, cells in groups.items():
            state = self.state(key)
            if self.kind in RATES:
                continue
            part = self._part(pair, cells, money)
            change = part - state.parts.get(pair, 0)
            state.parts[pair] = part
            state.total += change
            if self.kind == "concentration":
                self.account_gross[pair.account] = self.account_gross.get(pair.account, 0) + change
        return groups

    def _part(self, pair: Pair, cells: list[tuple[CellName, Cell]], money: Money) -> int:
        if self.kind in ("max_loss", "max_drawdown"):
            factor, fee_factor = money.factor(pair.symbol), money.fee_factor(pair.symbol)
            return sum(
                (pair.cell_money(name, cell) - cell.money_0) * factor - (cell.fees - cell.fees_0) * fee_factor
                for name, cell in cells
            )
        quantity = sum(cell.quantity for _, cell in cells)
        if self.kind in ("max_position", "max_notional"):
            return quantity
        notional = quantity * (pair.valued_at or 0) * money.factor(pair.symbol)
        return notional if self.kind == "net_notional" else abs(notional)

    # --- windows ------------------------------------------------------------------------------------------------

    def enter_window(self, trade: TradeFacts) -> None:
        """Count a new trade in its key's window (t - window, t], t being the latest executed_at seen."""
        assert self.limit.window_ns is not None
        names = (trade.account, trade.symbol.name, trade.venue, trade.strategy)
        if not self.matches(names):
            return
        state = self.state(self.key_of(names))
        amount = VALUE_ONE if self.kind == "trade_rate" else abs(trade.quantity) * quantity_factor(trade.symbol)
        if state.latest_ns is None or trade.executed_at > state.latest_ns:
            state.latest_ns = trade.executed_at
        left_ns = state.latest_ns - self.limit.window_ns  # what was executed up to here has left
        if trade.executed_at > left_ns:
            heapq.heappush(state.window, (trade.executed_at, amount))
            state.total += amount
        while state.window[0][0] <= left_ns:
            state.total -= heapq.heappop(state.window)[1]

    # --- values -------------------------------------------------------------------------------------------------

    def value(self, key: Key, state: KeyState, money: Money, symbol: Symbol | None) -> Value:
        """Return what is compared with the threshold. symbol: the key's, for the kinds that need one."""
        kind, total = self.kind, state.total
        if kind == "max_position":
            return (abs(total) * quantity_factor(symbol), 1) if symbol is not None else (0, 1)
        if kind == "max_notional":
            mark = 0 if symbol is None else abs(symbol.mark or 0)
            return (abs(total) * mark * money.factor(symbol), 1) if symbol is not None else (0, 1)
        if kind in ("gross_notional", *RATES):
            return total, 1
        if kind == "net_notional":
            return abs(total), 1
        if kind == "max_loss":
            return -total, 1
        if kind == "max_drawdown":
            state.peak = max(state.peak, total)
            return state.peak - total, 1
        assert kind == "concentration", kind
        gross = self.account_gross.get(key[0], 0)
        return (100 * VALUE_ONE * total, gross) if gross else (0, 1)

    def trade_value(self, trade: TradeFacts, state: KeyState, money: Money) -> Value | None:
        """Return the value of one trade, or None where the kind does not judge it."""
        volume = abs(trade.quantity)
        if self.kind == "max_trade_volume":
            return volume * quantity_factor(trade.symbol), 1
        if self.kind == "max_trade_notional":
            return volume * abs(trade.price) * money.factor(trade.symbol), 1
        if self.kind == "restricted":
            return VALUE_ONE, 1
        if self.kind == "price_collar":
            mark = trade.mark_before
            return (100 * VALUE_ONE * abs(trade.price - mark), abs(mark)) if mark else None
        assert self.kind == "repeated_trade", self.kind
        return self._repeats(trade, state) * VALUE_ONE, 1

    def _repeats(self, trade: TradeFacts, state: KeyState) -> int:
        assert self.limit.window_ns is not None
        alike = (trade.price, trade.quantity)
        if state.tail_of != alike:
            state.tail_of, state.tail_length = alike, 0
            state.tail.clear()
        if not state.tail or trade.executed_at > state.tail[-1][0]:
            state.tail.append((trade.executed_at, state.tail_length))
        state.tail_length += 1
        # The earliest trade above a time is later than all before it, so it is one of those kept; they are in order.
        after_ns = trade.executed_at - self.limit.window_ns
        first = bisect.bisect_right(state.tail, after_ns, key=lambda entry: entry[0])
        return state.tail_length - state.tail[first][1]

    # --- levels -------------------------------------------------------------------------------------------------

    def level(self, value: Value) -> int:
        """Return the level of a value, without memory."""
        numerator, denominator = value
        if numerator > self.threshold * denominator:
            return BREACH
        return WARN if numerator >= self.warn_at * denominator else OK

    def next_level(self, value: Value, before: int) -> int:
        """Return the level of a value for a key that was at `before`: with clear_at, ok comes later."""
        level = self.level(value)
        if level == OK and before != OK and self.clear_at is not None:
            return WARN if value[0] >= self.clear_at * value[1] else OK
        return level

    def is_below_floor(self, key: Key) -> bool:
        """Tell whether an account's gross is too small for its concentration to matter."""
        return self.kind == "concentration" and self.account_gross.get(key[0], 0) <= self.floor
