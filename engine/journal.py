"""The journal's control path: open one for an engine, describe one, check one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.errors import JournalError
from ext.journal import Journal

__all__ = ["Journal", "JournalInfo", "is_journal", "journal_info", "open_journal", "read_frames", "verify_journal"]


class JournalInfo(msgspec.Struct, frozen=True):
    """What a journal holds.

    first_seq, last_seq: 0 where it holds nothing. bytes: written, without what is preallocated. sealed: it was closed
    cleanly. torn_segment, torn_offset, torn_bytes: an unfinished tail that the next start will cut ("" and 0: none).
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


def is_journal(path: str | Path) -> bool:
    """Tell whether a path is a folder with a journal's segments in it."""
    try:
        return any(entry.name.endswith(".rwj") for entry in os.scandir(path))
    except OSError:
        return False


def open_journal(directory: str | Path | None, sync: str = "os") -> Journal:
    """Open a journal for writing, making the folder where it is missing; None keeps it in memory.

    sync: `os`, `group` or `off` (nothing is written at all: the folder is ignored).
    A torn tail is cut; `Journal.recovered` then says (segment, offset, bytes).
    Raises JournalBusy where another engine has it open, JournalError where it is damaged or cannot be written.
    """
    if directory is None or sync == "off":
        return Journal(None, "off")
    try:
        return Journal(str(directory), sync)
    except OSError as problem:
        raise JournalError(f"{directory}: cannot be used as a journal: {problem.strerror}") from None


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


def journal_info(directory: str | Path) -> JournalInfo:
    """Describe a journal; every frame is checked on the way, and nothing is changed. Raises JournalError."""
    journal = read_journal(directory)
    try:
        torn = journal.recovered or ("", 0, 0)
        return JournalInfo(
            directory=str(directory),
            segments=journal.segment_count,
            frames=len(journal),
            first_seq=1 if len(journal) else 0,
            last_seq=journal.last_seq,
            epoch=journal.epoch,
            bytes=journal.used_bytes,
            sealed=journal.sealed,
            torn_segment=torn[0],
            torn_offset=torn[1],
            torn_bytes=torn[2],
        )
    finally:
        journal.close()


def verify_journal(directory: str | Path) -> JournalInfo:
    """Read every byte of a journal and check it; only reads. Raises JournalError naming segment and offset."""
    return journal_info(directory)
