"""Accepted events as the sequenced frames a broker would make of them, built in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

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
from engine.limitset import parse_limits
from engine.oracle.book import Instruments
from ext.records import FrameBuilder

TRADE, MARK, ADJUST, SESSION, INSTRUMENT, LIMITS, KILL = range(1, 8)
EXEC = {"new": 0, "correct": 1, "bust": 2}
SIDE = {"buy": 1, "sell": 2}
SYMBOL, ACCOUNT, VENUE, STRATEGY = range(4)


def integer(value: Decimal, exponent: int) -> int:
    """Return a decimal in units of 10**exponent; it must fit."""
    scaled = value.scaleb(-exponent)
    assert scaled == scaled.to_integral_value(), (value, exponent)
    return int(scaled)


def mantissa(value: Decimal) -> tuple[int, int]:
    """Return (mantissa without trailing zeros, exponent)."""
    _, digits, exponent = value.as_tuple()
    number = int("".join(map(str, digits)))
    while number and number % 10 == 0:
        number //= 10
        exponent = int(exponent) + 1
    return number, int(exponent)


class SequencedFrames:
    """Numbers names as a broker does, and keeps what instruments say, over all frames of one sequence."""

    def __init__(self) -> None:
        self._names: list[dict[str, int]] = [{"": 0} for _ in range(4)]
        self._instruments = Instruments()
        self._units: dict[str, tuple[int, int]] = {}

    def frame(self, first_seq: int, events: Sequence[Event]) -> bytes:
        """Return one frame whose records take first_seq and the numbers after it."""
        builder = FrameBuilder(1)
        for event in events:
            builder.add_record(**self._record(builder, event))
        return bytes(builder.finish(first_seq, 7, 1))

    def cut(self, numbered: Iterable[tuple[int, Event]], sizes: Iterable[int]) -> list[bytes]:
        """Return frames of these many events each; what is left over goes into a last one."""
        left = list(numbered)
        frames = []
        for size in sizes:
            if left:
                part, left = left[:size], left[size:]
                frames.append(self.frame(part[0][0], [event for _, event in part]))
        if left:
            frames.append(self.frame(left[0][0], [event for _, event in left]))
        return frames

    def _name(self, builder: FrameBuilder, kind: int, text: str) -> int:
        names = self._names[kind]
        if text not in names:
            names[text] = len(names)
            builder.define_name(kind, names[text], text.encode())
        return names[text]

    def _unit(self, symbol: str) -> tuple[int, int]:
        if symbol not in self._units:
            found = self._instruments.find(symbol)
            self._units[symbol] = (found.price_exponent, found.quantity_exponent)
        return self._units[symbol]

    def _record(self, builder: FrameBuilder, event: Event) -> dict[str, Any]:
        match event:
            case TradeExecuted():
                return self._trade(builder, event)
            case MarkPrice(event_id=id_, symbol=symbol, price=price, at=at):
                pe, qe = self._unit(symbol)
                return {
                    "type": MARK,
                    "symbol": self._name(builder, SYMBOL, symbol),
                    "price": integer(price, pe),
                    "price_exponent": pe,
                    "volume_exponent": qe,
                    "executed_at": at,
                    "id": id_.encode(),
                }
            case PositionAdjusted():
                pe, qe = self._unit(event.symbol)
                return {
                    "type": ADJUST,
                    "symbol": self._name(builder, SYMBOL, event.symbol),
                    "account": self._name(builder, ACCOUNT, event.account),
                    "price": integer(event.price, pe),
                    "volume": integer(event.quantity, qe),
                    "price_exponent": pe,
                    "volume_exponent": qe,
                    "executed_at": event.at,
                    "id": event.event_id.encode(),
                    "ref": event.note.encode(),
                }
            case SessionStarted():
                return {"type": SESSION, "executed_at": event.at, "id": event.event_id.encode()}
            case InstrumentDefined():
                self._instruments.define(event)
                number, exponent = mantissa(event.multiplier)
                return {
                    "type": INSTRUMENT,
                    "symbol": self._name(builder, SYMBOL, event.symbol),
                    "price": number,
                    "volume": exponent,
                    "price_exponent": event.price_exponent,
                    "volume_exponent": event.quantity_exponent,
                    "id": event.event_id.encode(),
                    "ref": event.currency.encode(),
                }
            case LimitsChanged():
                source = parse_limits({"settings": event.settings, "limit": event.limit}).to_json()
                return {"type": LIMITS, "executed_at": event.at, "id": event.event_id.encode(), "ref": source}
            case KillSwitch():
                return {
                    "type": KILL,
                    "account": 0 if event.account == "*" else self._name(builder, ACCOUNT, event.account),
                    "exec_type": int(event.engaged),
                    "executed_at": event.at,
                    "id": event.event_id.encode(),
                }
        raise AssertionError(event)

    def _trade(self, builder: FrameBuilder, event: TradeExecuted) -> dict[str, Any]:
        pe, qe = self._unit(event.symbol)
        return {
            "type": TRADE,
            "exec_type": EXEC[event.exec_type],
            "side": SIDE[event.side],
            "symbol": self._name(builder, SYMBOL, event.symbol),
            "account": self._name(builder, ACCOUNT, event.account),
            "venue": self._name(builder, VENUE, event.venue),
            "strategy": self._name(builder, STRATEGY, event.strategy),
            "price": integer(event.price, pe),
            "volume": integer(event.volume, qe),
            "price_exponent": pe,
            "volume_exponent": qe,
            "fee": integer(event.fee, -9),
            "executed_at": event.executed_at,
            "id": event.trade_id.encode(),
            "ref": event.ref_trade_id.encode(),
        }
