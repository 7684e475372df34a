"""The events: what goes in, and what comes out.

All are frozen ``msgspec.Struct``s. Prices, volumes, quantities and fees are ``Decimal`` (text in JSON and
msgpack); times are integer nanoseconds since 1970 UTC. Texts are 1 to 64 bytes of UTF-8, optional ones 0 to 64.

>>> trade = TradeExecuted("T1", "BTCUSDT", Decimal("9682.19"), Decimal("0.5"), "buy", 1_582_329_602_111_000_000)
>>> msgspec.json.decode(msgspec.json.encode(trade), type=Event) == trade
True
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec

Side = Literal["buy", "sell"]
ExecType = Literal["new", "correct", "bust"]
Severity = Literal["clear", "warn", "breach"]

ZERO = Decimal(0)
ONE = Decimal(1)


class TradeExecuted(msgspec.Struct, frozen=True, tag=True):
    """A trade that has happened, or what became of one (``exec_type``).

    Known by (venue, account, symbol, side, exec_type, trade_id). ``price`` may be zero or negative, ``volume`` is
    above zero, ``fee`` may be negative. ``ref_trade_id`` names what a correct or a bust is about (FIX ExecRefID).
    """

    trade_id: str
    symbol: str
    price: Decimal
    volume: Decimal
    side: Side
    executed_at: int
    account: str = "default"
    venue: str = ""
    strategy: str = ""
    fee: Decimal = ZERO
    exec_type: ExecType = "new"
    ref_trade_id: str = ""


class MarkPrice(msgspec.Struct, frozen=True, tag=True):
    """The price a symbol is valued at from now on; ``at`` in ns."""

    event_id: str
    symbol: str
    price: Decimal
    at: int


class PositionAdjusted(msgspec.Struct, frozen=True, tag=True):
    """An opening position or a transfer: opens or reduces like a trade, but is none. ``quantity`` is signed."""

    event_id: str
    account: str
    symbol: str
    quantity: Decimal
    price: Decimal
    at: int
    note: str = ""


class SessionStarted(msgspec.Struct, frozen=True, tag=True):
    """P&L, peaks and windows of the limits start again; ``at`` in ns."""

    event_id: str
    name: str
    at: int


class InstrumentDefined(msgspec.Struct, frozen=True, tag=True):
    """What a symbol's numbers mean; ``symbol`` may be a glob. ``currency`` "" is the base currency.

    Prices come in units of 10**price_exponent, quantities in units of 10**quantity_exponent.
    """

    event_id: str
    symbol: str
    price_exponent: int = -9
    quantity_exponent: int = -8
    multiplier: Decimal = ONE
    currency: str = ""


class LimitsChanged(msgspec.Struct, frozen=True, tag=True):
    """The whole new set of limits, as in the TOML (``settings`` and ``limit``); ``at`` in ns."""

    event_id: str
    at: int
    settings: dict[str, Any] = {}
    limit: list[dict[str, Any]] = []
    who: str = ""


class KillSwitch(msgspec.Struct, frozen=True, tag=True):
    """An account (``*``: all) is stopped or released. ``caused_by_seq`` 0: by a person."""

    event_id: str
    account: str
    engaged: bool
    at: int
    who: str = ""
    caused_by_seq: int = 0


Event = TradeExecuted | MarkPrice | PositionAdjusted | SessionStarted | InstrumentDefined | LimitsChanged | KillSwitch


class PositionUpdated(msgspec.Struct, frozen=True, tag=True):
    """A position after an event, as a report shows it: exact decimals, money in the instrument's currency."""

    seq: int
    account: str
    symbol: str
    quantity: Decimal
    avg_price: Decimal
    realized_pnl: Decimal
    unrealized_pnl: Decimal
    fees: Decimal
    last_price: Decimal
    trades: int


class RiskAlert(msgspec.Struct, frozen=True):
    """A key's level changed, or a trade offended (DESIGN section 6). ``utilization`` is value / threshold."""

    alert_no: int
    seq: int
    limit_id: str
    kind: str
    severity: Severity
    account: str
    symbol: str
    venue: str
    strategy: str
    value: Decimal
    threshold: Decimal
    utilization: Decimal
    trade_id: str
    executed_at: int


class DeadLetter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was refused or given up, with all that a person needs to bring it back.

    ``stage``: ``feed``, ``door``, ``sequence`` or ``queue:<name>``. ``payload`` holds the original bytes where they
    are known (a file's line, a message), else ``event``'s. ``event`` is the decoded event as JSON text, "" where
    nothing could be decoded. ``position`` counts in ``unit`` (line, record, offset) of ``source``.
    """

    reason: str
    stage: str
    error: str
    payload: bytes = b""
    event: str = ""
    source: str = ""
    position: int = 0
    unit: str = ""
    seq: int = 0
    source_seq: int = 0
    account: str = ""
    symbol: str = ""
    trade_id: str = ""
    attempts: int = 1
    history: list[dict[str, Any]] = []
    traceback: str = ""
    at: int = 0


def executed_at_of(event: Event) -> int:
    """Return the time an event carries, in ns (0: InstrumentDefined has none)."""
    if isinstance(event, TradeExecuted):
        return event.executed_at
    return 0 if isinstance(event, InstrumentDefined) else event.at
