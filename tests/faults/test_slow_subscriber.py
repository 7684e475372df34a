"""Ten subscribers of which one is stopped at full load: the broker's memory stays bounded, and that one gets it all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
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
# Frames that wait are joined to a quarter as many on a busy machine, and even those are more than may wait.
EVENTS_HWM = 200
MINUTE_S, MINUTE_FRAMES, MINUTE_HWM = 60.0, 160_000, 1_000
SUBSCRIBERS = 10
BYTES_PER_TRADE = 32  # that the broker may keep of each to know it again, while its table grows
SLACK_BYTES = 20 << 20

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc"),
]


def frames(count: int = FRAMES) -> Iterator[bytearray]:
    """Yield frames of distinct trades, made by writing ids into one frame's heap."""
    builder = FrameBuilder()
    for kind in (0, 1):
        builder.define_name(kind, 1, b"X")
    for _ in range(RECORDS):
        builder.add_record(type=1, side=1, symbol=1, account=1, id=b"0" * ID_BYTES, price=1, volume=1)
    template = builder.finish()
    for number in range(count):
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


def subscriber(base: str, *last_seq: str) -> subprocess.Popen[str]:
    words = [sys.executable, str(Path(__file__).with_name("slow_subscriber.py")), base, *last_seq]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("count", "seconds", "hwm"),
    [
        pytest.param(FRAMES, 3600.0, EVENTS_HWM, id="burst"),
        pytest.param(
            MINUTE_FRAMES,
            MINUTE_S,
            MINUTE_HWM,
            id="minute",
            marks=[pytest.mark.nightly, pytest.mark.timeout(1800)],
        ),
    ],
)
def test_a_stopped_subscriber_costs_the_broker_little_and_gets_everything(tmp_path, count, seconds, hwm):
    base = f"ipc://{tmp_path}/base"
    prepare_base(base)
    broker = Killable(base, tmp_path / "journal", "os", str(hwm))
    broker.start()
    subscribers = [subscriber(base) for _ in range(SUBSCRIBERS)]
    try:
        made, sent, until = frames(count), 0, time.monotonic() + seconds
        with Publisher(base, "load", wait_s=60) as publisher:
            publisher.publish_frame(next(made))
            publisher.flush()
            sent += 1
            for process in subscribers:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            stopped = subscribers[0]
            stopped.send_signal(signal.SIGSTOP)
            assert broker.process is not None
            before, highest = anonymous_bytes(broker.process.pid), 0
            for frame in made:
                publisher.publish_frame(frame)
                sent += 1
                if sent % 256 == 0:
                    highest = max(highest, anonymous_bytes(broker.process.pid))
                    if time.monotonic() > until:
                        break
            publisher.flush()
            highest = max(highest, anonymous_bytes(broker.process.pid))
        print(f"{sent * RECORDS:,} trades; the broker grew by {highest - before:,} bytes", flush=True)
        assert highest - before < sent * RECORDS * BYTES_PER_TRADE + SLACK_BYTES
        stopped.send_signal(signal.SIGCONT)
        results = [process.communicate(f"{sent * RECORDS}\n", timeout=600)[0].split() for process in subscribers]
        assert [int(seqs) for seqs, _ in results] == [sent * RECORDS] * SUBSCRIBERS
        assert int(results[0][1]) > 0  # it was dropped from, and has fetched what it missed
    finally:
        for process in subscribers:
            process.kill()
            process.communicate()
        broker.end()
