"""JSON Lines: every event, numbers from their text, and what is refused."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest
from feed_rows import Row, read_rows

TRADE = {
    "trade_id": "T1",
    "symbol": "BTC",
    "price": "100.5",
    "volume": "2",
    "side": "buy",
    "executed_at": 1700000000,
}


def rows_of(tmp_path: Path, *lines: str | bytes | dict[str, object], **options: object) -> list[Row]:
    path = tmp_path / "events.jsonl"
    texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts) + b"\n")
    return read_rows(str(path), **options)


def test_a_trade_needs_no_type(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, TRADE)
    assert row[:10] == (
        "TradeExecuted", "T1", "BTC", Decimal("100.5"), Decimal(2), "buy", 1_700_000_000 * 10**9, "default", "", "",
    )  # fmt: skip
    assert (row.line, row.raw) == (1, json.dumps(TRADE).encode())


def test_numbers_may_be_json_numbers_and_are_exact(tmp_path: Path) -> None:
    line = (
        '{"trade_id":7,"symbol":"B","price":0.1000000000000000055,"volume":1e-8,"side":"S","executed_at":"2024-01-02"}'
    )
    (row,) = rows_of(tmp_path, line)
    assert (row.id, row.price, row.volume) == ("7", Decimal("0.1000000000000000055"), Decimal("1e-8"))
    assert (row.side, row.executed_at) == ("sell", 1_704_153_600 * 10**9)


def test_every_event_type(tmp_path: Path) -> None:
    at = 1_700_000_000_000_000_000
    rows = rows_of(
        tmp_path,
        {"type": "MarkPrice", "event_id": "M", "symbol": "BTC", "price": "-1.5", "at": at},
        {
            "type": "PositionAdjusted", "event_id": "P", "account": "A", "symbol": "BTC", "quantity": "-3",
            "price": 2, "at": at, "note": "opening",
        },
        {"type": "SessionStarted", "event_id": "S", "name": "day", "at": at},
        {
            "type": "InstrumentDefined", "event_id": "I", "symbol": "ES*", "price_exponent": -2,
            "quantity_exponent": 0, "multiplier": "50", "currency": "USD",
        },
        {
            "type": "LimitsChanged", "event_id": "L", "at": at, "who": "me", "settings": {"base_currency": "USD"},
            "limit": [{"id": "x", "threshold": "1.0"}],
        },
        {"type": "KillSwitch", "event_id": "K", "account": "*", "engaged": True, "at": at, "who": "me"},
        {"type": "KillSwitch", "event_id": "R", "account": "A", "engaged": False, "at": at, "caused_by_seq": 9},
    )  # fmt: skip
    assert [row.type for row in rows] == [
        "MarkPrice", "PositionAdjusted", "SessionStarted", "InstrumentDefined", "LimitsChanged", "KillSwitch",
        "KillSwitch",
    ]  # fmt: skip
    mark, adjusted, session, instrument, limits, kill, release = rows
    assert (mark.id, mark.symbol, mark.price, mark.executed_at) == ("M", "BTC", Decimal("-1.5"), at)
    assert (adjusted.account, adjusted.volume, adjusted.price, adjusted.ref) == ("A", -3, 2, "opening")
    assert (session.id, session.ref, session.executed_at) == ("S", "day", at)
    assert (instrument.symbol, instrument.ref) == ("ES*", "USD")
    assert json.loads(limits.ref) == {
        "settings": {"base_currency": "USD"}, "limit": [{"id": "x", "threshold": "1.0"}], "who": "me",
    }  # fmt: skip
    assert (kill.account, kill.exec_type, kill.ref) == ("", "correct", "me")
    assert (release.account, release.exec_type, release.volume) == ("A", "new", 9)


def test_missing_ids_are_made_from_the_first_record(tmp_path: Path) -> None:
    bare = {key: value for key, value in TRADE.items() if key != "trade_id"}
    mark = {"type": "MarkPrice", "symbol": "BTC", "price": 1, "at": 1}
    rows = rows_of(tmp_path, bare, "", "junk", mark)
    prefix = hashlib.sha256(json.dumps(bare).encode()).hexdigest()[:16]
    assert [row.id for row in rows] == [f"{prefix}#1", "", f"{prefix}#3"]
    assert [row.line for row in rows] == [1, 3, 4]


def test_unknown_keys_and_nulls_are_as_good_as_absent(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, {**TRADE, "colour": {"a": [1]}, "venue": None, "fee": None, "account": ""})
    assert (row.type, row.venue, row.fee, row.account) == ("TradeExecuted", "", 0, "default")


def test_what_rows_lack_is_said_by_options(tmp_path: Path) -> None:
    bare = {key: value for key, value in TRADE.items() if key != "side"}
    rows = rows_of(tmp_path, bare, {**bare, "price": 99}, {**TRADE, "account": "own"}, side="tick", account="desk")
    assert [row.side for row in rows] == ["buy", "sell", "buy"]
    assert [row.account for row in rows] == ["desk", "desk", "own"]
    (row,) = rows_of(tmp_path, bare)
    assert (row.reason, row.ref.split(":")[0]) == ("invalid", "side")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "5", '"x"', "{}{}", "nul", b'{"symbol":"\xff"}', '{"symbol":"\\ud800"', "{'a':1}", "[" * 100_000],
)
def test_what_is_no_object_is_undecodable(tmp_path: Path, line: str | bytes) -> None:
    rows = rows_of(tmp_path, TRADE, line, TRADE)
    assert [row.reason for row in rows] == ["", "undecodable", ""]
    assert rows[1].raw == (line.encode() if isinstance(line, str) else line)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"type": "Trade"}, "type"),
        ({"type": 5}, "type"),
        ({"symbol": 5}, "symbol"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": "x" * 65}, "symbol"),
        ({"price": True}, "price"),
        ({"price": [1]}, "price"),
        ({"price": "NaN"}, "price"),
        ({"price": "1_0"}, "price"),
        ({"volume": -1}, "volume"),
        ({"volume": "0"}, "volume"),
        ({"side": "long"}, "side"),
        ({"executed_at": 1.5}, "executed_at"),
        ({"executed_at": None}, "executed_at"),
        ({"exec_type": "bust"}, "ref_trade_id"),
        ({"trade_id": ""}, "trade_id"),
        ({"type": "MarkPrice"}, "at"),
        ({"type": "MarkPrice", "at": "x"}, "at"),
        ({"type": "MarkPrice", "at": 1, "event_id": ""}, "event_id"),
        ({"type": "SessionStarted", "at": 1}, "name"),
        ({"type": "InstrumentDefined", "price_exponent": 1}, "price_exponent"),
        ({"type": "InstrumentDefined", "multiplier": "0"}, "multiplier"),
        ({"type": "LimitsChanged", "at": 1, "limit": {}}, "limit"),
        ({"type": "LimitsChanged", "at": 1, "settings": []}, "settings"),
        ({"type": "KillSwitch", "at": 1, "account": "A"}, "engaged"),
        ({"type": "KillSwitch", "at": 1, "engaged": True}, "account"),
        ({"type": "PositionAdjusted", "at": 1}, "quantity"),
    ],
)
def test_bad_values_are_invalid(tmp_path: Path, change: dict[str, object], field: str) -> None:
    (row,) = rows_of(tmp_path, {**TRADE, **change})
    assert (row.reason, row.ref.split(":")[0]) == ("invalid", field)
    assert "expected" in row.ref


def test_escapes_in_texts_are_read(tmp_path: Path) -> None:
    (row,) = rows_of(
        tmp_path, '{"trade_id":"a\\"\\u00e9","symbol":"\\ud83d\\ude00","price":1,"volume":1,"side":"B","executed_at":1}'
    )
    assert (row.id, row.symbol) == ('a"é', "😀")


def test_numbers_beyond_a_record_are_flagged_for_the_door(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        {**TRADE, "price": 10**30 + 1},
        {"type": "PositionAdjusted", "symbol": "B", "quantity": 10**30 + 1, "price": 10**30 + 1, "at": 10**30},
    )
    assert [row.flags for row in rows] == [{"price_wide"}, {"price_wide", "volume_wide", "time_overflow"}]


def test_a_line_above_the_limit_is_refused_with_its_beginning(tmp_path: Path) -> None:
    long = b'{"x":"' + b"y" * 17_000_000
    rows = rows_of(tmp_path, TRADE, long, TRADE)
    assert [(row.reason, row.line) for row in rows] == [("", 1), ("undecodable", 2), ("", 3)]
    assert rows[1].raw == long[:65536]


def test_carriage_returns_a_byte_order_mark_and_a_missing_last_line_end(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    text = json.dumps(TRADE)
    path.write_bytes(f"\ufeff{text}\r\n\r\n{text}".encode())
    rows = read_rows(path)
    assert [(row.line, row.raw) for row in rows] == [(1, text.encode()), (3, text.encode())]


@pytest.mark.parametrize("size", [1, 3, 8192])
def test_frame_sizes_do_not_change_the_rows(tmp_path: Path, size: int) -> None:
    lines = [{**TRADE, "trade_id": f"T{i}", "symbol": f"S{i % 9}"} for i in range(50)]
    assert rows_of(tmp_path, *lines, max_records=size) == rows_of(tmp_path, *lines)
