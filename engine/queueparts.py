"""What the queue service keeps: each open queue with its reader, and each worker with its socket."""

from __future__ import annotations

import secrets
import time
from collections import deque
from pathlib import Path

import zmq

from engine.backlog import Backlog
from engine.jobframes import NameFilter
from engine.jobqueue import JobQueue
from engine.jobs import Hands, attempts_of
from engine.jobwire import Hello, QueueStatus, WorkerStatus
from engine.sequence import SequenceReader
from ext.records import Frame

Socket = zmq.Socket[bytes]


class ConnectedWorker:
    """One worker that said hello: its PUSH socket and what is in its hands."""

    def __init__(self, identity: bytes, number: int, hello: Hello, push: Socket, at: str, now: int) -> None:
        self.identity = identity
        self.number = number
        self.token = secrets.randbits(64)
        self.pid = hello.pid
        self.push = push
        self.at = at
        self.names = NameFilter()
        self.hands = Hands(hello.worker or f"worker-{number}", hello.batch)
        self.connected = False
        self.heard_ns = now

    def close(self) -> None:
        """Close its socket; libzmq leaves the file of a named ipc endpoint behind."""
        self.push.close(0)
        if self.at.startswith("ipc://"):
            Path(self.at.removeprefix("ipc://")).unlink(missing_ok=True)

    def status(self, now: int) -> WorkerStatus:
        """Return how it is."""
        hands = self.hands
        return WorkerStatus(
            worker=hands.worker,
            worker_no=self.number,
            pid=self.pid,
            in_flight=hands.in_hands,
            credit=hands.quota,
            attempts=attempts_of([hands]),
            done=hands.done,
            failed=hands.failed,
            silent_s=(now - self.heard_ns) / 1e9,
        )


class OpenQueue:
    """A queue with its reader, its log and its workers."""

    def __init__(self, jobs: JobQueue, reader: SequenceReader) -> None:
        self.jobs = jobs
        self.reader = reader
        self.backlog = Backlog(jobs, reader.next_seq)
        self.workers: list[ConnectedWorker] = []
        self.unjudged: deque[Frame] = deque()  # read, and not handed out before it is known what was refused of them
        self.epoch = 0

    @property
    def wants_frames(self) -> bool:
        """Tell whether another frame should be read."""
        return not self.unjudged and self.jobs.wants_frames

    def read(self) -> None:
        """Read on as far as more is wanted, and count the jobs of what passes by."""
        frames = self.reader.read(self.wants_frames)
        self.unjudged.extend(frames)
        if self.reader.passed:  # they follow what was taken
            for frame in frames + self.reader.passed:
                self.backlog.offer(frame)

    def feed_judged(self, through: int) -> None:
        """Give the queue the frames whose events are all judged, which they are up to a seq."""
        while self.unjudged and self.unjudged[0].first_seq + len(self.unjudged[0]) - 1 <= through:
            frame = self.unjudged.popleft()
            self.epoch = frame.epoch
            self.backlog.note_fed(frame, self.jobs.feed(frame))
        for frame in self.unjudged:
            self.backlog.offer(frame)

    def status(self, now: int) -> QueueStatus:
        """Return how it is, and its workers."""
        jobs = self.jobs
        hands = [worker.hands for worker in self.workers]
        oldest = jobs.oldest_stamp(hands)
        uncounted = max(0, self.reader.last_seq - self.backlog.through)
        in_flight = sum(each.in_hands for each in hands)
        return QueueStatus(
            name=jobs.name,
            depth=jobs.undone + self.backlog.jobs + uncounted,
            uncounted=uncounted,
            waiting=jobs.waiting,
            unread=self.backlog.jobs,
            in_flight=in_flight,
            retrying=jobs.retrying,
            parked=jobs.parked,
            parked_behind=jobs.parked_behind(),
            attempts=attempts_of(hands, jobs.retrying_jobs),
            dead=len(jobs.log.dead) + jobs.dying,
            done=jobs.done,
            failed=jobs.failed,
            acked_through=jobs.log.acked.through,
            oldest_s=max(0.0, (time.time_ns() - oldest) / 1e9) if oldest else 0.0,
            workers=[worker.status(now) for worker in self.workers],
        )
