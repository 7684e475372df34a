"""The `processed` table of the worker kit: an effect written in the same SQLite transaction happens once."""

from __future__ import annotations

import hashlib
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
        self._open: list[sqlite3.Connection] = []

    @property
    def db(self) -> sqlite3.Connection:
        """Return this thread's connection (autocommit; WAL, synchronous=FULL), for reading and for making tables."""
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = self._local.db = self._connect()
            self._open.append(db)
        return db

    def _connect(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute(TABLE)
        except sqlite3.Error as problem:
            raise SinkError(f"{self.path}: cannot be used for the processed table: {problem}") from None
        return db

    @contextmanager
    def once(self, queue: str, seq: int, event: Event) -> Iterator[sqlite3.Connection | None]:
        """Open a transaction for a job's effect: gives the connection, or None where it took effect before.

        The transaction is committed at the end of the block and rolled back by an exception.
        """
        db = self.db
        key = (queue, seq, hashlib.blake2b(_encode(event), digest_size=16).digest())
        db.execute("BEGIN IMMEDIATE")
        try:
            fresh = db.execute("INSERT OR IGNORE INTO riskwire_processed VALUES (?, ?, ?)", key).rowcount
            yield db if fresh else None
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close all connections."""
        for db in self._open:
            db.close()
        self._open.clear()
