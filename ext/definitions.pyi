DEFAULT_PRICE_EXPONENT: int
DEFAULT_QUANTITY_EXPONENT: int

class NameTable:
    count: int
    def add(self, text: bytes) -> int: ...
    def get(self, text: bytes) -> int | None: ...
    def __getitem__(self, id: int) -> bytes: ...
    def __len__(self) -> int: ...

class Instruments:
    currencies: NameTable
    def add(
        self,
        symbol: bytes,
        *,
        multiplier: int = 1,
        multiplier_exponent: int = 0,
        currency: bytes = b"",
        price_exponent: int = -9,
        quantity_exponent: int = -8,
    ) -> None: ...
    def get(self, symbol: bytes) -> tuple[int, int, bytes, int, int]: ...

def glob_matches(pattern: bytes, text: bytes) -> bool: ...
