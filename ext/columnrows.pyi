from typing import Final, Protocol

from ext.feedwriter import FeedWriter, RowRules
from ext.recordreader import RecordReader

KINDS: Final[dict[str, int]]

_Texts = tuple[int, int, int, int, int, int]
_Column = tuple[int, int, int, int, int, int, int, _Texts | None]

class Table(Protocol):
    damage: str | None
    def next_batch(self) -> bool: ...
    def row_text(self, index: int, /) -> bytes: ...

class ColumnReader(RecordReader):
    def __init__(self, table: Table, writer: FeedWriter, rules: RowRules, constants: dict[int, bytes]) -> None: ...
    def load(self, batch: object, row_count: int, columns: list[_Column]) -> None: ...
