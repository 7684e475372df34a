"""Parquet, DBN and FIX into frames, each beside what its library offers; rows, volume and prices are compared.

The files are made once, in the folder of the sessions. polars reads Parquet on all cores into columns as they are;
databento-dbn's decoder gives an object a record, from which its numbers go into NumPy; simplefix parses one message at
a time in Python. riskwire reads each with one thread of its own; what pyarrow decodes for it, Parquet alone, is decoded
by pyarrow's threads. A frame is let go before the next one is asked for, as whoever publishes them does; those that are
compared are read anew, beside the clock.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from bench import session
from bench.report import MORE, Report, ratios
from bench.sizes import trades_of
from ext.records import MAX_FRAME_RECORDS, Frame
from feeds import open_feed

START_NS = 1_704_204_000_000_000_000
SEED = 3
VERSION = 2  # of the files' content, part of their names


class Sums(NamedTuple):
    """What readers of one file must agree on: rows, and sums in hundredths."""

    rows: int
    volume: int
    price: int


class Format(NamedTuple):
    """A format: its file, its peer, and what riskwire should reach (rows/s, and the peer's time by riskwire's)."""

    name: str
    package: str  # of the peer
    peer: str
    make: Callable[[Path, int], None]
    read: Callable[[Path, int], tuple[float, Sums]]
    rows: int
    peer_rows: int
    rate: float | None = None
    ratio: float | None = None
    cores: str = "one core"


def seconds_of(path: Path) -> float:
    """Read a file into frames, one after another: seconds."""
    started = time.perf_counter()
    with open_feed(path) as feed:
        while feed.next_frame(MAX_FRAME_RECORDS) is not None:
            pass
    return time.perf_counter() - started


def riskwire(path: Path) -> tuple[float, Any]:
    """Read a file into frames: seconds, and all records."""
    seconds = seconds_of(path)
    with open_feed(path) as feed:
        frames = list(iter(lambda: feed.next_frame(MAX_FRAME_RECORDS), None))
    records = np.concatenate([Frame(frame, False).records for frame in frames])
    return seconds, records


def sums_of(records: Any) -> Sums:
    """Return the sums of records."""

    def hundredths(name: str) -> int:
        return int((records[name] * 10 ** (records[f"{name}_exponent"].astype(np.int64) + 2)).sum())

    return Sums(len(records), hundredths("volume"), hundredths("price"))


# --- Parquet ------------------------------------------------------------------------------------------------------


def make_parquet(path: Path, rows: int) -> None:
    """Write the CSV session as Parquet: decimals, dictionaries, timestamps."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    decimal, name = pa.decimal128(18, 2), pa.dictionary(pa.int32(), pa.string())
    kinds = {"trade_id": pa.string(), "price": decimal, "volume": decimal, "executed_at": pa.int64()}
    kinds |= dict.fromkeys(("symbol", "side", "account"), name)
    convert = csv.ConvertOptions(column_types=kinds)
    # One dictionary for the whole column: where each piece of the file has its own, pyarrow writes plain texts.
    table = csv.read_csv(session.session_csv(rows), convert_options=convert).unify_dictionaries()
    parquet.write_table(table, path)


def polars_parquet(path: Path, rows: int) -> tuple[float, Sums]:
    """Read Parquet into polars' columns."""
    import polars as pl

    started = time.perf_counter()
    table = pl.read_parquet(path)
    seconds = time.perf_counter() - started
    volume, price = ((table[name] * 100).cast(pl.Int64).sum() for name in ("volume", "price"))
    return seconds, Sums(table.height, volume, price)


# --- DBN ----------------------------------------------------------------------------------------------------------


def make_dbn(path: Path, rows: int) -> None:
    """Write trades of one future, as databento-dbn encodes them."""
    import databento_dbn as dbn

    day_ns = 86_400 * 10**9
    days = SimpleNamespace(start_date=date(2024, 1, 2), end_date=date(2024, 1, 3), symbol="7")
    head = dbn.Metadata(
        dataset="GLBX.MDP3", start=START_NS, end=START_NS + day_ns, schema=dbn.Schema("trades"), version=3,
        stype_in=dbn.SType("raw_symbol"), stype_out=dbn.SType("instrument_id"), symbols=["ESH4"], partial=[],
        not_found=[], mappings=[SimpleNamespace(raw_symbol="ESH4", intervals=[days])],
    )  # fmt: skip
    one = dbn.TradeMsg(
        publisher_id=1, instrument_id=7, ts_event=START_NS, price=0, size=1, action=dbn.Action("T"), side=dbn.Side("B"),
        depth=0, ts_recv=START_NS, ts_in_delta=0, sequence=1,
    )  # fmt: skip
    random = np.random.default_rng(SEED)
    records = np.frombuffer(bytes(one), np.dtype(dbn.TradeMsg._dtypes)).repeat(rows)
    records["price"] = (500_000 + random.integers(0, 1_000, rows)) * 10_000_000
    records["size"] = random.integers(1, 100, rows)
    records["side"] = np.where(random.random(rows) < 0.5, b"A", b"B")
    records["ts_event"] += np.arange(rows, dtype=np.uint64)
    records["ts_recv"] = records["ts_event"]
    path.write_bytes(bytes(head) + records.tobytes())


