"""Canonical CSV: what becomes a trade, what is refused and why, and where it says it came from."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from feed_rows import Row, read_rows

from ext.records import Frame
from feeds import FeedError, open_feed

HEADER = "trade_id,symbol,price,volume,side,executed_at"
FULL = HEADER + ",account,venue,strategy,fee,exec_type,ref_trade_id"
GOOD = "T1,BTC,100,1,buy,1700000000"


def rows_of(tmp_path: Path, text: str | bytes, **options: object) -> list[Row]:
    path = tmp_path / "trades.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_rows(str(path), **options)


def one(tmp_path: Path, line: str, header: str = HEADER, **options: object) -> Row:
    rows = rows_of(tmp_path, f"{header}\n{line}\n", **options)
    assert len(rows) == 1
    return rows[0]


def test_a_row_becomes_a_trade_with_defaults(tmp_path: Path) -> None:
    row = one(tmp_path, "T1,BTC,100.50,2,buy,1700000000")
    assert row.type == "TradeExecuted"
    assert row[1:13] == (
        "T1", "BTC", Decimal("100.5"), Decimal(2), "buy", 1_700_000_000 * 10**9, "default", "", "",
        Decimal(0), "new", "",
    )  # fmt: skip
    assert (row.line, row.raw) == (2, b"T1,BTC,100.50,2,buy,1700000000")
    assert row.source.endswith("trades.csv")


def test_all_columns_in_any_order_with_others_between(tmp_path: Path) -> None:
    header = "note,ref_trade_id,exec_type,fee,strategy,x,venue,account,executed_at,side,volume,price,symbol,trade_id"
    row = one(tmp_path, 'hi,T0,correct,-0.25,s1,,XNAS,A,2024-01-02T03:04:05.5Z,S,3,-1.5,"B,TC",T9', header)
    assert row[1:13] == (
        "T9", "B,TC", Decimal("-1.5"), Decimal(3), "sell", 1_704_164_645_500_000_000, "A", "XNAS", "s1",
        Decimal("-0.25"), "correct", "T0",
    )  # fmt: skip


def test_empty_optional_cells_mean_their_defaults(tmp_path: Path) -> None:
    row = one(tmp_path, GOOD + ",,,,,,", FULL)
    assert (row.account, row.venue, row.strategy, row.fee, row.exec_type, row.ref) == (
        "default", "", "", 0, "new", "",
    )  # fmt: skip


@pytest.mark.parametrize("word", ["buy", "BUY", "B", "1"])
def test_words_for_buy(tmp_path: Path, word: str) -> None:
    assert one(tmp_path, f"T1,BTC,1,1,{word},1").side == "buy"


@pytest.mark.parametrize("word", ["sell", "SELL", "S", "2"])
def test_words_for_sell(tmp_path: Path, word: str) -> None:
    assert one(tmp_path, f"T1,BTC,1,1,{word},1").side == "sell"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"), ("+1", "1"), ("-0", "0"), ("0.000", "0"), ("1.10", "1.1"), ("100", "100"), ("1e3", "1000"),
        ("1E-3", "0.001"), ("12345678901234567.8", "12345678901234567.8"), ("00012.50", "12.5"),
        ("-0.000000001", "-0.000000001"), ("9223372036854775807", "9223372036854775807"),
        ("1.2300000000000000000000000", "1.23"), ("-12.5e+1", "-125"),
    ],
)  # fmt: skip
def test_prices_are_exact(tmp_path: Path, text: str, value: str) -> None:
    row = one(tmp_path, f"T1,BTC,{text},1,buy,1")
    assert (row.type, row.price, row.flags) == ("TradeExecuted", Decimal(value), frozenset())


def test_numbers_beyond_a_record_are_flagged_for_the_door(tmp_path: Path) -> None:
    assert one(tmp_path, "T1,BTC,9223372036854775808,1,buy,1").flags == {"price_wide"}
    assert one(tmp_path, "T1,BTC,1,12345678901234567890.5,buy,1").flags == {"volume_wide"}
    assert one(tmp_path, GOOD + ",,,,0.0000000001,,", FULL).flags == {"fee_precision"}
    assert one(tmp_path, GOOD + ",,,,1e10,,", FULL).flags == {"fee_overflow"}
    assert one(tmp_path, "T1,BTC,1,1,buy,2024-01-02T03:04:05.1234567891Z").flags == {"time_precision"}
    assert one(tmp_path, "T1,BTC,1,1,buy,9223372036854775808").flags == {"time_overflow"}
    assert one(tmp_path, "T1,BTC,1,1,buy,99999999999").flags == {"time_overflow"}
    assert one(tmp_path, "T1,BTC,1e400,1,buy,1").price == Decimal("1e127")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0", 0),
        ("99999999", 99999999 * 10**9),
        ("1700000000", 1700000000 * 10**9),
        ("9223372036", 9223372036 * 10**9),
        ("1700000000123", 1700000000123 * 10**6),
        ("1700000000123456", 1700000000123456 * 10**3),
        ("1700000000123456789", 1700000000123456789),
        ("9223372036854775807", 2**63 - 1),
        ("2024-02-29T12:00:00+01:00", 1709204400 * 10**9),
        ("2024-02-29", 1709164800 * 10**9),
    ],
)
def test_times_by_their_size_or_in_iso_8601(tmp_path: Path, text: str, ns: int) -> None:
    assert one(tmp_path, f"T1,BTC,1,1,buy,{text}").executed_at == ns


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (",BTC,1,1,buy,1", "trade_id"),
        (f"{'x' * 65},BTC,1,1,buy,1", "trade_id"),
        ("T1,,1,1,buy,1", "symbol"),
        (f"T1,{'x' * 300},1,1,buy,1", "symbol"),
        (f"T1,{'ä' * 33},1,1,buy,1", "symbol"),
        ("T1,BTC,,1,buy,1", "price"),
        ("T1,BTC,NaN,1,buy,1", "price"),
        ("T1,BTC,1_0,1,buy,1", "price"),
        ("T1,BTC,Infinity,1,buy,1", "price"),
        ("T1,BTC,0x10,1,buy,1", "price"),
        ("T1,BTC,1.2.3,1,buy,1", "price"),
        ("T1,BTC,--1,1,buy,1", "price"),
        ("T1,BTC,-,1,buy,1", "price"),
        ("T1,BTC,.,1,buy,1", "price"),
        ("T1,BTC, 1,1,buy,1", "price"),
        ("T1,BTC,1e,1,buy,1", "price"),
        ("T1,BTC,١,1,buy,1", "price"),
        ("T1,BTC,1,,buy,1", "volume"),
        ("T1,BTC,1,0,buy,1", "volume"),
        ("T1,BTC,1,-1,buy,1", "volume"),
        ("T1,BTC,1,-1e400,buy,1", "volume"),
        ("T1,BTC,1,0e5,buy,1", "volume"),
        ("T1,BTC,1,1,,1", "side"),
        ("T1,BTC,1,1,Buy,1", "side"),
        ("T1,BTC,1,1,3,1", "side"),
        ("T1,BTC,1,1,buybuybuybuy,1", "side"),
        ("T1,BTC,1,1,buy,", "executed_at"),
        ("T1,BTC,1,1,buy,1.5", "executed_at"),
        ("T1,BTC,1,1,buy,2024-13-01", "executed_at"),
        ("T1,BTC,1,1,buy,yesterday", "executed_at"),
    ],
)
def test_bad_values_are_invalid_and_say_what_was_expected(tmp_path: Path, line: str, field: str) -> None:
    row = one(tmp_path, line)
    assert row.reason == "invalid"
    assert row.ref.startswith(field + ": found ")
    assert ", expected " in row.ref
    assert (row.line, row.raw) == (2, line.encode())


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ("x" * 65 + ",,,,,", "account"),
        ("," + "x" * 65 + ",,,,", "venue"),
        (",," + "x" * 65 + ",,,", "strategy"),
        (",,,free,,", "fee"),
        (",,,,cancel,", "exec_type"),
        (",,,,correct,", "ref_trade_id"),
        (",,,,bust,", "ref_trade_id"),
        (",,,,new," + "x" * 65, "ref_trade_id"),
    ],
)
def test_bad_optional_values_are_invalid(tmp_path: Path, cells: str, field: str) -> None:
    row = one(tmp_path, f"{GOOD},{cells}", FULL)
    assert (row.reason, row.ref.split(":")[0]) == ("invalid", field)


def test_the_widest_texts_are_taken(tmp_path: Path) -> None:
    row = one(tmp_path, f"{'t' * 64},{'ü' * 32},1,1,buy,1,{'a' * 64},,,,bust,{'r' * 64}", FULL)
    assert (row.id, row.symbol, row.account, row.ref) == ("t" * 64, "ü" * 32, "a" * 64, "r" * 64)


def test_wrong_field_counts_are_undecodable(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, f"{HEADER}\nT1,BTC,1,1,buy\n{GOOD}\n{GOOD},\n   \n")
    assert [row.reason for row in rows] == ["undecodable", "", "undecodable", "undecodable"]
    assert rows[0].ref == "found 5 fields, expected 6"
    assert rows[2].ref == "found 7 fields, expected 6"


def test_bytes_that_are_no_utf8_are_undecodable_wherever_they_are(tmp_path: Path) -> None:
    bad = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"]
    lines = [b"T1,BTC,1,1,buy,1," + text for text in bad]
    rows = rows_of(tmp_path, HEADER.encode() + b",note\n" + b"\n".join(lines) + b"\nT2,\xe2\x82\xac,1,1,buy,1,\n")
    assert [row.reason for row in rows] == ["undecodable"] * len(bad) + [""]
    assert [row.raw for row in rows[:-1]] == lines
    assert rows[-1].symbol == "€"


def test_quoted_fields_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    text = f'"trade_id",symbol,price,volume,side,executed_at\r\n"T""1","B,T\r\nC","1","2","buy","3"\r\n{GOOD}\r\n'
    rows = rows_of(tmp_path, text)
    assert (rows[0].id, rows[0].symbol, rows[0].line) == ('T"1', "B,T\r\nC", 2)
    assert rows[0].raw == b'"T""1","B,T\r\nC","1","2","buy","3"'
    assert (rows[1].id, rows[1].line) == ("T1", 4)


@pytest.mark.parametrize(
    "line", ['T1,"BTC,1,1,buy,1', 'T1,"BTC"x,1,1,buy,1', 'T1,B"TC,1,1,buy,1', '"', 'T1,BTC,1,1,buy,1"', '"a"""b,1']
)
def test_broken_quoting_costs_one_physical_line(tmp_path: Path, line: str) -> None:
    rows = rows_of(tmp_path, f"{HEADER}\n{line}\n{GOOD}\n{GOOD}")
    assert [row.reason for row in rows] == ["undecodable", "", ""]
    assert [row.line for row in rows] == [2, 3, 4]
    assert rows[0].raw == line.encode()
    assert "broken quoting" in rows[0].ref


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "end"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_a_byte_order_mark_and_a_missing_last_line_end(
    tmp_path: Path, end: str, last: str, mark: str
) -> None:
    text = mark + HEADER + end + GOOD + end + GOOD + (end if last else "")
    rows = rows_of(tmp_path, text)
    assert [(row.id, row.line, row.raw) for row in rows] == [("T1", 2, GOOD.encode()), ("T1", 3, GOOD.encode())]


