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
from bench.machine import ROOT, median, riskwire_command, spread

TARGET_RATIO = 1.5
Result = dict[str, Any]


def run(options: argparse.Namespace) -> bool:
    """Print both rates and their ratio; True where results agree and the ratio reaches the target."""
    trades = session.session_csv(options.trades)
    limits = session.limits_toml()
    print(f"  {trades} ({trades.stat().st_size / 2**20:.0f} MiB): {options.trades:,} rows, ", end="")
    print(f"{session.SYMBOLS:,} symbols, {session.ACCOUNTS} accounts, 3 limits", flush=True)
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        outs = Path(folder)
        if not agree(riskwire(trades, limits, outs, alerts=True), polars(trades, outs), outs):
            return False
        ours, peers = [], []
        for _ in range(options.rounds):
            ours.append(riskwire(trades, limits, outs))
            peers.append(polars(trades, outs))
            if not same_positions(outs):
                return False
    return report(ours, peers, options.trades)


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


def agree(ours: Result, peer: Result, outs: Path) -> bool:
    """Compare what both found: accepted trades, final positions, volume breaches, keys ever over the position."""
    breaches = {"volume": 0, "position": set()}
    for line in (outs / "alerts.jsonl").read_text().splitlines():
        alert = json.loads(line)
        if alert["severity"] == "breach" and alert["limit_id"] == "volume":
            breaches["volume"] += 1
        elif alert["severity"] == "breach" and alert["limit_id"] == "position":
            breaches["position"].add((alert["account"], alert["symbol"]))
    pairs = [
        ("accepted trades", ours["accepted"], peer["accepted"]),
        ("volume breaches", breaches["volume"], peer["volume_breaches"]),
        ("keys over the position limit", len(breaches["position"]), peer["keys_over_position"]),
    ]
    for name, mine, theirs in pairs:
        print(f"  {name}: {mine:,}" + ("" if mine == theirs else f", but polars found {theirs:,}: WRONG"))
    return all(mine == theirs for _, mine, theirs in pairs) and same_positions(outs)


def same_positions(outs: Path) -> bool:
    """Tell whether both wrote the same final quantities."""
    key = ["account", "symbol"]
    ours = pl.read_csv(outs / "ours.csv", columns=[*key, "quantity"], schema_overrides={"quantity": pl.Float64})
    peer = pl.read_csv(outs / "peer.csv", schema_overrides={"quantity": pl.Float64})
    both = ours.sort(key).join(peer.sort(key), on=key, how="full", suffix="_peer")
    differ = both.filter((pl.col("quantity") - pl.col("quantity_peer")).abs().fill_null(1) > 0.001)
    if differ.height:
        print(f"  positions differ in {differ.height:,} of {both.height:,} keys, first {differ.row(0)}: WRONG")
    return differ.height == 0


def report(ours: list[Result], peers: list[Result], trades: int) -> bool:
    """Print times, rates and ratios of medians."""

    def of(results: list[Result], name: str) -> list[float]:
        return [result[name] for result in results]

    def line(label: str, name: str, results: list[Result]) -> float:
        middle = median(of(results, name))
        print(f"  {label:<28}{spread(of(results, name))}, {trades / middle:,.0f} trades/s")
        return middle

    whole = line("polars, whole process", "wall_s", peers) / line("riskwire, whole process", "wall_s", ours)
    inner = line("polars, inside", "elapsed_s", peers) / line("riskwire, inside", "elapsed_s", ours)
    print(f"  riskwire is {whole:.2f} x polars ({inner:.2f} x inside), target {TARGET_RATIO} x")
    return whole >= TARGET_RATIO
