"""The queue service: competing workers on named queues, beside the broker, as one more consumer of the sequence.

One thread owns everything here: a ROUTER that workers talk to, a PUSH socket per worker, a reader of the sequence and
an ack log per queue, and the way to the sink. What a queue decides is in engine/jobqueue.py.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import numpy as np
import zmq

from engine.acklog import AckLog
from engine.backlog import BacklogReader
from engine.codec import EventDecoder
from engine.config import QueueConfig
from engine.endpoints import endpoint
from engine.errors import RiskwireError
from engine.jobframes import cut_jobs
from engine.jobqueue import JobQueue
from engine.jobs import Batch, Job
from engine.jobwire import (
    PROTOCOL_VERSION,
    Ack,
    Drain,
    FromQueue,
    FromWorker,
    Go,
    Goodbye,
    Hello,
    Nack,
    Ping,
    QueueStatus,
    Refused,
    Release,
    Revive,
    Revived,
    Started,
    Status,
    StatusRequest,
    Unknown,
    Welcome,
    decode_from_worker,
    encode,
    encode_jobs_head,
)
from engine.queueparts import ConnectedWorker, OpenQueue, Socket
from engine.sequence import SequenceReader
from engine.sink import SinkClient
from engine.verdicts import Verdicts
from ext.records import Frame

__all__ = ["QueueService"]

log = logging.getLogger("riskwire.queue")

HEARTBEAT_NS = 200_000_000  # a worker whose connection is gone is noticed this soon
SILENT_MAX_NS = 10_000_000_000  # a worker that says nothing for so long (or three leases) is gone
STATUS_EVERY_NS = 250_000_000
MESSAGES_AT_ONCE = 1_000
MESSAGE_BYTES_MAX = 1 << 20
JUDGED_POLL_NS = 1_000_000  # a frame that was read before it was judged: nearly always the judge is first
SEQ_MAX = 2**64 - 1
WORKERS_MAX = 900  # sockets of one ZeroMQ context are limited (1,023)
QUEUES_MAX = 64
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")

Context = zmq.Context[Any]


class QueueService:
    """The named queues of one engine, in a thread of its own.

    context: the ZeroMQ context, shared with the broker where endpoints are inproc.
    base: the engine's base; workers say hello at its `queue` endpoint.
    queues: settings of the queues there are. Another name is made at a worker's first hello, with default settings
    and from the first event on, unless `only_configured`: adding a worker needs no change of a file.
    folder: where the ack logs lie (the journal's); None: forgotten with the process, like a journal in memory.
    last_seq: the journal's when it was opened, before anything was added: acks beyond it are forgotten.
    names: the texts of the names in the journal then, by kind and id (from 1); with them a queue begins to read where
    it left off, without them at the first event.
    verdicts: what the risk consumer refuses in the sequence; a job is handed out once that is known of it, and its
    worker is told. None: workers are not told.
    removed: gives frames with the names that were defined in what has been removed of the journal.
    events, replay, sink: the broker's and the sink's endpoints, where they are not those of the base.
    """

    def __init__(
        self,
        context: Context,
        base: str,
        *,
        queues: Sequence[QueueConfig] = (),
        folder: str | Path | None = None,
        last_seq: int | None = None,
        names: Sequence[Sequence[bytes]] | None = None,
        verdicts: Verdicts | None = None,
        removed: Callable[[], Sequence[bytes]] = tuple,
        events: str | None = None,
        replay: str | None = None,
        sink: str | None = None,
        only_configured: bool = False,
    ) -> None:
        self.base = base
        self.error = ""  # what keeps a queue from working right now
        self._context = context
        self._configs = {config.name: config for config in queues}
        self._folder = Path(folder) if folder is not None else None
        self._last_seq = last_seq
        self._decoder = EventDecoder()  # one for all: the names are the sequence's
        self._names_known = names is not None
        self._removed = removed
        for kind, texts in enumerate(names or ()):
            self._decoder.learn_names(kind, texts)
        self._verdicts = verdicts
        self._events = events or endpoint(base, "events")
        self._replay = replay or endpoint(base, "replay")
        self._sink_endpoint = sink or endpoint(base, "sink")
        self._only_configured = only_configured
        self._queues: dict[str, OpenQueue] = {}
        self._workers: dict[bytes, tuple[OpenQueue, ConnectedWorker]] = {}
        self._burying: deque[tuple[int, JobQueue, Job]] = deque()  # batch number at the sink
        self._status: list[QueueStatus] = []
        self._status_ns = self._ping_ns = self._handed_ns = 0
        self._needs = (1, "the queues have not started")
        self._stop_endpoint = f"inproc://queue-stop-{id(self):x}-{time.monotonic_ns():x}"
        self._stop_socket: Socket | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._handlers: dict[type[Any], Callable[[OpenQueue, ConnectedWorker, Any, int], None]] = {
            Ack: lambda q, w, m, now: q.jobs.ack(w.hands, m.batch, m.done, now),
            Nack: lambda q, w, m, now: q.jobs.nack(w.hands, m.batch, m.index, m.kind, m.error, m.traceback, now),
            Started: self._start_job,
            Release: lambda q, w, m, now: q.jobs.release(w.hands, m.batch, m.indexes, now, m.suspect),
            Ping: lambda q, w, m, now: None,
            Drain: self._drain_worker,
            Goodbye: self._dismiss,
        }

    def start(self) -> None:
        """Bind, open the queues and begin; raises what kept it from that."""
        self._stop_socket = self._context.socket(zmq.PAIR)
        self._stop_socket.linger = 0
        self._stop_socket.bind(self._stop_endpoint)
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise failure

    def stop(self, timeout_s: float = 10.0) -> None:
        """Write what is known and close; what workers hold is handed out again by the next life."""
        if self._thread is not None:
            if self._stop_socket is not None and self._thread.is_alive():
                self._stop_socket.send(b"")
            self._thread.join(timeout_s)
            self._thread = None
        if self._stop_socket is not None:
            self._stop_socket.close(0)
            self._stop_socket = None

    def __enter__(self) -> QueueService:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def parked_behind(self, stage: str, seq: int) -> int:
        """Return how many jobs are parked behind a dead letter, as of a moment ago. Safe from any thread."""
        name = stage.removeprefix("queue:")
        return sum(queue.parked_behind.get(str(seq), 0) for queue in self._status if queue.name == name)

    def needed_from(self) -> tuple[int, str]:
        """Return the lowest seq of which a queue may need the event, and what needs it. Safe from any thread."""
        return self._needs

    def _note_needs(self) -> None:
        """Note what the journal must keep. It only grows, so that what is a moment old keeps too much at most."""
        needs = [(queue.jobs.log.needed_from, name, queue.jobs.log) for name, queue in self._queues.items()]
        seq, name, acks = min(needs, default=(2**63, "", None), key=lambda need: need[0])
        dead = acks is not None and seq <= acks.acked.through
        self._needs = (seq, f"queue {name}: {'dead' if dead else 'open'} job of seq {seq} needs it")

    @property
    def status(self) -> list[QueueStatus]:
        """Return how the queues are, at most a moment old. Safe from any thread."""
        return self._status

    def _run(self) -> None:
        self._router = self._context.socket(zmq.ROUTER)
        stop = self._context.socket(zmq.PAIR)
        self._sink = SinkClient(self._context, self._sink_endpoint)
        self._counter = BacklogReader(self._context, self._replay)
        self._poller = zmq.Poller()
        try:
            self._open(stop)
            self._ready.set()
            self._serve(stop)
        except BaseException as problem:
            self._failure = problem
            self.error = str(problem)
            if self._ready.is_set():
                log.exception("the queue has stopped")
        finally:
            self._close()
            stop.close(0)
            self._ready.set()

    def _open(self, stop: Socket) -> None:
        router = self._router
        router.linger = 0
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to a worker that is gone fails, which is how we know
        router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        router.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        router.bind(endpoint(self.base, "queue"))
        stop.connect(self._stop_endpoint)
        for socket in (router, stop, self._sink.socket, self._counter.socket):
            self._poller.register(socket, zmq.POLLIN)
        for name in [*self._configs, *self._names_in_folder()]:
            if name not in self._queues:
                self._open_queue(name)

    def _names_in_folder(self) -> list[str]:
        if self._folder is None:
            return []
        files = sorted(self._folder.glob("queue-*.acks"))
        return [unquote(file.name.removeprefix("queue-").removesuffix(".acks")) for file in files]

    def _open_queue(self, name: str) -> OpenQueue:
        config = self._configs.get(name) or QueueConfig(name=name)
        path = self._folder / f"queue-{quote(name, safe='')}.acks" if self._folder is not None else None
        acks = AckLog(path, self._last_seq)
        next_seq = acks.acked.through + 1 if self._names_known else 1
        reader = SequenceReader(self._context, self._events, self._replay, next_seq)
        self._needs = (min(self._needs[0], acks.needed_from), f"queue {name} has just been opened")
        refused = self._verdicts.of if self._verdicts is not None else None
        fetch = partial(self._fetch_judged, reader)
        jobs = JobQueue(config, acks, fetch, decoder=self._decoder, refused=refused)
        queue = self._queues[name] = OpenQueue(jobs, reader)
        self._poller.register(reader.events, zmq.POLLIN)
        self._poller.register(reader.replay, zmq.POLLIN)
        return queue

    def _fetch_judged(self, reader: SequenceReader, seq: int) -> Frame | None:
        return reader.fetch(seq) if seq <= self._judged_through() else None

    def _judged_through(self) -> int:
        """Return up to which seq it is known what the sequence refused."""
        return self._verdicts.through if self._verdicts is not None else SEQ_MAX

    def _close(self) -> None:
        if self._burying and self._sink.flush(1.0):
            self._bury()
        for queue in self._queues.values():
            for worker in queue.workers:
                worker.close()
            queue.reader.close()
            try:
                queue.jobs.log.close()
            except RiskwireError as problem:
                self.error = str(problem)
        self._sink.close()
        self._counter.close()
        self._router.close(0)

    # --- the loop

    def _serve(self, stop: Socket) -> None:
        while True:
            ready = dict(self._poller.poll(self._timeout_ms()))
            if stop in ready:
                return
            now = time.monotonic_ns()
            if self._router in ready:
                self._take_messages(now)
            self._note_connected(ready)
            self._read_sequence(ready)
            self._look_after_workers(now)
            self._write_logs()  # what is meant to happen is noted before the sink hears of it
            self._tend_sink()
            self._hand_out(now)
            if now - self._status_ns > STATUS_EVERY_NS:
                self._status_ns = now
                self._status = [queue.status(now) for queue in self._queues.values()]
                self._note_needs()

    def _timeout_ms(self) -> int:
        now = time.monotonic_ns()
        until = min(self._ping_ns + HEARTBEAT_NS, self._counter.due_ns() or SEQ_MAX)
        for queue in self._queues.values():
            if queue.reader.is_due(queue.wants_frames):
                return 0
            if queue.unjudged:
                until = min(until, now + JUDGED_POLL_NS)
            due = queue.jobs.next_due()
            if queue.workers and due is not None and due > self._handed_ns:  # what was due then found nobody free
                until = min(until, due)
        return max(0, min(200, -(-(until - now) // 1_000_000)))

    def _take_messages(self, now: int) -> None:
        for _ in range(MESSAGES_AT_ONCE):
            try:
                parts = self._router.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if len(parts) == 2:
                self._take_message(parts[0], parts[1], now)

    def _take_message(self, identity: bytes, data: bytes, now: int) -> None:
        try:
            message = decode_from_worker(data)
        except msgspec.MsgspecError as problem:
            self._reply(identity, Refused(f"the message cannot be read: {problem}"))
            return
        try:
            self._handle(identity, message, now)
        except RiskwireError as problem:
            self._reply(identity, Refused(str(problem)))
        except Exception as problem:  # one message, whatever is in it, ends no queue
            log.exception("a message of worker %s could not be handled", identity.hex())
            self._reply(identity, Refused(f"the message could not be handled: {type(problem).__name__}: {problem}"))

    def _handle(self, identity: bytes, message: FromWorker, now: int) -> None:
        if isinstance(message, Hello):
            self._welcome(identity, message, now)
        elif isinstance(message, StatusRequest):
            self._reply(identity, Status([queue.status(now) for queue in self._queues.values()]))
        elif isinstance(message, Revive):
            self._reply(identity, self._revive(message, now))
        elif (known := self._workers.get(identity)) is None:
            self._reply(identity, Goodbye() if isinstance(message, Goodbye) else Unknown())
        else:
            queue, worker = known
            worker.heard_ns = now
            worker.hands.suspended = False
            self._handlers[type(message)](queue, worker, message, now)

    def _reply(self, identity: bytes, message: FromQueue) -> bool:
        """Send, and tell whether the other side is still connected."""
        try:
            self._router.send_multipart((identity, encode(message)), zmq.DONTWAIT)
        except zmq.Again:  # it is there and reads nothing
            return True
        except zmq.ZMQError:
            return False
        return True

    # --- workers come and go

    def _welcome(self, identity: bytes, hello: Hello, now: int) -> None:
        if known := self._workers.get(identity):
            self._lose(*known, now)
        if hello.version != PROTOCOL_VERSION:
            self._reply(identity, Refused(f"protocol version {hello.version}; this engine speaks {PROTOCOL_VERSION}"))
            return
        queue = self._queues.get(hello.queue)
        if queue is None:
            if problem := self._cannot_open(hello.queue):
                self._reply(identity, Refused(problem))
                return
            queue = self._open_queue(hello.queue)
        if len(self._workers) >= WORKERS_MAX:
            self._reply(identity, Refused(f"{WORKERS_MAX} workers are here, which is as many as there may be"))
            return
        number = min(set(range(1, WORKERS_MAX + 2)) - {worker.number for _, worker in self._workers.values()})
        push, at = self._bind_push()
        worker = ConnectedWorker(identity, number, hello, push, at, now)
        queue.workers.append(worker)
        self._workers[identity] = (queue, worker)
        self._poller.register(push, zmq.POLLOUT)  # until its PULL has connected
        config = queue.jobs.config
        self._reply(
            identity,
            Welcome(at, worker.token, number, config.lease_ns, config.max_attempts, config.in_hands_max, HEARTBEAT_NS),
        )

    def _cannot_open(self, name: str) -> str:
        there = ", ".join(sorted(self._queues)) or "none"
        if not NAME.fullmatch(name) or len(name.encode()) > 64:
            return f"{name!r} is no queue's name; expected 1 to 64 bytes without control characters"
        if self._only_configured:
            return f"there is no queue {name!r}; there are: {there}"
        if len(self._queues) >= QUEUES_MAX:
            return f"there is no queue {name!r}, and {QUEUES_MAX} queues are as many as there may be"
        return ""

    def _bind_push(self) -> tuple[Socket, str]:
        """Bind a socket for one worker, under a name that no other has had: an old PULL would connect to it again."""
        push: Socket = self._context.socket(zmq.PUSH)
        push.linger = 0
        push.sndhwm = 0  # what it may hold is counted by acks: in_hands_max
        try:
            if self.base.startswith("tcp://"):
                host = endpoint(self.base, "queue").rpartition(":")[0]
                push.bind(f"{host}:*")
            else:
                push.bind(self._fresh_endpoint())
            at = push.getsockopt(zmq.LAST_ENDPOINT)
        except zmq.ZMQError as problem:
            push.close(0)
            raise RiskwireError(f"no socket for another worker: {problem.strerror}") from None
        assert isinstance(at, bytes)
        return push, at.rstrip(b"\0").decode()

    def _fresh_endpoint(self) -> str:
        taken = {worker.at for _, worker in self._workers.values()}
        while True:
            name = np.base_repr(secrets.randbelow(36**4), 36).lower().zfill(4)
            at = endpoint(self.base, f"worker-{name}")
            if at not in taken:
                return at

    def _note_connected(self, ready: dict[Any, int]) -> None:
        for _, worker in self._workers.values():
            if not worker.connected and worker.push in ready:
                worker.connected = True
                self._poller.unregister(worker.push)

    def _drain_worker(self, queue: OpenQueue, worker: ConnectedWorker, message: Drain, now: int) -> None:
        worker.hands.draining = True
        with contextlib.suppress(zmq.Again):  # its PULL is gone
            worker.push.send(encode(Drain()), zmq.DONTWAIT)  # behind the last job, on the way jobs take

    def _start_job(self, queue: OpenQueue, worker: ConnectedWorker, message: Started, now: int) -> None:
        queue.jobs.start(worker.hands, message.batch, message.index, now)
        self._reply(worker.identity, Go(message.batch, message.index))

    def _dismiss(self, queue: OpenQueue, worker: ConnectedWorker, message: Goodbye, now: int) -> None:
        for batch in list(worker.hands.batches.values()):  # it has begun none of what is left
            queue.jobs.release(worker.hands, batch.no, batch.remaining(), now)
        self._lose(queue, worker, now)
        self._reply(worker.identity, Goodbye())

    def _lose(self, queue: OpenQueue, worker: ConnectedWorker, now: int) -> None:
        count = queue.jobs.lose(worker.hands, now)
        if count:
            log.warning(
                "queue %s: %s went away with %d jobs; others get them", queue.jobs.name, worker.hands.worker, count
            )
        if not worker.connected:
            self._poller.unregister(worker.push)
        worker.close()
        queue.workers.remove(worker)
        del self._workers[worker.identity]

    def _look_after_workers(self, now: int) -> None:
        if now - self._ping_ns >= HEARTBEAT_NS:
            self._ping_ns = now
            for queue, worker in list(self._workers.values()):
                silent_max = max(SILENT_MAX_NS, 3 * queue.jobs.config.lease_ns)
                if not self._reply(worker.identity, Ping()) or now - worker.heard_ns > silent_max:
                    self._lose(queue, worker, now)
        for queue, worker in self._workers.values():
            if queue.jobs.expire(worker.hands, now):
                worker.hands.suspended = True

    # --- work

    def _read_sequence(self, ready: dict[Any, int]) -> None:
        for queue in self._queues.values():
            reader, jobs = queue.reader, queue.jobs
            if reader.events in ready or reader.replay in ready or reader.is_due(queue.wants_frames):
                queue.read()
                if reader.removed_below:
                    self._begin_with_kept(queue)
            queue.feed_judged(self._judged_through())
            if jobs.revives_waiting and reader.last_seq:
                jobs.resume_revived(time.monotonic_ns())
                jobs.resume_skipped()
        last_seq = max((queue.reader.last_seq for queue in self._queues.values()), default=0)
        self._counter.step([queue.backlog for queue in self._queues.values()], last_seq, time.monotonic_ns())

    def _begin_with_kept(self, queue: OpenQueue) -> None:
        """Let a queue that is new, or whose log was lost, begin with the first event that the journal still has."""
        first_seq, queue.reader.removed_below = queue.reader.removed_below, 0
        log.warning("queue %s: events below seq %d were removed; it begins there", queue.jobs.name, first_seq)
        queue.jobs.log.add(1, first_seq - 1)
        queue.backlog.through = max(queue.backlog.through, first_seq - 1)
        for data in self._removed():
            self._decoder.learn(Frame(data, False))

    def _hand_out(self, now: int) -> None:
        self._handed_ns = now
        if self._sink.full:
            return  # nothing may die before there is room for its letter
        for queue in self._queues.values():
            workers = [worker for worker in queue.workers if worker.connected]
            while workers and (count := queue.jobs.available(now)):
                share = -(-count // len(workers))
                for worker in list(workers):
                    batch = queue.jobs.take(worker.hands, now, share)
                    if batch is None or not self._send_jobs(queue, worker, batch, now):
                        workers.remove(worker)

    def _send_jobs(self, queue: OpenQueue, worker: ConnectedWorker, batch: Batch, now: int) -> bool:
        parts = batch.parts()
        frame = cut_jobs(parts, worker.names, queue.jobs.decoder, queue.epoch)
        attempts, flags = queue.jobs.attempts_and_flags(batch)
        deadline_ns = time.time_ns() + queue.jobs.config.lease_ns
        head = encode_jobs_head(worker.token, batch.no, deadline_ns, batch.seqs, attempts, flags)
        try:
            worker.push.send_multipart((head, frame), zmq.DONTWAIT)
        except zmq.Again:  # its PULL is gone; the ping will find out about the rest
            queue.jobs.release(worker.hands, batch.no, range(len(batch.seqs)), now)
            worker.hands.suspended = True
            return False
        return True

    def _tend_sink(self) -> None:
        for queue in self._queues.values():
            jobs = queue.jobs
            if jobs.letters:
                letters, jobs.letters = jobs.letters, []
                batch_no = self._sink.send([letter for letter, _ in letters])
                self._burying += [(batch_no, jobs, job) for _, job in letters]
            if jobs.resolved:
                self._sink.send_resolved(f"queue:{jobs.name}", jobs.resolved)
                jobs.resolved = []
        before = self._sink.socket
        self._sink.poll()
        if self._sink.socket is not before:
            self._poller.unregister(before)
            self._poller.register(self._sink.socket, zmq.POLLIN)
        self._bury()

    def _bury(self) -> None:
        confirmed = self._sink.confirmed
        while self._burying and self._burying[0][0] <= confirmed:
            _, jobs, job = self._burying.popleft()
            jobs.bury(job)

    def _write_logs(self) -> None:
        for queue in self._queues.values():
            try:
                queue.jobs.log.flush()
                self.error = ""
            except RiskwireError as problem:  # acks stay in memory; after a crash those jobs come again
                self.error = str(problem)

    def _revive(self, message: Revive, now: int) -> Revived:
        queue = self._queues.get(message.queue)
        if queue is None and message.action == "held":
            return Revived([])
        if queue is None:
            return Revived(
                [], f"there is no queue {message.queue!r}; there are: {', '.join(sorted(self._queues)) or 'none'}"
            )
        if message.action == "skip":
            return Revived(queue.jobs.skip(message.seqs))
        if message.action == "requeue":
            return Revived(queue.jobs.revive(message.seqs, now))
        if message.action == "held":
            return Revived(queue.jobs.held(message.seqs))
        if message.action == "dead":
            return Revived([seq for seq in message.seqs if seq in queue.jobs.log.dead])
        return Revived([], f"{message.action!r} cannot be done; expected requeue, skip, held or dead")
