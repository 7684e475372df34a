"""What each further limit adds to a trade that it matches: each kind alone on top of three, and all together."""

from __future__ import annotations

import argparse
import time

import numpy as np

from bench.report import Report
from bench.sizes import sized
from bench.workload import Keys, make_records, names_frame, sequence, visit_once
from engine.limitset import parse_limits
from ext.risk import RiskCore

KEYS = Keys(symbols=200, accounts=50)
TARGET_NS = 10
WARM = 40_000
BIG = "1000000000000000"
FURTHER: list[dict[str, object]] = [
    {"id": "position-2", "kind": "max_position", "per": ["account", "symbol"], "threshold": BIG},
    {"id": "firm-position", "kind": "max_position", "per": ["symbol"], "threshold": BIG},
    {"id": "volume", "kind": "max_trade_volume", "per": ["account"], "threshold": BIG},
    {"id": "trade", "kind": "max_trade_notional", "per": [], "threshold": BIG},
    {"id": "collar", "kind": "price_collar", "per": ["symbol"], "threshold": "50"},
    {"id": "volume-rate", "kind": "volume_rate", "per": ["account"], "threshold": BIG, "window": "50ms"},
    {"id": "gross", "kind": "gross_notional", "per": ["account"], "threshold": BIG},
    {"id": "net", "kind": "net_notional", "per": ["account"], "threshold": BIG},
    {"id": "loss", "kind": "max_loss", "per": ["account"], "threshold": BIG},
    {"id": "drawdown", "kind": "max_drawdown", "per": ["account"], "threshold": BIG},
    {"id": "repeated", "kind": "repeated_trade", "per": ["account", "symbol"], "threshold": "100", "window": "1s"},
    {"id": "concentration", "kind": "concentration", "per": ["account", "symbol"], "threshold": "99"},
]
UNMATCHED: list[dict[str, object]] = [
    {
        "id": f"other-{i}",
        "kind": "max_position",
        "per": ["account", "symbol"],
        "match": {"symbol": f"X{i}*"},
        "threshold": BIG,
    }
    for i in range(500)
]


def frames_of(first: int, count: int, random: np.random.Generator, once: bool) -> list[bytes]:
    """Return sequenced frames of new trades; `once`: the first go to each key once."""
    records, numbers = make_records(KEYS, count, first, random)
    if once:
        visit_once(KEYS, records, random)
    return sequence(records, numbers, first)


def measure(further: list[dict[str, object]], warm: list[bytes], timed: list[bytes], count: int) -> float:
    """Return ns a trade with three limits and these."""
    core = RiskCore()
    core.apply(names_frame(KEYS, 1, limits=parse_limits({"limit": [*KEYS.limits(), *further]}).to_json()))
    for frame in warm:
        core.apply(frame)
    start = time.thread_time_ns()
    for frame in timed:
        core.apply(frame)
    return (time.thread_time_ns() - start) / count


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure every kind, interleaved; differences of the same round, so that a slow round cancels."""
    count = sized(options, 200_000, 50_000, 5_000)
    random = np.random.default_rng(5)
    warm, timed = frames_of(2, WARM, random, True), frames_of(WARM + 2, count, random, False)
    sets = {"three": [], "all": FURTHER, "unmatched": UNMATCHED} | {str(limit["id"]): [limit] for limit in FURTHER}
    found: dict[str, list[float]] = {name: [] for name in sets}
    for _ in range(1 if options.smoke else max(options.rounds, 3)):
        for name, further in sets.items():
            found[name].append(measure(further, warm, timed, count))

    def added(name: str, among: int) -> list[float]:
        return [(more - three) / among for more, three in zip(found[name], found["three"], strict=True)]

    report.add(f"3 limits, {KEYS.count:,} keys, core alone", "ns", found["three"])
    together = f"mean of {len(FURTHER)} kinds, all at once"
    report.add("each further limit that matches", "ns", added("all", len(FURTHER)), target=TARGET_NS, note=together)
    for limit in FURTHER:
        per = "+".join(limit["per"]) or "firm"  # type: ignore[arg-type]
        report.add(f"  + {limit['kind']} per {per}", "ns", added(str(limit["id"]), 1))
    report.add("500 limits that do not match, all together", "ns", added("unmatched", 1))
