"""The plots of a run: `python -m bench plot RUN.json [--to docs/plots]`, an SVG each, by matplotlib.

Each point is the median of its rounds, the bar behind it their whole spread. The files name no time and no program, so
that the same figures give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import median

FOLDER = "plots"  # beside the page
Line = Sequence[tuple[float, Sequence[float]]]  # x, and what was measured there


@dataclass(frozen=True)
class Plot:
    """What is drawn from one series of a report. log: which axes have equal ratios at equal distances."""

    group: str
    series: str
    title: str
    x: str
    y: str
    log: str = "xy"


PLOTS = (
    Plot(
        "pipeline",
        "throughput",
        "Throughput by trades in a message, three processes",
        "trades in a message",
        "trades/s",
    ),
    Plot(
        "latency",
        "latency",
        "Latency of trade to alert by rate, from the planned time",
        "trades/s sent on schedule",
        "µs",
    ),
    Plot(
        "core",
        "keys",
        "Duplicates, position and 3 limits by number of keys",
        "keys (account and symbol)",
        "ns a trade",
        "x",
    ),
    Plot("core", "memory", "Memory by trades taken, 10,000 keys", "trades", "MiB", ""),
    Plot("recovery", "recovery", "Restart by length of the journal", "trades in the journal", "s"),
)
OURS = "riskwire"
KINDS = ("-", "--", ":", "-.")
HOW = "pip install matplotlib, or make bench"


def missing() -> str:
    """Return how to install what draws; empty where it is there."""
    return "" if importlib.util.find_spec("matplotlib") else HOW


def address(plot: Plot) -> str:
    """Return where a plot is, seen from the page."""
    return f"{FOLDER}/{plot.series}.svg"


def drawn(run: Mapping[str, Any]) -> list[Plot]:
    """Return the plots that a run has points for."""
    series = run.get("series", {})
    return [plot for plot in PLOTS if series.get(plot.series)]


def gathered(line: Line) -> list[tuple[float, list[float]]]:
    """Return the points by rising x, those of one x together."""
    found: dict[float, list[float]] = {}
    for x, values in line:
        found.setdefault(x, []).extend(values)
    return sorted(found.items())


def draw(run: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write all plots of a run into a folder; returns the files. Raises RuntimeError without matplotlib."""
    if missing():
        raise RuntimeError(f"plots need matplotlib: {HOW}")
    folder.mkdir(parents=True, exist_ok=True)
    return [draw_one(plot, run["series"][plot.series], folder / f"{plot.series}.svg") for plot in drawn(run)]


def draw_one(plot: Plot, lines: Mapping[str, Line], path: Path) -> Path:
    """Write one plot."""
    import matplotlib
    from matplotlib.figure import Figure

    # Text stays text, and what would be made from the time or at random is not.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": plot.series, "font.size": 9}):
        figure = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = figure.add_subplot()
        for (name, line), look in zip(lines.items(), looks(list(lines)), strict=True):
            add_line(axes, name, gathered(line), look)
        if "x" in plot.log:
            axes.set_xscale("log")
        else:
            axes.xaxis.set_major_formatter("{x:,.0f}")
        if "y" in plot.log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(plot.title, fontsize=10)
        axes.set_xlabel(plot.x)
        axes.set_ylabel(plot.y)
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(fontsize=8)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return path


def add_line(axes: Any, name: str, points: list[tuple[float, list[float]]], look: tuple[str, str]) -> None:
    """Draw a line through medians, with bars for the spread. look: colour and kind of line."""
    xs, middles = [x for x, _ in points], [median(values) for _, values in points]
    below = [middle - min(values) for middle, (_, values) in zip(middles, points, strict=True)]
    above = [max(values) - middle for middle, (_, values) in zip(middles, points, strict=True)]
    color, kind = look
    style = {"color": color, "linestyle": kind, "linewidth": 1.4, "marker": "o", "markersize": 3.5}
    axes.errorbar(xs, middles, yerr=(below, above), label=name, capsize=2, elinewidth=0.8, **style)


def looks(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return a colour for each system, which is a name's first word, and a kind of line for each of its lines.

    >>> looks(["libzmq p50", "riskwire p50", "riskwire p99"])
    [('C1', '-'), ('C0', '-'), ('C0', '--')]
    """
    systems: dict[str, int] = {}
    found = []
    for name in names:
        system = name.split()[0].rstrip(",:")
        lines = systems.get(system, 0)
        systems[system] = lines + 1
        peers = [each for each in systems if each != OURS]
        color = 0 if system == OURS else 1 + peers.index(system)
        found.append((f"C{color}", KINDS[lines % len(KINDS)]))
    return found


def main(arguments: list[str]) -> int:
    """Draw a run's plots."""
    parser = argparse.ArgumentParser(prog="python -m bench plot", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="what `python -m bench --json FILE` wrote")
    parser.add_argument("--to", type=Path, metavar="FOLDER", default=Path("docs") / FOLDER, help="default: %(default)s")
    options = parser.parse_args(arguments)
    if missing():
        parser.error(f"plots need matplotlib: {HOW}")
    for path in draw(json.loads(options.run.read_text()), options.to):
        print(path)
    return 0
