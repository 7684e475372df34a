"""Files into frames: CSV beside polars, DuckDB and the csv module; Parquet, DBN and FIX in bench/feedformats.py.

riskwire's frames are a stream: each is let go before the next is asked for, as in a replay, and memory is used again. A
peer makes one table of the file. What it costs to keep all frames as well, 145 bytes a row of memory that the system
has to give, is measured beside it.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import time
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bench import feedformats, session
from bench.report import MORE, Report, ratios
from bench.sizes import trades_of
from ext.records import MAX_FRAME_RECORDS, Frame, keep_freed_memory
from feeds import open_feed

PLAIN_ROWS = 200_000  # the csv module's share: it is slow
ROWS_PER_S, EXACT_RATIO = 5e6, 1.2
Found = tuple[float, Any]  # seconds, and what `volume_of` and its like understand
Sums = tuple[int, int]  # rows, and the sum of volumes in hundredths


def riskwire_kept(path: Path) -> Found:
    """Read the file into frames, and keep all of them."""
    started = time.perf_counter()
    feed = open_feed(path)
    frames = []
    while frame := feed.next_frame(MAX_FRAME_RECORDS):
        frames.append(frame)
    return time.perf_counter() - started, frames


def volume_of(frames: list[bytearray], rows_max: int = 1 << 62) -> Sums:
    """Return rows and volume of frames, of the first rows only."""
    rows = total = 0
    for frame in frames:
        records = Frame(frame, False).records[: rows_max - rows]
        power = 10 ** (records["volume_exponent"].astype(np.int64) + 2)
        rows, total = rows + len(records), total + int((records["volume"] * power).sum())
    return rows, total


def polars(path: Path) -> Found:
    """Read the file into columns, numbers as floats."""
    import polars as pl

    from bench.peer_polars import SCHEMA

    started = time.perf_counter()
    table = pl.read_csv(path, schema=SCHEMA)
    return time.perf_counter() - started, table


def polars_exact(path: Path) -> Found:
    """Read the file into columns, numbers as decimals and names as categories: what riskwire's frames hold."""
    import polars as pl

    from bench.peer_polars import SCHEMA

    decimals = dict.fromkeys(("price", "volume"), pl.Decimal(18, 2))
    names = dict.fromkeys(("symbol", "side", "account"), pl.Categorical())
    started = time.perf_counter()
    table = pl.read_csv(path, schema={**SCHEMA, **decimals, **names})
    return time.perf_counter() - started, table


def volume_of_table(table: Any) -> Sums:
    """Return rows and volume of a polars table."""
    import polars as pl

    return table.height, int((table["volume"].cast(pl.Float64) * 100).round().cast(pl.Int64).sum())


def duckdb(path: Path) -> Found:
    """Read the file into a table in memory, numbers as floats."""
    import duckdb as duck

    from bench.peer_duckdb import COLUMNS

    started = time.perf_counter()
    db = duck.connect()
    db.execute("SET preserve_insertion_order = false")
    read = f"read_csv($path, header=true, auto_detect=false, columns={COLUMNS})"
    db.execute(f"CREATE TEMP TABLE trades AS SELECT * FROM {read}", {"path": str(path)})
    return time.perf_counter() - started, db


def volume_of_db(db: Any) -> Sums:
    """Return rows and volume of DuckDB's table."""
    rows, total = db.execute("SELECT count(*), sum(round(volume * 100)) FROM trades").fetchall()[0]
    return int(rows), int(total)


def plain_csv(path: Path, rows: int) -> tuple[float, Sums]:
    """Read the first rows with the csv module, numbers as Decimal."""
    started = time.perf_counter()
    total, count = Decimal(0), 0
    with path.open(newline="") as source:
        for row in islice(csv.DictReader(source), rows):
            Decimal(row["price"])
            int(row["executed_at"])
            total += Decimal(row["volume"])
            count += 1
    return time.perf_counter() - started, (count, int(total * 100))


PEERS: dict[str, tuple[str, Callable[[Path], Found], Callable[[Any], Sums]]] = {
    "polars.read_csv, all cores, floats": ("polars", polars, volume_of_table),
    "polars.read_csv, all cores, decimals and categories": ("polars", polars_exact, volume_of_table),
    "DuckDB read_csv, all cores, floats": ("duckdb", duckdb, volume_of_db),
}
EXACT = "polars.read_csv, all cores, decimals and categories"


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure CSV, then the other formats."""
    rows = trades_of(options, 4_000_000, 400_000, 20_000)
    of_csv(options, report, session.session_csv(rows), rows)
    feedformats.run(options, report)


def of_csv(options: argparse.Namespace, report: Report, path: Path, rows: int) -> None:
    """Measure all readers of CSV, interleaved."""
    peers = {name: each for name, each in PEERS.items() if importlib.util.find_spec(each[0])}
    took: dict[str, list[float]] = {name: [] for name in ("riskwire", "kept", "plain", *peers)}
    keep_freed_memory()  # as every process of riskwire's does
    for _ in range(options.rounds):
        took["riskwire"].append(feedformats.seconds_of(path))
        seconds, frames = riskwire_kept(path)
        took["kept"].append(seconds)
        ours = volume_of(frames)
        for name, (_, read, sums) in peers.items():
            seconds, table = read(path)
            took[name].append(seconds)
            if not report.check(f"rows and volume, riskwire and {name}", ours, sums(table)):
                return
        seconds, plain = plain_csv(path, min(rows, PLAIN_ROWS))
        took["plain"].append(seconds)
        head = volume_of(frames, PLAIN_ROWS)
        report.check("rows and volume, riskwire and the csv module", head, plain)
    tell(report, took, rows, path.stat().st_size / 2**20)


def tell(report: Report, took: dict[str, list[float]], rows: int, mib: float) -> None:
    """Report rates, and ratios of times."""
    ours = took["riskwire"]
    mean = f"{mib / sorted(ours)[len(ours) // 2]:.0f} MiB/s"
    rates = [rows / s for s in ours]
    report.add("CSV, riskwire into frames, one core", "rows/s", rates, better=MORE, target=ROWS_PER_S, note=mean)
    report.add("CSV, riskwire, all frames kept", "rows/s", [rows / s for s in took["kept"]], better=MORE)
    for name, (package, _, _) in PEERS.items():
        if name not in took:
            report.missing(f"CSV, {name}", f"pip install {package}, or make bench")
            continue
        report.add(f"CSV, {name}", "rows/s", [rows / s for s in took[name]], better=MORE)
        goal = EXACT_RATIO if name == EXACT else None
        report.add(f"CSV, {name} / riskwire, time", "x", ratios(took[name], ours), better=MORE, target=goal)
        if name == EXACT:
            kept = ratios(took[name], took["kept"])
            report.add(f"CSV, {name} / riskwire, all frames kept, time", "x", kept, better=MORE)
    report.add("CSV, csv module and Decimal", "rows/s", [min(rows, PLAIN_ROWS) / s for s in took["plain"]], better=MORE)
