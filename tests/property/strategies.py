"""Hypothesis strategies for whole sessions: few names, so that keys collide, and everything that goes wrong.

`sessions()` draws events in order of arrival, with duplicates, conflicts, late and equal times, busts and corrects of
earlier, unknown and busted trades, marks, adjustments, sessions, kills, and limits and instruments that change.
`accepted(events)` passes them through the reference door and numbers what it accepts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from engine.events import (
    Event,
    InstrumentDefined,
    KillSwitch,
    LimitsChanged,
    MarkPrice,
    PositionAdjusted,
    SessionStarted,
    TradeExecuted,
)
from engine.oracle import Door

SYMBOLS = ("AA", "AB", "B", "é")
ACCOUNTS = ("A", "B", "a")
VENUES = ("", "V", "W")
STRATEGIES = ("", "s", "t")
GLOBS = ("*", "A*", "?", "[!A]*", "B", "", "V", "[st]", "*a*")
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
STEPS_MS = (0, 0, 1, 7, 50, 99, 100, 101, 999, 1000, 5000, -1, -60, -1500)
WINDOWS = ("1ns", "50ms", "100ms", "1s", "1m")
DIMENSIONS = ("account", "symbol", "venue", "strategy")
CSV_COLUMNS = tuple(field.name for field in msgspec.structs.fields(TradeExecuted))

SYMBOL_KINDS = ("max_position", "max_notional", "price_collar")
PAIR_KINDS = ("concentration", "repeated_trade")
KINDS = (
    "max_position",
    "max_notional",
    "gross_notional",
    "net_notional",
    "max_trade_volume",
    "max_trade_notional",
    "max_loss",
    "max_drawdown",
    "trade_rate",
    "volume_rate",
    "price_collar",
    "restricted",
    "concentration",
    "repeated_trade",
)
COUNTED = ("trade_rate", "repeated_trade")
IN_PERCENT = ("price_collar", "concentration")
BIG = 2**63 - 1
BIG_NUMBERS = (1, 2, 3, *range(2**62 - 2, 2**62 + 3), *range(BIG - 3, BIG + 2))
THRESHOLDS = {
    "count": ("1", "2", "3", "4"),
    "percent": ("1", "10", "33.3", "50", "99.99"),
    "amount": ("0.5", "3", "10", "12.50", "60", "250", "1e3"),
}
CHOICE_BYTES = 24  # as many as most events ask for
CHOICES = st.binary(min_size=CHOICE_BYTES, max_size=CHOICE_BYTES)


class Choices:
    """Answers from drawn bytes, one a choice: an event is one draw in place of twenty. Zeros are the first answers."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._left: Iterator[int] = iter(b"")

    def start(self, given: bytes) -> None:
        """Answer from these bytes next, and from more of them where they run out."""
        self._left = iter(given)

    def number(self, low: int, high: int) -> int:
        """Return a number from low to high, which are less than 256 apart."""
        for byte in self._left:
            return low + byte % (high - low + 1)
        self.start(self._draw(CHOICES))
        return self.number(low, high)

    def pick(self, *choices: Any) -> Any:
        """Return one of these."""
        return choices[self.number(0, len(choices) - 1)]

    def some(self, choices: Iterable[Any]) -> list[Any]:
        """Return any of these, in any order."""
        left, found = list(choices), []
        for _ in range(self.number(0, len(left))):
            found.append(left.pop(self.number(0, len(left) - 1)))
        return found

    def decimal(self, low: int, high: int) -> Decimal:
        """Return a decimal of few digits: a whole number from low to high, times a small power of ten."""
        return Decimal(self.number(low, high)).scaleb(-self.pick(0, 0, 1, 2))

    def price(self) -> Decimal:
        """Return a price: mostly positive, sometimes not."""
        low, high = self.pick((1, 30), (1, 30), (-20, 20), (0, 0))
        return self.decimal(low, high)

    def fee(self) -> Decimal:
        """Return a fee: mostly none, sometimes a rebate."""
        return self.decimal(-5, 9) if self.pick(False, True) else Decimal(0)

    # --- limits and instruments -------------------------------------------------------------------------------------

    def per(self, kind: str) -> list[str]:
        """Return what a limit of this kind may be kept for."""
        if kind in PAIR_KINDS:
            return ["account", "symbol"]
        if kind in SYMBOL_KINDS:
            return [*self.some(("account", "venue", "strategy")), "symbol"]
        return self.some(DIMENSIONS)

    def limit(self, number: int) -> dict[str, Any]:
        """Return one limit as a file has it. number: what makes its id its own."""
        kind = self.pick(*KINDS)
        group = "count" if kind in COUNTED else "percent" if kind in IN_PERCENT else "amount"
        row: dict[str, Any] = {"id": f"{kind}-{number}", "kind": kind, "per": self.per(kind)}
        if kind != "restricted":
            row["threshold"] = self.pick(*THRESHOLDS[group])
        match = {self.pick(*DIMENSIONS): self.pick(*GLOBS) for _ in range(self.pick(0, 0, 1, 2))}
        if match:
            row["match"] = match
        row |= self.pick({}, {}, {"warn_at": "0.5"}, {"warn_at": "1"}, {"clear_at": "0.4"})
        if kind in ("trade_rate", "volume_rate", "repeated_trade"):
            row["window"] = self.pick(*WINDOWS)
        if kind == "concentration" and self.pick(False, True):
            row["floor"] = self.pick("0", "10", "200")
        if self.number(0, 5) == 5:
            row |= {"action": "kill", "kill_scope": "account" if "account" in row["per"] else "firm"}
        return row

    def limits(self, at: int, event_id: str) -> LimitsChanged:
        """Return a whole set of limits, with rates for every currency that instruments may have."""
        # Few numbers: a later set meets limits of an earlier one by id, kind and per, and also by id alone.
        numbers = self.some(range(10))[: self.pick(0, 2, 4, 6, 8)]
        settings = {
            "base_currency": "USD",
            "revalue_every": self.pick("100ms", "1ns", "1s"),
            "fx": {"EUR": self.pick("1.08", "0.5"), "JPY": "0.0067"},
        }
        rows = [self.limit(number) for number in numbers]
        return LimitsChanged(event_id=event_id, at=at, settings=settings, limit=rows, who="test")

    def instrument(self, event_id: str) -> InstrumentDefined:
        """Return a definition of a symbol or a glob."""
        return InstrumentDefined(
            event_id=event_id,
            symbol=self.pick(*SYMBOLS, "A*", "?", "[é]"),
            price_exponent=self.pick(-9, -2, 0, -12),
            quantity_exponent=self.pick(-8, -1, 0, -10),
            multiplier=self.pick(Decimal(1), Decimal(50), Decimal("0.1"), Decimal("2.5")),
            currency=self.pick("", "USD", "EUR", "JPY"),
        )


