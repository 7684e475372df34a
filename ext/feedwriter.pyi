from typing import Final

from ext.feedfilter import RowFilter
from ext.records import FrameBuilder

FIELD_NAMES: Final[tuple[str, ...]]
FIELD_GUARD_NUMBER: Final[int]
SIDE_RULES: Final[dict[str | None, int]]
SIDE_TEXTS: Final[dict[str, int]]

class RowRules:
    side_rule: int
    as_marks: bool
    def __init__(
        self,
        *,
        side: str | None = None,
        account: str = "default",
        id_prefix: bytes | None = None,
        side_texts: dict[str, int] | None = None,
        price_shift: int = 0,
        time_base_ns: int = 0,
        time_unit_ns: int = 0,
        as_marks: bool = False,
        spread: int = 0,
        seed: int = 0,
        keep: tuple[str, ...] = (),
    ) -> None: ...

class FeedWriter:
    builder: FrameBuilder
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def add_source(self, name: bytes, unit: int) -> int: ...
    def add_trade(self, rules: RowRules, fields: tuple[bytes | None, ...], number: int) -> None: ...
    def add_rejected(self, reason: int, error: str) -> None: ...
    def name(self, kind: int, text: bytes) -> int: ...
    def filter_rows(self, row_filter: RowFilter) -> None: ...
    def keeps(self, symbol: bytes | None, account: bytes | None, time_ns: int | None) -> bool: ...
    def take(self, sealed: bool = True) -> bytearray | None: ...