def test_blank_lines_are_no_records_but_lines(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, f"{HEADER}\n\n{GOOD}\n\r\n\n{GOOD}\n\n\n")
    assert [row.line for row in rows] == [3, 6]


def test_a_header_alone_is_a_feed_of_nothing(tmp_path: Path) -> None:
    assert rows_of(tmp_path, HEADER) == []
    assert rows_of(tmp_path, HEADER + "\r\n\n") == []


def test_control_characters_inside_texts_are_texts(tmp_path: Path) -> None:
    row = one(tmp_path, "T\x001,B\tTC\x7f,1,1,buy,1")
    assert (row.id, row.symbol) == ("T\x001", "B\tTC\x7f")


def test_errors_show_what_was_found_on_one_line_and_cut(tmp_path: Path) -> None:
    text = f'{HEADER}\nT1,BTC,"1\n\x1b[31m€",1,buy,1\nT1,BTC,{"9€" * 900},1,buy,1\n'
    rows = rows_of(tmp_path, text)
    assert "found '1\\x0a\\x1b[31m€', expected" in rows[0].ref
    assert len(rows[1].ref.encode()) <= 255
    assert "3600 bytes" in rows[1].ref


def test_a_row_of_ten_megabytes_is_kept_whole(tmp_path: Path) -> None:
    long = "T1,BTC," + "9" * 10_000_000 + "x,1,buy,1"
    rows = rows_of(tmp_path, f"{HEADER}\n{GOOD}\n{long}\n{GOOD}\n")
    assert [row.reason for row in rows] == ["", "invalid", ""]
    assert rows[1].raw == long.encode()


