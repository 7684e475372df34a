"""`python -m bench table FILE.json [--write docs/performance.md]`: a run as the page shows it, with plots."""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import plots, published
from bench.report import Figure, markdown

QUIET_LOAD_MAX = 0.5
BUSY = (
    "**Others were using the cores when this began**: read ratios and counts; times are longer than on a quiet machine."
)
BEGIN, END = "<!-- figures: python -m bench table -->", "<!-- end of figures -->"


def page(run: dict[str, Any], drawn: Sequence[plots.Plot] = ()) -> str:
    """Return the figures of a run, by group, under what they were measured on, with the plots that are drawn."""
    when = datetime.datetime.fromtimestamp(run["started_at"], datetime.UTC)
    rounds = statistics.mode([len(each["values"]) for each in run["figures"]] or [0])
    lines = [
        f"Measured {when:%Y-%m-%d %H:%M} UTC at commit `{run['commit']}`, {rounds} rounds, "
        f"`{command_of(run['arguments'])}`: {run['cpu']}, {run['cores']} cores, {run['memory_gib']} GiB, "
        f"Linux {run['kernel']}, Python {run['python']}, libzmq {run['libzmq']}, `{run['flags']}`; "
        f"load average {run['load_average'][0]:.1f} before, {run.get('load_average_after', [0])[0]:.1f} after."
    ]
    if run["load_average"][0] > QUIET_LOAD_MAX:
        lines += ["", BUSY]
    figures = [Figure(**each) for each in run["figures"]]
    for group in dict.fromkeys(figure.group for figure in figures):
        lines += ["", f"### {group}", "", markdown([figure for figure in figures if figure.group == group])]
        lines += [
            text for plot in drawn if plot.group == group for text in ("", f"![{plot.title}]({plots.address(plot)})")
        ]
    lines += ["", published.markdown()]
    if run["wrong"]:
        lines += ["", "Results that were wrong in this run:", "", *(f"- {each}" for each in run["wrong"])]
    return "\n".join(lines)


def command_of(arguments: list[str]) -> str:
    """Return the command of a run, without where it wrote.

    >>> command_of(["core", "--json", "/tmp/new.json", "--rounds", "9"])
    'python -m bench core --rounds 9'
    """
    kept = [word for before, word in zip(["", *arguments], arguments, strict=False) if "--json" not in (before, word)]
    return " ".join(["python -m bench", *kept])


def replace(text: str, figures: str) -> str:
    """Return a page with what is between its marks replaced. Raises ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {BEGIN!r} and {END!r} to put figures between")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Print the page, or write it between the marks of another."""
    parser = argparse.ArgumentParser(prog="python -m bench table", description=__doc__)
    parser.add_argument("run", type=Path, help="what `python -m bench --json FILE` wrote")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put it between the marks of this page")
    options = parser.parse_args(arguments)
    run = json.loads(options.run.read_text())
    if not options.write:
        print(page(run))
        return 0
    drawn = plots.drawn(run)
    if how := plots.missing():
        print(f"bench table: SKIPPED the plots, which need matplotlib: {how}")
        drawn = []
    else:
        plots.draw(run, options.write.parent / plots.FOLDER)
    options.write.write_text(replace(options.write.read_text(), page(run, drawn)))
    return 0
