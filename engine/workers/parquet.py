"""A blotter's days as Parquet files, `DIR/2024-05-01.parquet`: each written whole, and again when it has changed."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from engine.errors import UsageError
from engine.files import sync
from engine.workers.blotter import COLUMNS, open_blotter

__all__ = ["ParquetWriter", "load_pyarrow", "write_days"]

log = logging.getLogger("riskwire.blotter")

ROWS_AT_ONCE = 50_000
DECIMALS = {"price", "volume", "fee"}
INTEGERS = {"seq", "changed_by", "changes"}
REST_FACTOR = 10  # between two passes at least so many times as long as one takes


def load_pyarrow() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet; raises UsageError that says how to install them."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow, which is not installed; run `pip install 'riskwire[parquet]'`"
        ) from None


def write_days(db_path: str | Path, folder: str | Path) -> list[str]:
    """Write the days that have changed since they were last written there, or are not there; return which.

    A day's file appears whole: whoever reads it meanwhile keeps the old one. Only one process at a time does this: a
    second one returns at once.
    """
    load_pyarrow()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _turn(folder) as mine:
        if not mine or not Path(db_path).is_file():
            return []
        db = open_blotter(db_path)
        try:
            days = db.execute("SELECT day, changes, written FROM days ORDER BY day").fetchall()
            behind = [
                day for day, changes, written in days if changes != written or not (folder / f"{day}.parquet").exists()
            ]
            for day in behind:
                _write_day(db, day, folder)
            return behind
        finally:
            db.close()


@contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(lock)


def _write_day(db: sqlite3.Connection, day: str, folder: Path) -> None:
    _, pq = load_pyarrow()
    schema = _schema()
    part = folder / f".{day}.parquet.part"
    db.execute("BEGIN")  # the rows and the count of changes are of one moment
    try:
        (changes,) = db.execute("SELECT changes FROM days WHERE day = ?", (day,)).fetchone()
        rows = db.execute(f"SELECT {COLUMNS} FROM trades WHERE day = ? ORDER BY seq", (day,))
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            while page := rows.fetchmany(ROWS_AT_ONCE):
                writer.write_table(_table(page, schema))
    finally:
        db.execute("ROLLBACK")
    sync(part)
    os.replace(part, folder / f"{day}.parquet")
    db.execute("UPDATE days SET written = ? WHERE day = ?", (changes, day))


def _schema() -> Any:
    pa, _ = load_pyarrow()

    def type_of(name: str) -> Any:
        if name in DECIMALS:
            return pa.decimal128(38, 18)
        if name in INTEGERS:
            return pa.int64()
        if name == "executed_at":
            return pa.timestamp("ns", "UTC")
        return pa.dictionary(pa.int32(), pa.string()) if name not in ("trade_id", "ref_trade_id") else pa.string()

    return pa.schema([(name, type_of(name)) for name in COLUMNS.replace(" ", "").split(",")])


def _table(page: list[tuple[Any, ...]], schema: Any) -> Any:
    pa, _ = load_pyarrow()
    columns = []
    for field, values in zip(schema, zip(*page, strict=True), strict=True):
        column = [Decimal(value) for value in values] if field.name in DECIMALS else list(values)
        columns.append(pa.array(column, field.type))
    return pa.table(columns, schema=schema)


class ParquetWriter:
    """Writes a blotter's days beside its worker, in a thread of its own, every so often and once more at the end.

    db_path: the blotter. folder: of the Parquet files. every_s: how often to look for days that have changed.
    """

    def __init__(self, db_path: str | Path, folder: str | Path, every_s: float = 60.0) -> None:
        load_pyarrow()
        self.error = ""  # what kept the last pass from being written
        self._db_path, self._folder, self._every_s = Path(db_path), Path(folder), every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="parquet", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Write what has changed once more, and end."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = self._every_s
        while not self._stopping.wait(wait_s):
            wait_s = max(self._every_s, REST_FACTOR * self._write())
        self._write()

    def _write(self) -> float:
        """Make one pass; return how long it took (s)."""
        began = time.monotonic()
        try:
            write_days(self._db_path, self._folder)
            self.error = ""
        except (OSError, sqlite3.Error, UsageError) as problem:  # tried again: the blotter has everything
            if str(problem) != self.error:
                log.warning("%s: Parquet cannot be written: %s", self._folder, problem)
            self.error = str(problem)
        return time.monotonic() - began
