"""The sequence at the reader's own pace: live frames while it keeps up, fetched ones where it does not.

The queue reads no faster than its workers work: what it has not read lies in the journal and costs no memory here.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from typing import Any

import zmq

from engine.wire import FETCH, FETCHED, FRAME_MAGIC, HEARTBEAT, Control, decode_control
from ext.joinframes import join_frames
from ext.records import Frame, FrameDecodeError

FETCH_BYTES = 1 << 20  # asked for at once
HELD_FRAMES_MAX = 64  # live frames kept while a fetch is on its way
JOINED_RECORDS_MAX = 2048
DRAIN_MAX = 256  # messages taken from one socket before others have their turn
READ_RECORDS_MAX = 16_384  # live events taken by one `read`; the frame that reaches it is taken whole
EVENTS_HWM = 256
ASK_AGAIN_S = 1.0  # a fetch without an answer is asked again; a silent broker is asked for news
MESSAGE_BYTES_MAX = 32 << 20


class SequenceReader:
    """Reads sequenced frames in order from a seq on, only when asked. Made and used in one thread.

    context: the ZeroMQ context. events, replay: the broker's endpoints. next_seq: the first seq wanted.
    A frame may begin below the seq wanted: who reads skips what it has.
    """

    def __init__(self, context: zmq.Context[Any], events: str, replay: str, next_seq: int = 1) -> None:
        self.next_seq = next_seq
        self.last_seq = 0  # the highest seq the broker is known to have given
        self.passed: list[Frame] = []  # live ones that the last `read` did not return, joined as those are
        self.fetches = 0
        self.removed_below = 0  # the first seq kept, where what was wanted is removed; for who reads to set back
        self.damaged = 0
        self._context = context
        self._replay_endpoint = replay
        self._held: deque[Frame] = deque()
        self._asked = False
        self._heard_at = 0.0  # so that the first read asks
        self.events: zmq.Socket[bytes] = context.socket(zmq.SUB)
        self.events.linger = 0
        self.events.rcvhwm = EVENTS_HWM
        self.events.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        self.events.subscribe(b"RW")
        self.events.connect(events)
        self.replay = self._connect_replay()

    def _connect_replay(self) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        socket.connect(self._replay_endpoint)
        return socket

    def read(self, wanted: bool) -> list[Frame]:
        """Return the frames that are next and there, never waiting; unwanted live frames are left to the journal.

        Small ones that follow each other come joined: most of what they cost is then paid once.
        wanted: whether to take more than what was asked for before.
        """
        frames: list[Frame] = []
        self._read_replay(frames)
        self.passed = _join_small(self._read_events(frames, wanted))
        if not self._asked:
            while self._held:
                self._take(self._held.popleft(), frames)
        now = time.monotonic()
        stopped = bool(frames and self.passed)  # what was taken is looked at before more is asked for
        if self._should_ask(wanted and not stopped, now):
            self._ask(now)
        return _join_small(frames)

    def _should_ask(self, wanted: bool, now: float) -> bool:
        behind = wanted and not self._asked and self.next_seq <= self.last_seq
        return behind or now - self._heard_at > ASK_AGAIN_S

    def is_due(self, wanted: bool) -> bool:
        """Tell whether `read` has something to do though no socket is readable."""
        return self._should_ask(wanted, time.monotonic())

    def _ask(self, now: float) -> None:
        self._asked = True
        self._heard_at = now
        self.fetches += 1
        with contextlib.suppress(zmq.Again):  # the broker has been away for long: asked again in a moment
            self.replay.send(Control(FETCH, a=self.next_seq, b=0, c=FETCH_BYTES).encode(), zmq.DONTWAIT)

    def _read_replay(self, frames: list[Frame]) -> None:
        for message in _drain(self.replay):
            self._heard_at = time.monotonic()
            if message[:4] == FRAME_MAGIC:
                self._take(self._open(message), frames)
            elif (control := decode_control(message)) and control.type == FETCHED:
                self.last_seq = max(self.last_seq, control.b)
                self._asked = False
                if control.c > self.next_seq:
                    self.next_seq = self.removed_below = control.c

    def _read_events(self, frames: list[Frame], wanted: bool) -> list[Frame]:
        """Take live frames that are wanted, no more than bring in READ_RECORDS_MAX events; return the others."""
        passed: list[Frame] = []
        end = self.next_seq + READ_RECORDS_MAX
        for message in _drain(self.events):
            if not self._asked:
                self._heard_at = time.monotonic()
            if message[:4] == FRAME_MAGIC:
                frame = self._open(message)
                if frame is None:
                    continue
                self.last_seq = max(self.last_seq, frame.first_seq + len(frame) - 1)
                if wanted and not self._asked and self.next_seq < end:
                    self._take(frame, frames)
                    continue
                passed.append(frame)
                if self._asked and len(self._held) < HELD_FRAMES_MAX:
                    self._held.append(frame)
            elif (control := decode_control(message)) and control.type == HEARTBEAT:
                self.last_seq = max(self.last_seq, control.a)
        return passed

    def _open(self, message: bytes) -> Frame | None:
        try:
            return Frame(message)
        except FrameDecodeError:
            self.damaged += 1
            return None

    def _take(self, frame: Frame | None, frames: list[Frame]) -> None:
        if frame is None:
            return
        first = frame.first_seq
        end = first + len(frame)
        if first <= self.next_seq < end:
            frames.append(frame)
            self.next_seq = end
            self.last_seq = max(self.last_seq, end - 1)

    def fetch(self, seq: int, timeout_s: float = 2.0) -> Frame | None:
        """Return the frame that holds a seq, waiting for it; None where the broker does not answer in time."""
        socket = self._connect_replay()
        try:
            socket.send(Control(FETCH, a=seq, b=seq, c=1).encode())
            deadline = time.monotonic() + timeout_s
            while socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
                message = socket.recv()
                if message[:4] != FRAME_MAGIC:
                    return None
                frame = self._open(message)
                if frame is not None and frame.first_seq <= seq < frame.first_seq + len(frame):
                    return frame
            return None
        finally:
            socket.close(0)

    def close(self) -> None:
        """Close the sockets."""
        self.events.close(0)
        self.replay.close(0)


def _join_small(frames: list[Frame]) -> list[Frame]:
    if len(frames) < 2:
        return frames
    joined: list[Frame] = []
    run: list[Frame] = []
    records = 0
    for frame in frames:
        follows = run and frame.epoch == run[-1].epoch and frame.first_seq == run[0].first_seq + records
        if not follows or records + len(frame) > JOINED_RECORDS_MAX:
            joined += join_frames(run)
            run, records = [], 0
        run.append(frame)
        records += len(frame)
    return joined + join_frames(run)


def _drain(socket: zmq.Socket[bytes]) -> list[bytes]:
    messages: list[bytes] = []
    try:
        while len(messages) < DRAIN_MAX:
            messages.append(socket.recv(zmq.DONTWAIT))
    except zmq.Again:
        pass
    return messages
