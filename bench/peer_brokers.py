"""The peers as durable broker: `python -m bench.peer_brokers SYSTEM source|sink ADDRESS FILE|- RECORDS`.

source publishes each frame of a file as one message, as fast as its client can: Redis by pipelines of XADD, JetStream
by asynchronous publishing with acks outstanding; sink reads the stream from its beginning and counts records. Neither
computes anything. Each prints one JSON object, as bench/rawzmq.c's source and sink do; the sink prints `ready` before.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from pathlib import Path

from bench.core_run import read_frames

STREAM, SUBJECT, FIELD = "trades", "trades.frames", b"f"
PIPELINE, PENDING = 256, 4_000
PIECE_BYTES = 1 << 20  # what is sent or asked for at once, at most
COUNT = struct.Struct("<I")
COUNT_AT = 8  # of a frame: its number of records
STREAM_BYTES_MAX = 8 << 30


class Seen:
    """Counts the records and bytes that a sink has got."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.records, self.size = wanted, 0, 0

    def take(self, frame: bytes) -> bool:
        """Count a frame; True when all has come."""
        self.records += COUNT.unpack_from(frame, COUNT_AT)[0]
        self.size += len(frame)
        return self.records >= self.wanted

    def print(self) -> None:
        """Print when the last came."""
        print(json.dumps({"end_ns": time.monotonic_ns(), "records": self.records, "bytes": self.size}), flush=True)


def in_pieces(frames: list[bytes]) -> list[list[bytes]]:
    """Return frames by as many as are sent at once."""
    each = max(1, min(PIPELINE, PIECE_BYTES // max(map(len, frames[1:] or frames))))
    return [frames[start : start + each] for start in range(0, len(frames), each)]


# --- Redis Streams ------------------------------------------------------------------------------------------------


def redis_source(address: str, frames: list[bytes]) -> None:
    """Append all to the stream."""
    import redis

    with redis.Redis(unix_socket_path=address) as client:
        for piece in in_pieces(frames):
            pipe = client.pipeline(transaction=False)
            for frame in piece:
                pipe.xadd(STREAM, {FIELD: frame})
            pipe.execute()


def redis_sink(address: str, seen: Seen) -> None:
    """Read the stream from its beginning, as a reader that needs no group."""
    import redis

    with redis.Redis(unix_socket_path=address) as client:
        last = b"0"
        print("ready", flush=True)
        while True:
            for _, entries in client.xread({STREAM: last}, count=PIPELINE, block=1_000):
                if any(seen.take(fields[FIELD]) for _, fields in entries):
                    return
                last = entries[-1][0]


# --- NATS JetStream -----------------------------------------------------------------------------------------------


async def jetstream_stream(address: str) -> None:
    """Make the stream, on file storage."""
    import nats
    from nats.js.api import StorageType, StreamConfig

    client = await nats.connect(address)
    config = StreamConfig(name=STREAM, subjects=[SUBJECT], storage=StorageType.FILE, max_bytes=STREAM_BYTES_MAX)
    await client.jetstream().add_stream(config)
    await client.close()


async def jetstream_source(address: str, frames: list[bytes]) -> None:
    """Publish all with acks outstanding, and wait for the last of them."""
    import nats

    client = await nats.connect(address)
    stream = client.jetstream(publish_async_max_pending=PENDING)
    acks = []
    for frame in frames:
        acks.append(await stream.publish_async(SUBJECT, frame, wait_stall=60))
        if len(acks) >= PENDING:
            await asyncio.gather(*acks)
            acks.clear()
    await asyncio.gather(*acks)
    await client.close()


async def jetstream_sink(address: str, seen: Seen) -> None:
    """Subscribe to the stream from its beginning, in order and without acks."""
    import nats

    client = await nats.connect(address)
    done = asyncio.Event()

    async def take(message: object) -> None:
        if seen.take(message.data):  # type: ignore[attr-defined]
            done.set()

    await client.jetstream().subscribe(SUBJECT, cb=take, ordered_consumer=True)
    print("ready", flush=True)
    await done.wait()
    seen.print()
    await client.close()


def main(system: str, what: str, address: str, path: str, records: str) -> None:
    """Run one of them."""
    if what == "source":
        frames = read_frames(Path(path))
        start_ns = time.monotonic_ns()
        if system == "redis":
            redis_source(address, frames)
        else:
            asyncio.run(jetstream_source(address, frames))
        print(json.dumps({"start_ns": start_ns, "acked_ns": time.monotonic_ns(), "bytes": sum(map(len, frames))}))
    elif system == "redis":
        seen = Seen(int(records))
        redis_sink(address, seen)
        seen.print()
    else:
        asyncio.run(jetstream_sink(address, Seen(int(records))))


if __name__ == "__main__":
    main(*sys.argv[1:])
