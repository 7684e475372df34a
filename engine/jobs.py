"""The parts a queue is made of: jobs, batches of them, what is in a worker's hands, and lines behind busy keys."""

from __future__ import annotations

import itertools
from array import array
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from engine.jobframes import Records, Source

WAITING, LEASED, DONE, DYING = range(4)
QUOTA_START = 16
BATCH_JOBS_START, BATCH_JOBS_MAX = 1024, 4096
QUICK_NS, SLOW_NS = 50_000_000, 250_000_000  # a batch done in less doubles the quota, one in more halves it


class Job:
    """A job that is not simply a slice of its frame: it failed, was lost, waits for its key or was sent again."""

    __slots__ = ("announce", "deliveries", "failures", "history", "key", "place", "revived", "seq", "source", "state")

    def __init__(self, source: Source, place: int, key: int = 0) -> None:
        self.source = source
        self.place = place
        self.seq = source.first_seq + place
        self.key = key
        self.failures = 0
        self.deliveries = 0
        self.announce = False
        self.revived = False
        self.state = WAITING
        self.history: list[dict[str, Any]] = []

    def attempt(self) -> int:
        """Return which attempt the next one is: above 1 wherever an earlier one may have begun."""
        return max(self.failures + 1, min(self.deliveries + 1, 2))


class Batch:
    """Jobs handed to one worker together: slices of frames that follow each other, or objects.

    Of slices, `jobs` is None until one is needed.
    """

    __slots__ = (
        "expired",
        "gone",
        "jobs",
        "left",
        "no",
        "progress_ns",
        "sent_ns",
        "seqs",
        "slices",
        "started",
    )

    def __init__(
        self, no: int, now: int, slices: list[tuple[Source, Records]], seqs: Records, jobs: list[Job] | None = None
    ):
        self.no = no
        self.slices = slices  # frames, and which of their records; empty where the jobs are objects from the start
        self.seqs = seqs
        self.jobs = jobs
        self.left = len(seqs)
        self.gone = bytearray(len(seqs))
        self.started: set[int] = set()
        self.sent_ns = now
        self.progress_ns = 0  # 0: not begun, as far as is known
        self.expired = False

    def parts(self) -> list[tuple[Source, Records]]:
        """Return frames and places in the order of the jobs."""
        if self.slices:
            return self.slices
        assert self.jobs is not None
        grouped = itertools.groupby(self.jobs, key=lambda job: id(job.source))
        taken = [list(jobs) for _, jobs in grouped]
        return [(jobs[0].source, np.array([job.place for job in jobs])) for jobs in taken]

    def job(self, index: int, order: str | None) -> Job:
        """Return one job as an object."""
        if self.jobs is None:
            self.jobs = []
            for source, places in self.slices:
                keys = source.records[order] if order else None
                self.jobs += [Job(source, place, 0 if keys is None else int(keys[place])) for place in places.tolist()]
            for job in self.jobs:
                job.state = LEASED
                job.deliveries = 1
        return self.jobs[index]

    def remaining(self) -> list[int]:
        """Return the places in the batch of what is neither done nor given back."""
        return [i for i, gone in enumerate(self.gone) if not gone]


class Hands:
    """What is in one worker's hands. batch: how many jobs one call of its handler takes."""

    def __init__(self, worker: str = "", batch: int = 1) -> None:
        self.worker = worker
        self.batch_max = min(max(batch, BATCH_JOBS_START), BATCH_JOBS_MAX)  # jobs sent together
        self.batches: dict[int, Batch] = {}
        self.in_hands = 0
        # Who takes N at a time is given as many, and as many again meanwhile, however long that takes it.
        self.quota_min = min(2 * batch, BATCH_JOBS_MAX) if batch > 1 else 1
        self.quota = max(QUOTA_START, self.quota_min)  # jobs it may hold for now: more while it is quick
        self.progress_ns = 0
        self.suspended = False  # its lease ended in silence: nothing more until it is heard
        self.draining = False
        self.done = 0
        self.failed = 0

    def adapt(self, took_ns: int, in_hands_max: int) -> None:
        """Set the quota by how long a batch took: a slow worker must not keep jobs that others could do."""
        if took_ns < QUICK_NS:
            self.quota = min(2 * self.quota, in_hands_max)
        elif took_ns > SLOW_NS:
            self.quota = max(self.quota // 2, self.quota_min)


def attempts_of(every: Iterable[Hands], retrying: Iterable[Job] = ()) -> dict[str, int]:
    """Return how many jobs in hands or between attempts are at which attempt, from "1" on."""
    counts: Counter[int] = Counter(job.failures + 1 for job in retrying)
    for hands in every:
        for batch in hands.batches.values():
            if batch.jobs is None:
                counts[1] += batch.left
            else:
                counts.update(batch.jobs[index].failures + 1 for index in batch.remaining())
    return {str(attempt): counts[attempt] for attempt in sorted(counts)}


class Chunk:
    """The jobs of one frame, as far as they have been looked at."""

    __slots__ = ("places", "pos", "source")

    def __init__(self, source: Source, places: Records) -> None:
        self.source = source
        self.places = places
        self.pos = 0


class Line:
    """What waits behind a busy key: jobs, and behind them seqs to be fetched again.

    oldest_at: when the first of them was numbered, as far as is known without fetching it.
    """

    __slots__ = ("jobs", "oldest_at", "seqs", "taken")

    def __init__(self, oldest_at: int = 0) -> None:
        self.oldest_at = oldest_at
        self.jobs: deque[Job] = deque()
        self.seqs = array("Q")
        self.taken = 0

    def __len__(self) -> int:
        return len(self.jobs) + len(self.seqs) - self.taken

    def shrink(self) -> int:
        """Keep seqs only; return how many jobs were let go."""
        count = len(self.jobs)
        self.seqs = array("Q", [job.seq for job in self.jobs]) + self.seqs[self.taken :]
        self.taken = 0
        self.jobs.clear()
        return count
