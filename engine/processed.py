"""The `processed` table of the worker kit: an effect written in the same SQLite transaction happens once.

What a handler writes here is on the disk before its job is acked, inside `once` and outside of it: a job that a power
cut leaves acked has its effect. An ack may be lost with the power; the job then comes again, and `once` knows it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.errors import SinkError, WorkerUnfit
from engine.events import Event

BUSY_TIMEOUT_S = 30.0
CHECKPOINT_PAGES = 8_000  # 32 MB: each checkpoint waits for the disk twice more
SPARSE = 4  # look up one by one where the jobs' seqs span that many times their number
TABLES = """
CREATE TABLE IF NOT EXISTS riskwire_queues (
    queue_no INTEGER PRIMARY KEY,
    queue    TEXT    NOT NULL UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS riskwire_processed (
    job   INTEGER PRIMARY KEY,    -- queue_no * 2^48 + seq
    event INTEGER NOT NULL        -- a hash of it: another journal gives the same seq to another event
) STRICT
"""
QUEUE_SHIFT = 48
# SQLite's primary codes for a file or disk that is at fault, and not the job: read-only, I/O, corrupt, full, not there.
FILE_AT_FAULT = {8, 10, 11, 13, 14, 26}

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


class ProcessedFileError(SinkError, WorkerUnfit):
    """The file of the processed table cannot be opened, written or brought to the disk."""


class Processed:
    """Which jobs took effect, kept in the SQLite file that the effects go to. One connection per thread.

    path: the file, shared by all workers of a queue; made at the first use.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()  # a handler may change the folder
        self._local = threading.local()
        self._open: list[_Connection] = []
        self._numbers: dict[str, int] = {}  # of queues, as far as known to be in the file

    @property
    def db(self) -> sqlite3.Connection:
        """Return this thread's connection (autocommit, WAL), for reading and for making tables.

        What is written outside `once` is on the disk before the job is acked too, but may happen twice.
        """
        return self._mine().db

    def check(self) -> None:
        """Open the file once, making it where it is missing; raises ProcessedFileError where that cannot be done."""
        _Connection(self.path).close()

    def _mine(self) -> _Connection:
        mine: _Connection | None = getattr(self._local, "mine", None)
        if mine is None:
            mine = self._local.mine = _Connection(self.path)
            self._open.append(mine)
        return mine

    @contextmanager
    def once(self, queue: str, seq: int, event: Event) -> Iterator[sqlite3.Connection | None]:
        """Open a transaction for a job's effect: gives the connection, or None where it took effect before.

        The transaction is committed, and on the disk, at the end of the block; an exception rolls it back. Others wait
        for the block, but not for the disk: keep it short, and do not `await` in it.
        """
        with self.once_each(queue, [seq], [event]) as (db, fresh):
            yield db if fresh else None

    @contextmanager
    def once_each(
        self, queue: str, seqs: Sequence[int], events: Sequence[Event]
    ) -> Iterator[tuple[sqlite3.Connection, list[int]]]:
        """Open a transaction for the effects of several jobs: gives the places of those that took none before.

        Otherwise as `once`.
        """
        mine = self._mine()
        db = mine.db
        hashes = [_hash_of(event) for event in events]
        try:
            # SQLite's own waiting sleeps and can starve a worker beside busy ones; a file lock wakes who is next.
            fcntl.flock(mine.turn, fcntl.LOCK_EX)
            db.execute("BEGIN IMMEDIATE")
            base = self._number_of(db, queue) << QUEUE_SHIFT
            keys = [(base + seq, event) for seq, event in zip(seqs, hashes, strict=True)]
            yield db, _note_fresh(db, keys)
            db.execute("COMMIT")
            if (number := getattr(self._local, "number", None)) is not None:
                self._numbers[number[0]] = number[1]
        except sqlite3.Error as problem:
            if problem.sqlite_errorcode & 0xFF in FILE_AT_FAULT:
                raise ProcessedFileError(
                    f"{self.path}: cannot be written: {problem}; mend that, start again"
                ) from problem
            raise
        finally:
            self._local.number = None
            self.rollback()
        mine.sync()

    def _number_of(self, db: sqlite3.Connection, queue: str) -> int:
        """Return a queue's number in this file. Part of a transaction."""
        number = self._numbers.get(queue)
        if number is None:
            db.execute("INSERT OR IGNORE INTO riskwire_queues (queue) VALUES (?)", (queue,))
            (number,) = db.execute("SELECT queue_no FROM riskwire_queues WHERE queue = ?", (queue,)).fetchone()
            self._local.number = (queue, int(number))  # believed once the transaction is kept
        return int(number)

    def rollback(self) -> None:
        """End what this thread has left open: a handler that was cut may not hold others up."""
        mine: _Connection | None = getattr(self._local, "mine", None)
        if mine is not None:
            if mine.db.in_transaction:
                mine.db.execute("ROLLBACK")
            fcntl.flock(mine.turn, fcntl.LOCK_UN)

    def settle(self) -> None:
        """Wait until what this thread has written outside `once` is on the disk; the kit does so after each handler.

        Raises ProcessedFileError where it cannot be, SinkError where the handler has left a transaction open, which is
        rolled back.
        """
        mine: _Connection | None = getattr(self._local, "mine", None)
        if mine is None:
            return
        if mine.db.in_transaction:
            self.rollback()
            raise SinkError(
                f"{self.path}: the handler has left a transaction open, which was rolled back; commit it, or write"
                " inside context.once()"
            )
        if mine.db.total_changes != mine.synced_changes:
            mine.sync()

    def close(self) -> None:
        """Close all connections."""
        for connection in self._open:
            connection.close()
        self._open.clear()


class _Connection:
    """One thread's connection, its place in the line of writers, and the log that is synced after a commit.

    SQLite would wait for the disk with the write lock held (synchronous = FULL). Here it does not (NORMAL), and who has
    committed lets the next one write while it waits for the disk itself: no effect is acked before it is there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wal = -1
        self._failed = ""  # a sync that has failed once says nothing when it is repeated
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            for statement in TABLES.split(";"):
                self.db.execute(statement)
            self._wal_path = self.db.execute("PRAGMA database_list").fetchone()[2] + "-wal"
            self.synced_changes = self.db.total_changes
            self.turn = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (sqlite3.Error, OSError) as problem:
            raise ProcessedFileError(
                f"{path}: cannot be used for the processed table: {problem}; name a file that can be written"
            ) from None

    def sync(self) -> None:
        """Wait until everything committed is on the disk. Raises ProcessedFileError where it cannot be."""
        changes = self.db.total_changes
        try:
            if self._wal < 0:  # there as long as a connection is open
                self._wal = os.open(self._wal_path, os.O_RDWR | os.O_CLOEXEC)
            if not self._failed:
                _sync_file(self._wal)
        except OSError as problem:
            self._failed = problem.strerror or str(problem)
        if self._failed:
            raise ProcessedFileError(
                f"{self._path}: what was written may not be on the disk ({self._failed}); mend that and start again"
            )
        self.synced_changes = changes

    def close(self) -> None:
        """Close connection and files."""
        self.db.close()
        for fd in (self.turn, self._wal):
            if fd >= 0:
                os.close(fd)


def _sync_file(fd: int) -> None:
    if (full_sync := getattr(fcntl, "F_FULLFSYNC", None)) is not None:  # macOS: fsync stops at the drive's cache
        fcntl.fcntl(fd, full_sync)
    else:
        os.fdatasync(fd)


def _hash_of(event: Event) -> int:
    return int.from_bytes(hashlib.blake2b(_encode(event), digest_size=8).digest(), "little", signed=True)


def _note_fresh(db: sqlite3.Connection, keys: Sequence[tuple[int, int]]) -> list[int]:
    """Note jobs (job, hash) as processed; return the places of those that were not."""
    first, last = min(keys)[0], max(keys)[0]
    if last - first > SPARSE * len(keys):
        found = (db.execute("SELECT job, event FROM riskwire_processed WHERE job = ?", key[:1]) for key in keys)
        known = {row for rows in found for row in rows}
    else:
        known = set(db.execute("SELECT job, event FROM riskwire_processed WHERE job BETWEEN ? AND ?", (first, last)))
    fresh = [i for i, key in enumerate(keys) if key not in known] if known else list(range(len(keys)))
    db.executemany("INSERT OR REPLACE INTO riskwire_processed VALUES (?, ?)", [keys[i] for i in fresh])
    return fresh
