"""Handlers that worker processes run in tests. EFFECTS names the file or database they leave their marks in."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from typing import Any

from engine.errors import WorkerUnfit

EFFECTS = os.environ.get("EFFECTS", "effects.jsonl")
_file = os.open(EFFECTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if EFFECTS.endswith(".jsonl") else -1


def _write(event: Any, context: Any) -> None:
    line = {"seq": context.seq, "trade_id": event.trade_id, "attempt": context.attempt, "pid": os.getpid()}
    os.write(_file, json.dumps({**line, "account": event.account}).encode() + b"\n")


def note(event: Any, context: Any) -> None:
    _write(event, context)


async def note_async(event: Any, context: Any) -> None:
    await asyncio.sleep(0.001)
    _write(event, context)


def noop(event: Any, context: Any) -> None:
    pass


def gated(event: Any, context: Any) -> None:
    """Go on only once there is a file GO."""
    _write(event, context)
    while not os.path.exists("GO"):
        time.sleep(0.01)


def poison_every_10(event: Any, context: Any) -> None:
    if context.seq % 10 == 0:
        raise ValueError(f"no luck with {event.trade_id}")
    _write(event, context)


def hang_on_5(event: Any, context: Any) -> None:
    _write(event, context)
    while context.seq == 5:
        time.sleep(0.01)


async def hang_on_5_async(event: Any, context: Any) -> None:
    _write(event, context)
    if context.seq == 5:
        await asyncio.sleep(60)


def die_on_5(event: Any, context: Any) -> None:
    _write(event, context)
    if context.seq == 5:
        os._exit(9)


def effect_once(event: Any, context: Any) -> None:
    """Write an effect through the processed table, and fail after it now and then."""
    with context.once() as db:
        if db is not None:
            db.execute("CREATE TABLE IF NOT EXISTS effects (seq INTEGER, trade_id TEXT)")
            db.execute("INSERT INTO effects VALUES (?, ?)", (context.seq, event.trade_id))
    if context.seq % 100 == 0:
        raise RuntimeError("poison")
    if context.seq % 37 == 0 and context.attempt == 1:
        raise sqlite3.OperationalError("a hiccup after the effect")


NOT_A_FUNCTION = 3


def note_batch(events: Any, context: Any) -> None:
    for event, seq, attempt in zip(events, context.seqs, context.attempts, strict=True):
        line = {"seq": seq, "trade_id": event.trade_id, "attempt": attempt, "size": len(events)}
        os.write(_file, json.dumps({**line, "account": event.account}).encode() + b"\n")


def gated_batch(events: Any, context: Any) -> None:
    """Go on only once there is a file GO."""
    note_batch(events, context)
    while not os.path.exists("GO"):
        time.sleep(0.01)


async def note_batch_async(events: Any, context: Any) -> None:
    await asyncio.sleep(0.001)
    note_batch(events, context)


def poison_batch(events: Any, context: Any) -> None:
    if any(seq % 10 == 0 for seq in context.seqs):
        raise ValueError(f"no luck with {len(events)} events")
    note_batch(events, context)


async def poison_batch_async(events: Any, context: Any) -> None:
    poison_batch(events, context)


def hang_batch_on_5(events: Any, context: Any) -> None:
    while 5 in context.seqs:
        time.sleep(0.01)
    note_batch(events, context)


async def hang_batch_on_5_async(events: Any, context: Any) -> None:
    if 5 in context.seqs:
        await asyncio.sleep(60)
    note_batch(events, context)


def die_batch_on_5(events: Any, context: Any) -> None:
    if 5 in context.seqs:
        os._exit(9)
    note_batch(events, context)


def batch_once(events: Any, context: Any) -> None:
    """Write the effects of a batch through the processed table, and fail after it now and then."""
    with context.once() as db:
        if db is not None:
            db.execute("CREATE TABLE IF NOT EXISTS effects (seq INTEGER, trade_id TEXT)")
            rows = [(seq, event.trade_id) for seq, event in context.fresh]
            db.executemany("INSERT INTO effects VALUES (?, ?)", rows)
    if any(seq % 100 == 0 for seq in context.seqs):
        raise RuntimeError("poison")
    if context.seqs[0] % 37 == 0 and context.attempt == 1:
        raise sqlite3.OperationalError("a hiccup after the effect")


def forks(event: Any, context: Any) -> None:
    """Fork now and then; the child comes back as if it were the worker, or raises."""
    if context.seq % 10 == 0 and os.fork() == 0:
        if context.seq % 20 == 0:
            raise ValueError("in the child")
        return
    _write(event, context)


class Rude(BaseException):
    """No Exception: a handler's own idea."""


