"""The core: ns a trade for duplicates, position and three limits, beside the C++ reference, and how that grows."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import core_limits, core_python, native, workload
from bench.machine import ROOT
from bench.report import Report, ratios

PER_FRAME = 1_024
KEYS = workload.Keys()
MANY_KEYS = workload.Keys(symbols=10_000)
APPLY_NS, MANY_KEYS_RATIO, REFERENCE_RATIO, GROWTH_RATIO, POSITION_BYTES = 100, 1.5, 1.3, 1.5, 256
Result = dict[str, Any]


class Case:
    """One session on disk, and both programs over it."""

    def __init__(self, folder: Path, keys: workload.Keys, warm: int, timed: int) -> None:
        from engine.limitset import parse_limits

        self.folder, self.keys = folder, keys
        self.frames, self.limits = folder / f"{keys.count}.bin", folder / f"{keys.count}.json"
        frames, self.before = workload.make_session(keys, warm, timed, PER_FRAME)
        workload.write_frames(self.frames, frames)
        self.limits.write_bytes(parse_limits({"limit": keys.limits()}).to_json())

    def ours(self, positions: bool = False) -> Result:
        """Run riskwire's door and core."""
        command = [sys.executable, "-m", "bench.core_run", str(self.frames), str(self.before), str(self.limits)]
        return run_json([*command, str(self.folder / "ours.csv")] if positions else command)

    def reference(self, positions: bool = False) -> Result:
        """Run the C++ reference."""
        command = [
            str(native.build("reference.cpp")),
            str(self.frames),
            str(self.before),
            *self.keys.reference_arguments(),
        ]
        return run_json([*command, str(self.folder / "reference.csv")] if positions else command)

    def agree(self, report: Report) -> bool:
        """Compare counts and every field of every position."""
        ours, peer = self.ours(positions=True), self.reference(positions=True)
        for name in ("accepted", "duplicates", "refused", "alerts"):
            if not report.check(f"{self.keys.count:,} keys: {name}", ours[name], peer[name]):
                return False
        differ = differing_rows(self.folder / "ours.csv", self.folder / "reference.csv")
        print(f"  {self.keys.count:,} keys: {ours['accepted']:,} trades, {ours['duplicates']:,} duplicates, ", end="")
        print(f"{ours['alerts']:,} alerts, {ours['trades'] // PER_FRAME:,} frames of {PER_FRAME:,}; the same in both")
        return report.check(f"{self.keys.count:,} keys: positions that differ", differ[:3], [])


def run_json(command: list[str]) -> Result:
    """Run a program that prints one JSON object. Raises SystemExit with what it said."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command[:3])} ended with {done.returncode}: {done.stderr.strip()}")
    result: Result = json.loads(done.stdout)
    return result


def differing_rows(ours: Path, reference: Path) -> list[tuple[str, str]]:
    """Return (ours, the reference's) positions that differ; the average price follows from the rest."""
    rows = []
    for line in ours.read_text().splitlines()[1:]:
        cells = line.split(",")
        rows.append(",".join(cells[:3] + cells[4:]))
    theirs = reference.read_text().splitlines()
    if len(rows) != len(theirs):
        return [(f"{len(rows)} positions", f"{len(theirs)} positions")]
    return [pair for pair in zip(rows, theirs, strict=True) if pair[0] != pair[1]]


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure everything about the core."""
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        against_reference(options, report, Path(folder))
    core_limits.run(options, report)
    growth(options, report)
    memory(options, report)
    core_python.run(options, report)


def against_reference(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Measure few keys and many, interleaved with the reference."""
    timed = options.trades or (200_000 if options.quick else 1_000_000)
    cases = []
    for keys, warm in ((KEYS, max(timed, KEYS.count)), (MANY_KEYS, MANY_KEYS.count + timed // 2)):
        turning = dataclasses.replace(keys, turnover=(warm + timed) / keys.count)
        cases.append(Case(folder, turning, warm, timed))
    try:
        native.build("reference.cpp")
    except native.NoCompiler as problem:
        report.missing("reference in C++", str(problem))
        return
    if not all(case.agree(report) for case in cases):
        return
    ours: dict[int, list[Result]] = {case.keys.count: [] for case in cases}
    peers: dict[int, list[Result]] = {case.keys.count: [] for case in cases}
    for _ in range(options.rounds):
        for case in cases:
            ours[case.keys.count].append(case.ours())
            peers[case.keys.count].append(case.reference())
    few, many = (
        tell_case(report, case.keys.count, ours[case.keys.count], peers[case.keys.count], target)
        for case, target in zip(cases, (APPLY_NS, None), strict=True)
    )
    report.add("many keys / few keys", "x", ratios(many, few), target=MANY_KEYS_RATIO)


def tell_case(report: Report, keys: int, ours: list[Result], peers: list[Result], target: float | None) -> list[float]:
    """Report door, core and both, ours and the reference's; return ours together."""

    def of(results: list[Result], *names: str) -> list[float]:
        return [sum(result[name] for name in names) for result in results]

    both = ("door_ns", "core_ns")
    report.add(f"{keys:,} keys: duplicates + position + 3 limits", "ns", of(ours, *both), target=target)
    report.add(f"{keys:,} keys: of that the door", "ns", of(ours, "door_ns"), note="checks, duplicates, journal")
    report.add(f"{keys:,} keys: of that the core", "ns", of(ours, "core_ns"), note="CRC, position, 3 limits")
    report.add(f"{keys:,} keys: reference in C++", "ns", of(peers, *both))
    report.add(f"{keys:,} keys: reference, door", "ns", of(peers, "door_ns"))
    report.add(f"{keys:,} keys: reference, core", "ns", of(peers, "core_ns"))
    against = ratios(of(ours, *both), of(peers, *both))
    report.add(f"{keys:,} keys: riskwire / reference", "x", against, target=REFERENCE_RATIO)
    report.add(f"{keys:,} keys: riskwire / reference, door", "x", ratios(of(ours, "door_ns"), of(peers, "door_ns")))
    report.add(f"{keys:,} keys: riskwire / reference, core", "x", ratios(of(ours, "core_ns"), of(peers, "core_ns")))
    return of(ours, *both)


def growth(options: argparse.Namespace, report: Report) -> None:
    """Measure a trade behind ten thousand others and behind ten million (quick: a million)."""
    many = 1_000_000 if options.quick else 10_000_000
    results = [run_json([sys.executable, "-m", "bench.core_growth", str(many)]) for _ in range(min(options.rounds, 3))]
    early, late = [each["early_ns"] for each in results], [each["late_ns"] for each in results]
    report.add("after 10,000 trades, 1,000 keys", "ns", early)
    report.add(f"after {many:,} trades", "ns", late)
    report.add(f"after {many:,} / after 10,000", "x", ratios(late, early), target=GROWTH_RATIO)


def memory(options: argparse.Namespace, report: Report) -> None:
    """Measure what a position needs: resident memory of many positions less that of few, with as many trades."""
    keys, few = (200_000 if options.quick else 1_000_000), 1_000
    grown = [
        run_json([sys.executable, "-m", "bench.core_memory", str(n), str(keys)])["grown_bytes"] for n in (keys, few)
    ]
    report.add("a position with 3 limits", "bytes", [(grown[0] - grown[1]) / (keys - few)], target=POSITION_BYTES)
    report.add("a trade remembered for busts (core)", "bytes", [grown[1] / keys])
