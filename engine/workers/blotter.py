"""The blotter: every trade once in a SQLite file for look-ups, busts and corrections marked, and in Parquet by day.

`handle` is its handler: `riskwire worker --queue blotter --handler engine.workers.blotter:handle --batch 1000`, with
`--processed blotter.db` for the file; `riskwire blotter run` is that with Parquet. Jobs may come in any order.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.checks import plain_text
from engine.errors import UsageError, WorkerUnfit
from engine.events import Event, TradeExecuted
from engine.files import sync
from engine.jobcontext import BatchContext
from engine.jobframes import JobDecoder
from engine.journal import read_frames, read_journal
from engine.workers.chains import LIVE, REFUSED, Link, Mark, marks_of
from ext.definitions import glob_matches
from ext.records import NAME_KIND_NAMES, REASONS, Frame
from ext.risk import RiskCore

__all__ = ["COLUMNS", "Blotter", "handle", "open_blotter", "rebuild", "record"]

COLUMNS = (
    "seq, trade_id, symbol, price, volume, side, executed_at, account, venue, strategy, fee, exec_type, ref_trade_id,"
    " day, status, changed_by, changes"
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS trades (
    seq          INTEGER PRIMARY KEY,
    trade_id     TEXT    NOT NULL,
    symbol       TEXT    NOT NULL,
    price        TEXT    NOT NULL,    -- decimals as text, exactly
    volume       TEXT    NOT NULL,
    side         TEXT    NOT NULL,
    executed_at  INTEGER NOT NULL,    -- ns since 1970 UTC
    account      TEXT    NOT NULL,
    venue        TEXT    NOT NULL,
    strategy     TEXT    NOT NULL,
    fee          TEXT    NOT NULL,
    exec_type    TEXT    NOT NULL,    -- new, correct or bust
    ref_trade_id TEXT    NOT NULL,    -- what a correct or bust names
    day          TEXT    NOT NULL,    -- of executed_at, UTC
    status       TEXT    NOT NULL,    -- live, corrected, busted, of a bust bust, or why the sequence refused it
    changed_by   INTEGER,             -- the seq that corrected or busted it
    changes      INTEGER              -- the seq that it corrected or busted
) STRICT;
CREATE INDEX IF NOT EXISTS trades_by_id ON trades (trade_id, account, symbol, venue);
CREATE INDEX IF NOT EXISTS trades_by_ref ON trades (ref_trade_id, account, symbol, venue) WHERE ref_trade_id <> '';
CREATE INDEX IF NOT EXISTS trades_by_day ON trades (day, seq);
CREATE INDEX IF NOT EXISTS trades_by_account ON trades (account, symbol, seq);
CREATE TABLE IF NOT EXISTS days (     -- which days' Parquet files are behind
    day     TEXT    PRIMARY KEY,
    changes INTEGER NOT NULL,         -- how often it has changed
    written INTEGER NOT NULL DEFAULT 0
) STRICT;
"""
INSERT = f"INSERT OR IGNORE INTO trades ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
CHAIN = (
    "SELECT seq, trade_id, side, exec_type, ref_trade_id,"
    f" CASE WHEN status IN {REFUSED} THEN status ELSE '' END FROM trades"
    " WHERE venue = ? AND account = ? AND symbol = ? AND {} = ?"
)
TOUCH = "INSERT INTO days (day, changes) VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET changes = changes + 1"
DAY_NS = 86_400 * 10**9
NO_REFUSALS: Mapping[int, str] = {}
_days: dict[int, str] = {}

Chain = tuple[str, str, str]  # venue, account, symbol


