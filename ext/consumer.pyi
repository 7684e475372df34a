from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from ext.journal import Journal
from ext.risk import RiskCore

STATES: Final[tuple[str, ...]]
HALTS: Final[dict[int, str]]

class ConsumerLoop:
    core: RiskCore
    ticking: bool
    state: int
    halted_for: int
    told_seq: int
    epoch: int
    last_seq: int
    sent_no: int
    gaps: int
    frames: int
    damaged: int
    resets: int
    silent: bool
    def __init__(
        self,
        core: RiskCore,
        topics: Mapping[tuple[int, int], bytes],
        on_refused: Callable[[bytes, Sequence[tuple[int, int]]], None],
        on_kill: Callable[[bytes], Iterable[tuple[bytes, bytes]]] | None = None,
        on_stop: Callable[[], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        on_reset: Callable[[], RiskCore] | None = None,
        on_silence: Callable[[bool], None] | None = None,
        on_removed: Callable[[int], RiskCore | None] | None = None,
        journal: Journal | None = None,
        check_crc: bool = True,
        heartbeat_ns: int = 200_000_000,
        retry_ns: int = 500_000_000,
        silence_ns: int = 2_000_000_000,
    ) -> None: ...
    def set_topic(self, severity: int, kind: int, topic: bytes) -> None: ...
    def run(self, events: Any, replay: Any, alerts: Any, wake_fd: int) -> None: ...
    def call(self, function: Callable[[], None]) -> None: ...
    def stop(self) -> None: ...
    def wake_at(self, seq: int, on_applied: Callable[[], None] | None) -> None: ...
    @property
    def state_name(self) -> str: ...

def preset_limits(core: RiskCore, source: bytes) -> None: ...
def frames_with(journal: Journal, types: Iterable[int]) -> list[int]: ...
