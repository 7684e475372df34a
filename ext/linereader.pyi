from collections.abc import Iterator
from typing import Final, Protocol

from ext.bytewindow import Readable
from ext.feedwriter import FeedWriter, RowRules
from ext.recordreader import WindowReader

MAX_LINE_BYTES: Final[int]
LONG_LINE_KEPT_BYTES: Final[int]

class SlowLines(Protocol):
    """Judges and adds the lines that are not plain, given without their ends."""

    def is_record(self, raw: bytes, /) -> bool: ...
    def begin(self, raw: bytes, /) -> None:
        """Give the reader its rules, of which made ids begin by the first record's line."""

    def time_of(self, raw: bytes, /) -> int | None: ...
    def add(self, raw: bytes, cut: bool, /) -> Iterator[None] | None:
        """Add the line's record or its refusal; of several: what adds one more at each step."""

class LineReader(WindowReader):
    line: int
    cut: bool
    def __init__(self, source: Readable, writer: FeedWriter, slow: SlowLines) -> None: ...
    def begin(self, rules: RowRules, sided: RowRules, id_prefix: bytes) -> None: ...
