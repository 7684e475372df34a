"""Control messages between publishers, broker and consumers, as Python sees them (docs/wire-format.md)."""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import zmq

CONTROL_MAGIC: Final = b"RWC1"
FRAME_MAGIC: Final = b"RWF1"
CONTROL_VERSION: Final = 1
CONTROL_BYTES: Final = 48

HELLO: Final = 1
WELCOME: Final = 2
ACK: Final = 3
NAK: Final = 4
HEARTBEAT: Final = 5
FETCH: Final = 6
FETCHED: Final = 7

PING_EVERY_MS: Final = 1_000
PING_TIMEOUT_MS: Final = 3_000

_HEAD = struct.Struct("<4sBBH5Q")
assert _HEAD.size == CONTROL_BYTES


class Control(NamedTuple):
    """One control message; what a, b and c mean depends on the type (docs/architecture.md)."""

    type: int
    incarnation: int = 0
    epoch: int = 0
    a: int = 0
    b: int = 0
    c: int = 0
    text: bytes = b""

    def encode(self) -> bytes:
        """Return the message's bytes."""
        head = _HEAD.pack(
            CONTROL_MAGIC,
            self.type,
            CONTROL_VERSION,
            len(self.text),
            self.incarnation,
            self.epoch,
            self.a,
            self.b,
            self.c,
        )
        return head + self.text


def decode_control(message: bytes) -> Control | None:
    """Return a control message, or None for anything else (a frame, another version, too short)."""
    if len(message) < CONTROL_BYTES or message[:4] != CONTROL_MAGIC:
        return None
    _, kind, version, length, incarnation, epoch, a, b, c = _HEAD.unpack_from(message)
    if version != CONTROL_VERSION or len(message) < CONTROL_BYTES + length:
        return None
    return Control(kind, incarnation, epoch, a, b, c, message[CONTROL_BYTES : CONTROL_BYTES + length])


def watch_connection(socket: zmq.Socket[Any], endpoint: str) -> None:
    """Have libzmq notice a tcp connection that is dead without a word, and connect again. Call it before `connect`."""
    if endpoint.startswith("tcp://"):
        socket.setsockopt(zmq.HEARTBEAT_IVL, PING_EVERY_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PING_TIMEOUT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, PING_TIMEOUT_MS)
