"""The plain entry, as a program in another language uses it: one JSON object or msgpack map a message, no handshake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zmq
from broker_rig import WAIT_S, Rig, new_base, wait_for

from engine.deadletters import LetterFilter, list_letters
from engine.endpoints import endpoint
from engine.events import MarkPrice
from engine.sink import Sink

TRADE = {
    "trade_id": "T1",
    "symbol": "BTCUSDT",
    "price": "9682.19",
    "volume": "0.5",
    "side": "buy",
    "executed_at": 1_700_000_000_000_000_000,
}


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def rig(context) -> Iterator[Rig]:
    with Rig(context, new_base()) as rig:
        yield rig


def connect(context: zmq.Context[Any], base: str, kind: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.linger = 0
    socket.rcvtimeo = int(WAIT_S * 1000)
    socket.connect(endpoint(base, "publish"))
    return socket


def answer_of(raw: bytes) -> dict[str, Any]:
    return json.loads(raw) if raw[:1] == b"{" else msgspec.msgpack.decode(raw)


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.REQ], ids=["DEALER", "REQ"])
@pytest.mark.parametrize("sync", ["os", "group"])
def test_an_event_of_each_format_is_numbered_answered_and_known_again(context, tmp_path, kind, sync):
    with Rig(context, new_base(), tmp_path / "journal", sync) as rig:
        socket = connect(context, rig.base, kind)
        socket.send(json.dumps(TRADE).encode())
        assert json.loads(socket.recv()) == {"ok": True, "id": "T1", "seq": 1}
        socket.send(msgspec.msgpack.encode(TRADE | {"trade_id": "T2", "account": "MM1"}))
        assert msgspec.msgpack.decode(socket.recv()) == {"ok": True, "id": "T2", "seq": 2}
        socket.send(json.dumps(TRADE | {"type": "TradeExecuted"}).encode())
        assert json.loads(socket.recv()) == {"ok": True, "id": "T1", "duplicate": True}
        mark = {"type": "MarkPrice", "event_id": "M1", "symbol": "BTCUSDT", "price": "1e4", "at": 5}
        socket.send(json.dumps(mark).encode())
        assert json.loads(socket.recv())["seq"] == 3
        assert rig.trade_ids() == ["T1", "T2"]
        assert isinstance(rig.events()[2][1], MarkPrice)


@pytest.mark.parametrize(
    ("message", "reason", "error"),
    [
        (b"{", "undecodable", "truncated"),
        (b"\x81", "undecodable", "truncated"),
        (b'{"trade_id": "\xff"}', "undecodable", "utf-8"),
        (b"{}", "invalid", "trade_id"),
        (json.dumps(TRADE | {"type": "Trade"}).encode(), "invalid", "trade"),
        (json.dumps(TRADE | {"side": "up"}).encode(), "invalid", "side"),
        (json.dumps(TRADE | {"volume": "0"}).encode(), "invalid", "volume"),
        (json.dumps(TRADE | {"price": "NaN"}).encode(), "invalid", "price"),
        (json.dumps(TRADE | {"trade_id": "x" * 65}).encode(), "invalid", "id"),
        (json.dumps(TRADE | {"price": "1e-30"}).encode(), "precision", ""),
        (json.dumps(TRADE | {"price": "1e400"}).encode(), "overflow", ""),
    ],
)
def test_what_is_refused_is_answered_with_its_reason_and_kept_as_a_dead_letter(rig, context, message, reason, error):
    socket = connect(context, rig.base, zmq.DEALER)
    socket.send(message)
    answer = answer_of(socket.recv())
    assert (answer["ok"], answer["reason"]) == (False, reason)
    assert error in answer["error"].lower()
    assert [letter.reason for letter in rig.broker.dead_letters] == [reason]
    socket.send(json.dumps(TRADE).encode())
    assert json.loads(socket.recv())["seq"] == 1


def test_a_conflict_is_told_apart_from_a_duplicate(rig, context):
    socket = connect(context, rig.base, zmq.DEALER)
    for price in ("1", "2", "1.0"):
        socket.send(json.dumps(TRADE | {"price": price}).encode())
    answers = [json.loads(socket.recv()) for _ in range(3)]
    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert answers[1]["reason"] == "conflicting_duplicate"


def test_a_refusal_is_answered_only_when_the_sink_has_it(context, tmp_path):
    base = new_base()
    with Rig(context, base, sink=endpoint(base, "sink")) as rig:
        socket = connect(context, base, zmq.DEALER)
        socket.send(json.dumps(TRADE | {"price": "1e-30"}).encode())
        socket.send(json.dumps(TRADE).encode())
        assert json.loads(socket.recv())["seq"] == 1
        assert rig.broker.stats().refused == 1
        with Sink(context, endpoint(base, "sink"), tmp_path / "letters.db"):
            assert json.loads(socket.recv())["reason"] == "precision"
        assert list_letters(tmp_path / "letters.db", LetterFilter(), 0, 10)["counts"] == {"precision": 1}


def test_thousands_in_a_row_are_each_answered_in_order(rig, context):
    socket = connect(context, rig.base, zmq.DEALER)
    for n in range(3000):
        socket.send(json.dumps(TRADE | {"trade_id": f"N{n}", "symbol": f"S{n % 50}"}).encode())
    assert [json.loads(socket.recv())["seq"] for _ in range(3000)] == list(range(1, 3001))
    wait_for(lambda: rig.broker.stats().accepted == 3000, "all counted")


def test_junk_of_several_parts_is_no_event_and_ends_nothing(rig, context):
    socket = connect(context, rig.base, zmq.DEALER)
    socket.send_multipart([b"", b"{}", b"more"])
    socket.send_multipart([b"{}", b"more"])
    socket.send_multipart([b"", b""])
    socket.send(json.dumps(TRADE).encode())
    answers = []
    while not answers or "seq" not in answers[-1]:
        answers.append(answer_of(socket.recv_multipart()[-1]))
    assert answers[-1]["seq"] == 1
