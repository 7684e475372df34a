"""The publishing end of the stream: numbered frames out, acks back, resends where something got lost.

A publisher has no thread of its own: it sends, listens and resends while one of its methods runs, so one that waits
for long calls `poll` now and then. Whatever happens in between, a frame is kept until the broker has acked it, and
what arrives twice the broker recognises.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import msgspec
import zmq

from engine.endpoints import endpoint
from engine.errors import EngineBehind, EngineUnreachable, InvalidEvent, UsageError
from engine.events import Event, LimitsChanged
from engine.wire import ACK, HELLO, NAK, WELCOME, Control, decode_control, watch_connection
from ext.encoder import EncodeError, EventEncoder
from ext.outlet import let_go, send_stamped
from ext.records import MAX_FRAME_BYTES, Frame, FrameBuilder

__all__ = ["Publisher", "PublisherStats"]

WINDOW_FRAMES: Final = 64
OPEN_RECORDS_MAX: Final = 4096  # events in one frame while the window is full
OPEN_BYTES_MAX: Final = 1 << 20
RESEND_AFTER_S: Final = 1.0  # of silence with something unacked
HELLO_EVERY_S: Final = 0.25
WAIT_S: Final = 5.0
LISTEN_EVERY: Final = 8  # frames, while the window is not full
POLL_S: Final = 0.05
NAMES_FRAME_BYTES: Final = 1 << 20
LINGER_MS: Final = 1000
WELCOME_WAIT_S: Final = 0.25  # for an engine that is there; one that is not is waited for by `flush`
WELCOME_POLL_MS: Final = 2  # a socket that has just connected does not say so

_AT_MOST: Final = f"a message has at most {MAX_FRAME_BYTES:,}: a larger one would end the connection"

_COUNTS: Final = struct.Struct("<II")  # record_count and definition_bytes
_COUNTS_OFFSET: Final = 8  # of a frame


class PublisherStats(msgspec.Struct, frozen=True):
    """Counts of one publisher: events sent, acked, and of those already known (duplicates) or refused."""

    sent: int
    acked: int
    duplicates: int
    refused: int
    resent_frames: int


class _Lane:
    """One incarnation: a numbering and a set of name ids of its own. Events and a feed's frames each have one."""

    def __init__(self) -> None:
        self.incarnation = secrets.randbits(63) | 1
        self.next_seq = 1  # source_seq of the next record
        self.unacked: deque[tuple[int, bytes | bytearray]] = deque()  # (last source_seq, frame)
        self.welcome = False  # the broker knows this incarnation, as far as we know
        self.wanted = False  # a frame waits for the broker's welcome
        self.hello_at = 0.0
        self.duplicates = 0
        self.refused = 0
        self.names: list[tuple[int, int, bytes]] = []  # what to define again after a restart of the broker

    @property
    def first_unacked(self) -> int:
        """The source_seq that the broker will see next from here if it has lost everything unacked."""
        if not self.unacked:
            return self.next_seq
        return _first_seq(self.unacked[0][1])