@st.composite
def limits_changes(draw: st.DrawFn, at: int = START_NS, event_id: str = "limits") -> LimitsChanged:
    """Draw a whole set of limits."""
    return Choices(draw).limits(at, event_id)


class SessionBuilder(Choices):
    """Makes one event after another, remembering what earlier ones said."""

    def __init__(self, draw: st.DrawFn, extreme: bool) -> None:
        super().__init__(draw)
        self.extreme = extreme
        self.events: list[Event] = []
        self.trades: list[TradeExecuted] = []
        self.now_ns = START_NS

    def add(self, what: str) -> None:
        """Add an event of this kind."""
        self.now_ns += self.pick(*STEPS_MS) * MS
        event: Event = getattr(self, f"draw_{what}")()
        self.events.append(event)
        if isinstance(event, TradeExecuted):
            self.trades.append(event)

    def price(self) -> Decimal:
        if not self.extreme:
            return super().price()
        return self.pick(1, -1) * Decimal(self.pick(*BIG_NUMBERS))

    def volume(self) -> Decimal:
        return Decimal(self.pick(*BIG_NUMBERS)) if self.extreme else self.decimal(1, 12)

    def event_id(self) -> str:
        # Now and then the id of an earlier event: a duplicate, or a conflict.
        return f"e{self.number(0, 3) if self.number(0, 9) == 9 else len(self.events)}"

    def draw_trade(self) -> TradeExecuted:
        return TradeExecuted(
            trade_id=f"t{len(self.trades)}",
            symbol=self.pick("AA", *SYMBOLS),
            price=self.price(),
            volume=self.volume(),
            side=self.pick("buy", "sell"),
            executed_at=self.now_ns,
            account=self.pick(*ACCOUNTS),
            venue=self.pick(*VENUES),
            strategy=self.pick(*STRATEGIES),
            fee=self.fee(),
        )

    def draw_repeat(self) -> TradeExecuted:
        """The last trade once more with another id: what repeated_trade looks for."""
        last = self.trades[-1] if self.trades else self.draw_trade()
        return replaced(last, trade_id=f"t{len(self.trades)}", exec_type="new", executed_at=self.now_ns)

    def draw_other_side(self) -> TradeExecuted:
        """An earlier id on the other side: both sides of one match may be ours."""
        old = self.an_earlier_trade()
        side = "sell" if old.side == "buy" else "buy"
        return replaced(old, side=side, exec_type="new", executed_at=self.now_ns)

    def draw_duplicate(self) -> TradeExecuted:
        return self.an_earlier_trade()

    def draw_conflict(self) -> TradeExecuted:
        old = self.an_earlier_trade()
        return replaced(old, price=old.price + self.pick(1, 0), volume=old.volume + self.pick(1, 0))

    def draw_bust(self) -> TradeExecuted:
        old = self.an_earlier_trade()
        side = self.pick(old.side, old.side, old.side, "buy", "sell")
        return replaced(
            old,
            trade_id=f"t{len(self.trades)}",
            exec_type="bust",
            ref_trade_id=self.pick(old.trade_id, old.trade_id, old.ref_trade_id or "t999"),
            side=side,
            executed_at=self.now_ns,
        )

    def draw_correct(self) -> TradeExecuted:
        old = self.an_earlier_trade()
        return replaced(
            old,
            trade_id=self.pick(f"t{len(self.trades)}", old.trade_id),
            exec_type="correct",
            ref_trade_id=self.pick(old.trade_id, old.trade_id, old.ref_trade_id or "t999"),
            side=self.pick("buy", "sell"),
            price=self.pick(old.price, self.price()),
            volume=self.pick(old.volume, self.volume()),
            strategy=self.pick(*STRATEGIES),
            fee=self.fee(),
            executed_at=self.now_ns,
        )

    def draw_mark(self) -> MarkPrice:
        return MarkPrice(self.event_id(), self.pick(*SYMBOLS), self.price(), self.now_ns)

    def draw_adjustment(self) -> PositionAdjusted:
        quantity = self.volume() * self.pick(1, -1, 1, -1, 0)
        account, symbol = self.pick(*ACCOUNTS), self.pick(*SYMBOLS)
        price = self.price()
        return PositionAdjusted(self.event_id(), account, symbol, quantity, price, self.now_ns)

    def draw_session(self) -> SessionStarted:
        return SessionStarted(self.event_id(), "day", self.now_ns)

    def draw_instrument(self) -> InstrumentDefined:
        return self.instrument(self.event_id())

    def draw_limits(self) -> LimitsChanged:
        return self.limits(self.now_ns, self.event_id())

    def draw_kill(self) -> KillSwitch:
        account = self.pick(*ACCOUNTS, "*")
        return KillSwitch(self.event_id(), account, engaged=self.pick(True, False), at=self.now_ns)

    def an_earlier_trade(self) -> TradeExecuted:
        if not self.trades:
            return self.draw_trade()
        recent = self.trades[-8:]
        return self.pick(*recent)


