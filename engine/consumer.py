"""The risk consumer as a service: the nogil loop in a thread, and how other threads ask it."""

from __future__ import annotations

import logging
import os
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import zmq

from engine.alertframes import alert_topics
from engine.codec import EventDecoder
from engine.endpoints import endpoint
from engine.errors import EngineUnreachable, RiskwireError
from engine.events import KillSwitch
from engine.sink import SinkClient
from engine.verdicts import Verdicts
from engine.wire import watch_connection
from ext.consumer import HALTS, ConsumerLoop
from ext.journal import Journal
from ext.records import MAX_FRAME_BYTES, Frame
from ext.risk import RiskCore
from ext.snapshot import SnapshotError

log = logging.getLogger("riskwire.consumer")

T = TypeVar("T")

HEARTBEAT_S: Final = 0.2
RETRY_S: Final = 0.5
SILENCE_S: Final = 2.0  # without a word from the broker until it counts as gone
EVENTS_HWM: Final = 1_000
ALERTS_HWM: Final = 10_000
SINK_FLUSH_S: Final = 10.0
STAGE: Final = "sequence"

_encode = msgspec.json.Encoder(decimal_format="string").encode


class ConsumerStopped(RiskwireError):
    """The risk consumer does not run, so it cannot be asked."""


class _CoreDecoder(EventDecoder):
    """Decodes records with the names that the core knows, so that no frame before has to be read again."""

    def __init__(self, core: RiskCore) -> None:
        super().__init__()
        self._core = core

    def name(self, kind: int, name_id: int) -> str:
        return self._core.name(kind, name_id).decode("utf-8", "replace") if name_id else ""


