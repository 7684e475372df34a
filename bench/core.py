"""The core: ns a trade for duplicates, position and three limits, beside the C++ reference, and how that grows."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import core_limits, core_python, native, published, workload
from bench.machine import ROOT
from bench.report import Report, ratios
from bench.sizes import sized, trades_of

PER_FRAME = 1_024
KEYS = tuple(workload.Keys(*each) for each in ((100, 10), (100, 100), (1_000, 100), (10_000, 100)))
KEYS_QUICK, KEYS_SMOKE = KEYS[::2] + KEYS[3:], KEYS[:1]
FEW_KEYS, MANY_KEYS = 100_000, 1_000_000
ROUNDS_MAX = 3  # of the other numbers of keys
PROC = Path("/proc/self/status")
MARKS = 8  # at which memory is looked at
# For the reference's malloc; riskwire asks for huge pages itself.
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
APPLY_NS, MANY_KEYS_RATIO, REFERENCE_RATIO, GROWTH_RATIO, POSITION_BYTES = 100, 1.5, 1.3, 1.5, 256
READY = "memory for all trades made beforehand"
Result = dict[str, Any]
Runs = dict[tuple[bool, bool], list[Result]]  # (riskwire's, memory made beforehand)


class Case:
    """One session on disk, and both programs over it."""

    def __init__(self, folder: Path, keys: workload.Keys, warm: int, timed: int) -> None:
        from engine.limitset import parse_limits

        self.folder, self.keys = folder, keys
        self.frames, self.limits = folder / f"{keys.count}.bin", folder / f"{keys.count}.json"
        frames, self.before = workload.make_session(keys, warm, timed, PER_FRAME)
        workload.write_frames(self.frames, frames)
        self.limits.write_bytes(parse_limits({"limit": keys.limits()}).to_json())

    def ours(self, positions: bool = False, ready: bool = False) -> Result:
        """Run riskwire's door and core; ready: memory for all trades is made beforehand."""
        command = [sys.executable, "-m", "bench.core_run", str(self.frames), str(self.before), str(self.limits)]
        rows = str(self.folder / "ours.csv") if positions else "-"
        return run_json([*command, rows, "", "ready" if ready else ""])

    def reference(self, positions: bool = False, ready: bool = False) -> Result:
        """Run the C++ reference; ready: as above."""
        command = [
            str(native.build("reference.cpp")),
            str(self.frames),
            str(self.before),
            *self.keys.reference_arguments(),
        ]
        rows = str(self.folder / "reference.csv") if positions else "-"
        return run_json([*command, rows, *(["ready"] if ready else [])], HUGE_PAGES)

    def agree(self, report: Report) -> bool:
        """Compare counts and every field of every position."""
        ours, ready, peer = self.ours(positions=True), self.ours(ready=True), self.reference(positions=True)
        for name in ("accepted", "duplicates", "refused", "alerts"):
            for found in (ours, ready):
                if not report.check(f"{self.keys.count:,} keys: {name}", found[name], peer[name]):
                    return False
        differ = differing_rows(self.folder / "ours.csv", self.folder / "reference.csv")
        print(f"  {self.keys.count:,} keys: {ours['accepted']:,} trades, {ours['duplicates']:,} duplicates, ", end="")
        print(f"{ours['alerts']:,} alerts, {ours['trades'] // PER_FRAME:,} frames of {PER_FRAME:,}; the same in both")
        return report.check(f"{self.keys.count:,} keys: positions that differ", differ[:3], [])


def run_json(command: list[str], environment: dict[str, str] | None = None) -> Result:
    """Run a program that prints one JSON object, with more in its environment. Raises SystemExit with what it said."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | (environment or {}), capture_output=True, text=True)
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
        memory_by_trades(options, report, Path(folder))
    core_limits.run(options, report)
    growth(options, report)
    memory(options, report)
    core_python.run(options, report)
    print(f"  published elsewhere, other work on other machines:\n{published.rows()}")


def cases_of(options: argparse.Namespace, folder: Path) -> list[Case]:
    """Return a session for each number of keys; before the clock starts every key has been seen."""
    timed = trades_of(options, 1_000_000, 200_000, 20_000)
    cases = []
    for keys in sized(options, KEYS, KEYS_QUICK, KEYS_SMOKE):
        warm = max(timed, keys.count) if keys.count <= FEW_KEYS else keys.count + timed // 2
        turning = dataclasses.replace(keys, turnover=(warm + timed) / keys.count)
        cases.append(Case(folder, turning, warm, timed))
    return cases


def against_reference(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Measure few keys and many, interleaved with the reference."""
    try:
        native.build("reference.cpp")
    except native.NoCompiler as problem:
        report.missing("reference in C++", str(problem))
        return
    cases = cases_of(options, folder)
    if not all(case.agree(report) for case in cases):
        return
    found: dict[int, Runs] = {case.keys.count: {} for case in cases}
    for number in range(options.rounds):
        for case in cases:
            if number < ROUNDS_MAX or case.keys.count == FEW_KEYS:
                for ready in (True, False):
                    found[case.keys.count].setdefault((True, ready), []).append(case.ours(ready=ready))
                    found[case.keys.count].setdefault((False, ready), []).append(case.reference(ready=ready))
    together = {count: tell_case(report, count, runs) for count, runs in found.items()}
    if FEW_KEYS in together and MANY_KEYS in together:
        few, many = together[FEW_KEYS], together[MANY_KEYS]
        report.add("many keys / few keys", "x", ratios(many, few[: len(many)]), target=MANY_KEYS_RATIO)


