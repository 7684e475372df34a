"""How long a restart takes, by length of the journal: opening it, duplicates again, applying it, or a snapshot."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench.core import run_json
from bench.journal import append
from bench.report import MORE, Report
from bench.sizes import sized
from bench.workload import Keys, make_records, names_frame, sequence, visit_once

KEYS = Keys(turnover=40)
LENGTHS = (100_000, 400_000, 1_000_000, 4_000_000)
RATE, SNAPSHOT_S, APPLY_NS = 8e6, 0.05, 100


def write_journal(folder: Path, trades: int) -> None:
    """Write a journal of names, limits and new trades, each position once first."""
    from engine.limitset import parse_limits

    random = np.random.default_rng(17)
    records, numbers = make_records(KEYS, trades, 2, random)
    visit_once(KEYS, records, random)
    limits = parse_limits({"limit": KEYS.limits()}).to_json()
    append(folder, [names_frame(KEYS, 1, limits=limits), *sequence(records, numbers, 2)], "os")


def main(folder: str) -> None:
    """Recover in this fresh process, step by step, and print how long each took."""
    from ext.journal import Journal
    from ext.records import keep_freed_memory
    from ext.risk import RiskCore
    from ext.sequencer import Sequencer
    from ext.snapshot import Frozen, load, state_bytes

    keep_freed_memory()
    marks = [time.perf_counter()]
    journal = Journal(folder)
    marks.append(time.perf_counter())
    cpu_s = time.process_time()
    sequencer = Sequencer(journal)
    marks.append(time.perf_counter())
    core = RiskCore()
    core.follow(journal)  # opening it has checked every frame
    marks.append(time.perf_counter())
    cpu_s = time.process_time() - cpu_s
    frozen = Frozen()  # as the engine's snapshots: room beforehand, trades left to the journal
    frozen.reserve(state_bytes(core) * 9 // 8)
    marks.append(time.perf_counter())
    frozen.freeze(core, trades=False, journal=journal)
    marks.append(time.perf_counter())
    frozen.reserve_alerts()
    while not frozen.take_alerts(core):
        continue
    snapshot = b"".join(frozen.parts)
    marks.append(time.perf_counter())
    again = RiskCore()
    load(again, snapshot, journal, lasts=True)
    marks.append(time.perf_counter())
    names = ("open_s", "duplicates_s", "apply_s", "room_s", "freeze_s", "rest_s", "restore_s")
    took = dict(zip(names, (b - a for a, b in itertools.pairwise(marks)), strict=True))
    same = again.state_hash() == core.state_hash()
    found = {"seq": core.applied_seq, "next_seq": sequencer.next_seq, "same": same, "snapshot_bytes": len(snapshot)}
    found["taken_cpu_s"] = cpu_s
    journal.close()
    print(json.dumps({**took, **found}))


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure each length."""
    lengths = sized(options, LENGTHS, LENGTHS[:2], (20_000,))
    taken: dict[int, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        for trades in lengths:
            at = Path(folder) / str(trades)
            write_journal(at, trades)
            measured = [run_json([sys.executable, "-m", "bench.recovery", str(at)]) for _ in range(options.rounds)]
            tell(report, trades, measured)
            taken[trades] = [each["taken_cpu_s"] for each in measured]
    if len(lengths) > 1:
        tell_further(report, *lengths[-2:], taken)


def tell_further(report: Report, few: int, many: int, taken: dict[int, list[float]]) -> None:
    """Report what a trade costs whose frame is checked and numbered already: all processor time, pages included."""
    pairs = zip(taken[few], taken[many], strict=True)
    each = [(long - short) / (many - few) * 1e9 for short, long in pairs]
    note = f"processor time, {few:,} to {many:,} trades; frames that a door has checked and numbered"
    report.add("a further trade: duplicates + position + 3 limits", "ns", each, target=APPLY_NS, note=note)


def tell(report: Report, trades: int, measured: list[dict[str, float]]) -> None:
    """Report the steps for one length of the journal."""
    for each in measured:
        report.check(f"{trades:,} trades: last seq, as applied", each["seq"], trades + 1)
        report.check(f"{trades:,} trades: next seq, as the door has it", each["next_seq"], trades + 2)
        report.check(f"{trades:,} trades: the snapshot's state is the core's", each["same"], True)
    what = f"journal of {trades:,} trades"
    for name, text in (("open_s", "open and check"), ("duplicates_s", "duplicates again"), ("apply_s", "apply")):
        report.add(f"{what}: {text}", "ms", [each[name] * 1e3 for each in measured])
    whole = [each["open_s"] + each["duplicates_s"] + each["apply_s"] for each in measured]
    report.add(f"{what}: all of it", "ms", [seconds * 1e3 for seconds in whole])
    report.point("recovery", "riskwire, from the journal alone", trades, whole)
    applied = [trades / each["apply_s"] for each in measured]
    report.add(f"{what}: replayed into the core", "trades/s", applied, better=MORE, target=RATE)
    size = f"{measured[0]['snapshot_bytes'] / 2**20:.1f} MiB"
    goal = SNAPSHOT_S * 1e3
    frozen = [each["freeze_s"] * 1e3 for each in measured]
    report.add(
        f"{what}: stands still for a snapshot", "ms", frozen, target=goal, note=f"{KEYS.count:,} positions, {size}"
    )
    whole = [(each["room_s"] + each["freeze_s"] + each["rest_s"]) * 1e3 for each in measured]
    report.add(f"{what}: the snapshot in memory", "ms", whole)
    report.add(f"{what}: restored from it and the journal", "ms", [each["restore_s"] * 1e3 for each in measured])
    again = [each["open_s"] + each["duplicates_s"] + each["restore_s"] for each in measured]
    report.point("recovery", "riskwire, from a snapshot at its end", trades, again)


if __name__ == "__main__":
    main(*sys.argv[1:])
