"""The blotter worker on a real engine: killed at any moment, each trade is there once; a rebuild gives the same."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cli_process import assert_one_line, start
from queue_rig import wait_for

from engine.events import MarkPrice, TradeExecuted
from engine.publisher import Publisher

TRADES = 1500
DAY_NS = 86_400 * 10**9
START_NS = 1_700_000_000 * 10**9


def events() -> Iterator[TradeExecuted | MarkPrice]:
    """Yield trades of three days; each 50th is busted, each 75th corrected, and the correction of each 150th busted."""
    for n in range(1, TRADES + 1):
        more: dict[str, Any] = {"executed_at": START_NS + (n % 3) * DAY_NS, "account": f"A{n % 5}", "venue": "X"}

        def trade(
            trade_id: str, exec_type: Any = "new", ref: str = "", more: dict[str, Any] = more, n: int = n
        ) -> TradeExecuted:
            return TradeExecuted(
                trade_id, "BTC", Decimal(n) / 4, Decimal(1), "buy", exec_type=exec_type, ref_trade_id=ref, **more
            )

        yield trade(f"T{n}")
        if n % 75 == 0:
            yield trade(f"C{n}", "correct", f"T{n}")
        if n % 150 == 0 or (n % 50 == 0 and n % 75):
            yield trade(f"B{n}", "bust", f"C{n}" if n % 150 == 0 else f"T{n}")
        if n % 10 == 0:
            yield MarkPrice(f"M{n}", "BTC", Decimal(n), n)


EVENTS = list(events())
BOOKED = sum(isinstance(event, TradeExecuted) for event in EVENTS)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    base = f"ipc://{tmp_path}/run"
    process = start("serve", "--base", base, "--journal", "journal", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == f"ready {base}\n"
    yield base
    process.terminate()
    process.communicate(timeout=60)


def rows(path: Path) -> list[Any]:
    if not path.exists():
        return []
    db = sqlite3.connect(path, timeout=60)
    try:
        return db.execute("SELECT * FROM trades ORDER BY seq").fetchall()
    except sqlite3.OperationalError:  # no table yet
        return []
    finally:
        db.close()


def run(cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    process = start(*words, cwd=cwd)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def pids_at(engine: str, cwd: Path) -> set[int]:
    """Return who works on any queue."""
    queues = json.loads(run(cwd, "queue", "--json", "--connect", engine).stdout)
    return {worker["pid"] for queue in queues for worker in queue["workers"]}


def test_each_trade_is_booked_once_though_workers_are_killed_and_a_rebuild_gives_the_same(
    engine: str, tmp_path: Path
) -> None:
    words = ("blotter", "run", "--db", "b.db", "--parquet", "days", "--every", "300ms", "--connect", engine)
    workers = [start(*words, cwd=tmp_path) for _ in range(2)]
    path = tmp_path / "b.db"
    try:
        with Publisher(engine, "desk") as publisher:
            for number, event in enumerate(EVENTS):
                publisher.publish(event)
                if number in (600, 1100):
                    publisher.flush()
                    wait_for(lambda number=number: len(rows(path)) > number // 2)
                    workers[0].kill()
                    workers[0].communicate()
                    workers[0] = start(*words, cwd=tmp_path)
        wait_for(lambda: len(rows(path)) == BOOKED)
        # Who is not there yet would just end.
        wait_for(lambda: pids_at(engine, tmp_path) >= {worker.pid for worker in workers})
        refused = run(tmp_path, "blotter", "rebuild", "journal", "--db", "b.db")
        assert refused.returncode == 2
        assert "stop them first" in refused.stderr
    finally:
        for worker in workers:
            worker.terminate()
        ends = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], ends

    booked = rows(path)
    published = [event.trade_id for event in EVENTS if isinstance(event, TradeExecuted)]
    assert [row[1] for row in booked] == published
    status = {row[1]: row[14] for row in booked}
    assert (status["T75"], status["C75"]) == ("corrected", "live")
    assert (status["T150"], status["C150"], status["B150"]) == ("corrected", "busted", "bust")
    assert (status["T50"], status["T51"]) == ("busted", "live")
    assert {file.stem for file in (tmp_path / "days").glob("*.parquet")} == {row[13] for row in booked}
    in_files = [row for file in (tmp_path / "days").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert {(row["seq"], row["trade_id"], row["status"], row["changed_by"]) for row in in_files} == {
        (row[0], row[1], row[14], row[15]) for row in booked
    }
    assert len(in_files) == BOOKED

    path.unlink()
    made = run(tmp_path, "blotter", "rebuild", "journal", "--db", "b.db", "--json")
    assert json.loads(made.stdout)["trades"] == BOOKED
    assert rows(path) == booked
    again = start(*words, cwd=tmp_path)  # the queue goes on where it was, on the file made again
    with Publisher(engine, "desk") as publisher:
        publisher.publish(TradeExecuted("last", "BTC", Decimal(1), Decimal(1), "sell", START_NS))
    wait_for(lambda: len(rows(path)) == BOOKED + 1)
    again.terminate()
    assert again.communicate(timeout=60)[1] == ""


def test_the_handler_runs_as_any_other_and_trades_can_be_looked_up(engine: str, tmp_path: Path) -> None:
    handler = ("--handler", "engine.workers.blotter:handle", "--processed", "b.db", "--connect", engine)
    worker = start("worker", "--queue", "q", *handler, cwd=tmp_path)
    with Publisher(engine, "desk") as publisher:
        for event in EVENTS[:200]:
            publisher.publish(event)
    expected = sum(isinstance(event, TradeExecuted) for event in EVENTS[:200])
    wait_for(lambda: len(rows(tmp_path / "b.db")) == expected)
    worker.terminate()
    assert worker.wait(60) == 0
    (found,) = json.loads(run(tmp_path, "blotter", "show", "T50", "--db", "b.db", "--json").stdout)
    assert (found["account"], found["price"], found["status"]) == ("A0", "12.5", "busted")
    text = run(tmp_path, "blotter", "show", "--db", "b.db", "--account", "A0", "--status", "corrected").stdout
    assert [line.split()[1] for line in text.splitlines()] == ["trade_id", "T75", "T150"]
    written = run(tmp_path, "blotter", "parquet", "days", "--db", "b.db")
    assert written.stdout == "days: 3 days written\n"


@pytest.mark.parametrize(
    "words", [["show", "--db", "none.db"], ["parquet", "days"], ["rebuild", "."], ["show", "--db", "."]]
)
def test_what_cannot_be_used_is_one_line_and_exit_2(tmp_path: Path, words: list[str]) -> None:
    from cli_process import Done

    done = run(tmp_path, "blotter", *words)
    assert done.returncode == 2
    assert_one_line(Done(done.returncode, done.stdout, done.stderr))


HUGE = Decimal(60_000_000_000)  # two of them are more than a position can hold
REFUSED = [
    ("T1", "new", "", HUGE, "busted"),
    ("T2", "new", "", HUGE, "overflow"),
    ("B2", "bust", "T2", Decimal(1), "unknown_trade"),  # it never was
    ("T3", "new", "", Decimal(5), "corrected"),
    ("C3", "correct", "T3", HUGE, "overflow"),
    ("C4", "correct", "T3", Decimal(7), "live"),
    ("B5", "bust", "C3", Decimal(1), "unknown_trade"),
    ("B1", "bust", "T1", Decimal(1), "bust"),
    ("T6", "new", "", HUGE, "live"),
]


def statuses(path: Path) -> list[tuple[str, str]]:
    return [(row[1], row[14]) for row in rows(path)]


def test_what_the_sequence_refused_is_marked_so_live_after_a_restart_and_when_made_again(tmp_path: Path) -> None:
    base = f"ipc://{tmp_path}/run"
    serve = ("serve", "--base", base, "--journal", "journal")
    words = ("blotter", "run", "--connect", base, "--db")
    expected = [(trade_id, status) for trade_id, *_, status in REFUSED]

    def publish(part: list[Any]) -> None:
        with Publisher(base, "desk") as publisher:
            for trade_id, exec_type, ref, volume, _ in part:
                publisher.publish(
                    TradeExecuted(
                        trade_id, "BTC", Decimal(1), volume, "buy", START_NS, exec_type=exec_type, ref_trade_id=ref
                    )
                )

    def engine_and(*workers: str) -> list[subprocess.Popen[str]]:
        engine = start(*serve, cwd=tmp_path)
        assert engine.stdout is not None
        assert engine.stdout.readline() == f"ready {base}\n"
        return [engine, *(start(*words, db, cwd=tmp_path) for db in workers)]

    def end(processes: list[subprocess.Popen[str]]) -> None:
        for process in processes[::-1]:
            process.terminate()
            assert process.communicate(timeout=60)[1] == ""

    processes = engine_and("live.db")
    publish(REFUSED[:6])
    wait_for(lambda: len(rows(tmp_path / "live.db")) == 6)
    end(processes[:1])  # its verdicts lie in a snapshot now
    (tmp_path / "journal" / "queue-blotter.acks").unlink()  # everything comes again, to another file
    end(processes[1:])
    processes = engine_and("again.db")
    publish(REFUSED[6:])
    wait_for(lambda: len(rows(tmp_path / "again.db")) == len(REFUSED))
    end(processes)
    assert statuses(tmp_path / "again.db") == expected
    assert statuses(tmp_path / "live.db") == [("T1", "live"), *expected[1:6]], "its bust came later"
    run(tmp_path, "blotter", "rebuild", "journal", "--db", "made.db")
    assert rows(tmp_path / "made.db") == rows(tmp_path / "again.db")
    letters = json.loads(run(tmp_path, "dlq", "list", "journal/dead-letters.db", "--json").stdout)
    refused = {letter["trade_id"]: letter["reason"] for letter in letters}
    assert refused == {trade_id: status for trade_id, status in expected if status in ("overflow", "unknown_trade")}
