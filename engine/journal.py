"""The journal's control path: open one for an engine, describe one, check one."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from engine.codec import EventDecoder
from engine.errors import ConfigError, JournalError
from engine.events import Event
from engine.journalindex import PartReader, Wanted
from ext.base import read_base
from ext.journal import Journal
from ext.records import Frame

__all__ = [
    "EventSelection",
    "Journal",
    "JournalInfo",
    "events_of",
    "is_journal",
    "journal_info",
    "open_journal",
    "read_frames",
    "verify_journal",
]


SEGMENT_BYTES_MAX: Final = 64 << 20
TRADE_ROOM_BYTES: Final = 160  # of a trade in a frame of its own: header, record, id
TRADE_KNOWN_BYTES: Final = 32  # of what knows its duplicates, and of what a bust needs


class JournalInfo(msgspec.Struct, frozen=True):
    """What a journal holds.

    first_seq, last_seq: 0 where it holds nothing. bytes: written, without what is preallocated. sealed: it was closed
    cleanly. torn_segment, torn_offset, torn_bytes: an unfinished tail that the next start will cut ("" and 0: none).
    removed_bytes, removed_trades, removed_until: what retention removed below first_seq, and when the last event of it
    was numbered (ns; 0: nothing was).
    """

    directory: str
    segments: int
    frames: int
    first_seq: int
    last_seq: int
    epoch: int
    bytes: int
    sealed: bool
    torn_segment: str = ""
    torn_offset: int = 0
    torn_bytes: int = 0
    removed_bytes: int = 0
    removed_trades: int = 0
    removed_until: int = 0


def is_journal(path: str | Path) -> bool:
    """Tell whether a path is a folder with a journal's segments in it."""
    try:
        return any(entry.name.endswith(".rwj") for entry in os.scandir(path))
    except OSError:
        return False


def open_journal(
    directory: str | Path | None, sync: str = "os", segment_bytes: int = SEGMENT_BYTES_MAX, expected_trades: int = 0
) -> Journal:
    """Open a journal for writing, making the folder where it is missing; None keeps it in memory.

    sync: `os`, `group` or `off` (nothing is written at all: the folder is ignored). segment_bytes: the largest segment.
    expected_trades: what is kept in memory has room for so many, which `Journal.touch_room` makes.
    A torn tail is cut; `Journal.recovered` then says (segment, offset, bytes).
    Raises JournalBusy where another engine has it open, JournalError where it is damaged or cannot be written,
    ConfigError where the machine has no memory for what is expected.
    """
    in_memory = directory is None or sync == "off"
    _check_expected(expected_trades, in_memory)
    if in_memory:
        return Journal(None, "off", room=expected_trades * TRADE_ROOM_BYTES)
    try:
        return Journal(str(directory), sync, segment_bytes)
    except OSError as problem:
        raise JournalError(f"{directory}: cannot be used as a journal: {problem.strerror}") from None


def _check_expected(trades: int, in_memory: bool) -> None:
    """Raise ConfigError where memory for so many is more than the machine has: to touch it would end the process."""
    needed = trades * (TRADE_KNOWN_BYTES + (TRADE_ROOM_BYTES if in_memory else 0))
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ConfigError(
            f"expected_trades = {trades}: that is {needed / 2**30:,.1f} GiB of memory, and this machine has "
            f"{there / 2**30:,.1f}"
        )


def read_journal(directory: str | Path) -> Journal:
    """Open a journal to read it, also while an engine writes it. Raises JournalError."""
    try:
        return Journal(str(directory), readonly=True)
    except OSError as problem:
        raise JournalError(f"{directory}: cannot be read: {problem.strerror}") from None


def read_frames(directory: str | Path) -> Iterator[bytes]:
    """Yield the frames of a journal in order, each checked. Raises JournalError."""
    journal = read_journal(directory)
    try:
        yield from journal
    finally:
        journal.close()


class EventSelection(Wanted, frozen=True):
    """Which events of a journal are wanted; None takes all.

    first, last: seqs, inclusive. since_ns, until_ns: when the broker numbered them, inclusive. symbol, account:
    case-sensitive globs; an event without a symbol (an account) is left out where one is given.
    """

    symbol: str | None = None
    account: str | None = None

    def takes(self, seq: int, event: Event) -> bool:
        """Tell whether an event of a frame in range is wanted."""
        return (
            self.first <= seq
            and (self.last is None or seq <= self.last)
            and _matches(self.symbol, event, "symbol")
            and _matches(self.account, event, "account")
        )


def _matches(glob: str | None, event: Event, field: str) -> bool:
    if glob is None:
        return True
    value = getattr(event, field, None)
    return value is not None and fnmatch.fnmatchcase(value, glob)


def events_of(directory: str | Path, wanted: EventSelection) -> Iterator[tuple[int, Event]]:
    """Yield (seq, event) of what is wanted, in order; other frames only give names. Raises JournalError.

    Where a part is wanted, only that part is read, and the frames before it that define names.
    """
    decoder = EventDecoder()
    base = read_base(directory)
    for data in base.frames() if base is not None else ():
        decoder.learn(Frame(data, False))
    if wanted.is_everything:
        frames: Iterator[Frame] = (Frame(data, False) for data in read_frames(directory))
    else:
        frames = PartReader(directory, wanted).frames()
    for frame in frames:
        if wanted.last is not None and frame.first_seq > wanted.last:
            return
        if (
            frame.first_seq + len(frame) <= wanted.first
            or (wanted.since_ns is not None and frame.stamped_at < wanted.since_ns)
            or (wanted.until_ns is not None and frame.stamped_at > wanted.until_ns)
        ):
            decoder.learn(frame)
            continue
        for seq, event in decoder.decode_all(frame):
            if wanted.takes(seq, event):
                yield seq, event


def journal_info(directory: str | Path) -> JournalInfo:
    """Describe a journal; every frame is checked on the way, and nothing is changed. Raises JournalError."""
    journal = read_journal(directory)
    try:
        torn = journal.recovered or ("", 0, 0)
        base = journal.base
        return JournalInfo(
            directory=str(directory),
            segments=journal.segment_count,
            frames=len(journal),
            first_seq=journal.first_seq if len(journal) else 0,
            last_seq=journal.last_seq,
            epoch=journal.epoch,
            bytes=journal.used_bytes,
            sealed=journal.sealed,
            torn_segment=torn[0],
            torn_offset=torn[1],
            torn_bytes=torn[2],
            removed_bytes=base.removed_bytes if base is not None else 0,
            removed_trades=base.trades if base is not None else 0,
            removed_until=base.stamped_at if base is not None else 0,
        )
    finally:
        journal.close()


def verify_journal(directory: str | Path) -> JournalInfo:
    """Read every byte of a journal and check it; only reads. Raises JournalError naming segment and offset."""
    return journal_info(directory)
