"""The processes of the pipeline and latency figures: riskwire's broker and consumer, libzmq's hops, the load."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import native
from bench.machine import ROOT
from engine.endpoints import endpoint

TIMEOUT_S = 120.0


class NoLibrary(RuntimeError):
    """libzmq as a file of its own was not found; the text says where it was looked for."""


def libzmq_path() -> Path:
    """Return the libzmq that pyzmq brought along. Raises NoLibrary."""
    import zmq

    site = Path(zmq.__file__).parents[1]
    for pattern in ("pyzmq.libs/libzmq*.so*", "zmq/.dylibs/libzmq*.dylib", "zmq/libzmq*.so*"):
        for found in sorted(site.glob(pattern)):
            return found
    raise NoLibrary(f"no libzmq beside {site / 'zmq'}: raw figures need pyzmq from a wheel (pip install pyzmq)")


def raw(*arguments: str) -> list[str]:
    """Return the command of the raw program in a role."""
    return [str(native.build("rawzmq.c", "-ldl", "-lpthread")), str(libzmq_path()), *arguments]


def role(*arguments: str) -> list[str]:
    """Return the command of riskwire in a role."""
    return [sys.executable, "-m", "bench.hops", *arguments]


class Ended(RuntimeError):
    """A process of the figure ended before it should; the text says what it was."""


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process that prints `ready` first; it is ended afterwards."""
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:  # it waits for something that will not come: the figure has failed already
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait for the line `ready`. Raises Ended where the process ended instead."""
    assert process.stdout is not None, "its output is a pipe"
    line = process.stdout.readline()
    if line.strip() != "ready":
        raise Ended(f"{named(process)} said {line!r} and not that it is ready")


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the JSON object that a process prints when it is done. Raises Ended where it ended without."""
    assert process.stdout is not None, "its output is a pipe"
    line = process.stdout.readline()
    if not line:
        raise Ended(f"{named(process)} ended with {process.wait(10)} and said nothing")
    result: dict[str, Any] = json.loads(line)
    return result


def cpu_ns(process: subprocess.Popen[str]) -> int:
    """Return the processor time that all threads of a process have used so far (Linux; 0 elsewhere)."""
    total = 0
    for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except OSError:  # the thread has just ended
            continue
    return total


def named(process: subprocess.Popen[str]) -> str:
    """Return what a process is, in a few words."""
    words = process.args if isinstance(process.args, list) else [str(process.args)]
    return " ".join(Path(str(word)).name for word in words[:5])


def outcome(command: list[str]) -> dict[str, Any]:
    """Run a process to its end and return the JSON object it prints. Raises Ended where it failed or hangs."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Ended(f"{' '.join(command[1:4])} did not end within {TIMEOUT_S:.0f} s") from None
    if done.returncode:
        raise Ended(f"{' '.join(command[1:4])} ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def base_folder() -> Iterator[str]:
    """Give an ipc base of its own."""
    with tempfile.TemporaryDirectory(prefix="rwb-") as folder:
        yield f"ipc://{folder}"


# --- riskwire's roles, each a process ----------------------------------------------------------------------------


def run_broker(base: str, window: str, journal: str) -> None:
    """Serve as the broker until SIGTERM; journal: a folder, or `-` for memory."""
    import zmq

    from engine.broker import Broker, BrokerSettings
    from engine.endpoints import prepare_base
    from engine.journal import open_journal
    from ext.records import keep_freed_memory

    keep_freed_memory()
    prepare_base(base)
    at = {name: endpoint(base, name) for name in ("publish", "events", "replay")}
    settings = BrokerSettings(**at, window_frames=int(window), dedup_expected=4_000_000)
    opened = open_journal(None if journal == "-" else journal)
    with Broker(opened, settings, zmq.Context()):
        print("ready", flush=True)
        signal.sigwait({signal.SIGTERM})
    opened.close()


def run_consumer(base: str, events: str) -> None:
    """Apply until so many events are applied, print when that was, and go on until SIGTERM."""
    import zmq

    from engine.consumer import RiskConsumer
    from ext.records import keep_freed_memory

    keep_freed_memory()
    with RiskConsumer(zmq.Context(), base) as consumer:
        while not consumer.loop.epoch:  # a heartbeat of the broker's has come: subscribed
            time.sleep(0.005)
        print("ready", flush=True)
        consumer.wait_applied(int(events), TIMEOUT_S)
        end_ns = time.monotonic_ns()
        core = consumer.core
        found = {"end_ns": end_ns, "applied": core.applied_seq, "alerts": len(core.alerts), "gaps": consumer.loop.gaps}
        print(json.dumps({**found, "refused": core.refused_count}), flush=True)
        signal.sigwait({signal.SIGTERM})


def publish_limits(base: str, limits: list[dict[str, object]]) -> None:
    """Publish a LimitsChanged, seq 1."""
    import zmq

    from engine.events import LimitsChanged
    from engine.limitset import parse_limits
    from engine.publisher import Publisher

    plain = parse_limits({"limit": limits}).to_dict()
    with zmq.Context() as context, Publisher(base, "limits", context=context, wait_s=30) as publisher:
        publisher.publish(LimitsChanged("limits", 0, settings=plain["settings"], limit=plain["limit"], who="bench"))


def run_publisher(base: str, frames_path: str) -> None:
    """Publish a file of frames with `engine.Publisher`, and print when it began and when all was acked."""
    import zmq

    from bench.core_run import read_frames
    from engine.publisher import Publisher

    frames = [bytearray(frame) for frame in read_frames(Path(frames_path))]
    with zmq.Context() as context, Publisher(base, "bench", context=context, wait_s=TIMEOUT_S) as publisher:
        start_ns = time.monotonic_ns()
        for frame in frames:
            publisher.publish_frame(frame)
        publisher.flush()
        acked_ns = time.monotonic_ns()
    print(json.dumps({"start_ns": start_ns, "acked_ns": acked_ns}), flush=True)


ROLES = {"broker": run_broker, "consumer": run_consumer, "publisher": run_publisher}

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ROLES[sys.argv[1]](*sys.argv[2:])