def test_a_row_above_the_limit_is_refused_with_its_beginning(tmp_path: Path) -> None:
    long = b"T1,BTC," + b"9" * 17_000_000
    rows = rows_of(tmp_path, HEADER.encode() + b"\n" + long + b"\n" + GOOD.encode() + b"\n")
    assert [(row.reason, row.line) for row in rows] == [("undecodable", 2), ("", 3)]
    assert rows[0].raw == long[:65536]
    assert "16777216" in rows[0].ref


def test_an_open_quote_in_a_big_file_costs_one_line(tmp_path: Path) -> None:
    good = b"".join(b"T%d,BTC,1,1,buy,1700000000\n" % i for i in range(700_000))
    path = tmp_path / "trades.csv"
    path.write_bytes(HEADER.encode() + b'\nT0,"BTC,1,1,buy,1\n' + good)
    types = []
    with open_feed(path) as feed:
        while (buffer := feed.next_frame(8192)) is not None:
            last = Frame(buffer)
            types.append(last.records["type"].copy())
    found = np.concatenate(types)
    assert len(found) == 700_001
    assert (found[0], set(found[1:])) == (15, {1})
    assert last.origin(len(last) - 1) == (700_002, b"T699999,BTC,1,1,buy,1700000000")


def test_rows_cut_by_the_window_are_whole(tmp_path: Path) -> None:
    lines = [f'T{i},S{i % 7},{i}.5,{i + 1},buy,{1700000000 + i},"a""{"x" * (i % 50)}"' for i in range(40_000)]
    rows = rows_of(tmp_path, HEADER + ",account\n" + "\n".join(lines))
    assert [row.raw.decode() for row in rows] == lines
    assert [row.account for row in rows] == [f'a"{"x" * (i % 50)}' for i in range(40_000)]
    assert [row.line for row in rows] == list(range(2, 40_002))


