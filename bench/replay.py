"""`riskwire replay` of a CSV beside polars doing the same job, interleaved; results are compared before times are."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl

from bench import session
from bench.machine import ROOT, riskwire_command
from bench.report import MORE, Report, ratios

TARGET_RATIO = 1.5
Result = dict[str, Any]


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure both and their ratio, where results agree."""
    rows = options.trades or (400_000 if options.quick else 4_000_000)
    trades = session.session_csv(rows)
    limits = session.limits_toml()
    print(f"  {trades} ({trades.stat().st_size / 2**20:.0f} MiB): {rows:,} rows, ", end="")
    print(f"{session.SYMBOLS:,} symbols, {session.ACCOUNTS} accounts, 3 limits", flush=True)
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        outs = Path(folder)
        if not agree(riskwire(trades, limits, outs, alerts=True), polars(trades, outs), outs, report):
            return
        ours, peers = [], []
        for _ in range(options.rounds):
            ours.append(riskwire(trades, limits, outs))
            peers.append(polars(trades, outs))
            if not same_positions(outs, report):
                return
    tell(ours, peers, rows, report)


def timed(command: list[str]) -> Result:
    """Run a process that prints one JSON object, and add how long the whole process took."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    wall_s = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"bench: {command[0]} ended with {done.returncode}: {done.stderr.strip()}")
    return {**json.loads(done.stdout), "wall_s": wall_s}


def riskwire(trades: Path, limits: Path, outs: Path, alerts: bool = False) -> Result:
    """Replay once, positions to a file; the run that is compared also writes its alerts."""
    command = [*riskwire_command(), "replay", str(trades), "--limits", str(limits), "--json"]
    command += ["--positions", str(outs / "ours.csv")]
    if alerts:
        command += ["--alerts", str(outs / "alerts.jsonl")]
    return timed(command)


def polars(trades: Path, outs: Path) -> Result:
    """Let the peer do it once."""
    numbers = [session.POSITION_MAX, session.NOTIONAL_MAX, session.TRADE_VOLUME_MAX]
    return timed([sys.executable, "-m", "bench.peer_polars", str(trades), str(outs / "peer.csv"), *map(str, numbers)])


def agree(ours: Result, peer: Result, outs: Path, report: Report) -> bool:
    """Compare what both found: accepted trades, final positions, volume breaches, keys ever over the position."""
    volume, position = 0, set()
    for line in (outs / "alerts.jsonl").read_text().splitlines():
        alert = json.loads(line)
        if alert["severity"] == "breach" and alert["limit_id"] == "volume":
            volume += 1
        elif alert["severity"] == "breach" and alert["limit_id"] == "position":
            position.add((alert["account"], alert["symbol"]))
    pairs = [
        ("accepted trades", ours["accepted"], peer["accepted"]),
        ("volume breaches", volume, peer["volume_breaches"]),
        ("keys over the position limit", len(position), peer["keys_over_position"]),
    ]
    print("  " + ", ".join(f"{name}: {mine:,}" for name, mine, _ in pairs))
    same = [report.check(*pair) for pair in pairs]
    return all(same) and same_positions(outs, report)


def same_positions(outs: Path, report: Report) -> bool:
    """Tell whether both wrote the same final quantities."""
    key = ["account", "symbol"]
    ours = pl.read_csv(outs / "ours.csv", columns=[*key, "quantity"], schema_overrides={"quantity": pl.Float64})
    peer = pl.read_csv(outs / "peer.csv", schema_overrides={"quantity": pl.Float64})
    both = ours.sort(key).join(peer.sort(key), on=key, how="full", suffix="_peer")
    differ = both.filter((pl.col("quantity") - pl.col("quantity_peer")).abs().fill_null(1) > 0.001)
    return report.check("keys whose positions differ", differ.height, 0)


def tell(ours: list[Result], peers: list[Result], trades: int, report: Report) -> None:
    """Report times, rates and ratios."""
    whole_ours, whole_peer = [each["wall_s"] for each in ours], [each["wall_s"] for each in peers]
    inner_ours, inner_peer = [each["elapsed_s"] for each in ours], [each["elapsed_s"] for each in peers]
    report.add("riskwire, whole process", "trades/s", [trades / s for s in whole_ours], better=MORE)
    report.add("polars, whole process", "trades/s", [trades / s for s in whole_peer], better=MORE)
    report.add(
        "polars / riskwire, whole process", "x", ratios(whole_peer, whole_ours), better=MORE, target=TARGET_RATIO
    )
    report.add("riskwire, inside", "trades/s", [trades / s for s in inner_ours], better=MORE)
    report.add("polars / riskwire, inside", "x", ratios(inner_peer, inner_ours), better=MORE)
