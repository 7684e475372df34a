"""libzmq's functions, as bound from pyzmq's own copy, move the same messages on pyzmq's sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from ext.libzmq import echo_once, library_version


@pytest.fixture
def pairs() -> Iterator[list[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets = []
    for name in ("inproc://one", "inproc://two"):
        for connect in (False, True):
            socket = context.socket(zmq.PAIR)
            socket.linger = 0
            (socket.connect if connect else socket.bind)(name)
            sockets.append(socket)
    yield sockets
    context.destroy(linger=0)


def test_the_bound_library_is_pyzmqs():
    assert library_version() == zmq.zmq_version_info()


@pytest.mark.parametrize("size", [0, 1, 33, 34, 100_000])
def test_a_message_goes_through_unchanged(pairs, size):
    first, second, third, fourth = pairs
    message = bytes(i % 251 for i in range(size))
    first.send(message)
    assert echo_once(second, third) == size
    assert fourth.recv() == message


def test_parts_stay_together(pairs):
    first, second, third, fourth = pairs
    first.send_multipart([b"a", b"b"])
    echo_once(second, third, more=True)
    echo_once(second, third)
    assert fourth.recv_multipart() == [b"a", b"b"]


def test_a_closed_socket_and_what_is_none_are_refused(pairs):
    first, second, third, _ = pairs
    second.close()
    with pytest.raises((ValueError, zmq.ZMQError)):
        echo_once(second, third)
    with pytest.raises(TypeError, match=r"expected a zmq\.Socket, got str"):
        echo_once("first", third)
    first.close()
