"""A journal's index: where in a full segment which seqs and times lie, so that who wants a part reads only that part.

An index file is a help and no truth: one that is missing, damaged or another segment's is made again in memory from the
segment. Engines write those that are missing (docs/wire-format.md).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from engine.errors import JournalError
from engine.files import write_file
from ext.base import Base, read_base
from ext.journal import Journal
from ext.records import FRAME_ERRORS, Frame, FrameDecodeError, crc32c_of

__all__ = ["PartReader", "SegmentIndex", "Wanted", "write_missing"]

_HEADER: Final = struct.Struct("<4sIIIQQQQIIQ")
_BLOCK: Final = struct.Struct("<QQqq")
_CRC: Final = slice(8, 12)
_FRAME_HEAD: Final = struct.Struct("<4sBBHIIQQII")
_RECORD_BYTES: Final = 64
_HEADER_BYTES: Final = 64
_SEGMENT_CRC: Final = slice(60, 64)
_SEGMENT = re.compile(r"(\d{8})\.rwj")


class Wanted(msgspec.Struct, frozen=True):
    """The part that is wanted: seqs and times of numbering (ns), inclusive; None: no bound."""

    first: int = 1
    last: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None

    def overlaps(self, first_seq: int, last_seq: int, stamp_min: int, stamp_max: int) -> bool:
        """Tell whether something between these seqs and stamps may be wanted (inclusive)."""
        return (
            last_seq >= self.first
            and (self.last is None or first_seq <= self.last)
            and (self.since_ns is None or stamp_max >= self.since_ns)
            and (self.until_ns is None or stamp_min <= self.until_ns)
        )

    @property
    def is_everything(self) -> bool:
        """Tell whether there is no bound."""
        return self.first <= 1 and self.last is None and self.since_ns is None and self.until_ns is None


class Block(NamedTuple):
    """Some frames that follow each other: from an offset up to that of the next block."""

    first_seq: int
    offset: int
    stamp_min: int
    stamp_max: int


class SegmentIndex(msgspec.Struct, frozen=True):
    """What is in a segment and where. used: its bytes. definitions: offsets of the frames that define names."""

    number: int
    segment_crc32c: int
    first_seq: int
    last_seq: int
    used: int
    blocks: list[Block]
    definitions: list[int]

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return an index from its file's bytes. Raises ValueError for what is none, or damaged."""
        if len(data) < _HEADER.size:
            raise ValueError("too short")
        magic, version, crc, segment_crc, number, first, last, used, blocks, definitions, _ = _HEADER.unpack_from(data)
        if magic != b"RWI1" or version != 1:
            raise ValueError("not an index of version 1")
        if len(data) != _HEADER.size + blocks * _BLOCK.size + definitions * 8:
            raise ValueError("another size than it says")
        whole = bytearray(data)
        whole[_CRC] = bytes(4)
        if crc32c_of(whole) != crc:
            raise ValueError("its CRC-32C does not match")
        end = _HEADER.size + blocks * _BLOCK.size
        places = list(struct.unpack_from(f"<{definitions}Q", data, end))
        found = [Block(*row) for row in _BLOCK.iter_unpack(data[_HEADER.size : end])]
        return cls(number, segment_crc, first, last, used, found, places)

    def ranges(self, wanted: Wanted) -> list[tuple[int, int, bool]]:
        """Return (offset, end, whether all of it is wanted) of what is to be read, in order; the rest gives names."""
        ends = [block.offset for block in self.blocks[1:]] + [self.used]
        lasts = [block.first_seq - 1 for block in self.blocks[1:]] + [self.last_seq]
        found: list[tuple[int, int, bool]] = []
        at = 0
        for block, end, last_seq in zip(self.blocks, ends, lasts, strict=True):
            if wanted.overlaps(block.first_seq, last_seq, block.stamp_min, block.stamp_max):
                found.append((block.offset, end, True))
                continue
            at = bisect_right(self.definitions, block.offset - 1, at)
            while at < len(self.definitions) and self.definitions[at] < end:
                found.append((self.definitions[at], self.definitions[at] + 1, False))
                at += 1
        return found


def index_path(folder: Path, number: int) -> Path:
    """Return where the index of a segment lies."""
    return folder / f"{number:08d}.rwi"


