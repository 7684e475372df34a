"""The event stream over restarts: an engine that goes on is followed, one that lost its tail is noticed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import zmq
from fake_broker import FakeBroker, trades_frame

from engine.errors import RiskwireError
from engine.eventstream import EventStream

WAIT_S = 60.0
_names = itertools.count()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def base() -> str:
    return f"inproc://stream-{next(_names)}"


def read(stream: EventStream, upto: int) -> list[tuple[int, int]]:
    """Read until `upto` is there; return (epoch, first seq) of each frame."""
    found: list[tuple[int, int]] = []
    last = 0
    while last < upto:
        frame = stream.next_frame(WAIT_S)
        assert frame is not None
        found.append((frame.epoch, frame.first_seq))
        last = frame.first_seq + len(frame) - 1
    return found


def test_an_engine_of_another_epoch_that_goes_on_is_followed(context, base):
    with FakeBroker(context, base) as broker:
        stream = EventStream(base, context=context)
        broker.wait_subscribed()
        broker.accept_trades(3)
        assert read(stream, 3) == [(1, 1)]
        broker.epoch = 2
        broker.accept_trades(2)
        assert read(stream, 5) == [(2, 4)]
        stream.close()


@pytest.mark.parametrize("lost", [False, True])
def test_an_engine_that_loses_its_tail_while_it_is_asked_is_noticed(context, base, lost):
    """What is fetched from the next life of the engine goes on where the last one stopped; nothing else tells of it."""
    with FakeBroker(context, base) as broker:
        for count in (3, 2, 1):
            broker.accept_trades(count, publish=False)
        broker.answer_frames(2)
        told: list[bool] = []
        stream = EventStream(base, context=context, on_lost=lambda: told.append(True))
        assert read(stream, 5) == [(1, 1), (1, 4)]
        broker.epoch = 2
        del broker.frames[1 if lost else 2 :]
        if lost:
            broker.accept(trades_frame(4, 2, 2, price=900), 2, publish=False)
        broker.accept_trades(2, publish=False)
        broker.answer_frames(None)
        wanted = [(1, 1), (2, 4), (2, 6)] if lost else [(2, 6)]
        assert read(stream, 7) == wanted
        assert told == ([True] if lost else [])
        stream.close()


def lose_tail(broker: FakeBroker, regrown: int) -> None:
    del broker.frames[1:]
    broker.epoch = 2
    broker.accept(trades_frame(4, regrown, 2, price=900), regrown, publish=False)
    broker.accept_trades(1)


@pytest.mark.parametrize("regrown", [1, 2, 9])
def test_an_engine_that_lost_its_tail_is_an_error_or_a_new_beginning(context, base, regrown):
    with FakeBroker(context, base) as broker:
        told: list[bool] = []
        streams = [
            EventStream(base, context=context),
            EventStream(base, context=context, on_lost=lambda: told.append(True)),
        ]
        broker.wait_subscribed()
        broker.accept_trades(3)
        broker.accept_trades(2)
        broker.beat()
        for stream in streams:
            assert read(stream, 5) == [(1, 1), (1, 4)]
        lose_tail(broker, regrown)
        with pytest.raises(RiskwireError, match="another history"):
            streams[0].next_frame(WAIT_S)
        assert read(streams[1], 4 + regrown) == [(1, 1), (2, 4), (2, 4 + regrown)]
        assert told == [True]
        for stream in streams:
            stream.close()