class RiskConsumer:
    """Keeps positions, limits and alerts up to date behind the sequence of one engine.

    context: the ZeroMQ context. base: the address of the engine whose events it follows.
    announce_base: the address to publish alerts under, where it is another one.
    journal: the broker's, where it is of this process and nothing is ever removed of it: trades are then remembered by
    where they lie in it.
    sink: endpoint of the dead-letter sink for what is refused in the sequence; None: nobody is told.
    announce: bind the alerts endpoint of the base and publish alerts and kills there.
    on_kills: called in the consumer's thread with (seq, account or `*`, limit_id) of those that limits have stopped.
    fresh_core: makes the core to begin again with when the broker has lost what was applied (default: an empty one).
    fetch_core: gets a core from the engine where what comes next has been removed (default: over the control endpoint).
    count_after: refusals at or below this seq belong to an earlier run and are not counted (the sink knows them).
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        base: str,
        *,
        core: RiskCore | None = None,
        journal: Journal | None = None,
        sink: str | None = None,
        announce: bool = True,
        announce_base: str | None = None,
        on_kills: Callable[[Sequence[tuple[int, str, str]]], None] | None = None,
        fresh_core: Callable[[], RiskCore] = RiskCore,
        fetch_core: Callable[[], RiskCore] | None = None,
        count_after: int = 0,
        events_hwm: int = EVENTS_HWM,
        alerts_hwm: int = ALERTS_HWM,
        heartbeat_s: float = HEARTBEAT_S,
        retry_s: float = RETRY_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.core = core if core is not None else RiskCore()
        self.refused_seqs = array("Q")  # in the sequence, above count_after
        self.failure: BaseException | None = None
        self._context, self._base, self._announce = context, base, announce
        self._announce_base = announce_base or base
        self._sink_endpoint = sink
        self._sink: SinkClient | None = None
        self._count_after = count_after
        self._on_kills, self._kills_told = on_kills, 0
        self._events_hwm, self._alerts_hwm = events_hwm, alerts_hwm
        self._decoder = _CoreDecoder(self.core)
        self._fresh_core = fresh_core
        self._fetch_core = fetch_core or partial(_fetch_core_of, base, context)
        self._removed_problem = ""
        self._waiting: list[tuple[int, Future[int]]] = []
        self._wake_r, self._wake_w = -1, -1
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bound: Future[None] = Future()
        self.loop = ConsumerLoop(
            self.core,
            alert_topics(),
            self._on_refused,
            self._on_kill,
            self._on_stop,
            self._on_tick,
            self._on_reset,
            self._on_silence,
            self._on_removed,
            journal,
            check_crc=not base.startswith("inproc://"),
            heartbeat_ns=int(heartbeat_s * 1e9),
            retry_ns=int(retry_s * 1e9),
            silence_ns=int(silence_s * 1e9),
        )
        self.verdicts = Verdicts(lambda: self.loop.told_seq, self.core.refused())

    # --- life -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect (the broker may start later), bind alerts, and consume in a thread of its own.

        Raises zmq.ZMQError where the alerts endpoint cannot be bound.
        """
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_r, False)
        os.set_blocking(self._wake_w, False)
        self._thread = threading.Thread(target=self._run, name="risk-consumer", daemon=True)
        self._thread.start()
        self._bound.result()

    def stop(self, timeout_s: float = 15.0) -> None:
        """Stop after the frame at hand; what was refused is with the sink first, where there is one."""
        if self._thread is None:
            return
        self.loop.stop()
        self._wake()
        self._thread.join(timeout_s)
        self._thread = None
        with self._lock:
            os.close(self._wake_r)
            os.close(self._wake_w)
            self._wake_r = self._wake_w = -1

    def __enter__(self) -> RiskConsumer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def error(self) -> str:
        """Why nothing is applied any more, in one line; empty while all is well."""
        if self.failure is not None:
            return f"the risk consumer failed: {self.failure}"
        if not self.loop.halted_for:
            return ""
        detail = getattr(self.core, "error", None) or self._removed_problem
        return HALTS[self.loop.halted_for] + (f": {detail}" if detail else "")

    def _run(self) -> None:
        sockets: list[zmq.Socket[bytes]] = []
        try:
            events, replay, alerts = self._open(sockets)
            self._bound.set_result(None)
            self.loop.run(events, replay, alerts, self._wake_r)
        except BaseException as problem:
            if self._bound.done():
                self.failure = problem
            else:
                self._bound.set_exception(problem)
        finally:
            self._close(sockets)

    def _open(self, sockets: list[zmq.Socket[bytes]]) -> tuple[zmq.Socket[bytes], Any, Any]:
        def socket(kind: int) -> zmq.Socket[bytes]:
            made: zmq.Socket[bytes] = self._context.socket(kind)
            made.linger = 0
            made.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
            watch_connection(made, self._base)
            sockets.append(made)
            return made

        alerts = None
        if self._announce:
            alerts = socket(zmq.PUB)
            alerts.sndhwm = self._alerts_hwm
            alerts.linger = 1000  # the last alerts may leave
            alerts.bind(endpoint(self._announce_base, "alerts"))
        events = socket(zmq.SUB)
        events.rcvhwm = self._events_hwm
        events.setsockopt(zmq.SUBSCRIBE, b"RW")
        events.connect(endpoint(self._base, "events"))
        replay = socket(zmq.DEALER)
        replay.connect(endpoint(self._base, "replay"))
        if self._sink_endpoint is not None:
            self._sink = SinkClient(self._context, self._sink_endpoint)
        return events, replay, alerts

    @property
    def sink_sent(self) -> int:
        """The number of the last batch of dead letters sent; only in the consumer's thread."""
        return self._sink.sent if self._sink is not None else 0

    @property
    def sink_confirmed(self) -> int:
        """The number of the last batch that the sink has stored; only in the consumer's thread."""
        return self._sink.poll() if self._sink is not None else 0

    def _close(self, sockets: list[zmq.Socket[bytes]]) -> None:
        if self._sink is not None:
            self._sink.flush(SINK_FLUSH_S)
            self._sink.close()
        for socket in sockets:
            socket.close()
        self._fail_waiting()

    # --- asking ---------------------------------------------------------------------------------------------------

    def call(self, function: Callable[[RiskCore], T]) -> Future[T]:
        """Run `function(core)` in the consumer's thread, between two frames, and return its future result.

        Keep it short: nothing is applied meanwhile.
        """
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function(self.core))
            except BaseException as problem:
                future.set_exception(problem)

        if not self.is_alive:
            future.set_exception(ConsumerStopped(self.error or "the risk consumer is stopped; start the engine again"))
            return future
        self.loop.call(run)
        self._wake()
        return future

    def applied(self, seq: int) -> Future[int]:
        """Return a future that is done, with the seq judged through, once `seq` is applied and judged."""
        future: Future[int] = Future()

        def wait(core: RiskCore) -> None:
            self._waiting.append((seq, future))
            self._resolve_waiting()

        asked = self.call(wait)
        asked.add_done_callback(lambda done: _pass_failure(done, future))
        return future

    def wait_applied(self, seq: int, timeout_s: float | None = None) -> int:
        """Wait until `seq` is applied and judged; raises TimeoutError, or ConsumerStopped where it never will be."""
        return self.applied(seq).result(timeout_s)

    def _resolve_waiting(self) -> None:
        applied = self.core.applied_seq
        if self.error and self._waiting:
            self._fail_waiting()
        for seq, future in self._waiting:
            if seq <= applied and future.set_running_or_notify_cancel():
                future.set_result(applied)
        self._waiting = [(seq, future) for seq, future in self._waiting if seq > applied and not future.cancelled()]
        lowest = min((seq for seq, _ in self._waiting), default=0)
        self.loop.wake_at(lowest, self._resolve_waiting if lowest else None)

    def _fail_waiting(self) -> None:
        reason = self.error or "the risk consumer was stopped"
        for _, future in self._waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(ConsumerStopped(reason))
        self._waiting = []

    def _wake(self) -> None:
        with self._lock:
            if self._wake_w >= 0:
                try:
                    os.write(self._wake_w, b"!")
                except BlockingIOError:
                    return  # full: the loop has enough to wake up for

    # --- what the loop calls, in its thread -----------------------------------------------------------------------

    def _on_refused(self, frame_bytes: bytes, refusals: Sequence[tuple[int, int]]) -> None:
        self.verdicts.note(refusals)
        self.refused_seqs.extend(seq for seq, _ in refusals if seq > self._count_after)
        if self._sink is None:
            return
        frame = Frame(frame_bytes, False)
        at = time.time_ns()
        self._sink.send(
            [
                self._decoder.dead_letter(frame, seq - frame.first_seq, reason, STAGE, seq=seq, at=at)
                for seq, reason in refusals
            ]
        )
        self.loop.ticking = True
        self._sink.poll()
        while self._sink.full and not self._sink.flush(0.1):
            continue

    def _on_stop(self) -> None:
        """Tell which accounts limits have stopped since the last time."""
        kills = self.core.kills()
        new, self._kills_told = kills[self._kills_told :], len(kills)
        if self._on_kills is not None:
            self._on_kills([(seq, account.decode(), limit_id.decode()) for seq, account, limit_id in new])

    def _on_reset(self) -> RiskCore:
        """Give the loop a core to begin again with: the broker has other events at the seqs that were applied."""
        log.warning(
            "the broker has lost what was applied here: beginning again",
            extra={"base": self._base, "applied_seq": self.core.applied_seq},
        )
        self._begin_with(self._fresh_core())
        self._kills_told = 0
        self.refused_seqs = array("Q")
        return self.core

    def _on_removed(self, first_seq: int) -> RiskCore | None:
        """Give the loop a core to go on with: what comes next has been removed, and a snapshot stands for it."""
        fields = {"base": self._base, "applied_seq": self.core.applied_seq, "first_seq": first_seq}
        try:
            self._begin_with(self._fetch_core())
        except EngineUnreachable:
            log.warning("what comes next was removed, and the engine gives no snapshot yet", extra=fields)
            return None
        except (RiskwireError, SnapshotError, OSError) as problem:
            self._removed_problem = str(problem)
            log.error(
                "what comes next was removed, and no snapshot can be had", extra={**fields, "reason": str(problem)}
            )
            raise
        log.warning(
            "what came next was removed: going on from a snapshot", extra=fields | {"seq": self.core.applied_seq}
        )
        self._kills_told = len(self.core.kills())
        return self.core

    def _begin_with(self, core: RiskCore) -> None:
        self.core = core
        self._decoder = _CoreDecoder(core)
        self.verdicts.clear()
        self.verdicts.note(core.refused())

    def _on_silence(self, silent: bool) -> None:
        fields = {"base": self._base, "applied_seq": self.core.applied_seq}
        if silent:
            log.warning("the broker is gone: nothing is heard of it", extra=fields)
        else:
            log.warning("the broker is back", extra=fields)

    def _on_tick(self) -> None:
        if self._sink is not None:
            self._sink.poll()
            self.loop.ticking = not self._sink.idle

    def _on_kill(self, frame_bytes: bytes) -> list[tuple[bytes, bytes]]:
        """Return (topic, JSON of the KillSwitch with its seq) for each kill and release in a frame."""
        frame = Frame(frame_bytes, False)
        found = []
        for i in range(len(frame)):
            if frame.records[i]["type"] != 7:
                continue
            event = self._decoder.decode(frame, i)
            if isinstance(event, KillSwitch):
                fields = msgspec.structs.asdict(event) | {"type": "KillSwitch", "seq": frame.first_seq + i}
                found.append((b"kill." + event.account.encode(), _encode(fields)))
        return found


def _fetch_core_of(base: str, context: zmq.Context[Any]) -> RiskCore:
    from engine.latejoin import fetch_core_of  # only here: few consumers ever join late

    return fetch_core_of(base, context)


def _pass_failure(done: Future[None], future: Future[int]) -> None:
    problem = done.exception()
    if problem is not None and not future.done():
        future.set_exception(problem)
