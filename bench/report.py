"""Figures as they are measured: printed as rows, kept for JSON, and compared with their targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.machine import median

LESS, MORE = "less", "more"


@dataclass
class Figure:
    """One thing measured. values: one a round. better: `less` or `more`. target: of the median, in the same unit."""

    group: str
    name: str
    unit: str
    values: list[float]
    better: str = LESS
    target: float | None = None
    note: str = ""

    @property
    def key(self) -> str:
        """The figure's name in all files."""
        return f"{self.group}/{self.name}"

    @property
    def reached(self) -> bool | None:
        """Whether the median reaches the target; None: there is none, or nothing was measured."""
        if self.target is None or not self.values:
            return None
        middle = median(self.values)
        return middle <= self.target if self.better == LESS else middle >= self.target


@dataclass
class Report:
    """All figures of a run, and what was wrong with results."""

    figures: list[Figure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    histograms: dict[str, dict[str, str]] = field(default_factory=dict)  # HdrHistogram V2, by what was timed
    series: dict[str, dict[str, list[tuple[float, list[float]]]]] = field(default_factory=dict)  # what is plotted
    seconds: dict[str, float] = field(default_factory=dict)  # that each group took
    group: str = ""

    def add(
        self,
        name: str,
        unit: str,
        values: Sequence[float],
        *,
        better: str = LESS,
        target: float | None = None,
        note: str = "",
    ) -> Figure:
        """Keep a figure and print its row."""
        figure = Figure(self.group, name, unit, [float(value) for value in values], better, target, note)
        self.figures.append(figure)
        print(row(figure), flush=True)
        return figure

    def point(self, series: str, line: str, x: float, values: Sequence[float]) -> None:
        """Keep a point of a line that is plotted: x, and what was measured there (one a round)."""
        self.series.setdefault(series, {}).setdefault(line, []).append((x, [float(value) for value in values]))

    def missing(self, name: str, how: str) -> None:
        """Say in a row why there is no figure, and how to get one."""
        self.add(name, "", [], note=how)

    def fail(self, what: str) -> None:
        """Keep and print that something could not be measured because it failed."""
        self.wrong.append(f"{self.group}: {what}")
        print(f"  FAILED {what}", flush=True)

    def check(self, what: str, ours: Any, theirs: Any) -> bool:
        """Compare results before times are: False, kept and printed, where they differ."""
        if ours == theirs:
            return True
        self.wrong.append(f"{self.group}: {what}: {_short(ours)}, the peer has {_short(theirs)}")
        print(f"  WRONG  {self.wrong[-1]}", flush=True)
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        return {
            "figures": [asdict(figure) for figure in self.figures],
            "wrong": self.wrong,
            "histograms": self.histograms,
            "series": self.series,
            "seconds": self.seconds,
        }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 200 else text[:200] + "…"


def ratios(ours: Sequence[float], peers: Sequence[float]) -> list[float]:
    """Return ours / the peer's, round by round: what both had to suffer in a round cancels."""
    return [a / b for a, b in zip(ours, peers, strict=True)]


def number(value: float) -> str:
    """Return a number with about three significant digits."""
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3f}"
    if abs(value) < 0.001:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"


def row(figure: Figure) -> str:
    """Return a figure as one line: name, median, spread, target."""
    if not figure.values:
        return f"  {figure.name:<52} –          {figure.note}"
    text = f"{number(median(figure.values)):>10} {figure.unit:<12}"
    if len(figure.values) > 1:
        text += f" ({number(min(figure.values))} to {number(max(figure.values))})"
    if figure.target is not None:
        sign = "≤" if figure.better == LESS else "≥"
        text += f"  {sign} {number(figure.target)}{'' if figure.reached else '  MISSED'}"
    return f"  {figure.name:<52}{text}" + (f"  [{figure.note}]" if figure.note else "")


def markdown(figures: Sequence[Figure]) -> str:
    """Return figures as a Markdown table."""
    lines = ["| figure | median | lowest to highest | target | |", "|---|---|---|---|---|"]
    for figure in figures:
        if not figure.values:
            lines.append(f"| {figure.key} | – | | | {figure.note} |")
            continue
        sign = "≤" if figure.better == LESS else "≥"
        goal = (
            "" if figure.target is None else f"{sign} {number(figure.target)}{'' if figure.reached else ' **missed**'}"
        )
        spread = f"{number(min(figure.values))} to {number(max(figure.values))}"
        lines.append(
            f"| {figure.key} | {number(median(figure.values))} {figure.unit} | {spread} | {goal} | {figure.note} |"
        )
    return "\n".join(lines)
