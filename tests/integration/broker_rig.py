"""A real broker with its journal, and a publisher made of raw bytes, for the tests of both ends."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import TracebackType

import zmq

from engine.broker import Broker, BrokerSettings
from engine.codec import EventDecoder
from engine.endpoints import endpoint
from engine.events import Event, TradeExecuted
from engine.journal import open_journal
from engine.wire import CONTROL_BYTES, HELLO, WELCOME, Control, decode_control
from ext.journal import Journal
from ext.records import Frame

WAIT_S = 60.0
_names = itertools.count()


def new_base() -> str:
    """Return an inproc base of its own."""
    return f"inproc://broker-test-{next(_names)}"


def trade(number: int, **changes: object) -> TradeExecuted:
    """Return a trade that differs by its number."""
    fields: dict[str, object] = {
        "trade_id": f"T{number}",
        "symbol": "BTCUSDT",
        "price": Decimal("9682.19"),
        "volume": Decimal("0.5"),
        "side": "buy",
        "executed_at": 1_700_000_000_000_000_000 + number,
    }
    return TradeExecuted(**(fields | changes))  # type: ignore[arg-type]


class Rig:
    """A broker that can be killed and started again over the same journal."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        base: str,
        directory: Path | None = None,
        sync: str = "os",
        **settings: object,
    ) -> None:
        self.context, self.base, self.directory, self.sync = context, base, directory, sync
        self.more = settings
        self.journal: Journal | None = None
        self.broker: Broker | None = None

    def start(self) -> Broker:
        if self.journal is None:
            self.journal = open_journal(self.directory, self.sync)
        settings = BrokerSettings(
            publish=endpoint(self.base, "publish"),
            events=endpoint(self.base, "events"),
            replay=endpoint(self.base, "replay"),
            **self.more,  # type: ignore[arg-type]
        )
        self.broker = Broker(self.journal, settings, self.context)
        self.broker.start()
        return self.broker

    def stop(self) -> None:
        if self.broker is not None:
            self.broker.stop()
            self.broker = None

    def kill(self) -> None:
        """End as a killed process would: nothing sealed, everything in memory forgotten."""
        self.stop()
        if self.journal is not None and self.directory is not None:
            self.journal.abandon()
            self.journal = None

    def __enter__(self) -> Rig:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.journal is not None:
            self.journal.close()

    def events(self) -> list[tuple[int, Event]]:
        """Return what the journal holds, decoded."""
        assert self.journal is not None
        decoder = EventDecoder()
        return [pair for data in self.journal for pair in decoder.decode_all(Frame(data))]

    def trade_ids(self) -> list[str]:
        return [event.trade_id for _, event in self.events() if isinstance(event, TradeExecuted)]


class RawPublisher:
    """A DEALER and a way to say exactly these bytes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], base: str, incarnation: int = 77) -> None:
        self.incarnation = incarnation
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.connect(endpoint(base, "publish"))

    def send(self, message: bytes | bytearray) -> None:
        self.socket.send(message)

    def receive(self, kind: int) -> Control:
        """Wait for a control message of a kind, skipping others."""
        deadline = time.monotonic() + WAIT_S
        while self.socket.poll(max(1, int((deadline - time.monotonic()) * 1000))):
            control = decode_control(self.socket.recv())
            assert control is not None
            if control.type == kind:
                return control
        raise AssertionError(f"no control message {kind} within {WAIT_S} s")

    def hello(self, next_source_seq: int = 0, name: bytes = b"raw") -> Control:
        self.send(Control(HELLO, self.incarnation, a=next_source_seq, text=name).encode())
        return self.receive(WELCOME)

    def close(self) -> None:
        self.socket.close(0)


def control_with(offset: int, layout: str, value: int, kind: int = HELLO) -> bytes:
    """Return a HELLO with one field spoilt."""
    message = bytearray(Control(kind, 5, text=b"x").encode())
    struct.pack_into(layout, message, offset, value)
    assert len(message) >= CONTROL_BYTES
    return bytes(message)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds that another thread brings about."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {WAIT_S} s"
        time.sleep(0.001)
