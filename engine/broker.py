"""The broker: the one place where events get their number.

The work is done by `ext.brokerloop.BrokerLoop`, in a thread that owns its sockets and runs without the GIL; what is
fetched again is answered in a second one. This module makes the sockets, decides what a set of limits must look like,
and turns what is refused into dead letters.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import msgspec
import zmq

from engine.codec import EventDecoder
from engine.config import parse_limits
from engine.errors import EndpointError, RiskwireError
from engine.events import DeadLetter
from engine.plain import PlainEntry
from engine.sink import SinkClient
from ext.brokerloop import BrokerLoop, ReplayLoop
from ext.dedup import Dedup
from ext.journal import Journal
from ext.records import MAX_FRAME_BYTES, REASONS, Frame
from ext.sequencer import Sequencer, Source

__all__ = ["Broker", "BrokerSettings", "BrokerStats", "SourceStats", "check_limits"]

log = logging.getLogger("riskwire.broker")

STAGE = "door"
REASON_INVALID = REASONS.index("invalid")
CALL_WAIT_S = 30.0
LINGER_MS = 2000  # so long the last acks and frames may take to leave
REPLAY_HWM = 2048  # more than one answer to a FETCH
KEPT_LETTERS_MAX = 100_000
TYPE_REJECTED = 15
BATCH_LETTERS_MAX = 1000
BATCH_BYTES_MAX = 4 << 20  # of payloads; a message to the sink has at most 32 MiB
PAYLOAD_BYTES_MAX = 16 << 20


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker is told. Endpoints may be several, to be bound all.

    publish, events, replay: where to bind. sink: where to connect for dead letters; "" keeps them in the broker.
    names_max: names of each kind. dedup_max_trades: trades remembered. dedup_expected: how many events may come soon,
    to make room for at once. window_frames: frames one publisher may have
    unacked. events_hwm: frames that wait for one slow subscriber. nodrop: a full subscriber holds the broker up
    instead of losing frames (for consumers in this process only). sources_max: publishers' lives remembered at once.
    check_crc: of frames that come; False only where every publisher is of this process and seals none.
    seals: frames of a journal in memory get a CRC; False only where no consumer checks it.
    """

    publish: str | Sequence[str]
    events: str | Sequence[str]
    replay: str | Sequence[str]
    sink: str = ""
    names_max: int = 1_000_000
    dedup_max_trades: int = 50_000_000
    dedup_expected: int = 0
    window_frames: int = 64
    events_hwm: int = 1_000
    nodrop: bool = False
    heartbeat_ns: int = 200_000_000
    sources_max: int = 4096
    check_crc: bool = True
    seals: bool = True


class SourceStats(msgspec.Struct, frozen=True):
    """One life of a publisher, as the broker knows it. `taken`: its last source_seq that was dealt with."""

    name: str
    incarnation: int
    taken: int
    accepted: int
    duplicates: int
    refused: int


class BrokerStats(msgspec.Struct, frozen=True):
    """Counts since the broker started, except last_seq. `resent`: frames that had come before; `trouble`: "": none."""

    last_seq: int
    epoch: int
    frames_in: int
    frames_out: int
    accepted: int
    duplicates: int
    refused: int
    malformed: int
    resent: int
    naks: int
    fetches: int
    unconfirmed_batches: int
    journal_bytes: int
    trouble: str
    sources: tuple[SourceStats, ...]


def check_limits(body: bytes) -> bytes:
    """Return the canonical JSON of a LimitsChanged's body (`settings`, `limit`, `who`).

    Raises LimitsError, or ValueError where it is no JSON object.
    """
    try:
        given = msgspec.json.decode(body)
    except msgspec.MsgspecError as problem:
        raise ValueError(f"limits: not JSON: {problem}") from None
    if not isinstance(given, dict):
        raise ValueError(f"limits: expected an object with settings and limit, found {type(given).__name__}")
    who = given.pop("who", "")
    if not isinstance(who, str):
        raise ValueError("limits: who is no text")
    return msgspec.json.encode({**parse_limits(given).to_dict(), "who": who})


