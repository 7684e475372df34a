class RowFilter:
    def __init__(
        self,
        *,
        from_ns: int | None = None,
        to_ns: int | None = None,
        symbols: list[str] | None = None,
        accounts: list[str] | None = None,
    ) -> None: ...
    def keeps_event(self, symbol: bytes | None, account: bytes | None, time_ns: int | None) -> bool: ...
