"""The worker kit as processes: handlers of every kind, signals, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import queue as queues
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from queue_rig import ROOT, Rig, config, read_lines, wait_for

from engine.errors import UsageError
from engine.worker import Worker, load_handler


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config()]) as made:
        yield made


def effects(rig: Rig) -> list[dict[str, object]]:
    return read_lines(rig.folder / "effects.jsonl")


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        ("queue_handlers:note", ()),
        ("queue_handlers:note", ("--concurrency", "4")),
        ("queue_handlers:note_async", ()),
        ("queue_handlers:note_async", ("--concurrency", "16")),
        ("queue_handlers:note_batch", ("--batch", "1")),
        ("queue_handlers:note_batch", ("--batch", "50")),
        ("queue_handlers:note_batch", ("--batch", "7", "--concurrency", "3")),
        ("queue_handlers:note_batch_async", ("--batch", "50", "--concurrency", "4")),
    ],
)
def test_a_handler_of_any_kind_does_every_job_once_and_sigterm_ends_it_with_0(
    rig: Rig, handler: str, options: tuple[str, ...]
) -> None:
    rig.publish(300)
    worker = rig.start_worker(handler, *options)
    rig.wait_idle()
    worker.terminate()
    _, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (0, "")
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 301))


def test_sigterm_finishes_the_job_in_hand_and_others_get_the_rest(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:gated")
    rig.publish(30)
    wait_for(lambda: effects(rig))
    worker.terminate()
    (rig.folder / "GO").touch()  # it finds this after the signal, for certain
    assert worker.wait(60) == 0
    assert len(effects(rig)) == 1
    status = rig.status()
    assert (status.done, status.in_flight) == (1, 0)
    rig.start_worker("queue_handlers:note")
    rig.wait_idle()
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 31))


def test_sigterm_finishes_the_batch_in_hand_and_others_get_the_rest(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:gated_batch", "--batch", "5")
    rig.publish(30)
    wait_for(lambda: effects(rig))
    worker.terminate()
    (rig.folder / "GO").touch()
    assert worker.wait(60) == 0
    assert len(effects(rig)) == 5
    status = rig.status()
    assert (status.done, status.in_flight) == (5, 0)
    rig.start_worker("queue_handlers:note")
    rig.wait_idle()
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 31))


def test_ctrl_c_ends_it_with_130(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:note")
    wait_for(lambda: rig.status().workers)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (130, "")


@pytest.mark.parametrize("handler", ["queue_handlers:hang_on_5", "queue_handlers:hang_on_5_async"])
def test_a_handler_that_hangs_is_cut_at_the_lease_and_others_go_on(tmp_path: Path, handler: str) -> None:
    # Three attempts: a busy machine may let the lease of another job end, hardly thrice in a row.
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=1_000_000_000, max_attempts=3)]) as rig:
        rig.publish(20)
        rig.start_worker(handler)
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason, letter.attempts) == (5, "lease_exhausted", 3)
        assert sorted({row["seq"] for row in effects(rig)}) == list(range(1, 21))


def test_a_handler_cut_in_a_thread_fails_and_the_thread_goes_on(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=1_000_000_000, max_attempts=3)]) as rig:
        rig.publish(20)
        rig.start_worker("queue_handlers:hang_on_5", "--concurrency", "2")
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason) == (5, "lease_exhausted")


def test_a_batch_is_what_is_there_and_no_more_than_asked_for(rig: Rig) -> None:
    rig.publish(2000)
    rig.start_worker("queue_handlers:note_batch", "--batch", "100")
    rig.wait_idle()
    sizes = {row["size"] for row in effects(rig)}
    assert max(sizes) == 100
    rig.publish(1)
    rig.wait_idle()
    assert effects(rig)[-1]["size"] == 1, "one event alone does not wait for others"


@pytest.mark.parametrize("handler", ["queue_handlers:poison_batch", "queue_handlers:poison_batch_async"])
def test_a_batch_that_fails_is_tried_one_by_one_so_that_only_poison_dies(rig: Rig, handler: str) -> None:
    rig.publish(200)
    rig.start_worker(handler, "--batch", "30")
    rig.wait_idle()
    assert sorted(row["seq"] for row in effects(rig)) == [seq for seq in range(1, 201) if seq % 10]
    assert {row["attempt"] for row in effects(rig) if row["size"] == 1} >= {2}, "it may have run before"
    letters = rig.letters()
    assert sorted(letter.seq for letter in letters) == list(range(10, 201, 10))
    assert {(letter.attempts, letter.error) for letter in letters} == {(5, "ValueError: no luck with 1 events")}


@pytest.mark.parametrize(
    ("handler", "options"),
    [
        ("queue_handlers:hang_batch_on_5", ()),
        ("queue_handlers:hang_batch_on_5", ("--concurrency", "2")),
        ("queue_handlers:hang_batch_on_5_async", ()),
    ],
)
def test_in_a_batch_that_hangs_only_the_job_that_hangs_dies(
    tmp_path: Path, handler: str, options: tuple[str, ...]
) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=1_000_000_000, max_attempts=3)]) as rig:
        rig.publish(20)
        rig.start_worker(handler, "--batch", "8", *options)
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason, letter.attempts) == (5, "lease_exhausted", 3)
        # A busy machine may let a lease end once more, and a job be done twice.
        assert {row["seq"] for row in effects(rig)} == {seq for seq in range(1, 21) if seq != 5}


def test_a_batch_through_the_processed_table_has_each_effect_once(rig: Rig) -> None:
    rig.publish(1000)
    for _ in range(2):
        rig.start_worker("queue_handlers:batch_once", "--processed", "effects.db", "--batch", "20")
    rig.wait_idle()
    with sqlite3.connect(rig.folder / "effects.db") as db:
        rows = db.execute("SELECT seq, trade_id FROM effects ORDER BY seq").fetchall()
    db.close()
    assert rows == [(seq, f"T{seq}") for seq in range(1, 1001)]
    assert sorted(letter.seq for letter in rig.letters()) == list(range(100, 1001, 100))


def test_a_handler_with_a_close_is_closed_when_its_worker_leaves(rig: Rig) -> None:
    rig.publish(3)
    worker = rig.start_worker("queue_handlers:closing")
    rig.wait_idle()
    worker.terminate()
    assert worker.wait(60) == 0
    assert [row["seq"] for row in effects(rig)] == [1, 2, 3, 0]


def test_effects_through_the_processed_table_happen_once(rig: Rig) -> None:
    rig.publish(400)
    for _ in range(2):
        rig.start_worker("queue_handlers:effect_once", "--processed", "effects.db")
    rig.wait_idle()
    with sqlite3.connect(rig.folder / "effects.db") as db:
        rows = db.execute("SELECT seq, trade_id FROM effects ORDER BY seq").fetchall()
    db.close()
    assert rows == [(seq, f"T{seq}") for seq in range(1, 401)]
    assert sorted(letter.seq for letter in rig.letters()) == [100, 200, 300, 400]


# --- what cannot work says so in one line


def run_worker(folder: Path, handler: str, *options: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from engine.cli.main import main; sys.exit(main())"
    words = ["worker", "--queue", "q", "--handler", handler, "--connect", f"ipc://{folder}", *options]
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        ("no_such_package:handle", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("queue_handlers:missing", "has no attribute 'missing'"),
        ("queue_handlers:NOT_A_FUNCTION", "is a int; expected a function"),
        ("queue_handlers", "expected package.module:function"),
        ("broken_module:handle", "ZeroDivisionError: division by zero"),
        ("syntax_module:handle", "SyntaxError"),
        ("exit_module:handle", "SystemExit: 7"),
    ],
)
def test_a_handler_that_cannot_be_imported_is_exit_2_with_its_own_error(
    tmp_path: Path, handler: str, says: str
) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    (tmp_path / "syntax_module.py").write_text("def handle(:\n")
    (tmp_path / "exit_module.py").write_text("raise SystemExit(7)\n")
    done = run_worker(tmp_path, handler)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_without_an_engine_it_is_exit_1_in_time(tmp_path: Path) -> None:
    done = run_worker(tmp_path, "queue_handlers:noop", "--wait", "200ms")
    assert done.returncode == 1
    assert "riskwire serve" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_handler_in_the_current_directory_is_found(rig: Rig) -> None:
    (rig.folder / "my_handlers.py").write_text("def handle(event, context):\n    print(event.trade_id, flush=True)\n")
    rig.publish(1)
    worker = rig.start_worker("my_handlers:handle")
    rig.wait_idle()
    worker.terminate()
    assert worker.communicate(timeout=60)[0] == "T1\n"


def test_a_function_with_the_wrong_arguments_is_refused_before_it_gets_a_job() -> None:
    with pytest.raises(UsageError, match=r"does not take \(event, context\)"):
        load_handler("operator:neg")
    with pytest.raises(UsageError, match="concurrency 0"):
        Worker("q", print, "inproc://x", concurrency=0)
    with pytest.raises(UsageError, match="batch -1"):
        Worker("q", print, "inproc://x", batch=-1)


@pytest.mark.parametrize("options", [(), ("--concurrency", "2")])
def test_a_process_that_a_handler_forks_never_does_its_parents_jobs(rig: Rig, options: tuple[str, ...]) -> None:
    worker = rig.start_worker("queue_handlers:forks", *options)
    rig.publish(60)
    rig.wait_idle()
    worker.terminate()
    assert worker.wait(60) == 0
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 61))
    assert len({row["pid"] for row in effects(rig)}) == 1
    assert rig.letters() == []
    assert worker.stderr is not None
    assert set(worker.stderr.read().splitlines()) == {
        "riskwire worker: a process that a handler forked has returned from it, and ends here"
    }


@pytest.mark.parametrize(
    "words", [("rude_on_5",), ("rude_on_5", "--concurrency", "2"), ("rude_on_5_async", "--concurrency", "3")]
)
def test_whatever_a_handler_raises_prints_or_changes_only_its_own_job_fails(rig: Rig, words: tuple[str, ...]) -> None:
    handler, *options = words
    worker = rig.start_worker(f"queue_handlers:{handler}", *options)
    rig.publish(20)
    rig.wait_idle()
    assert {row["seq"] for row in effects(rig)} == set(range(1, 21)) - {5, 6}
    dead = sorted((letter.seq, letter.error) for letter in rig.letters())
    assert dead == [(5, "Rude: no"), (6, "SystemExit: enough")]
    worker.terminate()
    assert worker.wait(60) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("unfit",),
        ("unfit", "--concurrency", "3"),
        ("unfit_async", "--concurrency", "3"),
        ("unfit_batch", "--batch", "7"),
        ("full_disk", "--processed", "p.db"),
    ],
)
def test_a_worker_that_can_do_no_job_at_all_leaves_and_no_job_is_the_worse_for_it(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    handler, *options = words
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(max_attempts=1)]) as rig:
        worker = rig.start_worker(f"queue_handlers:{handler}", *options)
        rig.publish(30)
        assert worker.wait(60) == 2
        assert worker.stderr is not None
        (line,) = worker.stderr.read().splitlines()
        assert ("put it out" in line) != ("p.db: cannot be written: database or disk is full" in line)
        assert rig.status().failed == 0
        rig.start_worker("queue_handlers:note")
        rig.wait_idle()
        assert {row["seq"] for row in effects(rig)} == set(range(1, 31))
        assert rig.letters() == []


def test_a_processed_file_that_cannot_be_used_is_told_before_there_is_a_job(rig: Rig) -> None:
    for name in ("none/p.db", "."):
        worker = rig.start_worker("queue_handlers:note", "--processed", name)
        assert worker.wait(60) == 2
        assert worker.stderr is not None
        (line,) = worker.stderr.read().splitlines()
        assert "name a file that can be written" in line


def test_a_transaction_that_a_handler_leaves_open_is_its_failure_and_holds_nobody_up(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:leaves_open", "--processed", "p.db")
    rig.publish(10)
    rig.wait_idle()
    (letter,) = rig.letters()
    assert (letter.seq, "left a transaction open" in letter.error) == (3, True)
    with sqlite3.connect(rig.folder / "p.db") as db:
        seqs = [seq for (seq,) in db.execute("SELECT seq FROM effects ORDER BY seq")]
    db.close()
    assert seqs == [seq for seq in range(1, 11) if seq != 3]
    worker.terminate()
    assert worker.wait(60) == 0


# --- waiting for the disk


class SlowDisk:
    """Stands in for the disk: each wait for it lasts until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began: queues.SimpleQueue[int] = queues.SimpleQueue()
        self.go_on: queues.SimpleQueue[OSError | None] = queues.SimpleQueue()
        monkeypatch.setattr("engine.processed._sync_file", self.sync)

    def sync(self, fd: int) -> None:
        self.began.put(fd)
        if (problem := self.go_on.get(timeout=60)) is not None:
            raise problem