class Blotter:
    """The handler: books events, one at a time or (with --batch) several, into the file of `context.processed`."""

    def __init__(self) -> None:
        self._lock = -1

    def __call__(self, events: Event | Sequence[Event], context: BatchContext) -> None:
        """Book trades; other events are nothing to a blotter."""
        if self._lock < 0:
            self._lock = take_lock(context.processed.path)
        with context.once() as db:
            if db is not None:
                prepare(db)
                trades = [(seq, event) for seq, event in context.fresh if isinstance(event, TradeExecuted)]
                record(db, trades, context.refusals)

    def close(self) -> None:
        """Let the blotter be made again."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


handle = Blotter()


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables where they are missing; also inside a transaction."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'days'").fetchone():
        for statement in SCHEMA.split(";"):
            db.execute(statement)


def record(
    db: sqlite3.Connection, trades: Sequence[tuple[int, TradeExecuted]], refusals: Mapping[int, str] = NO_REFUSALS
) -> None:
    """Write trades that are not there yet, and mark what busts and corrections change. Part of a transaction.

    refusals: why the sequence refused some of them, by seq: those are kept with that status and change nothing.
    Raises WorkerUnfit where a seq is another trade's: the file belongs to another journal.
    """
    rows = [_row(seq, trade, refusals.get(seq, LIVE)) for seq, trade in trades]
    before = db.total_changes
    db.executemany(INSERT, rows)
    if db.total_changes - before < len(rows):
        _check_same(db, rows)
    days = {row[13] for row in rows}
    for chain, ids in _chains(db, trades).items():
        days |= _mark_chain(db, chain, ids)
    db.executemany(TOUCH, [(day,) for day in sorted(days)])


def _row(seq: int, trade: TradeExecuted, status: str) -> tuple[Any, ...]:
    return (
        seq,
        trade.trade_id,
        trade.symbol,
        plain_text(trade.price),
        plain_text(trade.volume),
        trade.side,
        trade.executed_at,
        trade.account,
        trade.venue,
        trade.strategy,
        plain_text(trade.fee),
        trade.exec_type,
        trade.ref_trade_id,
        day_of(trade.executed_at),
        status,
        None,
        None,
    )


def day_of(at_ns: int) -> str:
    """Return the day of a time in ns since 1970 UTC.

    >>> day_of(0), day_of(-1), day_of(1_700_000_000 * 10**9)
    ('1970-01-01', '1969-12-31', '2023-11-14')
    """
    number = at_ns // DAY_NS
    day = _days.get(number)
    if day is None:
        day = _days[number] = datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")
    return day


def _check_same(db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Raise where what lies under a seq is not what should be there."""
    for row in rows:
        found = db.execute("SELECT trade_id, account, symbol, exec_type FROM trades WHERE seq = ?", row[:1]).fetchone()
        if found != (row[1], row[7], row[2], row[11]):
            raise WorkerUnfit(
                f"seq {row[0]} is trade {found[0]} here and trade {row[1]} in the engine's journal: this blotter is"
                " another journal's; name another file, or make it again with `riskwire blotter rebuild`"
            )


# --- busts and corrections


def _chains(db: sqlite3.Connection, trades: Iterable[tuple[int, TradeExecuted]]) -> dict[Chain, set[str]]:
    """Return the ids, by venue, account and symbol, whose trades busts or corrections may have changed."""
    if not db.execute("SELECT 1 FROM trades WHERE ref_trade_id <> '' LIMIT 1").fetchone():
        return {}
    named = f"{CHAIN.format('ref_trade_id')} AND ref_trade_id <> '' LIMIT 1"
    found: dict[Chain, set[str]] = {}
    for _, trade in trades:
        chain = (trade.venue, trade.account, trade.symbol)
        if trade.exec_type != "new" or db.execute(named, (*chain, trade.trade_id)).fetchone():
            found.setdefault(chain, set()).add(trade.trade_id if trade.exec_type == "new" else trade.ref_trade_id)
    return found


def _mark_chain(db: sqlite3.Connection, chain: Chain, ids: Iterable[str]) -> set[str]:
    """Work out anew what became of all that hangs together with some ids; return the days that have changed."""
    links = _links_of(db, chain, ids)
    days: set[str] = set()
    for seq, mark in marks_of(links.values()).items():
        day, *before = db.execute(
            "SELECT day, status, changed_by, changes FROM trades WHERE seq = ?", (seq,)
        ).fetchone()
        if Mark(*before) != mark:
            db.execute("UPDATE trades SET status = ?, changed_by = ?, changes = ? WHERE seq = ?", (*mark, seq))
            days.add(day)
    return days


