"""Records back into events: for people, dead letters, workers and the reference; never on the hot path."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

import msgspec

from engine.events import (
    DeadLetter,
    Event,
    InstrumentDefined,
    KillSwitch,
    LimitsChanged,
    MarkPrice,
    PositionAdjusted,
    SessionStarted,
    TradeExecuted,
)
from ext.records import EVENT_NAMES, EXEC_TYPES, NAME_KIND_NAMES, REASONS, SIDES, Frame

_EXACT = Context(prec=60)
_UNITS = {0: "line", 1: "record", 2: "offset"}
_LIMITS, _REJECTED = 6, 15
_BUY = SIDES.index("buy")


class Row(NamedTuple):
    """A record's fields as plain integers, in the order of RECORD_DTYPE."""

    type: int
    exec_type: int
    side: int
    flags: int
    symbol: int
    account: int
    venue: int
    strategy: int
    id_offset: int
    ref_offset: int
    id_length: int
    ref_length: int
    price_exponent: int
    volume_exponent: int
    price: int
    volume: int
    fee: int
    executed_at: int


def decimal_of(mantissa: int, exponent: int) -> Decimal:
    """Return ``mantissa x 10**exponent`` without trailing zeros after the point.

    >>> decimal_of(9682190000000, -9)
    Decimal('9682.19')
    >>> decimal_of(5, 3)
    Decimal('5000')
    """
    if mantissa == 0:
        return Decimal(0)
    while exponent <= -4 and mantissa % 10_000 == 0:
        mantissa //= 10_000
        exponent += 4
    while exponent < 0 and mantissa % 10 == 0:
        mantissa //= 10
        exponent += 1
    if exponent > 0:
        return Decimal(mantissa * 10**exponent)
    return Decimal(mantissa).scaleb(exponent, _EXACT)


class EventDecoder:
    """Decodes the records of frames in stream order, remembering the names that earlier frames defined.

    One decoder serves one stream: the broker's (sequenced frames) or one publisher's (unsequenced ones).
    """

    def __init__(self) -> None:
        self._names: tuple[dict[int, str], ...] = tuple({0: ""} for _ in NAME_KIND_NAMES)

    def learn(self, frame: Frame) -> None:
        """Take in the names a frame defines."""
        for kind, name_id, text in frame.definitions():
            self._names[kind][name_id] = text.decode("utf-8", "replace")

    def learn_names(self, kind: int, texts: Sequence[bytes]) -> None:
        """Take in the names of a kind whose ids are 1, 2, …"""
        self._names[kind].update({name_id: text.decode("utf-8", "replace") for name_id, text in enumerate(texts, 1)})

    def name(self, kind: int, name_id: int) -> str:
        """Return a name; one that was never defined reads as ``?<id>``."""
        return self._names[kind].get(name_id, f"?{name_id}")

    @property
    def texts(self) -> tuple[dict[int, str], ...]:
        """Return the names themselves, per kind by id: what is learnt later will be there too."""
        return self._names

    def decode_all(self, frame: Frame) -> list[tuple[int, Event]]:
        """Learn a frame's names and return (seq, event) of each of its records."""
        self.learn(frame)
        first = frame.first_seq
        return [(first + i, self._decode(frame, row, i)) for i, row in enumerate(frame.records.tolist())]

    def decode(self, frame: Frame, i: int) -> Event:
        """Return record ``i`` as an event. The frame's names must have been learnt."""
        return self._decode(frame, frame.records[i].item(), i)

    def _decode(self, frame: Frame, row: tuple[int, ...], i: int) -> Event:
        """row: the record as plain integers: reading fields of a NumPy record one by one costs three times the rest."""
        r = Row(*row)
        kind = EVENT_NAMES.get(r.type)
        event_id = _text(frame.id(i))
        ref = _text(frame.ref(i)) if r.ref_length else ""
        at = r.executed_at
        symbol = self.name(0, r.symbol)
        account = self.name(1, r.account)
        price = decimal_of(r.price, r.price_exponent)
        volume = decimal_of(r.volume, r.volume_exponent)
        if kind == "TradeExecuted":
            return TradeExecuted(
                event_id,
                symbol,
                price,
                volume,
                "buy" if r.side == _BUY else "sell",
                at,
                account=account,
                venue=self.name(2, r.venue),
                strategy=self.name(3, r.strategy),
                fee=decimal_of(r.fee, -9),
                exec_type=EXEC_TYPES[r.exec_type],  # type: ignore[arg-type]
                ref_trade_id=ref,
            )
        if kind == "MarkPrice":
            return MarkPrice(event_id, symbol, price, at)
        if kind == "PositionAdjusted":
            return PositionAdjusted(event_id, account, symbol, volume, price, at, ref)
        if kind == "SessionStarted":
            return SessionStarted(event_id, ref, at)
        if kind == "InstrumentDefined":
            multiplier = decimal_of(r.price, r.volume)
            return InstrumentDefined(
                event_id, symbol, r.price_exponent, r.volume_exponent, multiplier=multiplier, currency=ref
            )
        if kind == "LimitsChanged":
            body = msgspec.json.decode(frame.ref(i))
            return LimitsChanged(event_id, at, body["settings"], body["limit"], body.get("who", ""))
        if kind == "KillSwitch":
            who = account if r.account else "*"
            return KillSwitch(event_id, who, bool(r.exec_type), at, ref, r.volume)
        raise ValueError(f"record type {r.type} is no event")

    def dead_letter(self, frame: Frame, i: int, reason: int, stage: str, **more: Any) -> DeadLetter:
        """Describe record ``i`` as a dead letter: its event as JSON where it can be decoded, its origin where kept.

        ``more`` sets or overrides fields of DeadLetter (error, source, seq, source_seq, at, ...).
        """
        r = frame.records[i]
        position, raw = frame.origin(i)
        name, unit = frame.origin_source(i)
        fields: dict[str, Any] = {"reason": REASONS[reason], "stage": stage, "error": REASONS[reason]}
        if name or position:
            fields |= {"source": _text(name), "position": position, "unit": _UNITS.get(unit, "")}
        if r["type"] == _REJECTED:
            fields["error"] = _text(frame.ref(i)) or fields["error"]
        else:
            event = self._decode(frame, r.item(), i)
            fields["event"] = msgspec.json.encode(event).decode()
            fields["symbol"] = getattr(event, "symbol", "")
            fields["account"] = getattr(event, "account", "")
            fields["trade_id"] = getattr(event, "trade_id", "") or getattr(event, "event_id", "")
        fields["payload"] = raw or fields.get("event", "").encode()
        return DeadLetter(**(fields | more))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
