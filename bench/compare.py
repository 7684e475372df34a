"""`python -m bench compare OLD.json NEW.json`: which figures changed, told from noise.

For each figure that both have: the ratio of medians, new to old, and the 95 % interval of it when the rounds are drawn
again (bootstrap). It is a change where the whole interval is on one side of 1 and the ratio is at least 3 % away from
it; where one of the files has fewer than three rounds, nothing is claimed. Exit code 1 with --fail where something got
worse.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import median
from bench.report import MORE, number

RESAMPLES = 10_000
LEAST_CHANGE = 0.03
LEAST_ROUNDS = 3
SAME_MACHINE = ("cpu", "cores", "kernel", "python", "flags")


@dataclass(frozen=True)
class Change:
    """A figure in both files. low and high: the ratio's interval; NaN where there were too few rounds."""

    key: str
    unit: str
    old: float
    new: float
    low: float
    high: float
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """New to old."""
        return self.new / self.old if self.old else float("nan")

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `noise`, or `one round` where nothing can be told."""
        if np.isnan(self.low):
            return "few rounds"
        if self.low <= 1 <= self.high or abs(self.ratio - 1) < LEAST_CHANGE:
            return "noise"
        return "better" if (self.ratio > 1) == self.more_is_better else "worse"


def interval(old: Sequence[float], new: Sequence[float], seed: int = 1) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of medians, both drawn again with replacement."""
    if min(len(old), len(new)) < LEAST_ROUNDS:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)

    def medians(values: Sequence[float]) -> np.ndarray:
        return np.asarray(np.median(random.choice(np.asarray(values), (RESAMPLES, len(values))), axis=1))

    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = medians(new) / medians(old)
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(low), float(high)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the figures that both have, in the new file's order."""
    before = {f"{each['group']}/{each['name']}": each for each in old["figures"] if each["values"]}
    found = []
    for each in new["figures"]:
        key = f"{each['group']}/{each['name']}"
        if each["values"] and key in before:
            values = before[key]["values"]
            low, high = interval(values, each["values"])
            more = each["better"] == MORE
            found.append(Change(key, each["unit"], median(values), median(each["values"]), low, high, more))
    return found


def line(change: Change) -> str:
    """Return a change as a row."""
    values = f"{number(change.old):>10} → {number(change.new):>10} {change.unit:<9}"
    spread = "" if np.isnan(change.low) else f" ({change.low:.2f} to {change.high:.2f})"
    return f"{change.key:<72} {values} x {change.ratio:.3f}{spread}  {change.verdict}"


def main(arguments: list[str]) -> int:
    """Print the comparison."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--all", action="store_true", help="also what did not change")
    parser.add_argument("--fail", action="store_true", help="exit with 1 where something got worse")
    options = parser.parse_args(arguments)
    old, new = json.loads(options.old.read_text()), json.loads(options.new.read_text())
    for name in SAME_MACHINE:
        if old.get(name) != new.get(name):
            print(f"not the same {name}: {old.get(name)} and {new.get(name)}; times are not to be compared")
    found = changes(old, new)
    shown = [each for each in found if options.all or each.verdict in ("better", "worse")]
    print(f"{old.get('commit')} → {new.get('commit')}: {len(found)} figures in both")
    for each in shown:
        print(line(each))
    counts = {name: sum(each.verdict == name for each in found) for name in ("better", "worse", "noise", "few rounds")}
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 1 if options.fail and counts["worse"] else 0
