"""A source of records that lie one a line: the plain lines are read in the core, the others decoded here."""

from __future__ import annotations

from collections.abc import Iterator

from ext.feedwriter import FeedWriter
from ext.linereader import LONG_LINE_KEPT_BYTES, MAX_LINE_BYTES, LineReader
from ext.records import REASONS
from feeds.inputs import Input
from feeds.reading import Reading, id_prefix
from feeds.source import Source

UNDECODABLE, INVALID = REASONS.index("undecodable"), REASONS.index("invalid")


class Refused(Exception):
    """A line that cannot become a record; ``reason`` is a number of ext.records.REASONS."""

    def __init__(self, reason: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LineSource(Source):
    """Lines into records: blank lines apart, each one becomes records, or one refusal with its bytes.

    A format says how its reader is made (`_reader`), and of a line that is not plain: ``is_record`` (may it be one?),
    ``time_of`` (its time in ns, for merging) and ``add_line``. All of these take a line without its end.
    """

    def __init__(self, source: Input, writer: FeedWriter, name: str, reading: Reading | None = None) -> None:
        super().__init__(name, source)
        self.reading = reading or Reading()
        self.account = self.reading.account_name
        self.writer = writer
        self.id_prefix = b""
        self.reader: LineReader = self._reader(source)

    def _reader(self, source: Input) -> LineReader:
        return LineReader(source, self.writer, self)

    def begin(self, raw: bytes) -> None:
        """Make the rules: of rows that say their side, and of rows that do not."""
        self.id_prefix = id_prefix(raw)
        prefix = self.id_prefix if self.reading.as_marks else None
        self.rules = self.reading.without_side().rules(id_prefix=prefix)
        self.sided = self.reading.rules(id_prefix=prefix) if self.reading.side else self.rules
        self.reader.begin(self.rules, self.sided, self.id_prefix)

    def is_record(self, raw: bytes) -> bool:
        """Whether a line is a data record; others are passed over."""
        return True

    def time_of(self, raw: bytes) -> int | None:
        """The time of a record's line, in ns; None where it has none."""
        raise NotImplementedError

    def add_line(self, raw: bytes) -> Iterator[None] | None:
        """Add a line's record to ``writer``; a line of several returns what adds one more at each step.

        Raises Refused, having added nothing.
        """
        raise NotImplementedError

    def add(self, raw: bytes, cut: bool) -> Iterator[None] | None:
        """Add a line's record, or its refusal; ``cut``: only its first bytes are here. Returns as `add_line` does."""
        try:
            if cut:
                raise Refused(
                    UNDECODABLE,
                    f"found a line above {MAX_LINE_BYTES} bytes, expected a shorter one"
                    f" (its first {LONG_LINE_KEPT_BYTES} are kept)",
                )
            return self.add_line(raw)
        except Refused as refused:
            self.writer.add_rejected(refused.reason, str(refused))
            return None

    @property
    def number(self) -> int:
        """Of the record in hand, from 1."""
        return self.reader.records_read

    def made_id(self) -> bytes:
        """The id of the record in hand where it has none of its own."""
        return self.id_prefix + b"#%d" % self.number
