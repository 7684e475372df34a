"""What a handler is told about its job, or about its batch of jobs, and how its effect happens once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.events import Event
from engine.jobframes import LazyEvents
from engine.jobwire import REASON_SHIFT
from engine.processed import Processed
from ext.records import REASONS


class BatchContext:
    """What a handler is told about a batch of jobs.

    queue: its name. seqs, attempts: of each event, in their order; an attempt above 1 may have run before.
    deadline_ns: when another worker may get the jobs, ns since 1970 UTC (the lease runs anew for each batch handled).
    fresh: inside `once`, what has not taken effect yet.
    """

    __slots__ = ("_events", "_flags", "_processed", "attempts", "deadline_ns", "fresh", "queue", "seqs")

    def __init__(
        self,
        queue: str,
        seqs: Sequence[int],
        attempts: Sequence[int],
        deadline_ns: int,
        events: LazyEvents,
        processed: Processed,
        flags: Sequence[int] = (),
    ) -> None:
        self.queue = queue
        self.seqs = seqs
        self.attempts = attempts
        self.deadline_ns = deadline_ns
        self.fresh: list[tuple[int, Event]] = []
        self._events = events
        self._processed = processed
        self._flags = flags

    @property
    def attempt(self) -> int:
        """The highest attempt among the jobs: above 1 some of them may have run before."""
        return max(self.attempts)

    @property
    def deadline(self) -> int:
        """The same as deadline_ns."""
        return self.deadline_ns

    @property
    def refusals(self) -> dict[int, str]:
        """Why the sequence refused some of the events, by their seqs: these keep their seqs and have moved nothing.

        `unknown_trade` or `ambiguous_trade`: a bust or correction that names no live trade, or two; `overflow`.
        """
        flags = zip(self.seqs, self._flags, strict=False)
        return {seq: REASONS[flag >> REASON_SHIFT] for seq, flag in flags if flag >> REASON_SHIFT}

    @property
    def processed(self) -> Processed:
        """The table of jobs that took effect; `context.processed.db` is the connection to its file."""
        return self._processed

    @contextmanager
    def once(self) -> Iterator[sqlite3.Connection | None]:
        """Open a transaction in which each job's effect happens once: gives None where every one has happened.

        >>> def handle(events, context):
        ...     with context.once() as db:
        ...         for seq, event in context.fresh:  # what an earlier attempt has done is not among them
        ...             db.execute("INSERT INTO trades VALUES (?, ?)", (seq, event.trade_id))
        """
        jobs = list(zip(self.seqs, self._events, strict=True))  # decoded before others have to wait
        with self._processed.once(self.queue, self.seqs, self._events.hashes) as (db, fresh):
            self.fresh = jobs if len(fresh) == len(jobs) else [jobs[i] for i in fresh]
            yield db if fresh else None


class JobContext(BatchContext):
    """What a handler is told about its job.

    queue: its name. seq: the event's. attempt: from 1; above 1 the handler may have run before.
    deadline_ns: when another worker may get the job, ns since 1970 UTC (the lease runs anew for each job of a batch).

    >>> def handle(event, context):
    ...     with context.once() as db:
    ...         if db is not None:  # None: an earlier attempt has done it
    ...             db.execute("INSERT INTO trades VALUES (?, ?)", (context.seq, event.trade_id))
    """

    __slots__ = ()

    @property
    def seq(self) -> int:
        """The event's number in the sequence."""
        return self.seqs[0]

    @property
    def refused(self) -> str:
        """Why the sequence refused the event, as in `refusals`; empty: it did not."""
        return self.refusals.get(self.seqs[0], "")
