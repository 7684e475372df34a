"""Databento DBN against databento-dbn, record by record; files that it writes."""

from __future__ import annotations

import os
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from feed_rows import Row, read_rows

from feeds import FeedError

dbn = pytest.importorskip("databento_dbn")

DATA = Path(os.environ.get("RISKWIRE_DATA") or Path(__file__).parents[3] / "shared" / "data")
FILES = sorted((DATA / "databento-dbn").rglob("*.dbn*")) if DATA.is_dir() else []
DAY_NS = 86_400 * 10**9
T0 = int(datetime(2024, 7, 1, tzinfo=UTC).timestamp()) * 10**9
UNDEFINED = 2**63 - 1


def unpacked(path: Path) -> bytes:
    if path.suffix != ".zst":
        return path.read_bytes()
    pyarrow = pytest.importorskip("pyarrow")
    with pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd") as stream:
        return bytes(stream.read())


def plain_trades(data: bytes) -> list[tuple[int, Decimal, int, str, int]]:
    """(instrument id, price, size, side, ts_event) of every trade, by databento-dbn's own decoder."""
    decoder = dbn.DBNDecoder(upgrade_policy=dbn.VersionUpgradePolicy.AS_IS)
    decoder.write(data)
    trades = []
    for record in decoder.decode():
        if getattr(record, "action", None) in ("T", dbn.Action.TRADE):
            trades.append(
                (record.instrument_id, Decimal(record.price).scaleb(-9), record.size, str(record.side), record.ts_event)
            )
    return trades


@pytest.mark.skipif(not FILES, reason=f"no recorded data in {DATA}")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_recorded_trades_are_those_of_databentos_decoder(path: Path) -> None:
    rows = read_rows(path, max_records=7)
    plain = plain_trades(unpacked(path))
    assert [(r.price, r.volume, r.side, r.executed_at) for r in rows] == [
        (price, size, {"B": "buy", "A": "sell"}[side], at) for _, price, size, side, at in plain
    ]
    assert {(r.symbol, r.venue) for r in rows} <= {("ESU4", "GLBX.MDP3"), ("ESM4", "GLBX.MDP3"), ("ESH1", "GLBX.MDP3")}
    assert len({r.id for r in rows}) == len(rows)
    data = unpacked(path)
    assert all(data[r.line : r.line + len(r.raw)] == r.raw for r in rows)


@pytest.mark.skipif(not FILES, reason=f"no recorded data in {DATA}")
def test_the_recorded_counts_and_one_schema_against_another() -> None:
    folder = DATA / "databento-dbn"
    trades = read_rows(folder / "glbx_ESU4_trades_20240701T2358_20240702T0002.dbn.zst")
    quotes = read_rows(folder / "glbx_ESU4_mbp1_20240701T2358_20240702T0002.dbn.zst")
    assert len(trades) == 120
    assert [r.side for r in trades].count("buy") == 66
    assert [r._replace(id="", raw=b"", line=0, source="") for r in trades] == [
        r._replace(id="", raw=b"", line=0, source="") for r in quotes
    ]
    assert len(read_rows(folder / "glbx_ESM4_mbo_20240508T000000_000002.dbn.zst")) == 5


@pytest.mark.skipif(not FILES, reason=f"no recorded data in {DATA}")
def test_recorded_quotes_are_marks_at_their_middle() -> None:
    folder = DATA / "databento-dbn"
    path = folder / "glbx_ESU4_mbp1_20240701T2358_20240702T0002.dbn.zst"
    rows = read_all(folder / "glbx_ESU4_trades_20240701T2358_20240702T0002.dbn.zst", marks=[path])
    marks = [row for row in rows if row.type == "MarkPrice"]
    decoder = dbn.DBNDecoder()
    decoder.write(unpacked(path))
    levels = [record.levels[0] for record in decoder.decode() if hasattr(record, "levels")]
    assert [row.price for row in marks] == [
        (Decimal(level.bid_px) + Decimal(level.ask_px)).scaleb(-9) / 2 for level in levels
    ]
    assert len(marks) == 2288
    assert len(rows) == 2288 + 120


def read_all(path: Path, **options: Any) -> list[Row]:
    from feed_rows import Names, decode_frame

    from feeds import open_feed

    names, rows = Names(), []
    with open_feed(path, **options) as feed:
        while (frame := feed.next_frame(512)) is not None:
            rows += decode_frame(frame, names)
    return rows


