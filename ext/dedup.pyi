from ext.base import Base
from ext.journal import Journal

class Dedup:
    trades_max: int
    trades: int
    forgotten: int
    horizon: int
    def __init__(self, journal: Journal, trades_max: int = ..., expected: int = ...) -> None: ...
    def let_go(self, base: Base) -> None: ...
    @property
    def slot_bytes(self) -> int: ...
