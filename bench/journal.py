"""The journal alone: appending in each sync mode, reading back, beside write, fdatasync and read of the same bytes."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.report import MORE, Report, ratios
from bench.sizes import trades_of
from bench.workload import Keys, make_records, sequence
from ext.journal import Journal

KEYS = Keys()
PER_FRAME = 1_024
GROUP = 4  # frames made durable together: 4,096 trades
OS_RATE, GROUP_RATE = 10e6, 2e6


def session(trades: int, per_frame: int = PER_FRAME) -> list[bytes]:
    """Return sequenced frames of new trades."""
    records, numbers = make_records(KEYS, trades, 1, np.random.default_rng(13))
    return sequence(records, numbers, 1, per_frame)


def append(folder: Path, frames: list[bytes], sync: str, every: int = 0) -> float:
    """Append all, made durable after `every` frames (0: never); returns seconds."""
    with Journal(str(folder), sync) as journal:
        journal.epoch = 1
        started = time.perf_counter()
        for number, frame in enumerate(frames, 1):
            journal.append_frame(frame)
            if every and number % every == 0:
                journal.flush()
        return time.perf_counter() - started


def write(path: Path, frames: list[bytes], every: int = 0) -> float:
    """Do the same with write and fdatasync of one file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    started = time.perf_counter()
    for number, frame in enumerate(frames, 1):
        os.write(fd, frame)
        if every and number % every == 0:
            os.fdatasync(fd)
    elapsed = time.perf_counter() - started
    os.close(fd)
    return elapsed


def read_back(folder: Path) -> tuple[float, int]:
    """Open a journal (every CRC is checked) and read each frame; returns seconds and bytes."""
    started = time.perf_counter()
    with Journal(str(folder), readonly=True) as journal:
        size = sum(len(frame) for frame in journal)
    return time.perf_counter() - started, size


def read_file(path: Path) -> tuple[float, int]:
    """Read a file whole; returns seconds and bytes."""
    started = time.perf_counter()
    size = len(path.read_bytes())
    return time.perf_counter() - started, size


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure appending and reading, interleaved with plain files."""
    trades = trades_of(options, 4_000_000, 400_000, 40_000)
    frames, single = session(trades), session(trades // 20, 1)
    whole = sum(map(len, frames))
    names = ("os", "write", "group", "fdatasync", "one", "read", "read file")
    rates: dict[str, list[float]] = {name: [] for name in names}
    some = frames[: max(GROUP, len(frames) // 4 // GROUP * GROUP)]
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
            at = Path(folder)
            rates["os"].append(trades / append(at / "os", frames, "os"))
            rates["write"].append(trades / write(at / "plain", frames))
            rates["group"].append(len(some) * PER_FRAME / append(at / "group", some, "group", GROUP))
            rates["fdatasync"].append(len(some) * PER_FRAME / write(at / "synced", some, GROUP))
            rates["one"].append(len(single) / append(at / "one", single, "os"))
            seconds, size = read_back(at / "os")
            rates["read"].append(trades / seconds)
            report.check("bytes read back", size, whole)
            seconds, size = read_file(at / "plain")
            rates["read file"].append(trades / seconds)
            report.check("bytes of the plain file", size, whole)
    tell(report, rates)


def tell(report: Report, rates: dict[str, list[float]]) -> None:
    """Report rates, and ratios to plain files."""

    def add(name: str, key: str, target: float | None = None) -> None:
        report.add(name, "trades/s", rates[key], better=MORE, target=target)

    add(f"append, sync os, {PER_FRAME:,} a frame", "os", OS_RATE)
    add("write() of the same bytes", "write")
    report.add("append / write()", "x", ratios(rates["os"], rates["write"]), better=MORE)
    add("append, sync group, durable every 4,096 trades", "group", GROUP_RATE)
    add("write() and fdatasync() every 4,096 trades", "fdatasync")
    report.add("append durably / write() and fdatasync()", "x", ratios(rates["group"], rates["fdatasync"]), better=MORE)
    add("append, sync os, one trade a frame (a Python call each)", "one")
    add("open, check and read back", "read")
    add("read() of the same bytes", "read file")
