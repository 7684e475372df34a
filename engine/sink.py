"""The dead-letter sink: a thread that owns the store, and the client that keeps letters until they are safe.

One message is one part: `RWD1`, a batch number (u64, little endian) and a msgpack array of DeadLetter; `RWR1`
instead carries `[stage, [seq, …]]`, the jobs that were dead letters and are now done. The answer is `RWD1` and a
batch number: every batch of this sender up to it is on the disk. A sender resends from there on when no answer
comes. A sender that sets its ZMQ_ROUTING_ID (and numbers its batches from 1) is known again after a crash of the
sink, so that what it resends is not counted twice.
"""

from __future__ import annotations

import itertools
import os
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec
import zmq

from engine.deadletters import Batch, DeadLetterStore
from engine.errors import SinkError
from engine.events import DeadLetter

__all__ = ["DeadLetterStore", "Sink", "SinkClient", "decode_batch", "encode_batch"]

LETTERS = b"RWD1"
RESOLVED = b"RWR1"
HEAD = struct.Struct("<4sQ")
MESSAGE_BYTES_MAX = 32 << 20
COMMIT_MESSAGES_MAX = 1_000  # messages in one transaction
RETRY_S = 0.2  # between tries while the file cannot be written
RESEND_AFTER_S = 2.0
RESEND_WAIT_MAX_S = 30.0  # the wait doubles while no answer comes
MISSING_AFTER_S = 0.05
FLUSH_POLL_S = 0.02
PENDING_LETTERS_MAX = 100_000
SENDER_KEPT_NS = 30 * 24 * 3600 * 1_000_000_000
AUTO_IDENTITY = b"\0"  # libzmq's own identities start with a zero and mean nothing after a reconnect

_encoder = msgspec.msgpack.Encoder(decimal_format="string")
_letters_decoder = msgspec.msgpack.Decoder(list[DeadLetter])
_resolved_decoder = msgspec.msgpack.Decoder(tuple[str, list[int]])


def encode_batch(batch_no: int, letters: Sequence[DeadLetter]) -> bytes:
    """Return one message of letters for the sink."""
    return HEAD.pack(LETTERS, batch_no) + _encoder.encode(letters)


def decode_batch(message: bytes) -> tuple[int, list[DeadLetter]]:
    """Return batch number and letters of one message; raises ValueError for anything else."""
    if len(message) < HEAD.size or message[:4] != LETTERS:
        raise ValueError(f"expected RWD1 and a batch number, found {message[:12]!r}")
    try:
        return HEAD.unpack_from(message)[1], _letters_decoder.decode(memoryview(message)[HEAD.size :])
    except msgspec.MsgspecError as problem:
        raise ValueError(f"not an array of dead letters: {problem}") from None


