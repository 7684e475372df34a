"""Hypothesis strategies for whole sessions: few names, so that keys collide, and everything that goes wrong.

`sessions()` draws events in order of arrival, with duplicates, conflicts, late and equal times, busts and corrects of
earlier, unknown and busted trades, marks, adjustments, sessions, kills, and limits and instruments that change.
`accepted(events)` passes them through the reference door and numbers what it accepts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
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

ANY_PER = st.lists(st.sampled_from(DIMENSIONS), unique=True)
SYMBOL_PER = st.lists(st.sampled_from(("account", "venue", "strategy")), unique=True).map(lambda per: [*per, "symbol"])
PER = {
    "max_position": SYMBOL_PER,
    "max_notional": SYMBOL_PER,
    "gross_notional": ANY_PER,
    "net_notional": ANY_PER,
    "max_trade_volume": ANY_PER,
    "max_trade_notional": ANY_PER,
    "max_loss": ANY_PER,
    "max_drawdown": ANY_PER,
    "trade_rate": ANY_PER,
    "volume_rate": ANY_PER,
    "price_collar": SYMBOL_PER,
    "restricted": ANY_PER,
    "concentration": st.just(["account", "symbol"]),
    "repeated_trade": st.just(["account", "symbol"]),
}
COUNTED = ("trade_rate", "repeated_trade")
IN_PERCENT = ("price_collar", "concentration")


def decimals(low: int, high: int, places: tuple[int, ...] = (0, 0, 1, 2)) -> st.SearchStrategy[Decimal]:
    """Draw decimals of few digits: whole numbers from low to high, times a small power of ten."""
    return st.builds(
        lambda whole, place: Decimal(whole).scaleb(-place), st.integers(low, high), st.sampled_from(places)
    )


PRICES = st.one_of(decimals(1, 30), decimals(1, 30), decimals(-20, 20), st.just(Decimal(0)))
VOLUMES = decimals(1, 12)
FEES = st.one_of(st.just(Decimal(0)), decimals(-5, 9))
BIG = 2**63 - 1
BIG_NUMBERS = st.one_of(st.integers(BIG - 3, BIG + 1), st.integers(2**62 - 2, 2**62 + 2), st.integers(1, 3)).map(
    Decimal
)
THRESHOLDS = {
    "count": st.integers(1, 4).map(str),
    "percent": st.sampled_from(("1", "10", "33.3", "50", "99.99")),
    "amount": st.sampled_from(("0.5", "3", "10", "12.50", "60", "250", "1e3")),
}


@st.composite
def limits(draw: st.DrawFn, number: int = 0) -> dict[str, Any]:
    """Draw one limit as a file has it. number: what makes its id its own."""
    kind = draw(st.sampled_from(tuple(PER)))
    group = "count" if kind in COUNTED else "percent" if kind in IN_PERCENT else "amount"
    row: dict[str, Any] = {"id": f"{kind}-{number}", "kind": kind, "per": draw(PER[kind])}
    if kind != "restricted":
        row["threshold"] = draw(THRESHOLDS[group])
    match = draw(st.dictionaries(st.sampled_from(DIMENSIONS), st.sampled_from(GLOBS), max_size=2))
    if match:
        row["match"] = match
    row |= draw(st.sampled_from(({}, {}, {"warn_at": "0.5"}, {"warn_at": "1"}, {"clear_at": "0.4"})))
    if kind in ("trade_rate", "volume_rate", "repeated_trade"):
        row["window"] = draw(st.sampled_from(WINDOWS))
    if kind == "concentration" and draw(st.booleans()):
        row["floor"] = draw(st.sampled_from(("0", "10", "200")))
    if draw(st.integers(0, 5)) == 0:
        row |= {"action": "kill", "kill_scope": "account" if "account" in row["per"] else "firm"}
    return row


@st.composite
def limits_changes(draw: st.DrawFn, at: int = START_NS, event_id: str = "limits") -> LimitsChanged:
    """Draw a whole set of limits, with rates for every currency that instruments may have."""
    count = draw(st.sampled_from((0, 2, 4, 6, 8)))
    # Few numbers: a later set meets limits of an earlier one by id, kind and per, and also by id alone.
    numbers = draw(st.lists(st.integers(0, 9), min_size=count, max_size=count, unique=True))
    settings = {
        "base_currency": "USD",
        "revalue_every": draw(st.sampled_from(("100ms", "1ns", "1s"))),
        "fx": {"EUR": draw(st.sampled_from(("1.08", "0.5"))), "JPY": "0.0067"},
    }
    rows = [draw(limits(number)) for number in numbers]
    return LimitsChanged(event_id=event_id, at=at, settings=settings, limit=rows, who="test")


@st.composite
def instruments(draw: st.DrawFn, event_id: str = "instrument") -> InstrumentDefined:
    """Draw a definition of a symbol or a glob."""
    return InstrumentDefined(
        event_id=event_id,
        symbol=draw(st.sampled_from((*SYMBOLS, "A*", "?", "[é]"))),
        price_exponent=draw(st.sampled_from((-9, -2, 0, -12))),
        quantity_exponent=draw(st.sampled_from((-8, -1, 0, -10))),
        multiplier=draw(st.sampled_from((Decimal(1), Decimal(50), Decimal("0.1"), Decimal("2.5")))),
        currency=draw(st.sampled_from(("", "USD", "EUR", "JPY"))),
    )


class SessionBuilder:
    """Draws one event after another, remembering what earlier ones said."""

    def __init__(self, draw: st.DrawFn, extreme: bool) -> None:
        self.draw = draw
        self.prices = BIG_NUMBERS.flatmap(lambda n: st.sampled_from((n, -n))) if extreme else PRICES
        self.volumes = BIG_NUMBERS if extreme else VOLUMES
        self.events: list[Event] = []
        self.trades: list[TradeExecuted] = []
        self.now_ns = START_NS

    def add(self, what: str) -> None:
        """Add an event of this kind."""
        self.now_ns += self.draw(st.sampled_from(STEPS_MS)) * MS
        event: Event = getattr(self, f"draw_{what}")()
        self.events.append(event)
        if isinstance(event, TradeExecuted):
            self.trades.append(event)

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def event_id(self) -> str:
        # Now and then the id of an earlier event: a duplicate, or a conflict.
        return f"e{self.draw(st.integers(0, 3)) if self.draw(st.integers(0, 9)) == 0 else len(self.events)}"

    def draw_trade(self) -> TradeExecuted:
        return TradeExecuted(
            trade_id=f"t{len(self.trades)}",
            symbol=self.pick("AA", *SYMBOLS),
            price=self.draw(self.prices),
            volume=self.draw(self.volumes),
            side=self.pick("buy", "sell"),
            executed_at=self.now_ns,
            account=self.pick(*ACCOUNTS),
            venue=self.pick(*VENUES),
            strategy=self.pick(*STRATEGIES),
            fee=self.draw(FEES),
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
            price=self.pick(old.price, self.draw(self.prices)),
            volume=self.pick(old.volume, self.draw(self.volumes)),
            strategy=self.pick(*STRATEGIES),
            fee=self.draw(FEES),
            executed_at=self.now_ns,
        )

    def draw_mark(self) -> MarkPrice:
        return MarkPrice(self.event_id(), self.pick(*SYMBOLS), self.draw(self.prices), self.now_ns)

    def draw_adjustment(self) -> PositionAdjusted:
        quantity = self.draw(self.volumes) * self.pick(1, -1, 1, -1, 0)
        account, symbol = self.pick(*ACCOUNTS), self.pick(*SYMBOLS)
        price = self.draw(self.prices)
        return PositionAdjusted(self.event_id(), account, symbol, quantity, price, self.now_ns)

    def draw_session(self) -> SessionStarted:
        return SessionStarted(self.event_id(), "day", self.now_ns)

    def draw_instrument(self) -> InstrumentDefined:
        return self.draw(instruments(self.event_id()))

    def draw_limits(self) -> LimitsChanged:
        return self.draw(limits_changes(self.now_ns, self.event_id()))

    def draw_kill(self) -> KillSwitch:
        account = self.pick(*ACCOUNTS, "*")
        return KillSwitch(self.event_id(), account, engaged=self.pick(True, False), at=self.now_ns)

    def an_earlier_trade(self) -> TradeExecuted:
        if not self.trades:
            return self.draw_trade()
        recent = self.trades[-8:]
        return recent[self.draw(st.integers(0, len(recent) - 1))]


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
    for _ in range(draw(st.integers(0, 2))):
        builder.add("instrument")
    builder.add("limits")
    # Drawn first, because lists of hypothesis' own choice stay too short to reach busts of corrects and full windows.
    count = draw(st.integers(1, events_max))
    for what in draw(st.lists(st.sampled_from(WHAT), min_size=count, max_size=count)):
        builder.add(what)
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
