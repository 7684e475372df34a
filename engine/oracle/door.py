"""The door's reference: what is accepted, what is a duplicate, what is refused and why (DESIGN section 4)."""

from __future__ import annotations

import heapq
from decimal import Decimal
from typing import Any

from engine.errors import LimitsError
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
from engine.limitset import LimitSet, parse_limits
from engine.oracle.book import FEE_EXPONENT, MULTIPLIER_EXPONENT, Instrument, Instruments
from engine.oracle.numbers import INT64_MAX, NotExact, units

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
TEXT_BYTES_MAX = 64
MULTIPLIER_DIGITS_MAX = 18
EXPONENT_MIN = -18

Identity = tuple[str, ...]
Content = tuple[Any, ...]


class Door:
    """Says of every event what the door does with it, in order of arrival.

    trades_max: how many trades are remembered (`dedup_max_trades`). names_max: names of each kind.
    """

    def __init__(self, trades_max: int = 50_000_000, names_max: int = 1_000_000) -> None:
        self._trades_max = trades_max
        self._names_max = names_max
        self._names: dict[str, set[str]] = {"symbol": set(), "account": set(), "venue": set(), "strategy": set()}
        self._instruments = Instruments()
        self._bound: dict[str, Instrument] = {}
        self._currencies: set[str] = set()
        self._limits: LimitSet | None = None
        self._known: dict[Identity, Content] = {}
        self._remembered: list[tuple[int, int, Identity]] = []  # a heap: executed_at, arrival, identity
        self._arrivals = 0
        self._horizon_ns: int | None = None  # executed_at of the trade forgotten last

    def judge(self, event: Event) -> str:
        """Return `accepted`, `duplicate` or the reason of a refusal. What is accepted is remembered."""
        if not self._is_valid(event):
            return "invalid"
        instrument = self._instrument_of(event)
        try:
            numbers = numbers_of(event, instrument)
        except NotExact:
            return "precision"
        if any(abs(number) > INT64_MAX for number in numbers) or not time_fits(event):
            return "overflow"
        if self._has_too_many_names(event):
            return "too_many_names"
        identity, content = identity_of(event), content_of(event, numbers)
        if identity in self._known:
            return DUPLICATE if self._known[identity] == content else "conflicting_duplicate"
        if isinstance(event, TradeExecuted) and self._is_too_old(event.executed_at):
            return "too_old"
        self._accept(event, identity, content, instrument)
        return ACCEPTED

    # --- invalid ------------------------------------------------------------------------------------------------

    def _is_valid(self, event: Event) -> bool:
        if not all(low <= size_of(text) <= TEXT_BYTES_MAX for text, low in texts_of(event)):
            return False
        if not all(number.is_finite() for number in decimals_of(event)):
            return False
        match event:
            case TradeExecuted():
                return event.volume > 0 and event.side in ("buy", "sell") and event.exec_type in EXEC_TYPES
            case InstrumentDefined():
                return is_valid_instrument(event) and self._has_rate(event.currency)
            case LimitsChanged():
                return self._are_valid_limits(event)
            case _:
                return True

    def _has_rate(self, currency: str) -> bool:
        if self._limits is None or currency == "":
            return True
        settings = self._limits.settings
        return currency == settings.base_currency or currency in settings.fx

    def _are_valid_limits(self, event: LimitsChanged) -> bool:
        try:
            settings = parse_limits({"settings": event.settings, "limit": event.limit}).settings
        except LimitsError:
            return False
        return self._currencies <= {"", settings.base_currency, *settings.fx}

    # --- names, identity ----------------------------------------------------------------------------------------

    def _has_too_many_names(self, event: Event) -> bool:
        return any(
            name and name not in self._names[kind] and len(self._names[kind]) >= self._names_max
            for kind, name in names_of(event)
        )

    def _is_too_old(self, executed_at: int) -> bool:
        if self._horizon_ns is None:
            return False
        return executed_at <= self._horizon_ns or executed_at < self._remembered[0][0]

    def _accept(self, event: Event, identity: Identity, content: Content, instrument: Instrument) -> None:
        for kind, name in names_of(event):
            if name:
                self._names[kind].add(name)
        self._known[identity] = content
        match event:
            case InstrumentDefined():
                self._instruments.define(event)
                self._currencies.add(event.currency)
            case LimitsChanged():
                self._limits = parse_limits({"settings": event.settings, "limit": event.limit})
            case TradeExecuted() | MarkPrice() | PositionAdjusted():
                self._bound.setdefault(event.symbol, instrument)
        if isinstance(event, TradeExecuted):
            self._remember(event.executed_at, identity)

    def _remember(self, executed_at: int, identity: Identity) -> None:
        """Remember a trade; beyond the bound, forget the one executed first."""
        self._arrivals += 1
        heapq.heappush(self._remembered, (executed_at, self._arrivals, identity))
        if len(self._remembered) > self._trades_max:
            self._horizon_ns, _, forgotten = heapq.heappop(self._remembered)
            del self._known[forgotten]

    def _instrument_of(self, event: Event) -> Instrument:
        symbol = getattr(event, "symbol", "")
        return self._bound.get(symbol) or self._instruments.find(symbol)


