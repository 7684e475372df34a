"""The `processed` table of the worker kit: an effect written in the same SQLite transaction happens once.

What a handler writes here is on the disk before its job is acked, inside `once` and outside of it: a job that a power
cut leaves acked has its effect. An ack may be lost with the power; the job then comes again, and `once` knows it.

SQLite would wait for the disk with the write lock held (synchronous = FULL). Here it does not (NORMAL), and the kit
waits for the log itself, while others write and the next jobs are handled (`SyncThread`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue as queues
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from engine.errors import SinkError, WorkerUnfit
from engine.jobframes import HASH_BYTES

BUSY_TIMEOUT_S = 30.0
CHECKPOINT_PAGES = 8_000  # 32 MB: each checkpoint waits for the disk twice more
TABLES = """
CREATE TABLE IF NOT EXISTS riskwire_queues (
    queue_no INTEGER PRIMARY KEY,
    queue    TEXT    NOT NULL UNIQUE
) STRICT;
CREATE TABLE IF NOT EXISTS riskwire_runs (   -- of jobs that took effect and follow each other: no two overlap
    job    INTEGER PRIMARY KEY,   -- the first: queue_no * 2^48 + seq
    events BLOB    NOT NULL       -- a hash of each one's event: another journal gives the same seq to another event
) STRICT
"""
OLD_TABLE = "riskwire_processed"  # a row for each job, with another hash
OVERLAPPING = """
SELECT job, events FROM riskwire_runs
WHERE job BETWEEN coalesce((SELECT max(job) FROM riskwire_runs WHERE job <= ?1), ?1) AND ?2 ORDER BY job
"""
QUEUE_SHIFT = 48
# SQLite's primary codes for a file or disk that is at fault, and not the job: read-only, I/O, corrupt, full, not there.
FILE_AT_FAULT = {8, 10, 11, 13, 14, 26}


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
        self._numbering = threading.Lock()
        self._written = 0  # numbers what was found to be written
        self._synced = 0  # of it, the last that is on the disk
        self._wal = -1  # SQLite's log, which is there as long as a connection is open
        self._failed = ""  # a sync that has failed once says nothing when it is repeated

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
    def once(self, queue: str, seqs: Sequence[int], hashes: bytes) -> Iterator[tuple[sqlite3.Connection, list[int]]]:
        """Open a transaction for the effects of jobs: gives the connection, and the places of those that took none yet.

        hashes: HASH_BYTES of each job's event. The transaction is committed at the end of the block, and on the disk
        with the next `sync`; an exception rolls it back. Others wait for the block: keep it short, and do not `await`
        in it.
        """
        mine = self._mine()
        mine.settled_changes = -1  # what was there before may be of somebody who was killed before it was on the disk
        db = mine.db
        try:
            # SQLite's own waiting sleeps and can starve a worker beside busy ones; a file lock wakes who is next.
            fcntl.flock(mine.turn, fcntl.LOCK_EX)
            db.execute("BEGIN IMMEDIATE")
            yield db, _note_fresh(db, self._number_of(db, queue) << QUEUE_SHIFT, seqs, hashes)
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

    def settle(self) -> bool:
        """Tell whether something that this thread has written, or found written, needs a `sync` to be on the disk.

        Raises SinkError where the handler has left a transaction open, which is rolled back.
        """
        mine: _Connection | None = getattr(self._local, "mine", None)
        if mine is None:
            return False
        if mine.db.in_transaction:
            self.rollback()
            raise SinkError(
                f"{self.path}: the handler has left a transaction open, which was rolled back; commit it, or write"
                " inside context.once()"
            )
        if mine.db.total_changes != mine.settled_changes:
            mine.settled_changes = mine.db.total_changes
            with self._numbering:
                mine.written = self._written = self._written + 1
        return mine.written > self._synced

    def sync(self) -> None:
        """Wait until all that was committed is on the disk. Raises ProcessedFileError where it cannot be."""
        written = self._written
        try:
            if self._wal < 0:
                self._wal = os.open(self._open[0].wal_path, os.O_RDWR | os.O_CLOEXEC)
            if not self._failed:
                _sync_file(self._wal)
        except OSError as problem:
            self._failed = problem.strerror or str(problem)
        if self._failed:
            raise ProcessedFileError(
                f"{self.path}: what was written may not be on the disk ({self._failed}); mend that and start again"
            )
        self._synced = written

    def close(self) -> None:
        """Close all connections and files."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        if self._wal >= 0:
            os.close(self._wal)
            self._wal = -1


