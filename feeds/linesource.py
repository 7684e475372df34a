"""A source of records whose lines are decoded one by one in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ext.feedwriter import FeedWriter
from ext.records import REASONS
from feeds.inputs import Input
from feeds.lines import LINE_BYTES_MAX, LONG_LINE_RAW_BYTES, Lines
from feeds.reading import Reading

FRAME_BYTES_ENOUGH = 1_048_576
LINE_DONE = object()
UNDECODABLE, INVALID = REASONS.index("undecodable"), REASONS.index("invalid")


class Refused(Exception):
    """A line that cannot become a record; ``reason`` is a number of ext.records.REASONS."""

    def __init__(self, reason: int, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LineSource:
    """Lines into records: blank lines apart, each one becomes records, or one refusal with its bytes.

    A format says ``is_record`` (may a line be one?), ``time_of`` (its time in ns, for merging) and ``add_line``.
    """

    unit = 0

    def __init__(
        self,
        source: Input,
        writer: FeedWriter,
        name: str,
        reading: Reading | None = None,
    ) -> None:
        self.name = name
        self.records_read = 0
        self.reading = reading or Reading()
        self.account = self.reading.account_name
        self.writer = writer
        self.id_prefix = b""
        self._set_rules()
        self._input = source
        self._lines = Lines(source)
        self._pending: bytes | None = None
        self._more: Iterator[None] | None = None
        self._raw = b""
        self._finished = False

    def _set_rules(self) -> None:
        """Rules of rows that say their side, and of rows that do not."""
        prefix = (self.id_prefix or bytes(16)) if self.reading.as_marks else None
        self.rules = self.reading.without_side().rules(id_prefix=prefix)
        self.sided = self.reading.rules(id_prefix=prefix) if self.reading.side else self.rules

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

    @property
    def bytes_read(self) -> int:
        return self._input.position

    @property
    def bytes_total(self) -> int | None:
        return self._input.total

    def close(self) -> None:
        self._input.close()

    def made_id(self) -> bytes:
        """The id of the record in hand where it has none of its own."""
        return self.id_prefix + b"#%d" % self.records_read

    def _peek(self) -> bytes | None:
        """The next line that is a record, not taken; None at the end."""
        while self._pending is None:
            line = self._lines.next()
            if line is None:
                return None
            if line and (self._lines.cut or self.is_record(line)):
                self._pending = line
                if not self.id_prefix:
                    self.id_prefix = hashlib.sha256(line).hexdigest()[:16].encode()
                    if self.reading.as_marks:
                        self._set_rules()
        return self._pending

    def head(self) -> tuple[bool, int | None]:
        if self._more is not None:
            return True, self.time_of(self._raw)
        raw = self._peek()
        if raw is None:
            return self._lines.damage is not None and not self._finished, None
        return True, self.time_of(raw)

    def fill(self, records_max: int, limit: int | None = None) -> bool:
        builder = self.writer.builder
        while len(builder) < records_max and builder.size_bytes < FRAME_BYTES_ENOUGH:
            if self._more is not None:
                self._add_more(self._more)
                continue
            if self._pending is None and len(builder) and self._lines.would_wait:
                return True
            raw = self._peek()
            if raw is None:
                self._finish()
                return False
            if limit is not None:
                time = self.time_of(raw)
                if time is not None and time > limit:
                    return True
            self._pending = None
            self._add(raw)
        return True

    def _finish(self) -> None:
        if not self._finished and self._lines.damage is not None:
            self.records_read += 1
            self.writer.add_rejected(UNDECODABLE, self._lines.damage)
            self.writer.builder.origin(self._lines.number + 1, self._lines.rest)
        self._finished = True

    def _add(self, raw: bytes) -> None:
        self.records_read += 1
        before = len(self.writer)
        try:
            if self._lines.cut:
                raise Refused(
                    UNDECODABLE,
                    f"found a line above {LINE_BYTES_MAX} bytes, expected a shorter one"
                    f" (its first {LONG_LINE_RAW_BYTES} are kept)",
                )
            self._more = self.add_line(raw)
        except Refused as refused:
            self.writer.add_rejected(refused.reason, str(refused))
        if self._more is not None:
            self._raw = raw
            self.records_read -= 1
        elif len(self.writer) > before:
            self.writer.builder.origin(self._lines.number, raw)

    def _add_more(self, more: Iterator[None]) -> None:
        """One more record of the line in hand; the writer's filter may leave it out."""
        before = len(self.writer)
        if next(more, LINE_DONE) is LINE_DONE:
            self._more = None
            return
        self.records_read += 1
        if len(self.writer) > before:
            self.writer.builder.origin(self._lines.number, self._raw)
