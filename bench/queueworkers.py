"""One worker process of the queue benchmark: `python -m bench.queueworkers SYSTEM ADDRESS BATCH`.

It prints `ready`, works until it is terminated (riskwire) or the jobs are done (peers), then prints one JSON object:
how many jobs it had, and when its first began and its last was acked (s of the system's monotonic clock).
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

STREAM, GROUP, SUBJECT = "jobs", "workers", "jobs.trade"
IDLE_MAX_S = 2.0  # a peer's worker that got nothing for so long has seen the end


class Marks:
    """Counts jobs and notes when the first and the last were there."""

    def __init__(self) -> None:
        self.count = 0
        self.first_s = self.last_s = 0.0

    def note(self, count: int) -> None:
        """Note a batch."""
        self.last_s = time.monotonic()
        self.first_s = self.first_s or self.last_s
        self.count += count

    def print(self) -> None:
        """Print them."""
        print(json.dumps({"count": self.count, "first_s": self.first_s, "last_s": self.last_s}), flush=True)


def work_for_riskwire(system: str, base: str, batch: int) -> None:
    """Run the kit with a no-op handler: `riskwire` looks at no event, `decoded` at each, `processed` writes each."""
    from engine.worker import BatchContext, Worker

    marks = Marks()

    def noop(events: Sequence[Any], context: BatchContext) -> None:
        marks.note(len(events))

    def decoded(events: Sequence[Any], context: BatchContext) -> None:
        for _ in events:
            pass
        marks.note(len(events))

    def processed(events: Sequence[Any], context: BatchContext) -> None:
        with context.once() as db:
            if db is not None:
                rows = [(seq, event.trade_id) for seq, event in context.fresh]
                db.executemany("INSERT INTO effects VALUES (?, ?)", rows)
        marks.note(len(events))

    def one(event: Any, context: Any) -> None:
        marks.note(1)

    handler = {"riskwire": noop, "decoded": decoded, "processed": processed, "one": one}[system]
    path = base.removeprefix("ipc://") + "/../effects.db"
    worker = Worker(system, handler, base, batch=0 if system == "one" else batch, processed=path)
    if system == "processed":
        worker.processed.db.execute("CREATE TABLE IF NOT EXISTS effects (seq INTEGER, trade_id TEXT)")
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    print("ready", flush=True)
    worker.run()
    marks.print()


def work_for_redis(address: str, batch: int) -> None:
    """Read a consumer group in batches and ack each batch with one command."""
    import os

    import redis

    marks = Marks()
    client = redis.Redis(unix_socket_path=address)
    name = str(os.getpid())
    print("ready", flush=True)
    while True:
        found = client.xreadgroup(GROUP, name, {STREAM: ">"}, count=batch, block=int(IDLE_MAX_S * 1000))
        if not found:
            break
        entries = found[0][1]
        client.xack(STREAM, GROUP, *[entry[0] for entry in entries])
        marks.note(len(entries))
    marks.print()


async def work_for_jetstream(address: str, batch: int) -> None:
    """Fetch from a pull consumer in batches and ack each message, as its protocol has it."""
    import nats
    from nats.errors import TimeoutError as NothingThere

    marks = Marks()
    client = await nats.connect(address)
    subscription = await client.jetstream().pull_subscribe(SUBJECT, durable=GROUP)
    print("ready", flush=True)
    while True:
        try:
            messages = await subscription.fetch(batch, timeout=IDLE_MAX_S)
        except (NothingThere, TimeoutError):
            break
        for message in messages:
            await message.ack()
        marks.note(len(messages))
    await client.close()
    marks.print()


def main() -> None:
    """Run one worker."""
    system, address, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if system == "redis":
        work_for_redis(address, batch)
    elif system == "jetstream":
        asyncio.run(work_for_jetstream(address, batch))
    else:
        work_for_riskwire(system, address, batch)


if __name__ == "__main__":
    main()
