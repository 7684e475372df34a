"""`python queue_memory.py JOBS`: the memory of a queue whose jobs all wait behind one that is in hand, bytes a job.

The worst there is: with an order per key, and every job of one key. Without an order nothing is read that nobody takes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from engine.acklog import AckLog
from engine.config import QueueConfig
from engine.jobqueue import JobQueue
from engine.jobs import Hands
from ext.records import KIND_SEQUENCED, Frame, FrameBuilder, stamp_frame

FRAME_JOBS = 2000


def frame(first_seq: int, template: list[bytearray]) -> Frame:
    """Return trades of one account."""
    if not template:
        builder = FrameBuilder(KIND_SEQUENCED)
        builder.define_name(0, 1, b"BTC")
        builder.define_name(1, 1, b"A")
        for n in range(FRAME_JOBS):
            builder.add_record(type=1, side=1, symbol=1, account=1, id=b"T%07d" % n, price=1, volume=1, executed_at=n)
        template.append(builder.finish(1, 1))
    data = bytearray(template[0])
    stamp_frame(data, first_seq, 1)
    return Frame(bytes(data), False)


def memory_bytes() -> int:
    """Return what this process keeps in memory of its own."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def main(jobs: int) -> None:
    """Print bytes a job with an order, and how many jobs are read without one."""
    template: list[bytearray] = []
    plain = JobQueue(QueueConfig("plain"), AckLog(None), lambda seq: None)
    seq = 1
    while plain.wants_frames:
        plain.feed(frame(seq, template))
        seq += FRAME_JOBS
    queue = JobQueue(QueueConfig("ordered", order_by="account"), AckLog(None), lambda seq: frame(seq, template))
    queue.feed(frame(1, template))
    assert queue.available(0) == 1
    assert queue.take(Hands(), 0) is not None
    before = memory_bytes()
    for first_seq in range(1 + FRAME_JOBS, jobs, FRAME_JOBS):
        queue.feed(frame(first_seq, template))
        queue.available(0)
    while queue._fresh:
        queue.available(0)
    assert queue.waiting >= jobs - 1, queue.waiting
    print((memory_bytes() - before) / jobs, seq - 1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
