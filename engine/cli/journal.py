"""`riskwire journal info|verify|dump DIR`: look into a journal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from engine.cli.groups import CommandGroup
from engine.cli.options import json_option
from engine.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from engine.events import Event
    from engine.journal import JournalInfo


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


@journal.command()
@click.argument("directory", metavar="DIR")
@click.option("--from", "first", type=click.IntRange(min=1), default=1, metavar="SEQ", help="From this seq on.")
@click.option("--to", "last", type=click.IntRange(min=1), metavar="SEQ", help="Up to this seq (inclusive).")
@json_option
def dump(directory: str, first: int, last: int | None, as_json: bool) -> None:
    """Print the events of the journal in DIR, one a line, with their seqs.

    --json prints JSON Lines, which `riskwire replay` reads.
    """
    import msgspec

    encode = msgspec.json.Encoder(decimal_format="string").encode
    for seq, event in events_of(existing(directory), first, last):
        text = encode(event).decode()
        sys.stdout.write(f'{{"seq":{seq},{text[1:]}\n' if as_json else f"{seq:>10}  {text}\n")


def existing(directory: str) -> str:
    """Return the directory if a journal is there; else it is bad usage."""
    from engine.errors import UsageError
    from engine.journal import is_journal

    if not is_journal(directory):
        raise UsageError(f"{directory}: no journal there; name the folder that --journal was given")
    return directory


def events_of(directory: str, first: int, last: int | None) -> Iterator[tuple[int, Event]]:
    """Yield (seq, event) from first to last; what comes before is read only for its names."""
    from engine.codec import EventDecoder
    from engine.journal import read_frames
    from ext.records import Frame

    decoder = EventDecoder()
    for data in read_frames(directory):
        frame = Frame(data, False)
        if last is not None and frame.first_seq > last:
            return
        if frame.first_seq + len(frame) <= first:
            decoder.learn(frame)
            continue
        for seq, event in decoder.decode_all(frame):
            if first <= seq and (last is None or seq <= last):
                yield seq, event


def print_info(found: JournalInfo, as_json: bool) -> None:
    """Print a journal's description."""
    if as_json:
        print_json(found)
        return
    tail = "sealed" if found.sealed else "open (an engine writes it, or was killed)"
    if found.torn_segment:
        place = f"{found.torn_segment}, offset {found.torn_offset:,}"
        tail = f"{found.torn_bytes:,} bytes of an unfinished frame in {place}; the next start cuts them"
    print_pairs(
        [
            ("journal", found.directory),
            ("seqs", f"{found.first_seq:,} to {found.last_seq:,}" if found.last_seq else "none"),
            ("frames", f"{found.frames:,} in {found.segments:,} segments, {found.bytes:,} bytes"),
            ("epoch", f"{found.epoch:,}"),
            ("tail", tail),
        ]
    )
