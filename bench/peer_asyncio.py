"""The peer most would write: pyzmq's asyncio sockets on uvloop, one trade a message; hop and sink as processes.

`python -m bench.peer_asyncio hop PUBLISH EVENTS CREDIT` or `sink EVENTS RECORDS`, as bench/rawzmq.c does them in C;
driven by the same generator, which speaks the publishers' protocol.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time

import uvloop
import zmq
import zmq.asyncio

from engine.wire import ACK, HEARTBEAT, WELCOME, Control, decode_control

FRAME_HEAD = struct.Struct("<4sBBHIIQ")  # up to first_seq


async def hop(publish: str, events: str, credit: str) -> None:
    """Pass every frame on, and ack it."""
    context = zmq.asyncio.Context()
    arriving, leaving = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
    for socket, address in ((arriving, publish), (leaving, events)):
        socket.sndhwm = socket.rcvhwm = 0
        socket.bind(address)
    incarnation = 0

    async def beat() -> None:
        while True:
            await leaving.send(Control(HEARTBEAT).encode())
            await asyncio.sleep(0.02)

    beating = asyncio.create_task(beat())
    print("ready", flush=True)
    while not beating.done():
        identity, body = await arriving.recv_multipart()
        if body[:4] == b"RWF1":
            await leaving.send(body)
            _, _, _, _, count, _, first = FRAME_HEAD.unpack_from(body)
            answer = Control(ACK, incarnation, a=first + count - 1)
        else:
            incarnation = decode_control(body).incarnation
            answer = Control(WELCOME, incarnation, c=int(credit))
        await arriving.send_multipart([identity, answer.encode()])


async def sink(events: str, records: str) -> None:
    """Count records until all are there."""
    socket = zmq.asyncio.Context().socket(zmq.SUB)
    socket.rcvhwm = 0
    socket.subscribe(b"RW")
    socket.connect(events)
    await socket.recv()
    print("ready", flush=True)
    seen = size = 0
    while seen < int(records):
        body = await socket.recv()
        if body[:4] == b"RWF1":
            seen += FRAME_HEAD.unpack_from(body)[4]
            size += len(body)
    print(json.dumps({"end_ns": time.monotonic_ns(), "records": seen, "bytes": size}), flush=True)


if __name__ == "__main__":
    uvloop.run({"hop": hop, "sink": sink}[sys.argv[1]](*sys.argv[2:]))