def read_index(folder: Path, number: int) -> SegmentIndex | None:
    """Return the index that lies beside a full segment; None where there is none that is good and of this segment."""
    segment = folder / f"{number:08d}.rwj"
    try:
        index = SegmentIndex.decode(index_path(folder, number).read_bytes())
        with open(segment, "rb") as file:
            head = file.read(_HEADER_BYTES)
            size = os.fstat(file.fileno()).st_size
    except (ValueError, FileNotFoundError):
        return None
    crc = int.from_bytes(head[_SEGMENT_CRC], "little")
    return index if (index.number, index.segment_crc32c) == (number, crc) and index.used <= size else None


def write_missing(journal: Journal) -> int:
    """Write the indexes of full segments that have none, and remove those of segments that are gone.

    journal: open for writing, in a folder; its last segment is not full. Returns how many were written. Raises OSError.
    """
    assert journal.directory is not None
    folder, count = Path(journal.directory), 0
    numbers = [number for number, _, _, _ in journal.segments()]
    for path in folder.glob("*.rwi"):
        if path.name[:8].isdigit() and int(path.name[:8]) not in numbers[:-1]:
            path.unlink(missing_ok=True)
    for number in numbers[:-1]:
        if read_index(folder, number) is None:
            write_file(index_path(folder, number), (), [journal.segment_index(number)])
            count += 1
    return count


class PartReader:
    """Reads a part of a journal, also while an engine writes it: segments and blocks that are not wanted are passed by.

    directory: the journal's. wanted: the part. `segments_read` counts those of which more than names was read.
    What is read is checked; damage elsewhere is not seen (`riskwire journal verify` reads everything).
    """

    def __init__(self, directory: str | Path, wanted: Wanted) -> None:
        self.segments_read = 0
        self.bytes_read = 0
        self._folder, self._wanted = Path(directory), wanted
        self.base: Base | None = read_base(directory)

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order: those in which something may be wanted, and those before them that define names.

        Raises JournalError for damage, and where a segment was removed meanwhile.
        """
        numbers = self._numbers()
        for number in numbers:
            try:
                if number == numbers[-1]:
                    yield from self._last(number)
                    return
                index = read_index(self._folder, number) or self._indexed(number)
                if self._wanted.last is not None and index.first_seq > self._wanted.last:
                    return
                yield from self._part(index)
            except FileNotFoundError:
                raise JournalError(
                    f"{self._folder}: segment {number:08d}.rwj was removed while it was being read; try again"
                ) from None

    def _numbers(self) -> list[int]:
        first = self.base.first_segment if self.base is not None else 1
        found = sorted(int(match[1]) for path in os.listdir(self._folder) if (match := _SEGMENT.fullmatch(path)))
        numbers = [number for number in found if number >= first]
        for wanted, number in enumerate(numbers, first):
            if wanted != number:
                raise JournalError(
                    f"{self._folder}: segment {wanted:08d}.rwj is missing ({number:08d}.rwj comes next); "
                    "restore it from a backup"
                )
        return numbers

    def _indexed(self, number: int) -> SegmentIndex:
        with contextlib.closing(Journal(str(self._folder), readonly=True, only=(number, number))) as journal:
            return SegmentIndex.decode(journal.segment_index(number))

    def _last(self, number: int) -> Iterator[Frame]:
        """The segment that is written is read whole: it may have a torn tail."""
        self.segments_read += 1
        with contextlib.closing(Journal(str(self._folder), readonly=True, only=(number, number))) as journal:
            self.bytes_read += journal.used_bytes
            for data in journal:
                yield Frame(data, False)

    def _part(self, index: SegmentIndex) -> Iterator[Frame]:
        ranges = index.ranges(self._wanted)
        if not ranges:
            return
        self.segments_read += any(whole for _, _, whole in ranges)
        path = self._folder / f"{index.number:08d}.rwj"
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for offset, end, _ in ranges:
                while offset < end:
                    frame, size = self._frame(content, offset, path.name)
                    self.bytes_read += size
                    yield frame
                    offset += (size + 7) & ~7

    def _frame(self, content: mmap.mmap, offset: int, name: str) -> tuple[Frame, int]:
        try:
            _, _, _, _, records, definitions, _, _, heap, origins = _FRAME_HEAD.unpack_from(content, offset)
            size = _HEADER_BYTES + records * _RECORD_BYTES + definitions + heap + origins
            return Frame(content[offset : offset + size]), size
        except (FrameDecodeError, struct.error) as problem:
            what = FRAME_ERRORS.get(problem.code) if isinstance(problem, FrameDecodeError) else "it ends there"
            raise JournalError(
                f"{self._folder}: segment {name} is damaged at offset {offset}: {what}; restore the file from a backup"
            ) from None
