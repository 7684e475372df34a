"""Parquet and Arrow IPC against pyarrow's own rows, value by value."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from feed_rows import Row, read_rows

from ext.decimals import parse_number
from ext.records import FLAGS, Frame
from feeds import FeedError, open_feed

pa = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")
pq = pytest.importorskip("pyarrow.parquet")

DATA = Path(os.environ.get("RISKWIRE_DATA") or Path(__file__).parents[3] / "shared" / "data")
T0 = 1_700_000_000_123_456_789


def columns(count: int = 5) -> dict[str, Any]:
    return {
        "trade_id": [f"T{i}" for i in range(count)],
        "symbol": ["BTCUSDT", "ETHUSDT"] * (count // 2) + ["BTCUSDT"] * (count % 2),
        "price": [100.1 + i for i in range(count)],
        "volume": [i + 1 for i in range(count)],
        "side": ["buy" if i % 2 else "sell" for i in range(count)],
        "executed_at": [T0 + i for i in range(count)],
    }


def write(path: Path, data: Any, **options: Any) -> Path:
    table = data if isinstance(data, pa.Table) else pa.table(data)
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        make = ipc.new_stream if path.suffix == ".arrows" else ipc.new_file
        with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=options.get("row_group_size"))
    return path


@pytest.fixture(params=["a.parquet", "a.arrow", "a.arrows"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


def test_rows_are_those_of_the_file_over_row_groups_and_frames(path: Path) -> None:
    data = columns(1001)
    rows = read_rows(write(path, data, row_group_size=100), max_records=37)
    assert [
        (r.id, r.symbol, r.price, r.volume, r.side, r.executed_at, r.account) for r in rows
    ] == [
        (data["trade_id"][i], data["symbol"][i], Decimal(repr(data["price"][i])), data["volume"][i], data["side"][i],
         T0 + i, "default")
        for i in range(1001)
    ]  # fmt: skip
    assert [r.line for r in rows] == list(range(1, 1002))


RNG = random.Random(6)
FLOATS = [
    0.1, 1 / 3, 1e-9, 123456789.123456789, 1e15, 1e22, 1.5e300, 5e-324, -2.5, 0.0, -0.0, 39432.48,
    0.00031099999999999997,
    999999999999999.9, 1e-7, 4503599627370497.5, 123456789012345678.0, *(RNG.uniform(-1e6, 1e6) for _ in range(300)),
    *(round(RNG.uniform(-1e6, 1e6), RNG.randrange(9)) for _ in range(300)),
]  # fmt: skip


def test_floats_are_read_by_their_shortest_form(path: Path) -> None:
    data = columns(len(FLOATS))
    data["price"] = FLOATS
    rows = read_rows(write(path, data))
    for row, value in zip(rows, FLOATS, strict=True):
        expected = Decimal(repr(value))
        if abs(expected.adjusted()) < 100:  # beyond, an exponent is at its end, and the door refuses it either way
            assert row.price == expected, value
    assert sum(bool(row.flags) for row in rows) == 0


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (pa.decimal128(38, 9), ["1.000000001", "-99999999999999999999.5", "0", "1200"]),
        (pa.decimal256(50, 10), ["1.5", "-2", "0", "1e12"]),
        (pa.int32(), ["1", "-1", "0", "1000"]),
        (pa.uint64(), ["1", "18446744073709551615", "0", "1000"]),
        (pa.float32(), ["0.1", "-2.5", "0", "16777216"]),
        (pa.string(), ["1.10", "-2.5", "0.000", "1e3"]),
        (pa.large_string(), ["1.10", "-2.5", "0.000", "1e3"]),
        (pa.dictionary(pa.int8(), pa.string()), ["1.10", "-2.5", "0.000", "1e3"]),
    ],
)
def test_prices_of_every_type_are_exact(path: Path, kind: Any, texts: list[str]) -> None:
    data = columns(4)
    is_text = pa.types.is_dictionary(kind) or "string" in str(kind)
    is_float = pa.types.is_floating(kind)
    values = texts if is_text else [float(t) if is_float else Decimal(t) for t in texts]
    data["price"] = pa.array(values).cast(kind) if is_text else pa.array(values, kind)
    rows = read_rows(write(path, data))
    for row, text in zip(rows, texts, strict=True):
        if "price_wide" in row.flags:
            assert abs(Decimal(text)) >= 2**63 / 10**9
        else:
            assert row.price == Decimal(text)


def test_decimals_of_a_column_are_those_of_their_texts(path: Path) -> None:
    """More rows than are read together, among them what does not fit 64 bits, and both ends of what does."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    make = random.Random(seed)
    edges = [0, 1, -1, 10, 100, 2**63 - 1, 2**63, -(2**63) + 1, -(2**63), -(2**63) - 1, 10**18, 10**19, 10**28, 2**64]
    values = [
        make.choice([make.choice(edges), make.randrange(-(10**6), 10**6) * 10 ** make.randrange(12)])
        for _ in range(700)
    ]
    prices = [Decimal(value).scaleb(-9) for value in values]
    data = columns(len(prices)) | {"price": pa.array(prices, pa.decimal128(38, 9))}
    found = []
    with open_feed(write(path, data, row_group_size=300)) as feed:
        while frame := feed.next_frame(64):
            found += [
                (int(r["price"]), int(r["price_exponent"]), bool(r["flags"] & FLAGS["price_wide"]))
                for r in Frame(bytes(frame)).records
            ]
    assert found == [parse_number(f"{price:f}".encode()) for price in prices]


