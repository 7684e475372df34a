"""What is the same for every source of a feed: a reader of records, and the file under it."""

from __future__ import annotations

from ext.recordreader import RecordReader
from feeds.inputs import Input, is_plain

LINES, RECORDS, BYTES = 0, 1, 2


class Source:
    """One file being read into the frames of a feed.

    ``unit``: what positions in it count: lines, records or bytes. A format makes ``reader``, then calls ``named``.
    """

    unit = LINES
    reader: RecordReader

    def __init__(self, name: str, source: Input) -> None:
        self.name = name
        self._input = source

    def named(self) -> None:
        """Tell the reader what dead letters call this source."""
        self.reader.named(self.name.encode("utf-8", "surrogateescape"), self.unit)

    @property
    def records_read(self) -> int:
        """Data records so far, bad ones included."""
        return self.reader.records_read

    @property
    def bytes_read(self) -> int:
        """Bytes of the file so far, as it lies on the disk; of a compressed one what was read ahead is in it."""
        return self._input.position - (self.reader.unread_bytes if is_plain(self._input) else 0)

    @property
    def bytes_total(self) -> int | None:
        """Bytes of the whole file; None for a pipe."""
        return self._input.total

    def close(self) -> None:
        """Release the file."""
        self._input.close()
