"""`riskwire replay` of a CSV beside polars and DuckDB doing the same job, interleaved.

Results are compared before times are: accepted trades, breaches of the volume limit, the keys that were ever over the
position limit, and every final position. Each is timed as a whole process and, inside it, without its start.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import session
from bench.machine import ROOT, median, riskwire_command
from bench.report import MORE, Report, ratios
from bench.sizes import trades_of

Result = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """Another program for the job. goal: its time by riskwire's; first_goal: the one that came before."""

    name: str
    package: str
    module: str
    goal: float
    first_goal: float | None = None

    @property
    def missing(self) -> str:
        """How to install it; empty where it is there."""
        return "" if importlib.util.find_spec(self.package) else f"pip install {self.package}, or make bench"


PEERS = (
    Peer("polars", "polars", "bench.peer_polars", goal=2.5, first_goal=1.5),
    Peer("DuckDB", "duckdb", "bench.peer_duckdb", goal=1.5),
)


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all and their ratios, where results agree."""
    rows = trades_of(options, 4_000_000, 400_000, 20_000)
    trades = session.session_csv(rows)
    limits = session.limits_toml()
    print(f"  {trades} ({trades.stat().st_size / 2**20:.0f} MiB): {rows:,} rows, ", end="")
    print(f"{session.SYMBOLS:,} symbols, {session.ACCOUNTS} accounts, 3 limits", flush=True)
    peers = [each for each in PEERS if not each.missing]
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        outs = Path(folder)
        ours = riskwire(trades, limits, outs, alerts=True)
        if not all(agree(ours, peer, of_peer(peer, trades, outs), outs, report) for peer in peers):
            return
        measured: dict[str, list[Result]] = {"riskwire": [], **{peer.name: [] for peer in peers}}
        for _ in range(options.rounds):
            measured["riskwire"].append(riskwire(trades, limits, outs))
            for peer in peers:
                measured[peer.name].append(of_peer(peer, trades, outs))
                if not same_positions(peer, outs, report):
                    return
    tell(measured, rows, report)


def timed(command: list[str]) -> Result:
    """Run a process that prints one JSON object, and add how long the whole process took."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    wall_s = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(command[:3])} ended with {done.returncode}: {done.stderr.strip()}")
    return {**json.loads(done.stdout), "wall_s": wall_s}


def riskwire(trades: Path, limits: Path, outs: Path, alerts: bool = False) -> Result:
    """Replay once, positions to a file; the run that is compared also writes its alerts."""
    command = [*riskwire_command(), "replay", str(trades), "--limits", str(limits), "--json"]
    command += ["--positions", str(outs / "riskwire.csv")]
    if alerts:
        command += ["--alerts", str(outs / "alerts.jsonl")]
    return timed(command)


def of_peer(peer: Peer, trades: Path, outs: Path) -> Result:
    """Let a peer do it once."""
    numbers = [session.POSITION_MAX, session.NOTIONAL_MAX, session.TRADE_VOLUME_MAX]
    positions = outs / f"{peer.name}.csv"
    return timed([sys.executable, "-m", peer.module, str(trades), str(positions), *map(str, numbers)])


def agree(ours: Result, peer: Peer, theirs: Result, outs: Path, report: Report) -> bool:
    """Compare what both found."""
    volume, position = breaches_in(outs / "alerts.jsonl")
    pairs = [
        ("accepted trades", ours["accepted"], theirs["accepted"]),
        ("volume breaches", volume, theirs["volume_breaches"]),
        ("keys over the position limit", position, theirs["keys_over_position"]),
    ]
    print(f"  {peer.name}: " + ", ".join(f"{name}: {found:,}" for name, _, found in pairs))
    same = [report.check(f"{peer.name}: {name}", mine, found) for name, mine, found in pairs]
    return all(same) and same_positions(peer, outs, report)


def breaches_in(alerts: Path) -> tuple[int, int]:
    """Return how many trades breached the volume limit, and how many keys the position limit at any time."""
    volume, position = 0, set()
    for line in alerts.read_text().splitlines():
        alert = json.loads(line)
        if alert["severity"] == "breach" and alert["limit_id"] == "volume":
            volume += 1
        elif alert["severity"] == "breach" and alert["limit_id"] == "position":
            position.add((alert["account"], alert["symbol"]))
    return volume, len(position)


def same_positions(peer: Peer, outs: Path, report: Report) -> bool:
    """Tell whether both wrote the same final quantities."""
    ours, theirs = quantities(outs / "riskwire.csv"), quantities(outs / f"{peer.name}.csv")
    far = [key for key, held in ours.items() if abs(held - theirs.get(key, float("inf"))) > 0.001]
    return report.check(f"{peer.name}: keys whose positions differ", len(far) + len(theirs.keys() - ours.keys()), 0)


def quantities(path: Path) -> dict[tuple[str, str], float]:
    """Read a file of positions."""
    with path.open(newline="") as source:
        return {(row["account"], row["symbol"]): float(row["quantity"]) for row in csv.DictReader(source)}


def tell(measured: dict[str, list[Result]], trades: int, report: Report) -> None:
    """Report times, rates and ratios."""
    for clock, where in (("wall_s", "whole process"), ("elapsed_s", "inside")):
        seconds = {name: [each[clock] for each in results] for name, results in measured.items()}
        for name, values in seconds.items():
            report.add(f"{name}, {where}", "trades/s", [trades / s for s in values], better=MORE)
        for peer in PEERS:
            if peer.missing:
                report.missing(f"{peer.name}, {where}", peer.missing)
                continue
            found = ratios(seconds[peer.name], seconds["riskwire"])
            goal = peer.goal if clock == "wall_s" else None
            note = first_goal_said(peer, found) if goal else ""
            report.add(f"{peer.name} / riskwire, {where}", "x", found, better=MORE, target=goal, note=note)


def first_goal_said(peer: Peer, found: list[float]) -> str:
    """Return whether the goal before the present one is reached, in words."""
    if peer.first_goal is None:
        return ""
    return f"the first goal, {peer.first_goal:g}, is {'reached' if median(found) >= peer.first_goal else 'missed'}"
