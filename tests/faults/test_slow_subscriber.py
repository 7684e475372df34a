"""Ten subscribers of which one is stopped at full load: the broker's memory stays bounded, and that one gets it all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_broker_killed import Killable

from engine.endpoints import prepare_base
from engine.publisher import Publisher
from ext.records import RECORD_DTYPE, FrameBuilder

ROOT = Path(__file__).resolve().parents[2]
FRAMES, RECORDS, ID_BYTES = 3000, 256, 10
SUBSCRIBERS = 10
BYTES_PER_TRADE = 21  # that the broker may keep of each to know it again
SLACK_BYTES = 20 << 20

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc"),
]


def frames() -> Iterator[bytearray]:
    """Yield frames of distinct trades, made by writing ids into one frame's heap."""
    builder = FrameBuilder()
    for kind in (0, 1):
        builder.define_name(kind, 1, b"X")
    for _ in range(RECORDS):
        builder.add_record(type=1, side=1, symbol=1, account=1, id=b"0" * ID_BYTES, price=1, volume=1)
    template = builder.finish()
    for number in range(FRAMES):
        frame = bytearray(template)
        first = number * RECORDS
        ids = np.char.zfill(np.arange(first, first + RECORDS).astype(f"S{ID_BYTES}"), ID_BYTES)
        frame[len(frame) - ID_BYTES * RECORDS :] = ids.tobytes()
        rows = np.frombuffer(frame, dtype=RECORD_DTYPE, count=RECORDS, offset=64)
        rows["executed_at"] = np.arange(first, first + RECORDS)
        yield frame


def anonymous_bytes(pid: int) -> int:
    """Return what a process holds that is no file: the journal is mapped and does not count."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def subscriber(base: str) -> subprocess.Popen[str]:
    words = [sys.executable, str(Path(__file__).with_name("slow_subscriber.py")), base, str(FRAMES * RECORDS)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_stopped_subscriber_costs_the_broker_little_and_gets_everything(tmp_path):
    base = f"ipc://{tmp_path}/base"
    prepare_base(base)
    broker = Killable(base, tmp_path / "journal", "os")
    broker.start()
    subscribers = [subscriber(base) for _ in range(SUBSCRIBERS)]
    try:
        made = frames()
        with Publisher(base, "load", wait_s=60) as publisher:
            publisher.publish_frame(next(made))
            publisher.flush()
            for process in subscribers:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            stopped = subscribers[0]
            stopped.send_signal(signal.SIGSTOP)
            assert broker.process is not None
            before, highest = anonymous_bytes(broker.process.pid), 0
            for number, frame in enumerate(made):
                publisher.publish_frame(frame)
                if number % 256 == 0:
                    highest = max(highest, anonymous_bytes(broker.process.pid))
            publisher.flush()
            highest = max(highest, anonymous_bytes(broker.process.pid))
        assert highest - before < FRAMES * RECORDS * BYTES_PER_TRADE + SLACK_BYTES
        stopped.send_signal(signal.SIGCONT)
        results = [process.communicate(timeout=200)[0].split() for process in subscribers]
        assert [int(count) for count, _ in results] == [FRAMES * RECORDS] * SUBSCRIBERS
        assert int(results[0][1]) > 0  # it was dropped from, and has fetched what it missed
    finally:
        for process in subscribers:
            process.kill()
            process.communicate()
        broker.end()
