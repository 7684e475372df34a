"""An engine killed at any moment, and subscribers that are too slow: nothing is lost and nothing comes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from engine.client import EngineClient
from engine.config import EngineConfig
from engine.events import TradeExecuted
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.subscriber import AlertSubscriber, EventStream

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-c", "import sys; from engine.cli.main import main; sys.exit(main())"]
LIMITS = '[[limit]]\nid = "size"\nkind = "max_trade_volume"\nthreshold = "5"\n'
BIG = Decimal(6)  # every such trade raises one alert


def trade(n: int, volume: Decimal = BIG) -> TradeExecuted:
    return TradeExecuted(f"T{n}", "ABC", Decimal(10), volume, "buy", n, account="acc")


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Serve an engine as a process of its own; it is killed at the end if it still runs."""
    (folder / "limits.toml").write_text(LIMITS)
    words = ["serve", "--base", f"ipc://{folder}/rw", "--journal", "journal", "--limits", "limits.toml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*COMMAND, *words], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("accepted_before_kill", [1, 500, 3000])
def test_killing_the_engine_loses_nothing_accepted_and_applies_nothing_twice(
    tmp_path: Path, accepted_before_kill: int
) -> None:
    trades = 4000
    base = f"ipc://{tmp_path}/rw"
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            with Publisher(base, "steady", wait_s=60) as publisher:
                for n in range(trades):
                    publisher.publish(trade(n))
                    if n % 50 == 0:
                        publisher.flush()
        except BaseException as problem:
            failed.append(problem)

    publishing = threading.Thread(target=publish)
    with serving(tmp_path) as first:
        publishing.start()
        with EngineClient(base) as client:
            client.wait_judged(accepted_before_kill, 60)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with serving(tmp_path), EngineClient(base) as client:
        publishing.join(90)
        assert not publishing.is_alive()
        assert failed == []
        client.wait_judged(1 + trades)  # the limits, and every trade once
        (row,) = client.positions()
        assert (row["trades"], row["quantity"]) == (trades, str(6 * trades))
        with AlertSubscriber(base, since=0, count=trades) as alerts:
            assert [alert.trade_id for alert in alerts] == [f"T{n}" for n in range(trades)]


def test_a_subscriber_that_sleeps_while_alerts_are_dropped_gets_them_all(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(LIMITS)
    config = EngineConfig(
        base=f"ipc://{tmp_path}/rw",
        limits=str(tmp_path / "limits.toml"),
        dead_letters=str(tmp_path / "dead.db"),
        alerts_hwm=1,
        heartbeat_every_ns=20_000_000,
    )
    trades = 20_000
    with Engine(config) as engine, AlertSubscriber(engine.base, since=0, count=trades, hwm=1) as alerts:
        iterator = iter(alerts)
        with Publisher(engine.base, "burst") as publisher:
            publisher.publish(trade(0))
            publisher.flush()
            assert next(iterator).trade_id == "T0"
            for n in range(1, trades):  # nobody reads alerts meanwhile
                publisher.publish(trade(n))
                if n % 100 == 0:
                    publisher.flush()  # so that they come in many frames, and not all fit on the way
        assert [alert.alert_no for alert in iterator] == list(range(2, trades + 1))
        assert alerts.refetched > 0


def test_an_event_stream_that_sleeps_while_frames_are_dropped_gets_them_all(tmp_path: Path) -> None:
    config = EngineConfig(
        base=f"ipc://{tmp_path}/rw",
        dead_letters=str(tmp_path / "dead.db"),
        events_hwm=1,
        heartbeat_every_ns=20_000_000,
    )
    trades = 20_000
    with Engine(config) as engine:
        stream = EventStream(engine.base, hwm=1)
        try:
            with Publisher(engine.base, "burst") as publisher:
                publisher.publish(trade(0))
                publisher.flush()
                assert stream.next_frame(60) is not None
                for n in range(1, trades):
                    publisher.publish(trade(n))
                    if n % 10 == 0:
                        publisher.flush()
            seq = 1
            while seq < trades:
                frame = stream.next_frame(60)
                assert frame is not None
                assert frame.first_seq <= seq + 1
                seq = frame.first_seq + len(frame) - 1
            assert stream.gaps > 0
        finally:
            stream.close()
        with EngineClient(engine.base) as client:  # the engine's own consumer lost as much and has fetched it
            assert client.wait_judged(trades) == trades
            assert client.positions()[0]["trades"] == trades


def test_a_subscriber_hears_that_the_engine_is_silent_and_that_it_is_back(tmp_path: Path) -> None:
    told: list[bool] = []
    both = threading.Event()

    def on_stale(stale: bool) -> None:
        told.append(stale)
        both.set() if told == [True, False] else None

    base = f"ipc://{tmp_path}/rw"
    with serving(tmp_path) as process:
        follower = AlertSubscriber(base, since=0, on_stale=on_stale, count=1)
        following = threading.Thread(target=lambda: list(follower))
        following.start()
        while not follower.next_no:
            following.join(0.01)
        process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 60
        while not told and time.monotonic() < deadline:
            following.join(0.05)
        assert told == [True]
        process.send_signal(signal.SIGCONT)
        assert both.wait(60)
        with Publisher(base, "end") as publisher:
            publisher.publish(trade(1))
        following.join(60)
        follower.close()
    assert told == [True, False]


def test_sigterm_seals_the_journal_and_a_restart_goes_on(tmp_path: Path) -> None:
    base = f"ipc://{tmp_path}/rw"
    for life in range(2):
        with serving(tmp_path) as process, Publisher(base, "p") as publisher:
            for n in range(10 * (life + 1)):
                publisher.publish(trade(n))
            publisher.flush()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
    done = subprocess.run(
        [*COMMAND, "journal", "info", "journal", "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    info = json.loads(done.stdout)
    assert (info["last_seq"], info["sealed"]) == (21, True)
