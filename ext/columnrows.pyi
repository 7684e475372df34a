from typing import Final

from ext.feedwriter import FeedWriter, RowRules

KINDS: Final[dict[str, int]]

_Texts = tuple[int, int, int, int, int, int]
_Column = tuple[int, int, int, int, int, int, int, _Texts | None]

class ColumnReader:
    records_read: int
    def __init__(self, writer: FeedWriter, rules: RowRules, constants: dict[int, bytes]) -> None: ...
    def load(self, batch: object, row_count: int, columns: list[_Column]) -> None: ...
    def head(self) -> tuple[bool, int | None]: ...
    def fill(self, records_max: int, limit: int | None = None) -> int: ...
    @property
    def last_row(self) -> int: ...
