"""A queue through random lives: workers take, ack, fail, stop and die, the process dies too; nothing is lost.

The reference is a set of seqs: every job is acked by the worker that holds it, or dead, and never handed out after.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.acklog import AckLog
from engine.config import QueueConfig
from engine.jobqueue import JobQueue
from engine.jobs import Hands
from ext.records import KIND_SEQUENCED, Frame, FrameBuilder

KEYS = 3
SECOND = 10**9
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["feed", "take", "take", "ack", "ack", "ack one", "nack", "lose", "expire", "release", "bury", "revive",
             "skip", "die", "start", "wait"]
        ),
        st.integers(0, 3),
        st.integers(1, 12),
    ),
    max_size=60,
)  # fmt: skip


def frame(first_seq: int, count: int) -> Frame:
    builder = FrameBuilder(KIND_SEQUENCED)
    builder.define_name(0, 1, b"BTC")
    for key in range(KEYS):
        builder.define_name(1, 1 + key, b"A%d" % key)
    for seq in range(first_seq, first_seq + count):
        kind = 2 if seq % 5 == 0 else 1
        side = 1 if kind == 1 else 0
        builder.add_record(type=kind, side=side, symbol=1, account=1 + seq % KEYS, id=b"T%d" % seq, executed_at=1)
    return Frame(bytes(builder.finish(first_seq, 1, 1)))


class Life:
    """The queue, what its workers hold, and what is known to be done."""

    def __init__(self, path: Path, order_by: str | None, max_attempts: int) -> None:
        self.path = path
        self.config = QueueConfig(
            name="q",
            lease_ns=10 * SECOND,
            backoff_min_ns=SECOND,
            backoff_max_ns=2 * SECOND,
            in_hands_max=8,
            order_by=order_by,
            max_attempts=max_attempts,
        )
        self.frames: list[Frame] = []
        self.last_seq = 0
        self.now = 0
        self.acked: set[int] = set()
        self.skipped: set[int] = set()
        self.order: list[int] = []
        self.begin()

    def begin(self) -> None:
        self.log = AckLog(self.path)
        self.queue = JobQueue(self.config, self.log, self.fetch, seed=0)
        self.hands = [Hands(f"w{i}") for i in range(4)]
        for each in self.frames:
            self.queue.feed(each)
        self.queue.resume_revived(self.now)
        self.queue.resume_skipped()

    def fetch(self, seq: int) -> Frame | None:
        return next((f for f in self.frames if f.first_seq <= seq < f.first_seq + len(f)), None)

    def step(self, action: str, who: int, n: int) -> None:
        self.now += 1
        hands = self.hands[who]
        batch = next(iter(hands.batches.values()), None)
        if action == "feed":
            self.frames.append(frame(self.last_seq + 1, n))
            self.last_seq += n
            self.queue.feed(self.frames[-1])
        elif action == "take":
            self.take(hands)
        elif action == "die":  # nothing is flushed but what was: the log is written once a round
            self.log.flush()
            self.log.close()
            self.begin()
        elif action == "bury":
            self.bury()
        elif action == "revive":
            self.queue.revive(sorted(self.log.dead)[:n], self.now)
        elif action == "skip":
            self.queue.skip(sorted(self.log.dead)[:1])
        elif action == "wait":
            self.now += n * SECOND
        elif action == "lose":
            self.queue.lose(hands, self.now)
        elif action == "expire":
            self.now += 10 * SECOND
            self.queue.expire(hands, self.now)
        elif batch is not None:
            self.with_batch(action, hands, batch, n)

    def with_batch(self, action: str, hands: Hands, batch: object, n: int) -> None:
        index = n % len(batch.seqs)
        if action == "ack":
            self.note(batch, batch.remaining())
            self.queue.ack(hands, batch.no, None, self.now)
            self.note_late(batch)
        elif action == "ack one":
            self.note(batch, [index] if not batch.gone[index] else [])
            self.queue.ack(hands, batch.no, [index], self.now)
            self.note_late(batch)
        elif action == "nack":
            self.queue.nack(hands, batch.no, index, "error", "no", "", self.now)
        elif action == "release":
            self.queue.release(hands, batch.no, batch.remaining(), self.now)
        elif action == "start":
            self.queue.start(hands, batch.no, index, self.now)

    def note(self, batch: object, indexes: list[int]) -> None:
        """Remember what this ack settles: not what was taken away and given to somebody else."""
        for index in indexes:
            seq = int(batch.seqs[index])
            if not batch.expired:
                self.acked.add(seq)
                self.order.append(seq)

    def note_late(self, batch: object) -> None:
        """Remember what a late ack settled after all: the job lay there and nobody else had it."""
        for seq in batch.seqs.tolist() if batch.expired else ():
            settled = self.log.acked.mask(seq, 1)[0] and seq not in self.log.dead | self.log.revived | self.skipped
            if settled and seq not in self.acked:
                self.acked.add(seq)
                self.order.append(seq)

    def take(self, hands: Hands) -> bool:
        self.queue.available(self.now)
        batch = self.queue.take(hands, self.now)
        if batch is None:
            return False
        self.queue.attempts_and_flags(batch)
        seqs = [int(seq) for seq in batch.seqs]
        assert len(set(seqs)) == len(seqs)
        assert not set(seqs) & self.acked, "what is done is not handed out again"
        assert not set(seqs) & self.skipped
        assert hands.in_hands <= self.config.in_hands_max
        return True

    def undone(self) -> int:
        """Return how many jobs are neither done nor dead, by the log."""
        open_ = sum(1 for seq in range(1, self.last_seq + 1) if seq % 5 and not self.log.acked.mask(seq, 1)[0])
        return open_ + len(self.log.revived) - self.queue.dying

    def bury(self) -> None:
        letters, self.queue.letters = self.queue.letters, []
        for letter, job in letters:
            self.queue.bury(job)
            if letter.reason == "skipped":
                self.skipped.add(job.seq)

    def finish(self) -> None:
        """Let one good worker do all that is left."""
        for hands in self.hands:
            self.queue.lose(hands, self.now)
        self.bury()
        worker = Hands("good")
        idle = 0
        while idle < 3:
            self.now += 10 * SECOND
            idle += 1
            while self.take(worker):
                idle = 0
                for batch in list(worker.batches.values()):
                    self.note(batch, batch.remaining())
                    self.queue.ack(worker, batch.no, None, self.now)
            for seq in sorted(self.log.dead):  # so that nothing stays parked
                self.queue.revive([seq], self.now)
                idle = 0


@given(ACTIONS, st.sampled_from([None, "account"]), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_whatever_happens_each_job_is_done_once_or_skipped(
    actions: list[tuple[str, int, int]], order_by: str | None, max_attempts: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder) / "queue-q.acks", order_by, max_attempts)
        try:
            for action in actions:
                life.step(*action)
                assert life.queue.undone == life.undone()
            life.finish()
            assert life.queue.undone == 0
            jobs = {seq for seq in range(1, life.last_seq + 1) if seq % 5}
            assert life.acked | life.skipped == jobs
            assert life.log.acked.through == life.last_seq
            assert life.log.dead == set()
            assert life.queue.retrying == life.queue.waiting == life.queue.parked == 0
        finally:
            life.log.close()


@given(ACTIONS, st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_with_order_by_the_jobs_of_a_key_are_done_in_their_order(
    actions: list[tuple[str, int, int]], max_attempts: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Path(folder) / "queue-q.acks", "account", max_attempts)
        try:
            for action in actions:
                life.step(*action)
            life.finish()
            for key in range(KEYS):
                seqs = [seq for seq in life.order if seq % KEYS == key]
                assert seqs == sorted(seqs)
        finally:
            life.log.close()
