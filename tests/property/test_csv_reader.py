"""The Cython CSV reader against a plain, slow reader, on files of every shape; and on bytes of no shape at all."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ext.feedwriter import FeedWriter
from ext.records import EVENT_NAMES, EXEC_TYPES, REASONS, SIDES, Frame
from feeds import Feed, FeedError, open_feed
from feeds.columns import ColumnMap
from feeds.csvfile import CsvSource

FIELDS = (
    "trade_id", "symbol", "price", "volume", "side", "executed_at",
    "account", "venue", "strategy", "fee", "exec_type", "ref_trade_id",
)  # fmt: skip
NUMBER = re.compile(rb"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
SIDE_WORDS = {b"buy": "buy", b"BUY": "buy", b"B": "buy", b"1": "buy"} | {
    b"sell": "sell", b"SELL": "sell", b"S": "sell", b"2": "sell",
}  # fmt: skip


@dataclass(frozen=True)
class Physical:
    """One record as the plain splitter finds it: where, its bytes, its fields (None: broken quoting)."""

    line: int
    raw: bytes
    fields: list[bytes] | None


def split_record(data: bytes, start: int) -> tuple[list[bytes] | None, int, int]:
    """(fields or None, end of the bytes, start of the next record), byte by byte as RFC 4180 says."""
    fields: list[bytes] = []
    at = start
    while True:
        if data[at : at + 1] == b'"':
            text, at = bytearray(), at + 1
            while True:
                quote = data.find(b'"', at)
                if quote < 0:
                    return None, 0, 0
                text += data[at:quote]
                at = quote + 1
                if data[at : at + 1] != b'"':
                    break
                text += b'"'
                at += 1
            fields.append(bytes(text))
        else:
            match = re.compile(rb"[^,\n]*").match(data, at)
            assert match
            text, at = bytearray(match.group()), match.end()
            # A line end of a file without a last one may be a bare return.
            if text.endswith(b"\r") and data[at : at + 1] in (b"\n", b""):
                del text[-1:]
                at -= 1
            if b'"' in text:
                return None, 0, 0
            fields.append(bytes(text))
        rest = data[at : at + 2]
        if rest[:1] == b",":
            at += 1
            continue
        if rest == b"\r\n" or (rest == b"\r" and at + 1 == len(data)):
            return fields, at, at + 2
        if rest[:1] in (b"\n", b""):
            return fields, at, at + 1
        return None, 0, 0


def split_file(data: bytes) -> list[Physical]:
    data = data.removeprefix(b"\xef\xbb\xbf")
    records, at, line = [], 0, 1
    while at < len(data):
        fields, end, following = split_record(data, at)
        if fields is None:
            end = data.find(b"\n", at)
            end = len(data) if end < 0 else end
            following = end + 1
            end -= data[at:end].endswith(b"\r")
        raw = data[at:end]
        if raw or fields != [b""]:
            records.append(Physical(line, raw, fields))
        line += data[at:following].count(b"\n")
        at = following
    return records


def judge(record: Physical, header: list[str]) -> tuple[Any, ...]:
    """What the reader should have made of a record: a reason, or the values."""
    if record.fields is None:
        return ("undecodable",)
    try:
        record.raw.decode()
    except UnicodeDecodeError:
        return ("undecodable",)
    if len(record.fields) != len(header):
        return ("undecodable",)
    row = dict.fromkeys(FIELDS, b"") | dict(zip(header, record.fields, strict=True))
    if not values_are_valid(row):
        return ("invalid",)
    return (
        row["trade_id"].decode(), row["symbol"].decode(), decimal_of(row["price"]), decimal_of(row["volume"]),
        SIDE_WORDS[row["side"]], seconds(row["executed_at"]), row["account"].decode() or "default",
        row["venue"].decode(), row["strategy"].decode(), fee_of(row["fee"] or b"0"),
        row["exec_type"].decode() or "new", row["ref_trade_id"].decode(),
    )  # fmt: skip


def values_are_valid(row: dict[str, bytes]) -> bool:
    return (
        all(1 <= len(row[name]) <= 64 for name in ("trade_id", "symbol"))
        and all(len(row[name]) <= 64 for name in ("account", "venue", "strategy", "ref_trade_id"))
        and all(NUMBER.fullmatch(row[name]) for name in ("price", "volume"))
        and decimal_of(row["volume"]) > 0
        and row["side"] in SIDE_WORDS
        and re.fullmatch(rb"[+-]?[0-9]+", row["executed_at"]) is not None
        and (not row["fee"] or NUMBER.fullmatch(row["fee"]) is not None)
        and row["exec_type"] in (b"", b"new", b"correct", b"bust")
        and (row["exec_type"] in (b"", b"new") or bool(row["ref_trade_id"]))
    )


def decimal_of(text: bytes) -> Decimal:
    return Decimal(text.decode())


def fee_of(text: bytes) -> Decimal:
    """A fee in units of 1e-9; one that does not fit is flagged for the door, and 0 here."""
    units = decimal_of(text).scaleb(9)
    return decimal_of(text) if units == int(units) and abs(units) < 2**63 else Decimal(0)


def seconds(text: bytes) -> int:
    return int(text) * 10**9


def read(data: bytes, frame_records: int) -> list[tuple[int, bytes, tuple[Any, ...]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_bytes(data)
        with open_feed(path, format="csv") as feed:
            return decode(iter(lambda: feed.next_frame(frame_records), None))


def decode(frames: Iterator[bytearray | None]) -> list[tuple[int, bytes, tuple[Any, ...]]]:
    names: dict[tuple[int, int], str] = {}
    found = []
    for buffer in frames:
        frame = Frame(bytes(buffer or b""))
        names |= {(kind, number): text.decode() for kind, number, text in frame.definitions()}
        found += [(*frame.origin(i), values_of(frame, i, names)) for i in range(len(frame))]
    return found


def values_of(frame: Frame, i: int, names: dict[tuple[int, int], str]) -> tuple[Any, ...]:
    r = frame.records[i]
    if EVENT_NAMES[int(r["type"])] == "Rejected":
        return (REASONS[r["exec_type"]],)
    name = [names.get((kind, int(r[key])), "") for kind, key in enumerate(("symbol", "account", "venue", "strategy"))]
    return (
        frame.id(i).decode(), name[0], Decimal(int(r["price"])).scaleb(int(r["price_exponent"])),
        Decimal(int(r["volume"])).scaleb(int(r["volume_exponent"])), SIDES[r["side"]], int(r["executed_at"]),
        name[1], name[2], name[3], Decimal(int(r["fee"])).scaleb(-9), EXEC_TYPES[r["exec_type"]],
        frame.ref(i).decode(),
    )  # fmt: skip


digits = st.text("0123456789", min_size=1, max_size=8)
numbers = st.one_of(
    st.builds("{}{}".format, st.sampled_from(["", "-", "+"]), digits),
    st.builds("{}{}.{}".format, st.sampled_from(["", "-"]), digits, digits),
    st.builds("{}.{}e{}".format, digits, digits, st.integers(-9, 9)),
    st.sampled_from(["1.", ".5", "1_0", "NaN", "", "-", "1e", " 1", "0", "-0.0", "1.2.3", "100000", "٣"]),
)
texts = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=12),
    st.text(min_size=1, max_size=3).map(lambda text: text * 20),
    st.sampled_from(
        ["", "a", "BTC", 'say "x"', "a,b", "two\nlines", "two\r\nlines", "\r", "€" * 21, "x" * 64, "x" * 65]
    ),
)
cells = {
    "price": numbers, "volume": numbers, "fee": st.one_of(st.just(""), digits, numbers),
    "side": st.sampled_from(["buy", "sell", "BUY", "SELL", "B", "S", "1", "2", "b", ""]),
    "executed_at": st.one_of(digits, st.sampled_from(["", "x", "-5", "1.5", "+7"])),
    "exec_type": st.sampled_from(["", "new", "correct", "bust", "New"]),
}  # fmt: skip
good_cells = {"price": "1.5", "volume": "2", "side": "buy", "executed_at": "7", "trade_id": "T", "symbol": "S"}


def encode_cell(text: str, quoted: bool) -> bytes:
    if quoted or any(c in text for c in ',"\n\r'):
        return b'"' + text.replace('"', '""').encode("utf-8", "surrogatepass") + b'"'
    return text.encode("utf-8", "surrogatepass")


@st.composite
def csv_files(draw: st.DrawFn) -> tuple[bytes, list[str]]:
    optional = draw(st.lists(st.sampled_from(FIELDS[6:]), unique=True))
    header = draw(st.permutations([*FIELDS[:6], *optional, *draw(st.sampled_from([[], ["note"]]))]))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    lines = [",".join(header).encode()]
    for _ in range(draw(st.integers(0, 12))):
        lines.append(draw(record_lines(header)))
    data = (
        draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + end.join(lines) + draw(st.sampled_from([b"", end, end + end]))
    )
    return data, header


@st.composite
def record_lines(draw: st.DrawFn, header: list[str]) -> bytes:
    """Mostly rows with one or two odd cells; sometimes a blank line, a row of another width, or junk."""
    shape = draw(st.sampled_from(["row"] * 8 + ["blank", "short", "long", "junk", "bytes"]))
    if shape == "blank":
        return b""
    if shape == "junk":
        return draw(st.text(st.sampled_from('",ab1\r\n"'), max_size=12)).encode()
    row = {name: good_cells.get(name, "") for name in header}
    for name in draw(st.lists(st.sampled_from(header), max_size=3)):
        row[name] = draw(cells.get(name, texts))
    encoded = [encode_cell(text, draw(st.booleans())) for text in row.values()]
    if shape == "short":
        encoded = encoded[:-1]
    if shape == "long":
        encoded.append(b"")
    if shape == "bytes":
        encoded[draw(st.integers(0, len(encoded) - 1))] += draw(st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80"]))
    return b",".join(encoded)


@settings(max_examples=400, deadline=None)
@given(csv_files(), st.sampled_from([1, 3, 512]))
def test_the_reader_agrees_with_a_plain_one(file: tuple[bytes, list[str]], frame_records: int) -> None:
    data, header = file
    expected = [(record.line, record.raw, judge(record, header)) for record in split_file(data)[1:]]
    assert read(data, frame_records) == expected


def test_marks_that_would_make_a_row_make_one_only_where_they_do() -> None:
    """Every order of as many delimiters, line ends and quotes as a row has, between rows that are whole."""
    header, row = list(FIELDS[:6]), b"T,S,1,2,buy,3\n"
    for marks in product((b",", b"\n", b'"'), repeat=6):
        rows = b"".join(b"1" + mark for mark in marks)
        data = ",".join(header).encode() + b"\n" + row + rows + b"\n" + row
        expected = [(record.line, record.raw, judge(record, header)) for record in split_file(data)[1:]]
        assert read(data, 512) == expected


class Dribble:
    """A source that gives a few bytes at a time, so that every row is cut everywhere."""

    total = None
    position = 0
    name = "dribble"

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data, self.sizes = data, sizes

    def readinto(self, buffer: memoryview) -> int:
        size = min(self.sizes[self.position % len(self.sizes)], len(self.data) - self.position)
        buffer[:size] = self.data[self.position : self.position + size]
        self.position += size
        return size

    def close(self) -> None: ...


@settings(max_examples=100, deadline=None)
@given(csv_files(), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from([1, 512]))
def test_where_reads_are_cut_does_not_matter(
    file: tuple[bytes, list[str]], sizes: list[int], frame_records: int
) -> None:
    writer = FeedWriter()
    source = CsvSource(Dribble(file[0], sizes), writer, "dribble", columns=ColumnMap())
    feed = Feed([source], writer)
    frames = iter(lambda: feed.next_frame(frame_records), None)
    assert decode(frames) == read(file[0], frame_records)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=9), min_size=6, max_size=6)
    )
)
def test_what_the_standard_library_writes_is_read_back(rows: list[list[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([FIELDS[:6], *rows])
    found = read(text.getvalue().encode(), 512)
    assert len(found) == len(rows)
    for (_, raw, _), row in zip(found, rows, strict=True):
        assert next(csv.reader(io.StringIO(raw.decode(), newline=""))) == row


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(list(b'",\n\r\0aB1.\xff')), max_size=400).map(bytes))
)
def test_no_bytes_crash_or_hang_the_reader(data: bytes) -> None:
    head = b"trade_id,symbol,price,volume,side,executed_at\n"
    found = read(head + data, 512)
    assert [raw for _, raw, _ in found] == [record.raw for record in split_file(head + data)[1:]]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data)
        try:
            with open_feed(path) as feed:
                while feed.next_frame() is not None:
                    pass
        except FeedError as error:
            message = str(error)
        else:
            message = ""
        assert "\n" not in message