def test_texts_with_and_without_other_than_ascii_are_judged_alike(path: Path) -> None:
    """A batch of ASCII is looked at once, any other text by text; either way the bad ones are dead letters."""
    plain = columns(400)
    mixed = columns(400)
    mixed["symbol"][7] = "BTC€"
    odd = columns(400)
    odd["symbol"] = pa.array([b"ok"] * 399 + [b"\xff"], pa.binary())
    for data, refused in ((plain, []), (mixed, []), (odd, [399])):
        rows = read_rows(write(path, data, row_group_size=150))
        assert [i for i, row in enumerate(rows) if row.reason == "undecodable"] == refused
        texts = [text if isinstance(text, str) else text.as_py().decode(errors="replace") for text in data["symbol"]]
        assert [row.symbol for i, row in enumerate(rows) if i not in refused] == [
            text for i, text in enumerate(texts) if i not in refused
        ]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (pa.timestamp("ns"), T0, T0),
        (pa.timestamp("us", "UTC"), T0 // 1000, T0 // 1000 * 1000),
        (pa.timestamp("ms", "Europe/Berlin"), T0 // 10**6, T0 // 10**6 * 10**6),
        (pa.timestamp("s"), -5, -5 * 10**9),
        (pa.int64(), 1_700_000_000, 1_700_000_000 * 10**9),
        (pa.int64(), 1_700_000_000_123, 1_700_000_000_123 * 10**6),
        (pa.uint64(), T0, T0),
        (pa.string(), "2024-01-02T03:04:05.000000006Z", 1704164645_000000006),
    ],
)
def test_times_of_every_type(path: Path, kind: Any, value: Any, expected: int) -> None:
    data = columns(1)
    data["executed_at"] = pa.array([value], kind)
    assert read_rows(write(path, data))[0].executed_at == expected


