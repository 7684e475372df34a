from collections.abc import Callable
from typing import Any

import zmq

from ext.sequencer import Sequencer, Source

class BrokerLoop:
    sequencer: Sequencer
    source_count: int
    sources_max: int
    stalled: bool
    failure: BaseException | None
    credit: int
    published: int
    frames_in: int
    accepted: int
    duplicates: int
    refused: int
    malformed: int
    resent: int
    naks: int
    def __init__(
        self,
        sequencer: Sequencer,
        *,
        on_refused: Callable[[bytes, Source, int, list[tuple[int, int, str]]], int],
        on_malformed: Callable[[int, str, bytes], None],
        on_trouble: Callable[[str], None],
        on_plain: Callable[[bytes], tuple[bytes, int]] | None = None,
        sink_client: Any = None,
        credit: int = ...,
        heartbeat_ns: int = ...,
        sources_max: int = ...,
        check_crc: bool = ...,
    ) -> None: ...
    def run(
        self,
        publish: zmq.Socket[bytes],
        events: zmq.Socket[bytes],
        control: zmq.Socket[bytes],
    ) -> None: ...
    def call(self, function: Callable[[], object]) -> None: ...
    @property
    def sources_seen(self) -> list[tuple[str, int, int, int, int, int]]: ...
    @property
    def unconfirmed_batches(self) -> int: ...

class ReplayLoop:
    fetches: int
    malformed: int
    def __init__(self, broker: BrokerLoop) -> None: ...
    def run(self, replay: zmq.Socket[bytes], control: zmq.Socket[bytes]) -> None: ...
