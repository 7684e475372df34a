"""CSV into frames, beside polars reading the same file into columns (on all cores, in floats), and the csv module."""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import polars as pl

from bench import session
from bench.peer_polars import SCHEMA
from bench.report import MORE, Report, ratios
from ext.records import MAX_FRAME_RECORDS, Frame
from feeds import open_feed

CSV_ROWS = 200_000  # the csv module's share: it is slow


def riskwire(path: Path) -> tuple[float, list[bytearray]]:
    """Read the file into frames; seconds and frames."""
    started = time.perf_counter()
    feed = open_feed(path)
    frames = []
    while frame := feed.next_frame(MAX_FRAME_RECORDS):
        frames.append(frame)
    return time.perf_counter() - started, frames


def volume_of(frames: list[bytearray]) -> tuple[int, int]:
    """Return rows, and the sum of volumes in hundredths."""
    rows = total = 0
    for frame in frames:
        records = Frame(frame, False).records
        power = 10 ** (records["volume_exponent"].astype(np.int64) + 2)
        rows, total = rows + len(records), total + int((records["volume"] * power).sum())
    return rows, total


def polars(path: Path) -> tuple[float, pl.DataFrame]:
    """Read the file into columns; seconds and the table."""
    started = time.perf_counter()
    table = pl.read_csv(path, schema=SCHEMA)
    return time.perf_counter() - started, table


def plain_csv(path: Path) -> tuple[float, int]:
    """Read the first rows with the csv module, numbers as Decimal; seconds and the sum of volumes in hundredths."""
    from decimal import Decimal
    from itertools import islice

    started = time.perf_counter()
    total = Decimal(0)
    with path.open(newline="") as source:
        for row in islice(csv.DictReader(source), CSV_ROWS):
            Decimal(row["price"])
            int(row["executed_at"])
            total += Decimal(row["volume"])
    return time.perf_counter() - started, int(total * 100)


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all, interleaved."""
    rows = options.trades or (400_000 if options.quick else 4_000_000)
    path = session.session_csv(rows)
    ours, peers, plain = [], [], []
    for _ in range(options.rounds):
        seconds, frames = riskwire(path)
        ours.append(seconds)
        seconds, table = polars(path)
        peers.append(seconds)
        volume = int((table["volume"] * 100).round().cast(pl.Int64).sum())
        if not report.check("rows and volume, riskwire and polars", volume_of(frames), (table.height, volume)):
            return
        seconds, counted = plain_csv(path)
        plain.append(seconds)
        head = int((table["volume"].head(CSV_ROWS) * 100).round().cast(pl.Int64).sum())
        report.check("volume, csv module and polars", counted, head)
    mib = path.stat().st_size / 2**20
    report.add("riskwire, CSV into frames, one core", "rows/s", [rows / s for s in ours], better=MORE)
    report.add("the same", "MiB/s", [mib / s for s in ours], better=MORE)
    report.add("polars.read_csv, all cores, floats", "rows/s", [rows / s for s in peers], better=MORE)
    report.add("csv module and Decimal", "rows/s", [min(rows, CSV_ROWS) / s for s in plain], better=MORE)
    report.add("polars / riskwire, time", "x", ratios(peers, ours), better=MORE)