Mappings = dict[str, list[tuple[date, date, str]]]
FIRST, SECOND, THIRD = date(2024, 7, 1), date(2024, 7, 2), date(2024, 7, 3)
MAPPINGS: Mappings = {
    "ESU4": [(FIRST, THIRD, "7")],
    "NQU4": [(FIRST, SECOND, "8")],
    "CLU4": [(SECOND, THIRD, "8")],
}


class Interval:
    """What databento-dbn wants to be given."""

    def __init__(self, start_date: date, end_date: date, symbol: str) -> None:
        self.start_date, self.end_date, self.symbol = start_date, end_date, symbol


class Mapping:
    def __init__(self, raw_symbol: str, intervals: list[tuple[date, date, str]]) -> None:
        self.raw_symbol = raw_symbol
        self.intervals = [Interval(*interval) for interval in intervals]


def metadata(
    version: int = 3,
    schema: str | None = "trades",
    stype_in: str | None = "raw_symbol",
    stype_out: str = "instrument_id",
    mappings: Mappings = MAPPINGS,
    ts_out: bool = False,
) -> Any:
    return dbn.Metadata(
        dataset="GLBX.MDP3", start=T0, stype_in=dbn.SType(stype_in) if stype_in else None,
        stype_out=dbn.SType(stype_out), schema=dbn.Schema(schema) if schema else None, symbols=list(mappings),
        partial=[], not_found=[], mappings=[Mapping(*item) for item in mappings.items()], end=T0 + DAY_NS,
        version=version, ts_out=ts_out,
    )  # fmt: skip


def trade(**changes: Any) -> bytes:
    given = {
        "publisher_id": 1, "instrument_id": 7, "ts_event": T0 + 5, "price": 5_528_750_000_000, "size": 2, "action": "T",
        "side": "B", "depth": 0, "ts_recv": T0 + 9, "ts_in_delta": 4, "sequence": 1, **changes,
    }  # fmt: skip
    given["action"], given["side"] = dbn.Action(given["action"]), dbn.Side(given["side"])
    return bytes(dbn.TradeMsg(**given))


def write(path: Path, *records: bytes, version: int = 3, **changes: Any) -> Path:
    path.write_bytes(bytes(metadata(version, **changes)) + b"".join(records))
    return path


@pytest.mark.parametrize("version", [1, 2, 3])
def test_symbols_change_with_the_day_and_an_unknown_one_is_a_dead_letter(tmp_path: Path, version: int) -> None:
    path = write(
        tmp_path / "a.dbn",
        trade(instrument_id=8),
        trade(instrument_id=8, ts_event=T0 + DAY_NS - 1, ts_recv=T0 + DAY_NS),
        trade(instrument_id=8, ts_event=T0 + 2 * DAY_NS, ts_recv=T0 + 2 * DAY_NS), trade(instrument_id=9), trade(),
        version=version,
    )  # fmt: skip
    rows = read_rows(path)
    assert [(row.symbol, row.reason) for row in rows] == [
        ("NQU4", ""), ("CLU4", ""), ("", "invalid"), ("", "invalid"), ("ESU4", ""),
    ]  # fmt: skip
    assert rows[3].ref == "symbol: found 'instrument 9', expected an instrument that the metadata maps at that time"[
        :255
    ] or ("instrument 9" in rows[3].ref)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_symbols_asked_for_by_id(tmp_path: Path, version: int) -> None:
    path = write(
        tmp_path / "a.dbn", trade(), version=version, stype_in="instrument_id", stype_out="raw_symbol",
        mappings={"7": [(FIRST, SECOND, "ESU4")]},
    )  # fmt: skip
    assert [row.symbol for row in read_rows(path)] == ["ESU4"]


def test_mappings_in_the_stream_hold_from_there_on(tmp_path: Path) -> None:
    def maps(symbol: str) -> bytes:
        parent, id = dbn.SType("parent"), dbn.SType("instrument_id")
        return bytes(dbn.SymbolMappingMsg(1, 9, T0, parent, "ES.FUT", id, symbol, 0, 2**64 - 1))

    path = write(
        tmp_path / "a.dbn", trade(instrument_id=9), maps("ESZ4"), trade(instrument_id=9), maps("ESH5"),
        trade(instrument_id=9), schema=None, stype_in=None, mappings={},
    )  # fmt: skip
    assert [row.symbol for row in read_rows(path)] == ["", "ESZ4", "ESH5"]


