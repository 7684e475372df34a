"""Run under disk_faults.c: a broker and a publisher for every single sync and write that can fail.

`python disk_fault_cases.py FOLDER` prints one JSON line for each case: what failed, what was said, what was acked.
"""

from __future__ import annotations

import ctypes
import errno
import json
import shutil
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import zmq

from engine.broker import Broker, BrokerSettings
from engine.consumer import RiskConsumer
from engine.endpoints import endpoint
from engine.events import TradeExecuted
from engine.journal import journal_info, open_journal
from engine.publisher import Publisher
from engine.snapshots import SnapshotStore, Snapshotter
from ext.encoder import EventEncoder

shim: Any = ctypes.CDLL(None)
FRAMES, RECORDS = 7, 3000  # about 2 MB: two segments
REFUSED_FOR_S = 0.25  # so long a broker that must not ack is watched: it would try again every 100 ms


def frame(number: int) -> bytearray:
    encoder = EventEncoder()
    for n in range(number * RECORDS, (number + 1) * RECORDS):
        encoder.add(TradeExecuted(f"T{n}", f"S{n % 7}", Decimal(n + 1), Decimal(1), "buy", n, account="A"))
    return encoder.finish()


ALL_FRAMES = [bytes(frame(number)) for number in range(FRAMES)]


def case(folder: Path, sync: str, call: str, nth: int, times: int, error: int) -> dict[str, Any]:
    """Publish with one kind of call failing; stop early where the broker will never ack again."""
    shutil.rmtree(folder, ignore_errors=True)
    context: zmq.Context[Any] = zmq.Context()
    base = "inproc://faults"
    said: list[str] = []
    journal = open_journal(folder, sync)
    shim.rw_fault_arm(call.encode(), nth, times, error)
    settings = BrokerSettings(**{role: endpoint(base, role) for role in ("publish", "events", "replay")})
    at_failure = -1
    with Broker(journal, settings, context) as broker:
        publisher = Publisher(base, "faults", context=context, wait_s=10)
        for data in ALL_FRAMES:
            publisher.publish_frame(bytearray(data))
            until = time.monotonic() + 10
            while publisher.poll() and time.monotonic() < until:
                if broker.trouble and broker.trouble not in said:
                    said.append(broker.trouble)
                    at_failure = publisher.stats.acked
                    if journal.sync_failed:
                        until = time.monotonic() + REFUSED_FOR_S
                time.sleep(0.0002)
            if journal.sync_failed:
                break
        publisher.abandon()
        acked, trouble = publisher.stats.acked, broker.trouble
    context.term()
    failed = journal.sync_failed
    closing = ""
    try:
        journal.close()
    except OSError as problem:
        closing = str(problem)
    left = shim.rw_fault_left()
    shim.rw_fault_arm(b"", 1, 0, 0)
    info = journal_info(folder)
    return {
        "call": call,
        "nth": nth,
        "left": left,
        "said": said,
        "at_failure": at_failure,
        "acked": acked,
        "trouble": trouble,
        "sync_failed": failed,
        "sealed": info.sealed,
        "last_seq": info.last_seq,
        "closing": closing,
    }


def snapshot_case(folder: Path, call: str, nth: int, error: int) -> dict[str, Any]:
    """Take a snapshot with one call failing."""
    shutil.rmtree(folder, ignore_errors=True)
    context: zmq.Context[Any] = zmq.Context()
    base = "inproc://faults"
    settings = BrokerSettings(**{role: endpoint(base, role) for role in ("publish", "events", "replay")})
    with open_journal(folder) as journal, Broker(journal, settings, context):
        with Publisher(base, "p", context=context) as publisher:
            publisher.publish_frame(bytearray(ALL_FRAMES[0]))
        with RiskConsumer(context, base, announce=False) as consumer:
            consumer.wait_applied(RECORDS, 60)
            snapshotter = Snapshotter(consumer, journal)
            shim.rw_fault_arm(call.encode(), nth, 1, error)
            problem = ""
            try:
                snapshotter.take()
            except OSError as raised:
                problem = str(raised)
            left = shim.rw_fault_left()
            shim.rw_fault_arm(b"", 1, 0, 0)
            taken = len(SnapshotStore(folder).paths())
            leftover = len(list(folder.glob("*.tmp")))
            snapshotter.take()
    context.term()
    return {"call": call, "nth": nth, "left": left, "problem": problem, "taken": taken, "tmp": leftover}


def main() -> None:
    folder = Path(sys.argv[1])
    for call, sync, times, error in (
        ("fdatasync", "group", 1, errno.EIO),
        ("fsync", "group", 1, errno.EIO),
        ("posix_fallocate", "os", 2, errno.ENOSPC),
        ("posix_fallocate", "group", 2, errno.EIO),
        ("ftruncate", "os", 1, errno.EIO),
    ):
        nth, left = 1, 0
        while not left:
            result = case(folder / call, sync, call, nth, times, error)
            left = result["left"]
            print(json.dumps(result | {"sync": sync}), flush=True)
            nth += 1
    for call, error in (("write", errno.ENOSPC), ("write", errno.EIO), ("write", 0), ("fsync", errno.EIO)):
        nth, left = 1, 0
        while not left:
            result = snapshot_case(folder / "snapshot", call, nth, error)
            left = result["left"]
            print(json.dumps(result | {"snapshot": True, "short": error == 0}), flush=True)
            nth += 1


if __name__ == "__main__":
    main()
