"""The worker kit as processes: handlers of every kind, signals, exit codes."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from queue_rig import ROOT, Rig, config, read_lines, wait_for

from engine.errors import SinkError, UsageError
from engine.events import TradeExecuted
from engine.processed import Processed
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
    _, errors = worker.communicate(timeout=10)
    assert (worker.returncode, errors) == (0, "")
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 301))


def test_sigterm_finishes_the_job_in_hand_and_others_get_the_rest(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:slow")
    rig.publish(30)
    wait_for(lambda: effects(rig))
    worker.terminate()
    assert worker.wait(10) == 0
    begun = len(effects(rig))
    assert begun < 10
    status = rig.status()
    assert (status.done, status.in_flight) == (begun, 0)
    rig.start_worker("queue_handlers:note")
    rig.wait_idle()
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 31))


def test_sigterm_finishes_the_batch_in_hand_and_others_get_the_rest(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:slow_batch", "--batch", "5")
    rig.publish(30)
    wait_for(lambda: effects(rig))
    worker.terminate()
    assert worker.wait(10) == 0
    begun = len(effects(rig))
    assert begun % 5 == 0
    assert begun < 30
    status = rig.status()
    assert (status.done, status.in_flight) == (begun, 0)
    rig.start_worker("queue_handlers:note")
    rig.wait_idle()
    assert sorted(row["seq"] for row in effects(rig)) == list(range(1, 31))


def test_ctrl_c_ends_it_with_130(rig: Rig) -> None:
    worker = rig.start_worker("queue_handlers:note")
    wait_for(lambda: rig.status().workers)
    worker.send_signal(signal.SIGINT)
    _, errors = worker.communicate(timeout=10)
    assert (worker.returncode, errors) == (130, "")


@pytest.mark.parametrize("handler", ["queue_handlers:hang_on_5", "queue_handlers:hang_on_5_async"])
def test_a_handler_that_hangs_is_cut_at_the_lease_and_others_go_on(tmp_path: Path, handler: str) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=300_000_000, max_attempts=2)]) as rig:
        rig.publish(20)
        rig.start_worker(handler)
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason, letter.attempts) == (5, "lease_exhausted", 2)
        assert sorted({row["seq"] for row in effects(rig)}) == list(range(1, 21))


def test_a_handler_cut_in_a_thread_fails_and_the_thread_goes_on(tmp_path: Path) -> None:
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=300_000_000, max_attempts=1)]) as rig:
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
    with Rig(f"ipc://{tmp_path}", tmp_path, [config(lease_ns=1_000_000_000, max_attempts=2)]) as rig:
        rig.publish(20)
        rig.start_worker(handler, "--batch", "8", *options)
        rig.wait_idle()
        (letter,) = rig.letters()
        assert (letter.seq, letter.reason, letter.attempts) == (5, "lease_exhausted", 2)
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
    assert worker.wait(10) == 0
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
        timeout=30,
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
    assert worker.communicate(timeout=10)[0] == "T1\n"


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
    assert worker.wait(20) == 0
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
    assert worker.wait(20) == 0


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
        assert worker.wait(30) == 2
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
        assert worker.wait(30) == 2
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
    assert worker.wait(20) == 0


# --- the processed table


def test_what_is_written_is_on_the_disk_before_the_ack_inside_once_and_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import processed as module

    synced: list[int] = []
    monkeypatch.setattr(module, "_sync_file", synced.append)
    processed = Processed(tmp_path / "p.db")
    processed.settle()
    assert synced == [], "nothing was written"
    processed.db.execute("CREATE TABLE effects (seq INTEGER)")
    processed.db.execute("INSERT INTO effects VALUES (1)")
    processed.settle()
    processed.settle()
    assert len(synced) == 1
    with processed.once("q", 1, trade("T1")):
        assert len(synced) == 1
    processed.settle()
    assert len(synced) == 2
    with processed.once("q", 1, trade("T1")) as db:
        assert db is None
    assert len(synced) == 3, "who wrote it may have been killed before it was on the disk"
    processed.close()


def test_a_disk_that_has_failed_once_is_not_believed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import processed as module

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    processed = Processed(tmp_path / "p.db")
    monkeypatch.setattr(module, "_sync_file", fail)
    said = r"p\.db: what was written may not be on the disk \(Input/output error\)"
    for seq in (1, 2):
        with pytest.raises(SinkError, match=said), processed.once("q", seq, trade(f"T{seq}")):
            pass
        monkeypatch.undo()
    processed.close()


def trade(trade_id: str) -> TradeExecuted:
    from decimal import Decimal

    return TradeExecuted(trade_id, "BTC", Decimal(1), Decimal(1), "buy", 1)


def test_an_effect_that_raises_is_rolled_back_and_can_happen_later(tmp_path: Path) -> None:
    processed = Processed(tmp_path / "p.db")
    processed.db.execute("CREATE TABLE effects (seq INTEGER)")

    def fail_half_way() -> None:
        with processed.once("q", 1, trade("T1")) as db:
            assert db is not None
            db.execute("INSERT INTO effects VALUES (1)")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail_half_way()
    for expected in (True, False):
        with processed.once("q", 1, trade("T1")) as db:
            assert (db is not None) is expected
            if db is not None:
                db.execute("INSERT INTO effects VALUES (1)")
    assert processed.db.execute("SELECT count(*) FROM effects").fetchone() == (1,)
    processed.close()


@pytest.mark.parametrize("seqs", [[1, 2, 3, 4], [1, 2000, 5, 999_999]])
def test_of_several_jobs_those_that_took_effect_before_are_left_out(tmp_path: Path, seqs: list[int]) -> None:
    processed = Processed(tmp_path / "p.db")
    events = [trade(f"T{seq}") for seq in seqs]
    with processed.once_each("q", seqs[1:3], events[1:3]) as (_, fresh):
        assert fresh == [0, 1]
    with processed.once_each("q", seqs, events) as (_, fresh):
        assert fresh == [0, 3]
    with processed.once_each("q", seqs, events) as (_, fresh):
        assert fresh == []
    processed.close()


def test_another_queue_and_another_journals_event_of_the_same_seq_are_not_mistaken(tmp_path: Path) -> None:
    processed = Processed(tmp_path / "p.db")
    for queue, event in [("q", trade("T1")), ("other", trade("T1")), ("q", trade("T2"))]:
        with processed.once(queue, 1, event) as db:
            assert db is not None
    processed.close()


def test_a_file_that_cannot_hold_the_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "junk.db"
    path.write_text("junk " * 100)
    with pytest.raises(SinkError, match=r"junk\.db"):
        _ = Processed(path).db
