"""Lines read in the core against the same lines decoded in Python: the same frames, however reads are cut."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from feed_rows import Names, Row, decode_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from ext.feedwriter import FeedWriter
from ext.linereader import LineReader
from feeds.capture import CaptureSource
from feeds.feed import Feed
from feeds.inputs import Input
from feeds.jsonl import JsonSource
from feeds.linesource import LineSource
from feeds.reading import Reading


class SlowJson(JsonSource):
    def _reader(self, source: Input) -> LineReader:
        return LineReader(source, self.writer, self)


class SlowCapture(CaptureSource):
    def _reader(self, source: Input) -> LineReader:
        return LineReader(source, self.writer, self)


class Dribble:
    """Bytes in reads of at most so many."""

    name, total, position = "x", None, 0

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def readinto(self, buffer: memoryview, /) -> int:
        return self._data.readinto(buffer[: self._size])

    def close(self) -> None: ...


Kind = Callable[[Input, FeedWriter, str, Reading], LineSource]


def read(kind: Kind, data: bytes, reading: Reading, size: int = 1 << 18, frame_records: int = 512) -> list[Row]:
    writer = FeedWriter()
    names, rows = Names(), []
    with Feed([kind(Dribble(data, size), writer, "x", reading)], writer) as feed:
        while (frame := feed.next_frame(frame_records)) is not None:
            rows += decode_frame(frame, names)
        return rows


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab\n\r"), max_size=60), st.integers(1, 9))
def test_lines_are_the_same_wherever_reads_are_cut(text: str, size: int) -> None:
    found = read(JsonSource, text.encode(), Reading(), size)
    expected = text.encode().split(b"\n")
    numbered = [(i + 1, line.removesuffix(b"\r")) for i, line in enumerate(expected)]
    assert [(row.line, row.raw) for row in found] == [(number, line) for number, line in numbered if line]


NUMBER = st.sampled_from(["1", "0", "-3", "1.50", "1e3", "1E-2", ".5", "01", "1.", "-", "1e", "99999999999999999999"])
SCALAR = (
    st.sampled_from(["null", "true", "false", '""', '"B"', '"sell"', '"x"', "[]", "{}", '["a", "b"]', '"a\\u0041"'])
    | NUMBER
    | st.text(st.sampled_from('ab\\"\té\x01'), max_size=4).map(lambda text: f'"{text}"')
)
GOOD: dict[str, Any] = {
    "trade_id": "T1", "symbol": "BTC", "price": "101.5", "volume": 2, "side": "buy", "executed_at": 1700000000,
    "account": "A", "venue": "V", "strategy": "S", "fee": "0.1", "exec_type": "new", "ref_trade_id": "R",
}  # fmt: skip
MARK: dict[str, Any] = {"type": "MarkPrice", "event_id": "M", "symbol": "BTC", "price": "1.5", "at": 1700000000}
OTHER_KEYS = ["type", "event_id", "at", "quantity", "é", "", "a" * 17]


@st.composite
def json_line(draw: st.DrawFn) -> bytes:
    """An event as an object, with some keys left out, repeated, strange or with strange values."""
    event = draw(st.sampled_from([GOOD, MARK, {**GOOD, "type": "TradeExecuted"}]))
    pairs = [(key, json.dumps(value)) for key, value in event.items() if draw(st.integers(0, 11))]
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from([*event, *OTHER_KEYS]))
        pairs.insert(draw(st.integers(0, len(pairs))), (key, draw(SCALAR)))
    space = draw(st.sampled_from(["", " ", "\t "]))
    text = "{" + space + f",{space}".join(f'"{key}"{space}:{space}{value}' for key, value in pairs) + space + "}"
    return (space + text + draw(st.sampled_from(["", "", "", " ", "x", "}", ","]))).encode()


READINGS = st.sampled_from(
    [Reading(), Reading(side="tick"), Reading(account="Z"), Reading(accounts=7, seed=3), Reading(as_marks=True)]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(json_line(), max_size=8), READINGS, st.integers(1, 300), st.sampled_from([1, 3, 512]))
def test_json_lines_read_in_the_core_are_as_python_reads_them(
    lines: list[bytes], reading: Reading, size: int, frame_records: int
) -> None:
    data = b"\n".join(lines)
    assert read(JsonSource, data, reading, size, frame_records) == read(SlowJson, data, reading)


BINANCE = {
    "e": "trade", "E": 1723161256123, "T": 1723161256120, "s": "BTCUSDT", "t": 77, "p": "61000.10", "q": "0.5",
    "X": "MARKET", "m": True,
}  # fmt: skip
AGGREGATE = {
    "e": "aggTrade",
    "a": 5,
    "s": "BTCUSDT",
    "p": "1",
    "q": "2",
    "f": 1,
    "l": 2,
    "T": 1723161256120,
    "m": False,
}
PRINT = {
    "coin": "BTC", "side": "B", "px": "61000.0", "sz": "0.1", "time": 1723161256120, "hash": "0xabc", "tid": 12,
    "users": ["0x1", "0x2"],
}  # fmt: skip
BOOK = {"stream": "btcusdt@depth", "data": {"e": "depthUpdate", "b": [["1", "2"]]}}
TICKER = {"stream": "btcusdt@bookTicker", "data": {"e": "bookTicker", "s": "BTCUSDT", "b": "1.5", "a": "1.6"}}


def changed(draw: st.DrawFn, event: dict[str, Any]) -> dict[str, Any]:
    event = dict(event)
    if draw(st.integers(0, 2)) == 0:
        key = draw(st.sampled_from(list(event)))
        value = draw(st.sampled_from([None, "", "x", 1, -1, 1.5, True, [], "\\", "é", 10**20, ["a"], [1, 2], "REMOVE"]))
        event[key] = value
        if value == "REMOVE":
            del event[key]
    return event


@st.composite
def capture_line(draw: st.DrawFn) -> bytes:
    kind = draw(st.integers(0, 5))
    message: Any
    if kind == 0:
        message = {"channel": "trades", "data": [changed(draw, PRINT) for _ in range(draw(st.integers(0, 3)))]}
    elif kind == 1:
        message = changed(draw, draw(st.sampled_from([BINANCE, AGGREGATE])))
    elif kind == 2:
        message = draw(st.sampled_from([BOOK, TICKER, {"channel": "pong"}, {"channel": "trades"}]))
    else:
        message = {"stream": "x", "data": changed(draw, draw(st.sampled_from([BINANCE, AGGREGATE])))}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    text = json.dumps(message, separators=separators, ensure_ascii=draw(st.booleans()))
    stamp = draw(st.sampled_from(["1723161256127000000", "1723161256127000000", "17", "", "x"]))
    return (stamp + " " + text + draw(st.sampled_from(["", "", "", " ", "}", "{"]))).encode()


@settings(max_examples=400, deadline=None)
@given(st.lists(capture_line(), max_size=8), st.booleans(), st.integers(1, 300), st.sampled_from([1, 3, 512]))
def test_captures_read_in_the_core_are_as_python_reads_them(
    lines: list[bytes], as_marks: bool, size: int, frame_records: int
) -> None:
    data = b"\n".join(lines)
    reading = Reading(as_marks=as_marks)
    assert read(CaptureSource, data, reading, size, frame_records) == read(SlowCapture, data, reading)
