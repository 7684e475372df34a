"""Sequenced frames in order from any seq, each once: subscribe first, fetch what came before, drop the overlap."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import zmq
import zmq.asyncio

from engine.endpoints import check_base, endpoint
from engine.errors import FrameDecodeError, RiskwireError
from engine.wire import FETCH, FETCHED, HEARTBEAT, Control, decode_control, watch_connection
from ext.records import KIND_SEQUENCED, MAX_FRAME_BYTES, Frame

FETCH_BYTES: Final = 4 << 20
RETRY_S: Final = 0.5
HELD_FRAMES_MAX: Final = 256
DRAIN_MAX: Final = 256
FOREVER_S: Final = 3600.0 * 10_000
CRC_OFFSET: Final = 40  # of a frame


class Subscription:
    """Two sockets, one that is pushed to and one that is asked, drained without waiting."""

    def __init__(self, context: zmq.Context[Any] | None) -> None:
        self._context: zmq.Context[Any] = context or zmq.Context.instance()
        self._sub: zmq.Socket[bytes] | None = None
        self._asked: zmq.Socket[bytes] | None = None
        self._poller: zmq.Poller | None = None
        self._async_poller: zmq.asyncio.Poller | None = None

    def _subscribe(self, address: str, topics: list[bytes], hwm: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        socket.linger = 0
        socket.rcvhwm = hwm
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        for topic in topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        watch_connection(socket, address)
        socket.connect(address)
        return socket

    def _wait(self, seconds: float) -> None:
        if self._poller is None:
            self._poller = zmq.Poller()
            self._poller.register(self._sub, zmq.POLLIN)
            self._poller.register(self._asked, zmq.POLLIN)
        self._poller.poll(_milliseconds(seconds))

    async def _wait_async(self, seconds: float) -> None:
        if self._async_poller is None:
            self._async_poller = zmq.asyncio.Poller()
            self._async_poller.register(self._sub, zmq.POLLIN)
            self._async_poller.register(self._asked, zmq.POLLIN)
        await self._async_poller.poll(_milliseconds(seconds))

    def close(self) -> None:
        """Close the sockets."""
        for socket in (self._sub, self._asked):
            if socket is not None:
                socket.close(0)
        self._sub = self._asked = None
        self._poller = self._async_poller = None


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000) + 1)


def messages(socket: zmq.Socket[bytes] | None) -> Iterator[list[bytes]]:
    """Yield what has arrived, at most DRAIN_MAX messages."""
    assert socket is not None, "the stream is closed"
    for _ in range(DRAIN_MAX):
        try:
            yield socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return


class EventStream(Subscription):
    """Sequenced frames in order, from any seq on, each seq once: what the topic drops is fetched.

    base: the engine's address. from_seq: the first seq wanted (1: everything).
    check_crc: verify frames; over inproc they never left the process.
    on_lost: called where the engine has come back without what was read before (it has other events at those seqs): the
    stream then begins again with its first event. Without it, reading raises RiskwireError.
    on_removed: called with the first seq that the engine still has, where what was wanted has been removed: the stream
    then goes on there; the names in what follows may have been defined before (`EngineClient.names`). Without it,
    reading raises RiskwireError.
    A frame may begin before the first seq wanted or overlap the one before it: judge records by their seq.
    """

    def __init__(
        self,
        base: str,
        from_seq: int = 1,
        *,
        context: zmq.Context[Any] | None = None,
        hwm: int = 1_000,
        check_crc: bool | None = None,
        insecure: bool = False,
        on_lost: Callable[[], None] | None = None,
        on_removed: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(context)
        check_base(base, insecure)
        self.next_seq = from_seq
        self._on_lost = on_lost
        self._on_removed = on_removed
        self._anchor: tuple[int, int, bytes] | None = None  # epoch, first seq and CRC of the frame read last
        self._doubt = False  # another epoch: is that frame still there?
        self._sure = False  # what is being fetched began with that frame
        self.last_seq = 0  # the highest seq the broker is known to have given
        self.gaps = 0
        self.caught_up = False
        self._base = base
        self._epoch = 0
        self._check_crc = not base.startswith("inproc://") if check_crc is None else check_crc
        self._held: deque[tuple[Frame, bytes]] = deque()  # with the message it came in
        self._ready: deque[Frame] = deque()
        self._fetching = False
        self._asked_at = 0.0
        self._sub = self._subscribe(endpoint(base, "events"), [b"RW"], hwm)
        self._asked = self._context.socket(zmq.DEALER)
        self._asked.linger = 0
        self._asked.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        watch_connection(self._asked, base)
        self._asked.connect(endpoint(base, "replay"))
        self._fetch()

    def next_frame(self, timeout_s: float | None = None) -> Frame | None:
        """Return the next frame, or None when nothing came for timeout_s (None: wait for ever)."""
        deadline = time.monotonic() + (FOREVER_S if timeout_s is None else timeout_s)
        while not self._ready:
            self._pump()
            left_s = deadline - time.monotonic()
            if self._ready:
                break
            if left_s <= 0:
                return None
            self._wait(min(left_s, RETRY_S))
        return self._ready.popleft()

    async def next_frame_async(self, timeout_s: float | None = None) -> Frame | None:
        """Return the next frame as `next_frame` does, without blocking the event loop."""
        deadline = time.monotonic() + (FOREVER_S if timeout_s is None else timeout_s)
        while not self._ready:
            self._pump()
            left_s = deadline - time.monotonic()
            if self._ready:
                break
            if left_s <= 0:
                return None
            await self._wait_async(min(left_s, RETRY_S))
        return self._ready.popleft()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.next_frame()) is not None:
            yield frame

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while (frame := await self.next_frame_async()) is not None:
            yield frame

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], ...]:
        """The sockets to poll for whoever waits for several things; then call `next_frame(0)` until None."""
        return tuple(socket for socket in (self._sub, self._asked) if socket is not None)

    def _pump(self) -> None:
        for parts in messages(self._asked):
            self._take_fetched(parts[0])
        for parts in messages(self._sub):
            self._take_live(parts[0])
            if len(self._ready) >= HELD_FRAMES_MAX:
                break
        if self._fetching and time.monotonic() - self._asked_at > RETRY_S:
            self._fetch()

    def _fetch(self) -> None:
        self._fetching, self._sure = True, False
        self._asked_at = time.monotonic()
        first = self.next_seq - 1 if self._doubt else self.next_seq
        upto = self._held[0][0].first_seq - 1 if self._held and not self._doubt else 0
        assert self._asked is not None
        try:
            self._asked.send(Control(FETCH, a=first, b=upto, c=FETCH_BYTES).encode(), zmq.DONTWAIT)
        except zmq.Again:
            return  # no broker for long: asked again after RETRY_S

    def _take_live(self, message: bytes) -> None:
        if (control := decode_control(message)) is not None:
            if control.type == HEARTBEAT and self._is_known(control.epoch):
                self._note_last(control.a)
            return
        frame = self._open(message)
        if frame is None or not self._is_known(frame.epoch) or _last(frame) < self.next_seq:
            return
        self.last_seq = max(self.last_seq, _last(frame))
        if not self._fetching and frame.first_seq <= self.next_seq:
            self._deliver(frame, message)
        elif len(self._held) < HELD_FRAMES_MAX:
            self._held.append((frame, message))
            self._begin_gap()

    def _is_known(self, epoch: int) -> bool:
        """Tell whether what this epoch says can be used; of another one, the frame read last is asked for first."""
        if epoch != self._epoch:
            self._epoch = epoch
            if self._anchor is not None and not self._doubt:
                self._doubt = True
                self.last_seq = 0
                self._held.clear()
                self._fetch()
        return not self._doubt

    def _settle_doubt(self, frame: Frame, message: bytes) -> None:
        """Compare the engine's frame with the one read last at its place."""
        if frame.first_seq <= self.next_seq - 1 <= _last(frame):
            self._doubt, self._sure = False, True
            if self._anchor != _anchor(frame, message):
                self._begin_again()

    def _goes_on(self, frame: Frame) -> bool:
        """Tell whether a frame that was fetched surely follows the one read last.

        One of another epoch may come from an engine that was asked before it lost its tail: then the frame read last is
        asked for first, and answers for all behind it.
        """
        if self._sure or self._anchor is None or frame.epoch == self._anchor[0]:
            return True
        self._doubt = True
        self._fetch()
        return False

    def _begin_again(self) -> None:
        if self._on_lost is None:
            raise RiskwireError(
                f"the engine at {self._base} has another history: seq {self.next_seq - 1}, which was read before, is "
                "lost or another event; begin again at from_seq=1"
            )
        self.next_seq, self.last_seq, self._anchor, self._doubt = 1, 0, None, False
        self._held.clear()
        self._ready.clear()
        self._on_lost()
        self._fetch()

    def _note_last(self, last_seq: int) -> None:
        self.last_seq = max(self.last_seq, last_seq)
        if last_seq >= self.next_seq:
            self._begin_gap()

    def _begin_gap(self) -> None:
        if not self._fetching:
            self.gaps += 1
            self._fetch()

    def _take_fetched(self, message: bytes) -> None:
        if (control := decode_control(message)) is None:
            frame = self._open(message)
            if frame is not None and self._doubt:
                self._settle_doubt(frame, message)
            elif frame is not None and frame.first_seq <= self.next_seq <= _last(frame) and self._goes_on(frame):
                self._asked_at = time.monotonic()
                self._deliver(frame, message)
            return
        if control.type != FETCHED or not self._fetching:
            return
        self._sure = False
        if not self._is_known(control.epoch):
            if control.epoch == self._epoch and control.b < self.next_seq - 1:
                self._begin_again()
            elif control.epoch == self._epoch and control.c >= self.next_seq:
                self._go_on_at(control.c)  # the frame to compare with is removed
            return
        if control.c > self.next_seq:
            self._go_on_at(control.c)
            return
        self.last_seq = max(self.last_seq, control.b)
        while self._held and self._held[0][0].first_seq <= self.next_seq:
            self._deliver(*self._held.popleft())
        wanted = self._held[0][0].first_seq if self._held else self.last_seq + 1
        if self.next_seq >= wanted:
            self._fetching = False
            self.caught_up = True
        elif control.a > 1 and control.b >= self.next_seq:
            self._fetch()

    def _go_on_at(self, first_seq: int) -> None:
        """Leave out what has been removed."""
        if self._on_removed is None:
            raise RiskwireError(
                f"events from seq {self.next_seq} on were removed by the engine at {self._base}; begin at "
                f"from_seq={first_seq}, the first it has, or give on_removed"
            )
        self.next_seq, self._anchor, self._doubt = first_seq, None, False
        self._on_removed(first_seq)
        self._fetch()

    def _deliver(self, frame: Frame, message: bytes) -> None:
        if _last(frame) >= self.next_seq:
            self._ready.append(frame)
            self.next_seq = _last(frame) + 1
            self._anchor = _anchor(frame, message)

    def _open(self, message: bytes) -> Frame | None:
        try:
            frame = Frame(message, self._check_crc)
        except FrameDecodeError:
            return None  # missing now, and fetched as any gap is
        return frame if frame.kind == KIND_SEQUENCED and len(frame) else None


def _last(frame: Frame) -> int:
    return frame.first_seq + len(frame) - 1


def _anchor(frame: Frame, message: bytes) -> tuple[int, int, bytes]:
    return frame.epoch, frame.first_seq, bytes(message[CRC_OFFSET : CRC_OFFSET + 4])
