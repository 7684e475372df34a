"""Workers killed, stopped and dying of their jobs, and the queue going away: nothing is lost."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from engine.deadletters import DeadLetterStore
from engine.endpoints import endpoint
from engine.events import TradeExecuted
from engine.publisher import Publisher
from engine.sink import Sink

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from cli_process import start
from queue_rig import ACCOUNTS, Rig, config, read_lines, wait_for

ROOT = Path(__file__).resolve().parents[2]
CREDIT = 16


@pytest.fixture
def lease_ns() -> int:
    """Return a lease that does not end while a test runs."""
    return 3600 * 10**9


@pytest.fixture
def rig(tmp_path: Path, lease_ns: int) -> Iterator[Rig]:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(in_hands_max=CREDIT, lease_ns=lease_ns)]) as made:
        yield made


def effects(rig: Rig) -> list[dict[str, object]]:
    return read_lines(rig.folder / "effects.jsonl")


def test_workers_killed_at_any_moment_lose_nothing(rig: Rig) -> None:
    workers = [rig.start_worker("queue_handlers:note") for _ in range(2)]
    wait_for(lambda: len(rig.status().workers) == 2)
    for round_ in range(4):
        done = rig.status().done
        rig.publish(500)
        wait_for(lambda done=done: rig.status().done > done + 50)
        victim = workers[round_ % 2]
        victim.kill()
        workers[round_ % 2] = rig.start_worker("queue_handlers:note")
    rig.wait_idle()
    counts = Counter(row["seq"] for row in effects(rig))
    assert set(counts) == set(range(1, 2001))
    assert sum(counts.values()) <= 2000 + 4 * CREDIT, "only what was in a killed worker's hands is done twice"
    assert rig.letters() == []


def test_a_killed_worker_is_noticed_long_before_its_lease(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=3600 * 10**9)]) as rig:
        worker = rig.start_worker("queue_handlers:gated")
        rig.publish(3)
        wait_for(lambda: effects(rig))
        worker.kill()
        wait_for(lambda: not rig.status().workers)
        rig.start_worker("queue_handlers:note")
        rig.wait_idle()
        assert {row["seq"] for row in effects(rig)} == {1, 2, 3}


@pytest.mark.parametrize("lease_ns", [3 * 10**9])
def test_a_stopped_worker_hoards_no_more_than_its_credit_and_others_do_its_jobs(rig: Rig) -> None:
    stopped = rig.start_worker("queue_handlers:note")
    rig.publish(1)
    wait_for(lambda: rig.status().acked_through == 1)  # it gives credit
    stopped.send_signal(signal.SIGSTOP)
    rig.publish(999)
    (held,) = wait_for(lambda: [w for w in rig.status().workers if w.in_flight])
    assert held.in_flight <= CREDIT
    rig.start_worker("queue_handlers:note")
    wait_for(lambda: rig.status().acked_through == 1000)
    assert {row["seq"] for row in effects(rig)} == set(range(1, 1001))
    stopped.send_signal(signal.SIGCONT)
    wait_for(lambda: all(w.in_flight == 0 for w in rig.status().workers))
    rig.publish(10)
    rig.wait_idle()
    assert len(effects(rig)) <= 1010 + CREDIT
    assert rig.letters() == []


def test_a_job_that_kills_its_workers_is_given_up_and_takes_no_other_with_it(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(max_attempts=2)]) as rig:
        rig.publish(20)
        lives = 0
        while not rig.status().dead:
            lives += 1
            assert lives <= 4, "two attempts are counted, and one may be needed to find out which job it is"
            worker = rig.start_worker("queue_handlers:die_on_5")
            wait_for(lambda worker=worker: rig.status().dead or worker.poll() is not None)
            wait_for(lambda: rig.status().dead or not rig.status().workers)
        rig.start_worker("queue_handlers:die_on_5")
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason) == (5, "lease_exhausted")
        assert {row["seq"] for row in effects(rig)} == set(range(1, 21))


def test_a_job_that_kills_its_worker_takes_no_other_of_its_batch_with_it(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(max_attempts=2)]) as rig:
        rig.publish(20)
        for _ in range(5):
            worker = rig.start_worker("queue_handlers:die_batch_on_5", "--batch", "8")
            wait_for(lambda worker=worker: rig.status().acked_through == 20 or worker.poll() is not None)
            if rig.status().acked_through == 20:
                break
            wait_for(lambda: not rig.status().workers)
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason) == (5, "lease_exhausted")
        assert {row["seq"] for row in effects(rig)} == {seq for seq in range(1, 21) if seq != 5}


def test_one_percent_poison_killed_workers_and_a_queue_that_restarts_each_effect_is_there_once(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(in_hands_max=CREDIT, max_attempts=3)]) as rig:
        options = ("--processed", "effects.db")
        workers = [rig.start_worker("queue_handlers:effect_once", *options) for _ in range(2)]
        wait_for(lambda: len(rig.status().workers) == 2)
        for round_ in range(3):
            done = rig.status().done
            rig.publish(400)
            wait_for(lambda done=done: rig.status().done > done + 20)
            if round_ == 1:
                rig.restart_queue()
            else:
                workers[0].kill()
                workers[0] = rig.start_worker("queue_handlers:effect_once", *options)
        rig.wait_idle()
        with sqlite3.connect(rig.folder / "effects.db") as db:
            rows = db.execute("SELECT seq FROM effects ORDER BY seq").fetchall()
        db.close()
        assert [seq for (seq,) in rows] == list(range(1, 1201))
        assert sorted(letter.seq for letter in rig.letters()) == list(range(100, 1201, 100))


def test_order_is_kept_per_key_while_workers_are_killed(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(order_by="account", in_hands_max=CREDIT)]) as rig:
        workers = [rig.start_worker("queue_handlers:note") for _ in range(2)]
        wait_for(lambda: len(rig.status().workers) == 2)
        rig.publish(700)
        for i in range(2):
            wait_for(lambda done=50 * (i + 1): rig.status().done > done)
            workers[i].kill()
            workers[i] = rig.start_worker("queue_handlers:note")
        rig.wait_idle()
        for account in range(ACCOUNTS):
            seqs = [row["seq"] for row in effects(rig) if row["account"] == f"A{account}"]
            assert seqs == sorted(seqs)
        assert {row["seq"] for row in effects(rig)} == set(range(1, 701))


def test_dead_letters_wait_for_a_sink_that_is_away_and_no_job_is_forgotten(rig: Rig) -> None:
    rig.sink.stop()
    rig.start_worker("queue_handlers:poison_every_10")
    rig.publish(50)
    wait_for(lambda: rig.status().done == 45 and rig.status().dead == 5)
    assert rig.status().acked_through == 9, "a dead job is not done before its letter is safe"
    rig.queue.stop()  # even if the queue dies now
    rig.sink = Sink(rig.context, endpoint(rig.base, "sink"), rig.letters_path)
    rig.sink.start()
    rig.queue = rig._start_queue()
    rig.wait_idle()
    assert sorted(letter.seq for letter in rig.letters()) == [10, 20, 30, 40, 50]
    assert Counter(row["seq"] for row in effects(rig)) == {seq: 1 for seq in range(1, 51) if seq % 10}


def test_an_engine_killed_in_the_middle_hands_out_what_was_not_acked_and_effects_happen_once(tmp_path: Path) -> None:
    base = f"ipc://{tmp_path}/run"
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'integration'}"}

    def serve() -> subprocess.Popen[str]:
        engine = start("serve", "--base", base, "--journal", "journal", cwd=tmp_path)
        assert engine.stdout is not None
        assert engine.stdout.readline() == f"ready {base}\n"
        return engine

    def effects_done() -> list[int]:
        if not (tmp_path / "effects.db").exists():
            return []
        db = sqlite3.connect(tmp_path / "effects.db", timeout=60)
        try:
            return [seq for (seq,) in db.execute("SELECT seq FROM effects ORDER BY seq")]
        except sqlite3.OperationalError:  # no table yet
            return []
        finally:
            db.close()

    handler = ("--queue", "q", "--handler", "queue_handlers:effect_once", "--processed", "effects.db")
    processes = [serve()]
    try:
        with Publisher(base, "desk") as publisher:
            for n in range(1, 1501):
                event = TradeExecuted(f"T{n}", "BTC", Decimal(100), Decimal(1), "buy", 1_700_000_000 * 10**9)
                publisher.publish(event)
        processes += [start("worker", *handler, "--connect", base, cwd=tmp_path, **path) for _ in range(2)]
        for kill_after in (100, 600):
            wait_for(lambda after=kill_after: len(effects_done()) > after)
            processes[0].kill()
            processes[0].communicate()
            processes[0] = serve()
        wait_for(lambda: len(effects_done()) == 1500, 110)  # each waits for the disk
        with DeadLetterStore(tmp_path / "journal" / "dead-letters.db", read_only=True) as store:
            wait_for(lambda: store.count() == 15)
            assert sorted(letter.seq for letter in store.iterate()) == list(range(100, 1501, 100))
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate(timeout=60)
    assert effects_done() == list(range(1, 1501))
    assert [process.returncode for process in processes] == [0, 0, 0]
