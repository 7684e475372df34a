"""`RiskEngine.apply(trade)`, one Python struct a call, beside plain dicts, NautilusTrader and openpit."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import ROOT
from bench.peer_dicts import DictEngine, replay
from bench.report import Report
from bench.sizes import sized
from bench.workload import START_NS, Keys
from engine import RiskEngine, TradeExecuted

KEYS = Keys(symbols=100, accounts=10)
TARGET_NS = 2_000
FILLS = 20_000
VOLUME_MAX, NOTIONAL_MAX = 990, 99_500
HOW = "make bench-peers, or pip install {} into an environment whose python RISKWIRE_BENCH_PEERS names"


def trades(count: int, seed: int = 1) -> list[TradeExecuted]:
    """Return structs as a program would make them, 1 in 100 repeated, all within 100 ms of event time."""
    random = np.random.default_rng(seed)
    key = random.integers(0, KEYS.count, count)
    prices, volumes = random.integers(9_950, 10_051, count), random.integers(1, 100_000, count)
    sides = random.integers(0, 2, count)
    made = [
        TradeExecuted(
            f"T{i:010d}",
            f"SYM{key[i] // KEYS.accounts:06d}",
            Decimal(int(prices[i])).scaleb(-2),
            Decimal(int(volumes[i])).scaleb(-2),
            "buy" if sides[i] else "sell",
            START_NS + i * 1_000,
            f"ACC{key[i] % KEYS.accounts:05d}",
        )
        for i in range(count)
    ]
    for i in np.flatnonzero(random.random(count) < 0.01).tolist():
        made[i] = made[max(0, i - int(random.integers(1, 1_000)))]
    return made


def limits() -> dict[str, Any]:
    """Return three limits that alert now and then."""
    per = ["account", "symbol"]
    window = f"{100 * KEYS.accounts}us"
    return {
        "limit": [
            {"id": "position", "kind": "max_position", "per": per, "threshold": "6000"},
            {"id": "notional", "kind": "max_notional", "per": per, "threshold": "610000"},
            {"id": "rate", "kind": "trade_rate", "per": ["account"], "threshold": "120", "window": window},
        ]
    }


def dict_engine() -> DictEngine:
    """Return the peer with the same limits."""
    return DictEngine(6_000 * 10**8, 610_000 * 10**17, 120, 100_000 * KEYS.accounts)


def dict_positions(peer: DictEngine) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """Return (quantity, realized P&L) by key."""
    return {
        key: (Decimal(held).scaleb(-8), Decimal(realized).scaleb(-17))
        for key, (held, _, realized, _) in peer.positions.items()
    }


def our_positions(engine: RiskEngine) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """Return (quantity, realized P&L) by key."""
    return {(each.account, each.symbol): (each.quantity, each.realized_pnl) for each in engine.positions()}


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure all, interleaved."""
    count = sized(options, 80_000, 20_000, 5_000)
    made = trades(count)
    ours, dicts = [], []
    for _ in range(options.rounds):
        with RiskEngine(limits=limits()) as engine:
            apply = engine.apply
            started = time.thread_time_ns()
            for trade in made:
                apply(trade)
            ours.append((time.thread_time_ns() - started) / count)
            peer = dict_engine()
            started = time.thread_time_ns()
            replay(peer, made)
            dicts.append((time.thread_time_ns() - started) / count)
            same = report.check("positions, RiskEngine and dicts", our_positions(engine), dict_positions(peer))
            if not (same and report.check("alerts, RiskEngine and dicts", len(engine.alerts()), peer.alerts)):
                return
    report.add("RiskEngine.apply(trade), 3 limits", "ns", ours, target=TARGET_NS)
    report.add("plain Python dicts, the same", "ns", dicts)
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        nautilus(options, report, Path(folder) / "fills.csv")
        openpit(options, report, Path(folder) / "orders.csv")


# --- peers with an environment of their own ----------------------------------------------------------------------


