"""What a queue has not read yet is counted exactly, whatever frames it comes in and however far the count is ahead."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.acklog import AckLog
from engine.backlog import Backlog
from engine.config import QueueConfig
from engine.jobqueue import JobQueue
from ext.records import KIND_SEQUENCED, Frame, FrameBuilder

LAST = 400


def is_job(seq: int) -> bool:
    return seq % 5 != 0 and seq % 3 == 1


def frame(first_seq: int, last_seq: int) -> Frame:
    """Return trades of accounts A0 … A2 round robin, each fifth event a mark; each frame defines the names."""
    builder = FrameBuilder(KIND_SEQUENCED)
    builder.define_name(0, 1, b"BTC")
    for key in range(3):
        builder.define_name(1, 1 + key, b"A%d" % key)
    for seq in range(first_seq, last_seq + 1):
        kind = 2 if seq % 5 == 0 else 1
        account = 0 if kind == 2 else 1 + seq % 3
        builder.add_record(type=kind, side=kind % 2, symbol=1, account=account, id=b"T%d" % seq, executed_at=1)
    return Frame(bytes(builder.finish(first_seq, 1, 1)))


def made_queue(done: list[tuple[int, int]] = []) -> JobQueue:  # noqa: B006
    log = AckLog(None)
    for first, last in done:
        log.add(first, last)
    return JobQueue(QueueConfig(name="q", match={"account": "A1"}), log, lambda seq: None)


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(1, LAST), st.integers(0, 40)), max_size=5))
@settings(max_examples=100, deadline=None)
def test_counted_ahead_and_fed_in_other_frames_it_is_what_was_not_fed(seed: int, done: list[tuple[int, int]]) -> None:
    chance = random.Random(seed)
    acked = {seq for first, more in done for seq in range(first, first + more + 1)}
    queue = made_queue([(first, first + more) for first, more in done])
    start = chance.randint(1, queue.log.acked.through + 1)
    backlog = Backlog(queue, start)
    fed = start - 1
    while fed < LAST:
        if chance.random() < 0.6:
            first = chance.randint(max(1, backlog.through - 30), min(LAST, backlog.through + 5))
            backlog.offer(frame(first, min(LAST, first + chance.randint(0, 60))))
        else:
            last = min(LAST, fed + chance.randint(1, 50))
            first = chance.randint(1, fed + 1) if fed < start else fed + 1  # the first may begin in what is done
            made = frame(first, last)
            backlog.note_fed(made, queue.feed(made))
            fed = last
        between = range(fed + 1, backlog.through + 1)
        assert backlog.jobs == sum(is_job(seq) and seq not in acked for seq in between), (fed, backlog.through)
        assert backlog.through >= fed
        assert queue.undone == sum(is_job(seq) and seq not in acked for seq in range(1, fed + 1))


def test_a_frame_that_is_not_the_next_one_is_not_counted() -> None:
    backlog = Backlog(made_queue(), 1)
    backlog.offer(frame(11, 20))
    assert (backlog.jobs, backlog.through) == (0, 0)
    backlog.offer(frame(1, 10))
    backlog.offer(frame(1, 10))
    assert (backlog.jobs, backlog.through) == (3, 10)


@pytest.mark.parametrize("order_by", [None, "account"])
def test_what_is_dead_is_no_job_any_more_until_it_is_sent_again_also_in_another_life(
    tmp_path: Path, order_by: str | None
) -> None:
    from engine.jobs import Hands

    path = tmp_path / "queue-q.acks"
    config = QueueConfig(name="q", max_attempts=1, order_by=order_by)
    log = AckLog(path)
    made = frame(1, 4)
    queue = JobQueue(config, log, lambda seq: made)
    queue.feed(made)
    hands = Hands()
    queue.available(0)
    batch = queue.take(hands, 0)
    assert batch is not None
    assert queue.undone == 4
    queue.nack(hands, batch.no, 0, "error", "no", "", 0)
    (letter, job) = queue.letters.pop()
    assert queue.undone == 3, "it is dying"
    queue.bury(job)
    queue.revive([letter.seq], 0)
    assert queue.undone == 4
    log.flush()
    log.close()
    again = JobQueue(config, AckLog(path), lambda seq: made)
    again.feed(made)
    assert again.undone == 4, "the one sent again and three others"
    again.log.close()
