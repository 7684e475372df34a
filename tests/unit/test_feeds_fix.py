"""FIX logs against a slow reader of the tests' own: fills, corrections and busts, framing, logger prefixes."""

from __future__ import annotations

import os
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from feed_rows import Row, read_rows
from slow_fix import Fill, fills

from feeds import FeedError

DATA = Path(os.environ.get("RISKWIRE_DATA") or Path(__file__).parents[3] / "shared" / "data")
REPORT = {
    35: "8", 34: "7", 49: "BROKER", 56: "US", 52: "20240102-14:30:00.123", 37: "O1", 11: "C1", 17: "E1", 150: "F",
    39: "2", 1: "ACC", 55: "XYZ", 54: "1", 31: "101.25", 32: "100", 60: "20240102-14:30:00.123456789", 30: "XNYS",
}  # fmt: skip


def message(changes: dict[int, str | None] | None = None, version: str = "FIX.4.4", delimiter: str = "\1") -> bytes:
    fields = {**REPORT, **(changes or {})}
    body = "".join(f"{tag}={value}\1" for tag, value in fields.items() if value is not None)
    return framed(body.encode(), version).replace(b"\1", delimiter.encode())


def framed(body: bytes, version: str = "FIX.4.4") -> bytes:
    text = f"8={version}\0019={len(body)}\1".encode() + body
    return text + b"10=%03d\1" % (sum(text) % 256)


def write(path: Path, *messages: bytes, end: bytes = b"\n") -> Path:
    path.write_bytes(b"".join(part + end for part in messages))
    return path


def as_fill(row: Row) -> Fill:
    return Fill(
        row.id, row.symbol, row.price, row.volume, row.side, row.executed_at, row.account, row.venue, row.fee,
        row.exec_type, row.ref,
    )  # fmt: skip


def read(path: Path, **options: Any) -> list[Row]:
    rows = read_rows(path, **options)
    assert read_rows(path, max_records=1, **options) == rows
    return rows


def generated(count: int, seed: int) -> list[bytes]:
    pick = random.Random(seed)
    messages = []
    for i in range(count):
        version = pick.choice(["FIX.4.0", "FIX.4.2", "FIX.4.4", "FIXT.1.1"])
        old = version in ("FIX.4.0", "FIX.4.2")
        changes: dict[int, str | None] = {
            17: f"E{i}", 54: pick.choice("123456"), 31: str(round(pick.uniform(-5, 500), pick.randrange(5))),
            32: pick.choice(["0", "1", "2.5", "1000", "0.00"]), 35: pick.choice("88888D0"), 1: pick.choice(["A", None]),
            12: pick.choice([None, "0.25", "-1"]), 13: pick.choice([None, "1", "3"]), 19: pick.choice([None, "E0"]),
            150: pick.choice("0124") if old else pick.choice("0FFFGHI4"), 20: pick.choice("00012") if old else None,
            60: pick.choice([None, "20240102-14:30:00", "20240229-23:59:59.9", "19991231-00:00:00.123456"]),
        }  # fmt: skip
        if version == "FIX.4.0":
            changes[150], changes[39] = None, pick.choice("0124")
        trans, kind = changes[20], changes[150]
        if (trans in ("1", "2") or kind in ("G", "H")) and changes[19] is None:
            changes[19] = "E0"
        if (kind in ("F", "G") or trans == "2") and Decimal(changes[32] or 0) == 0:
            changes[32] = "3"
        if trans == "1" or kind == "H":
            changes[13] = None
        messages.append(message(changes, version))
    return messages


@pytest.mark.parametrize("delimiter", [b"\1", b"|"])
@pytest.mark.parametrize(
    "prefix", [b"", b"2024-01-02 14:30:00,123 INFO [session-1] <- ", b"<20240102-14:30:00, FIX.4.4, in> (108="]
)
def test_fills_are_those_of_a_slow_reader(tmp_path: Path, delimiter: bytes, prefix: bytes) -> None:
    messages = [prefix + m.replace(b"\1", delimiter) for m in generated(3000, 11)]
    path = write(tmp_path / "a.log", *messages)
    rows = read(path)
    assert [as_fill(row) for row in rows] == fills(path.read_bytes())
    assert all(messages[row.line - 1].endswith(row.raw) for row in rows)


def test_a_stream_without_line_ends_and_one_with_carriage_returns(tmp_path: Path) -> None:
    messages = generated(2000, 12)
    lines = write(tmp_path / "a.log", *messages)
    for end in (b"", b"\r\n", b" \n\n"):
        rows = read(write(tmp_path / "b.log", *messages, end=end))
        assert [as_fill(row) for row in rows] == [as_fill(row) for row in read(lines)]


def test_the_last_delimiter_may_be_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", message(delimiter="|").rstrip(b"|"), message({17: "E2"}, delimiter="|")[:-1])
    assert [row.id for row in read(path)] == ["E1", "E2"]


