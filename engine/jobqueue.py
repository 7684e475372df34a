"""One named queue as a state machine: jobs in, batches out, acks and failures back. No sockets, no threads, no clock.

Fresh jobs are handed out as slices of their frames and cost nothing each; only a job that fails, is lost or waits for
its key becomes an object of its own. Every time is a monotonic clock's in ns, given by the caller.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterable

import numpy as np

from engine.acklog import AckLog
from engine.codec import EventDecoder
from engine.config import QueueConfig
from engine.events import DeadLetter
from engine.jobfilter import JobFilter, Mask
from engine.jobframes import Records, Source
from engine.joblines import Fetch, KeyLines
from engine.jobs import BATCH_JOBS_MAX, DONE, DYING, LEASED, WAITING, Batch, Chunk, Hands, Job
from engine.jobwire import ANNOUNCE, REASON_SHIFT
from ext.records import REASONS, Frame

FRESH_MAX = 16_384  # jobs read ahead of the workers
RETRYING_MAX = 10_000  # failed jobs in memory; while there are so many, no fresh one is handed out
READY_JOBS = 256  # with order_by: looked at together
HISTORY_MAX = 100
_FIRST_ATTEMPTS = np.ones(BATCH_JOBS_MAX, np.uint32)
_NO_FLAGS = np.zeros(BATCH_JOBS_MAX, np.uint8)
_NO_PLACES = np.zeros(0, np.int64)
_NO_MASK = np.zeros(0, np.bool_)


class JobQueue:
    """One named queue.

    config: its settings. log: what is done already. fetch: gives the frame that holds a seq, or None for now.
    decoder: knows the names of the sequence so far; it may be shared.
    refused: gives (seq, reason number) of what the sequence refused between two seqs; None: that is not known here.
    `letters` collects dead letters with their jobs for the sink: the caller takes them, and says `bury` once they
    are safe. `resolved` collects seqs that were dead letters and are done now.
    """

    def __init__(
        self,
        config: QueueConfig,
        log: AckLog,
        fetch: Fetch,
        seed: int | None = None,
        decoder: EventDecoder | None = None,
        refused: Callable[[int, int], list[tuple[int, int]]] | None = None,
    ) -> None:
        self.config = config
        self.name = config.name
        self.log = log
        self.decoder = decoder or EventDecoder()
        self.letters: list[tuple[DeadLetter, Job]] = []
        self.resolved: list[int] = []
        self.done = 0
        self.failed = 0
        self.dying = 0
        self.undone = len(log.revived)  # jobs that were fed or sent again and are neither done nor dead
        self._fetch = fetch
        self._refused = refused
        self._filter = JobFilter(config.events, config.match, self.decoder.name)
        self._order = config.order_by
        self._random = random.Random(seed)
        self._chunks: deque[Chunk] = deque()
        self._fresh = 0
        self._keys = KeyLines(fetch)  # used with order_by
        self._retries: list[tuple[int, int, Job]] = []  # due in ns, seq, job
        self._skip_later: set[int] = set(log.skipping)  # to be skipped, their letters not made yet
        self._revive_later: set[int] = set(log.revived)
        self._keys_unknown: set[int] = set(log.dead | log.revived) if config.order_by else set()
        self._batch_no = random.getrandbits(40) << 20  # acks of an earlier life match nothing

    # --- reading the sequence

    @property
    def wants_frames(self) -> bool:
        """Tell whether another frame should be read."""
        return self._fresh < FRESH_MAX and len(self._keys.ready) < FRESH_MAX and len(self._retries) < RETRYING_MAX

    def feed(self, frame: Frame) -> Records:
        """Take the next frame of the sequence: its names, and those of its events that are jobs not done yet.

        Return their places in the frame, ascending.
        """
        undone, jobs = self._look_at(frame)
        if undone is None:
            return _NO_PLACES
        first = frame.first_seq
        for start, end in _runs(np.flatnonzero(undone & ~jobs)):
            self.log.acked.add(first + start, first + end)  # not logged: reading again finds them again
        places = np.flatnonzero(undone & jobs)
        if len(places):
            self._chunks.append(Chunk(Source(frame), places))
            self._fresh += len(places)
            self.undone += len(places)
        return places

    def jobs_of(self, frame: Frame) -> Records:
        """Return the places of a frame's events that are jobs not done yet, ascending; it may be fed much later."""
        undone, jobs = self._look_at(frame)
        return np.flatnonzero(undone & jobs) if undone is not None else _NO_PLACES

    def _look_at(self, frame: Frame) -> tuple[Mask | None, Mask]:
        """Learn a frame's names; return which events are not done (None: all are), and which the filter takes."""
        self.decoder.learn(frame)
        first, count = frame.first_seq, len(frame)
        if first + count - 1 > self.log.acked.through:
            undone = ~self.log.acked.mask(first, count)
            if undone.any():
                return undone, self._filter.takes(frame.records)
        return None, _NO_MASK

    # --- handing out

    def available(self, now: int) -> int:
        """Return how many jobs could be handed out now."""
        if len(self._retries) >= RETRYING_MAX and self._retries[0][0] > now:
            return 0
        if self._order:
            self._fill_ready()
        due = sum(1 for due, _, _ in self._retries[:64] if due <= now)
        return due + (len(self._keys.ready) if self._order else self._fresh)

    def take(self, hands: Hands, now: int, share: int = BATCH_JOBS_MAX) -> Batch | None:
        """Hand a batch to a worker, as large as its credit, its share and the batch size allow; None: nothing now.

        A worker with little credit left gets no crumbs while there is more: it would have crumbs from then on.
        """
        quota = min(hands.quota, self.config.in_hands_max)
        room, whole = quota - hands.in_hands, max(1, min(quota // 2, hands.batch_max))
        if room < min(whole, max(share, 1)) or hands.suspended or hands.draining:
            return None
        room = min(whole, share)
        jobs = self._due(now, room)
        if self._order:
            self._fill_ready()
            while self._keys.ready and len(jobs) < room:
                jobs.append(self._keys.ready.popleft())
        if jobs:
            batch = self._batch_of(jobs, now)
        elif self._chunks and not self._order and len(self._retries) < RETRYING_MAX:
            batch = self._batch_of_fresh(room, now)
        else:
            return None
        hands.batches[batch.no] = batch
        hands.in_hands += batch.left
        return batch

    def _due(self, now: int, room: int) -> list[Job]:
        jobs: list[Job] = []
        while self._retries and self._retries[0][0] <= now and len(jobs) < room:
            job = heapq.heappop(self._retries)[2]
            if job.state == WAITING:  # else a late ack has settled it
                jobs.append(job)
        return jobs

    def _batch_of(self, jobs: list[Job], now: int) -> Batch:
        seqs = np.array([job.seq for job in jobs], np.uint64)
        for job in jobs:
            job.state = LEASED
        return Batch(self._next_no(), now, [], seqs, jobs)

    def _batch_of_fresh(self, room: int, now: int) -> Batch:
        slices: list[tuple[Source, Records]] = []
        while room and self._chunks:
            source, places = self._chunks[0].source, self._take_chunk(room)
            slices.append((source, places))
            room -= len(places)
        seqs = np.concatenate([places.astype(np.uint64) + np.uint64(source.first_seq) for source, places in slices])
        return Batch(self._next_no(), now, slices, seqs)

    def _take_chunk(self, count: int) -> Records:
        """Take up to so many of the first chunk's jobs; return their places."""
        chunk = self._chunks[0]
        places = chunk.places[chunk.pos : chunk.pos + count]
        chunk.pos += len(places)
        self._fresh -= len(places)
        if chunk.pos == len(chunk.places):
            self._chunks.popleft()
        return places

    def _next_no(self) -> int:
        self._batch_no += 1
        return self._batch_no

    def attempts_and_flags(self, batch: Batch) -> tuple[Records, Records]:
        """Return for each job of a batch just taken which attempt it is and its flags, and count the delivery."""
        if batch.slices:
            return _FIRST_ATTEMPTS[: batch.left], self._flags_of_slice(batch.seqs)
        assert batch.jobs is not None
        attempts = np.array([job.attempt() for job in batch.jobs], np.uint32)
        flags = np.array([ANNOUNCE * job.announce | self._flags_of(job.seq) for job in batch.jobs], np.uint8)
        for job in batch.jobs:
            job.deliveries += 1
        return attempts, flags

    def _flags_of(self, seq: int) -> int:
        """Return the flags that say why the sequence refused an event; 0: it did not."""
        return sum(reason << REASON_SHIFT for _, reason in self._refused(seq, seq)) if self._refused else 0

    def _flags_of_slice(self, seqs: Records) -> Records:
        refused = self._refused(int(seqs[0]), int(seqs[-1])) if self._refused else []
        if not refused:
            return _NO_FLAGS[: len(seqs)]
        flags = np.zeros(len(seqs), np.uint8)
        for seq, reason in refused:
            flags[seqs == seq] = reason << REASON_SHIFT
        return flags

    # --- order by key

    def _fill_ready(self) -> None:
        """Look at fresh jobs until enough are ready: each waits in its key's line while the key is busy."""
        if self._keys_unknown or self._keys.stalled:
            self._learn_keys()
            self._keys.unstall()
        while self._chunks and not self._keys_unknown and len(self._keys.ready) < READY_JOBS:
            source, places = self._chunks[0].source, self._take_chunk(READY_JOBS).tolist()
            keys = source.records[self._order][places].tolist()
            for place, key in zip(places, keys, strict=True):
                self._keys.admit(source, place, key)

    def _learn_keys(self) -> None:
        """Find the keys of jobs that an earlier life left dead: what comes behind them is parked."""
        for seq in sorted(self._keys_unknown):
            frame = self._fetch(seq)
            if frame is None:
                return
            key = int(frame.records[self._order][seq - frame.first_seq])
            self._keys.busy.add(key)
            if seq in self.log.dead:
                self._keys.park(seq, key)
            self._keys_unknown.discard(seq)

    # --- what workers say

    def ack(self, hands: Hands, batch_no: int, indexes: list[int] | None, now: int) -> None:
        """Take an ack: of these places of a batch, or (None) of all that is left of it."""
        batch = hands.batches.get(batch_no)
        if batch is None:
            return
        hands.progress_ns = batch.progress_ns = now
        if indexes is None and batch.jobs is None:  # the common case: slices, nothing looked at one by one
            self.log.add(int(batch.seqs[0]), int(batch.seqs[-1]))
            self._settle(hands, batch, batch.left)
            hands.done += batch.left
            self.done += batch.left
            self.undone -= batch.left
            batch.left = 0
            hands.adapt(now - batch.sent_ns, self.config.in_hands_max)
            return
        for index in batch.remaining() if indexes is None else indexes:
            if not self._go(hands, batch, index):
                continue
            hands.done += 1
            job = batch.job(index, self._order)
            if (job.state == LEASED and not batch.expired) or job.state == WAITING:
                self._finish(job)
        if not batch.left:
            hands.adapt(now - batch.sent_ns, self.config.in_hands_max)

    def _go(self, hands: Hands, batch: Batch, index: int) -> bool:
        """Take one job out of a worker's hands; False where it was not in them."""
        if not 0 <= index < len(batch.gone) or batch.gone[index]:
            return False
        batch.job(index, self._order)  # from here on the batch is looked at one by one
        batch.gone[index] = 1
        batch.left -= 1
        batch.started.discard(index)
        self._settle(hands, batch, 1)
        return True

    def _settle(self, hands: Hands, batch: Batch, count: int) -> None:
        hands.in_hands -= count
        if batch.left == 0 or (count == batch.left and batch.jobs is None):
            hands.batches.pop(batch.no, None)

    def _finish(self, job: Job) -> None:
        job.state = DONE
        self.done += 1
        self.undone -= 1
        self.log.add(job.seq, job.seq)
        if job.revived:
            self.resolved.append(job.seq)
        if self._order:
            self._keys.release(job.key)

    def start(self, hands: Hands, batch_no: int, index: int, now: int) -> None:
        """Note that a job begins."""
        batch = hands.batches.get(batch_no)
        if batch is not None and 0 <= index < len(batch.gone) and not batch.gone[index]:
            batch.started.add(index)
            hands.progress_ns = batch.progress_ns = now

    def nack(self, hands: Hands, batch_no: int, index: int, kind: str, error: str, traceback: str, now: int) -> None:
        """Take a failure: the job comes again after its backoff, or dies."""
        batch = hands.batches.get(batch_no)
        if batch is None or not self._go(hands, batch, index):
            return
        hands.progress_ns = batch.progress_ns = now
        hands.failed += 1
        job = batch.job(index, self._order)
        if job.state == LEASED and not batch.expired:
            self._fail(job, hands.worker, kind, error, traceback, now)

    def release(self, hands: Hands, batch_no: int, indexes: Iterable[int], now: int, suspect: bool = False) -> None:
        """Take jobs back that were never begun: they go to others at once, and no attempt is counted.

        suspect: they were begun together and one of them hung; which one shows when they are announced one by one.
        """
        batch = hands.batches.get(batch_no)
        for index in indexes if batch is not None else ():
            if batch is not None and self._go(hands, batch, index):
                job = batch.job(index, self._order)
                if job.state == LEASED and not batch.expired:
                    job.announce |= suspect
                    job.deliveries -= not suspect
                    self._again(job, now)

    def expire(self, hands: Hands, now: int) -> int:
        """Take away what a worker has kept longer than the lease; return how many jobs that was."""
        count = 0
        for batch in list(hands.batches.values()):
            if not batch.expired and self.lease_end(hands, batch) <= now:
                error = f"no ack within the lease of {self.config.lease_ns / 1e9:g} s"
                count += self._take_back(hands, batch, "lease", error, now)
                batch.expired = True
        return count

    def lease_end(self, hands: Hands, batch: Batch) -> int:
        """Return when a batch's lease ends: it runs from the last sign that the worker went on with it."""
        begun = batch.progress_ns or max(batch.sent_ns, hands.progress_ns)
        return begun + self.config.lease_ns

    def lose(self, hands: Hands, now: int) -> int:
        """Take everything back from a worker that is gone; return how many jobs that was."""
        count = 0
        for batch in hands.batches.values():
            if not batch.expired:
                count += self._take_back(hands, batch, "lost", "the worker went away", now)
        hands.batches.clear()
        hands.in_hands = 0
        return count

    def _take_back(self, hands: Hands, batch: Batch, kind: str, error: str, now: int) -> int:
        """Give a batch's jobs to others. Only what was begun counts an attempt.

        A job said to have been begun surely was; of others the first may have been. It counts where that cannot
        make it a dead letter; all are handed out again with ANNOUNCE, so that next time it is known.
        """
        remaining = batch.remaining()
        oldest = next(iter(hands.batches.values()))
        for index in remaining:
            job = batch.job(index, self._order)
            if job.state != LEASED:
                continue
            first = index == remaining[0] and batch is oldest and not job.announce and self.config.max_attempts > 1
            if index in batch.started or first:
                self._fail(job, hands.worker, kind, error, "", now)
            else:
                self._again(job, now)
            job.announce = True
        return len(remaining)

    def _again(self, job: Job, due: int) -> None:
        job.state = WAITING
        heapq.heappush(self._retries, (due, job.seq, job))

    def _fail(self, job: Job, worker: str, kind: str, error: str, traceback: str, now: int) -> None:
        job.failures += 1
        self.failed += 1
        entry = {"attempt": job.failures, "at": time.time_ns(), "worker": worker, "kind": kind, "error": error}
        if len(job.history) < HISTORY_MAX:
            job.history.append(entry)
        else:
            job.history[-1] = entry
        if job.failures >= self.config.max_attempts:
            self._die(job, kind, error, traceback)
        else:
            self._again(job, now + self._backoff_ns(job.failures))

    def _backoff_ns(self, failures: int) -> int:
        """Return the pause before the next attempt: doubled each time, up to half of it left to chance."""
        longest = min(self.config.backoff_min_ns << min(failures - 1, 40), self.config.backoff_max_ns)
        return longest - int(self._random.random() * (longest // 2))

    def _die(self, job: Job, kind: str, error: str, traceback: str) -> None:
        job.state = DYING
        self.dying += 1
        self.undone -= 1
        letter = self.decoder.dead_letter(
            job.source.frame,
            job.place,
            REASONS.index("handler_failed" if kind == "error" else "lease_exhausted"),
            f"queue:{self.name}",
            error=error,
            seq=job.seq,
            attempts=job.failures,
            history=list(job.history),
            traceback=traceback,
            at=time.time_ns(),
        )
        self.letters.append((letter, job))
        if self._order:
            self._keys.park(job.seq, job.key)

    def bury(self, job: Job) -> None:
        """Note that a job's letter is safe in the sink: it is dead and not handed out again, or skipped for good."""
        job.state = DONE
        if job.seq in self.log.skipping:
            self._skip(job.seq)
            return
        self.dying -= 1
        self.log.add_dead(job.seq)

    # --- bringing back

    def revive(self, seqs: Iterable[int], now: int) -> list[int]:
        """Hand dead jobs out again; return those that were dead."""
        revived = [seq for seq in seqs if seq in self.log.dead and seq not in self.log.skipping]
        for seq in revived:
            self.log.revive(seq)
            self.undone += 1
            self._revive_later.add(seq)
        self.resume_revived(now)
        return revived

    def resume_revived(self, now: int) -> None:
        """Hand out what was sent again, now or in an earlier life, as far as it can be fetched."""
        for seq in sorted(self._revive_later):
            frame = self._fetch(seq)
            if frame is None:
                return
            self._revive_later.discard(seq)
            place = seq - frame.first_seq
            key = int(frame.records[self._order][place]) if self._order else 0
            if self._order:
                self._keys.unpark(seq)
                self._keys.busy.add(key)
                self._keys_unknown.discard(seq)
            job = Job(Source(frame), place, key)
            job.revived = job.announce = True
            job.deliveries = 1  # its handler has run before
            self._again(job, now)

    def held(self, seqs: Iterable[int]) -> list[int]:
        """Return those of some seqs whose jobs are not done: others may wait behind them, now or later.

        Without an order nothing waits behind a job.
        """
        log = self.log
        return [
            seq
            for seq in (seqs if self._order else ())
            if seq in log.dead or seq in log.revived or not log.acked.mask(seq, 1)[0]
        ]

    def skip(self, seqs: Iterable[int]) -> list[int]:
        """Leave dead jobs for good: each makes a letter, and once that is safe, what is parked behind it goes on.

        Returns those that were dead. It holds over a crash: the next life goes on with it.
        """
        skipped = [seq for seq in seqs if seq in self.log.dead and seq not in self.log.skipping]
        for seq in skipped:
            self.log.begin_skip(seq)
            self._skip_later.add(seq)
        self.resume_skipped()
        return skipped

    def resume_skipped(self) -> None:
        """Make the letters of jobs that are skipped, now or in an earlier life, as far as they can be fetched."""
        for seq in sorted(self._skip_later):
            frame = self._fetch(seq)
            if frame is None:
                return
            self._skip_later.discard(seq)
            job = Job(Source(frame), seq - frame.first_seq)
            letter = self.decoder.dead_letter(
                frame,
                job.place,
                REASONS.index("skipped"),
                f"queue:{self.name}",
                error="left for good; what waited behind it goes on",
                seq=seq,
                attempts=0,
                at=time.time_ns(),
            )
            self.letters.append((letter, job))

    def _skip(self, seq: int) -> None:
        self.log.skip(seq)
        self._keys_unknown.discard(seq)
        key = self._keys.unpark(seq)
        if key is not None:
            self._keys.release(key)

    # --- looking at it

    @property
    def revives_waiting(self) -> bool:
        """Tell whether something sent again or skipped could not be fetched yet."""
        return bool(self._revive_later or self._skip_later)

    def next_due(self) -> int | None:
        """Return when the next retry is due, or None."""
        return self._retries[0][0] if self._retries else None

    @property
    def retrying(self) -> int:
        """Return how many jobs wait for another attempt."""
        return len(self.retrying_jobs)

    @property
    def waiting(self) -> int:
        """Return how many jobs were read and wait for their first attempt (parked ones not among them)."""
        return self._fresh + self._keys.waiting

    @property
    def parked(self) -> int:
        """Return how many jobs wait behind a dead one of their key."""
        return self._keys.parked

    def parked_behind(self) -> dict[str, int]:
        """Return how many jobs are parked behind which dead seqs."""
        return self._keys.parked_behind()

    @property
    def retrying_jobs(self) -> list[Job]:
        """Return the jobs that wait for another attempt."""
        return [job for _, _, job in self._retries if job.state == WAITING]  # others a late ack has settled

    def oldest_stamp(self, every: Iterable[Hands]) -> int | None:
        """Return when the oldest job not done was numbered, in ns since 1970 UTC, or None."""
        sources = [chunk.source for chunk in list(self._chunks)[:1]]
        sources += [job.source for job in list(self._keys.ready)[:1]] + [job.source for _, _, job in self._retries]
        for hands in every:
            for batch in hands.batches.values():
                sources += [source for source, _ in batch.slices] or [job.source for job in batch.jobs or ()]
        stamps = [source.frame.stamped_at for source in sources]
        return min([*stamps, *self._keys.parked_stamps()], default=None)


def _runs(places: Records) -> list[tuple[int, int]]:
    """Return ascending integers as runs (first, last)."""
    if not len(places):
        return []
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = places[np.concatenate(([0], breaks))]
    ends = places[np.concatenate((breaks - 1, [len(places) - 1]))]
    return list(zip(starts.tolist(), ends.tolist(), strict=True))
