"""Retention: removes the journal's beginning once nothing needs it any more.

What a start needs of it is written down first (`ext.base`), so that a crash at any instant leaves either the segments
or what stands for them. Decided in docs/decisions/0031-retention.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from engine.files import sync, write_file
from engine.journalindex import index_path
from engine.snapshots import FULL_KEPT, SnapshotStore, mapped, seq_of
from ext.base import BASE_NAME, Base
from ext.journal import Journal
from ext.sequencer import Sequencer
from ext.snapshot import HEADER_BYTES, SnapshotError, check

__all__ = ["Retention", "RetentionStatus"]

log = logging.getLogger("riskwire.retention")

SNAPSHOT_SHARE: Final = 4  # a snapshot is worth its bytes where it frees at least a quarter of them


class RetentionStatus(msgspec.Struct, frozen=True):
    """What was removed of a journal, and what keeps more from it. first_seq: the first seq kept."""

    first_seq: int
    removed_bytes: int
    held_by: str


class _Segment(msgspec.Struct, frozen=True):
    """A segment of the journal. last_seq: 0 for the one being written. stamped_at: of its last frame, ns."""

    number: int
    last_seq: int
    bytes: int
    stamped_at: int


class Retention:
    """Removes a journal's oldest segments by size and age, while an engine runs.

    journal: open for writing, in a folder. sequencer: whose table of duplicates says which trades are forgotten.
    in_writer: runs a function in the thread that writes the journal and waits for it. needed_from: the lowest seq that
    a queue needs, and what needs it. size_bytes, age_ns: what is beyond them is removed; 0: however much.
    """

    def __init__(
        self,
        journal: Journal,
        sequencer: Sequencer,
        in_writer: Callable[[Callable[[], None]], None],
        needed_from: Callable[[], tuple[int, str]],
        *,
        size_bytes: int = 0,
        age_ns: int = 0,
    ) -> None:
        assert journal.directory is not None
        self.held_by = ""
        self._folder = Path(journal.directory)
        self._journal, self._sequencer = journal, sequencer
        self._in_writer, self._needed_from = in_writer, needed_from
        self._size_bytes, self._age_ns = size_bytes, age_ns
        self._store = SnapshotStore(self._folder)
        self._latest: dict[int, int | None] = {}  # executed_at of the last trade of a segment
        self._bad: set[Path] = set()

    @property
    def status(self) -> RetentionStatus:
        """What was removed so far, and what keeps more from it."""
        base = self._journal.base
        return RetentionStatus(self._journal.first_seq, base.removed_bytes if base is not None else 0, self.held_by)

    def needs_snapshot(self) -> bool:
        """Tell whether a snapshot with its trades would let something be removed that pays for it."""
        covered = self._covered()
        size = sum(segment.bytes for segment in self._free() if segment.last_seq >= covered)
        fulls = self._store.full_paths()
        return size > 0 and (len(fulls) < FULL_KEPT or size * SNAPSHOT_SHARE >= fulls[0].stat().st_size)

    def remove(self) -> int:
        """Remove what size or age ask for and nothing needs; return how many segments that was. Raises OSError."""
        free = self._free()
        covered = self._covered(whole=True) if free else 0
        gone = [segment for segment in free if segment.last_seq < covered]
        if len(gone) < len(free):
            self.held_by = f"segment {free[len(gone)].number} waits for two snapshots that have its trades"
        if not gone:
            return 0
        base = self._journal.base_after(gone[-1].number)
        self._sync_what_follows(gone[-1].number)
        write_file(self._folder / BASE_NAME, (), base.parts())
        self._in_writer(lambda: self._let_go(base))
        for segment in gone:
            (self._folder / f"{segment.number:08d}.rwj").unlink(missing_ok=True)
            index_path(self._folder, segment.number).unlink(missing_ok=True)
            self._latest.pop(segment.number, None)
        sync(self._folder)
        log.info(
            "segments removed",
            extra={"segments": len(gone), "first_seq": base.first_seq, "bytes": sum(each.bytes for each in gone)},
        )
        return len(gone)

    def _let_go(self, base: Base) -> None:
        self._sequencer.dedup.let_go(base)
        self._journal.let_go(base)

    # --- what may go ----------------------------------------------------------------------------------------------

    def _segments(self) -> list[_Segment]:
        rows = self._journal.segments()
        ends = [first_seq - 1 for _, first_seq, _, _ in rows[1:]] + [0]
        return [
            _Segment(number, last_seq, size, stamp)
            for (number, _, size, stamp), last_seq in zip(rows, ends, strict=True)
        ]

    def _wanted(self) -> list[_Segment]:
        """Return the oldest segments that size or age ask for; the one being written is never among them."""
        segments = self._segments()
        total, oldest = sum(segment.bytes for segment in segments), time.time_ns() - self._age_ns
        wanted = []
        for segment in segments[:-1]:
            if not (self._size_bytes and total > self._size_bytes) and not (
                self._age_ns and segment.stamped_at < oldest
            ):
                break
            total -= segment.bytes
            wanted.append(segment)
        return wanted

    def _free(self) -> list[_Segment]:
        """Return those of the wanted that the door and the queues need no more; `held_by` says what stopped it."""
        needed, who = self._needed_from()
        horizon = self._sequencer.dedup.horizon
        self.held_by = ""
        free: list[_Segment] = []
        for segment in self._wanted():
            latest = self._latest_trade(segment.number)
            if segment.last_seq >= needed:
                self.held_by = f"segment {segment.number}: {who}"
            elif latest is not None and latest >= horizon:
                self.held_by = f"segment {segment.number} has trades that are still remembered (dedup_max_trades)"
            if self.held_by:
                break
            free.append(segment)
        return free

    def _latest_trade(self, number: int) -> int | None:
        if number not in self._latest:
            self._latest[number] = self._journal.latest_trade(number)
        return self._latest[number]

    def _covered(self, whole: bool = False) -> int:
        """Return the seq up to which at least two good snapshots have all trades; 0: there are none.

        whole: read them again to the last byte.
        """
        seqs = []
        for path in self._store.full_paths():
            if path in self._bad:
                continue
            try:
                seqs.append(self._seq_of(path, whole))
            except (SnapshotError, OSError) as problem:
                self._bad.add(path)
                log.warning("snapshot skipped", extra={"path": str(path), "reason": str(problem)})
        return seqs[FULL_KEPT - 1] if len(seqs) >= FULL_KEPT else 0

    def _seq_of(self, path: Path, whole: bool) -> int:
        with mapped(path) as content:
            return check(content, self._journal) if whole else seq_of(content[:HEADER_BYTES])

    def _sync_what_follows(self, number: int) -> None:
        """Have what the snapshots go on from on the disk: behind them the journal may still be in memory only."""
        for kept, _, _, _ in self._journal.segments():
            if kept > number:
                sync(self._folder / f"{kept:08d}.rwj")
