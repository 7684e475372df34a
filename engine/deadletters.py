"""The dead-letter store: what was refused or given up, kept with its original bytes in one SQLite file.

The same bytes refused for the same reason at the same stage are one dead letter with a count. They are found
by a hash and then compared, so a collision makes two letters and never one wrong count.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.errors import SinkError, UsageError
from engine.events import DeadLetter
from engine.letters import STATUSES, Batch, LetterFilter, Status, StoredLetter, event_identity, letter_key

__all__ = [
    "STATUSES",
    "Batch",
    "DeadLetterFileError",
    "DeadLetterStore",
    "LetterFilter",
    "StoredLetter",
    "event_identity",
    "export_letters",
    "hold_nothing",
    "list_letters",
    "purge_letters",
    "show_letter",
]

APPLICATION_ID = 0x5257444C  # "RWDL": tells our file from any other SQLite file
SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 10_000
INTEGER_MAX = 2**63 - 1  # SQLite's integers are signed
PAGE_LETTERS = 200

SCHEMA = """
CREATE TABLE dead_letters (
    id            INTEGER PRIMARY KEY,
    key           BLOB    NOT NULL,
    clash         INTEGER NOT NULL DEFAULT 0,   -- letters with this key and other bytes before this one
    reason        TEXT    NOT NULL,
    stage         TEXT    NOT NULL,
    error         TEXT    NOT NULL,
    payload       BLOB    NOT NULL,             -- the original bytes
    event         TEXT    NOT NULL,             -- the decoded event as JSON, empty where unknown
    source        TEXT    NOT NULL,             -- a file's name, a publisher's, or a queue's
    position      INTEGER NOT NULL,
    unit          TEXT    NOT NULL,             -- of position: line, record or byte
    seq           INTEGER NOT NULL,             -- 0: it never got one
    last_seq      INTEGER NOT NULL,             -- of the last refusal counted
    source_seq    INTEGER NOT NULL,
    account       TEXT    NOT NULL,
    symbol        TEXT    NOT NULL,
    trade_id      TEXT    NOT NULL,
    attempts      INTEGER NOT NULL,
    count         INTEGER NOT NULL,
    first_at      INTEGER NOT NULL,             -- ns since 1970 UTC
    last_at       INTEGER NOT NULL,
    history       TEXT    NOT NULL,             -- a JSON array: the attempts before this one
    traceback     TEXT    NOT NULL,
    status        TEXT    NOT NULL DEFAULT 'dead',
    first_failure INTEGER REFERENCES dead_letters(id) ON DELETE SET NULL,
    UNIQUE (key, clash)
) STRICT;
CREATE INDEX dead_letters_by_reason ON dead_letters (reason, id);
CREATE INDEX dead_letters_by_seq ON dead_letters (seq) WHERE seq > 0;
CREATE TABLE requeues (
    identity  TEXT    NOT NULL PRIMARY KEY,     -- of the event that was sent again
    letter_id INTEGER NOT NULL REFERENCES dead_letters(id) ON DELETE CASCADE,
    at        INTEGER NOT NULL
) STRICT;
CREATE TABLE senders (                          -- which batches are in: a batch sent twice counts once
    identity TEXT    NOT NULL PRIMARY KEY,
    batch_no INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
"""

COLUMNS = (
    "id, reason, stage, error, payload, event, source, position, unit, seq, source_seq, account, symbol,"
    " trade_id, attempts, count, first_at, last_at, history, traceback, status, first_failure"
)

INSERT = (
    "INSERT INTO dead_letters (key, clash, reason, stage, error, payload, event, source, position, unit, seq, last_seq,"
    " source_seq, account, symbol, trade_id, attempts, count, first_at, last_at, history, traceback, first_failure)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
SKIPPED = "skipped"  # the reason
KEYS_AT_ONCE = 500  # parameters of one statement (SQLite allows 999 everywhere)

_json = msgspec.json.Encoder(decimal_format="string")

Holds = Callable[[str, Sequence[int]], Iterable[int]]


class Purged(NamedTuple):
    """How many letters a purge has deleted, and how many it has kept because jobs may wait behind them."""

    purged: int
    kept: int


class DeadLetterFileError(SinkError, UsageError):
    """A path that cannot be used as a dead-letter file."""


class DeadLetterStore:
    """The SQLite file of dead letters (WAL, synchronous=FULL): one connection, used by one thread at a time.

    path: the file; made where it is missing unless read_only.
    read_only: open without ever writing; a missing file is an error.
    Raises DeadLetterFileError where the file cannot be used, with what to do in one line.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False, create: bool = True) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._unsettled = False
        if (read_only or not create) and not self.path.exists():
            raise DeadLetterFileError(f"{self.path}: no such file; name the dead-letter file of a replay or an engine")
        if self.path.is_dir():
            raise DeadLetterFileError(f"{self.path}: is a directory; name the dead-letter file in it")
        if not self.path.parent.is_dir():
            raise DeadLetterFileError(f"{self.path}: its folder does not exist; make {self.path.parent} first")
        self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        uri = self.path.absolute().as_uri()
        modes = ("?mode=ro", "?mode=ro&immutable=1") if self.read_only else ("?mode=rwc",)
        problem: sqlite3.Error | None = None
        for mode in modes:  # a WAL file in a folder that cannot be written opens only as immutable
            try:
                return self._open(uri + mode)
            except sqlite3.OperationalError as error:
                problem = error
            except sqlite3.DatabaseError as error:
                raise self._unusable(error) from None
        assert problem is not None
        raise self._unusable(problem) from None

    def _open(self, uri: str) -> sqlite3.Connection:
        timeout_s = BUSY_TIMEOUT_MS / 1000
        db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=timeout_s)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        application_id = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application_id != APPLICATION_ID and (tables or self.read_only):
            raise DeadLetterFileError(f"{self.path}: not a dead-letter file; name one that riskwire wrote")
        if version > SCHEMA_VERSION:
            raise DeadLetterFileError(
                f"{self.path}: schema version {version}, this riskwire knows up to {SCHEMA_VERSION};"
                " use the riskwire that wrote it, or a newer one"
            )
        if self.read_only:
            return
        self._unsettled = version == 0
        db.execute(f"PRAGMA synchronous = {'OFF' if self._unsettled else 'FULL'}")
        if not tables:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA foreign_keys = ON")
        if application_id != APPLICATION_ID:
            self._create(db)

    def _create(self, db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:  # nobody else was first
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")

    def _settle(self) -> None:
        """Have a file that nothing was stored in yet on the disk, whole, before something is.

        To make one waits for no disk: it did eleven times, and many a replay stores nothing. What says that it is
        settled, to whoever opens it next, is the schema's version; it is 0 until then.
        """
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # as it is: only what is written is synced
        if self._db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()[0]:
            raise sqlite3.OperationalError("another process is using it")
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._unsettled = False

    def _unusable(self, error: sqlite3.Error) -> DeadLetterFileError:
        text = str(error)
        if "not a database" in text:
            advice = "not a dead-letter file; name one that riskwire wrote"
        elif "readonly" in text or "unable to open" in text:
            advice = f"cannot be opened or written ({text}); check the rights of the file and its folder"
        elif "full" in text:
            advice = f"cannot be written ({text}); free some space"
        else:
            advice = f"cannot be used: {text}"
        return DeadLetterFileError(f"{self.path}: {advice}")

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it by the last one who closes."""
        self._db.close()

    def __enter__(self) -> DeadLetterStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def record(self, letters: Iterable[DeadLetter]) -> None:
        """Store letters in one transaction that is on the disk when this returns.

        Raises SinkError (nothing stored) where the file cannot be written.
        """
        self.record_batches([Batch(letters)])

    def record_batches(self, batches: Iterable[Batch]) -> None:
        """Store several senders' batches in one transaction; see `record`."""
        with self._transaction():
            for batch in batches:
                self._record_all(list(batch.letters))
                self._resolve(batch.resolved_stage, batch.resolved_seqs)
                if batch.sender:
                    self._db.execute(
                        "INSERT INTO senders VALUES (?, ?, ?) ON CONFLICT (identity)"
                        " DO UPDATE SET batch_no = excluded.batch_no, at = excluded.at",
                        (batch.sender, batch.batch_no, time.time_ns()),
                    )

    def _resolve(self, stage: str, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._db.execute(
                "UPDATE dead_letters SET status = 'resolved' WHERE seq = ? AND stage = ?",
                (_clamped(seq), stage),
            )

    def _transaction(self) -> _Transaction:
        if self._unsettled:
            try:
                self._settle()
            except sqlite3.Error as error:
                raise self._unusable(error) from None
        return _Transaction(self._db, self._unusable)

    def _record_all(self, letters: Sequence[DeadLetter]) -> None:
        """Store letters: those whose key is new in one go, the others one by one."""
        keys = [letter_key(letter.reason, letter.stage, letter.payload) for letter in letters]
        known = self._known_keys(keys)
        again: list[tuple[DeadLetter, bytes]] = []
        rows: list[tuple[Any, ...]] = []
        sent_again = bool(self._db.execute("SELECT EXISTS (SELECT 1 FROM requeues)").fetchone()[0])
        for letter, key in zip(letters, keys, strict=True):
            if key in known:
                again.append((letter, key))
            else:
                known.add(key)
                rows.append(self._row(letter, key, 0, sent_again))
        self._db.executemany(INSERT, rows)
        for letter, key in again:
            self._record(letter, key, sent_again)
        for letter in letters:
            if letter.reason == SKIPPED:
                self._mark_skipped(letter)

    def _mark_skipped(self, letter: DeadLetter) -> None:
        """Give the letters of a skipped job that status; the new one names the first."""
        place = (_clamped(letter.seq), letter.stage)
        self._db.execute("UPDATE dead_letters SET status = 'skipped' WHERE seq = ? AND stage = ?", place)
        self._db.execute(
            "UPDATE dead_letters SET first_failure = (SELECT min(id) FROM dead_letters WHERE seq = ?1 AND stage = ?2"
            " AND reason <> ?3) WHERE seq = ?1 AND stage = ?2 AND reason = ?3",
            (*place, SKIPPED),
        )

    def _known_keys(self, keys: Sequence[bytes]) -> set[bytes]:
        known: set[bytes] = set()
        for start in range(0, len(keys), KEYS_AT_ONCE):
            part = keys[start : start + KEYS_AT_ONCE]
            marks = ",".join("?" * len(part))
            known.update(
                row[0] for row in self._db.execute(f"SELECT key FROM dead_letters WHERE key IN ({marks})", part)
            )
        return known

    def _record(self, letter: DeadLetter, key: bytes, sent_again: bool) -> None:
        found = self._db.execute(
            "SELECT id, reason, stage, payload, last_seq, status FROM dead_letters WHERE key = ?", (key,)
        ).fetchall()
        for id_, reason, stage, payload, last_seq, status in found:
            if (reason, stage, payload) == (letter.reason, letter.stage, letter.payload):
                self._count_again(letter, id_, last_seq, status)
                return
        self._db.execute(INSERT, self._row(letter, key, len(found), sent_again))

    def _count_again(self, letter: DeadLetter, id_: int, last_seq: int, status: str) -> None:
        # What has a seq is refused once per seq: seeing it again is a restart reading the sequence, unless
        # somebody sent it again in between.
        if letter.seq and letter.seq <= last_seq and status != "requeued":
            return
        self._db.execute(
            "UPDATE dead_letters SET count = count + 1, last_at = max(last_at, ?),"
            " last_seq = max(last_seq, ?), attempts = ?, error = ?, history = ?, traceback = ?, status = 'dead'"
            " WHERE id = ?",
            (
                letter.at,
                _clamped(letter.seq),
                letter.attempts,
                _clean(letter.error),
                _json_text(letter.history),
                _clean(letter.traceback),
                id_,
            ),
        )

    def _row(self, letter: DeadLetter, key: bytes, clash: int, sent_again: bool) -> tuple[Any, ...]:
        """Return a new letter's row; sent_again: whether anything was, which it could be a failure of."""
        first_failure = None
        if sent_again and (identity := _requeue_identity(letter.stage, letter.event)):
            row = self._db.execute("SELECT letter_id FROM requeues WHERE identity = ?", (identity,)).fetchone()
            first_failure = row and row[0]
        seq = _clamped(letter.seq)
        return (
            key,
            clash,
            letter.reason,
            letter.stage,
            _clean(letter.error),
            letter.payload,
            _clean(letter.event),
            _clean(letter.source),
            _clamped(letter.position),
            letter.unit,
            seq,
            seq,
            _clamped(letter.source_seq),
            _clean(letter.account),
            _clean(letter.symbol),
            _clean(letter.trade_id),
            letter.attempts,
            1,
            letter.at,
            letter.at,
            _json_text(letter.history),
            _clean(letter.traceback),
            first_failure,
        )

    def mark(self, ids: Iterable[int], status: Status) -> int:
        """Give letters a status; return how many there were."""
        changed = 0
        with self._transaction():
            for id_ in ids:
                changed += self._db.execute("UPDATE dead_letters SET status = ? WHERE id = ?", (status, id_)).rowcount
        return changed

    def note_requeue(self, id_: int, event_json: str) -> None:
        """Remember that a letter's event is sent again: what is refused of it later is linked to the letter.

        event_json: the event as it is sent, which may differ from the letter's.
        """
        with self._transaction():
            first = self._db.execute("SELECT first_failure, stage FROM dead_letters WHERE id = ?", (id_,)).fetchone()
            if first and (identity := _requeue_identity(first[1], event_json)):
                self._db.execute(
                    "INSERT INTO requeues VALUES (?, ?, ?) ON CONFLICT (identity) DO UPDATE SET at = excluded.at",
                    (identity, first[0] or id_, time.time_ns()),
                )
            self._db.execute("UPDATE dead_letters SET status = 'requeued' WHERE id = ?", (id_,))

    def purge(self, which: LetterFilter, dry_run: bool = False, holds: Holds | None = None) -> Purged:
        """Delete letters for good, but those of jobs that others may wait behind (dry_run: only count).

        holds: see `purge_letters`; no letter comes while it is asked, so that it must not wait for the sink.
        """
        condition, values = which.where()
        if dry_run:
            kept, condition = self._without_held(condition, values, holds)
            return Purged(int(self._read(f"SELECT count(*) FROM dead_letters WHERE {condition}", values)[0][0]), kept)
        with self._transaction():
            kept, condition = self._without_held(condition, values, holds)
            deleted = self._db.execute(f"DELETE FROM dead_letters WHERE {condition}", values).rowcount
        self._db.execute("PRAGMA incremental_vacuum")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Purged(deleted, kept)

    def _without_held(self, condition: str, values: Iterable[Any], holds: Holds | None) -> tuple[int, str]:
        """Return how many letters are held of those a condition takes, and the condition without them."""
        held: list[int] = []
        for stage, ids in self._unsettled_jobs(condition, values).items():
            still = set(ids) if holds is None else set(holds(stage, list(ids)))
            held += [id_ for seq in still for id_ in ids.get(seq, ())]
        return len(held), condition + (f" AND id NOT IN ({','.join(map(str, held))})" if held else "")

    def _unsettled_jobs(self, condition: str, values: Iterable[Any]) -> dict[str, dict[int, list[int]]]:
        """Return by stage and seq the letters of queues' jobs that are dead or on their way again."""
        condition += " AND seq > 0 AND substr(stage, 1, 6) = 'queue:' AND status IN ('dead', 'requeued')"
        found: dict[str, dict[int, list[int]]] = {}
        for id_, stage, seq in self._read(f"SELECT id, stage, seq FROM dead_letters WHERE {condition}", values):
            found.setdefault(stage, {}).setdefault(seq, []).append(id_)
        return found

    def _read(self, sql: str, values: Iterable[Any] = ()) -> list[Any]:
        try:
            return self._db.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def list(self, which: LetterFilter | None = None, after: int = 0, limit: int = PAGE_LETTERS) -> list[StoredLetter]:
        """Return a page of letters by id: those above `after`, at most `limit`."""
        condition, values = (which or LetterFilter()).where()
        sql = f"SELECT {COLUMNS} FROM dead_letters WHERE {condition} AND id > ? ORDER BY id LIMIT ?"
        return [_stored(row) for row in self._read(sql, [*values, after, limit])]

    def iterate(self, which: LetterFilter | None = None) -> Iterator[StoredLetter]:
        """Yield all letters by id, a page at a time: memory does not grow with the store."""
        after = 0
        while page := self.list(which, after):
            yield from page
            after = page[-1].id

    def get(self, id_: int) -> StoredLetter | None:
        """Return one letter, or None."""
        rows = self._read(f"SELECT {COLUMNS} FROM dead_letters WHERE id = ?", (_clamped(id_),))
        return _stored(rows[0]) if rows else None

    def count(self, which: LetterFilter | None = None) -> int:
        """Return how many letters there are (one that was refused ten times is one)."""
        condition, values = (which or LetterFilter()).where()
        return int(self._read(f"SELECT count(*) FROM dead_letters WHERE {condition}", values)[0][0])

    def counts_by_reason(self, which: LetterFilter | None = None) -> dict[str, int]:
        """Return refusals by reason (one letter that was refused ten times is ten)."""
        condition, values = (which or LetterFilter()).where()
        sql = f"SELECT reason, sum(count) FROM dead_letters WHERE {condition} GROUP BY reason ORDER BY reason"
        return dict(self._read(sql, values))

    def batch_no_of(self, sender: str) -> int:
        """Return the last batch stored for a sender, 0 for one never seen."""
        rows = self._read("SELECT batch_no FROM senders WHERE identity = ?", (sender,))
        return int(rows[0][0]) if rows else 0

    def forget_senders(self, before_ns: int) -> None:
        """Forget senders that were last heard before a time (ns since 1970 UTC)."""
        if self._unsettled:
            return  # there are none
        with self._transaction():
            self._db.execute("DELETE FROM senders WHERE at < ?", (before_ns,))


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT; rolled back and told in one line where SQLite cannot write."""

    def __init__(self, db: sqlite3.Connection, unusable: Any) -> None:
        self._db = db
        self._unusable = unusable

    def __enter__(self) -> None:
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._unusable(error) from None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            if error is None:
                self._db.execute("COMMIT")
        except sqlite3.Error as problem:
            error = problem
        if error is not None:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._unusable(error) from None


def _requeue_identity(stage: str, event_json: str) -> str:
    """Return what a failure of something sent again is known by: a queue's is of that queue alone."""
    identity = event_identity(event_json)
    return f"{stage}\0{identity}" if identity and stage.startswith("queue:") else identity


def _clamped(number: int) -> int:
    return number if 0 <= number <= INTEGER_MAX else min(max(number, 0), INTEGER_MAX)


def _clean(text: str) -> str:
    """Return text that SQLite takes: lone surrogates (from file names that are not UTF-8) are escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _json_text(value: object) -> str:
    if value == []:
        return "[]"
    try:
        return _json.encode(value).decode()
    except (
        TypeError,
        ValueError,
    ):  # lone surrogates, or a type that JSON lacks: better a picture than nothing
        return _json.encode([_clean(repr(value))]).decode()


def _stored(row: tuple[Any, ...]) -> StoredLetter:
    (id_, reason, stage, error, payload, event, *rest) = row
    (source, position, unit, seq, source_seq, account, symbol, trade_id) = rest[:8]
    (attempts, count, first_at, last_at, history, traceback, status, first_failure) = rest[8:]
    return StoredLetter(
        id=id_,
        reason=reason,
        stage=stage,
        error=error,
        payload=payload,
        event=event,
        source=source,
        position=position,
        unit=unit,
        seq=seq,
        source_seq=source_seq,
        account=account,
        symbol=symbol,
        trade_id=trade_id,
        attempts=attempts,
        count=count,
        first_at=first_at,
        last_at=last_at,
        history=msgspec.json.decode(history),
        traceback=traceback,
        status=status,
        first_failure=first_failure,
    )


def export_letters(store: DeadLetterStore, which: LetterFilter, write: Any) -> int:
    """Write letters as JSON Lines through `write(bytes)`; return how many."""
    count = 0
    for letter in store.iterate(which):
        write(_json.encode(letter.to_json()) + b"\n")
        count += 1
    return count


def list_letters(path: str | Path, which: LetterFilter, after: int = 0, limit: int = PAGE_LETTERS) -> dict[str, Any]:
    """Return a page of a file's letters as plain JSON values: what the control verb `dlq_list` answers."""
    with DeadLetterStore(path, read_only=True) as store:
        page = store.list(which, after, limit)
        return {
            "letters": [letter.to_json() for letter in page],
            "total": store.count(which),
            "counts": store.counts_by_reason(which),
            "next": page[-1].id if len(page) == limit else None,
        }


def show_letter(path: str | Path, id_: int) -> dict[str, Any] | None:
    """Return one letter as plain JSON values, or None: what the control verb `dlq_show` answers."""
    with DeadLetterStore(path, read_only=True) as store:
        letter = store.get(id_)
        return None if letter is None else letter.to_json()


def purge_letters(
    path: str | Path, which: LetterFilter, dry_run: bool = False, holds: Holds | None = None
) -> dict[str, Any]:
    """Delete a file's letters: what the control verb `dlq_purge` answers.

    A letter that others of an ordered queue may wait behind is kept, or nobody could send its job again or skip it.
    holds: which seqs of a stage that is so for. None: nobody can be asked, so every letter of a queue's job that is
    neither resolved nor skipped is kept.
    """
    with DeadLetterStore(path, read_only=dry_run, create=False) as store:
        purged, kept = store.purge(which, dry_run, holds)
        return {"purged": purged, "kept": kept, "dry_run": dry_run}


def hold_nothing(stage: str, seqs: Sequence[int]) -> Sequence[int]:
    """Say that nothing waits behind any letter: what `purge --force` believes."""
    return ()