class Publisher:
    """Publishes events, or a feed's frames, to a running engine.

    base: the engine's base endpoint, or with ``role=""`` the publish endpoint itself. source: who publishes, 1 to 64
    bytes. context: the ZeroMQ context to share, needed for ``inproc://``. window: frames that may be unacked (the
    engine may allow fewer). wait_s: how long to wait for an engine that does not answer. when_full: what to do
    with more while the engine is behind: ``"block"`` until it takes it, or ``"raise"`` EngineBehind at once (for a feed
    that cannot wait). seal: False leaves out the CRC of frames, for a broker of this process that looks at none.
    Not to be used by two threads at once. It may be made before the engine is up.

    >>> publisher = Publisher("ipc:///run/riskwire", "desk-1")            # doctest: +SKIP
    >>> publisher.publish(TradeExecuted(...)); publisher.close()          # doctest: +SKIP
    """

    def __init__(
        self,
        base: str,
        source: str,
        *,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        window: int = WINDOW_FRAMES,
        wait_s: float = WAIT_S,
        role: str = "publish",
        when_full: Literal["block", "raise"] = "block",
        seal: bool = True,
    ) -> None:
        if when_full not in ("block", "raise"):
            raise UsageError(f"when_full is {when_full!r}; expected 'block' or 'raise'")
        if not 1 <= len(source.encode()) <= 64:
            raise UsageError(f"source {source[:80]!r} is {len(source.encode())} bytes long; expected 1 to 64")
        self.source = source
        self.endpoint = endpoint(base, role) if role else base
        self.wait_s = wait_s
        self._seal = seal
        self._raises = when_full == "raise"
        self._hopeful = True  # an engine is likely to answer at once: worth a moment
        self._window = max(window, 1)
        self._credit = self._window
        self._encoder = EventEncoder()
        self._events = _Lane()
        self._frames = _Lane()
        self._lanes = {lane.incarnation: lane for lane in (self._events, self._frames)}
        self._answered_at = 0.0  # never
        self._quiet_since = self._progress_at = time.monotonic()
        self._resent = 0
        self._calls = 0
        self._context = context or zmq.Context.instance()
        self._socket = self._connect()
        self._closed = False

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = LINGER_MS
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is queued for a broker that is not there
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        watch_connection(socket, self.endpoint)
        socket.connect(self.endpoint)
        return socket

    # --- publishing ------------------------------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """Publish one event: at once while the engine keeps up, else with others in one frame.

        Raises InvalidEvent for an event that the engine would refuse as it stands, EngineUnreachable where more than
        one frame's worth waits and no engine takes it within ``wait_s``, EngineBehind (with ``when_full="raise"``)
        where it has not yet taken one frame's worth; the event is not published then.
        """
        if self._frames.unacked:
            self._drain_lane(self._frames)
        if self._raises and self._is_full():
            self._listen()
            if not self._send_open():
                raise EngineBehind(self._behind())
        self._add(event)
        self._listen()
        if not self._send_open() and not self._events.welcome and self._hopeful:
            self._greet_and_wait()
        if self._is_full() and not self._raises:
            self._wait_until(self._send_open, None)

    def _add(self, event: Event) -> None:
        """Put an event into the open frame. Raises InvalidEvent."""
        if isinstance(event, LimitsChanged) and len(self._encoder):
            self._wait_until(self._send_open, None)  # alone in a frame: it may be large
        try:
            self._encoder.add(event)
        except EncodeError as problem:
            raise InvalidEvent(problem.reason, str(problem)) from None
        if (size := self._encoder.size_bytes) > MAX_FRAME_BYTES:
            self._encoder.finish()  # forgets it: only limits can be so large, and they define no names
            raise InvalidEvent("overflow", f"{type(event).__name__} of {size:,} bytes; {_AT_MOST}")

    def _is_full(self) -> bool:
        return len(self._encoder) >= OPEN_RECORDS_MAX or self._encoder.size_bytes >= OPEN_BYTES_MAX

    def _greet_and_wait(self) -> None:
        """Wait a moment for the engine's welcome, so that an event that comes alone leaves at once."""
        deadline = time.monotonic() + WELCOME_WAIT_S
        while not self._send_open():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self._hopeful = False  # until something is heard of it
                return
            self._socket.poll(min(WELCOME_POLL_MS, int(left_s * 1000) + 1))
            self._listen()

    def publish_frame(self, frame: bytearray) -> None:
        """Publish a feed's frame of up to 8192 records.

        It is stamped in place. Once published it must not be changed, nor published again: libzmq may have it without a
        copy.

        Raises EngineUnreachable where the engine takes nothing for ``wait_s``, EngineBehind (with
        ``when_full="raise"``) where it takes nothing now, InvalidEvent for a frame of more than 32 MiB; the frame is
        not published then.
        """
        if len(frame) > MAX_FRAME_BYTES:
            raise InvalidEvent("overflow", f"a frame of {len(frame):,} bytes; {_AT_MOST}")
        if len(self._encoder) or self._events.unacked:
            self._drain_lane(self._events)
        records, definition_bytes = _COUNTS.unpack_from(frame, _COUNTS_OFFSET)
        lane = self._frames
        if records:
            self._wait_for_room(lane)
        if definition_bytes:
            lane.names += Frame(frame, check_crc=False).definitions()
        if records:  # names alone are defined again by us when the broker does not know them
            self._send_new(lane, frame, records)

    def _wait_for_room(self, lane: _Lane) -> None:
        """Wait until a frame may be sent. Raises EngineUnreachable, EngineBehind."""
        self._calls += 1
        if self._calls % LISTEN_EVERY == 0 or not self._may_send(lane):
            self._listen()
        if not self._may_send(lane):
            lane.wanted = True
            if self._raises and (lane.welcome or not self._hopeful):
                raise EngineBehind(self._behind())
            self._wait_until(lambda: self._may_send(lane), None)

    def poll(self) -> int:
        """Send what waits, take acks, resend where needed, all without waiting; return the events not yet acked."""
        self._listen()
        self._send_open()
        return self.unacked

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything published is acked: journaled, known already, or refused and kept.

        timeout_s: default ``wait_s`` since the engine was last heard. Raises EngineUnreachable.
        """
        for lane in (self._events, self._frames):
            self._drain_lane(lane, timeout_s)

    def close(self, timeout_s: float | None = None) -> None:
        """Flush and close. Raises EngineUnreachable where not everything could be acked; it is closed all the same."""
        if self._closed:
            return
        try:
            self.flush(timeout_s)
        finally:
            self._closed = True
            self._socket.close()

    def abandon(self) -> None:
        """Close at once; what is not acked may be lost."""
        self._closed = True
        self._socket.close(0)

    def __enter__(self) -> Publisher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    @property
    def unacked(self) -> int:
        """Events published and not yet acked."""
        return len(self._encoder) + sum(lane.next_seq - lane.first_unacked for lane in self._lanes.values())

    @property
    def stats(self) -> PublisherStats:
        """The counts so far; duplicates and refused as of the last ack."""
        lanes = self._lanes.values()
        return PublisherStats(
            sent=sum(lane.next_seq - 1 for lane in lanes),
            acked=sum(lane.first_unacked - 1 for lane in lanes),
            duplicates=sum(lane.duplicates for lane in lanes),
            refused=sum(lane.refused for lane in lanes),
            resent_frames=self._resent,
        )

    # --- sending ---------------------------------------------------------------------------------------------------

    def _may_send(self, lane: _Lane) -> bool:
        return lane.welcome and len(lane.unacked) < self._credit

    def _send_open(self) -> bool:
        """Send the events that wait if the engine can take a frame; tell whether none waits any more."""
        lane = self._events
        waiting = len(self._encoder)
        if waiting and self._may_send(lane):
            frame = self._encoder.finish()
            if _COUNTS.unpack_from(frame, _COUNTS_OFFSET)[1]:
                lane.names += Frame(frame, check_crc=False).definitions()
            self._send_new(lane, frame, waiting)
            waiting = 0
        return waiting == 0

    def _send_new(self, lane: _Lane, frame: bytearray, records: int) -> None:
        first = lane.next_seq
        if not lane.unacked:
            self._quiet_since = time.monotonic()  # silence counts from here
        lane.next_seq += records
        lane.unacked.append((lane.next_seq - 1, frame))
        if not send_stamped(self._socket, frame, first, lane.incarnation, self._seal):
            lane.welcome = False  # the connection is gone: it goes again after the next welcome

    def _send(self, message: bytes | bytearray) -> bool:
        """Hand a message to libzmq; False where no broker is connected or its queue is full (it is sent again then)."""
        try:
            self._socket.send(message, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def _greet(self, lane: _Lane) -> None:
        """Say HELLO, at most every HELLO_EVERY_S, until the broker answers."""
        now = time.monotonic()
        if lane.welcome or now - lane.hello_at < HELLO_EVERY_S:
            return
        hello = Control(HELLO, lane.incarnation, a=lane.first_unacked, text=self.source.encode())
        if self._send(hello.encode()):
            lane.hello_at = now

    def _resend(self, lane: _Lane, first: int) -> None:
        """Send the unacked frames again that hold source_seq `first` and later ones."""
        for last, frame in lane.unacked:
            if last >= first:
                self._resent += 1
                if not self._send(frame):
                    return

    def _define_again(self, lane: _Lane) -> None:
        """Define every name again, in frames without records, for a broker that has forgotten them."""
        builder = FrameBuilder()
        for kind, name_id, text in lane.names:
            builder.define_name(kind, name_id, text)
            if builder.size_bytes >= NAMES_FRAME_BYTES:
                self._send(builder.finish(lane.first_unacked, lane.incarnation))
        self._send(builder.finish(lane.first_unacked, lane.incarnation))

    # --- listening -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take what the broker has said, and see to silence."""
        while True:
            try:
                message = self._socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                break
            self._take(message)
        needy = [lane for lane in self._lanes.values() if lane.unacked or lane.wanted or self._waits(lane)]
        if needy and time.monotonic() - self._quiet_since > RESEND_AFTER_S:
            self._quiet_since = time.monotonic()
            if self.endpoint.startswith("inproc://"):
                self._reconnect()
            for lane in needy:
                lane.welcome = False
                lane.hello_at = 0.0
        for lane in needy:
            self._greet(lane)

    def _waits(self, lane: _Lane) -> bool:
        return lane is self._events and len(self._encoder) > 0

    def _reconnect(self) -> None:
        """Connect anew: libzmq does not do that by itself over inproc when a broker was started again."""
        self._socket.close(0)
        self._socket = self._connect()

    def _take(self, message: bytes) -> None:
        control = decode_control(message)
        lane = self._lanes.get(control.incarnation) if control else None
        if control is None or lane is None:
            return
        self._answered_at = self._quiet_since = time.monotonic()
        if control.type == ACK:
            self._take_ack(lane, control)
        elif control.type == WELCOME and not lane.welcome:
            self._take_welcome(lane, control)
        elif control.type == NAK and control.a == 0:
            lane.welcome = False
            self._greet(lane)
        elif control.type == NAK and lane.welcome:
            self._resend(lane, control.a)

    def _take_ack(self, lane: _Lane, ack: Control) -> None:
        while lane.unacked and lane.unacked[0][0] <= ack.a:
            lane.unacked.popleft()
            self._progress_at = self._answered_at
        let_go()  # what the broker has taken libzmq is done with
        lane.duplicates, lane.refused = ack.c >> 32, ack.c & 0xFFFFFFFF

    def _take_welcome(self, lane: _Lane, welcome: Control) -> None:
        """Go on where the broker is: names first if it knows none, then what it has not taken."""
        lane.welcome = self._hopeful = True
        lane.wanted = False
        self._credit = min(self._window, max(welcome.c, 1))
        if welcome.b == 0 and lane.names:
            self._define_again(lane)
        self._resend(lane, welcome.a + 1)

    # --- waiting ---------------------------------------------------------------------------------------------------

    def _drain_lane(self, lane: _Lane, timeout_s: float | None = None) -> None:
        """Wait until everything of a lane is acked, the events that wait included."""
        if lane is self._events:
            self._wait_until(lambda: self._send_open() and not lane.unacked, timeout_s)
        else:
            self._wait_until(lambda: not lane.unacked, timeout_s)

    def _wait_until(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        """Listen until `done`. timeout_s: in all; None: ``wait_s`` without any progress. Raises EngineUnreachable."""
        if done():
            return
        self._progress_at = time.monotonic()
        started = self._progress_at
        while True:
            self._listen()
            if done():
                return
            now = time.monotonic()
            since = started if timeout_s is not None else self._progress_at
            limit_s = self.wait_s if timeout_s is None else timeout_s
            if now - since >= limit_s:
                raise EngineUnreachable(self._complaint(limit_s))
            self._socket.poll(int(min(POLL_S, limit_s - (now - since)) * 1000) + 1)

    def _behind(self) -> str:
        return (
            f"the engine at {self.endpoint} is behind: {self.unacked} events are not acked yet; "
            "publish again later, or wait with `flush`"
        )

    def _complaint(self, waited_s: float) -> str:
        if self._answered_at and time.monotonic() - self._answered_at < waited_s:
            return (
                f"the engine at {self.endpoint} answers but has not acked {self.unacked} events in {waited_s:g} s; "
                "look at `riskwire status`"
            )
        return (
            f"no engine answers at {self.endpoint} ({waited_s:g} s waited, {self.unacked} events not acked); "
            "start one with `riskwire serve`, or give its address with --connect"
        )


def _first_seq(frame: bytes | bytearray) -> int:
    return int.from_bytes(frame[16:24], "little")
