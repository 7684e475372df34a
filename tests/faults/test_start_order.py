"""Publisher, broker, consumer and sink may start in any order, and a broker may die and come back: nothing is lost."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest
import zmq

from engine.broker import Broker, BrokerSettings
from engine.consumer import RiskConsumer
from engine.endpoints import endpoint
from engine.events import TradeExecuted
from engine.publisher import Publisher
from engine.sink import Sink
from ext.journal import Journal

TRADES = 200
WAIT_S = 60.0
PARTS = ("publisher", "broker", "consumer", "sink")


def trade(n: int) -> TradeExecuted:
    return TradeExecuted(f"T{n}", "ABC", Decimal(10 + n % 7), Decimal(1), "buy", n, account="acc")


class Parts:
    """The parts of an engine over ipc, each started when it is asked for."""

    def __init__(self, folder: Path, stack: ExitStack, journal: Journal) -> None:
        self.base = f"ipc://{folder}"
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(self.context.term)
        self._folder, self._stack, self._journal = folder, stack, journal
        self.publishing: threading.Thread | None = None
        self.failed: list[BaseException] = []
        self.consumer_: RiskConsumer | None = None

    def start(self, name: str) -> None:
        starters: dict[str, Callable[[], object]] = {part: getattr(self, part) for part in PARTS}
        starters[name]()

    def publisher(self) -> None:
        self.publishing = threading.Thread(target=self._publish)
        self.publishing.start()
        self._stack.callback(self.publishing.join)

    def _publish(self) -> None:
        try:
            with Publisher(self.base, "early", context=self.context, wait_s=WAIT_S) as publisher:
                for n in range(TRADES):
                    publisher.publish(trade(n))
        except BaseException as problem:
            self.failed.append(problem)

    def broker(self) -> Broker:
        roles = {role: endpoint(self.base, role) for role in ("publish", "events", "replay", "sink")}
        broker = Broker(self._journal, BrokerSettings(**roles, heartbeat_ns=10_000_000), self.context)
        self._stack.enter_context(broker)
        return broker

    def consumer(self) -> None:
        self.consumer_ = RiskConsumer(
            self.context, self.base, sink=endpoint(self.base, "sink"), announce=False, retry_s=0.05
        )
        self._stack.enter_context(self.consumer_)

    def sink(self) -> None:
        self._stack.enter_context(Sink(self.context, endpoint(self.base, "sink"), self._folder / "dead.db"))

    def check(self) -> None:
        """Everything published was accepted once and is in the positions."""
        assert self.publishing is not None
        assert self.consumer_ is not None
        self.publishing.join(WAIT_S)
        assert not self.publishing.is_alive()
        assert self.failed == []
        assert self._journal.last_seq == TRADES
        self.consumer_.wait_applied(TRADES, WAIT_S)
        (row,) = self.consumer_.call(lambda core: core.positions()).result(WAIT_S)
        assert (row["quantity"], row["trades"]) == (str(TRADES), TRADES)


@pytest.mark.parametrize("order", list(itertools.permutations(PARTS)), ids="-".join)
def test_parts_started_in_any_order_lose_nothing(tmp_path: Path, order: tuple[str, ...]) -> None:
    with ExitStack() as stack:
        parts = Parts(tmp_path, stack, stack.enter_context(Journal(None, "off")))
        for name in order:
            parts.start(name)
        parts.check()


def test_a_broker_that_comes_back_finds_publisher_and_consumer_waiting(tmp_path: Path) -> None:
    """Each life of the broker ends after some frames; the journal is what the next one goes on with."""
    journal = Journal(None, "off")
    with ExitStack() as stack:
        parts = Parts(tmp_path, stack, journal)
        parts.sink()
        parts.consumer()
        parts.publisher()
        assert parts.consumer_ is not None
        for part in (1, TRADES // 3, 2 * TRADES // 3):
            with ExitStack() as life:
                parts._stack = life
                parts.broker()
                parts.consumer_.wait_applied(part, WAIT_S)
        parts._stack = stack
        parts.broker()
        parts.check()
