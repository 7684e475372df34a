"""`riskwire demo`: a realistic session of riskwire's own, replayed with sample limits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import json_option
from engine.cli.output import paint, print_json, print_line
from engine.cli.progress import Progress
from engine.cli.replay import end

if TYPE_CHECKING:
    from engine.replay import Summary
    from feeds.synthetic import SyntheticSession

POSITIONS_SHOWN = 12


@click.command()
@click.option("--trades", type=click.IntRange(1000, 50_000_000), default=300_000, show_default=True)
@click.option("--symbols", type=click.IntRange(3, 100_000), default=50, show_default=True)
@click.option("--accounts", type=click.IntRange(3, 100_000), default=20, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed makes the same session.")
@click.option("--keep", metavar="DIR", help="Keep the session, its instruments and limits in DIR.")
@json_option
def demo(as_json: bool, keep: str | None, **shape: Any) -> int:
    """Make a realistic session (gaps, duplicates, busts, a rogue trader) and replay it with sample limits."""
    with tempfile.TemporaryDirectory(prefix="riskwire-demo-") as temporary:
        folder = Path(keep or temporary)
        session, summary = make_and_replay(folder, shape)
        if as_json:
            print_json(summary.to_json())
        else:
            print_demo(session, summary, stays=keep is not None)
            print_files(folder if keep else None)
    return end(summary)


def make_and_replay(folder: Path, shape: dict[str, Any]) -> tuple[SyntheticSession, Summary]:
    """Write the session's files and replay them."""
    from engine.replay import ReplayOptions, run_replay
    from feeds.synthetic import SAMPLE_INSTRUMENTS, SAMPLE_LIMITS, synthetic_session

    folder.mkdir(parents=True, exist_ok=True)
    trades, limits, instruments = (folder / name for name in ("trades.csv", "limits.toml", "instruments.csv"))
    limits.write_text(SAMPLE_LIMITS)
    instruments.write_text(SAMPLE_INSTRUMENTS)
    with Progress("replay") as progress:
        session = synthetic_session(trades, **shape)
        options = ReplayOptions(
            feeds=[trades],
            limits=limits,
            instruments=instruments,
            dead_letters=folder / "dead-letters.db",
            progress=progress.update,
        )
        return session, run_replay(options)


def print_demo(session: SyntheticSession, summary: Summary, stays: bool) -> None:
    """Print the day: positions and P&L, alerts, what was refused and why, and the rate.

    stays: the dead-letter file is still there afterwards.
    """
    from engine.cli.report import (
        print_accounts,
        print_alert_frames,
        print_positions,
        print_refused,
        print_summary,
    )

    headline("Profit and loss by account")
    print_accounts(summary.positions)
    headline("Positions")
    print_positions(summary.positions, POSITIONS_SHOWN, currencies=True)
    headline("Alerts")
    print_alert_frames(summary.alert_frames, summary.alerts)
    headline("Refused")
    print_refused(summary.reasons, summary.dead_letters_path)
    headline("The replay")
    print_summary(summary.to_json() if stays else {**summary.to_json(), "dead_letters_path": None})
    print_line(
        f"{session.rogue} is the rogue trader; {session.busts} trades were busted, {session.corrects} corrected."
    )


def headline(text: str) -> None:
    """Print a line that begins a part."""
    print_line()
    print_line(paint(text, "headline"))


def print_files(folder: Path | None) -> None:
    """Say how to look at the session again."""
    if folder is None:
        print_line("To keep the session's files: riskwire demo --keep demo")
        return
    print_line(f"Kept: {folder}/trades.csv, limits.toml, instruments.csv, dead-letters.db. Try")
    print_line(f"  riskwire replay {folder}/trades.csv --limits {folder}/limits.toml \\")
    print_line(f"      --instruments {folder}/instruments.csv --alerts {folder}/alerts.jsonl")
