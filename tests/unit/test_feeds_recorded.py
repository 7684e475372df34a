"""Recorded files, where they are present: the counts their README states, and exact sums."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from feed_rows import read_rows

DATA = Path(os.environ.get("RISKWIRE_DATA") or Path(__file__).parents[3] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")


def test_tardis_binance_futures() -> None:
    path = DATA / "tardis-trades" / "binance-futures_BTCUSDT_trades_part1.csv"
    rows = read_rows(path)
    with path.open() as file:
        plain = list(csv.DictReader(file))
    assert len(rows) == 5000
    assert Counter(row.side for row in rows) == {"buy": 2698, "sell": 2302}
    assert [(row.id, row.price, row.volume, row.executed_at) for row in rows] == [
        (line["id"], Decimal(line["price"]), Decimal(line["amount"]), int(line["timestamp"]) * 1000) for line in plain
    ]
    assert {(row.symbol, row.venue) for row in rows} == {("BTCUSDT", "binance-futures")}


def test_tardis_by_a_map_is_the_same_as_by_its_preset() -> None:
    path = DATA / "tardis-trades" / "bitmex_XBTUSD_trades.csv"
    mapped = read_rows(path, format="csv", map="trade_id=id,executed_at=timestamp,volume=amount,venue=exchange")
    assert mapped == read_rows(path)
    assert [row.side for row in mapped] == ["sell"] * 10


def test_kraken_by_numbers() -> None:
    path = DATA / "kraken-csv" / "BCHEUR.csv"
    rows = read_rows(path, map="executed_at=1,price=2,volume=3,symbol==BCHEUR", side="tick")
    assert len(rows) == 148
    assert {row.type for row in rows} == {"TradeExecuted"}
    plain = [line.split(",") for line in path.read_text().splitlines()]
    assert sum(row.volume for row in rows) == sum(Decimal(line[2]) for line in plain)
    assert [row._replace(venue="") for row in read_rows(path, format="kraken", side="tick")] == rows


def test_taq() -> None:
    path = DATA / "taq-raw" / "XXX_20180102_trades.csv.gz"
    rows = read_rows(path, side="tick")
    assert len(rows) == 39462
    assert {row.type for row in rows} == {"TradeExecuted"}
    assert Counter(row.venue for row in rows)["D"] == 12614
    with gzip.open(path, "rt") as file:
        assert sum(row.volume for row in rows) == sum(int(line["SIZE"]) for line in csv.DictReader(file))
    assert len({row.id for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("file", "count", "first_ns"),
    [
        ("aig_20131007_trade.zip", 25351, 1381132800_688_000_000),
        ("ibm_20131008_trade.zip", 33381, None),
        ("bac_20131007_trade.zip", 88172, 1381132800_614_000_000),
    ],
)
def test_lean_equity_ticks(file: str, count: int, first_ns: int | None) -> None:
    rows = read_rows(DATA / "lean-equity-ticks" / file, format="lean-equity", side="tick")
    assert len(rows) == count
    assert {row.type for row in rows} == {"TradeExecuted"}
    assert {row.symbol for row in rows} == {file.split("_")[0].upper()}
    assert first_ns is None or min(row.executed_at for row in rows) == first_ns
    assert max(-int(row.price.as_tuple().exponent) for row in rows) <= 4


def test_lean_futures_are_one_file_a_contract_and_zero_quantities_are_refused() -> None:
    rows = read_rows(
        DATA / "lean-futures-ticks" / "gc_20131007_trade.zip", format="lean-future", side="tick", max_records=8192
    )
    assert len(rows) == 40192
    assert Counter(row.reason for row in rows) == {"": 40045, "invalid": 147}
    assert Counter(row.symbol for row in rows)["GC201312"] > 39_000


@pytest.mark.parametrize(
    ("file", "symbol", "buys", "sells"),
    [
        ("spot_btcusdt_20240808.gz", "BTCUSDT", 4103, 5654),
        ("spot_ethusdt_20240808.gz", "ETHUSDT", 3231, 2875),
        ("usdm_btcusdt_20240808.gz", "BTCUSDT", 9616, 11697),
        ("cm_btcusd_perp_20240808.gz", "BTCUSD_PERP", 981, 1305),
    ],
)
def test_recorded_binance_messages(file: str, symbol: str, buys: int, sells: int) -> None:
    rows = read_rows(DATA / "hftbacktest-feeds" / file)
    assert Counter(row.side for row in rows) == {"buy": buys, "sell": sells}
    assert {(row.type, row.symbol, row.venue) for row in rows} == {("TradeExecuted", symbol, "binance")}
    assert len({row.id for row in rows}) == len(rows)
    assert [row.executed_at for row in rows] == sorted(row.executed_at for row in rows)


def test_recorded_hyperliquid_prints_are_two_trades_each() -> None:
    rows = read_rows(DATA / "hftbacktest-feeds" / "hyperliquid_btc_20250126.gz")
    assert Counter(row.side for row in rows) == {"buy": 64, "sell": 64}
    assert len({row.account for row in rows}) == 31
    assert len({row.id for row in rows}) == 64
    one = read_rows(DATA / "hftbacktest-feeds" / "hyperliquid_btc_20250126.gz", max_records=1)
    assert one == rows
