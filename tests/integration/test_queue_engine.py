"""Queues of a whole engine: their filters, what `riskwire queue` tells, and what a new life takes up."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_process import Done, assert_one_line
from engine_rig import config, trade
from queue_rig import wait_for

from engine.acklog import AckLog
from engine.cli.main import main
from engine.config import QueueConfig
from engine.events import MarkPrice
from engine.pipeline import Pipeline
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.worker import Worker


def riskwire(*words: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return Done(code, out.getvalue(), err.getvalue())


def publish(engine: Engine, *events: Any) -> None:
    with Publisher(engine.base, "desk") as publisher:
        for event in events:
            publisher.publish(event)


@contextlib.contextmanager
def working(engine: Engine, queue: str, handler: Any) -> Iterator[None]:
    """Run a worker in a thread."""
    worker = Worker(queue, handler, engine.base)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


def queues(engine: Engine) -> dict[str, Any]:
    done = riskwire("queue", "--json", "--connect", engine.base)
    assert done.code == 0, done.err
    return {queue["name"]: queue for queue in json.loads(done.out)}


def idle(engine: Engine, name: str) -> dict[str, Any] | None:
    queue: dict[str, Any] = queues(engine)[name]
    return queue if queue["acked_through"] == engine.journal.last_seq else None


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    settings = (
        QueueConfig("desk-1", match={"account": "D1*"}),
        QueueConfig("marks", events=("MarkPrice",), match={"symbol": "A*"}),
        QueueConfig(
            "all", events=("TradeExecuted", "MarkPrice"), max_attempts=3, backoff_min_ns=60 * 10**9, lease_ns=60 * 10**9
        ),
    )
    with Engine(config(tmp_path, journal=str(tmp_path / "journal"), queue=settings)) as made:
        yield made


def test_each_queue_gets_the_events_its_filter_names(engine: Engine) -> None:
    got: dict[str, list[str]] = {"desk-1": [], "marks": [], "all": []}
    publish(
        engine,
        trade(1, account="D1"),
        trade(2, account="D2"),
        MarkPrice("m1", "ABC", 1, 5),
        MarkPrice("m2", "XYZ", 1, 5),
        trade(3, account="D1x"),
    )

    def noting(name: str) -> Any:
        return lambda event, context: got[name].append(getattr(event, "trade_id", "") or event.event_id)

    with contextlib.ExitStack() as stack:
        for name in got:
            stack.enter_context(working(engine, name, noting(name)))
        wait_for(lambda: all(idle(engine, name) for name in got))
    assert {name: sorted(ids) for name, ids in got.items()} == {
        "desk-1": ["T1", "T3"],
        "marks": ["m1"],
        "all": ["T1", "T2", "T3", "m1", "m2"],
    }


def test_queue_tells_depth_what_is_in_flight_ages_attempts_and_workers(engine: Engine) -> None:
    gate = threading.Event()

    def handle(event: Any, context: Any) -> None:
        if event.trade_id == "T1":
            raise ValueError("not yet")
        gate.wait(60)

    publish(engine, *[trade(n) for n in range(1, 101)])
    with working(engine, "all", handle):

        def begun() -> dict[str, Any] | None:
            queue: dict[str, Any] = queues(engine)["all"]
            return queue if queue["failed"] and queue["in_flight"] and queue["depth"] == 100 else None

        found = wait_for(begun)
        assert (found["retrying"], found["attempts"]["2"], found["done"]) == (1, 1, 0)
        assert found["in_flight"] + found["waiting"] + found["unread"] == 99
        assert 0 < found["oldest_s"] < 60
        (worker,) = found["workers"]
        assert worker["in_flight"] == found["in_flight"] <= worker["credit"]
        assert (worker["failed"], worker["attempts"]) == (1, {"1": worker["in_flight"]})
        text = riskwire("queue", "all", "--connect", engine.base).out
        assert "1 at 2" in text
        assert str(worker["pid"]) in text
        gate.set()
    assert [
        queue["name"] for queue in json.loads(riskwire("queue", "marks", "--json", "--connect", engine.base).out)
    ] == ["marks"]
    missing = riskwire("queue", "nope", "--connect", engine.base)
    assert missing.code == 2
    assert_one_line(missing)


def test_queue_without_an_engine_is_exit_1(tmp_path: Path) -> None:
    done = riskwire("queue", "--connect", f"ipc://{tmp_path}", "--wait", "50ms")
    assert done.code == 1
    assert_one_line(done)


def test_acks_of_events_that_a_power_cut_took_are_forgotten_before_others_get_their_seqs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journal").mkdir()
    with AckLog(tmp_path / "journal" / "queue-q.acks") as log:
        log.add(1, 50)
    started = Pipeline.start

    def start_with_a_publisher_that_is_there_at_once(pipeline: Pipeline, *args: Any) -> int:
        last_seq = started(pipeline, *args)
        with Publisher(pipeline.base, "desk") as publisher:
            for n in range(1, 11):
                publisher.publish(trade(n))
        return last_seq

    monkeypatch.setattr(Pipeline, "start", start_with_a_publisher_that_is_there_at_once)
    seen: list[str] = []
    with Engine(config(tmp_path, journal=str(tmp_path / "journal"))) as engine:
        assert engine.journal.last_seq == 10
        with working(engine, "q", lambda event, context: seen.append(event.trade_id)):
            wait_for(lambda: idle(engine, "q"))
    assert len(seen) == 10


def test_a_new_life_goes_on_where_the_last_left_off_and_knows_the_names_it_does_not_read_again(tmp_path: Path) -> None:
    settings = config(tmp_path, journal=str(tmp_path / "journal"), queue=(QueueConfig("q", match={"account": "acc"}),))
    seen: list[tuple[str, str, int]] = []

    def note(event: Any, context: Any) -> None:
        seen.append((event.trade_id, event.account, context.seq))

    with Engine(settings) as engine:
        publish(engine, *[trade(n) for n in range(1, 101)], MarkPrice("m", "ABC", 1, 1))
        with working(engine, "q", note):
            wait_for(lambda: idle(engine, "q"))
        publish(engine, trade(101))
    with Engine(settings) as engine:
        publish(engine, trade(102), trade(103, account="other"))
        with working(engine, "q", note):
            wait_for(lambda: idle(engine, "q"))
    assert sorted(seen, key=lambda row: row[2]) == [(f"T{n}", "acc", n if n <= 100 else n + 1) for n in range(1, 103)]
