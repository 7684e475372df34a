"""How many jobs wait in the journal: the events that a queue has not read yet, each looked at once.

A queue reads no further ahead than its workers need, so how many of the events beyond are its jobs has to be counted.
Live frames are counted as they pass; what is missing (after a start, or where PUB dropped some) is fetched a piece at
a time, by one reader for all queues, for at most a fifth of the queue thread's time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import zmq

from engine.jobframes import Records
from engine.jobqueue import JobQueue
from engine.wire import FETCH, FETCHED, FRAME_MAGIC, Control, decode_control
from ext.records import Frame, FrameDecodeError

PIECE_BYTES = 1 << 18  # fetched at once: about a millisecond of work
REST_FACTOR = 4  # between two pieces at least so many times as long as one takes
REST_MIN_NS = 1_000_000
PATIENCE_NS = 20_000_000  # what is missing for a shorter time is just being read
FEW = 16_384  # events: where so few are missing and the queue goes on by itself, nothing is fetched
ASK_AGAIN_NS = 1_000_000_000
MESSAGE_BYTES_MAX = 32 << 20


class Backlog:
    """The jobs of one queue between what it was fed and the sequence's end.

    queue: whose. next_seq: the first seq that it was not fed.
    """

    __slots__ = ("_queue", "jobs", "through")

    def __init__(self, queue: JobQueue, next_seq: int) -> None:
        self.jobs = 0  # counted, and not fed yet
        self.through = next_seq - 1  # every event up to here is counted, or was fed
        self._queue = queue

    def offer(self, frame: Frame) -> None:
        """Count the jobs of a frame if it is the next one."""
        last = frame.first_seq + len(frame) - 1
        if frame.first_seq <= self.through + 1 <= last:
            places = self._queue.jobs_of(frame)
            self.jobs += len(places) - _below(places, self.through + 1 - frame.first_seq)
            self.through = last

    def note_fed(self, frame: Frame, places: Records) -> None:
        """Take out a frame that the queue was fed; places: those of its jobs, ascending."""
        self.jobs -= _below(places, self.through + 1 - frame.first_seq)
        self.through = max(self.through, frame.first_seq + len(frame) - 1)


def _below(places: Records, end: int) -> int:
    """Return how many of ascending places lie before one."""
    return int(np.searchsorted(places, end)) if end > 0 else 0


class BacklogReader:
    """Fetches what backlogs have not counted. Made and used in the queue's thread.

    context: the ZeroMQ context. replay: the broker's endpoint.
    """

    def __init__(self, context: zmq.Context[Any], replay: str) -> None:
        self.pieces = 0
        self._asked_ns = 0  # 0: nothing is on its way
        self._behind_ns = 0  # since when something is missing
        self._nearest: int | None = 0  # the end of what is counted by the backlog that misses least
        self._rest_until_ns = 0
        self._work_ns = 0  # spent on the piece at hand
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.setsockopt(zmq.MAXMSGSIZE, MESSAGE_BYTES_MAX)
        self.socket.connect(replay)

    def due_ns(self) -> int | None:
        """Return when `step` should be called though nothing has come (monotonic), or None."""
        if not self._behind_ns:
            return None
        if self._asked_ns:
            return self._asked_ns + ASK_AGAIN_NS
        return max(self._behind_ns + PATIENCE_NS, self._rest_until_ns)

    def step(self, backlogs: Collection[Backlog], last_seq: int, now: int) -> None:
        """Count what has come, and ask for more where something up to last_seq is missing. Never waits."""
        took = self._take(backlogs)
        # The one that misses least first: another that misses more comes by there anyway.
        nearest = max((backlog.through for backlog in backlogs if backlog.through < last_seq), default=None)
        if nearest is None:
            self._behind_ns = 0
            return
        moves = nearest != self._nearest and last_seq - nearest < FEW and not took
        if moves or not self._behind_ns:
            self._behind_ns = now
        self._nearest = nearest
        if (due := self.due_ns()) is not None and now >= due:
            self._asked_ns = now
            with contextlib.suppress(zmq.Again):  # the broker has been away for long: asked again in a moment
                self.socket.send(Control(FETCH, a=nearest + 1, b=0, c=PIECE_BYTES).encode(), zmq.DONTWAIT)

    def _take(self, backlogs: Collection[Backlog]) -> bool:
        """Count the frames that have come; return whether any has."""
        began = time.monotonic_ns()
        took = ended = False
        with contextlib.suppress(zmq.Again):
            while not ended:
                message = self.socket.recv(zmq.DONTWAIT)
                if message[:4] == FRAME_MAGIC:
                    took = True
                    self._count(message, backlogs)
                else:
                    control = decode_control(message)
                    ended = control is not None and control.type == FETCHED
        now = time.monotonic_ns()
        self._work_ns += now - began
        if ended:
            self.pieces += 1
            self._asked_ns = 0
            self._rest_until_ns = now + max(REST_FACTOR * self._work_ns, REST_MIN_NS)
            self._work_ns = 0
        return took

    def _count(self, message: bytes, backlogs: Collection[Backlog]) -> None:
        with contextlib.suppress(FrameDecodeError):  # damaged: asked for again
            frame = Frame(message)
            for backlog in backlogs:
                backlog.offer(frame)

    def close(self) -> None:
        """Close the socket."""
        self.socket.close(0)
