"""Frames of jobs read by the batch: the same events as the plain decoder's, and hashes that are only of the content."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sessions

from engine.codec import EventDecoder, decimal_of
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
from engine.jobframes import JobDecoder
from ext.encoder import EventEncoder
from ext.jobevents import JobReader
from ext.records import KIND_SEQUENCED, Frame, FrameBuilder

TRADE = {"type": 1, "side": 1, "symbol": 1, "account": 1, "id": b"T1", "price": 1, "volume": 1, "executed_at": 1}


def frame_of(*events: Event) -> Frame:
    encoder = EventEncoder()
    for event in events:
        encoder.add(event)
    return Frame(bytes(encoder.finish()))


def hash_of(event: Event, *before: Event) -> bytes:
    """Return an event's hash in a frame where others came before it, whose names have the lower ids."""
    return bytes(JobDecoder().decode(frame_of(*before, event))[len(before) :].hashes)


def trade(**changes: Any) -> TradeExecuted:
    fields: dict[str, Any] = {"trade_id": "T1", "symbol": "S", "price": Decimal("1.5"), "volume": Decimal(20)}
    return TradeExecuted(**(fields | {"side": "buy", "executed_at": 7, "account": "A", "ref_trade_id": "R"} | changes))


@given(sessions())
@settings(max_examples=60, deadline=None)
def test_events_are_those_of_the_plain_decoder_and_equal_ones_have_equal_hashes(session: list[Event]) -> None:
    trades = [event for event in session if isinstance(event, TradeExecuted)]
    for events in (session, trades):
        if events:
            frame = frame_of(*events)
            decoded = JobDecoder().decode(frame)
            plain = [event for _, event in EventDecoder().decode_all(frame)]
            assert list(decoded) == plain
            assert [str(event) for event in decoded] == [str(event) for event in plain], "also the decimals' digits"
            hashes = [decoded[i : i + 1].hashes for i in range(len(plain))]
            assert b"".join(hashes) == decoded.hashes
            assert decoded[::-1].hashes == b"".join(reversed(hashes))
            shown = [str(event) for event in plain]
            assert len(set(shown)) == len(set(hashes)) == len(set(zip(shown, hashes, strict=True)))


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-999, 999), st.integers(-128, 127))
def test_decimals_are_those_of_the_plain_decoder(mantissa: int, exponent: int) -> None:
    builder = FrameBuilder(KIND_SEQUENCED)
    for _ in range(2):  # made, then remembered
        builder.add_record(**TRADE | {"price": mantissa, "price_exponent": exponent, "fee": mantissa})
    names = tuple({0: "", 1: "x"} for _ in range(4))
    for found in JobReader(TradeExecuted, names).trades(Frame(bytes(builder.finish(1, 1)))) or []:
        assert found.price.as_tuple() == decimal_of(mantissa, exponent).as_tuple()
        assert found.fee.as_tuple() == decimal_of(mantissa, -9).as_tuple()


def test_a_hash_is_the_same_in_every_version_because_it_lies_in_files() -> None:
    assert hash_of(trade()).hex() == "9f6a427adc3d6328"
    assert hash_of(LimitsChanged("L", 3, {"warn": 1}, [], "me")).hex() == "0f8089f1833c7895"


def test_a_hash_knows_neither_the_numbers_of_names_nor_the_units_of_prices() -> None:
    others = [trade(symbol="X", account="Y", venue="Z", strategy="W"), trade(account="V", venue="U")]
    assert hash_of(trade(venue="Z"), *others) == hash_of(trade(venue="Z"))
    builder = FrameBuilder(KIND_SEQUENCED)
    builder.define_name(0, 5, b"S")
    builder.define_name(1, 9, b"A")
    wide = {"price": 1_500_000_000, "price_exponent": -9, "volume": 2_000_000_000, "volume_exponent": -8}
    builder.add_record(**TRADE | wide | {"symbol": 5, "account": 9, "ref": b"R", "executed_at": 7})
    assert JobDecoder().decode(Frame(bytes(builder.finish(1, 1)))).hashes == hash_of(trade())


def test_every_field_is_in_the_hash() -> None:
    events: list[Event] = [
        trade(),
        *(trade(**{name: "B"}) for name in ("trade_id", "symbol", "account", "venue", "strategy", "ref_trade_id")),
        trade(account="A", venue="R", ref_trade_id=""),
        trade(price=Decimal(15)),
        trade(price=Decimal("-1.5")),
        trade(price=Decimal(20), volume=Decimal("1.5")),
        trade(volume=Decimal(2)),
        trade(fee=Decimal("0.1")),
        trade(side="sell"),
        trade(exec_type="bust"),
        trade(executed_at=8),
        MarkPrice("T1", "S", Decimal("1.5"), 7),
        PositionAdjusted("T1", "A", "S", Decimal(20), Decimal("1.5"), 7, "R"),
        PositionAdjusted("T1", "A", "S", Decimal(-20), Decimal("1.5"), 7, "R"),
        SessionStarted("T1", "R", 7),
        InstrumentDefined("T1", "S"),
        InstrumentDefined("T1", "S", price_exponent=-8),
        InstrumentDefined("T1", "S", multiplier=Decimal(10)),
        LimitsChanged("T1", 7, {"warn": 1}),
        LimitsChanged("T1", 7, {"warn": 2}),
        KillSwitch("T1", "A", True, 7),
        KillSwitch("T1", "A", False, 7),
        KillSwitch("T1", "A", True, 7, "", 3),
    ]
    assert len({hash_of(event) for event in events}) == len(events)


@pytest.mark.parametrize("field", ["symbol", "account", "venue", "strategy"])
def test_a_name_that_was_never_defined_fails_the_job_and_its_effect(field: str) -> None:
    builder = FrameBuilder(KIND_SEQUENCED)
    builder.define_name(0, 1, b"S")
    builder.define_name(1, 1, b"A")
    builder.add_record(**TRADE | {field: 3})
    events = JobDecoder().decode(Frame(bytes(builder.finish(1, 1))))
    with pytest.raises(KeyError):
        _ = events[0]
    with pytest.raises(KeyError):
        _ = events.hashes


@pytest.mark.parametrize("field", ["side", "exec_type"])
def test_a_number_that_stands_for_nothing_is_refused(field: str) -> None:
    builder = FrameBuilder(KIND_SEQUENCED)
    builder.add_record(**TRADE | {field: 3, "symbol": 0, "account": 0})
    with pytest.raises(ValueError, match=f"{field} 3.*no trade"):
        _ = JobDecoder().decode(Frame(bytes(builder.finish(1, 1))))[0]