@pytest.mark.parametrize("size", [1, 2, 7, 8192])
def test_frame_sizes_do_not_change_the_rows(tmp_path: Path, size: int) -> None:
    text = HEADER + "\n" + "".join(f"T{i},S{i % 50},{i},1,buy,1\n" for i in range(300))
    assert rows_of(tmp_path, text, max_records=size) == rows_of(tmp_path, text)


def test_ids_are_made_from_the_first_record_and_count_bad_ones(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "symbol,price,volume,side,executed_at\n\nBTC,x,1,buy,1\r\nBTC,1,1,buy,1\r\nBTC,1,1,buy,1")
    prefix = hashlib.sha256(b"BTC,x,1,buy,1").hexdigest()[:16]
    assert [row.reason for row in rows] == ["invalid", "", ""]
    assert [row.id for row in rows[1:]] == [f"{prefix}#2", f"{prefix}#3"]


def test_the_side_can_be_said_for_all_rows(tmp_path: Path) -> None:
    assert one(tmp_path, "T1,BTC,1,1,1", "trade_id,symbol,price,volume,executed_at", side="sell").side == "sell"


def test_the_tick_rule_is_per_symbol_over_good_rows(tmp_path: Path) -> None:
    lines = ["A,10", "A,10.0", "A,9.9", "A,9.90", "B,1", "A,9.91", "A,x", "B,-1", "B,-0.5", "B,0", "B,1e2", "B,100"]
    text = "symbol,price,volume,executed_at\n" + "".join(f"{line},1,1\n" for line in lines)
    rows = rows_of(tmp_path, text, side="tick")
    sides = [row.side or row.reason for row in rows]
    assert sides == [
        "buy", "buy", "sell", "sell", "buy", "buy", "invalid", "sell", "buy", "buy", "buy", "buy",
    ]  # fmt: skip


def test_the_account_fills_what_rows_leave_out(tmp_path: Path) -> None:
    assert one(tmp_path, GOOD, account="desk").account == "desk"
    rows = rows_of(tmp_path, f"{HEADER},account\n{GOOD},\n{GOOD},own\n", account="desk")
    assert [row.account for row in rows] == ["desk", "own"]