def tell_case(report: Report, keys: int, runs: Runs) -> list[float]:
    """Report a trade with memory made beforehand, by door and core, then with pages made meanwhile; the former."""

    def of(ours: bool, *names: str, ready: bool = True) -> list[float]:
        return [sum(result.get(name, 0) for name in names) for result in runs[ours, ready]]

    both = ("door_ns", "core_ns", "ahead_ns")  # all the processor time that it takes, on whatever core
    report.point("keys", "riskwire", keys, of(True, *both))
    report.point("keys", "reference in C++", keys, of(False, *both))
    target = APPLY_NS if keys == FEW_KEYS else None
    ratio = REFERENCE_RATIO if keys in (FEW_KEYS, MANY_KEYS) else None
    report.add(f"{keys:,} keys: duplicates + position + 3 limits", "ns", of(True, *both), target=target, note=READY)
    report.add(f"{keys:,} keys: reference in C++", "ns", of(False, *both), note=READY)
    report.add(f"{keys:,} keys: riskwire / reference", "x", ratios(of(True, *both), of(False, *both)), target=ratio)
    for part, note in (("door", "checks, duplicates, journal"), ("core", "CRC, position, 3 limits")):
        ours, theirs = of(True, f"{part}_ns"), of(False, f"{part}_ns")
        report.add(f"{keys:,} keys: of that the {part}", "ns", ours, note=note)
        report.add(f"{keys:,} keys: reference, {part}", "ns", theirs)
        report.add(f"{keys:,} keys: riskwire / reference, {part}", "x", ratios(ours, theirs))
    ours, theirs = of(True, *both, ready=False), of(False, *both, ready=False)
    thread = statistics.median(of(True, "ahead_ns", ready=False))
    note = f"{thread:.1f} of it another thread's, which touches pages ahead"
    report.add(f"{keys:,} keys: riskwire, pages made meanwhile", "ns", ours, note=note)
    report.add(f"{keys:,} keys: reference, pages made meanwhile", "ns", theirs)
    report.add(f"{keys:,} keys: riskwire / reference, pages made meanwhile", "x", ratios(ours, theirs))
    return of(True, *both)


def growth(options: argparse.Namespace, report: Report) -> None:
    """Measure a trade behind ten thousand others and behind ten million (quick: a million)."""
    many = sized(options, 10_000_000, 1_000_000, 50_000)
    results = [run_json([sys.executable, "-m", "bench.core_growth", str(many)]) for _ in range(min(options.rounds, 3))]
    early, late = [each["early_ns"] for each in results], [each["late_ns"] for each in results]
    report.add("after 10,000 trades, 1,000 keys", "ns", early)
    report.add(f"after {many:,} trades", "ns", late)
    report.add(f"after {many:,} / after 10,000", "x", ratios(late, early), target=GROWTH_RATIO)


def memory(options: argparse.Namespace, report: Report) -> None:
    """Measure what a position needs: memory of many positions less that of few, with as many trades."""
    if not PROC.exists():
        report.missing("a position with 3 limits", "its memory is read from /proc, which Linux has")
        return
    keys, few = sized(options, 1_000_000, 200_000, 20_000), 1_000
    command = [sys.executable, "-m", "bench.core_memory", "position"]
    grown = [run_json([*command, str(n), str(keys)])["grown_bytes"] for n in (keys, few)]
    report.add("a position with 3 limits", "bytes", [(grown[0] - grown[1]) / (keys - few)], target=POSITION_BYTES)
    report.add("a trade remembered for busts (core)", "bytes", [grown[1] / keys])


def memory_by_trades(options: argparse.Namespace, report: Report, folder: Path) -> None:
    """Measure how memory grows with the trades of a session, beside plain dicts."""
    if not PROC.exists():
        report.missing("a further trade", "its memory is read from /proc, which Linux has")
        return
    trades, keys = sized(options, 4_000_000, 400_000, 20_000), workload.Keys(symbols=100)
    case = Case(folder, keys, keys.count, trades - keys.count)
    command = [sys.executable, "-m", "bench.core_memory"]
    ours = run_json([*command, "session", str(case.frames), str(case.limits), str(MARKS)])["grown"]
    theirs = run_json([*command, "dicts", str(trades // MARKS), "4"])["grown"]
    for name, grown in (("riskwire: duplicates, positions, limits", ours), ("plain Python dicts", theirs)):
        for count, grown_bytes in grown:
            report.point("memory", name, count, [grown_bytes / 2**20])
    per_trade = (ours[-1][1] - ours[0][1]) / (ours[-1][0] - ours[0][0])
    report.add("a further trade (duplicates, core; journal on disk)", "bytes", [per_trade], note=f"{trades:,} trades")
    report.add("the same in plain Python dicts", "bytes", [theirs[-1][1] / theirs[-1][0]])
