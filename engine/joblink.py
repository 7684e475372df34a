"""A worker's side of the wire: a thread that says hello, receives jobs, and carries acks back while handlers run."""

from __future__ import annotations

import os
import socket as sockets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import zmq

from engine.errors import EngineUnreachable, UsageError
from engine.jobframes import JobDecoder, LazyEvents
from engine.jobwire import (
    Ack,
    Drain,
    FromQueue,
    FromWorker,
    Go,
    Goodbye,
    Hello,
    Nack,
    Ping,
    Refused,
    Release,
    Started,
    Unknown,
    Welcome,
    decode_from_queue,
    decode_jobs_head,
    encode,
    shortened,
)
from ext.records import Frame

ACK_EVERY_S = 0.01  # acks of a batch that is still worked on
IDLE_S = 0.2
PING_EVERY_S = 1.0
HELLO_AGAIN_S = 1.0
LEAVE_TIMEOUT_S = 3.0
MESSAGE_BYTES_MAX = 32 << 20


class Hand:
    """One batch of jobs in this worker's hands. Runners append to its lists; the link reads them."""

    __slots__ = ("acked", "attempts", "batch_no", "deadline_ns", "done", "dropped", "events", "flags", "others", "seqs")

    def __init__(
        self,
        batch_no: int,
        deadline_ns: int,
        events: LazyEvents,
        seqs: list[int],
        attempts: list[int],
        flags: list[int],
    ) -> None:
        self.batch_no = batch_no
        self.deadline_ns = deadline_ns
        self.events = events
        self.seqs = seqs
        self.attempts = attempts
        self.flags = flags
        self.done: list[int] = []
        self.others: list[int] = []  # failed or given back
        self.acked = 0  # of done, by the link
        self.dropped = False  # the queue has forgotten this batch: begin nothing more of it

    @property
    def settled(self) -> bool:
        """Tell whether every job is done, failed or given back."""
        return len(self.done) + len(self.others) >= len(self.seqs)


