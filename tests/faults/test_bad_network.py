"""Delayed, cut, half-closed and stalled connections between every two parts: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random
import socket
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest
import zmq
from proxy import BadNetwork

from engine.client import EngineClient
from engine.config import EngineConfig
from engine.consumer import RiskConsumer
from engine.endpoints import ROLES
from engine.errors import EngineUnreachable
from engine.events import TradeExecuted
from engine.eventstream import EventStream
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.subscriber import AlertSubscriber
from ext.risk import RiskCore

LIMITS = '[[limit]]\nid = "size"\nkind = "max_trade_volume"\nthreshold = "5"\n'
TRADES = 3000
BAD_FOR_S = 4.0
WAIT_S = 60.0


def trade(n: int) -> TradeExecuted:
    return TradeExecuted(f"T{n}", f"S{n % 3}", Decimal(10 + n % 7), Decimal(6 if n % 4 == 0 else 1), "buy", n + 1)


def ports() -> int:
    """Return the first of as many free consecutive ports as a base needs."""
    for _ in range(200):
        first = random.SystemRandom().randrange(20000, 60000)
        try:
            probes = [socket.create_server(("127.0.0.1", first + i)) for i in range(len(ROLES))]
        except OSError:
            continue
        for probe in probes:
            probe.close()
        return first
    pytest.fail("no free range of ports")


class Followers:
    """An alert subscriber, an event stream and somebody who asks, each in a thread, all through the proxy."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.alerts: list[int] = []
        self.seqs: list[int] = []
        self.answers = 0
        self.failed: list[BaseException] = []
        self.done = threading.Event()
        work = (self.follow_alerts, self.follow_events, self.ask)
        self.threads = [threading.Thread(target=self.run, args=(each,), daemon=True) for each in work]
        for thread in self.threads:
            thread.start()

    def run(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as problem:
            self.failed.append(problem)

    def follow_alerts(self) -> None:
        with AlertSubscriber(self.base, since=0, count=TRADES // 4, wait_s=WAIT_S) as subscriber:
            self.alerts.extend(alert.alert_no for alert in subscriber)

    def follow_events(self) -> None:
        stream = EventStream(self.base)
        while len(self.seqs) < TRADES + 1:
            frame = stream.next_frame(WAIT_S)
            assert frame is not None
            self.seqs.extend(seq for seq in range(frame.first_seq, frame.first_seq + len(frame)))
        stream.close()

    def ask(self) -> None:
        while not self.done.is_set():
            try:
                with EngineClient(self.base, wait_s=0.5) as client:
                    assert client.status()["error"] == ""
                    self.answers += 1
            except EngineUnreachable:
                continue


@pytest.mark.timeout(300)
def test_a_bad_network_between_every_two_parts_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(LIMITS)
    inner, outer = ports(), ports()
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    config = EngineConfig(
        base=f"tcp://127.0.0.1:{inner}",
        journal=str(tmp_path / "journal"),
        limits=str(tmp_path / "limits.toml"),
        dead_letters=str(tmp_path / "dead.db"),
        heartbeat_every_ns=50_000_000,
    )
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    network = BadNetwork(outer, inner, len(ROLES), seed)
    base = f"tcp://127.0.0.1:{outer}"
    try:
        with Engine(config) as engine, RiskConsumer(context, base, announce=False, retry_s=0.2) as outside:
            followers = Followers(base)
            started = time.monotonic()
            with Publisher(base, "p", wait_s=WAIT_S) as publisher:
                for n in range(TRADES):
                    publisher.publish(trade(n))
                    if n % 20 == 0:
                        time.sleep(BAD_FOR_S * 20 / TRADES)
                assert time.monotonic() - started >= BAD_FOR_S
                network.heal()
                publisher.flush(WAIT_S)
            last_seq = TRADES + 1
            assert engine.journal.last_seq == last_seq
            assert outside.wait_applied(last_seq, WAIT_S) == last_seq
            engine.pipeline.consumer.wait_applied(last_seq, WAIT_S)
            hashes = [each.call(RiskCore.state_hash).result(WAIT_S) for each in (outside, engine.pipeline.consumer)]
            assert hashes[0] == hashes[1]
            while not followers.answers and followers.threads[-1].is_alive():  # a busy machine may be late so far
                followers.done.wait(0.05)
            followers.done.set()
            for thread in followers.threads:
                thread.join(WAIT_S)
                assert not thread.is_alive()
            assert followers.failed == []
            assert followers.alerts == list(range(1, TRADES // 4 + 1))
            assert followers.seqs == list(range(1, last_seq + 1))
            assert followers.answers > 0
        assert all(network.faults[fault] for fault in ("cut", "half-close up", "half-close down", "stall")), seed
    finally:
        network.stop()
        context.destroy(linger=0)
