"""Frames that are handed to libzmq: stamped, the larger ones without a copy, and let go when it is done with them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq

from ext.outlet import let_go, send_stamped
from ext.records import EVENT_NAMES, FrameBuilder

MARK = next(number for number, name in EVENT_NAMES.items() if name == "MarkPrice")
SMALL, LARGE = 10, 1000  # records of a frame that is copied, and of one that is not
Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sender, receiver = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    for socket in (sender, receiver):
        socket.linger = 0
    sender.setsockopt(zmq.IMMEDIATE, 1)
    receiver.bind("inproc://frames")
    sender.connect("inproc://frames")
    yield sender, receiver
    context.destroy(linger=0)


def frame_of(records: int) -> bytearray:
    builder = FrameBuilder()
    for number in range(records):
        builder.add_record(type=MARK, symbol=1, id=b"m%d" % number, price=number)
    return bytearray(builder.finish(0, 0))


def is_lent(frame: bytearray) -> bool:
    """Whether something still holds the frame's buffer."""
    try:
        frame.append(0)
    except BufferError:
        return True
    del frame[-1]
    return False


@pytest.mark.parametrize("records", [SMALL, LARGE])
@pytest.mark.parametrize("seal", [True, False])
def test_what_arrives_is_the_stamped_frame(pair: Pair, records: int, seal: bool) -> None:
    sender, receiver = pair
    frame = frame_of(records)
    assert send_stamped(sender, frame, 7, 9, seal)
    arrived = receiver.recv()
    assert arrived == bytes(frame)
    assert [int.from_bytes(arrived[at : at + 8], "little") for at in (16, 24)] == [7, 9]
    assert (arrived[40:44] != bytes(4)) == seal


def test_a_large_frame_is_lent_until_it_has_been_taken(pair: Pair) -> None:
    sender, receiver = pair
    frame = frame_of(LARGE)
    assert send_stamped(sender, frame, 1, 1)
    let_go()
    assert is_lent(frame)
    receiver.recv()
    let_go()
    assert not is_lent(frame)


def test_the_next_frame_lets_go_of_those_before(pair: Pair) -> None:
    sender, receiver = pair
    frame = frame_of(LARGE)
    assert send_stamped(sender, frame, 1, 1)
    receiver.recv()
    assert is_lent(frame)
    assert send_stamped(sender, frame_of(SMALL), 2, 1)
    assert not is_lent(frame)


def test_a_small_frame_is_copied(pair: Pair) -> None:
    sender, receiver = pair
    frame = frame_of(SMALL)
    assert send_stamped(sender, frame, 1, 1)
    expected = bytes(frame)
    let_go()
    assert not is_lent(frame)
    frame[:] = bytes(len(frame))
    assert receiver.recv() == expected


def test_a_small_frame_is_the_callers_again_at_once(pair: Pair) -> None:
    frame = frame_of(SMALL)
    assert send_stamped(pair[0], frame, 1, 1)
    assert not is_lent(frame)
    with pytest.raises(ValueError, match="at least"):
        send_stamped(pair[0], small := bytearray(8), 1, 1)
    assert not is_lent(small)


def test_a_lent_frame_outlives_its_last_reference(pair: Pair) -> None:
    sender, receiver = pair
    frame = frame_of(LARGE)
    assert send_stamped(sender, frame, 1, 1)
    expected = bytes(frame)
    del frame
    others = [bytearray(b"\xff") * len(expected) for _ in range(8)]
    assert receiver.recv() == expected
    assert len(others) == 8


def test_a_frame_that_cannot_be_sent_is_not_kept(pair: Pair) -> None:
    sender, _ = pair
    sender.disconnect("inproc://frames")
    for records in (SMALL, LARGE):
        frame = frame_of(records)
        assert not send_stamped(sender, frame, 1, 1)
        let_go()
        assert not is_lent(frame)


def test_what_is_no_frame_is_refused_and_not_kept(pair: Pair) -> None:
    sender, _ = pair
    short = bytearray(63)
    with pytest.raises(ValueError, match="a frame has at least 64 bytes; this has 63"):
        send_stamped(sender, short, 1, 1)
    let_go()
    assert not is_lent(short)
    with pytest.raises(BufferError):
        send_stamped(sender, bytes(64), 1, 1)  # type: ignore[arg-type]
    sender.close()
    with pytest.raises((ValueError, zmq.ZMQError)):
        send_stamped(sender, frame_of(LARGE), 1, 1)


def test_frames_that_nobody_takes_are_let_go_with_the_context() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sender, receiver = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
    receiver.bind("inproc://frames")
    sender.connect("inproc://frames")
    frames = [frame_of(LARGE) for _ in range(3)]
    for frame in frames:
        assert send_stamped(sender, frame, 1, 1)
    assert all(map(is_lent, frames))
    context.destroy(linger=0)
    let_go()
    assert not any(map(is_lent, frames))


def test_every_frame_comes_back_from_a_thread_that_takes_them_meanwhile(pair: Pair) -> None:
    sender, receiver = pair
    made = frame_of(LARGE)
    frames = [bytearray(made) for _ in range(300)]
    taken: list[int] = []

    def take() -> None:
        for _ in frames:
            taken.append(int.from_bytes(receiver.recv()[16:24], "little"))

    thread = threading.Thread(target=take)
    thread.start()
    for number, frame in enumerate(frames):
        assert send_stamped(sender, frame, number, 1)
    thread.join(60)
    assert taken == list(range(300))
    let_go()
    assert not any(map(is_lent, frames))
