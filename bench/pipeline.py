"""Publisher, broker and consumer as three processes over ipc, beside libzmq moving the same bytes through three.

Both get the same frames from the same C program, which speaks the publishers' protocol; both ack. riskwire's broker
checks, numbers and journals (in memory, and in a folder with `sync = "os"`), its consumer applies with three limits;
libzmq's hop and sink look at a header. The rate is trades by the time from the first send to the last trade applied
(or seen). Then the same by how many trades are in a frame, and Redis Streams and JetStream as the durable broker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench import brokers, hops, servers, workload
from bench.native import NoCompiler
from bench.report import MORE, Report, ratios
from bench.sizes import trades_of
from engine.endpoints import endpoint

KEYS = workload.Keys(symbols=200, accounts=50, turnover=400)
FRAMED_RATIO, FRAMED_RATE, SINGLE_RATIO = 0.6, 2e6, 0.5
SINGLE_BROKER_RATIO, FRAMED_BROKER_RATIO = 10.0, 1.0
PER_FRAME = 256
OTHER_BATCHES = (4, 16, 64, 1_024)
IN_FLIGHT, FRAMES_IN_FLIGHT_MAX = 16_384, 4_096  # unacked trades, and frames
ROUNDS_MAX = 3  # of other batches and brokers


def write_session(path: Path, trades: int, per_frame: int) -> None:
    """Write unsequenced frames of new trades, the names in the first."""
    records, numbers = workload.make_records(KEYS, trades, 1, np.random.default_rng(11))
    frames = [workload.names_frame(KEYS), *workload.to_frames(records, numbers, per_frame, 1)]
    workload.write_frames(path, frames)


def watched(
    command: list[str], processes: Sequence[subprocess.Popen[str]]
) -> tuple[dict[str, Any], dict[str, Any], Any]:
    """Publish with a command; what it says, what the last process says when all has come, and each one's cpu ns."""
    before = [hops.cpu_ns(process) for process in processes]
    sent = hops.outcome(command)
    seen = hops.answer(processes[-1])
    used = [hops.cpu_ns(process) - start for process, start in zip(processes, before, strict=True)]
    return sent, seen, used


def raw_rate(
    path: Path, trades: int, window: int, program: Callable[..., list[str]] = hops.raw
) -> tuple[float, dict[str, Any]]:
    """Return trades/s through libzmq in C (or another program), and what the sink saw (cpu: ns of hop and sink)."""
    with hops.base_folder() as base:
        publish, events = endpoint(base, "publish"), endpoint(base, "events")
        with hops.running(program("hop", publish, events, str(window))) as hop:
            hops.wait_ready(hop)
            with hops.running(program("sink", events, str(trades))) as sink:
                hops.wait_ready(sink)
                sent, seen, used = watched(hops.raw("source", publish, str(path)), (hop, sink))
    return trades / (seen["end_ns"] - sent["start_ns"]) * 1e9, {**seen, "cpu": used}


def riskwire_rate(
    path: Path, trades: int, window: int, journal: bool = False, python: bool = False
) -> tuple[float, dict[str, Any]]:
    """Return trades/s through riskwire, and what the consumer found (cpu: ns of broker and consumer).

    journal: in a folder, else in memory. python: published by engine.Publisher, else by the C program.
    """
    with hops.base_folder() as base, tempfile.TemporaryDirectory(prefix="rwj-") as folder:
        where = str(Path(folder) / "journal") if journal else "-"
        with hops.running(hops.role("broker", base, str(window), where)) as broker:
            hops.wait_ready(broker)
            with hops.running(hops.role("consumer", base, str(trades + 1))) as consumer:
                hops.wait_ready(consumer)
                hops.publish_limits(base, KEYS.limits())
                source = hops.role("publisher", base, str(path))
                command = source if python else hops.raw("source", endpoint(base, "publish"), str(path))
                sent, seen, used = watched(command, (broker, consumer))
    return trades / (seen["end_ns"] - sent["start_ns"]) * 1e9, {**seen, "cpu": used}