@contextlib.contextmanager
def worker_here(rig: Rig, handler: Any, **options: Any) -> Iterator[tuple[Worker, list[Exception]]]:
    """Run a worker in a thread of this process until the block ends; gives it, and what it has raised."""
    worker = Worker("q", handler, rig.base, context=rig.context, processed=rig.folder / "p.db", **options)
    raised: list[Exception] = []

    def run() -> None:
        try:
            worker.run()
        except Exception as problem:
            raised.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield worker, raised
    finally:
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


def count_once(events: Any, context: Any) -> None:
    with context.once() as db:
        if db is not None:
            db.execute("CREATE TABLE IF NOT EXISTS effects (seq INTEGER)")
            db.executemany("INSERT INTO effects VALUES (?)", [(seq,) for seq, _ in context.fresh])


async def count_once_async(events: Any, context: Any) -> None:
    count_once(events, context)
    await asyncio.sleep(0)


def effect_seqs(rig: Rig) -> list[int]:
    with contextlib.closing(sqlite3.connect(rig.folder / "p.db")) as db:
        return [seq for (seq,) in db.execute("SELECT seq FROM effects ORDER BY seq")]


@pytest.mark.parametrize("handler", [count_once, count_once_async])
def test_jobs_are_acked_once_their_effects_are_on_the_disk_and_others_are_handled_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: Any
) -> None:
    disk = SlowDisk(monkeypatch)
    with (
        Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=60_000_000_000)]) as rig,
        worker_here(rig, handler, batch=10) as (worker, _),
    ):
        rig.publish(10)
        disk.began.get(timeout=60)
        rig.publish(10)
        wait_for(lambda: effect_seqs(rig) == list(range(1, 21)))
        assert (rig.status().done, rig.status().in_flight, worker.done) == (0, 20, 0)
        disk.go_on.put(None)
        disk.began.get(timeout=60)
        wait_for(lambda: 0 < rig.status().done < 20)
        disk.go_on.put(None)
        assert rig.wait_idle().done == 20
        assert effect_seqs(rig) == list(range(1, 21))


