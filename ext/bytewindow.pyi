from typing import Protocol

class Readable(Protocol):
    def readinto(self, buffer: memoryview, /) -> int: ...

class ByteWindow:
    damage: str | None
    base: int
    at_end: bool
    drained: bool
    def __init__(self, source: Readable) -> None: ...
    def read(self, size: int) -> bytes: ...