def rude_on_5(event: Any, context: Any) -> None:
    print("said by the handler")
    os.chdir("/")
    if context.seq == 5:
        raise Rude("no")
    if context.seq == 6:
        sys.exit("enough")
    _write(event, context)


async def rude_on_5_async(event: Any, context: Any) -> None:
    rude_on_5(event, context)


def leaves_open(event: Any, context: Any) -> None:
    db = context.processed.db
    db.execute("CREATE TABLE IF NOT EXISTS effects (seq INTEGER)")
    if context.seq == 3:
        db.execute("BEGIN")
    db.execute("INSERT INTO effects VALUES (?)", (context.seq,))


def unfit(event: Any, context: Any) -> None:
    if context.seq >= 5:
        raise WorkerUnfit("the printer is on fire; put it out")
    _write(event, context)


async def unfit_async(event: Any, context: Any) -> None:
    unfit(event, context)


def unfit_batch(events: Any, context: Any) -> None:
    raise WorkerUnfit("the printer is on fire; put it out")


def full_disk(event: Any, context: Any) -> None:
    with context.once() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        db.execute("CREATE TABLE IF NOT EXISTS effects (body BLOB)")
        db.execute("INSERT INTO effects VALUES (zeroblob(100000))")


class Closing:
    """A handler that is told when its worker leaves."""

    def __call__(self, event: Any, context: Any) -> None:
        _write(event, context)

    def close(self) -> None:
        os.write(_file, b'{"closed": true, "seq": 0}\n')


closing = Closing()


def prove(event: Any, context: Any) -> None:
    """One effect a job; each hundredth trade fails after it, before it is kept."""
    with context.once() as db:
        if db is not None:
            db.execute(
                "INSERT INTO effects (seq, account, pid) VALUES (?, ?, ?)", (context.seq, event.account, os.getpid())
            )
        if int(event.trade_id[1:]) % 100 == 0:
            raise ValueError("poison")


def prove_batch(events: Any, context: Any) -> None:
    """The same for a batch, which fails as a whole."""
    with context.once() as db:
        if db is not None:
            rows = [(seq, event.account, os.getpid()) for seq, event in context.fresh]
            db.executemany("INSERT INTO effects (seq, account, pid) VALUES (?, ?, ?)", rows)
        if any(int(event.trade_id[1:]) % 100 == 0 for event in events):
            raise ValueError("poison")


def chaos(events: Any, context: Any) -> None:
    """A batch whose effect happens once while one in ten jobs does its worst the first time. FIXED: none is poison."""
    seqs = list(context.seqs)
    first = [seq for seq, attempt in zip(seqs, context.attempts, strict=True) if attempt == 1]
    with context.once() as db:
        if db is not None:
            rows = [(context.queue, seq, event.account) for seq, event in context.fresh]
            db.executemany("INSERT INTO effects (queue, seq, account) VALUES (?, ?, ?)", rows)
        if any(seq % 97 == 0 for seq in seqs) and not os.path.exists("FIXED"):
            raise ValueError("poison")
        if any(seq % 211 == 0 for seq in first):
            os._exit(9)
    if any(seq % 151 == 0 for seq in first):
        while True:
            time.sleep(0.01)
    if any(seq % 41 == 0 for seq in first):
        raise sqlite3.OperationalError("after the effect")
