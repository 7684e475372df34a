"""What the broker alone can do: the door in ns a trade, and ROUTER to PUB with a draining subscriber in trades/s.

python -m bench.broker_rate [--trades 4000000] [--records 256] [--transport inproc|ipc|both]
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import threading
import time
from collections.abc import Sequence

import numpy as np
import zmq

from engine.broker import Broker, BrokerSettings
from engine.endpoints import endpoint, prepare_base
from engine.journal import open_journal
from engine.publisher import Publisher
from ext.journal import Journal
from ext.records import RECORD_DTYPE, Frame, FrameBuilder, stamp_frame
from ext.sequencer import Sequencer, Source

SYMBOLS, ACCOUNTS, ID_BYTES = 1000, 100, 10


def _plain_frame(records: int, names: bool) -> bytearray:
    builder = FrameBuilder()
    for _ in range(records):
        builder.add_record(type=1, side=1, symbol=1, account=1, id=b"0" * ID_BYTES, price=1, volume=1)
    if names:
        for i in range(SYMBOLS):
            builder.define_name(0, i + 1, f"SYM{i}".encode())
        for i in range(ACCOUNTS):
            builder.define_name(1, i + 1, f"ACC{i}".encode())
    return builder.finish()


def make_frames(trades: int, records: int) -> list[bytearray]:
    """Return frames of distinct trades in random symbols and accounts, the first one with all names."""
    first, rest = _plain_frame(records, True), _plain_frame(records, False)
    random = np.random.default_rng(1)
    frames = []
    for number in range(max(trades // records, 1)):
        frame = bytearray(first if number == 0 else rest)
        rows = np.frombuffer(frame, dtype=RECORD_DTYPE, count=records, offset=64)
        rows["symbol"] = random.integers(1, SYMBOLS + 1, records)
        rows["account"] = random.integers(1, ACCOUNTS + 1, records)
        rows["side"] = random.integers(1, 3, records)
        rows["price"], rows["price_exponent"] = random.integers(1, 100_000, records), -2
        start = number * records
        rows["executed_at"] = np.arange(start, start + records)
        ids = np.char.zfill(np.arange(start, start + records).astype(f"S{ID_BYTES}"), ID_BYTES)
        frame[len(frame) - ID_BYTES * records :] = ids.tobytes()
        stamp_frame(frame, start + 1, 7)
        frames.append(frame)
    return frames


def measure_door(frames: Sequence[bytearray], rounds: int = 3) -> tuple[float, float, float]:
    """Return ns a trade: accepting, telling duplicates, taking up the journal again; the best of the rounds."""
    count = len(frames) * len(Frame(frames[0]))
    best = [float("inf")] * 3
    for _ in range(rounds):
        journal = Journal(None)
        sequencer = Sequencer(journal)
        marks = [time.perf_counter()]
        for incarnation in (7, 8):
            source = Source("bench", incarnation)
            for frame in frames:
                sequencer.process_frame(frame, source)
            marks.append(time.perf_counter())
        assert sequencer.last_seq == count
        Sequencer(journal)
        marks.append(time.perf_counter())
        best = [min(old, (b - a) / count * 1e9) for old, a, b in zip(best, marks, marks[1:], strict=False)]
    return best[0], best[1], best[2]


def measure_loop(frames: Sequence[bytearray], base: str, directory: str | None) -> float:
    """Return trades/s from a publisher through the broker to a subscriber that only counts."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    count = len(frames) * len(Frame(frames[0]))
    prepare_base(base)
    journal = open_journal(directory)
    settings = BrokerSettings(
        publish=endpoint(base, "publish"), events=endpoint(base, "events"), replay=endpoint(base, "replay"), nodrop=True
    )
    ready = threading.Event()
    drained = threading.Thread(target=_drain, args=(context, base, len(frames), ready))
    with Broker(journal, settings, context):
        drained.start()
        ready.wait()
        publisher = Publisher(base, "bench", context=context, wait_s=60)
        started = time.perf_counter()
        for frame in frames:
            publisher.publish_frame(frame)
        publisher.flush()
        drained.join()
        elapsed = time.perf_counter() - started
        publisher.close()
    assert journal.last_seq == count
    journal.close()
    context.destroy(linger=0)
    return count / elapsed


def _drain(context: zmq.Context[zmq.Socket[bytes]], base: str, frames: int, ready: threading.Event) -> None:
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"RW")
    socket.connect(endpoint(base, "events"))
    socket.recv()  # a heartbeat: subscribed
    ready.set()
    seen = 0
    while seen < frames:
        seen += socket.recv(copy=False).buffer[:4] == b"RWF1"
    socket.close(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trades", type=int, default=4_000_000)
    parser.add_argument("--records", type=int, default=256)
    parser.add_argument("--transport", choices=("inproc", "ipc", "both"), default="both")
    parser.add_argument("--journal", action="store_true", help="with a journal on disk (in the temporary directory)")
    options = parser.parse_args()
    print(
        f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}"
    )
    frames = make_frames(options.trades, options.records)
    accept, duplicate, load = measure_door(frames)
    print(
        f"door      {accept:6.0f} ns a trade accepted, {duplicate:.0f} ns a duplicate, "
        f"{load:.0f} ns taken up at a restart"
    )
    for transport in ("inproc", "ipc") if options.transport == "both" else (options.transport,):
        with tempfile.TemporaryDirectory() as folder:
            base = "inproc://bench" if transport == "inproc" else f"ipc://{folder}/base"
            rate = measure_loop(frames, base, f"{folder}/journal" if options.journal else None)
        print(f"{transport:9} {rate / 1e6:6.2f} M trades/s in frames of {options.records}, ROUTER to PUB to SUB")


if __name__ == "__main__":
    main()