class JobLink:
    """The connection of one worker to its queue. `start` makes the thread; all else may be called from any thread.

    context: the ZeroMQ context. endpoint: of the queue. queue: its name. deliver: called in the link's thread with each
    batch as it comes. failed: called once with the exception that ended the link. batch: how many jobs one call of the
    handler takes.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        queue: str,
        deliver: Callable[[Hand], None],
        failed: Callable[[Exception], None],
        *,
        batch: int = 1,
        wait_s: float = 5.0,
    ) -> None:
        self.welcome: Welcome | None = None
        self.drained = threading.Event()
        self._context = context
        self._endpoint = endpoint
        self._hello = Hello(queue, f"{sockets.gethostname()}-{os.getpid()}", os.getpid(), batch)
        self._deliver = deliver
        self._failed = failed
        self._wait_s = wait_s
        self._outbox: deque[FromWorker] = deque()
        self._going: dict[tuple[int, int], Callable[[bool], None]] = {}
        self._hands: dict[int, Hand] = {}
        self._decoder = JobDecoder()
        self._leaving = False
        self._left = False
        self._welcomed = False  # once is enough: from then on a queue that is away is waited for
        self._heard_at = self._pinged_at = self._hello_at = 0.0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._pull: zmq.Socket[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="worker-link", daemon=True)

    def start(self) -> None:
        """Begin to say hello."""
        self._thread.start()

    def wake(self) -> None:
        """Let the link look at what was done now rather than in a moment."""
        try:
            os.write(self._wake_write, b"\0")
        except OSError:  # full: it will wake anyway; closed: it has ended
            return

    def fail(self, hand: Hand, index: int, kind: str, error: str, traceback: str = "") -> None:
        """Report a job as failed: kind `error` or `lease`."""
        self._outbox.append(Nack(hand.batch_no, index, kind, shortened(error), shortened(traceback)))
        hand.others.append(index)
        self.wake()

    def release(self, hand: Hand, indexes: Sequence[int], suspect: bool = False) -> None:
        """Give back jobs that were never begun; or, suspect, that were handled together until one of them hung."""
        if indexes:
            self._outbox.append(Release(hand.batch_no, list(indexes), suspect))
            hand.others.extend(indexes)
            self.wake()

    def announce(self, hand: Hand, index: int, go: Callable[[bool], None]) -> None:
        """Say that a job is about to begin; go(True) is called in the link's thread when that is noted.

        go(False): the queue has forgotten this batch, do not begin.
        """
        self._going[hand.batch_no, index] = go
        self._outbox.append(Started(hand.batch_no, index))
        self.wake()

    def drain(self) -> None:
        """Ask for no more jobs; `drained` is set when none will come."""
        self._outbox.append(Drain())
        self.wake()

    def leave(self) -> bool:
        """Send what is left, say goodbye and end the thread; return whether the queue has heard it."""
        self._leaving = True
        self.wake()
        self._thread.join(LEAVE_TIMEOUT_S + 1)
        return self._left

    # --- the thread

    def _run(self) -> None:
        dealer = self._context.socket(zmq.DEALER)
        poller = zmq.Poller()
        try:
            dealer.linger = 1000
            dealer.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
            dealer.connect(self._endpoint)
            poller.register(dealer, zmq.POLLIN)
            poller.register(self._wake_read, zmq.POLLIN)
            self._loop(dealer, poller)
        except Exception as problem:
            self._failed(problem)
        finally:
            dealer.close()
            if self._pull is not None:
                self._pull.close(0)
            self.drained.set()
            os.close(self._wake_write)
            os.close(self._wake_read)

    def _loop(self, dealer: zmq.Socket[bytes], poller: zmq.Poller) -> None:
        started = time.monotonic()
        leave_at = 0.0
        while not self._left:
            busy = bool(self._hands)
            ready = dict(poller.poll(int((ACK_EVERY_S if busy else IDLE_S) * 1000)))
            now = time.monotonic()
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            if dealer in ready:
                self._take_messages(dealer, poller, now)
            if self._pull is not None and self._pull in ready:
                self._take_jobs(self._pull)
            self._send_results(dealer)
            self._keep_in_touch(dealer, now)
            if not self._welcomed and now - started > self._wait_s:
                raise EngineUnreachable(
                    f"no queue answered at {self._endpoint} within {self._wait_s:g} s;"
                    " start an engine with `riskwire serve`, or name its address with --connect"
                )
            if self._leaving:
                if self.welcome is None:
                    return
                leave_at = leave_at or self._say_goodbye(dealer, now)
                if now > leave_at:
                    return

    def _say_goodbye(self, dealer: zmq.Socket[bytes], now: float) -> float:
        _send(dealer, Goodbye())
        return now + LEAVE_TIMEOUT_S

    def _keep_in_touch(self, dealer: zmq.Socket[bytes], now: float) -> None:
        if self.welcome is None:
            if now - self._hello_at >= HELLO_AGAIN_S and not self._leaving:
                self._hello_at = now
                _send(dealer, self._hello)
        elif now - self._pinged_at >= PING_EVERY_S:
            self._pinged_at = now
            _send(dealer, Ping())

    def _take_messages(self, dealer: zmq.Socket[bytes], poller: zmq.Poller, now: float) -> None:
        while True:
            try:
                message = decode_from_queue(dealer.recv(zmq.DONTWAIT))
            except zmq.Again:
                return
            except msgspec.MsgspecError:
                continue
            self._heard_at = now
            self._take_message(message, poller)

    def _take_message(self, message: FromQueue, poller: zmq.Poller) -> None:
        if isinstance(message, Welcome):
            self._settle_in(message, poller)
        elif isinstance(message, Go):
            go = self._going.pop((message.batch, message.index), None)
            if go is not None:
                go(True)
        elif isinstance(message, Refused):
            raise UsageError(f"queue {self._hello.queue!r} at {self._endpoint} refused this worker: {message.error}")
        elif isinstance(message, Unknown) and self.welcome is not None:
            self._start_again(poller)
        elif isinstance(message, Goodbye):
            self._left = True

    def _settle_in(self, welcome: Welcome, poller: zmq.Poller) -> None:
        """Connect to the socket that is ours. A second welcome (hello was said twice) replaces the first."""
        self._start_again(poller)
        pull: zmq.Socket[bytes] = self._context.socket(zmq.PULL)
        pull.linger = 0
        pull.rcvhwm = 0  # bounded by credit
        pull.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        pull.connect(welcome.endpoint)
        poller.register(pull, zmq.POLLIN)
        self._pull = pull
        self._decoder = JobDecoder()
        self.welcome = welcome
        self._welcomed = True

    def _start_again(self, poller: zmq.Poller) -> None:
        """Forget what a queue that does not know us gave us: it hands those jobs out again."""
        self.welcome = None
        self._hello_at = 0.0
        for hand in self._hands.values():
            hand.dropped = True
        self._hands.clear()
        self._outbox.clear()
        going, self._going = self._going, {}
        for go in going.values():
            go(False)
        if self._pull is not None:
            poller.unregister(self._pull)
            self._pull.close(0)
            self._pull = None
            self.drained.set()

    def _take_jobs(self, pull: zmq.Socket[bytes]) -> None:
        while True:
            try:
                parts = pull.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if len(parts) != 2:
                self.drained.set()
                continue
            head = decode_jobs_head(parts[0])
            if self.welcome is None or head.token != self.welcome.token:
                continue  # another worker's, whose socket now has the address ours had: its lease will end
            events = self._decoder.decode(Frame(parts[1]))
            hand = Hand(head.batch_no, head.deadline_ns, events, head.seqs, head.attempts, head.flags)
            self._hands[head.batch_no] = hand
            self._deliver(hand)

    def _send_results(self, dealer: zmq.Socket[bytes]) -> None:
        for hand in list(self._hands.values()):
            settled = hand.settled  # read before what is sent: what is appended later is sent later
            count = len(hand.done)
            if settled and hand.acked == 0 and not hand.others:
                _send(dealer, Ack(hand.batch_no))
            elif count > hand.acked:
                _send(dealer, Ack(hand.batch_no, hand.done[hand.acked : count]))
            hand.acked = count
            if settled:
                del self._hands[hand.batch_no]
        while self._outbox:
            _send(dealer, self._outbox.popleft())


def _send(dealer: zmq.Socket[bytes], message: FromWorker) -> None:
    try:
        dealer.send(encode(message), zmq.DONTWAIT)
    except zmq.Again:  # nobody has been there for long; a lost ack only brings the job again
        return