def _links_of(db: sqlite3.Connection, chain: Chain, ids: Iterable[str]) -> dict[int, Link]:
    """Return everything that has one of the ids, or an id of what has one, and so on."""
    links: dict[int, Link] = {}
    known: set[str] = set()
    ahead = set(ids)
    while ahead:
        name = ahead.pop()
        known.add(name)
        for column in ("trade_id", "ref_trade_id"):
            for row in db.execute(
                CHAIN.format(column) + (" AND ref_trade_id <> ''" * (column != "trade_id")), (*chain, name)
            ):
                link = Link(*row)
                links[link.seq] = link
                ahead |= {link.trade_id, link.ref_trade_id} - known - {""}
    return links


# --- files


def open_blotter(path: str | Path) -> sqlite3.Connection:
    """Open a blotter to read it. Raises UsageError where there is none."""
    if not Path(path).is_file():
        raise UsageError(f"{path}: no such file; name the blotter's SQLite file (--db)")
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=30)
        db.execute("SELECT seq FROM trades LIMIT 1")
    except sqlite3.Error as problem:
        raise UsageError(f"{path}: not a blotter ({problem}); name the SQLite file a blotter worker writes") from None
    return db


def take_lock(path: str | Path, alone: bool = False) -> int:
    """Say that a blotter is being written, by several workers or by one who makes it again; closing the fd ends that.

    Raises WorkerUnfit where it cannot be now.
    """
    lock = os.open(f"{path}-use", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        who = "its workers write it; stop them first" if alone else "it is being made again; start when that is done"
        raise WorkerUnfit(f"{path}: {who}") from None
    return lock


def rebuild(path: str | Path, journal: str | Path, match: dict[str, str] | None = None) -> int:
    """Make a blotter from a journal and put it in the old one's place; return how many trades it has.

    match: as in the queue's settings: globs on symbol, account, venue and strategy. An engine may go on writing the
    journal; what it has written up to now is taken, the rest comes from the queue.
    Raises UsageError while workers write the blotter, JournalError where the journal is damaged.
    """
    fresh = Path(f"{path}.new")
    lock = take_lock(path, alone=True)
    try:
        count = _fill(fresh, journal, match or {})
        for rest in ("-wal", "-shm"):
            Path(f"{path}{rest}").unlink(missing_ok=True)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
        os.close(lock)
    return count


def _fill(fresh: Path, journal: str | Path, match: dict[str, str]) -> int:
    """Write a new file, which is on the disk when this returns."""
    fresh.unlink(missing_ok=True)
    db = sqlite3.connect(fresh, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = OFF")  # it is thrown away if this fails
        db.execute("BEGIN")
        prepare(db)
        count = _record_journal(db, journal, match)
        db.execute("COMMIT")
    finally:
        db.close()
    sync(fresh)
    return count


def _record_journal(db: sqlite3.Connection, journal: str | Path, match: dict[str, str]) -> int:
    decoder, core = JobDecoder(), RiskCore()
    count = refused = 0
    kept = read_journal(journal)
    first_seq = kept.first_seq
    kept.close()
    if first_seq > 1:
        raise UsageError(
            f"{journal}: events up to seq {first_seq - 1} were removed by retention, so the blotter cannot be made "
            "again from it; keep its file, or restore it from a backup"
        )
    for data in read_frames(journal):
        frame = Frame(data, False)
        core.apply(data)
        refusals = {seq: REASONS[reason] for seq, reason in core.refused(refused)}
        refused = core.refused_count
        numbered = enumerate(decoder.decode(frame), frame.first_seq)
        trades = [(seq, event) for seq, event in numbered if isinstance(event, TradeExecuted) and _fits(event, match)]
        if trades:
            record(db, trades, refusals)
            count += len(trades)
    return count


def _fits(trade: TradeExecuted, match: dict[str, str]) -> bool:
    return not match or all(
        glob_matches(match.get(name, "*").encode(), getattr(trade, name).encode()) for name in NAME_KIND_NAMES
    )
