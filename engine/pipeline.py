"""What turns published frames into positions and alerts: sink, broker and risk consumer, as threads of one process."""

from __future__ import annotations

import os
import secrets
import tempfile
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import zmq

from engine.broker import Broker, BrokerSettings
from engine.config import EngineConfig
from engine.consumer import SILENCE_S, RiskConsumer
from engine.endpoints import endpoint
from engine.errors import ConfigError
from engine.events import Event, InstrumentDefined, PositionAdjusted
from engine.sink import Sink
from ext.dedup import Dedup
from ext.encoder import EncodeError, EventEncoder
from ext.journal import Journal
from ext.records import REASONS, keep_freed_memory
from ext.risk import RiskCore
from ext.sequencer import Source

OWN_SOURCE: Final = "riskwire"
FIRST_FRAME_RECORDS: Final = 1024
DEAD_LETTERS_NAME: Final = "dead-letters.db"


def default_dead_letters(journal: str | Path | None) -> Path:
    """Return where dead letters go when nobody says: beside the journal, else a new temporary file."""
    if journal is not None:
        os.makedirs(journal, exist_ok=True)
        return Path(journal) / DEAD_LETTERS_NAME
    fd, path = tempfile.mkstemp(prefix="riskwire-dead-letters-", suffix=".db")
    os.close(fd)
    return Path(path)


class Pipeline:
    """Sink, broker and risk consumer under one base: what turns published frames into positions and alerts.

    base: where others reach them; among themselves they meet over inproc, unless `shortcut` is off.
    journal: open for writing; it stays the caller's. dead_letters: the sink's file.
    announce: publish alerts and kills. nodrop: a full subscriber holds the broker back instead of losing frames (for
    consumers of this process). frames_ahead: that may wait for a subscriber, where it is not the config that says so;
    what waits is memory touched. check_crc: of published frames; False only where all publishers are of
    this process and seal none; seals: see BrokerSettings. expected_events: about how many will come, where it is known;
    dedup: made for them before. count_after: refusals in the sequence at or below this seq belong to an earlier run.
    core: a RiskCore that is prepared already, or is being prepared while the broker takes up the journal.
    on_kills: see RiskConsumer.
    Raises SinkError where the dead-letter file cannot be used, JournalError where the journal cannot be taken up.
    """

    def __init__(
        self,
        base: str,
        journal: Journal,
        *,
        dead_letters: str | Path,
        config: EngineConfig | None = None,
        announce: bool = True,
        nodrop: bool = False,
        frames_ahead: int = 0,
        shortcut: bool = True,
        check_crc: bool = True,
        seals: bool = True,
        expected_events: int = 0,
        dedup: Dedup | None = None,
        count_after: int = 0,
        context: zmq.Context[Any] | None = None,
        core: RiskCore | Future[RiskCore] | None = None,
        on_kills: Callable[[Sequence[tuple[int, str, str]]], None] | None = None,
    ) -> None:
        config = config or EngineConfig()
        events_hwm = frames_ahead or config.events_hwm
        keep_freed_memory()
        self.base, self.journal = base, journal
        self.dead_letters = Path(dead_letters)
        self.context: zmq.Context[Any] = context or zmq.Context()
        self._own_context = context is None
        self.own_base = f"inproc://{uuid.uuid4().hex}" if shortcut else base
        bases = (base,) if base == self.own_base else (base, self.own_base)
        roles = {role: [endpoint(at, role) for at in bases] for role in ("publish", "events", "replay", "sink")}
        own_sink = endpoint(self.own_base, "sink")
        self.sink = Sink(self.context, roles["sink"], self.dead_letters)
        self.broker = Broker(
            journal,
            BrokerSettings(
                publish=roles["publish"],
                events=roles["events"],
                replay=roles["replay"],
                sink=own_sink,
                names_max=config.max_names,
                dedup_max_trades=config.dedup_max_trades,
                dedup_expected=expected_events or config.expected_trades,
                window_frames=config.publisher_window_frames,
                events_hwm=events_hwm,
                nodrop=nodrop,
                check_crc=check_crc,
                seals=seals,
                heartbeat_ns=config.heartbeat_every_ns,
            ),
            self.context,
            dedup=dedup,
        )
        self.consumer = RiskConsumer(
            self.context,
            self.own_base,
            core=core.result() if isinstance(core, Future) else core,
            journal=journal if config.retains_all else None,
            sink=own_sink,
            announce=announce,
            announce_base=base,
            on_kills=on_kills,
            count_after=count_after,
            events_hwm=events_hwm,
            alerts_hwm=config.alerts_hwm,
            heartbeat_s=config.heartbeat_every_ns / 1e9,
            silence_s=max(SILENCE_S, 4 * config.heartbeat_every_ns / 1e9),
        )

    def start(self, first: Sequence[Event] = ()) -> int:
        """Number the first events, then start the sink, the broker and the consumer; return the last seq before others.

        first: what is numbered before anybody can publish; from files, so what the door refuses is an error.
        Raises ConfigError for that, EndpointError where an endpoint cannot be bound; nothing runs then.
        """
        try:
            self._sequence_first(first)
            last_seq = self.journal.last_seq
            for part in (self.sink, self.broker, self.consumer):
                part.start()
        except BaseException:
            self.stop()
            raise
        return last_seq

    def stop(self) -> None:
        """Stop what was started, in an order that lets every dead letter reach the sink."""
        for stop in (self.consumer.stop, self.broker.stop, self.sink.stop):
            stop()
        if self._own_context:
            self.context.term()

    def _sequence_first(self, events: Sequence[Event]) -> None:
        source = Source(OWN_SOURCE, secrets.randbits(63) | 1)
        encoder = EventEncoder()
        for start in range(0, len(events), FIRST_FRAME_RECORDS):
            part = events[start : start + FIRST_FRAME_RECORDS]
            for event in part:
                try:
                    encoder.add(event)
                except EncodeError as problem:
                    raise ConfigError(f"{describe(event)}: {problem}") from None
            frame = encoder.finish(source.taken + 1, source.incarnation)
            _, _, refused = self.broker.sequencer.process_frame(frame, source)
            for index, reason, text in refused:
                raise ConfigError(f"{describe(part[index])}: {REASONS[reason]}{': ' if text else ''}{text}")

    @property
    def error(self) -> str:
        """Why the pipeline can go no further, in one line; empty while all is well."""
        if self.broker.failure is not None:
            return f"the broker failed: {self.broker.failure}"
        return self.consumer.error


def describe(event: Event) -> str:
    """Return an event in a few words, for an error about the file it came from."""
    if isinstance(event, InstrumentDefined):
        return f"instrument {event.symbol}"
    if isinstance(event, PositionAdjusted):
        return f"opening position of {event.account} in {event.symbol}"
    return type(event).__name__
