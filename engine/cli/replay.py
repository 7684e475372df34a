"""`riskwire replay`: the main job, through the real broker and consumers in one go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.feedoptions import SPEED, feed_options, reading_of
from engine.cli.options import json_option
from engine.cli.output import print_json, print_line
from engine.cli.progress import Progress

if TYPE_CHECKING:
    from engine.replay import Summary

POSITIONS_SHOWN = 10
CHOOSING = ("time_from", "time_to", "only_symbols", "only_accounts", "max_records")  # how much is read, nobody knows
EXIT_INTERRUPTED = 130


@click.command()
@feed_options
@click.option("--limits", metavar="L.toml", help="The limits to judge by; for a journal, instead of those in it.")
@click.option("--instruments", metavar="FILE", help="Multipliers, currencies and units (.csv or .toml).")
@click.option("--opening", metavar="FILE", help="Opening positions: account,symbol,quantity,price.")
@click.option("--speed", type=SPEED, default="max", metavar="max|N", help="N times as fast as recorded. [default: max]")
@click.option("--positions", metavar="OUT", help="Write positions to OUT (.json, .csv or .parquet).")
@click.option("--alerts", metavar="OUT", help="Write alerts to OUT (.jsonl or .parquet).")
@click.option("--dead-letters", metavar="FILE.db", help="Where what is refused goes.")
@click.option("--journal", metavar="DIR", help="Keep the sequence in DIR; one that is there is continued.")
@click.option("--frame-records", type=click.IntRange(1, 8192), default=4096, show_default=True, help="Events a frame.")
@click.option("--verify", is_flag=True, help="Compare with the exact, slow reference; a difference is exit code 1.")
@json_option
def replay(as_json: bool, **options: Any) -> int:
    """Replay recorded trades to positions, P&L and alerts, and sum up.

    FEED is a file (.csv, .jsonl, also compressed), `-` for standard input, or a journal directory; several files are
    merged by time. A bad row is a dead letter with its line, and the replay goes on.
    """
    reading = reading_of(options)
    early = None
    if options["journal"] is None and not any(reading[name] for name in CHOOSING):
        from engine.early import early_memory  # before all that is imported for the run

        early = early_memory(options["feeds"])
    from engine.replay import ReplayOptions, run_replay

    with Progress("replay") as progress:
        summary = run_replay(
            ReplayOptions(**options, reading=reading, keep_trades=False, early=early, progress=progress.update)
        )
    if as_json:
        print_json(summary.to_json())
    else:
        print_report(summary, currencies=options["instruments"] is not None)
    return end(summary)


def end(summary: Summary) -> int:
    """Return the exit code; an interrupted replay says so on stderr."""
    if not summary.interrupted:
        return 0
    from engine.cli.report import interrupted_line

    click.echo(interrupted_line(summary.to_json()), err=True)
    return EXIT_INTERRUPTED


def print_report(summary: Summary, currencies: bool) -> None:
    """Print what a replay found, for people: positions, alerts, what was refused, the summary.

    currencies: instruments were given, so money may be in several currencies.
    """
    from engine.cli.report import print_alert_frames, print_positions, print_refused, print_summary

    if summary.positions:
        print_positions(summary.positions, POSITIONS_SHOWN, currencies)
        print_line()
    if summary.alerts:
        print_alert_frames(summary.alert_frames, summary.alerts)
        print_line()
    if summary.reasons:
        print_refused(summary.reasons, summary.dead_letters_path)
        print_line()
    print_summary(summary.to_json())
