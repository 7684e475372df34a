from collections.abc import Callable
from typing import Any, Final

from ext.dedup import Dedup
from ext.definitions import Instruments, NameTable
from ext.journal import Journal

DETAILS: Final[dict[int, str]]

class Source:
    name: str
    def __init__(self, name: str, incarnation: int) -> None: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def taken(self) -> int: ...
    @property
    def counts(self) -> tuple[int, int, int]: ...
    def local_name(self, kind: int, id: int) -> str: ...

class Sequencer:
    journal: Journal
    dedup: Dedup
    instruments: Instruments
    names: tuple[NameTable, ...]
    names_max: int
    ids_max: int
    messages: dict[int, str]
    accepted: int
    duplicates: int
    next_seq: int
    def __init__(
        self,
        journal: Journal,
        *,
        names_max: int = ...,
        dedup_max_trades: int = ...,
        dedup_expected: int = ...,
        dedup_code_bits: int = ...,
        dedup: Dedup | None = None,
        seals: bool = ...,
        check_limits: Callable[[bytes], bytes] | None = None,
    ) -> None: ...
    def process_frame(
        self, frame: Any, source: Source, skip: int = 0
    ) -> tuple[int, int, list[tuple[int, int, str]]]: ...
    def refused_list(self) -> list[tuple[int, int, str]]: ...
    @property
    def last_seq(self) -> int: ...