def window_of(per_frame: int) -> int:
    """Return how many frames may be unacked."""
    return min(FRAMES_IN_FLIGHT_MAX, max(16, IN_FLIGHT // per_frame))


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure frames of 256 trades and of one, other frames, and other brokers."""
    framed = trades_of(options, 4_000_000, 1_000_000, 20_000)
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        for part in (against_libzmq, pyzmq, other_brokers):
            try:
                part(options, report, Path(folder), framed)
            except (NoCompiler, hops.NoLibrary) as problem:
                report.missing("libzmq", str(problem))
            except hops.Ended as problem:
                report.fail(str(problem))


def against_libzmq(options: argparse.Namespace, report: Report, at: Path, framed: int) -> None:
    """Measure riskwire and libzmq, by how many trades are in a frame."""
    for trades, per_frame in ((framed, PER_FRAME), (framed // 10, 1)):
        measure(options, report, at / f"{per_frame}.bin", trades, per_frame)
    for per_frame in OTHER_BATCHES[-1:] if options.smoke else OTHER_BATCHES:
        trades = min(framed, framed * per_frame // 40)
        by_batch(report, at / f"{per_frame}.bin", trades, per_frame, min(options.rounds, ROUNDS_MAX))


def by_batch(report: Report, path: Path, trades: int, per_frame: int, rounds: int) -> None:
    """Measure riskwire and libzmq with so many trades in a frame, for the plot."""
    write_session(path, trades, per_frame)
    raw_rates, rates = [], []
    for _ in range(rounds):
        rate, seen = raw_rate(path, trades, window_of(per_frame))
        raw_rates.append(rate)
        report.check(f"{named(per_frame)}: libzmq's records", seen["records"], trades)
        rate, found = riskwire_rate(path, trades, window_of(per_frame), journal=True)
        rates.append(rate)
        report.check(
            f"{named(per_frame)}: applied, none refused", (found["applied"], found["refused"]), (trades + 1, 0)
        )
    path.unlink()
    report.add(f"{named(per_frame)}: libzmq", "trades/s", raw_rates, better=MORE)
    report.add(f"{named(per_frame)}: riskwire, journal on disk", "trades/s", rates, better=MORE)
    report.point("throughput", "libzmq", per_frame, raw_rates)
    report.point("throughput", "riskwire, journal on disk", per_frame, rates)


def other_brokers(options: argparse.Namespace, report: Report, at: Path, framed: int) -> None:
    """Measure Redis Streams and JetStream with one trade and with 256 a message, interleaved with riskwire."""
    cases = {1: (at / "single.bin", max(framed // 100, 2_000)), PER_FRAME: (at / "framed.bin", framed // 4)}
    for per_frame, (path, trades) in cases.items():
        write_session(path, trades, per_frame)
    there = [system for system in brokers.NAMES if not servers.missing(system)]
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(min(options.rounds, ROUNDS_MAX)):
        path, trades = cases[PER_FRAME]
        rate, found = riskwire_rate(path, trades, window_of(PER_FRAME), journal=True, python=True)
        report.check("as broker: applied, none refused", (found["applied"], found["refused"]), (trades + 1, 0))
        rates.setdefault(("riskwire", PER_FRAME), []).append(rate)
        for system in there:
            for per_frame, (path, trades) in cases.items():
                rate, sent, seen = brokers.rate_of(system, path, trades)
                same = (seen["records"], seen["bytes"]) == (trades, sent["bytes"])
                report.check(f"{brokers.NAMES[system]}, {in_message(per_frame)}: all has come", same, True)
                rates.setdefault((system, per_frame), []).append(rate)
    tell_brokers(report, rates)


def tell_brokers(report: Report, rates: dict[tuple[str, int], list[float]]) -> None:
    """Report what brokers do, and how many times that riskwire does with its frames."""
    ours = rates["riskwire", PER_FRAME]
    report.add("durable, riskwire, engine.Publisher and frames of 256", "trades/s", ours, better=MORE)
    for system, name in brokers.NAMES.items():
        if how := servers.missing(system):
            report.missing(f"durable, {name}", how)
            continue
        for per_frame in (1, PER_FRAME):
            found = rates[system, per_frame]
            report.point("throughput", f"{name} (Python clients)", per_frame, found)
            report.add(f"durable, {name}, {in_message(per_frame)}", "trades/s", found, better=MORE)
            goal = SINGLE_BROKER_RATIO if per_frame == 1 else FRAMED_BROKER_RATIO if system == "jetstream" else None
            what = f"durable, riskwire / {name}, {in_message(per_frame)}"
            report.add(what, "x", ratios(ours, found), better=MORE, target=goal)


def pyzmq(options: argparse.Namespace, report: Report, at: Path, framed: int) -> None:
    """Measure pyzmq's asyncio sockets on uvloop, one trade a message."""
    path, trades, rates = at / "pyzmq.bin", max(framed // 100, 2_000), []
    write_session(path, trades, 1)
    for _ in range(options.rounds):
        rate, seen = raw_rate(
            path, trades, window_of(1), lambda *words: [sys.executable, "-m", "bench.peer_asyncio", *words]
        )
        report.check("pyzmq asyncio: records", seen["records"], trades)
        rates.append(rate)
    report.add(f"{named(1)}: pyzmq asyncio on uvloop", "trades/s", rates, better=MORE)
    report.point("throughput", "pyzmq asyncio", 1, rates)


def measure(options: argparse.Namespace, report: Report, path: Path, trades: int, per_frame: int) -> None:
    """Measure riskwire and libzmq, interleaved, with so many trades in a frame."""
    write_session(path, trades, per_frame)
    mib, window, alerts = path.stat().st_size / 2**20, window_of(per_frame), set()
    rates: dict[str, list[float]] = {"libzmq": [], "riskwire": [], "on disk": [], "python": []}
    used: dict[str, list[list[float]]] = {"libzmq": [], "on disk": []}
    for _ in range(options.rounds):
        rate, seen = raw_rate(path, trades, window)
        rates["libzmq"].append(rate)
        used["libzmq"].append([ns / trades for ns in seen["cpu"]])
        report.check("libzmq: records", seen["records"], trades)
        for name, how in (("riskwire", {}), ("on disk", {"journal": True}), ("python", {"python": True})):
            rate, found = riskwire_rate(path, trades, window, **how)
            rates[name].append(rate)
            report.check(f"{name}: applied, and none refused", (found["applied"], found["refused"]), (trades + 1, 0))
            alerts.add(found["alerts"])
            if name in used:
                used[name].append([ns / trades for ns in found["cpu"]])
    report.check("alerts, the same in each run", len(alerts), 1)
    tell(report, rates, mib / trades, per_frame)
    tell_used(report, used, per_frame)


def tell_used(report: Report, used: dict[str, list[list[float]]], per_frame: int) -> None:
    """Report the processor time of each process, libzmq's own threads included: what is left when cores are free."""
    what = named(per_frame)
    rows = (
        ("libzmq", 0, "libzmq's hop"),
        ("libzmq", 1, "libzmq's sink"),
        ("on disk", 0, "broker"),
        ("on disk", 1, "consumer"),
    )
    for name, place, text in rows:
        values = [each[place] for each in used[name]]
        report.add(f"{what}: processor time a trade, {text}", "ns", values, note="with libzmq's threads")


def named(per_frame: int) -> str:
    """Return how trades were framed."""
    return f"{per_frame} trades a frame" if per_frame > 1 else "one trade a message"


def in_message(per_frame: int) -> str:
    """Return how many trades a message of another broker carries."""
    return f"{per_frame} trades a message" if per_frame > 1 else "one trade a message"


def tell(report: Report, rates: dict[str, list[float]], mib_each: float, per_frame: int) -> None:
    """Report rates, and ratios to libzmq."""
    what = named(per_frame)
    by_rate, by_ratio = (FRAMED_RATE, FRAMED_RATIO) if per_frame > 1 else (None, SINGLE_RATIO)

    def add(name: str, key: str, target: float | None = None, note: str = "") -> None:
        report.add(f"{what}: {name}", "trades/s", rates[key], better=MORE, target=target, note=note)

    report.point("throughput", "libzmq", per_frame, rates["libzmq"])
    report.point("throughput", "riskwire, journal on disk", per_frame, rates["on disk"])
    add("libzmq", "libzmq", note=f"{mib_each * sorted(rates['libzmq'])[len(rates['libzmq']) // 2]:.0f} MiB/s")
    add("riskwire, journal in memory", "riskwire")
    add("riskwire, journal on disk", "on disk", by_rate)
    add("the same from engine.Publisher in Python", "python")
    report.add(f"{what}: riskwire in memory / libzmq", "x", ratios(rates["riskwire"], rates["libzmq"]), better=MORE)
    on_disk = ratios(rates["on disk"], rates["libzmq"])
    report.add(f"{what}: riskwire on disk / libzmq", "x", on_disk, better=MORE, target=by_ratio)
