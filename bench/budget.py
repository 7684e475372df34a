"""Where a trade spends its time from socket to alert: legs between stamps that add up, and what computes in them.

At one rate, so low that most frames hold one trade. Stamps of one clock: the planned time (in the record), when the
generator sent, when the broker numbered (in the journal's frame), when the consumer had applied and judged (in the
alerts' frame), when the alert was heard. Beside it libzmq's own hops with nothing in them, and the processor time of
door and core for a frame of one trade in one thread: what remains of a leg is the way - libzmq's threads, the kernel,
waking up.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench import core, hops, latency, workload
from bench.native import NoCompiler
from bench.report import Report
from bench.sizes import sized
from engine.endpoints import endpoint
from ext.journal import Journal
from ext.records import Frame

RATE = 10_000
ROUNDS_MAX = 5
KEYS = workload.Keys(symbols=100)
US = 1_000.0
Means = dict[str, float]  # ns from the planned time, by stamp


def riskwire(trades: int) -> Means:
    """Send on schedule through broker (journal on disk) and consumer."""
    with hops.base_folder() as base, tempfile.TemporaryDirectory(prefix="rwj-") as folder:
        where = str(Path(folder) / "journal")
        with hops.running(hops.role("broker", base, str(latency.WINDOW), where)) as broker:
            hops.wait_ready(broker)
            with hops.running(hops.role("consumer", base, str(trades + 1))) as consumer:
                hops.wait_ready(consumer)
                hops.publish_limits(base, latency.LIMITS)
                means = means_of(probe(base, trades), trades)
                hops.answer(consumer)
        return {**means, "numbered": numbered(where, trades)}


def libzmq(trades: int) -> Means:
    """Send the same through libzmq's hop and relay."""
    with hops.base_folder() as base:
        publish, events, alerts = (endpoint(base, name) for name in ("publish", "events", "alerts"))
        with hops.running(hops.raw("hop", publish, events, str(latency.WINDOW))) as hop:
            hops.wait_ready(hop)
            with hops.running(hops.raw("relay", events, alerts)) as relay:
                hops.wait_ready(relay)
                return means_of(probe(base, trades), trades)


def probe(base: str, trades: int) -> dict[str, Any]:
    """Run the load generator and return what it prints."""
    return hops.outcome(hops.raw("probe", endpoint(base, "publish"), endpoint(base, "alerts"), str(RATE), str(trades)))


def means_of(found: dict[str, Any], trades: int) -> Means:
    """Return the generator's means. Raises Ended where a trade is missing."""
    for kind in ("sent", "position", "alert"):
        if found[kind]["total"] != trades:
            raise hops.Ended(f"{found[kind]['total']:,} of {trades:,} trades have the stamp of {kind}")
    return {kind: found[kind]["sum"] / trades for kind in ("sent", "position", "alert")}


def numbered(journal: str, trades: int) -> float:
    """Return the mean time from planned to numbered, as the journal's frames say. Raises Ended where one is missing."""
    total, count = 0.0, 0
    with Journal(journal, readonly=True) as kept:
        for each in kept:
            frame = Frame(each)
            planned = frame.records["executed_at"][frame.records["type"] == 1]
            total += float((frame.stamped_at - planned).sum())
            count += len(planned)
    if count != trades:
        raise hops.Ended(f"the journal has {count:,} of {trades:,} trades")
    return total / count


def computing(trades: int) -> tuple[float, float]:
    """Return ns of processor time for door and core, a frame of one trade each."""
    from engine.limitset import parse_limits

    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        at = Path(folder)
        frames, before = workload.make_session(KEYS, trades, trades, 1)
        workload.write_frames(at / "frames.bin", frames)
        (at / "limits.json").write_bytes(parse_limits({"limit": KEYS.limits()}).to_json())
        found = core.run_json(
            [sys.executable, "-m", "bench.core_run", str(at / "frames.bin"), str(before), str(at / "limits.json")]
        )
    return found["door_ns"], found["core_ns"]


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure the legs of both, interleaved."""
    trades = int(RATE * sized(options, 3.0, 0.5, 0.1))
    ours, peers, door, core_ns = [], [], [], []
    try:
        for _ in range(min(options.rounds, ROUNDS_MAX)):
            peers.append(libzmq(trades))
            ours.append(riskwire(trades))
            for values, ns in zip((door, core_ns), computing(min(trades, 20_000)), strict=True):
                values.append(ns)
    except (NoCompiler, hops.NoLibrary) as problem:
        report.missing("libzmq", str(problem))
        return
    except hops.Ended as problem:
        report.fail(str(problem))
        return
    tell(report, ours, peers, door, core_ns)


def tell(report: Report, ours: list[Means], peers: list[Means], door: list[float], core_ns: list[float]) -> None:
    """Report the legs; those of riskwire add up to the whole."""
    legs = (
        ("planned to sent: the generator wakes and builds the frame", "", "sent"),
        ("sent to numbered: a hop, the door", "sent", "numbered"),
        ("numbered to judged: the journal, a hop, the core", "numbered", "position"),
        ("judged to heard: a hop", "position", "alert"),
        ("together: planned to heard", "", "alert"),
    )
    for text, start, end in legs:
        report.add(text, "us", [between(each, start, end) for each in ours])
    sums = [sum(between(each, start, end) for _, start, end in legs[:-1]) for each in ours]
    whole = [between(each, "", "alert") for each in ours]
    report.check("the legs add up", np.allclose(sums, whole, rtol=1e-9), True)
    computed = "processor time, a frame of one trade; a Python call each included"
    report.add("of that the door computes", "us", [ns / US for ns in door], note=computed)
    report.add("of that the core computes", "us", [ns / US for ns in core_ns], note=computed)
    report.add(
        "libzmq alone: sent to the third process, two hops", "us", [between(m, "sent", "position") for m in peers]
    )
    report.add("libzmq alone: from there to heard, a hop", "us", [between(m, "position", "alert") for m in peers])
    report.add("libzmq alone: together", "us", [between(m, "", "alert") for m in peers])


def between(means: Means, start: str, end: str) -> float:
    """Return the mean of a leg in µs."""
    return (means[end] - (means[start] if start else 0.0)) / US
