"""How long the command line needs before it does anything."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from bench.machine import ROOT, riskwire_command
from bench.report import Report
from bench.sizes import sized

TARGET_S = 0.2
ROUNDS = 15


def wall_s(command: list[str]) -> float:
    """Run a command and return how long it took."""
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure `riskwire --help` beside an interpreter that does nothing."""
    help_s, bare_s = [], []
    wall_s([*riskwire_command(), "--help"])
    for _ in range(sized(options, ROUNDS, 3, 1)):
        help_s.append(wall_s([*riskwire_command(), "--help"]))
        bare_s.append(wall_s([sys.executable, "-c", "pass"]))
    report.add("riskwire --help", "s", help_s, target=TARGET_S)
    report.add("python -c pass", "s", bare_s)