def test_a_time_beyond_int64_nanoseconds_is_flagged_for_the_door(path: Path) -> None:
    data = columns(1)
    data["executed_at"] = pa.array([datetime(9999, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    assert read_rows(write(path, data))[0].flags == {"time_overflow"}


def test_names_as_dictionaries_integers_and_nulls(path: Path) -> None:
    data = columns(4)
    data["symbol"] = pa.array(["A", "B", "A", "ü" * 20]).dictionary_encode()
    data["account"] = pa.array([7, None, -8, 7])
    data["venue"] = pa.array(["X", None, "Y", "X"]).dictionary_encode()
    data["trade_id"] = pa.array([1, 2, 3, -4])
    data["strategy"] = pa.array([None] * 4, pa.null())
    rows = read_rows(write(path, data), account="house")
    assert [r.symbol for r in rows] == ["A", "B", "A", "ü" * 20]
    assert [r.account for r in rows] == ["7", "house", "-8", "7"]
    assert [r.venue for r in rows] == ["X", "", "Y", "X"]
    assert [r.id for r in rows] == ["1", "2", "3", "-4"]


def test_bad_cells_are_dead_letters_with_their_row_and_the_rest_is_read(path: Path) -> None:
    data = columns(6)
    data["price"] = [1.0, float("nan"), float("inf"), None, 5.0, 6.0]
    data["volume"] = pa.array([1, 1, 1, 1, 0, None])
    rows = read_rows(write(path, data), max_records=2)
    assert [r.type for r in rows] == ["TradeExecuted"] + ["Rejected"] * 5
    assert {r.reason for r in rows[1:]} == {"invalid"}
    assert [r.line for r in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[1].ref == "price: found 'nan', expected a decimal number such as 101.25"
    assert rows[4].ref == "volume: found '0', expected a decimal number above 0"
    assert b'"trade_id":"T4"' in rows[4].raw


def test_a_text_that_is_no_utf8_is_undecodable_and_a_long_one_invalid(path: Path) -> None:
    data = columns(3)
    data["symbol"] = pa.array([b"OK", b"\xff\xfe", b"x" * 200], pa.binary())
    rows = read_rows(write(path, data))
    assert [r.reason for r in rows] == ["", "undecodable", "invalid"]


def test_made_ids_do_not_depend_on_batches_and_count_bad_rows(path: Path) -> None:
    data = columns(300)
    del data["trade_id"]
    data["price"][1] = float("nan")
    one = read_rows(write(path, data, row_group_size=7))
    two = read_rows(write(path, data, row_group_size=300))
    assert one == two
    assert one[2].id.endswith("#3")
    assert len({r.id for r in one}) == 300 - 1 + 1


def test_a_map_names_columns_and_constants(path: Path) -> None:
    data = columns(2)
    data["px"] = data.pop("price")
    del data["symbol"], data["side"]
    rows = read_rows(write(path, data), map="price=px,symbol==XBT,trade_id=volume", side="buy")
    assert [(r.symbol, r.price, r.id, r.side) for r in rows] == [
        ("XBT", Decimal("100.1"), "1", "buy"),
        ("XBT", Decimal("101.1"), "2", "buy"),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"price": None}, "no column price"),
        ({"price": [[1]]}, "column 'price' is list"),
        ({"executed_at": [1.5]}, "column 'executed_at' is double"),
        ({"side": None}, "no column side"),
        ({"symbol": [1.5]}, "symbol needs a string or an integer"),
    ],
)
def test_columns_that_cannot_be_used_are_one_clear_line(path: Path, change: dict[str, Any], said: str) -> None:
    data = {name: values for name, values in {**columns(1), **change}.items() if values is not None}
    with pytest.raises(FeedError, match=said) as caught:
        read_rows(write(path, data))
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_or_ends_with_a_dead_letter(path: Path) -> None:
    whole = write(path, columns(1000), row_group_size=100).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    if path.suffix != ".arrows":  # what is where stands at the end
        with pytest.raises(FeedError, match="cannot be read"):
            read_rows(path)
        return
    rows = read_rows(path)
    assert rows[-1].reason == "undecodable"
    assert len(rows) > 300
    assert all(row.type == "TradeExecuted" for row in rows[:-1])


def test_in_a_compressed_file_it_is_refused_in_one_line(tmp_path: Path) -> None:
    import gzip

    inner = write(tmp_path / "a.parquet", columns(1)).read_bytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(inner))
    with pytest.raises(FeedError, match="unpack it"):
        read_rows(tmp_path / "a.gz")


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", columns(1))
    code = f"import sys; sys.modules['pyarrow'] = None; from feeds import open_feed; open_feed({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'riskwire[parquet]'" in done.stderr.splitlines()[-1]


def test_a_file_is_closed_while_its_next_batch_is_being_decoded(path: Path) -> None:
    from feeds import open_feed

    write(path, columns(200_000), row_group_size=70_000)
    for _ in range(5):
        with open_feed(path) as feed:
            assert feed.next_frame(10) is not None


def test_several_files_are_merged_by_time(tmp_path: Path) -> None:
    a, b = columns(4), columns(4)
    a["executed_at"] = [T0, T0 + 2, T0 + 4, T0 + 6]
    b["executed_at"] = [T0 + 1, T0 + 2, T0 + 5, T0 + 7]
    rows = read_rows([write(tmp_path / "a.parquet", a), write(tmp_path / "b.arrow", b)])
    assert [row.executed_at - T0 for row in rows] == [0, 1, 2, 2, 4, 5, 6, 7]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no recorded data in {DATA}")
def test_recorded_binance_trades() -> None:
    path = DATA / "binance-trades-parquet" / "btcusdt-trades.parquet"
    rows: list[Row] = read_rows(path)
    assert Counter(row.side for row in rows) == {"buy": 1087, "sell": 914}
    plain = pq.read_table(path).to_pylist()
    assert [(row.id, row.price, row.volume, row.executed_at) for row in rows] == [
        (
            str(line["trade_id"]),
            Decimal(repr(line["price"])),
            round(Decimal(repr(line["quantity"])), 6),
            int(line["timestamp"].timestamp() * 1000 + 0.5) * 10**6,
        )
        for line in plain
    ]
    assert {(row.symbol, row.venue) for row in rows} == {("BTCUSDT", "binance")}


def test_an_index_beyond_its_dictionary_is_a_dead_letter_that_reads_nothing_beyond(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    symbols = pa.DictionaryArray.from_arrays(pa.array([0, 1_000_000_000], pa.int32()), pa.array(["A"]), safe=False)
    columns = {"trade_id": ["1", "2"], "price": [1, 2], "volume": [1, 1], "side": ["buy", "buy"], "executed_at": [5, 6]}
    table = pa.table({**columns, "symbol": symbols})
    with ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    rows = read_rows(path)
    assert [row.reason for row in rows] == ["", "undecodable"]
    assert b'"symbol":null' in rows[1].raw