class Sink:
    """The sink service: one thread, one ROUTER socket, one store.

    context: the ZeroMQ context. endpoint: where to bind, or several.
    path: the SQLite file, made where it is missing.
    Raises SinkError at once where the file cannot be used.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str | Sequence[str], path: str | Path):
        self.path = Path(path)
        self.error = ""  # what keeps the store from being written right now
        self.stored = 0  # letters taken since the start
        self.malformed = 0  # messages that were none of ours
        self._context = context
        self._endpoints = (endpoint,) if isinstance(endpoint, str) else tuple(endpoint)
        self._store = DeadLetterStore(path)
        self._last_nos: dict[bytes, int] = {}
        self._stop_endpoint = f"inproc://sink-stop-{id(self):x}-{time.monotonic_ns():x}"
        self._stop_socket: zmq.Socket[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Bind and begin to take letters; raises what binding raised."""
        stop_socket = self._context.socket(zmq.PAIR)
        stop_socket.linger = 0
        stop_socket.bind(self._stop_endpoint)
        self._stop_socket = stop_socket
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise failure

    def stop(self, timeout_s: float = 10.0) -> None:
        """Store what has arrived, then close socket and file."""
        if self._thread is not None:
            if self._stop_socket is not None and self._thread.is_alive():
                self._stop_socket.send(b"")
            self._thread.join(timeout_s)
            self._thread = None
        if self._stop_socket is not None:
            self._stop_socket.close(0)
            self._stop_socket = None
        self._store.close()

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def is_alive(self) -> bool:
        """Tell whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        router = self._context.socket(zmq.ROUTER)
        stop = self._context.socket(zmq.PAIR)
        try:
            router.linger = 1000  # the last confirmations may leave
            router.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
            router.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a client that reconnects is the same sender
            stop.connect(self._stop_endpoint)
            for endpoint in self._endpoints:
                router.bind(endpoint)
            self._store.forget_senders(time.time_ns() - SENDER_KEPT_NS)
            self._ready.set()
            self._serve(router, stop)
        except BaseException as problem:
            self._failure = problem
            self.error = str(problem)
        finally:
            router.close()
            stop.close(0)
            self._ready.set()

    def _serve(self, router: zmq.Socket[bytes], stop: zmq.Socket[bytes]) -> None:
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(stop, zmq.POLLIN)
        stopping = False
        while not stopping:
            stopping = stop in dict(poller.poll())
            while messages := _drain(router):
                if not self._take(router, messages, stop):
                    return

    def _take(self, router: zmq.Socket[bytes], messages: list[tuple[bytes, bytes]], stop: zmq.Socket[bytes]) -> bool:
        """Store messages and confirm them; retried until the file takes them, or told to stop (False)."""
        while True:
            try:
                confirmed = self._store_messages(messages)
                break
            except SinkError as problem:  # a full disk: senders keep what is not confirmed
                self.error = str(problem)
                if stop.poll(int(RETRY_S * 1000)):
                    return False
        self.error = ""
        for identity in confirmed:
            try:
                router.send_multipart((identity, HEAD.pack(LETTERS, self._last_nos[identity])), zmq.DONTWAIT)
            except zmq.ZMQError:  # the sender is gone, or reads nothing: it will ask again
                continue
        return True

    def _store_messages(self, messages: list[tuple[bytes, bytes]]) -> set[bytes]:
        """Store what is new in one transaction; return the senders to answer."""
        last_nos: dict[bytes, int] = {}
        batches: list[Batch] = []
        stored = malformed = 0
        for identity, message in messages:
            if len(message) < HEAD.size or message[:4] not in (LETTERS, RESOLVED):
                malformed += 1
                continue
            kind, batch_no = HEAD.unpack_from(message)
            last_no = last_nos[identity] if identity in last_nos else self._last_no(identity)
            last_nos[identity] = last_no
            if batch_no <= last_no or (batch_no > last_no + 1 and not identity.startswith(AUTO_IDENTITY)):
                continue  # here already, or one before it was lost: the answer says which is expected
            last_nos[identity] = batch_no
            sender = _sender_text(identity)
            if kind == LETTERS:
                letters = _decode_or_keep(message)
                stored += len(letters)
                batches.append(Batch(letters, sender=sender, batch_no=batch_no))
            else:
                batches.append(Batch((), *_decode_resolved(message), sender, batch_no))
        if batches:
            self._store.record_batches(batches)
        self._last_nos.update(last_nos)
        self.stored += stored
        self.malformed += malformed
        return set(last_nos)

    def _last_no(self, identity: bytes) -> int:
        if identity not in self._last_nos:
            sender = _sender_text(identity)
            self._last_nos[identity] = self._store.batch_no_of(sender) if sender else 0
        return self._last_nos[identity]


def _drain(router: zmq.Socket[bytes]) -> list[tuple[bytes, bytes]]:
    """Take what is there, at most what one transaction should hold."""
    messages: list[tuple[bytes, bytes]] = []
    try:
        while len(messages) < COMMIT_MESSAGES_MAX:
            parts = router.recv_multipart(zmq.DONTWAIT)
            messages.append((parts[0], parts[1] if len(parts) == 2 else b""))
    except zmq.Again:
        pass
    return messages


def _sender_text(identity: bytes) -> str:
    return "" if identity.startswith(AUTO_IDENTITY) else identity.hex()


def _decode_resolved(message: bytes) -> tuple[str, list[int]]:
    try:
        return _resolved_decoder.decode(memoryview(message)[HEAD.size :])
    except msgspec.MsgspecError:
        return "", []


def _decode_or_keep(message: bytes) -> list[DeadLetter]:
    """Return the letters of a message; one that cannot be read is itself kept as a letter, never dropped."""
    try:
        return decode_batch(message)[1]
    except ValueError as problem:
        return [
            DeadLetter(
                reason="undecodable",
                stage="sink",
                error=f"a message to the sink: {problem}",
                payload=message,
                at=time.time_ns(),
            )
        ]


class SinkClient:
    """Hands letters to a sink and keeps them until the sink has them on the disk. Used by one thread.

    context: the ZeroMQ context. endpoint: of the sink, which may start later or start again.
    letters_max: how many unconfirmed letters make the client `full`; senders should then wait.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        letters_max: int = PENDING_LETTERS_MAX,
        resend_after_s: float = RESEND_AFTER_S,
    ) -> None:
        self.confirmed = 0  # every batch up to this one is on the disk
        self.sent = 0  # the last batch given a number
        self.pending_letters = 0
        self.letters_max = letters_max
        self._context = context
        self._endpoint = endpoint
        self._resend_after_s = resend_after_s
        self._pending: deque[tuple[int, bytes, int]] = deque()  # batch_no, message without its head, letters
        self._wire_next = 1  # the next batch to put on the wire
        self._base = 0  # batch numbers on the wire start after it
        self._resend_wait_s = resend_after_s
        self._heard_at = time.monotonic()
        self.socket = self._connect()

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing piles up for a sink that is not there
        socket.setsockopt(zmq.ROUTING_ID, b"S" + os.urandom(15))
        socket.connect(self._endpoint)
        return socket

    @property
    def full(self) -> bool:
        """Tell whether as many letters wait for confirmation as may."""
        return self.pending_letters >= self.letters_max

    @property
    def idle(self) -> bool:
        """Tell whether everything sent is confirmed."""
        return not self._pending

    def send(self, letters: Sequence[DeadLetter]) -> int:
        """Send letters; return the number of their batch: they are safe when `confirmed` has reached it."""
        return self._send(LETTERS, _encoder.encode(letters), len(letters))

    def send_resolved(self, stage: str, seqs: Sequence[int]) -> int:
        """Tell that jobs of a stage (`queue:<name>`) that were dead are done; return the batch number."""
        return self._send(RESOLVED, _encoder.encode((stage, seqs)), 1)

    def _send(self, kind: bytes, body: bytes, letters: int) -> int:
        if not self._pending:
            self._heard_at = time.monotonic()
        self.sent += 1
        self.pending_letters += letters
        self._pending.append((self.sent, kind + body, letters))
        self._push()
        return self.sent

    def _push(self) -> None:
        """Put on the wire what is not there yet, as far as the socket takes it."""
        if not self._pending:
            return
        for batch_no, tagged, _ in itertools.islice(self._pending, self._wire_next - self._pending[0][0], None):
            try:
                self.socket.send(HEAD.pack(tagged[:4], batch_no - self._base) + tagged[4:], zmq.DONTWAIT)
            except zmq.Again:
                return
            self._wire_next = batch_no + 1

    def poll(self) -> int:
        """Take confirmations and resend what has gone unanswered, without waiting; return `confirmed`."""
        while True:
            try:
                message = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            if len(message) == HEAD.size and message[:4] == LETTERS:
                self._take_confirmation(HEAD.unpack(message)[1] + self._base)
        if self._pending and time.monotonic() - self._heard_at > self._resend_wait_s:
            self._resend_wait_s = min(2 * self._resend_wait_s, RESEND_WAIT_MAX_S)
            self._resend()
        elif self._pending and self._wire_next <= self.sent:
            self._push()
        return self.confirmed

    def _take_confirmation(self, batch_no: int) -> None:
        if batch_no < self.confirmed:
            self._start_again()
            return
        if batch_no == self.confirmed:
            # The sink misses the next one, or has only answered a batch that it got twice.
            if self._pending and time.monotonic() - self._heard_at > MISSING_AFTER_S:
                self._resend()
            return
        self._heard_at = time.monotonic()
        self._resend_wait_s = self._resend_after_s
        while self._pending and self._pending[0][0] <= batch_no:
            _, _, letters = self._pending.popleft()
            self.pending_letters -= letters
        self.confirmed = min(batch_no, self.sent)
        self._wire_next = max(self._wire_next, self.confirmed + 1)

    def _start_again(self) -> None:
        """Begin a new numbering: the sink has another file now and knows nothing of ours."""
        self.socket.close(0)
        self.socket = self._connect()
        self._base = self.confirmed
        self._resend()

    def _resend(self) -> None:
        self._heard_at = time.monotonic()
        if self._pending:
            self._wire_next = self._pending[0][0]
        self._push()

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything is confirmed; return whether it is."""
        deadline = time.monotonic() + timeout_s
        self.poll()
        while self._pending:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self.socket.poll(int(min(left_s, FLUSH_POLL_S) * 1000) + 1)
            self.poll()
        return True

    def close(self) -> None:
        """Close the socket; what is not confirmed may be lost unless `flush` came first."""
        self.socket.close(0)
