"""What a queue has done, by seq: a window of bits in memory, and an append-only log of it beside the journal.

The journal has the jobs; the log has only what became of them, so that after a crash what was not acked is handed
out again. It is not synced: an ack that a power cut takes brings the job again, which at-least-once allows.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import JournalError

MAGIC = b"RWQACKS1"
ENTRY = struct.Struct("<QQII")  # first seq, last seq, kind, CRC-32 of what is before it
DONE, DEAD, REVIVED, DONE_AGAIN, SKIPPING = 1, 2, 3, 4, 5
COMPACT_BYTES = 8 << 20
WINDOW_START = 4096
CHECKPOINT_SEQS = 65_536  # so many seqs at most are looked at again after a crash though nothing was left of them


class AckedSet:
    """The seqs that are done: all up to `through`, and a window of bits above it (a byte each while open)."""

    def __init__(self) -> None:
        self.through = 0
        self._bits: npt.NDArray[np.bool_] = np.zeros(WINDOW_START, np.bool_)
        self._top = 0  # bits used: the highest seq marked is through + _top

    def add(self, first: int, last: int) -> None:
        """Mark seqs from first to last; what is marked already stays so."""
        low, high = max(first - self.through, 1), last - self.through
        if high < low:
            return
        if low == 1 and not self._top:  # in order, the common case
            self.through = last
            return
        self._reserve(high)
        self._bits[low - 1 : high] = True
        self._top = max(self._top, high)
        if self._bits[0]:
            self._advance()

    def _reserve(self, size: int) -> None:
        if size > len(self._bits):
            grown = np.zeros(max(size, 2 * len(self._bits)), np.bool_)
            grown[: self._top] = self._bits[: self._top]
            self._bits = grown

    def _advance(self) -> None:
        used = self._bits[: self._top]
        gap = int(used.argmin())  # the first False; stops there
        count = self._top if used[gap] else gap
        rest = self._top - count
        self._bits[:rest] = self._bits[count : self._top].copy()
        self._bits[rest : self._top] = False
        self.through += count
        self._top = rest

    def mask(self, first: int, count: int) -> npt.NDArray[np.bool_]:
        """Return for each of count seqs from first whether it is marked."""
        result = np.zeros(count, np.bool_)
        below = min(max(self.through - first + 1, 0), count)
        result[:below] = True
        start = first + below - self.through - 1
        if start < self._top:
            known = self._bits[start : min(start + count - below, self._top)]
            result[below : below + len(known)] = known
        return result

    def ranges(self) -> list[tuple[int, int]]:
        """Return what is marked as (first, last), in order."""
        result = [(1, self.through)] if self.through else []
        edges = np.flatnonzero(np.diff(self._bits[: self._top].astype(np.int8), prepend=0, append=0))
        for start, end in edges.reshape(-1, 2).tolist():
            result.append((self.through + 1 + start, self.through + end))
        return result

    @property
    def window(self) -> int:
        """Return how many seqs above `through` the window spans."""
        return self._top


class AckLog:
    """The log of one queue; without a path it remembers nothing over a restart.

    path: `queue-<name>.acks` beside the journal, made where missing. last_seq: of the journal when it was opened;
    what the log says beyond it (a power cut took the journal's tail) is forgotten. None: believe all.
    Raises JournalError where the file is another's or cannot be written.
    """

    def __init__(self, path: Path | None, last_seq: int | None = None) -> None:
        self.path = path
        self.acked = AckedSet()
        self.dead: set[int] = set()  # in the sink; marked like done, so that they are not handed out
        self.skipping: set[int] = set()  # dead, and to be left for good once the letter of that is safe
        self.revived: set[int] = set()  # were dead, marked like done, and are to be handed out all the same
        self._pending: list[tuple[int, int, int]] = []
        self._fd = -1
        self._bytes = 0
        self._checkpoint = 0  # all up to here is in the log, other events than jobs included
        if path is not None:
            self._open(path, last_seq)

    def _open(self, path: Path, last_seq: int | None) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            data = path.read_bytes()
        except OSError as problem:
            raise JournalError(
                f"{path}: the queue's log cannot be opened: {problem.strerror}; check its rights"
            ) from None
        if data and not data.startswith(MAGIC[: len(data)]):
            self.close()
            raise JournalError(f"{path}: not a queue's log (found {data[:8]!r}); move it away")
        self._replay(data, last_seq)
        self._rewrite()

    def _replay(self, data: bytes, last_seq: int | None) -> None:
        top = 2**63 if last_seq is None else last_seq
        for at in range(len(MAGIC), len(data) - ENTRY.size + 1, ENTRY.size):
            first, last, kind, crc = ENTRY.unpack_from(data, at)
            if crc != zlib.crc32(data[at : at + ENTRY.size - 4]):
                break  # torn by a power cut: what follows it is not known either
            if first > top:
                continue
            self._apply(first, min(last, top), kind)

    def _apply(self, first: int, last: int, kind: int) -> None:
        if kind == SKIPPING:
            self.skipping.add(first)
            return
        if kind == REVIVED:
            self.dead.discard(first)
            self.skipping.discard(first)
            self.revived.add(first)
            return
        self.acked.add(first, last)
        if kind != DONE:  # a range of what is done may span a revived job, which is acked on its own
            self.revived.discard(first)
        if kind == DEAD:
            self.dead.add(first)

    def _rewrite(self) -> None:
        """Write the state as a fresh, short log and put it in the old one's place."""
        assert self.path is not None
        entries = [_entry(first, last, DONE) for first, last in self.acked.ranges()]
        entries += [_entry(seq, seq, DEAD) for seq in sorted(self.dead)]
        entries += [_entry(seq, seq, SKIPPING) for seq in sorted(self.skipping)]
        entries += [_entry(seq, seq, REVIVED) for seq in sorted(self.revived)]
        data = MAGIC + b"".join(entries)
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
            os.close(self._fd)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        except OSError as problem:
            raise JournalError(f"{self.path}: the queue's log cannot be written: {problem.strerror}") from None
        self._bytes = len(data)
        self._checkpoint = self.acked.through

    @property
    def needed_from(self) -> int:
        """Return the lowest seq that is not done, or dead and may be sent again."""
        return min({self.acked.through + 1} | self.dead | self.skipping | self.revived)

    def add(self, first: int, last: int) -> None:
        """Note that jobs are done; one that was sent again comes on its own."""
        self._note(first, last, DONE_AGAIN if first in self.revived else DONE)

    def add_dead(self, seq: int) -> None:
        """Note that a job is dead and safe in the sink."""
        self._note(seq, seq, DEAD)

    def revive(self, seq: int) -> None:
        """Note that a dead job is to be handed out after all."""
        self._note(seq, seq, REVIVED)

    def begin_skip(self, seq: int) -> None:
        """Note that a dead job will be left for good."""
        self._note(seq, seq, SKIPPING)

    def skip(self, seq: int) -> None:
        """Note that a dead job is left for good: nothing waits for it any more."""
        self.revive(seq)
        self.add(seq, seq)

    def _note(self, first: int, last: int, kind: int) -> None:
        self._apply(first, last, kind)
        if self._fd < 0:
            return
        if self._pending and kind == DONE:
            before_first, before_last, before_kind = self._pending[-1]
            if before_kind == DONE and before_last + 1 == first:
                self._pending[-1] = (before_first, last, DONE)
                return
        self._pending.append((first, last, kind))

    def _note_through(self) -> None:
        """Note how far everything is done: events that are no jobs are not noted one by one."""
        if self._fd >= 0 and self.acked.through > self._checkpoint:
            self._pending.append((1, self.acked.through, DONE))
            self._checkpoint = self.acked.through

    def flush(self) -> None:
        """Hand what was noted to the system: from here on it survives this process."""
        if self.acked.through - self._checkpoint >= CHECKPOINT_SEQS:
            self._note_through()
        if not self._pending:
            return
        data = b"".join(_entry(*noted) for noted in self._pending)
        try:
            done = os.write(self._fd, data)
            if done != len(data):  # a disk that is nearly full took a part: cut it, or the rest cannot be read
                os.ftruncate(self._fd, self._bytes)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as problem:  # what was noted is kept and tried again
            raise JournalError(f"{self.path}: the queue's log cannot be written: {problem.strerror}") from None
        self._pending.clear()
        self._bytes += len(data)
        if self._bytes > COMPACT_BYTES and self._bytes > 8 * ENTRY.size * (self.acked.window + len(self.dead)):
            self._rewrite()

    def close(self) -> None:
        """Flush and close."""
        if self._fd >= 0:
            try:
                self._note_through()
                self.flush()
            finally:
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> AckLog:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()


def _entry(first: int, last: int, kind: int) -> bytes:
    body = ENTRY.pack(first, last, kind, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")