EXEC_TYPES = ("new", "correct", "bust")


def size_of(text: str) -> int:
    """Return the bytes of a text in UTF-8; what has no UTF-8 counts as too long."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return TEXT_BYTES_MAX + 1


def texts_of(event: Event) -> list[tuple[str, int]]:
    """Return an event's texts, each with the least bytes it may have."""
    match event:
        case TradeExecuted():
            ref = (event.ref_trade_id, 0 if event.exec_type == "new" else 1)
            required = [(text, 1) for text in (event.trade_id, event.symbol, event.account)]
            return [*required, ref, (event.venue, 0), (event.strategy, 0)]
        case MarkPrice():
            return [(event.event_id, 1), (event.symbol, 1)]
        case PositionAdjusted():
            return [(event.event_id, 1), (event.symbol, 1), (event.account, 1), (event.note, 0)]
        case SessionStarted():
            return [(event.event_id, 1), (event.name, 1)]
        case InstrumentDefined():
            return [(event.event_id, 1), (event.symbol, 1), (event.currency, 0)]
        case KillSwitch():
            return [(event.event_id, 1), (event.account, 1), (event.who, 0)]
        case LimitsChanged():
            return [(event.event_id, 1), (event.who, 0)]


def decimals_of(event: Event) -> list[Decimal]:
    """Return an event's decimal fields."""
    match event:
        case TradeExecuted():
            return [event.price, event.volume, event.fee]
        case MarkPrice():
            return [event.price]
        case PositionAdjusted():
            return [event.price, event.quantity]
        case InstrumentDefined():
            return [event.multiplier]
        case _:
            return []


def numbers_of(event: Event, instrument: Instrument) -> list[int]:
    """Return an event's decimals as whole numbers of their units. Raises NotExact."""
    match event:
        case TradeExecuted():
            fee = units(event.fee, FEE_EXPONENT)
            return [instrument.price(event.price), instrument.quantity(event.volume), fee]
        case MarkPrice():
            return [instrument.price(event.price)]
        case PositionAdjusted():
            return [instrument.price(event.price), instrument.quantity(event.quantity)]
        case _:
            return []


def time_fits(event: Event) -> bool:
    """Tell whether an event's time is an int64 of nanoseconds."""
    at = event.executed_at if isinstance(event, TradeExecuted) else getattr(event, "at", 0)
    return -INT64_MAX <= at <= INT64_MAX


def names_of(event: Event) -> list[tuple[str, str]]:
    """Return the names an event travels with, as (kind, name)."""
    kinds = ("symbol", "account", "venue", "strategy")
    names = [(kind, getattr(event, kind, "")) for kind in kinds]
    return [pair for pair in names if not (isinstance(event, KillSwitch) and pair[1] == "*")]


def identity_of(event: Event) -> Identity:
    """Return what makes an event the same one, whoever sends it again."""
    if isinstance(event, TradeExecuted):
        return (event.venue, event.account, event.symbol, event.side, event.exec_type, event.trade_id)
    return (type(event).__name__, event.event_id)


def content_of(event: Event, numbers: list[int]) -> Content:
    """Return what a second arrival must repeat to be a duplicate and no conflict."""
    if isinstance(event, TradeExecuted):
        if event.exec_type == "bust":
            return ()
        return (*numbers[:2], event.ref_trade_id if event.exec_type == "correct" else "")
    return tuple(numbers)


def is_valid_instrument(event: InstrumentDefined) -> bool:
    """Tell whether an instrument's numbers are within bounds."""
    if event.multiplier <= 0 or not all(
        EXPONENT_MIN <= exponent <= 0 for exponent in (event.price_exponent, event.quantity_exponent)
    ):
        return False
    try:
        multiplier = units(event.multiplier, MULTIPLIER_EXPONENT)
    except NotExact:
        return False
    return len(str(multiplier).rstrip("0")) <= MULTIPLIER_DIGITS_MAX and multiplier < 10**36