def replaced(trade: TradeExecuted, **changes: Any) -> TradeExecuted:
    """Return the trade with other values in some fields."""
    return msgspec.structs.replace(trade, **changes)


# How often each kind of event comes; the weights keep most of a session trades that count.
WHAT = (
    *("trade",) * 12,
    *("repeat",) * 3,
    *("correct",) * 4,
    *("bust",) * 3,
    *("mark",) * 2,
    *("adjustment",) * 2,
    "other_side",
    "duplicate",
    "conflict",
    "session",
    "instrument",
    "limits",
    "kill",
)


@st.composite
def sessions(draw: st.DrawFn, events_max: int = 40, extreme: bool = False) -> list[Event]:
    """Draw a session in order of arrival: some instruments, limits, then anything.

    extreme: numbers at the edges of int64, so that accumulators overflow.
    """
    builder = SessionBuilder(draw, extreme)
    if extreme:
        builder.events.append(InstrumentDefined("units", "*", price_exponent=0, quantity_exponent=0))
    for _ in range(builder.number(0, 2)):
        builder.add("instrument")
    builder.add("limits")
    # Drawn first, because lists of hypothesis' own choice stay too short to reach busts of corrects and full windows.
    count = draw(st.integers(1, events_max))
    for given in draw(st.lists(CHOICES, min_size=count, max_size=count)):
        builder.start(given)
        builder.add(builder.pick(*WHAT))
    return builder.events


def accepted(events: Iterable[Event], door: Door | None = None) -> list[tuple[int, Event]]:
    """Return what the reference door accepts, numbered from 1."""
    door = door or Door()
    passed = [event for event in events if door.judge(event) == "accepted"]
    return list(enumerate(passed, 1))


def to_jsonl(events: Iterable[Event]) -> bytes:
    """Return events as canonical JSON Lines."""
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def to_csv(events: Iterable[Event]) -> bytes:
    """Return the trades among the events as canonical CSV with every column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for event in events:
        if isinstance(event, TradeExecuted):
            writer.writerow([plain(getattr(event, name)) for name in CSV_COLUMNS])
    return out.getvalue().encode()


def plain(value: object) -> str:
    """Return a field as CSV text; decimals without an exponent."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)
