"""A broker made of two plain sockets, so that a test decides what is lost, late, damaged or doubled."""

from __future__ import annotations

import threading
from typing import Any

import zmq

from engine.endpoints import endpoint
from engine.wire import FETCH, FETCHED, HEARTBEAT, Control, decode_control
from ext.records import KIND_SEQUENCED, FrameBuilder

TRADE, BUY, SELL = 1, 1, 2
WAIT_S = 60.0


def trades_frame(first_seq: int, count: int, epoch: int = 1, symbol: bytes = b"ABC", price: int = 100) -> bytes:
    """Return a sequenced frame of trades of 1 unit at `price`, seqs from first_seq on; frame 1 defines the names."""
    builder = FrameBuilder(KIND_SEQUENCED)
    if first_seq == 1:
        builder.define_name(0, 1, symbol)
        builder.define_name(1, 1, b"acc")
    for seq in range(first_seq, first_seq + count):
        builder.add_record(
            type=TRADE,
            side=BUY,
            symbol=1,
            account=1,
            id=b"T%d" % seq,
            price=price * 10**9,
            price_exponent=-9,
            volume=10**8,
            volume_exponent=-8,
            executed_at=seq,
        )
    return bytes(builder.finish(first_seq, epoch))


class FakeBroker:
    """Keeps frames, publishes what it is told to, and answers FETCH in a thread of its own."""

    def __init__(self, context: zmq.Context[Any], base: str, mute: bool = False) -> None:
        self.frames: list[tuple[int, int, bytes]] = []  # (first, last, bytes)
        self.epoch = 1
        self.fetches: list[tuple[int, int]] = []
        self.fetched = threading.Event()
        self.mute = mute  # takes requests and does not answer
        self.reply_bytes_max = 1 << 30
        self.frames_left: int | None = None  # to be answered; after them nothing, not even the answer's end
        self._context, self._base = context, base
        self._stop = threading.Event()
        self._bound = threading.Event()
        self._pub: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        self._pub.linger = 0
        self._pub.bind(endpoint(base, "events"))
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()
        assert self._bound.wait(WAIT_S)

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        self._pub.close(0)

    @property
    def last_seq(self) -> int:
        return self.frames[-1][1] if self.frames else 0

    def wait_subscribed(self) -> None:
        """Wait for a subscription to arrive, so that what is published from now on is heard."""
        assert self._pub.poll(int(1000 * WAIT_S)), f"nobody subscribed within {WAIT_S} s"
        assert self._pub.recv() == b"\x01RW"

    def accept(self, frame: bytes, count: int, publish: bool = True) -> None:
        """Number a frame after the last one; `publish=False` is what a slow subscriber loses."""
        first = self.last_seq + 1
        self.frames.append((first, first + count - 1, frame))
        if publish:
            self._pub.send(frame)

    def accept_trades(self, count: int, publish: bool = True) -> None:
        self.accept(trades_frame(self.last_seq + 1, count, self.epoch), count, publish)

    def answer_frames(self, count: int | None) -> None:
        """Fall silent in the middle of an answer, as one that is killed does, behind so many frames; None: never."""
        self.frames_left = count

    def send(self, message: bytes) -> None:
        self._pub.send(message)

    def beat(self) -> None:
        self._pub.send(Control(HEARTBEAT, epoch=self.epoch, a=self.last_seq).encode())

    def _answer(self) -> None:
        router: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        router.linger = 0
        router.bind(endpoint(self._base, "replay"))
        self._bound.set()
        while not self._stop.is_set():
            if router.poll(10):
                identity, message = router.recv_multipart()
                request = decode_control(message)
                assert request is not None
                assert request.type == FETCH
                self.fetches.append((request.a, request.b))
                if not self.mute:
                    self._send_frames(router, identity, request)
                self.fetched.set()
        router.close(0)

    def _send_frames(self, router: zmq.Socket[bytes], identity: bytes, request: Control) -> None:
        next_seq, sent = request.a, 0
        limit = min(request.c, self.reply_bytes_max)
        for first, last, frame in self.frames:
            if last < next_seq:
                continue
            if (request.b and first > request.b) or (sent and sent + len(frame) > limit):
                break
            if self.frames_left is not None:
                if self.frames_left == 0:
                    return
                self.frames_left -= 1
            router.send_multipart([identity, frame])
            sent += len(frame)
            next_seq = last + 1
        if self.frames_left == 0:
            return
        router.send_multipart([identity, Control(FETCHED, epoch=self.epoch, a=next_seq, b=self.last_seq).encode()])
