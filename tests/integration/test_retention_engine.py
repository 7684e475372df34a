"""An engine that removes its journal's beginning while it runs: nobody misses it, and everybody is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from broker_rig import wait_for
from engine_rig import LIMITS, config, lines_of, replay, rows, trade, write_session
from test_queue_engine import riskwire, working

from engine.client import EngineClient
from engine.codec import EventDecoder
from engine.config import QueueConfig
from engine.consumer import ConsumerStopped, RiskConsumer
from engine.errors import RequestRefused, RiskwireError, UsageError
from engine.events import KillSwitch, MarkPrice, TradeExecuted
from engine.eventstream import EventStream
from engine.journal import journal_info
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.subscriber import AlertSubscriber
from ext.risk import RiskCore

Serve = Callable[..., Engine]
SMALL = {
    "segment_bytes": 65536,
    "retain_bytes": 1,
    "snapshot_every_ns": 20_000_000,
    "dedup_max_trades": 50,
}


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    (tmp_path / "limits.toml").write_text(LIMITS)

    def make(name: str, **fields: Any) -> Engine:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Engine(config(folder, journal=str(folder / "journal"), limits=str(tmp_path / "limits.toml"), **fields))

    return make


def publish(engine: Engine, first: int, count: int, source: str = "p") -> tuple[int, int]:
    """Publish trades and marks; return how many were duplicates and how many were refused."""
    with Publisher(engine.base, source) as publisher:
        for n in range(first, first + count):
            publisher.publish(trade(n, volume="12" if n % 50 == 0 else "1", side="sell" if n % 3 else "buy"))
            if n % 40 == 0:
                publisher.publish(MarkPrice(f"m{n}", "ABC", trade(n).price, n))
            if n % 200 == 0:
                publisher.flush()  # so that no frame is too large for a segment of the usual size
        publisher.flush()
        return publisher.stats.duplicates, publisher.stats.refused


def outcome(engine: Engine) -> tuple[Any, bytes, bytes]:
    with EngineClient(engine.base) as client:
        client.wait_judged(engine.journal.last_seq)
        positions = client.positions()
    with AlertSubscriber(engine.base, since=0, idle_s=0.1) as subscriber:
        alerts = lines_of(list(subscriber))
    return positions, alerts, engine.pipeline.consumer.call(RiskCore.state_hash).result(60)


def status(engine: Engine) -> dict[str, Any]:
    with EngineClient(engine.base) as client:
        found: dict[str, Any] = client.request("status")["journal"]
        return found


@pytest.fixture(params=["os", "group"])
def sync(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_engine_that_removes_its_beginning_is_as_one_that_does_not(serve: Serve, sync: str) -> None:
    with serve("whole", dedup_max_trades=50) as whole, serve("cut", sync=sync, **SMALL) as cut:
        for first in range(0, 6000, 1000):
            assert publish(whole, first, 1000) == publish(cut, first, 1000)
        wait_for(lambda: cut.journal.segment_count <= 2, "segments to be removed")
        wait_for(lambda: status(cut)["first_seq"] == cut.journal.first_seq > 1000, "the same in its status")
        assert status(cut)["removed_bytes"] > 3 * 65536
        assert publish(cut, 0, 100) == publish(whole, 0, 100) == (3, 100)  # marks are known, trades too old
        assert outcome(cut) == outcome(whole)
    with serve("whole", dedup_max_trades=50) as whole, serve("cut", sync=sync, **SMALL) as cut:
        assert cut.journal.first_seq > 1000
        assert publish(cut, 5900, 200) == publish(whole, 5900, 200)
        assert outcome(cut) == outcome(whole)
        assert whole.journal.last_seq == cut.journal.last_seq
        assert whole.journal.first_seq == 1


def test_an_open_job_of_a_queue_keeps_its_segment_until_it_is_done(serve: Serve) -> None:
    queue = (QueueConfig("slow"),)
    with serve("engine", queue=queue, **SMALL) as engine:
        publish(engine, 0, 3000)
        wait_for(lambda: "queue slow: open job of seq" in status(engine)["held_by"], "the reason")
        assert engine.journal.first_seq == 1
        with working(engine, "slow", lambda event, context: None):
            wait_for(lambda: engine.journal.first_seq > 1, "the segments that nobody needs")


def test_a_queue_that_is_new_begins_with_the_first_event_kept(serve: Serve) -> None:
    seqs: list[int] = []
    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 4000)
        wait_for(lambda: engine.journal.segment_count <= 2, "segments to be removed")
        first_seq = engine.journal.first_seq
        symbols: set[str] = set()

        def note(event: Any, context: Any) -> None:
            seqs.append(context.seq)
            symbols.add(event.symbol)

        with working(engine, "late", note):
            wait_for(lambda: seqs and max(seqs) >= engine.journal.last_seq - 1, "the jobs")
        assert first_seq <= min(seqs) <= engine.journal.first_seq + 2
        assert symbols == {"ABC"}, "names of removed frames are known"


def test_the_command_line_tells_what_was_removed(serve: Serve, tmp_path: Path) -> None:
    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 4000)
        wait_for(lambda: engine.journal.segment_count <= 2, "segments to be removed")
    folder = tmp_path / "engine" / "journal"
    first_seq = journal_info(folder).first_seq  # not before the end: until then more may be removed
    assert first_seq > 1
    done = riskwire("journal", "info", str(folder))
    assert (done.code, f"seqs up to {first_seq - 1:,}" in done.out) == (0, True)
    done = riskwire("journal", "verify", "--json", str(folder))
    assert f'"first_seq":{first_seq},' in done.out.replace(" ", "")
    done = riskwire("journal", "dump", "--json", str(folder))
    assert done.out.startswith(f'{{"seq":{first_seq},')
    assert f"events below seq {first_seq:,} were removed" in done.err
    assert '"symbol":"ABC"' in done.out
    done = riskwire("journal", "dump", "--json", "--since", str(first_seq), str(folder))
    assert done.err == ""
    with pytest.raises(UsageError, match=f"events up to seq {first_seq - 1} were removed by retention"):
        replay(folder)


def test_a_replay_continues_a_journal_without_its_beginning(serve: Serve, tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path, 2000)
    whole = replay(trades, limits=limits, journal=str(tmp_path / "whole"))
    with Engine(
        config(tmp_path, journal=str(tmp_path / "cut"), limits=str(limits), **{**SMALL, "dedup_max_trades": 20})
    ) as engine:
        done = riskwire("publish", "--connect", engine.base, str(trades))
        assert done.code == 0, done.err
        wait_for(lambda: engine.journal.first_seq > 1, "segments to be removed")
    more = tmp_path / "more.csv"
    more.write_text(trades.read_text().splitlines(keepends=True)[0] + rows(100, 2000))
    after = replay(more, limits=limits, journal=str(tmp_path / "cut"))
    wanted = replay(more, limits=limits, journal=str(tmp_path / "whole"))
    assert after.positions == wanted.positions
    assert after.alerts == wanted.alerts
    assert whole.accepted == 2000
    with pytest.raises(UsageError, match="--verify needs the whole sequence"):
        replay(more, limits=limits, journal=str(tmp_path / "cut"), verify=True)


def test_fetches_and_publishing_go_on_while_segments_are_removed(serve: Serve) -> None:
    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 500)
        stop = threading.Event()
        problems: list[BaseException] = []

        def fetch() -> None:
            try:
                while not stop.is_set():
                    last_seq = engine.journal.last_seq
                    stream = EventStream(engine.base, max(1, last_seq - 400), on_removed=lambda _: None)
                    while (frame := stream.next_frame(0.05)) is not None and frame.first_seq < last_seq:
                        continue
                    stream.close()
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=fetch) for _ in range(3)]
        for thread in threads:
            thread.start()
        for first in range(500, 8000, 500):
            publish(engine, first, 500)
        wait_for(lambda: engine.journal.segment_count <= 2, "segments to be removed")
        stop.set()
        for thread in threads:
            thread.join(60)
        assert not problems
        assert engine.error == ""


def test_kills_of_the_removed_beginning_hold(serve: Serve) -> None:
    with serve("engine", **SMALL) as engine:
        with Publisher(engine.base, "p") as publisher:
            publisher.publish(KillSwitch("stop", "acc", True, 1, "me"))
        publish(engine, 0, 3000)
        wait_for(lambda: engine.journal.first_seq > 2, "segments to be removed")
    with serve("engine", **SMALL) as engine:
        assert engine.pipeline.consumer.call(lambda core: core.killed()).result(60) == [b"acc"]


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_a_consumer_that_joins_after_the_removal_gets_a_snapshot_and_the_tail(
    serve: Serve, context: zmq.Context[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 4000)
        wait_for(lambda: engine.journal.segment_count <= 2, "segments to be removed")
        with RiskConsumer(context, engine.base, announce=False) as consumer:
            consumer.wait_applied(engine.journal.last_seq, 60)
            assert "going on from a snapshot" in caplog.text
            publish(engine, 4000, 300)
            consumer.wait_applied(engine.journal.last_seq, 60)
            assert consumer.call(RiskCore.state_hash).result(60) == outcome(engine)[2]
            assert consumer.loop.frames < 4000


def test_a_consumer_that_was_away_for_long_goes_on_from_a_snapshot(serve: Serve, context: zmq.Context[Any]) -> None:
    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 200)
        consumer = RiskConsumer(context, engine.base, announce=False)
        with consumer:
            consumer.wait_applied(engine.journal.last_seq, 60)
        publish(engine, 200, 4000)
        wait_for(lambda: engine.journal.first_seq > 1000, "segments to be removed")
        with RiskConsumer(context, engine.base, core=consumer.core, announce=False) as again:
            again.wait_applied(engine.journal.last_seq, 60)
            assert again.call(RiskCore.state_hash).result(60) == outcome(engine)[2]


def test_a_consumer_that_can_get_no_snapshot_says_so(serve: Serve, context: zmq.Context[Any]) -> None:
    def none() -> RiskCore:
        raise RequestRefused("there is no snapshot")

    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 3000)
        wait_for(lambda: engine.journal.first_seq > 1, "segments to be removed")
        with RiskConsumer(context, engine.base, announce=False, fetch_core=none) as consumer:
            with pytest.raises(
                ConsumerStopped, match="no snapshot can be had that stands for them: there is no snapshot"
            ):
                consumer.wait_applied(engine.journal.last_seq, 60)
            assert consumer.call(lambda core: core.applied_seq).result(60) == 0


def test_a_stream_from_the_beginning_says_where_it_can_begin(serve: Serve) -> None:
    with serve("engine", **SMALL) as engine:
        publish(engine, 0, 4000)
        wait_for(lambda: engine.journal.segment_count <= 2, "segments to be removed")
        stream = EventStream(engine.base)
        with pytest.raises(RiskwireError, match=r"events from seq 1 on were removed .* begin at from_seq=\d+"):
            stream.next_frame(60)
        stream.close()
        told: list[int] = []
        stream = EventStream(engine.base, on_removed=told.append)
        decoder = EventDecoder()
        with EngineClient(engine.base) as client:
            for kind, texts in enumerate(client.names().values()):
                decoder.learn_names(kind, [text.encode() for text in texts])
        numbered = []
        while stream.next_seq <= engine.journal.last_seq or not numbered:
            frame = stream.next_frame(60)
            assert frame is not None
            numbered += decoder.decode_all(frame)
        stream.close()
        assert numbered[0][0] in told  # more than once where more was removed meanwhile
        assert told[0] > 1
        assert {event.symbol for _, event in numbered if isinstance(event, TradeExecuted)} == {"ABC"}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    wait_for(lambda: threading.active_count() <= before, "the end of every thread")
