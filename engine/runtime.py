"""An engine that runs: every part as a thread of one process under one address, and what can be asked of it."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from engine import control
from engine.config import (
    EngineConfig,
    check_currencies,
    content_id,
    load_instruments,
    load_limits,
    load_opening,
    parse_limits,
)
from engine.deadletters import LetterFilter, list_letters, purge_letters, show_letter
from engine.endpoints import ROLES, BaseLock, check_base, default_base, endpoint, prepare_base
from engine.errors import RiskwireError
from engine.events import Event, KillSwitch, SessionStarted
from engine.firstevents import InForce, first_events, limits_changed
from engine.jobwire import Revive
from engine.journal import open_journal
from engine.pipeline import OWN_SOURCE, Pipeline, default_dead_letters
from engine.publisher import Publisher
from engine.queue import QueueService
from engine.requeue import QUEUE_STAGE, ask_queue
from engine.retention import Retention
from engine.snapshots import SnapshotStore, Snapshotter, restore_core
from ext.records import NAME_KIND_NAMES, Frame
from ext.risk import RiskCore

__all__ = [
    "ROLES",
    "BaseLock",
    "Engine",
    "Pipeline",
    "check_base",
    "default_base",
    "endpoint",
    "prepare_base",
]

log = logging.getLogger("riskwire.engine")

WATCH_EVERY_S: Final = 0.2
CATCH_UP_S: Final = 2.0  # how long an answer waits for what was accepted before it was asked for
STEER_TIMEOUT_S: Final = 10.0
ALERTS_MAX: Final = 8_192
SEQS_ASKED: Final = 50_000  # in one message to the queue
NAMES_MAX: Final = 8_192
PIECE_BYTES: Final = 4 << 20
WAIT_MS_MAX: Final = 24 * 3600 * 1000

T = TypeVar("T")
Answer = Mapping[str, Any]


class Engine:
    """Broker, risk consumer, dead-letter sink, queue and control, in this process, under one base.

    config: as `engine.config.load_config` gives it. opening: a file of opening positions. insecure: allow `tcp://`
    beyond loopback. heartbeat and buffers are the configuration's.

    >>> with Engine(EngineConfig(base="ipc:///tmp/rw", journal="journal")) as engine:  # doctest: +SKIP
    ...     print("ready", engine.base)
    ...     engine.wait()
    """

    def __init__(
        self,
        config: EngineConfig | None = None,
        *,
        opening: str | Path | None = None,
        insecure: bool = False,
    ) -> None:
        self.config = config or EngineConfig()
        self.base = check_base(self.config.base or default_base(), insecure)
        self.started_at = 0.0
        self._opening = opening
        self._stack = ExitStack()
        self._stopping = threading.Event()
        self._steering: _Steering | None = None

    def start(self) -> None:
        """Take the address, load what the files say, recover the journal, and start every part.

        Everything accepts when this returns: publishers, subscribers, workers, requests.
        Raises UsageError for files, addresses and journals that cannot be used (EngineBusy where another engine has
        them), JournalError for a damaged journal.
        """
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> None:
        config, began = self.config, time.monotonic()
        limits = load_limits(config.limits) if config.limits is not None else None
        instruments = load_instruments(config.instruments) if config.instruments is not None else []
        opening = load_opening(self._opening) if self._opening is not None else []
        if limits is not None:
            check_currencies(limits, instruments)
        self._stack.enter_context(BaseLock(self.base))
        self.journal = open_journal(config.journal, config.sync, config.segment_bytes, config.expected_trades)
        self._stack.callback(self.journal.close)
        if self.journal.recovered is not None:
            segment, offset, size = self.journal.recovered
            cut = {"segment": segment, "offset": offset, "bytes": size, "last_seq": self.journal.last_seq}
            log.warning("an unfinished frame at the journal's end was cut: it was never acked", extra=cut)
        last_seq = self.journal.last_seq  # before anything is added to it
        self.dead_letters = Path(config.dead_letters or default_dead_letters(self.journal.directory))
        at = time.time_ns() if self.journal.last_seq else 0
        in_force = InForce.of(self.journal)
        events = first_events(in_force, instruments=instruments, limits=limits, opening=opening, at=at)
        self._steering = _Steering(self)
        with ThreadPoolExecutor(1, "restore") as beside:
            self.pipeline = Pipeline(
                self.base,
                self.journal,
                dead_letters=self.dead_letters,
                config=config,
                core=beside.submit(restore_core, self.journal, lasts=config.retains_all),
                on_kills=self._steering.announce_kills,
            )
        self._stack.callback(self.pipeline.stop)
        self._stack.callback(self._steering.close)
        self._make_room()
        names = [[table[i] for i in range(1, len(table))] for table in self.pipeline.broker.sequencer.names]
        restored_seq = self.pipeline.consumer.core.applied_seq
        self.pipeline.start(events)
        self.retention = self._make_retention()
        self.snapshots = Snapshotter(
            self.pipeline.consumer,
            self.journal,
            every_s=config.snapshot_every_ns / 1e9,
            kept=config.snapshots_kept,
            last_seq=restored_seq,
            retention=self.retention,
        )
        self._stack.callback(self.snapshots.stop)
        self.queue = QueueService(
            self.pipeline.context,
            self.base,
            queues=config.queue,
            folder=self.journal.directory,
            last_seq=last_seq,
            names=names,
            verdicts=self.pipeline.consumer.verdicts,
            removed=lambda: self.journal.base.frames() if self.journal.base is not None else [],
            events=endpoint(self.pipeline.own_base, "events"),
            replay=endpoint(self.pipeline.own_base, "replay"),
            sink=endpoint(self.pipeline.own_base, "sink"),
        )
        self._stack.callback(self.queue.stop)
        self.queue.start()
        self.snapshots.start()
        server = control.ControlServer(self.pipeline.context, endpoint(self.base, "control"), self._verbs())
        self._stack.callback(server.stop)
        server.start()
        self.started_at = time.monotonic()
        log.info(
            "started",
            extra={
                "base": self.base,
                "journal": self.journal.directory or "memory",
                "seq": self.journal.last_seq,
                "from_snapshot_seq": restored_seq,
                "elapsed_ms": round((self.started_at - began) * 1000),
            },
        )

    def _make_room(self) -> None:
        """Make the memory for what is expected; the broker touches what knows duplicates itself."""
        self.journal.touch_room(wait=True)
        if self.config.expected_trades and self.config.retains_all:  # else trades are copied
            self.pipeline.consumer.core.make_room(self.config.expected_trades)

    def _make_retention(self) -> Retention | None:
        config = self.config
        if self.journal.directory is None or config.retains_all:
            return None
        return Retention(
            self.journal,
            self.pipeline.broker.sequencer,
            self.pipeline.broker.run_in_thread,
            lambda: self.queue.needed_from(),
            size_bytes=config.retain_bytes,
            age_ns=config.retain_age_ns,
        )

    def stop(self) -> None:
        """Stop every part, the last started first, and seal the journal."""
        self._stopping.set()
        self._stack.close()
        log.info("stopped", extra={"base": self.base, "seq": self.journal.last_seq})

    def request_stop(self) -> None:
        """Make `wait` return; may be called from a signal handler or another thread."""
        self._stopping.set()

    def wait(self) -> None:
        """Wait until `request_stop`. Raises RiskwireError where a part has failed and the engine can not go on."""
        while not self._stopping.wait(WATCH_EVERY_S):
            if problem := self.error:
                raise RiskwireError(f"{problem}; the engine stops")

    @property
    def error(self) -> str:
        """Why the engine cannot go on, in one line; empty while all is well."""
        if not self.pipeline.broker.is_alive:
            return f"the broker has ended: {self.pipeline.broker.failure or 'nobody knows why'}"
        if self.journal.sync_failed:
            return self.pipeline.broker.trouble or f"journal {self.journal.directory}: a sync failed"
        if not self.queue.is_alive:
            return f"the queue has ended: {self.queue.error}"
        return self.pipeline.error

    def __enter__(self) -> Engine:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # --- what can be asked ----------------------------------------------------------------------------------------

    def _verbs(self) -> dict[str, control.Verb]:
        return {
            "ping": (control.NoFields, self._ping),
            "status": (control.NoFields, self._status),
            "positions": (control.PositionsRequest, self._positions),
            "alerts": (control.AlertsRequest, self._alerts),
            "wait": (control.WaitRequest, self._wait_judged),
            "limits": (control.NoFields, self._limits),
            "limits_set": (control.LimitsSetRequest, self._set_limits),
            "kill": (control.KillRequest, lambda request: self._switch(request, True)),
            "release": (control.KillRequest, lambda request: self._switch(request, False)),
            "session": (control.SessionRequest, self._start_session),
            "snapshot": (control.SnapshotRequest, self._read_snapshot),
            "seq_at": (control.SeqAtRequest, self._seq_at),
            "names": (control.NamesRequest, self._names),
            "dlq_list": (control.LettersRequest, self._list_letters),
            "dlq_show": (control.LetterRequest, self._show_letter),
            "dlq_purge": (control.PurgeRequest, self._purge_letters),
        }

    async def _ask(self, function: Callable[[RiskCore], T]) -> T:
        return await asyncio.wrap_future(self.pipeline.consumer.call(function))

    async def _caught_up(self) -> bool:
        """Wait until what is accepted now is judged, so that who publishes and then asks sees its own trades.

        Not for ever: False where the engine is further behind than that; the answer then says so.
        """
        waiting = asyncio.wrap_future(self.pipeline.consumer.applied(self.journal.last_seq))
        try:
            await asyncio.wait_for(waiting, CATCH_UP_S)
        except TimeoutError:
            return False
        return True

    async def _ping(self, _: control.NoFields) -> Answer:
        return {"engine": "riskwire", "pid": os.getpid(), "base": self.base}

    async def _status(self, _: control.NoFields) -> Answer:
        broker = self.pipeline.broker.stats()
        consumer = self.pipeline.consumer
        judged, alert_no = await self._ask(lambda core: (core.applied_seq, len(core.alerts)))
        letters = await self._in_thread(lambda: list_letters(self.dead_letters, LetterFilter(), 0, 1)["counts"])
        queues = self.queue.status
        snapshot, retention = self.snapshots.last, self.retention
        return {
            "base": self.base,
            "pid": os.getpid(),
            "uptime_s": round(time.monotonic() - self.started_at, 3),
            "error": self.error,
            "seq": broker.last_seq,
            "epoch": broker.epoch,
            "judged_through": judged,
            "alert_no": alert_no,
            "consumer": {"state": consumer.loop.state_name, "gaps": consumer.loop.gaps, "frames": consumer.loop.frames},
            "broker": msgspec.to_builtins(msgspec.structs.replace(broker, sources=())),
            "sources": [msgspec.to_builtins(source) for source in broker.sources],
            "consumers": [
                {"name": "risk", "through": judged, "lag": max(0, broker.last_seq - judged)},
                *({"name": f"queue:{q.name}", "through": q.acked_through, "lag": q.depth} for q in queues),
            ],
            "journal": {
                "directory": self.journal.directory,
                "sync": self.config.sync,
                "bytes": broker.journal_bytes,
                "segments": self.journal.segment_count,
                "disk_free_bytes": disk_free(self.journal.directory),
                "first_seq": self.journal.first_seq,
                "removed_bytes": self.journal.base.removed_bytes if self.journal.base is not None else 0,
                "held_by": retention.held_by if retention is not None else "",
            },
            "snapshot": {
                "last": msgspec.to_builtins(snapshot) if snapshot is not None else None,
                "error": self.snapshots.error,
            },
            "dead_letters": {"path": str(self.dead_letters), "counts": letters, "error": self.pipeline.sink.error},
            "queues": [msgspec.to_builtins(queue) for queue in queues],
        }

    async def _positions(self, request: control.PositionsRequest) -> Answer:
        current = await self._caught_up()
        rows, judged = await self._ask(lambda core: (core.positions(request.account, request.symbol), core.applied_seq))
        return {"positions": rows, "judged_through": judged, "current": current}

    async def _alerts(self, request: control.AlertsRequest) -> Answer:
        if request.from_no is not None and request.since_seq is not None:
            raise RiskwireError("alerts: give from_no or since_seq, not both")
        if request.from_no is None and request.since_seq is not None:
            await self._caught_up()
        count = min(max(request.max, 0), ALERTS_MAX)

        def read(core: RiskCore) -> Answer:
            log = core.alerts
            first_no = len(log) + 1
            if request.from_no is not None:
                first_no = max(1, request.from_no)
            elif request.since_seq is not None:
                first_no = log.first_at(max(0, request.since_seq))
            frame = log.frame(first_no, count) if count and first_no <= len(log) else b""
            return {
                "first_no": first_no,
                "last_no": len(log),
                "judged_through": core.applied_seq,
                "last_seq": self.journal.last_seq,
                "epoch": self.journal.epoch,
                "alerts": frame,
            }

        return await self._ask(read)

    async def _wait_judged(self, request: control.WaitRequest) -> Answer:
        waiting = asyncio.wrap_future(self.pipeline.consumer.applied(max(0, request.seq)))
        try:
            return {"judged_through": await asyncio.wait_for(waiting, min(request.timeout_ms, WAIT_MS_MAX) / 1000)}
        except TimeoutError:
            judged = self.pipeline.consumer.core.applied_seq
            raise RiskwireError(f"seq {request.seq} is not judged yet; judged through {judged}") from None

    async def _limits(self, _: control.NoFields) -> Answer:
        await self._caught_up()
        body = await self._ask(lambda core: core.limits_json())
        plain = msgspec.json.decode(body)
        who = plain.pop("who", "")
        return {"limits": parse_limits(plain).to_dict(), "who": who}

    # --- joining late ---------------------------------------------------------------------------------------------

    async def _read_snapshot(self, request: control.SnapshotRequest) -> Answer:
        """Return a piece of the newest snapshot that has its trades in it, or of the one that is named."""
        if self.journal.directory is None:
            raise RiskwireError("the journal is in memory: there are no snapshots, and nothing of it is removed")
        store = SnapshotStore(self.journal.directory)
        found = next((path for path in store.full_paths() if request.name in ("", path.name)), None)
        if found is None and (found := next(iter(store.full_paths()), None)) is None:
            raise RiskwireError("there is no snapshot with all trades: nothing of the journal has been removed")
        return await self._in_thread(lambda: read_piece(found, request.offset if found.name == request.name else 0))

    async def _seq_at(self, request: control.SeqAtRequest) -> Answer:
        return {"seq": self.journal.seq_at(request.at), "last_seq": self.journal.last_seq}

    async def _names(self, request: control.NamesRequest) -> Answer:
        if request.kind not in NAME_KIND_NAMES:
            raise RiskwireError(f"names: kind: expected one of {', '.join(NAME_KIND_NAMES)}, found {request.kind!r}")
        kind, first = NAME_KIND_NAMES.index(request.kind), max(0, request.after) + 1
        names = await self._ask(lambda core: names_from(core, kind, first))
        return {"names": names, "after": first + len(names) - 1}

    # --- steering -------------------------------------------------------------------------------------------------

    async def _set_limits(self, request: control.LimitsSetRequest) -> Answer:
        limits = parse_limits(request.limits)
        return await self._steer(limits_changed(limits, _fresh_id("limits"), time.time_ns(), request.who))

    async def _switch(self, request: control.KillRequest, engaged: bool) -> Answer:
        event_id = _fresh_id("kill" if engaged else "release")
        return await self._steer(KillSwitch(event_id, request.account, engaged, time.time_ns(), request.who))

    async def _start_session(self, request: control.SessionRequest) -> Answer:
        return await self._steer(SessionStarted(_fresh_id("session"), request.name, time.time_ns()))

    async def _steer(self, event: Event) -> Answer:
        """Put an event into the sequence and wait until it is judged."""
        assert self._steering is not None
        seq = await asyncio.wrap_future(self._steering.submit(event))
        await asyncio.wait_for(asyncio.wrap_future(self.pipeline.consumer.applied(seq)), STEER_TIMEOUT_S)
        return {"seq": seq}

    # --- dead letters ---------------------------------------------------------------------------------------------

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(None, function)

    async def _list_letters(self, request: control.LettersRequest) -> Answer:
        fields = msgspec.structs.asdict(request)
        after, limit = fields.pop("after"), min(max(1, fields.pop("limit")), 10_000)
        answer = await self._in_thread(lambda: list_letters(self.dead_letters, LetterFilter(**fields), after, limit))
        for letter in answer["letters"]:
            letter["parked"] = self.queue.parked_behind(letter["stage"], letter["seq"]) if letter["seq"] else 0
        return answer

    async def _show_letter(self, request: control.LetterRequest) -> Answer:
        letter = await self._in_thread(lambda: show_letter(self.dead_letters, request.letter))
        if letter is None:
            raise RiskwireError(f"no dead letter {request.letter}; `riskwire dlq list` shows which there are")
        return {"letter": letter}

    async def _purge_letters(self, request: control.PurgeRequest) -> Answer:
        fields = msgspec.structs.asdict(request)
        dry_run = fields.pop("dry_run")
        which = LetterFilter(**fields)
        return await self._in_thread(lambda: purge_letters(self.dead_letters, which, dry_run, self._held_jobs))

    def _held_jobs(self, stage: str, seqs: Sequence[int]) -> list[int]:
        """Ask the queue of a stage which of some seqs others may wait behind."""
        held: list[int] = []
        for start in range(0, len(seqs), SEQS_ASKED):
            request = Revive(stage.removeprefix(QUEUE_STAGE), list(seqs[start : start + SEQS_ASKED]), "held")
            held += ask_queue(self.pipeline.context, self.base, request).seqs
        return held


def names_from(core: RiskCore, kind: int, first: int) -> list[str]:
    """Return the texts of a kind's name ids from `first` on, at most NAMES_MAX."""
    names: list[str] = []
    with suppress(IndexError):
        while len(names) < NAMES_MAX:
            names.append(core.name(kind, first + len(names)).decode())
    return names