def databento(path: Path, rows: int) -> tuple[float, Sums]:
    """Decode with databento-dbn, and put the trades' numbers into NumPy."""
    import databento_dbn as dbn

    started = time.perf_counter()
    decoder, columns = dbn.DBNDecoder(), []
    with path.open("rb") as source:
        while piece := source.read(1 << 20):
            decoder.write(piece)
            found = [each for each in decoder.decode() if isinstance(each, dbn.TradeMsg)]
            columns.append(np.array([(each.price, each.size, each.ts_event, each.instrument_id) for each in found]))
    table = np.concatenate(columns)
    seconds = time.perf_counter() - started
    return seconds, Sums(len(table), int(table[:, 1].sum()) * 100, int((table[:, 0] // 10_000_000).sum()))


# --- FIX ----------------------------------------------------------------------------------------------------------


def make_fix(path: Path, rows: int) -> None:
    """Write a drop copy: execution reports that are fills, SOH between fields, a line each."""
    with path.open("wb") as out:
        out.writelines(fix_message(number) for number in range(rows))


def fix_message(i: int) -> bytes:
    """Return a fill as FIX 4.2."""
    at = f"20240102-14:{i // 60 % 60:02d}:{i % 60:02d}.{i % 1000:03d}"
    body = (
        f"35=8|34={i}|49=BROKER|56=DROP|52={at}|37=ORD{i}|11=C{i}|17=E{i}|20=0|150=2|39=2|1=ACC{i % 100}|"
        f"55=SYM{i % 500}|54={1 + i % 2}|38=100|44=101.25|31={100 + i % 50}.25|32={1 + i % 100}|14=100|6=101.25|151=0|"
        f"60={at}|30=XNYS|12=0.5|13=3|"
    ).replace("|", "\1")
    message = f"8=FIX.4.2\0019={len(body)}\1{body}".encode()
    return message + b"10=%03d\1\n" % (sum(message) % 256)


def simplefix(path: Path, rows: int) -> tuple[float, Sums]:
    """Parse the first messages with simplefix and take the fields of a fill."""
    import simplefix as simple

    with path.open("rb") as source:
        lines = [source.readline() for _ in range(rows)]
    started = time.perf_counter()
    parser = simple.FixParser()
    count = volume = price = 0
    for line in lines:  # one at a time: what waits in its buffer is copied for each message
        parser.append_buffer(line)
        message = parser.get_message()
        for tag in (17, 1, 55, 54, 60, 30, 12, 150):
            message.get(tag)
        volume += int(message.get(32)) * 100
        price += round(float(message.get(31)) * 100)
        count += 1
    return time.perf_counter() - started, Sums(count, volume, price)


FORMATS = (
    Format(
        "Parquet",
        "polars",
        "polars.read_parquet, all cores",
        make_parquet,
        polars_parquet,
        4_000_000,
        4_000_000,
        8e6,
        cores="decoded by pyarrow on all cores",
    ),
    Format("DBN", "databento_dbn", "databento-dbn into NumPy", make_dbn, databento, 2_000_000, 200_000, None, 0.7),
    Format("FIX", "simplefix", "simplefix", make_fix, simplefix, 500_000, 20_000, 200e3),
)
MADE_WITH = {"Parquet": "pyarrow", "DBN": "databento_dbn"}


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure each format."""
    for each in FORMATS:
        maker = MADE_WITH.get(each.name)
        if maker and not importlib.util.find_spec(maker):
            report.missing(
                f"{each.name}, riskwire into frames", f"pip install {maker.replace('_', '-')}, or make bench"
            )
            continue
        rows = min(each.rows, trades_of(options, each.rows, each.rows // 10, 5_000))
        path = session.folder() / f"{each.name.lower()}-{rows}-v{VERSION}.{each.name.lower()}"
        if not path.exists():
            each.make(path.with_suffix(".part"), rows)
            path.with_suffix(".part").rename(path)
        of_format(options, report, each, path, rows)


def of_format(options: argparse.Namespace, report: Report, each: Format, path: Path, rows: int) -> None:
    """Measure one format, interleaved with its peer."""
    ours, peers, there = [], [], importlib.util.find_spec(each.package) is not None
    peer_rows = rows if each.peer_rows == each.rows else min(rows, each.peer_rows)
    for _ in range(options.rounds):
        seconds, records = riskwire(path)
        ours.append(seconds / rows)
        report.check(f"{each.name}: rows", len(records), rows)
        if there:
            seconds, found = each.read(path, peer_rows)
            peers.append(seconds / found.rows)
            same = report.check(f"{each.name}: rows, volume and prices", sums_of(records[: found.rows]), found)
            if not same:
                return
    rates = [1 / s for s in ours]
    report.add(f"{each.name}, riskwire into frames, {each.cores}", "rows/s", rates, better=MORE, target=each.rate)
    if not there:
        package = each.package.replace("_", "-")
        report.missing(f"{each.name}, {each.peer}", f"pip install {package}, or make bench")
        return
    report.add(f"{each.name}, {each.peer}", "rows/s", [1 / s for s in peers], better=MORE)
    against = ratios(peers, ours)
    report.add(f"{each.name}, {each.peer} / riskwire, time", "x", against, better=MORE, target=each.ratio)
