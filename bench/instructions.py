"""Instructions a trade costs in door and core, by module, beside the C++ reference: what repeats where clocks do not.

Counted by callgrind over the gate's session (bench/gate.py): 10,000 keys, 3 limits, frames of 1,024. The rows of
modules add up to the whole.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from bench import gate
from bench.native import NoCompiler
from bench.report import Report

UNIT = "instructions"
LEAST = 5.0  # smaller modules are one row
NOTES = {
    "sequencer": "the door: fields, UTF-8, names, units, duplicates, placing the record and its text",
    "dedup": "duplicates that are looked at in full",
    "crc32c": "three times: in, into the journal, in the consumer",
    "records": "opening and sealing frames",
    "definitions": "names",
    "journal": "appending",
    "risk": "the core's own flow: fetching ahead, finding the cell, applying the fill",
    "positions": "exact cost and P&L, remembering the trade",
    "valuation": "sums of limits, revaluation",
    "judge": "judging three limits",
    "windows": "the rate's window",
    "limits": "fetching limits' keys ahead",
    "alertlog": "alerts",
}


def run(options: argparse.Namespace, report: Report) -> None:
    """Count, unless it is a smoke: the gate counts beside that."""
    if options.smoke:
        return
    if shutil.which("valgrind") is None:
        report.missing("door and core", "apt-get install valgrind")
        return
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        session = gate.Session(Path(folder))
        found = gate.count(session)
        modules = gate.by_module(gate.by_cost(session))
        for part in gate.PARTS:
            report.add(part, UNIT, [found[part]])
        try:
            report.add("reference in C++, door and core", UNIT, [gate.reference(session)])
        except NoCompiler as problem:
            report.missing("reference in C++, door and core", str(problem))
    tell(report, modules, found["door and core"])


def tell(report: Report, modules: dict[str, float], together: float) -> None:
    """Report each module's share."""
    largest = sorted(modules.items(), key=lambda item: -item[1])
    shown = [(name, cost) for name, cost in largest if cost >= LEAST]
    for name, cost in shown:
        report.add(f"of that {name}", UNIT, [cost], note=NOTES.get(name, ""))
    report.add("of that other modules", UNIT, [together - sum(cost for _, cost in shown)])
    report.check("modules add up", abs(sum(modules.values()) - together) <= 0.01 * together, True)
