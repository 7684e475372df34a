"""Events survive the way into a frame and back; damaged frames are refused, never misread."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import EventDecoder, Row
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
from ext.encoder import EncodeError, EventEncoder
from ext.records import RECORD_DTYPE, Frame, FrameBuilder, FrameDecodeError, crc32c_of, stamp_frame


def texts(minimum: int) -> st.SearchStrategy[str]:
    alphabet = st.characters(codec="utf-8")
    return st.text(alphabet, min_size=minimum, max_size=16).filter(lambda t: minimum <= len(t.encode()) <= 64)


required, optional = texts(1), texts(0)
times = st.integers(-(2**63) + 1, 2**63 - 1)
numbers = st.decimals(-(10**9), 10**9, allow_nan=False, places=9)
volumes = st.decimals(Decimal("1e-8"), 10**9, places=8)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        TradeExecuted,
        trade_id=required,
        symbol=required,
        price=numbers,
        volume=volumes,
        side=st.sampled_from(["buy", "sell"]),
        executed_at=times,
        account=required,
        venue=optional,
        strategy=optional,
        fee=numbers,
        exec_type=st.sampled_from(["new", "correct", "bust"]),
        ref_trade_id=required,
    ),
    st.builds(MarkPrice, event_id=required, symbol=required, price=numbers, at=times),
    st.builds(
        PositionAdjusted,
        event_id=required,
        account=required,
        symbol=required,
        quantity=numbers,
        price=numbers,
        at=times,
        note=optional,
    ),
    st.builds(SessionStarted, event_id=required, name=required, at=times),
    st.builds(
        InstrumentDefined,
        event_id=required,
        symbol=required,
        price_exponent=st.integers(-18, 0),
        quantity_exponent=st.integers(-18, 0),
        multiplier=volumes,
        currency=optional,
    ),
    st.builds(
        LimitsChanged,
        event_id=required,
        at=times,
        settings=st.dictionaries(optional, optional, max_size=3),
        limit=st.lists(st.dictionaries(optional, optional, max_size=3), max_size=3),
        who=optional,
    ),
    st.builds(
        KillSwitch,
        event_id=required,
        account=st.one_of(required, st.just("*")),
        engaged=st.booleans(),
        at=times,
        who=optional,
        caused_by_seq=st.integers(0, 2**62),
    ),
)


@given(st.lists(events, max_size=12), st.integers(1, 5))
def test_events_survive_frames_of_any_size(session: list[Event], per_frame: int) -> None:
    encoder, decoder = EventEncoder(), EventDecoder()
    back: list[Event] = []
    for start in range(0, len(session), per_frame):
        for event in session[start : start + per_frame]:
            encoder.add(event)
        back += [event for _, event in decoder.decode_all(Frame(encoder.finish(start + 1, 9)))]
    assert back == session


@given(events, st.data())
def test_any_flipped_bit_is_found(event: Event, data: st.DataObject) -> None:
    encoder = EventEncoder()
    encoder.add(event)
    frame = encoder.finish(1, 2)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    with pytest.raises(FrameDecodeError):
        Frame(bytes(frame))


@given(events, st.data())
def test_a_frame_cut_anywhere_is_refused(event: Event, data: st.DataObject) -> None:
    encoder = EventEncoder()
    encoder.add(event)
    frame = bytes(encoder.finish(1, 2))
    with pytest.raises(FrameDecodeError):
        Frame(frame[: data.draw(st.integers(0, len(frame) - 1))])


@given(st.binary(max_size=300), st.integers(0, 299), st.binary(min_size=1, max_size=8))
def test_forged_frames_with_a_right_crc_never_read_outside(junk: bytes, at: int, patch: bytes) -> None:
    builder = FrameBuilder()
    builder.define_name(0, 1, b"BTCUSDT")
    builder.origin_source(b"trades.csv")
    builder.add_record(type=1, side=1, symbol=1, account=2, id=b"T1", price=5, volume=6)
    builder.origin(2, junk)
    frame = builder.finish()
    frame[at : at + len(patch)] = patch
    if len(frame) < 64:
        return
    stamp_frame(frame, 1, 2)
    try:
        opened = Frame(frame)
    except FrameDecodeError:
        return
    opened.definitions()
    for i in range(len(opened)):
        opened.id(i)
        opened.origin(i)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trade_id", ""),
        ("trade_id", "x" * 65),
        ("symbol", ""),
        ("symbol", "é" * 33),
        ("account", "\ud800"),
        ("price", Decimal("NaN")),
        ("price", Decimal("Infinity")),
        ("price", 1.5),
        ("volume", Decimal(0)),
        ("volume", Decimal(-1)),
        ("side", "hold"),
        ("exec_type", "maybe"),
        ("executed_at", 1.5),
        ("fee", "1_0"),
    ],
)
def test_a_value_no_record_can_hold_is_refused_and_leaves_no_trace(field: str, value: object) -> None:
    good = {
        "trade_id": "T1",
        "symbol": "BTC",
        "price": Decimal(1),
        "volume": Decimal(1),
        "side": "buy",
        "executed_at": 1,
    }
    encoder = EventEncoder()
    with pytest.raises(EncodeError, match=field):
        encoder.add(TradeExecuted(**(good | {field: value})))  # type: ignore[arg-type]
    assert len(encoder) == 0
    encoder.add(TradeExecuted(**good))  # type: ignore[arg-type]
    assert EventDecoder().decode_all(Frame(encoder.finish())) == [(0, TradeExecuted(**good))]  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.integers(0, 8_000), st.integers(0, 9_000))
def test_the_crc_is_the_same_however_it_is_cut(seed: int, cut: int, size: int) -> None:
    data = random.Random(seed).randbytes(size)
    slow = 0xFFFFFFFF
    for byte in data:
        slow ^= byte
        for _ in range(8):
            slow = slow >> 1 ^ (0x82F63B78 if slow & 1 else 0)
    assert crc32c_of(data) == slow ^ 0xFFFFFFFF
    assert crc32c_of(data[cut:], crc32c_of(data[:cut])) == crc32c_of(data)


def test_the_crc_is_crc_32c() -> None:
    assert crc32c_of(b"123456789") == 0xE3069283  # RFC 3720's check value
    assert crc32c_of(b"6789", crc32c_of(b"12345")) == 0xE3069283


def test_a_decoded_row_has_the_fields_of_a_record_in_their_order() -> None:
    assert Row._fields == RECORD_DTYPE.names
