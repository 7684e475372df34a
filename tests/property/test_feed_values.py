"""The short ways of the feeds' numbers, times and names against the slow ones, text by text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ext.csvrows import SCANS, use_scan
from ext.decimals import parse_number, parse_timestamp
from ext.feedwriter import FeedWriter, RowRules
from ext.records import EVENT_NAMES, FLAGS, REASONS, Frame
from feeds import Feed
from feeds.columns import ColumnMap
from feeds.csvfile import CsvSource

# A text is read with what lies behind it: digits, points and ends of texts that are none of its own.
JUNK = [b"7" * 60, b"." * 60, b"9.9Z:-T " * 8, b"\xff" * 60, b"\0" * 60]


def record_of(junk: bytes, **changed: bytes) -> Any:
    """The record of a trade whose texts are followed by `junk`."""
    fields: dict[str, bytes | None] = {
        "trade_id": b"T", "symbol": b"S", "price": b"1", "volume": b"1", "side": b"buy", "executed_at": b"0",
        "account": None, "venue": None, "strategy": None, "fee": None, "exec_type": None, "ref_trade_id": None,
    }  # fmt: skip
    fields.update(changed)
    writer, rules = FeedWriter(), RowRules()
    writer.add_trade(rules, (junk,) * 12, 1)  # its texts stay where those of the next are put
    writer.add_trade(rules, tuple(fields.values()), 2)
    return Frame(bytes(writer.take() or b"")).records[1]


digits = st.text("0123456789", max_size=18)
number_texts = st.one_of(
    st.builds(
        lambda sign, whole, point, part, zeros: f"{sign}{whole}{point}{part}{'0' * zeros}",
        st.sampled_from(["", "", "", "-", "+"]), digits, st.sampled_from(["", ".", "."]), digits, st.integers(0, 9),
    ),
    st.text("0123456789.-+eE", max_size=20),
    st.text(st.characters(max_codepoint=255), max_size=18),
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(number_texts, st.sampled_from(JUNK))
@example("0", JUNK[0])
@example("0.00000000", JUNK[0])
@example("-0.0", JUNK[0])
@example("12345678", JUNK[0])
@example("1234567.", JUNK[0])
@example(".1234567", JUNK[0])
@example("123456789012345.", JUNK[1])
@example(".123456789012345", JUNK[1])
@example("1234567890123456", JUNK[1])
@example("-1234567890123456", JUNK[1])
@example("1234567.12345678", JUNK[1])
@example("12345678.1234567", JUNK[1])
@example("1000000000000000", JUNK[1])
@example("1.2.3", JUNK[1])
@example("12345678.1234.67", JUNK[1])
@example("-", JUNK[0])
@example("--1", JUNK[0])
@example("1:;", JUNK[0])
@example("1/2", JUNK[0])
def test_a_price_is_what_the_slow_parser_says(text: str, junk: bytes) -> None:
    raw = text.encode("latin-1")
    record = record_of(junk, price=raw)
    expected = parse_number(raw)
    if expected is None:
        assert REASONS[record["exec_type"]] == "invalid"
        return
    assert EVENT_NAMES[int(record["type"])] == "TradeExecuted"
    wide = bool(record["flags"] & FLAGS["price_wide"])
    assert (int(record["price"]), int(record["price_exponent"]), wide) == expected


moments = st.datetimes(datetime(1969, 12, 30), datetime(2263, 1, 1))
iso_texts = st.builds(
    lambda at, between, part, end: f"{at:%Y-%m-%d}{between}{at:%H:%M:%S}{part}{end}",
    moments,
    st.sampled_from("TTT t_"),
    st.one_of(
        st.just(""),
        st.builds("{}{}".format, st.sampled_from("...,:"), st.text("0123456789", max_size=12)),
    ),
    st.sampled_from(["Z", "Z", "", "z", "+00:00", "-00:00", "+05:30", "+0000", "+00", "ZZ", " "]),
)
spoiled_iso_texts = st.builds(
    lambda text, at, byte: text[: at % len(text)] + byte + text[at % len(text) + 1 :],
    iso_texts,
    st.integers(0, 40),
    st.characters(max_codepoint=255),
)
time_texts = st.one_of(
    iso_texts,
    spoiled_iso_texts,
    st.builds("{}{}".format, st.sampled_from(["", "-", "+"]), st.text("0123456789", max_size=21)),
    st.builds(
        "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}Z".format,
        st.integers(1969, 2264), st.integers(0, 13), st.integers(0, 32), st.integers(0, 25), st.integers(0, 61),
        st.integers(0, 61),
    ),
)  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(time_texts, st.sampled_from(JUNK))
@example("1970-01-01T00:00:00Z", JUNK[0])
@example("1969-12-31T23:59:59.999999999Z", JUNK[0])
@example("2262-04-10T23:59:59.999999999Z", JUNK[0])
@example("2262-04-11T23:47:16.854775807Z", JUNK[0])
@example("2262-04-11T23:47:16.854775808Z", JUNK[0])
@example("2000-02-29T00:00:00Z", JUNK[0])
@example("2100-02-29T00:00:00Z", JUNK[0])
@example("2023-02-29T00:00:00Z", JUNK[0])
@example("2024-01-02T03:04:05.", JUNK[0])
@example("2024-01-02T03:04:05.Z", JUNK[0])
@example("2024-01-02T03:04:05.1234567890Z", JUNK[0])
@example("2024-01-02T03:04:05.123456789+00:00", JUNK[0])
@example("2024-01-02T03:04:05+00:00", JUNK[0])
@example("2024-01-02T03:04:05.123", JUNK[2])
@example("9999999999999999999", JUNK[0])
@example("1700000000000000000", JUNK[0])
def test_a_time_is_what_the_slow_parser_says(text: str, junk: bytes) -> None:
    raw = text.encode("latin-1")
    record = record_of(junk, executed_at=raw)
    reason, value = parse_timestamp(raw)
    if REASONS[reason] == "invalid":
        assert REASONS[record["exec_type"]] == "invalid"
        return
    assert EVENT_NAMES[int(record["type"])] == "TradeExecuted"
    flags = {"": 0, "precision": FLAGS["time_precision"], "overflow": FLAGS["time_overflow"]}[REASONS[reason]]
    assert (int(record["executed_at"]), int(record["flags"])) == (0 if flags else value, flags)


heads = st.one_of(
    st.sampled_from(
        ["17000000000", "00999999999", "01000000000", "92233720367", "92233720368", "99999999999", "1" * 10 + "x"]
    ),
    st.text("0123456789", min_size=11, max_size=11),
)
tails = st.one_of(
    st.text("0123456789", min_size=8, max_size=8),
    st.text("0123456789", min_size=6, max_size=10),
    st.text("0123456789/:. -x", min_size=8, max_size=8),
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), tails), min_size=2, max_size=8), heads, heads)
@example([(0, "00000001"), (0, "99999999"), (0, "0000000:"), (0, "00000002")], "17000000000", "x")
@example([(0, "00000001"), (0, "99999999"), (1, "54775807"), (1, "54775808")], "92233720367", "92233720368")
@example([(0, "99999999"), (1, "00000000"), (0, "99999999")], "00999999999", "01000000000")
@example([(0, "0000001"), (0, "00000001"), (0, "000000001"), (0, "00000001")], "17000000000", "x")
def test_times_that_begin_alike_are_what_the_slow_parser_says(
    parts: list[tuple[int, str]], first: str, second: str
) -> None:
    writer, rules = FeedWriter(), RowRules()
    texts = [((second if number else first) + tail).encode() for number, tail in parts]
    for number, text in enumerate(texts):
        writer.add_trade(rules, (b"T", b"S", b"1", b"1", b"buy", text, *[None] * 6), number)
    for record, text in zip(Frame(bytes(writer.take() or b"")).records, texts, strict=True):
        reason, value = parse_timestamp(text)
        if REASONS[reason] == "invalid":
            assert REASONS[record["exec_type"]] == "invalid"
        else:
            assert bool(record["flags"]) == (REASONS[reason] != "")
            assert int(record["executed_at"]) == (0 if record["flags"] else value)


def test_every_day_of_the_short_way_is_the_calendars() -> None:
    day = datetime(1970, 1, 1, tzinfo=UTC)
    writer, rules, days = FeedWriter(), RowRules(), 106_751
    found: list[int] = []
    for number in range(days):
        text = f"{day + timedelta(number):%Y-%m-%d} 00:00:00Z".encode()
        writer.add_trade(rules, (b"T", b"S", b"1", b"1", b"buy", text, *[None] * 6), number)
        if len(writer) == 8192 or number == days - 1:
            found += Frame(bytes(writer.take() or b"")).records["executed_at"].tolist()
    assert found == [number * 86_400 * 10**9 for number in range(days)]


# --- where rows are cut -----------------------------------------------------------------------------------------------


class Whole:
    """A source that gives all that is asked for."""

    total = None
    name = "whole"

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def readinto(self, buffer: memoryview) -> int:
        piece = self.data[self.position : self.position + len(buffer)]
        buffer[: len(piece)] = piece
        self.position += len(piece)
        return len(piece)

    def close(self) -> None: ...


def frames_of(data: bytes) -> list[bytes]:
    writer = FeedWriter()
    feed = Feed([CsvSource(Whole(data), writer, "whole", columns=ColumnMap())], writer)
    return [bytes(frame) for frame in iter(lambda: feed.next_frame(64), None) if frame is not None]


@pytest.fixture
def scans() -> Iterator[list[str]]:
    """The ways that this processor has; the fastest is in use again afterwards."""
    ways = [name for name in SCANS if use_scan(name)]
    yield ways
    use_scan(ways[-1])


HEAD = b"trade_id,symbol,price,volume,side,executed_at\n"


def test_every_way_to_find_marks_finds_the_same(scans: list[str]) -> None:
    """Bytes that differ from a mark in one bit, marks in every place of a block, dense and sparse ones."""
    assert len(scans) > 1 or scans == ["words"]
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    make = random.Random(seed)
    near = bytes({mark ^ 1 << bit for mark in b',\n"' for bit in range(8)})
    for _ in range(300):
        alphabet = make.choice(
            [b',\n"', b",,,,,,\n", b'ab,\n\r"', near + b',\n"', near, b"a" * 40 + b",\n", b"\xff,\n"]
        )
        rows = bytes(make.choices(alphabet, k=make.randrange(700)))
        good = b"T,S,1,2,buy,3\n" * make.randrange(20)
        results = []
        for way in scans:
            assert use_scan(way)
            results.append(frames_of(HEAD + good + rows + b"\n" + good))
        assert all(result == results[0] for result in results)


def test_rows_that_cross_the_window_are_read_in_every_way(scans: list[str]) -> None:
    rows = b"".join(b"T%d,SYM%d,%d.%d,1.5,sell,%d\n" % (i, i % 999, i, i % 7, i) for i in range(40_000))
    found = []
    for way in scans:
        assert use_scan(way)
        found.append(frames_of(HEAD + rows))
    assert sum(Frame(frame, False).records["volume_exponent"].size for frame in found[0]) == 40_000
    assert all(each == found[0] for each in found)
    first, last = Frame(found[0][0]), Frame(found[0][-1])
    assert first.origin(0) == (2, b"T0,SYM0,0.0,1.5,sell,0")
    assert last.origin(len(last) - 1) == (40_001, b"T39999,SYM39,39999.1,1.5,sell,39999")


byte_runs = st.lists(
    st.one_of(
        st.integers(0, 17).map(lambda count: b"x" * count),
        st.characters(codec="utf-8", exclude_characters='",\n\r').map(str.encode),
        st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xe2\x82", b"\xf4\x90\x80\x80", b"\x80", b"\xc0\xaf"]),
    ),
    max_size=6,
).map(b"".join)


@settings(max_examples=500, deadline=None)
@given(byte_runs, st.integers(0, 9))
def test_bytes_are_text_where_python_decodes_them(run: bytes, more: int) -> None:
    row = b"T,S,1,2,buy,3," + run + b"0" * more
    records = Frame(frames_of(HEAD[:-1] + b",note\n" + row + b"\n")[0]).records
    try:
        row.decode()
    except UnicodeDecodeError:
        assert REASONS[records[0]["exec_type"]] == "undecodable"
    else:
        assert EVENT_NAMES[int(records[0]["type"])] == "TradeExecuted"


def test_no_more_is_read_ahead_than_a_row_needs() -> None:
    """A chunk where rows are short; of a row that is longer than a chunk, no more than as much again."""
    row = b"T,S,1,2,buy,3\n"
    for long_bytes, read_bytes_max in ((10, 1 << 18), (5 << 20, 11 << 20)):
        source = Whole(HEAD + b"T," + b"S" * long_bytes + b",1,2,buy,3\n" + row * (30 << 20 >> 4))
        writer = FeedWriter()
        feed = Feed([CsvSource(source, writer, "whole", columns=ColumnMap())], writer)
        assert feed.next_frame(1) is not None
        assert source.position <= read_bytes_max


def test_names_of_one_place_of_the_cache_do_not_take_each_others_numbers() -> None:
    """Ten thousand names share 2,048 places of two, in an order that comes back to each."""
    names = [b"N%d" % number for number in range(10_000)]
    writer = FeedWriter()
    numbers = [writer.name(0, name) for name in names]
    assert len(set(numbers)) == len(names)
    for _ in range(3):
        assert [writer.name(0, name) for name in reversed(names)] == numbers[::-1]
    assert writer.name(0, b"N1\0") not in numbers
    assert writer.name(0, b"N1") == numbers[1]


def test_side_words_are_told_from_those_that_look_alike() -> None:
    """A source's own words, one and many of them, and texts that differ in a byte that is 0."""
    for words in ({"b": 1}, {"b": 1, "s": 2}, {f"w{n}": 1 + n % 2 for n in range(8)}):
        rules, writer = RowRules(side_texts=words), FeedWriter()
        texts = [word.encode() for word in words] + [b"b\0", b"\0", b"B", b"w", b"w8", b"s ", b"sb"]
        for number, text in enumerate(texts):
            writer.add_trade(rules, (b"T", b"S", b"1", b"1", text, b"0", *[None] * 6), number)
        records = Frame(bytes(writer.take() or b"")).records
        assert [int(side) for side in records["side"]] == [*words.values()] + [0] * 7
        assert [EVENT_NAMES[int(kind)] for kind in records["type"][len(words) :]] == ["Rejected"] * 7