def test_columns_can_be_mapped_by_name_and_set_to_constants(tmp_path: Path) -> None:
    text = "id,px,qty,way,ts,price\n7,1.5,2,B,1,999\n"
    mapped = "trade_id=id,price=px,volume=qty,side=way,executed_at=ts,symbol==BCH,EUR"
    with pytest.raises(FeedError, match="EUR"):
        rows_of(tmp_path, text, map=mapped)
    row = rows_of(tmp_path, text, map=mapped.replace(",EUR", "EUR"))[0]
    assert (row.id, row.symbol, row.price, row.volume, row.side) == ("7", "BCHEUR", Decimal("1.5"), 2, "buy")


def test_one_column_can_be_two_fields(tmp_path: Path) -> None:
    row = one(tmp_path, GOOD + ",X", HEADER + ",ex", map="venue=ex,strategy=ex,account=ex")
    assert (row.account, row.venue, row.strategy) == ("X", "X", "X")


def test_columns_of_a_file_without_a_header_are_numbers(tmp_path: Path) -> None:
    rows = rows_of(
        tmp_path,
        "1672531436,90.540000,1.10448420\n1672531471,90.45,1.0\nbad\n",
        map="executed_at=1,price=2,volume=3,symbol==BCHEUR",
        side="buy",
    )
    prefix = hashlib.sha256(b"1672531436,90.540000,1.10448420").hexdigest()[:16]
    assert [(row.id, row.symbol, row.line) for row in rows[:2]] == [
        (f"{prefix}#1", "BCHEUR", 1),
        (f"{prefix}#2", "BCHEUR", 2),
    ]
    assert rows[0].volume == Decimal("1.1044842")
    assert (rows[2].reason, rows[2].line) == ("undecodable", 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x00\x01\x02\x03\nabc", "binary"),
        (b"\xff\xfe\xfa\n", "UTF-8"),
        (b"\x7fELF\x02\x01\x01\x00\x00", "binary"),
        (b"trade_id,symbol,volume,side,executed_at\n", "no column price"),
        (b"trade_id,symbol,price,side,executed_at\n", "no column volume"),
        (b"trade_id,price,volume,side,executed_at\n", "no column symbol"),
        (b"trade_id,symbol,price,volume,side\n", "no column executed_at"),
        (b"trade_id,symbol,price,volume,executed_at\n", "--side"),
        (b"trade_id,symbol,price,price,volume,side,executed_at\n", "2 times"),
        (b'trade_id,"symbol\n', "header"),
        (b"PAR1xxxxxxxx", "Parquet magic bytes not found"),
        (b"x" * 20_000_000, "header"),
    ],
)
def test_files_that_are_no_feed_are_one_clear_line(tmp_path: Path, text: bytes, said: str) -> None:
    with pytest.raises(FeedError, match=said) as caught:
        rows_of(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "trades.csv" in str(caught.value)


def test_a_column_that_is_there_twice_but_not_used_is_ignored(tmp_path: Path) -> None:
    assert one(tmp_path, GOOD + ",,", HEADER + ",x,x").type == "TradeExecuted"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"map": "prize=px"}, "unknown field 'prize'"),
        ({"map": "price=px"}, "no column 'px'"),
        ({"map": "price"}, "FIELD=COLUMN"),
        ({"map": "price="}, "no column"),
        ({"map": "price=px,price=py"}, "twice"),
        ({"map": "price=2,volume=qty"}, "mixed"),
        ({"map": "price=0"}, "number from 1"),
        ({"map": "symbol=1,price=2,volume=3,executed_at=9", "side": "buy"}, "no column 9"),
        ({"map": "symbol=1,price=2,volume=3", "side": "buy"}, "no column executed_at"),
        ({"side": "long"}, "buy, sell or tick"),
        ({"account": ""}, "1 to 64 bytes"),
        ({"account": "x" * 65}, "1 to 64 bytes"),
        ({"format": "xml"}, "unknown format"),
    ],
)
def test_options_that_cannot_be_used_are_one_clear_line(tmp_path: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(FeedError, match=said):
        rows_of(tmp_path, f"{HEADER}\n{GOOD}\n", **options)
