"""What a reader of feeds may choose: spans of time, symbols, accounts, counts, marks, accounts made up, own presets."""

from __future__ import annotations

import json
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from feed_rows import Names, Row, decode_frame, read_rows

from feeds import FeedError, open_feed

DATA = Path(os.environ.get("RISKWIRE_DATA") or Path(__file__).parents[3] / "shared" / "data")
T0 = 1_700_000_000_000_000_000
HEADER = "trade_id,symbol,price,volume,side,executed_at,account"


def write_csv(path: Path, lines: list[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def trades(path: Path, count: int = 100) -> Path:
    return write_csv(path, [f"T{i},SYM{i % 5},{100 + i},1,buy,{T0 + i},acct-{i % 3}" for i in range(count)])


def chosen(path: Path, frame_records: int = 512, **options: Any) -> list[Row]:
    names, rows = Names(), []
    with open_feed(path, **options) as feed:
        while (frame := feed.next_frame(frame_records)) is not None:
            rows += decode_frame(frame, names)
    return rows


@pytest.mark.parametrize("max_records", [1, 7, 512])
def test_a_span_of_time_keeps_its_start_and_not_its_end(tmp_path: Path, max_records: int) -> None:
    path = trades(tmp_path / "a.csv")
    rows = chosen(path, max_records, time_from=T0 + 10, time_to=T0 + 20)
    assert [row.id for row in rows] == [f"T{i}" for i in range(10, 20)]
    assert [(row.line, row.raw) for row in rows] == [
        (i + 2, f"T{i},SYM{i % 5},{100 + i},1,buy,{T0 + i},acct-{i % 3}".encode()) for i in range(10, 20)
    ]


def test_globs_of_symbols_and_accounts(tmp_path: Path) -> None:
    path = trades(tmp_path / "a.csv")
    rows = chosen(path, only_symbols=["SYM[12]", "NONE"], only_accounts=["*-0"])
    assert {(row.symbol, row.account) for row in rows} == {("SYM1", "acct-0"), ("SYM2", "acct-0")}
    assert [row.id for row in rows] == [f"T{i}" for i in range(100) if i % 5 in (1, 2) and i % 3 == 0]
    assert chosen(path, only_symbols=["NONE"]) == []


def test_a_filter_over_more_than_a_window_keeps_lines_and_bytes(tmp_path: Path) -> None:
    count = 40_000
    path = trades(tmp_path / "a.csv", count)
    rows = chosen(path, time_from=T0 + count - 3)
    assert [(row.id, row.line, row.raw.split(b",")[0]) for row in rows] == [
        (f"T{i}", i + 2, f"T{i}".encode()) for i in range(count - 3, count)
    ]
    every = chosen(path, only_symbols=["SYM3"])
    assert [row.raw.split(b",")[0].decode() for row in every] == [f"T{i}" for i in range(3, count, 5)]


def test_bad_rows_are_reported_whatever_is_chosen(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [f"T1,A,x,1,buy,{T0},a", f"T2,A,1,1,buy,{T0},a"])
    assert [row.reason for row in chosen(path, only_symbols=["B"])] == ["invalid"]


def test_json_events_are_chosen_by_time_symbol_and_account(tmp_path: Path) -> None:
    events = [
        {"type": "MarkPrice", "symbol": "A", "price": "1", "at": T0},
        {"type": "MarkPrice", "symbol": "B", "price": "1", "at": T0},
        {"type": "SessionStarted", "name": "day", "at": T0},
        {"type": "KillSwitch", "account": "*", "engaged": True, "at": T0},
        {"type": "KillSwitch", "account": "x", "engaged": True, "at": T0},
        {"trade_id": "1", "symbol": "A", "price": "1", "volume": "1", "side": "buy", "executed_at": T0, "account": "y"},
        {"trade_id": "2", "symbol": "A", "price": "1", "volume": "1", "side": "buy", "executed_at": T0 + 5},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(event) for event in events))
    rows = chosen(path, only_symbols=["A"], only_accounts=["y"], time_to=T0 + 5)
    assert [row.type for row in rows] == ["MarkPrice", "SessionStarted", "KillSwitch", "TradeExecuted"]
    assert [row.line for row in rows] == [1, 3, 4, 6]


@pytest.mark.parametrize("count", [1, 10, 99, 100, 500])
def test_a_number_of_records_and_no_more(tmp_path: Path, count: int) -> None:
    path = trades(tmp_path / "a.csv")
    assert len(chosen(path, 7, max_records=count)) == min(count, 100)
    assert len(chosen(path, 512, max_records=count, only_symbols=["SYM1"])) == min(count, 20)


def spread(path: Path, **options: Any) -> dict[str, str]:
    return {row.id: row.account for row in read_rows(path, **options)}


def test_accounts_are_made_up_by_a_hash_and_a_seed(tmp_path: Path) -> None:
    lines = [f"T{i},SYM{i % 5},100,1,buy,{T0 + i}" for i in range(2000)]
    path = write_csv(tmp_path / "a.csv", lines, HEADER.removesuffix(",account"))
    first = spread(path, accounts=20, seed=7)
    counts = Counter(first.values())
    assert set(counts) == {f"account-{i:02d}" for i in range(1, 21)}
    assert min(counts.values()) > 60
    assert spread(path, accounts=20, seed=7) == first
    assert spread(path, accounts=20, seed=8) != first
    # The stated hash: FNV-1a of symbol, NUL and id, finished as MurmurHash3 does.
    assert all(first[f"T{i}"] == f"account-{stated_hash(f'SYM{i % 5}', f'T{i}', 7) % 20 + 1:02d}" for i in range(50))


def stated_hash(symbol: str, trade_id: str, seed: int) -> int:
    mask = 2**64 - 1
    h = 0xCBF29CE484222325 ^ seed
    for byte in f"{symbol}\0{trade_id}".encode():
        h = (h ^ byte) * 0x100000001B3 & mask
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & mask
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & mask
    return h ^ h >> 33


def test_a_bust_goes_to_the_account_of_its_trade_and_a_named_account_stays(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv",
        [f"T{i},A,1,1,buy,{T0},,," for i in range(20)]
        + [f"B{i},A,1,1,buy,{T0},,bust,T{i}" for i in range(20)]
        + [f"X,A,1,1,buy,{T0},mine,,"],
        HEADER + ",exec_type,ref_trade_id",
    )
    accounts = spread(path, accounts=5)
    assert all(accounts[f"B{i}"] == accounts[f"T{i}"] for i in range(20))
    assert accounts["X"] == "mine"


def test_marks_come_from_a_second_feed_in_order_of_time(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [f"T1,A,1,1,buy,{T0 + 10},a", f"T2,A,1,1,buy,{T0 + 30},a"])
    public = write_csv(
        tmp_path / "m.csv", [f"A,{p},{T0 + t}" for p, t in ((5, 5), (6, 10), (7, 20))], "symbol,price,executed_at"
    )
    rows = chosen(path, marks=[public])
    assert [(row.type, row.price, row.executed_at - T0) for row in rows] == [
        ("MarkPrice", 5, 5),
        ("MarkPrice", 6, 10),
        ("TradeExecuted", 1, 10),
        ("MarkPrice", 7, 20),
        ("TradeExecuted", 1, 30),
    ]
    assert len({row.id for row in rows}) == 5
    assert {(row.volume, row.side, row.account) for row in rows if row.type == "MarkPrice"} == {(0, "", "")}


def test_what_corrects_or_busts_is_no_mark(tmp_path: Path) -> None:
    path = trades(tmp_path / "a.csv", 1)
    public = write_csv(
        tmp_path / "m.csv",
        [f"M1,A,1,1,buy,{T0 - 3},,", f"M2,A,2,1,buy,{T0 - 2},bust,M1", f"M3,A,3,1,buy,{T0 - 1},correct,M1"],
        "trade_id,symbol,price,volume,side,executed_at,exec_type,ref_trade_id",
    )
    assert [row.type for row in chosen(path, marks=public)] == ["MarkPrice", "TradeExecuted"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accounts": 5, "account": "x"}, "one of both"),
        ({"accounts": 2_000_000}, "accounts: expected"),
        ({"max_records": 0}, "max_records: expected"),
        ({"time_from": 5, "time_to": 5}, "nothing lies between"),
        ({"only_symbols": [""]}, "glob"),
        ({"marks": ["/nowhere/m.csv"]}, "m.csv"),
    ],
)
def test_options_that_cannot_be_are_one_clear_line(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(FeedError, match=said):
        open_feed(trades(tmp_path / "a.csv"), **options)


OWN = r"""
delimiter = ";"
price_shift = -2
time_unit = "ms"
timezone = "Europe/London"
file_name = '(?P<symbol>[a-z]+)_(?P<date>\d{8})'

[map]
trade_id = "Ref"
executed_at = "Time"
price = "Px"
volume = "Qty"
side = "Dir"
venue = "=XLON"

[sides]
buy = ["Bid", "B"]
sell = "Offer"

[keep]
State = ["OK", ""]
"""


def test_a_preset_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    path = tmp_path / "vod_20240701.csv"
    path.write_text("Ref;Time;Px;Qty;Dir;State\n1;28800000;12345;10;Bid;OK\n2;28800001;12346;5;Offer;VOID\n"
                    "3;28800002;12347;1;Offer;\n")  # fmt: skip
    rows = chosen(path, map=str(tmp_path / "own.toml"))
    assert [(r.id, r.symbol, r.price, r.volume, r.side, r.venue) for r in rows] == [
        ("1", "VOD", Decimal("123.45"), 10, "buy", "XLON"),
        ("3", "VOD", Decimal("123.47"), 1, "sell", "XLON"),
    ]
    assert rows[0].executed_at == 1719817200_000000000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "unknown key 'x'"),
        ("[map]\nprize = 'a'", "unknown field 'prize'"),
        ("[map]\nprice = 1.5", "map.price: expected a text"),
        ("[sides]\nlong = 'B'", "sides: expected buy and sell"),
        ("time_unit = 'h'", "time_unit: expected"),
        ("timezone = 'Europe/London'", "need a time_unit"),
        ("file_name = '('", "file_name:"),
        ("delimiter = 'ab'", "one ASCII character"),
        ("[round]\nprice = 99", "round.price"),
        ("[keep]\na = 1\nb = 2", "one column"),
        ("[keep]\na = ['123456789']", "at most 8 bytes"),
        ("price_shift = 99", "price_shift"),
        ("= 1", "no TOML"),
    ],
)
def test_a_preset_that_cannot_be_names_its_key(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(FeedError, match=said) as caught:
        open_feed(trades(tmp_path / "a.csv"), map=str(own))
    assert str(own) in str(caught.value)


def test_a_column_to_keep_by_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[keep]\nState = 'OK'\n")
    with pytest.raises(FeedError, match="no column 'State'"):
        open_feed(trades(tmp_path / "a.csv"), map=str(tmp_path / "own.toml"))


def test_cancelled_and_wrong_rows_of_taq_are_passed_over(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "taq.csv",
        [f"2018-01-02T10:01:21Z,T,XXX,@T,{i + 1},158.25,{corr}" for i, corr in enumerate([0, 7, 8, 1, 10, 11, 12, 0])],
        "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR",
    )  # fmt: skip
    rows = chosen(path, side="buy")
    assert [row.volume for row in rows] == [1, 4, 8]
    assert [row.id.partition("#")[2] for row in rows] == ["1", "4", "8"]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
def test_recorded_trades_are_valued_with_recorded_quotes() -> None:
    feeds = DATA / "hftbacktest-feeds"
    path = feeds / "cm_btcusd_perp_20240808.gz"
    rows = chosen(path, marks=[feeds / "usdm_btcusdt_20240808.gz"], max_records=3000)
    kinds = Counter((row.type, row.symbol) for row in rows)
    assert set(kinds) == {("MarkPrice", "BTCUSDT"), ("TradeExecuted", "BTCUSD_PERP")}
    trades_of_both = [row for row in rows if row.type == "TradeExecuted"]
    assert trades_of_both == read_rows(path)[: len(trades_of_both)]
    marks = [row for row in rows if row.type == "MarkPrice"]
    assert len({row.id for row in marks}) == len(marks)
    for row in marks:
        event = json.loads(row.raw.partition(b" ")[2])["data"]
        expected = (
            (Decimal(event["b"]) + Decimal(event["a"])) / 2 if event["e"] == "bookTicker" else Decimal(event["p"])
        )
        assert (row.price, row.executed_at) == (expected, event["T"] * 10**6)
