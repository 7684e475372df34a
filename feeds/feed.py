"""A feed: one or several sources of records as a single stream of frames."""

from __future__ import annotations

from types import TracebackType

from ext.feedwriter import FeedWriter
from ext.recordreader import Merge
from ext.records import MAX_FRAME_RECORDS
from feeds.source import Source


class Feed:
    """Frames of records from recorded sources, in file order; several sources are merged by the times of their heads.

    A context manager; ``close`` releases the files. Not for several threads at once.
    """

    def __init__(self, sources: list[Source], writer: FeedWriter, max_records: int | None = None) -> None:
        self._sources = sources
        for source in sources:
            source.named()
        self._merge = Merge([source.reader for source in sources], writer)
        self._writer = writer
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

    def next_frame(self, max_records: int = 512, sealed: bool = True) -> bytearray | None:
        """Read on: an unsequenced frame of 1 to ``max_records`` (at most 8192) records, or None at the end.

        Names are numbered by the feed from 1 per kind, and defined in the frame that first uses them or earlier.
        Each record has its origin: its position in its file, and its raw bytes without line end. ``sealed``: with its
        CRC, which a publisher makes anew when it stamps the frame.
        """
        if not 1 <= max_records <= MAX_FRAME_RECORDS:
            raise ValueError(f"max_records is 1 to {MAX_FRAME_RECORDS}, not {max_records}")
        if self._left is not None:
            max_records = min(max_records, self._left)
            if max_records == 0:
                return None
        more = True
        while more and not len(self._writer):
            more = self._merge.fill(max_records)
        if self._left is not None:
            self._left -= len(self._writer)
        return self._writer.take(sealed)

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
