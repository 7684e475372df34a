"""Memory does not grow with a feed: what is read in 10 GB is what is read in the first few hundred MB."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

RSS_BYTES_MAX = 400 << 20
# The peak of this program alone: ru_maxrss would begin with that of the process that started it.
READ = """
import re, resource, sys
from pathlib import Path
from feeds import open_feed

def peak_kib():
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read_text())[1])

with open_feed(sys.argv[1], format=sys.argv[2]) as feed:
    while feed.next_frame(4096) is not None:
        pass
    print(feed.records_read, feed.bytes_read, peak_kib())
"""
HEADER = b"trade_id,symbol,price,volume,side,executed_at,account\n"
CSV = b"".join(
    b"T%d,SYM%d,%d.25,1.5,buy,1700000000%09d,A%d\n" % (i, i % 997, i % 1000, i, i % 50) for i in range(20_000)
)
JSON = b"".join(
    b'{"trade_id":"T%d","symbol":"SYM%d","price":"%d.25","volume":2,"side":"sell","executed_at":1700000000%09d}\n'
    % (i, i % 997, i % 1000, i)
    for i in range(10_000)
)
FIX_BODY = b"35=8\x0117=E\x01150=F\x0155=X\x0154=1\x0131=1.5\x0132=2\x0160=20240102-14:30:00\x01"
FIX_TEXT = b"8=FIX.4.4\x019=%d\x01%b" % (len(FIX_BODY), FIX_BODY)
FIX = b"%b10=%03d\x01\n" % (FIX_TEXT, sum(FIX_TEXT) % 256) * 10_000
BLOCKS = {"csv": (HEADER, CSV), "jsonl": (b"", JSON), "fix": (b"", FIX)}


def feed_pipe(path: Path, head: bytes, block: bytes, times: int) -> None:
    with path.open("wb", buffering=0) as pipe:
        for piece in (head, *[block] * times):
            left = memoryview(piece)
            while left:
                left = left[pipe.write(left) :]


@pytest.mark.parametrize(
    ("format", "size_bytes"),
    [
        ("csv", 100 << 20), ("jsonl", 50 << 20), ("fix", 50 << 20),
        pytest.param("csv", 10 << 30, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)]),
        pytest.param("jsonl", 10 << 30, marks=[pytest.mark.nightly, pytest.mark.timeout(1800)]),
    ],
)  # fmt: skip
def test_memory_does_not_grow_with_a_feed(format: str, size_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / "feed"
    os.mkfifo(path)
    head, block = BLOCKS[format]
    times = size_bytes // len(block)
    writing = threading.Thread(target=feed_pipe, args=(path, head, block, times), daemon=True)
    writing.start()
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path), format], capture_output=True, text=True, check=False, timeout=1700
    )
    assert done.returncode == 0, done.stderr
    writing.join(10)
    records, read_bytes, peak = map(int, done.stdout.split())
    assert records == block.count(b"\n") * times
    assert read_bytes == len(head) + len(block) * times
    assert peak * 1024 < RSS_BYTES_MAX
    print(f"{format}, {read_bytes:,} bytes: {peak:,} KiB at most")