def test_a_data_field_may_hold_delimiters_line_ends_and_messages(tmp_path: Path) -> None:
    secret = b"a\x0132=999\x01\n8=FIX.4.2\x01"
    body = b"35=8\x0117=E1\x0195=%d\x0196=%b\x01150=F\x0155=X\x0154=1\x0131=1\x0132=2\x0152=20240102-14:30:00\x01" % (
        len(secret),
        secret,
    )
    rows = read(write(tmp_path / "a.log", framed(body), message()))
    assert [(row.id, row.volume, row.line) for row in rows] == [("E1", 2, 1), ("E1", 100, 3)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda m: m.replace(b"32=100", b"32=109"), "CheckSum"),
        (lambda m: m.replace(b"32=100", b"32=1000"), "BodyLength (9): found"),
        (lambda m: m[:-20], "breaks off"),
        (lambda m: m[: len(m) // 2], "breaks off"),
        (lambda m: m.replace(b"\x0134=7\x01", b"\x01x=77\x01"), "CheckSum"),
    ],
)
def test_a_broken_message_is_a_dead_letter_and_costs_no_other(tmp_path: Path, damage: Any, said: str) -> None:
    broken = damage(message({17: "E2"}))
    rows = read(write(tmp_path / "a.log", message(), broken, message({17: "E3"})))
    assert [(row.reason, row.line) for row in rows] == [("", 1), ("undecodable", 2), ("", 3)]
    assert said in rows[1].ref
    assert rows[1].raw == broken


def test_lenient_takes_wrong_checksums_and_lengths_but_nothing_that_breaks_off(tmp_path: Path) -> None:
    good = message()
    path = write(
        tmp_path / "a.log", good.replace(b"32=100", b"32=109"), good.replace(b"32=100", b"32=1000"), good[:-20],
        good.replace(b"\x0134=7\x01", b"\x01junk\x01"),
    )  # fmt: skip
    rows = read(path, lenient=True)
    assert [(row.reason, row.volume) for row in rows] == [("", 109), ("", 1000), ("undecodable", 0), ("", 100)]


def test_a_broken_message_of_another_type_is_passed_over(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.log", message(), message({35: "D"}).replace(b"32=100", b"32=109"))) == read(
        write(tmp_path / "b.log", message()), source_name=str(tmp_path / "a.log")
    )


def test_a_resent_message_gives_the_same_trade_again_for_the_door_to_know(tmp_path: Path) -> None:
    first, again = read(
        write(tmp_path / "a.log", message(), message({43: "Y", 97: "Y", 34: "9", 122: "20240102-14:30:00"}))
    )
    assert first._replace(line=0, raw=b"") == again._replace(line=0, raw=b"")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({31: None}, "price: found nothing"),
        ({32: "0"}, "volume: found '0'"),
        ({54: "8"}, "side: found '8'"),
        ({17: None}, "trade_id: found nothing"),
        ({60: "2024-01-02"}, "executed_at: found '2024-01-02', expected a FIX time"),
        ({60: None, 52: None}, "executed_at: found nothing"),
        ({60: "20230229-00:00:00"}, "executed_at"),
        ({150: "H"}, "ref_trade_id: found nothing"),
        ({12: "1", 13: "2"}, "fee: found '2', expected 1 (per unit) or 3 (absolute)"),
    ],
)
def test_a_value_that_cannot_be_is_invalid(tmp_path: Path, changes: dict[int, str | None], said: str) -> None:
    (row,) = read(write(tmp_path / "a.log", message(changes)))
    assert (row.reason, said in row.ref) == ("invalid", True), row.ref


def test_times_finer_than_a_nanosecond_are_flagged(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.log",
        message({60: "20240102-14:30:00.1234567891"}),
        message({60: "20240102-14:30:00.1234567890000"}),
        message({60: "99990102-14:30:00"}),
    )
    assert [row.flags for row in read(path)] == [{"time_precision"}, frozenset(), {"time_overflow"}]


def test_a_map_says_other_tags_and_constants(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", message({48: "US123", 109: "desk"}))
    (row,) = read(path, map="symbol=48,strategy=109,account=109,venue==DARK,fee==0")
    assert (row.symbol, row.strategy, row.account, row.venue) == ("US123", "desk", "desk", "DARK")
    with pytest.raises(FeedError, match="fields of FIX are tags"):
        read(path, map="symbol=SecurityID")


def test_a_side_that_is_missing_is_given_by_rule(tmp_path: Path) -> None:
    path = write(tmp_path / "a.log", message({54: None}), message())
    assert [row.side for row in read(path, side="sell")] == ["sell", "buy"]
    assert read(path)[0].reason == "invalid"


def test_a_log_without_any_message_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_bytes(b"nothing\n108=FIX.4.4|\n8=FIX\n")
    with pytest.raises(FeedError, match="holds no FIX message"):
        read(path, format="fix")


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
def test_a_recorded_bust_after_a_cancel() -> None:
    rows = read(DATA / "fix-logs" / "rendered_D35_bust_after_cancel.fix")
    assert [(row.id, row.exec_type, row.ref, row.line) for row in rows] == [
        ("B", "new", "", 2), ("E", "bust", "B", 5), ("F", "new", "", 6),
    ]  # fmt: skip


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
def test_recorded_reports_with_placeholders_need_lenience() -> None:
    path = DATA / "fix-logs" / "100FIX42.dat"
    assert [row.reason for row in read(path)] == ["undecodable"] * 25
    rows = read(path, lenient=True)
    assert [as_fill(row) for row in rows] == fills(path.read_bytes(), lenient=True)
    assert len(rows) == 24  # one of the 25 reports says LastShares 0


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
def test_recorded_acknowledgements_are_no_fills() -> None:
    path = DATA / "fix-logs" / "execution_report.txt"
    assert [(row.id, row.reason) for row in read(path)] == [("2", ""), ("4", ""), ("", "undecodable")]
    assert [as_fill(row) for row in read(path, lenient=True)] == fills(path.read_bytes(), lenient=True)