def peers_python() -> str:
    """Return the interpreter that may have the peers: RISKWIRE_BENCH_PEERS, .venv-peers, else this one."""
    import os

    given = os.environ.get("RISKWIRE_BENCH_PEERS")
    own = ROOT / ".venv-peers" / "bin" / "python"
    return given or (str(own) if own.exists() else sys.executable)


def peer(script: str, *arguments: str) -> dict[str, Any] | None:
    """Run a peer's script: what it printed, or None where it is not installed. Raises SystemExit where it failed."""
    module = {"peer_nautilus.py": "nautilus_trader", "peer_openpit.py": "openpit"}[script]
    python = peers_python()
    if subprocess.run([python, "-c", f"import {module}"], capture_output=True).returncode:
        return None
    done = subprocess.run([python, "-P", str(ROOT / "bench" / script), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {script} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def fills(count: int) -> list[tuple[str, str, str]]:
    """Return fills of one position that stays long: (side, price, volume)."""
    random = np.random.default_rng(2)
    rows = [("buy", "100.00", "1000000")]
    for _ in range(count - 1):
        side, price = ("buy", "sell")[int(random.integers(0, 2))], 10_000 + int(random.integers(-50, 51))
        rows.append((side, f"{price / 100:.2f}", str(int(random.integers(1, 100)))))
    return rows


def nautilus(options: argparse.Namespace, report: Report, path: Path) -> None:
    """NautilusTrader's Position.apply beside RiskEngine.apply over the same fills of one position."""
    rows = fills(sized(options, FILLS, 2_000, 1_500))
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    found = peer("peer_nautilus.py", str(path))
    if found is None:
        report.missing("NautilusTrader Position.apply", HOW.format("nautilus_trader"))
        return
    with RiskEngine(limits=limits()) as engine:
        made = [
            TradeExecuted(f"T{i}", "AAPL", Decimal(price), Decimal(volume), side, START_NS + i)  # type: ignore[arg-type]
            for i, (side, price, volume) in enumerate(rows)
        ]
        started = time.perf_counter_ns()
        for trade in made:
            engine.apply(trade)
        ours_ns = (time.perf_counter_ns() - started) / len(made)
        position = engine.position("default", "AAPL")
    assert position is not None, "the fills made a position"
    report.check("NautilusTrader's quantity", position.quantity, Decimal(found["quantity"]))
    close = abs(float(position.realized_pnl) - found["realized_pnl"]) <= 1e-3 * max(1.0, abs(found["realized_pnl"]))
    report.check("NautilusTrader's realized P&L is ours, to a float's precision", close, True)
    report.add("NautilusTrader Position.apply after 1,000 fills", "ns", [found["early_ns"]])
    report.add(f"NautilusTrader Position.apply after {found['fills']:,} fills", "ns", [found["late_ns"]])
    report.add(
        "RiskEngine.apply of the same fills, mean", "ns", [ours_ns], note="one position, duplicates and 3 limits"
    )


def openpit(options: argparse.Namespace, report: Report, path: Path) -> None:
    """openpit's size check of the same trades as orders."""
    rows = fills(sized(options, FILLS, 5_000, 1_000))[1:]
    rows = [(side, price, str(int(volume) * 10)) for side, price, volume in rows]
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    found = peer("peer_openpit.py", str(path), str(VOLUME_MAX), str(NOTIONAL_MAX))
    if found is None:
        report.missing("openpit, one size check", HOW.format("openpit"))
        return
    over = sum(
        Decimal(volume) > VOLUME_MAX or Decimal(price) * Decimal(volume) > NOTIONAL_MAX for _, price, volume in rows
    )
    report.check("openpit's rejected orders, counted here and by it", over, found["rejected"])
    report.add("openpit, one size check of a prepared order", "ns", [found["prepared_ns"]])
    report.add("openpit, the same with building the order", "ns", [found["built_ns"]])
