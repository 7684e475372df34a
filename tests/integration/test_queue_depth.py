"""The depth of a queue is exact, also with filters, far behind, after a restart and with dead and parked jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from queue_rig import Rig, config, wait_for

from engine.config import QueueConfig
from engine.jobwire import QueueStatus
from engine.verdicts import Verdicts
from engine.worker import JobContext, Worker
from ext.records import REASONS

EVENTS, MARKS_EVERY = 40_000, 5


@pytest.fixture(autouse=True)
def few_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.jobqueue.FRESH_MAX", 500)  # so that thousands are a backlog


def jobs(account: int | None = None) -> int:
    seqs = (seq for seq in range(1, EVENTS + 1) if seq % MARKS_EVERY)
    return sum(account is None or seq % 7 == account for seq in seqs)


def counted(rig: Rig, depth: int, name: str = "q") -> QueueStatus:
    """Return how a queue is once it has heard of every event, counted each, and come to this depth."""

    def found() -> QueueStatus | None:
        status = rig.status(name)
        return status if (status.depth, status.uncounted) == (depth, 0) else None

    try:
        return wait_for(found)
    except AssertionError:
        raise AssertionError(f"expected {depth}: {rig.status(name)}") from None


@contextmanager
def working(rig: Rig, handler: Any, queue: str = "q") -> Iterator[Worker]:
    worker = Worker(queue, handler, rig.base, context=rig.context, processed=rig.folder / "processed.db")
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_with_filters_and_far_behind_it_is_the_number_of_jobs_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    queues = [config("q", match={"account": "A1"}), config("all"), config("none", match={"symbol": "X*"})]
    expected = {"q": jobs(1), "all": jobs(), "none": 0}
    with Rig(f"ipc://{tmp_path}", tmp_path, queues) as rig:
        rig.publish(EVENTS // 2, MARKS_EVERY)
        rig.publish(EVENTS // 2, MARKS_EVERY, frame_records=37)
        for restarted in (False, True):
            found = {name: counted(rig, depth, name) for name, depth in expected.items()}
            # Live frames that have come before the first look are all taken; from the journal it is a MiB at a time.
            assert found["all"].unread > 0 or not restarted, "part of it lies in the journal only"
            rig.restart_queue()
        with working(rig, lambda event, context: None):
            wait_for(lambda: rig.status().done == jobs(1))
        for name, depth in {**expected, "q": 0}.items():
            counted(rig, depth, name)


@pytest.mark.parametrize("order_by", [None, "account"])
def test_it_counts_what_is_parked_and_not_what_is_dead_in_this_life_and_the_next(
    tmp_path: Path, order_by: str | None
) -> None:
    settings = config(order_by=order_by, max_attempts=1, in_hands_max=50)
    done: set[int] = set()

    def handle(event: Any, context: JobContext) -> None:
        if context.seq in (8, 16):  # accounts A1 and A2
            raise ValueError("no")
        done.add(context.seq)

    with Rig(f"ipc://{tmp_path}", tmp_path, [settings]) as rig:
        rig.publish(EVENTS, MARKS_EVERY)
        with working(rig, handle):
            wait_for(lambda: len(done) > 2000 and rig.status().dead == 2)
        left = jobs() - 2 - len(done)
        assert bool(counted(rig, left).parked) == bool(order_by)
        wait_for(lambda: rig.revive([8, 16], "dead").seqs == [8, 16])  # safe in the sink, and that is what is kept
        rig.restart_queue()
        assert counted(rig, left).dead == 2
        rig.revive([8])
        assert counted(rig, left + 1).dead == 1


def test_a_job_waits_until_it_is_judged_and_its_worker_hears_what_was_refused(tmp_path: Path) -> None:
    through = [0]
    verdicts = Verdicts(lambda: through[0], [(3, REASONS.index("overflow"))])
    heard: dict[int, str] = {}

    def handle(event: Any, context: JobContext) -> None:
        heard[context.seq] = context.refused

    with Rig(f"ipc://{tmp_path}", tmp_path, [QueueConfig(name="q")], verdicts=verdicts) as rig, working(rig, handle):
        rig.publish(10)
        wait_for(lambda: rig.status().depth == 10 and rig.status().unread == 10)
        assert rig.status().done == 0
        verdicts.note([(7, REASONS.index("unknown_trade"))])
        through[0] = 10
        rig.wait_idle()
        assert rig.status().depth == 0
        assert {seq: reason for seq, reason in heard.items() if reason} == {3: "overflow", 7: "unknown_trade"}
        assert len(heard) == 10
