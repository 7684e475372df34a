"""A publisher from docs/wire-format.md alone: plain bytes, no riskwire code (it might be written in any language)."""

from __future__ import annotations

import struct

import zmq
from broker_rig import Rig, new_base

from engine.endpoints import endpoint


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def control(kind: int, incarnation: int, a: int, text: bytes = b"") -> bytes:
    return struct.pack("<4sBBH5Q", b"RWC1", kind, 1, len(text), incarnation, 0, a, 0, 0) + text


def definition(kind: int, name_id: int, text: bytes) -> bytes:
    return struct.pack("<BBHI", kind, len(text), 0, name_id) + text + bytes(-len(text) % 4)


def frame(incarnation: int, source_seq: int, trades: list[tuple[bytes, int, int, int]]) -> bytes:
    """Frame trades (id, price in cents, volume, time) in symbol 1, account 1."""
    records, heap = b"", b""
    for trade_id, cents, volume, at in trades:
        places = (len(heap), 0, len(trade_id), 0)
        records += struct.pack("<4B4I2I2B2b4q", 1, 0, 1, 0, 1, 1, 0, 0, *places, -2, 0, cents, volume, 0, at)
        heap += trade_id
    names = definition(0, 1, b"ACME") + definition(1, 1, b"desk")
    head = [b"RWF1", 1, 0, 0, len(trades), len(names), source_seq, incarnation, len(heap), 0, 0, 0, 0, 0]
    layout = "<4sBBHII2Q4IqQ"
    head[10] = crc32c(struct.pack(layout, *head) + records + names + heap)
    return struct.pack(layout, *head) + records + names + heap


def test_forty_lines_of_struct_pack_publish_and_are_acked():
    context = zmq.Context()
    base = new_base()
    with Rig(context, base) as rig:
        socket = context.socket(zmq.DEALER)
        socket.connect(endpoint(base, "publish"))
        socket.send(control(1, 4711, 1, b"another language"))
        welcome = struct.unpack("<4sBBH5Q", socket.recv())
        assert welcome[:2] == (b"RWC1", 2)
        socket.send(frame(4711, 1, [(b"A1", 10025, 3, 1_700_000_000_000_000_000), (b"A2", -5, 1, 2)]))
        while (ack := struct.unpack("<4sBBH5Q", socket.recv()))[6] < 2:
            pass
        assert (ack[1], ack[6]) == (3, 2)
        trades = [event for _, event in rig.events()]
        assert [(t.trade_id, str(t.price), str(t.volume), t.symbol, t.account) for t in trades] == [
            ("A1", "100.25", "3", "ACME", "desk"),
            ("A2", "-0.05", "1", "ACME", "desk"),
        ]
        socket.close(0)
    context.term()