def read_piece(path: Path, offset: int) -> Answer:
    """Return a piece of a snapshot's file from an offset on, its name and its size."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, offset))
            return {"name": path.name, "size": size, "data": file.read(PIECE_BYTES)}
    except FileNotFoundError:
        raise RiskwireError(f"snapshot {path.name} has been replaced by a newer one; begin again") from None


def disk_free(directory: str | None) -> int | None:
    """Return the bytes left to this user on a folder's disk; None for no folder."""
    return shutil.disk_usage(directory).free if directory is not None else None


class _Steering:
    """The engine's own publisher, in a thread of its own: a socket is made, used and closed in one thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._publisher: Publisher | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="steering")

    def submit(self, event: Event) -> Future[int]:
        """Publish an event; the future's result is its seq. Raises where the door refuses it."""
        return self._thread.submit(self._publish, event)

    def announce_kills(self, kills: Sequence[tuple[int, str, str]]) -> None:
        """Publish the KillSwitch of each account that a limit has stopped; one that is known already is a duplicate."""
        for seq, account, limit_id in kills:
            event_id = content_id("kill", str(seq), account)
            kill = KillSwitch(event_id, account, True, time.time_ns(), limit_id, caused_by_seq=seq)
            self.submit(kill).add_done_callback(_log_failure)

    def _publish(self, event: Event) -> int:
        if self._publisher is None:
            self._publisher = Publisher(
                self._engine.pipeline.own_base,
                OWN_SOURCE,
                context=self._engine.pipeline.context,
                wait_s=STEER_TIMEOUT_S,
            )
        before, refused = self._engine.journal.last_seq, self._publisher.stats.refused
        self._publisher.publish(event)
        self._publisher.flush()
        if self._publisher.stats.refused > refused:
            raise RiskwireError(f"{type(event).__name__} was refused; `riskwire dlq list` says why")
        return self._seq_of(event, before + 1)

    def _seq_of(self, event: Event, seq: int) -> int:
        """Find the event that was just accepted, at or after a seq; others may have come between."""
        wanted = getattr(event, "event_id", "").encode()
        while (data := self._engine.journal.frame(seq)) is not None:
            frame = Frame(data, False)
            for i in range(len(frame)):
                if frame.id(i) == wanted:
                    return frame.first_seq + i
            seq = frame.first_seq + len(frame)
        return self._engine.journal.last_seq

    def close(self) -> None:
        """Close the publisher in its thread."""
        self._thread.submit(self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._publisher is not None:
            self._publisher.abandon()


def _log_failure(done: Future[int]) -> None:
    if not done.cancelled() and (problem := done.exception()) is not None:
        log.error("a kill could not be announced; a restart of the engine tries again: %s", problem)


def _fresh_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex}"