class _SourceDecoder(EventDecoder):
    """Decodes a publisher's records with the names the broker has of it."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def name(self, kind: int, name_id: int) -> str:
        return self._source.local_name(kind, name_id)


class Broker:
    """Takes events from publishers, numbers and journals them, and sends them to everybody.

    journal: open for writing; the caller closes it after `stop`. context: the ZeroMQ context that in-process parts
    share. on_dead_letters: called in the broker's thread with what was refused where `settings.sink` is "".
    dedup: what knows the duplicates, where it was made before, of this journal.
    Raises JournalError where the journal's content cannot be taken up.
    """

    def __init__(
        self,
        journal: Journal,
        settings: BrokerSettings,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        on_dead_letters: Callable[[Sequence[DeadLetter]], None] | None = None,
        dedup: Dedup | None = None,
    ) -> None:
        self.journal = journal
        self.settings = settings
        self.dead_letters: list[DeadLetter] = []  # with no sink and no callback: the first KEPT_LETTERS_MAX
        self.trouble = ""
        self._context = context or zmq.Context.instance()
        self._on_dead_letters = on_dead_letters or self._keep_letters
        self.sequencer = Sequencer(
            journal,
            names_max=settings.names_max,
            dedup_max_trades=settings.dedup_max_trades,
            dedup_expected=settings.dedup_expected,
            check_limits=check_limits,
            dedup=dedup,
            seals=settings.seals,
        )
        self._loop: BrokerLoop | None = None
        self._replay: ReplayLoop | None = None
        self._replay_thread: threading.Thread | None = None
        self._replay_control: zmq.Socket[bytes] | None = None
        self._sink: SinkClient | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._control_endpoint = f"inproc://broker-control-{id(self):x}-{time.monotonic_ns():x}"
        self._control: zmq.Socket[bytes] | None = None
        self.bound: dict[str, tuple[str, ...]] = {}

    def start(self) -> None:
        """Bind, and serve in a thread of its own. Raises EndpointError where an endpoint cannot be bound."""
        control = self._context.socket(zmq.PAIR)
        control.linger = 0
        control.bind(self._control_endpoint)
        self._control = control
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise failure

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread after what is being done, and close its sockets. Raises RiskwireError if it does not end."""
        if self._thread is not None:
            if self._control is not None and self._thread.is_alive():
                self._control.send(b"stop", zmq.DONTWAIT)
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                raise RiskwireError(f"the broker did not stop within {timeout_s} s")
            self._thread = None
        if self._control is not None:
            self._control.close(0)
            self._control = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread unasked, or None."""
        return self._failure

    @property
    def last_seq(self) -> int:
        """The last seq given."""
        return self.sequencer.last_seq

    def stats(self) -> BrokerStats:
        """Return the counts, as of about now; may be called from any thread."""
        loop = self._loop
        return BrokerStats(
            last_seq=self.sequencer.last_seq,
            epoch=self.journal.epoch,
            frames_in=loop.frames_in if loop else 0,
            frames_out=loop.published if loop else 0,
            accepted=loop.accepted if loop else 0,
            duplicates=loop.duplicates if loop else 0,
            refused=loop.refused if loop else 0,
            malformed=loop.malformed + (self._replay.malformed if self._replay else 0) if loop else 0,
            resent=loop.resent if loop else 0,
            naks=loop.naks if loop else 0,
            fetches=self._replay.fetches if self._replay else 0,
            unconfirmed_batches=loop.unconfirmed_batches if loop else 0,
            journal_bytes=self.journal.used_bytes,
            trouble=self.trouble,
            sources=tuple(SourceStats(*row) for row in loop.sources_seen) if loop else (),
        )

    def run_in_thread(self, function: Callable[[], None], timeout_s: float = CALL_WAIT_S) -> None:
        """Run a function in the broker's thread, between two rounds of its loop, and wait for it.

        Raises RiskwireError where the broker does not run, or does not come to it in time; and what function() raises.
        """
        if self._loop is None or not self.is_alive:
            raise RiskwireError(f"the broker does not run: {self._failure or 'it was stopped'}")
        done: Future[None] = Future()

        def run() -> None:
            try:
                function()
                done.set_result(None)
            except BaseException as problem:
                done.set_exception(problem)

        self._loop.call(run)
        try:
            done.result(timeout_s)
        except TimeoutError:
            raise RiskwireError("the broker does not answer") from None

    # --- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        sockets: list[zmq.Socket[bytes]] = []
        try:
            control = self._socket(zmq.PAIR, sockets)
            control.connect(self._control_endpoint)
            publish = self._bind(zmq.ROUTER, "publish", self.settings.publish, sockets)
            events = self._bind(zmq.PUB, "events", self.settings.events, sockets)
            if self.settings.sink:
                self._sink = SinkClient(self._context, self.settings.sink)
            self._loop = BrokerLoop(
                self.sequencer,
                on_refused=self._refused,
                on_malformed=self._malformed,
                on_trouble=self._set_trouble,
                on_plain=PlainEntry(self.sequencer, self._refused, self._hand_on).take,
                sink_client=self._sink,
                credit=self.settings.window_frames,
                heartbeat_ns=self.settings.heartbeat_ns,
                sources_max=self.settings.sources_max,
                check_crc=self.settings.check_crc,
            )
            self._replay = ReplayLoop(self._loop)
            self._start_replay()
            self._ready.set()
            self._loop.run(publish, events, control)
        except BaseException as problem:
            self._failure = problem
            self.trouble = str(problem)
        finally:
            self._stop_replay()
            self._release(sockets, ("", "publish", "events"))
            if self._sink is not None:
                self._sink.close()
            self._ready.set()

    def _start_replay(self) -> None:
        """Answer fetches in a thread of its own. Raises EndpointError where its endpoint cannot be bound."""
        control = self._context.socket(zmq.PAIR)
        control.linger = 0
        self._replay_control = control
        control.bind(f"{self._control_endpoint}-replay")
        ready: Future[None] = Future()
        self._replay_thread = threading.Thread(target=self._run_replay, args=(ready,), name="replay", daemon=True)
        self._replay_thread.start()
        ready.result()

    def _run_replay(self, ready: Future[None]) -> None:
        sockets: list[zmq.Socket[bytes]] = []
        try:
            control = self._socket(zmq.PAIR, sockets)
            control.connect(f"{self._control_endpoint}-replay")
            replay = self._bind(zmq.ROUTER, "replay", self.settings.replay, sockets)
            ready.set_result(None)
            assert self._replay is not None
            self._replay.run(replay, control)
        except BaseException as problem:
            if not ready.done():
                ready.set_exception(problem)
            else:
                self._failure = problem
                self.trouble = str(problem)
        finally:
            self._release(sockets, ("", "replay"))

    def _stop_replay(self) -> None:
        if self._replay_thread is not None and self._replay_control is not None:
            with contextlib.suppress(zmq.Again):
                self._replay_control.send(b"stop", zmq.DONTWAIT)
            self._replay_thread.join()
        if self._replay_control is not None:
            self._replay_control.close(0)

    def _socket(self, kind: int, sockets: list[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = LINGER_MS
        sockets.append(socket)
        return socket

    def _bind(
        self, kind: int, role: str, endpoints: str | Sequence[str], sockets: list[zmq.Socket[bytes]]
    ) -> zmq.Socket[bytes]:
        socket = self._socket(kind, sockets)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            socket.sndhwm = REPLAY_HWM if role == "replay" else max(1000, 4 * self.settings.window_frames)
        else:
            socket.sndhwm = self.settings.events_hwm
            socket.setsockopt(zmq.XPUB_NODROP, int(self.settings.nodrop))
        bound = []
        for endpoint in (endpoints,) if isinstance(endpoints, str) else endpoints:
            try:
                socket.bind(endpoint)
            except zmq.ZMQError as problem:
                raise EndpointError(f"{endpoint}: cannot be bound: {problem.strerror}; choose another --base") from None
            bound.append(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        self.bound[role] = tuple(bound)
        return socket

    def _release(self, sockets: list[zmq.Socket[bytes]], roles: Sequence[str]) -> None:
        """Close the sockets, and give the addresses back at once: closing alone would do it some time later."""
        for socket, role in zip(sockets, roles, strict=False):
            for address in self.bound.get(role, ()):
                with contextlib.suppress(zmq.ZMQError):
                    socket.unbind(address)
        for socket in sockets:
            socket.close()

    # --- what is refused -------------------------------------------------------------------------------------------

    def _refused(self, data: bytes, source: Source, skip: int, refused: list[tuple[int, int, str]]) -> int:
        """Turn refused records into dead letters; return the sink's batch number, 0 without a sink."""
        frame = Frame(data, check_crc=False)
        decoder = _SourceDecoder(source)
        at = time.time_ns()
        return self._hand_on([self._letter(decoder, frame, source, row, at) for row in refused])

    def _letter(
        self, decoder: EventDecoder, frame: Frame, source: Source, row: tuple[int, int, str], at: int
    ) -> DeadLetter:
        index, reason, text = row
        more: dict[str, Any] = {"source_seq": frame.first_seq + index, "at": at}
        if not frame.origin_source(index)[0]:
            more["source"] = source.name
        if frame.records[index]["type"] == TYPE_REJECTED:
            return decoder.dead_letter(frame, index, reason, "feed", **more)
        if text:
            more["error"] = text
        try:
            return decoder.dead_letter(frame, index, reason, STAGE, **more)
        except (ValueError, LookupError, KeyError) as problem:
            # A record that cannot even be shown as an event: keep its bytes.
            payload = frame.origin(index)[1] or frame.records[index].tobytes() + frame.id(index) + frame.ref(index)
            error = text or str(problem)
            return DeadLetter(
                **(more | {"reason": REASONS[reason], "stage": STAGE, "error": error, "payload": payload})
            )

    def _malformed(self, reason: int, text: str, raw: bytes) -> None:
        self._hand_on([DeadLetter(reason=REASONS[reason], stage=STAGE, error=text, payload=raw, at=time.time_ns())])

    def _hand_on(self, letters: list[DeadLetter]) -> int:
        if self._sink is None:
            self._on_dead_letters(letters)
            return 0
        batch_no = 0
        for batch in _batches(letters):
            batch_no = self._sink.send(batch)
        return batch_no

    def _keep_letters(self, letters: Sequence[DeadLetter]) -> None:
        self.dead_letters.extend(letters[: KEPT_LETTERS_MAX - len(self.dead_letters)])

    def _set_trouble(self, text: str) -> None:
        if text and text != self.trouble:
            log.error("the journal cannot be written", extra={"reason": text})
        elif not text and self.trouble:
            log.warning("the journal can be written again", extra={"last_seq": self.sequencer.last_seq})
        self.trouble = text


def _batches(letters: list[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Split letters into messages that the sink takes, cutting what not even one could hold."""
    batch: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if len(letter.payload) > PAYLOAD_BYTES_MAX:
            letter = msgspec.structs.replace(letter, payload=letter.payload[:PAYLOAD_BYTES_MAX])
        if batch and (size + len(letter.payload) > BATCH_BYTES_MAX or len(batch) == BATCH_LETTERS_MAX):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += len(letter.payload)
    if batch:
        yield batch
