"""A feed: one or several sources of records as a single stream of frames."""

from __future__ import annotations

import struct
from types import TracebackType
from typing import Protocol

from ext.feedwriter import FeedWriter

FRAME_RECORDS_MAX = 8192
COUNT_OFFSET = 8  # of FrameHeader.record_count
INT64_MIN = -(2**63)


class Source(Protocol):
    """One file being read into the frames of a shared FeedWriter."""

    name: str
    unit: int
    """What positions count: 0 physical lines, 1 records, 2 bytes."""

    @property
    def records_read(self) -> int: ...
    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_total(self) -> int | None: ...

    def head(self) -> tuple[bool, int | None]:
        """The next record's time: (True, ns), (True, None) where it has none, (False, None) at the end."""

    def fill(self, records_max: int, limit: int | None = None) -> bool:
        """Add records until the frame has ``records_max`` or one is later than ``limit`` (ns); False at the end."""

    def close(self) -> None: ...


class Feed:
    """Frames of records from recorded sources, in file order; several sources are merged by the times of their heads.

    A context manager; ``close`` releases the files. Not for several threads at once.
    """

    def __init__(self, sources: list[Source], writer: FeedWriter, max_records: int | None = None) -> None:
        self._sources = sources
        self._open = list(sources)
        self._heads: list[int | None] | None = None
        self._writer = writer
        self._current: Source | None = None
        self._left = max_records

    @property
    def records_read(self) -> int:
        """Data records so far, bad ones included."""
        return sum(source.records_read for source in self._sources)

    @property
    def bytes_read(self) -> int:
        """Bytes of the files so far, as they lie on the disk (compressed ones: compressed)."""
        return sum(source.bytes_read for source in self._sources)

    @property
    def bytes_total(self) -> int | None:
        """Bytes of all files together; None where one is a pipe."""
        totals = [source.bytes_total for source in self._sources]
        known = [total for total in totals if total is not None]
        return sum(known) if len(known) == len(totals) else None

    @property
    def names(self) -> list[str]:
        """The sources' names, as dead letters show them."""
        return [source.name for source in self._sources]

    def next_frame(self, max_records: int = 512) -> bytearray | None:
        """Read on: an unsequenced frame of 1 to ``max_records`` (at most 8192) records, or None at the end.

        Names are numbered by the feed from 1 per kind, and defined in the frame that first uses them or earlier.
        Each record has its origin: its position in its file, and its raw bytes without line end.
        """
        if not 1 <= max_records <= FRAME_RECORDS_MAX:
            raise ValueError(f"max_records is 1 to {FRAME_RECORDS_MAX}, not {max_records}")
        if self._left is not None:
            max_records = min(max_records, self._left)
            if max_records == 0:
                return None
        frame = self._next_merged(max_records) if len(self._sources) > 1 else self._next_of_one(max_records)
        if self._left is not None and frame is not None:
            self._left -= record_count(frame)
        return frame

    def _next_of_one(self, max_records: int) -> bytearray | None:
        """Read on until something is left by the filter, or the source ends."""
        while True:
            more = self._fill(self._sources[0], max_records, None)
            frame = self._writer.take()
            if frame is not None or not more:
                return frame

    def _fill(self, source: Source, max_records: int, limit: int | None) -> bool:
        if source is not self._current:
            self._current = source
            self._writer.set_source(source.name.encode("utf-8", "surrogateescape"), source.unit)
        return source.fill(max_records, limit)

    def _next_merged(self, max_records: int) -> bytearray | None:
        """One run of records from the source whose head is first: a frame holds records of one file."""
        while True:
            self._look_ahead()
            if not self._open:
                return None
            assert self._heads is not None
            chosen, limit = choose_head(self._heads)
            source = self._open[chosen]
            self._fill(source, max_records, limit)
            there, self._heads[chosen] = source.head()
            if not there:
                del self._open[chosen], self._heads[chosen]
            frame = self._writer.take()
            if frame is not None:
                return frame

    def _look_ahead(self) -> None:
        """Before the first frame: the times of all heads, without the sources that are empty."""
        if self._heads is not None:
            return
        heads = [source.head() for source in self._open]
        self._open = [source for source, (there, _) in zip(self._open, heads, strict=True) if there]
        self._heads = [time for there, time in heads if there]

    def close(self) -> None:
        """Release the files; safe to call twice."""
        for source in self._sources:
            source.close()

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def record_count(frame: bytearray) -> int:
    """Records of a frame that the writer just built."""
    count: int = struct.unpack_from("<I", frame, COUNT_OFFSET)[0]
    return count


def choose_head(heads: list[int | None]) -> tuple[int, int | None]:
    """The index of the head to take (one without a time at once, else the earliest, ties in order), and the latest
    time (ns) up to which its source may go on before another's head is due (None: for ever)."""
    timed = [(time, index) for index, time in enumerate(heads) if time is not None]
    if len(timed) < len(heads):
        chosen = heads.index(None)
        if len(heads) - len(timed) > 1:
            return chosen, INT64_MIN
    else:
        chosen = min(timed)[1]
    others = [(time, index) for time, index in timed if index != chosen]
    if not others:
        return chosen, None
    time, index = min(others)
    return chosen, time if chosen < index else max(time - 1, INT64_MIN)
