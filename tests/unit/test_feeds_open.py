"""open_feed: compressed files, several files at once, formats by their content, presets."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest
from feed_rows import read_rows

from feeds import FeedError, JournalFeed, open_feed

HEADER = "trade_id,symbol,price,volume,side,executed_at\n"


def lines_of(count: int, start: int = 0) -> str:
    return HEADER + "".join(f"T{i},S{i % 5},{i}.25,1,buy,{1700000000 + i}\n" for i in range(start, start + count))


def ids(paths: object, **options: object) -> list[str]:
    return [row.id or row.reason for row in read_rows(paths, **options)]


def test_gzip_is_read_like_the_plain_file(tmp_path: Path) -> None:
    text = lines_of(20_000).encode()
    (tmp_path / "a.csv").write_bytes(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text[:300_000]) + gzip.compress(text[300_000:]) + b"\0" * 600)
    plain, packed = read_rows(tmp_path / "a.csv"), read_rows(tmp_path / "a.csv.gz")
    assert [row._replace(source="") for row in plain] == [row._replace(source="") for row in packed]


def test_a_cut_gzip_gives_what_came_before_and_one_dead_letter(tmp_path: Path) -> None:
    text = lines_of(20_000).encode()
    packed = gzip.compress(text)
    path = tmp_path / "a.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    rows = read_rows(path)
    assert 1000 < len(rows) < 20_000
    assert {row.type for row in rows[:-1]} == {"TradeExecuted"}
    assert rows[-1].reason == "undecodable"
    assert f"byte {len(packed) // 2}" in rows[-1].ref
    assert text.startswith(b"\n".join([HEADER.strip().encode(), *(row.raw for row in rows)]))
    assert rows[-1].line == len(rows) + 1


def test_a_damaged_gzip_says_so(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(lines_of(20_000).encode()))
    packed[-6] ^= 0xFF
    path = tmp_path / "a.csv.gz"
    path.write_bytes(packed)
    rows = read_rows(path)
    assert len(rows) == 20_001
    assert (rows[-1].reason, "damaged at byte" in rows[-1].ref) == ("undecodable", True)


def test_rubbish_behind_a_gzip_member_is_one_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(lines_of(10).encode()) + b"rubbish")
    assert ids(path)[-2:] == ["T9", "undecodable"]


def test_json_lines_may_be_compressed_and_cut_too(tmp_path: Path) -> None:
    line = '{"trade_id":"T%d","symbol":"B","price":1,"volume":1,"side":"B","executed_at":1}\n'
    text = "".join(line % i for i in range(5000)).encode()
    path = tmp_path / "a.jsonl.gz"
    packed = gzip.compress(text)
    path.write_bytes(packed)
    assert len(read_rows(path)) == 5000
    path.write_bytes(packed[:-400])
    rows = read_rows(path)
    assert [row.reason for row in rows[-2:]] == ["", "undecodable"]
    assert "breaks off" in rows[-1].ref


def test_a_zip_gives_each_file_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.csv", lines_of(3))
        archive.writestr("two.csv", lines_of(3, start=2))
    rows = read_rows(path)
    assert [row.id for row in rows] == ["T0", "T1", "T2", "T2", "T3", "T4"]
    assert rows[0].source.endswith("a.zip:one.csv")
    assert rows[-1].source.endswith("a.zip:two.csv")


def test_zstd_is_read_where_a_library_is_there(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.csv.zst"
    with pyarrow.CompressedOutputStream(pyarrow.OSFile(str(path), "wb"), "zstd") as stream:
        stream.write(lines_of(20_000).encode())
    assert len(read_rows(path)) == 20_000
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert read_rows(path)[-1].reason == "undecodable"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.zip", b"PK\x03\x04rubbish", "zip"),
        ("a.csv.gz", b"\x1f\x8b", "breaks off"),
        ("a.csv.gz", b"\x1f\x8brubbish and more rubbish", "damaged"),
        ("a.dbn", b"DBN\x01...", "Databento"),
        ("a.bin", bytes(range(256)), "binary"),
    ],
)
def test_files_that_cannot_be_opened_are_one_clear_line(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(FeedError, match=said) as caught:
        open_feed(path)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="No such file"):
        open_feed(tmp_path / "none.csv")
    with pytest.raises(FeedError, match="is a directory"):
        open_feed(tmp_path)
    with pytest.raises(FeedError, match="no feed"):
        open_feed([])
    with pytest.raises(FeedError, match="NUL"):
        open_feed("a\0b")


def test_a_journal_directory_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "00000001.rwj").write_bytes(b"")
    with pytest.raises(JournalFeed) as caught:
        open_feed(tmp_path)
    assert caught.value.path == str(tmp_path)
    with pytest.raises(FeedError, match="no directory"):
        open_feed(tmp_path / "00000001.rwj", format="journal")


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines_of(1))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(FeedError, match=r"a\.csv cannot be read: Permission denied"):
        open_feed(path)


def test_several_files_are_merged_by_the_times_of_their_heads(tmp_path: Path) -> None:
    def write(name: str, *rows: tuple[str, object]) -> Path:
        path = tmp_path / name
        path.write_text(HEADER + "".join(f"{trade},B,1,1,buy,{time}\n" for trade, time in rows))
        return path

    a = write("a.csv", ("a1", 10), ("a2", 30), ("a3", 20), ("a4", 50))
    b = write("b.csv", ("b1", 10), ("b2", 20), ("b3", "bad"), ("b4", 40))
    c = write("c.csv")
    # b3 has no time: it follows b2 at once. a3 is late in its file and is never re-sorted before a2.
    merged = ["a1", "b1", "b2", "invalid", "a2", "a3", "b4", "a4"]
    assert ids([a, b, c]) == merged
    assert ids([a, b, c], max_records=1) == merged
    assert ids([b, c, a]) == ["b1", "a1", "b2", "invalid", "a2", "a3", "b4", "a4"]
    assert len(read_rows([a, a])) == 8


def test_merged_files_share_their_names(tmp_path: Path) -> None:
    paths = []
    for name in "ab":
        paths.append(tmp_path / name)
        paths[-1].write_text(lines_of(100))
    rows = read_rows(paths, max_records=7)
    assert [row.id for row in rows] == [f"T{i // 2}" for i in range(200)]
    assert [row.source[-1] for row in rows[:4]] == ["a", "b", "a", "b"]


def test_csv_and_json_lines_merge(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines_of(3))
    (tmp_path / "b.jsonl").write_text(
        json.dumps({"type": "MarkPrice", "event_id": "M", "symbol": "S1", "price": 1, "at": 1700000001}) + "\n"
    )
    assert ids([tmp_path / "b.jsonl", tmp_path / "a.csv"]) == ["T0", "M", "T1", "T2"]


def test_progress_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines_of(1000))
    with open_feed([path, path]) as feed:
        assert feed.bytes_total == 2 * path.stat().st_size
        while feed.next_frame(100) is not None:
            pass
        assert (feed.records_read, feed.bytes_read) == (2000, feed.bytes_total)
        with pytest.raises(ValueError, match="max_records"):
            feed.next_frame(0)


def test_a_pipe_is_read_with_an_unknown_size(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write(lines_of(100))
    try:
        with open_feed(f"/dev/fd/{reading}") as feed:
            frame = feed.next_frame()
            assert frame is not None
            assert (feed.records_read, feed.bytes_total) == (100, None)
    finally:
        os.close(reading)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_what_a_pipe_has_given_goes_out_without_waiting_for_more(kind: str) -> None:
    line = '{"trade_id":"T0","symbol":"S0","price":1,"volume":1,"side":"B","executed_at":1}\n'
    first = lines_of(1) if kind == "csv" else line
    reading, writing = os.pipe()
    try:
        os.write(writing, first.encode())
        with open_feed(f"/dev/fd/{reading}") as feed:
            assert feed.next_frame() is not None
            os.write(writing, first.encode()[-40:] if kind == "csv" else first.encode())
            assert feed.next_frame() is not None
            os.close(writing)
            writing = -1
            assert feed.next_frame() is None
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def test_dead_letters_can_be_given_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines_of(1))
    assert read_rows(path, source_name="desk A")[0].source == "desk A"


def test_tardis_is_known_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        "binance-futures,BTCUSDT,1582329602111000,1582329602418379,42377944,buy,9682,0.132\n"
        "binance-futures,BTCUSDT,1582329602111000,1582329602418379,42377945,unknown,9682,0.132\n"
    )
    good, bad = read_rows(path)
    assert (good.id, good.venue, good.volume) == ("42377944", "binance-futures", Decimal("0.132"))
    assert good.executed_at == 1582329602111000000
    assert bad.reason == "invalid"


def test_kraken_takes_its_symbol_from_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "BCHEUR.csv"
    path.write_text("1672531436,90.540000,1.10448420\n")
    (row,) = read_rows(path, format="kraken", side="tick")
    assert (row.symbol, row.venue, row.price) == ("BCHEUR", "kraken", Decimal("90.54"))
    (row,) = read_rows(path, format="kraken", side="tick", map="symbol==BCH/EUR")
    assert row.symbol == "BCH/EUR"
    with pytest.raises(FeedError, match="--side"):
        open_feed(path, format="kraken")


def test_binance_trades_say_the_side_by_the_maker(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-trades-2024-01-01.csv"
    path.write_text("1,42283.58,0.5,21141.79,1704067200000,True,True\n2,42283.59,0.25,1,1704067200001,False,True\n")
    rows = read_rows(path, format="binance-trades")
    assert [(row.id, row.symbol, row.side) for row in rows] == [("1", "BTCUSDT", "sell"), ("2", "BTCUSDT", "buy")]


def test_recorded_websocket_messages(tmp_path: Path) -> None:
    path = tmp_path / "btc.txt"
    trade = '{"e":"trade","E":1,"s":"BTCUSDT","t":%d,"p":"61837.63","q":"0.02","T":%d,"m":%s,"M":true}'
    prints = (
        '{"channel":"trades","data":[{"coin":"BTC","px":"1.5","side":"B","sz":"2","tid":7,"time":1700000000100,'
        '"users":["0xa","0xb"]},{"coin":"BTC","px":"1.5","side":"A","sz":"0","tid":8,"time":1700000000100,'
        '"users":["0xa","0xb"]}]}'
    )
    lines = [
        '1723161254036052868 {"stream":"btcusdt@bookTicker","data":{"u":1}}',
        '1723161254036052868 {"stream":"btcusdt@trade","data":' + trade % (1, 1700000000001, "true") + "}",
        "1723161254036052868 " + trade % (2, 1700000000002, "false"),
        "1723161254036052868 " + prints,
        '1723161254036052868 {"stream":"btcusdt@trade","data":{"e":"tra',
        '1723161254036052868 {"stream":"x","data":{"e":"trade","s":"B"}}',
        "junk",
    ]
    path.write_text("\n".join(lines))
    rows = read_rows(path)
    assert [row.side or row.reason for row in rows] == [
        "sell", "buy", "buy", "sell", "invalid", "invalid", "undecodable", "undecodable", "undecodable",
    ]  # fmt: skip
    assert [row.line for row in rows] == [2, 3, 4, 4, 4, 4, 5, 6, 7]
    assert [row.account for row in rows[:4]] == ["default", "default", "0xa", "0xb"]
    assert rows[4].raw == lines[3].encode()
    assert read_rows(path, max_records=1) == rows
    (tmp_path / "b.csv").write_text(lines_of(1))
    assert ids([path, tmp_path / "b.csv"])[:5] == ["T0", "1", "2", "7", "7"]


def test_what_unpacks_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "a.csv.zst"
    with pyarrow.CompressedOutputStream(pyarrow.OSFile(str(path), "wb"), "zstd") as stream:
        stream.write(b"trade_id,symbol,price,volume,side,executed_at\n" + b"T1,A,1,1,buy,1700000000\n" * 100_000)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("feeds.packed.UNPACKED_BYTES_FREE", 1 << 20)
    monkeypatch.setattr("feeds.packed.UNPACKED_RATIO_MAX", 200)
    rows = read_rows(path, max_records=8192)
    assert len(rows) < 90_000
    assert rows[-1].reason == "undecodable"
    assert "200 times its size" in rows[-1].ref


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"<?xml version='1.0'?><FlexQueryResponse/>", "is XML"),
        (b'[{"price": 1}]', "one object a line"),
        (b"\xd4\xc3\xb2\xa1rest", "packet capture"),
        (b"wss://stream.binance.com\n1626992741.42: {}", "cryptofeed"),
        (b"1626992741.42: {}", "cryptofeed"),
        (b"BZh91AY", "unpack it first"),
        (b"SQLite format 3\0", "SQLite"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(FeedError, match=said) as caught:
        open_feed(path)
    assert "riskwire reads CSV" in str(caught.value)


def test_members_of_a_zip_may_have_any_name(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), "nothing to find it by")
        archive.writestr(zipfile.ZipInfo("a folder/"), "")
        archive.writestr(zipfile.ZipInfo("two\nlines.csv"), lines_of(3))
    assert [row.id for row in read_rows(path)] == ["T0", "T1", "T2"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("two\nlines.csv"), "")
    with pytest.raises(FeedError, match=r"two\\nlines.csv is empty"):
        read_rows(path)
