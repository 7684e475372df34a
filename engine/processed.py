"""The `processed` table of the worker kit: an effect written in the same SQLite transaction happens once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from engine.errors import SinkError
from engine.events import Event

BUSY_TIMEOUT_S = 30.0
TABLE = """
CREATE TABLE IF NOT EXISTS riskwire_processed (
    queue TEXT    NOT NULL,
    seq   INTEGER NOT NULL,
    event BLOB    NOT NULL,     -- a hash of it: another journal gives the same seq to another event
    PRIMARY KEY (queue, seq, event)
) WITHOUT ROWID
"""

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode


class Processed:
    """Which jobs took effect, kept in the SQLite file that the effects go to. One connection per thread.

    path: the file, shared by all workers of a queue; made at the first use.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self._open: list[tuple[sqlite3.Connection, int]] = []

    @property
    def db(self) -> sqlite3.Connection:
        """Return this thread's connection (autocommit; WAL, synchronous=FULL), for reading and for making tables."""
        return self._mine()[0]

    def _mine(self) -> tuple[sqlite3.Connection, int]:
        mine: tuple[sqlite3.Connection, int] | None = getattr(self._local, "mine", None)
        if mine is None:
            mine = self._local.mine = self._connect()
            self._open.append(mine)
        return mine

    def _connect(self) -> tuple[sqlite3.Connection, int]:
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(TABLE)
            turn = os.open(f"{self.path}-turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (sqlite3.Error, OSError) as problem:
            raise SinkError(f"{self.path}: cannot be used for the processed table: {problem}") from None
        return db, turn

    @contextmanager
    def once(self, queue: str, seq: int, event: Event) -> Iterator[sqlite3.Connection | None]:
        """Open a transaction for a job's effect: gives the connection, or None where it took effect before.

        The transaction is committed at the end of the block and rolled back by an exception. Others wait for it: keep
        the block short, and do not `await` in it.
        """
        db, turn = self._mine()
        key = (queue, seq, hashlib.blake2b(_encode(event), digest_size=16).digest())
        try:
            # SQLite's own waiting sleeps and can starve a worker beside busy ones; a file lock wakes who is next.
            fcntl.flock(turn, fcntl.LOCK_EX)
            db.execute("BEGIN IMMEDIATE")
            fresh = db.execute("INSERT OR IGNORE INTO riskwire_processed VALUES (?, ?, ?)", key).rowcount
            yield db if fresh else None
            db.execute("COMMIT")
        finally:
            self.rollback()

    def rollback(self) -> None:
        """End what this thread has left open: a handler that was cut may not hold others up."""
        mine: tuple[sqlite3.Connection, int] | None = getattr(self._local, "mine", None)
        if mine is not None:
            db, turn = mine
            if db.in_transaction:
                db.execute("ROLLBACK")
            fcntl.flock(turn, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close all connections."""
        for db, turn in self._open:
            db.close()
            os.close(turn)
        self._open.clear()
