from ext.journal import Journal

class Dedup:
    trades_max: int
    trades: int
    forgotten: int
    def __init__(self, journal: Journal, trades_max: int = ..., expected: int = ...) -> None: ...
    @property
    def slot_bytes(self) -> int: ...