def test_a_print_without_a_side_follows_the_rule_and_others_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", trade(side="N"), trade(side="A"), trade(side="N", price=5_528_000_000_000))
    assert [row.side or row.reason for row in read_rows(path)] == ["invalid", "sell", "invalid"]
    assert [row.side for row in read_rows(path, side="buy")] == ["buy", "sell", "buy"]
    assert [row.side for row in read_rows(path, side="tick")] == ["buy", "sell", "sell"]


def test_prices_sizes_and_times_at_their_edges(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.dbn", trade(price=-1), trade(price=0), trade(price=-(2**63) + 1), trade(price=UNDEFINED),
        trade(size=0), trade(size=2**32 - 1), trade(ts_event=2**64 - 1), trade(ts_event=2**63),
    )  # fmt: skip
    rows = read_rows(path)
    assert [row.price for row in rows[:3]] == [Decimal("-1e-9"), 0, Decimal(-(2**63) + 1).scaleb(-9)]
    assert [row.reason for row in rows[3:5]] == ["invalid", "invalid"]
    assert rows[5].volume == 2**32 - 1
    assert rows[6].executed_at == T0 + 9
    assert rows[7].flags == {"time_overflow"}


def test_records_with_the_time_they_were_sent_are_longer(tmp_path: Path) -> None:
    def longer(record: bytes) -> bytes:
        return bytes([record[0] + 2]) + record[1:] + (T0 + 99).to_bytes(8, "little")

    path = write(tmp_path / "a.dbn", longer(trade()[:48]), longer(trade(size=3)[:48]), ts_out=True)
    assert [row.volume for row in read_rows(path)] == [2, 3]


@pytest.mark.parametrize("cut", [1, 15, 16, 47])
def test_a_record_that_is_cut_is_a_dead_letter_with_its_bytes(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.dbn", trade(), trade()[:cut])
    rows = read_rows(path)
    assert [row.reason for row in rows] == ["", "undecodable"]
    assert rows[1].raw == trade()[:cut]
    assert rows[1].line == rows[0].line + 48


def test_behind_a_record_without_a_length_nothing_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", trade(), b"\0" + trade()[1:], trade())
    assert [row.reason for row in read_rows(path)] == ["", "undecodable"]


def test_a_record_that_is_too_short_for_its_type_costs_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", trade(), b"\x04" + trade()[1:16], trade())
    assert [row.reason for row in read_rows(path)] == ["", "undecodable", ""]


def test_many_instruments_over_many_windows(tmp_path: Path) -> None:
    pick = random.Random(3)
    symbols = {number: f"SYM{number}" for number in pick.sample(range(2**32), 3000)}
    mappings = {symbol: [(FIRST, SECOND, str(number))] for number, symbol in symbols.items()}
    wanted = [pick.choice(list(symbols)) for _ in range(20_000)]
    path = write(tmp_path / "a.dbn", *(trade(instrument_id=number) for number in wanted), mappings=mappings)
    assert [row.symbol for row in read_rows(path, max_records=4096)] == [symbols[number] for number in wanted]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"DBN", "unreadable metadata"),
        (b"DBN\x09\0\0\0\0", "version 9"),
        (b"DBN\x02\xff\xff\xff\x7f", "unreadable metadata: its length"),
        (b"DBN\x02\xff\0\0\0abc", "it breaks off"),
        (b"DBN\x02\x70\0\0\0" + b"\xff" * 0x70, "unreadable metadata"),
    ],
)
def test_metadata_that_cannot_be_read_is_one_clear_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.dbn"
    path.write_bytes(data)
    with pytest.raises(FeedError, match=said):
        read_rows(path)


def test_schemas_without_trades_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="holds ohlcv-1d"):
        read_rows(write(tmp_path / "a.dbn", schema="ohlcv-1d"))


def test_a_map_may_set_constants_only(tmp_path: Path) -> None:
    path = write(tmp_path / "a.dbn", trade())
    assert read_rows(path, map="venue==CME,strategy==es")[0][8:10] == ("CME", "es")
    with pytest.raises(FeedError, match="only account, venue, strategy, fee"):
        read_rows(path, map="price==1")
