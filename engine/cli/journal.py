"""`riskwire journal info|verify|dump DIR`: look into a journal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from engine.cli.groups import CommandGroup
from engine.cli.options import json_option
from engine.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from engine.events import Event
    from engine.journal import JournalInfo

    PlaceType = click.ParamType[tuple[int | None, int | None]]
else:
    PlaceType = click.ParamType  # generic in newer versions of click only


@click.group(cls=CommandGroup)
def journal() -> None:
    """Look into a journal."""


@journal.command()
@click.argument("directory", metavar="DIR")
@json_option
def info(directory: str, as_json: bool) -> None:
    """Say what the journal in DIR holds."""
    from engine.journal import journal_info

    print_info(journal_info(existing(directory)), as_json)


@journal.command()
@click.argument("directory", metavar="DIR")
@json_option
def verify(directory: str, as_json: bool) -> None:
    """Check every byte of the journal in DIR; only reads.

    Exit code 1, with segment and offset, where it is damaged. An unfinished last frame is not damage: it was never
    acked, and the next start cuts it.
    """
    from engine.journal import verify_journal

    print_info(verify_journal(existing(directory)), as_json)


class Place(PlaceType):
    """A seq, or the ISO 8601 time when the engine numbered an event: (seq, None) or (None, ns)."""

    name = "place"

    def convert(
        self, value: str, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int | None, int | None]:
        """Return a place for its text."""
        from ext.decimals import parse_timestamp

        if value.isascii() and value.isdigit():
            return max(int(value), 1), None
        error, at = parse_timestamp(value.encode())
        if error:
            self.fail(f"{value!r} is neither a seq nor an ISO 8601 time such as 2024-05-01T09:30:00Z", param, context)
        return None, at


@journal.command()
@click.argument("directory", metavar="DIR")
@click.option("--since", "--from", "since", type=Place(), metavar="PLACE", help="From this seq or time on.")
@click.option("--until", "--to", "until", type=Place(), metavar="PLACE", help="Up to this seq or time (inclusive).")
@click.option("--symbol", metavar="GLOB", help="Only events of symbols that match.")
@click.option("--account", metavar="GLOB", help="Only events of accounts that match.")
@click.option("--csv", "as_csv", is_flag=True, help="Trades as CSV; events of other types are left out.")
@json_option
def dump(
    directory: str,
    since: tuple[int | None, int | None] | None,
    until: tuple[int | None, int | None] | None,
    symbol: str | None,
    account: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Print the events of the journal in DIR, one a line, with their seqs.

    PLACE is a seq, or the ISO 8601 time when the engine numbered an event. --json prints JSON Lines and --csv canonical
    CSV; `riskwire replay` reads both.
    """
    from engine.errors import UsageError
    from engine.journal import EventSelection, events_of

    if as_csv and as_json:
        raise UsageError("--csv and --json are two formats; choose one")
    first, since_ns = since or (1, None)
    last, until_ns = until or (None, None)
    wanted = EventSelection(first or 1, last, since_ns, until_ns, symbol, account)
    say_removed(existing(directory), wanted.first, since_ns)
    events = events_of(directory, wanted)
    if as_csv:
        print_csv(events)
    else:
        print_lines(events, as_json)


def say_removed(directory: str, first: int, since_ns: int | None) -> None:
    """Say on stderr where some of what is asked for was removed."""
    from ext.base import read_base

    base = read_base(directory)
    if base is not None and first < base.first_seq and (since_ns is None or since_ns <= base.stamped_at):
        click.echo(f"events below seq {base.first_seq:,} were removed by retention; this begins there", err=True)


def print_lines(events: Iterable[tuple[int, Event]], as_json: bool) -> None:
    """Print each event as a line of JSON, its seq inside or (for people) before it."""
    import msgspec

    encode = msgspec.json.Encoder(decimal_format="string").encode
    for seq, event in events:
        text = encode(event).decode()
        sys.stdout.write(f'{{"seq":{seq},{text[1:]}\n' if as_json else f"{seq:>10}  {text}\n")


def print_csv(events: Iterable[tuple[int, Event]]) -> None:
    """Print trades as canonical CSV with a column `seq`; say how many events of other types there were."""
    import csv

    import msgspec

    from engine.events import TradeExecuted

    columns = [field.name for field in msgspec.structs.fields(TradeExecuted)]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["seq", *columns])
    others = 0
    for seq, event in events:
        if isinstance(event, TradeExecuted):
            writer.writerow([seq, *(plain(getattr(event, name)) for name in columns)])
        else:
            others += 1
    if others:
        click.echo(f"{others:,} events that are no trades are left out; --json prints them", err=True)


def plain(value: object) -> object:
    """Return a value as CSV has it: no exponents."""
    from decimal import Decimal

    return f"{value:f}" if isinstance(value, Decimal) else value


def existing(directory: str) -> str:
    """Return the directory if a journal is there; else it is bad usage."""
    from engine.errors import UsageError
    from engine.journal import is_journal

    if not is_journal(directory):
        raise UsageError(f"{directory}: no journal there; name the folder that --journal was given")
    return directory


def print_info(found: JournalInfo, as_json: bool) -> None:
    """Print a journal's description."""
    if as_json:
        print_json(found)
        return
    tail = "sealed" if found.sealed else "open (an engine writes it, or was killed)"
    if found.torn_segment:
        place = f"{found.torn_segment}, offset {found.torn_offset:,}"
        tail = f"{found.torn_bytes:,} bytes of an unfinished frame in {place}; the next start cuts them"
    removed = [("removed", f"seqs up to {found.first_seq - 1:,}, {found.removed_bytes:,} bytes, by retention")]
    print_pairs(
        [
            ("journal", found.directory),
            ("seqs", f"{found.first_seq:,} to {found.last_seq:,}" if found.last_seq else "none"),
            *(removed if found.removed_bytes else []),
            ("frames", f"{found.frames:,} in {found.segments:,} segments, {found.bytes:,} bytes"),
            ("epoch", f"{found.epoch:,}"),
            ("tail", tail),
        ]
    )