def test_a_worker_that_is_stopped_waits_for_the_disk_before_it_says_goodbye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=60_000_000_000)]) as rig:
        with worker_here(rig, count_once, batch=10) as (worker, raised):
            rig.publish(10)
            disk.began.get(timeout=60)
            worker.stop()
            assert rig.status().in_flight == 10
            disk.go_on.put(None)
        assert raised == []
        assert rig.wait_idle().done == 10


def test_a_disk_that_fails_ends_the_worker_and_its_jobs_come_again_to_who_finds_their_effects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk(monkeypatch)
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(max_attempts=1)]) as rig:
        with worker_here(rig, count_once, batch=10) as (_, raised):
            rig.publish(10)
            disk.began.get(timeout=60)
            disk.go_on.put(OSError(5, "Input/output error"))
            wait_for(lambda: raised)
        assert "p.db: what was written may not be on the disk (Input/output error)" in str(raised[0])
        assert (rig.status().done, rig.status().failed) == (0, 0)
        with worker_here(rig, count_once, batch=10):
            disk.began.get(timeout=60)  # also of effects that were there
            assert rig.status().done == 0
            disk.go_on.put(None)
            assert rig.wait_idle().done == 10
        assert effect_seqs(rig) == list(range(1, 11))
        assert rig.letters() == []