class SyncThread:
    """Waits for the disk beside the handlers: one wait for all that was handed in since the last one began.

    sync: waits, or raises. settled: called with each thing that was handed in, and with what `sync` raised of it.
    """

    def __init__(self, sync: Callable[[], None], settled: Callable[[Any, Exception | None], None]) -> None:
        self._sync = sync
        self._settled = settled
        self._inbox: queues.SimpleQueue[Any] = queues.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def add(self, item: Any) -> None:
        """Have something settled with the next sync that begins."""
        self._inbox.put(item)
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="worker-sync", daemon=True)
                    self._thread.start()

    def close(self) -> None:
        """Settle what is there, and end."""
        if self._thread is not None:
            self._inbox.put(None)
            self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            items = [self._inbox.get()]
            with contextlib.suppress(queues.Empty):
                while True:
                    items.append(self._inbox.get_nowait())
            ending = None in items
            self._settle([item for item in items if item is not None])

    def _settle(self, items: list[Any]) -> None:
        problem = None
        try:
            if items:
                self._sync()
        except Exception as found:
            problem = found
        for item in items:
            self._settled(item, problem)


class _Connection:
    """One thread's connection, and its place in the line of writers."""

    def __init__(self, path: Path) -> None:
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            self.turn = os.open(f"{path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                # Two that make the file at once would find it locked: SQLite waits for nobody who waits for it.
                fcntl.flock(self.turn, fcntl.LOCK_EX)
                self._set_up(path)
            finally:
                fcntl.flock(self.turn, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as problem:
            raise ProcessedFileError(
                f"{path}: cannot be used for the processed table: {problem}; name a file that can be written"
            ) from None
        self.settled_changes = self.db.total_changes
        self.written = 0

    def _set_up(self, path: Path) -> None:
        db = self.db
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (OLD_TABLE,)).fetchone():
            raise ProcessedFileError(
                f"{path}: its table {OLD_TABLE} is of a version before 0.1 and cannot be read; let that version's"
                " workers finish their jobs and drop the table, or name another file"
            )
        for statement in TABLES.split(";"):
            db.execute(statement)
        self.wal_path = db.execute("PRAGMA database_list").fetchone()[2] + "-wal"

    def close(self) -> None:
        """Close connection and file."""
        self.db.close()
        os.close(self.turn)


def _sync_file(fd: int) -> None:
    if (full_sync := getattr(fcntl, "F_FULLFSYNC", None)) is not None:  # macOS: fsync stops at the drive's cache
        fcntl.fcntl(fd, full_sync)
    else:
        os.fdatasync(fd)


class _Run(NamedTuple):
    """Jobs that follow each other, from `first` on, each with its event's hash."""

    first: int
    hashes: bytes

    @property
    def end(self) -> int:
        return self.first + len(self.hashes) // HASH_BYTES

    def part(self, start: int, stop: int) -> bytes:
        """Return the hashes of the jobs from `start` up to `stop`."""
        return self.hashes[HASH_BYTES * (start - self.first) : HASH_BYTES * (stop - self.first)]


def _note_fresh(db: sqlite3.Connection, base: int, seqs: Sequence[int], hashes: bytes) -> list[int]:
    """Note jobs as processed; return the places, ascending, of those that were not. Part of a transaction."""
    count = len(seqs)
    if list(seqs) == list(range(seqs[0], seqs[0] + count)):  # the common case
        return _note_run(db, _Run(base + seqs[0], hashes))
    order = sorted(range(count), key=seqs.__getitem__)
    ends = [i for i in range(1, count) if seqs[order[i]] != seqs[order[i - 1]] + 1]
    fresh: list[int] = []
    for start, end in zip([0, *ends], [*ends, count], strict=True):
        places = order[start:end]
        run = b"".join([hashes[HASH_BYTES * i : HASH_BYTES * (i + 1)] for i in places])
        fresh += [places[i] for i in _note_run(db, _Run(base + seqs[places[0]], run))]
    return sorted(fresh)


def _note_run(db: sqlite3.Connection, run: _Run) -> list[int]:
    """Note jobs that follow each other, as `_note_fresh`."""
    fresh: list[int] = []
    at = run.first  # what comes before is noted
    for known in map(_Run._make, db.execute(OVERLAPPING, (run.first, run.end - 1)).fetchall()):
        start, stop = max(known.first, run.first), min(known.end, run.end)
        if start < stop:
            fresh += _insert(db, run, at, start)
            fresh += _overwrite(db, run, known, start, stop)
            at = stop
    return [job - run.first for job in [*fresh, *_insert(db, run, at, run.end)]]


def _insert(db: sqlite3.Connection, run: _Run, start: int, stop: int) -> range:
    """Note the jobs from `start` up to `stop`, of which none is there; return them."""
    if start < stop:
        db.execute("INSERT INTO riskwire_runs VALUES (?, ?)", (start, run.part(start, stop)))
    return range(start, stop)


def _overwrite(db: sqlite3.Connection, run: _Run, known: _Run, start: int, stop: int) -> list[int]:
    """Note the jobs from `start` up to `stop`, which are there; return those that were noted with other events."""
    if run.part(start, stop) == known.part(start, stop):
        return []
    whole = known.part(known.first, start) + run.part(start, stop) + known.part(stop, known.end)
    db.execute("UPDATE riskwire_runs SET events = ? WHERE job = ?", (whole, known.first))
    return [job for job in range(start, stop) if run.part(job, job + 1) != known.part(job, job + 1)]
