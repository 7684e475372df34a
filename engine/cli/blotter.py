"""`riskwire blotter run|show|parquet|rebuild`: every trade once, in SQLite for look-ups and in Parquet by day."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from engine.cli.groups import CommandGroup
from engine.cli.options import SECONDS, engine_options, is_insecure, json_option
from engine.cli.output import Table, count_of, print_json, print_line

Command = TypeVar("Command", bound=Callable[..., Any])

SHOWN_MAX = 100
BATCH = 1000


def db_option(command: Command) -> Command:
    """Add `--db`: which blotter."""
    return click.option("--db", default="blotter.db", show_default=True, metavar="FILE.db", help="The blotter.")(
        command
    )


@click.group(cls=CommandGroup)
def blotter() -> None:
    """Keep every trade once: in SQLite for look-ups, in Parquet by day; busts and corrections marked."""


@blotter.command()
@click.option(
    "--queue", "queue", default="blotter", show_default=True, metavar="NAME", help="Where the trades come from."
)
@db_option
@click.option("--parquet", metavar="DIR", help="Write each day to DIR/YYYY-MM-DD.parquet as well.")
@click.option(
    "--every", type=SECONDS, default="60s", show_default=True, help="How often days that changed are written."
)
@engine_options
def run(queue: str, db: str, parquet: str | None, every: float, connect: str | None, wait: float) -> int:
    """Work on a queue until told to stop: start as many as you like on the same file."""
    from engine.cli.worker import run_until_told
    from engine.worker import Worker
    from engine.workers.blotter import handle
    from engine.workers.parquet import ParquetWriter

    works = Worker(queue, handle, connect, batch=BATCH, processed=db, wait_s=wait, insecure=is_insecure())
    if parquet is None:
        return run_until_told(works)
    writer = ParquetWriter(db, parquet, every)
    writer.start()
    try:
        return run_until_told(works)
    finally:
        writer.close()


@blotter.command()
@click.argument("trade_id", required=False)
@db_option
@click.option("--account", metavar="GLOB", help="Only these accounts.")
@click.option("--symbol", metavar="GLOB", help="Only these symbols.")
@click.option("--day", metavar="YYYY-MM-DD", help="Only this day (UTC).")
@click.option(
    "--status", metavar="S", help="live, corrected, busted, bust, or unknown_trade, ambiguous_trade, overflow."
)
@click.option("--limit", type=click.IntRange(1), help=f"At most so many. [default: {SHOWN_MAX}; with --json all]")
@json_option
def show(trade_id: str | None, db: str, limit: int | None, as_json: bool, **filters: str | None) -> None:
    """Look trades up, in the order of the sequence."""
    from engine.workers.blotter import COLUMNS, open_blotter

    names = COLUMNS.replace(" ", "").split(",")
    terms = {"account": "account GLOB ?", "symbol": "symbol GLOB ?", "day": "day = ?", "status": "status = ?"}
    chosen = {terms[name]: value for name, value in filters.items() if value is not None}
    if trade_id is not None:
        chosen["trade_id = ?"] = trade_id
    opened = open_blotter(db)
    most = limit or (-1 if as_json else SHOWN_MAX)
    query = f"SELECT {COLUMNS} FROM trades WHERE {' AND '.join(chosen) or '1'} ORDER BY seq LIMIT ?"
    rows = [dict(zip(names, row, strict=True)) for row in opened.execute(query, [*chosen.values(), most])]
    opened.close()
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("no trades")
        return
    table = Table(
        ">seq", "trade_id", "account", "symbol", "side", ">volume", ">price", "day", "status", ">by", ">changes"
    )
    for row in rows:
        cells = [
            row[name] for name in ("seq", "trade_id", "account", "symbol", "side", "volume", "price", "day", "status")
        ]
        table.add(*cells, row["changed_by"] or "", row["changes"] or "")
    table.print()


@blotter.command()
@click.argument("folder", metavar="DIR")
@db_option
@json_option
def parquet(folder: str, db: str, as_json: bool) -> None:
    """Write the days that have changed to DIR now."""
    from engine.workers.blotter import open_blotter
    from engine.workers.parquet import write_days

    open_blotter(db).close()
    days = write_days(db, folder)
    if as_json:
        print_json({"days": days})
    else:
        print_line(f"{folder}: {count_of(len(days), 'day')} written")


@blotter.command()
@click.argument("journal", metavar="JOURNAL")
@db_option
@click.option("--account", metavar="GLOB", help="Only these accounts, as the queue's `match` has it.")
@click.option("--symbol", metavar="GLOB", help="Only these symbols.")
@click.option("--venue", metavar="GLOB", help="Only these venues.")
@click.option("--strategy", metavar="GLOB", help="Only these strategies.")
@json_option
def rebuild(journal: str, db: str, as_json: bool, **match: str | None) -> None:
    """Make the blotter again from the folder JOURNAL, in the place of the old one; its workers must be stopped."""
    from engine.errors import UsageError
    from engine.journal import is_journal
    from engine.workers.blotter import rebuild as rebuild_blotter

    if not is_journal(journal):
        raise UsageError(f"{journal}: no journal there; name the folder that an engine was given with --journal")
    count = rebuild_blotter(db, journal, {name: glob for name, glob in match.items() if glob is not None})
    if as_json:
        print_json({"trades": count, "path": db})
    else:
        print_line(f"{db}: {count_of(count, 'trade')}")
