"""Jobs of a queue with an order: one of each key at a time, the others in a line behind it."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator

from engine.jobframes import Source
from engine.jobs import Job, Line
from ext.records import Frame

LINE_JOBS_MAX = 16_384  # jobs kept whole behind busy keys; beyond, their seqs only
REFILL_JOBS = 256  # fetched again at once when a line of seqs moves
PARKED_SHOWN = 10_000

Fetch = Callable[[int], Frame | None]


class KeyLines:
    """Which job of each key is next. A key is busy from when its job is ready until that is done, or parked behind it.

    fetch: gives the frame that holds a seq, or None for now.
    """

    def __init__(self, fetch: Fetch) -> None:
        self.ready: deque[Job] = deque()  # jobs whose key is theirs
        self.busy: set[int] = set()
        self.stalled: set[int] = set()  # keys whose next job could not be fetched yet
        self._fetch = fetch
        self._lines: dict[int, Line] = {}
        self._line_jobs = 0
        self._parked: dict[int, int] = {}  # dead seq: its key
        self._parked_keys: dict[int, int] = {}  # key: how many dead jobs it has

    def admit(self, source: Source, place: int, key: int) -> None:
        """Take a job: it is ready where nothing of its key is before it."""
        if key not in self.busy:
            self.busy.add(key)
            self.ready.append(Job(source, place, key))
            return
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(source.frame.stamped_at)
        if line.taken < len(line.seqs) or self._line_jobs >= LINE_JOBS_MAX or key in self._parked_keys:
            line.seqs.append(source.first_seq + place)
        else:
            line.jobs.append(Job(source, place, key))
            self._line_jobs += 1

    def park(self, seq: int, key: int) -> None:
        """Let a key wait behind a dead job; what is kept of the others is their seqs."""
        self._parked[seq] = key
        self._parked_keys[key] = self._parked_keys.get(key, 0) + 1
        if line := self._lines.get(key):
            self._line_jobs -= line.shrink()

    def unpark(self, seq: int) -> int | None:
        """Take a dead job out of its key's way; return the key, or None where it was not in one's."""
        key = self._parked.pop(seq, None)
        if key is not None:
            self._parked_keys[key] -= 1
            if not self._parked_keys[key]:
                del self._parked_keys[key]
        return key

    def release(self, key: int) -> None:
        """Let the next job of a key go, unless a dead one is still before it."""
        if key in self._parked_keys:
            return
        line = self._lines.get(key)
        if line is None:
            self.busy.discard(key)
            return
        if not line.jobs and not self._refill(line, key):
            self.stalled.add(key)
            return
        self._line_jobs -= 1
        job = line.jobs.popleft()
        line.oldest_at = job.source.frame.stamped_at
        self.ready.append(job)
        if not len(line):
            del self._lines[key]

    def _refill(self, line: Line, key: int) -> bool:
        source: Source | None = None
        for seq in line.seqs[line.taken : line.taken + REFILL_JOBS]:
            if source is None or not source.first_seq <= seq < source.first_seq + len(source.records):
                if source is not None and line.jobs and self._line_jobs > LINE_JOBS_MAX:
                    break
                frame = self._fetch(seq)
                if frame is None:
                    break
                source = Source(frame)
            line.jobs.append(Job(source, seq - source.first_seq, key))
            line.taken += 1
            self._line_jobs += 1
        if line.taken == len(line.seqs):
            line.seqs, line.taken = array("Q"), 0
        return bool(line.jobs)

    def unstall(self) -> None:
        """Try again what could not be fetched."""
        stalled, self.stalled = self.stalled, set()
        for key in stalled:
            self.release(key)

    @property
    def waiting(self) -> int:
        """Return how many jobs are ready or wait behind one that is in hand."""
        return len(self.ready) + sum(map(len, self._lines.values())) - self.parked

    @property
    def parked(self) -> int:
        """Return how many jobs wait behind a dead one of their key."""
        return sum(len(self._lines[key]) for key in self._parked_keys if key in self._lines)

    def parked_behind(self) -> dict[str, int]:
        """Return how many jobs are parked behind which dead seqs (the first of each key), for at most PARKED_SHOWN."""
        found: dict[str, int] = {}
        keys: set[int] = set()
        for seq, key in sorted(self._parked.items())[:PARKED_SHOWN]:
            if key not in keys and key in self._lines:
                found[str(seq)] = len(self._lines[key])
            keys.add(key)
        return found

    def parked_stamps(self) -> Iterator[int]:
        """Yield when the first of the jobs parked behind each key was numbered, for at most PARKED_SHOWN."""
        keys = list(self._parked_keys)[:PARKED_SHOWN]
        return (self._lines[key].oldest_at for key in keys if key in self._lines)
