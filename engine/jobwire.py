"""What the queue and its workers say to each other: msgpack structs both ways, and frames of jobs to the worker.

A worker's DEALER talks to the queue's ROUTER in one-part messages, each a msgpack map whose `type` names it. Jobs
come on the worker's own PUSH socket as two parts: a head (`JOBS_HEAD`, then seqs as u64, attempts as u32 and flags
as u8, one each per job, little endian) and a frame (docs/wire-format.md) with the records in the same order. The
frame defines every name that this worker has not been told yet.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

PROTOCOL_VERSION = 1
JOBS_MAGIC = b"RWJ1"
JOBS_HEAD = struct.Struct("<4sIQQQ")  # magic, count, whose, batch number, deadline in ns since 1970 UTC
ANNOUNCE = 1  # flag: the worker says `Started` before it begins this job
REASON_SHIFT = (
    4  # of the flags, the upper half: why the sequence refused the event (`ext.records.REASONS`), 0: it did not
)
FRAME_HEADER = struct.Struct("<4sBBHIIQQIIIIqQ")
FRAME_MAGIC = b"RWF1"
FRAME_VERSION = 1
TEXT_IN_MESSAGE_MAX = 16_384  # characters of an error or a traceback that travel

Array = npt.NDArray[Any]


class Hello(msgspec.Struct, tag="hello", frozen=True):
    """worker → queue: I work on this queue, on up to `batch` jobs at once. Answered by Welcome or Refused."""

    queue: str
    worker: str = ""
    pid: int = 0
    batch: int = 1
    version: int = PROTOCOL_VERSION


class Welcome(msgspec.Struct, tag="welcome", frozen=True):
    """queue → worker: connect a PULL socket to the endpoint; what is expected of you.

    token: in the head of every batch that is this worker's. A PULL of an earlier life may find another's socket again.
    """

    endpoint: str
    token: int
    worker_no: int
    lease_ns: int
    max_attempts: int
    in_hands_max: int
    heartbeat_ns: int


class Refused(msgspec.Struct, tag="refused", frozen=True):
    """queue → worker: no; do not come back without a change."""

    error: str


class Unknown(msgspec.Struct, tag="unknown", frozen=True):
    """queue → worker: I do not know you (any more): drop what is not begun and say hello again."""


class Ping(msgspec.Struct, tag="ping", frozen=True):
    """Both ways: I am here."""


class Ack(msgspec.Struct, tag="ack", frozen=True):
    """worker → queue: jobs of a batch are done: those at these places, or (None) all that were left of it."""

    batch: int
    done: list[int] | None = None


class Started(msgspec.Struct, tag="started", frozen=True):
    """worker → queue: a job that carried the flag ANNOUNCE is to begin. Answered by Go, which it waits for."""

    batch: int
    index: int


class Go(msgspec.Struct, tag="go", frozen=True):
    """queue → worker: it is noted that the job begins."""

    batch: int
    index: int


class Nack(msgspec.Struct, tag="nack", frozen=True):
    """worker → queue: a job failed (`error`) or was cut at the lease (`lease`)."""

    batch: int
    index: int
    kind: str
    error: str
    traceback: str = ""


class Release(msgspec.Struct, tag="release", frozen=True):
    """worker → queue: jobs given back that were never begun; or, suspect, that were handled together until one hung.

    Suspect ones are handed out again with ANNOUNCE, one at a time, so that it shows which one it is.
    """

    batch: int
    indexes: list[int]
    suspect: bool = False


class Goodbye(msgspec.Struct, tag="goodbye", frozen=True):
    """worker → queue: nothing is in my hands any more, send nothing. Answered by Goodbye."""


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """worker → queue: send no more jobs. Answered by Drain, after which none come."""


class StatusRequest(msgspec.Struct, tag="status", frozen=True):
    """anybody → queue: how are the queues? Answered by Status."""


class Revive(msgspec.Struct, tag="revive", frozen=True):
    """anybody → queue: dead jobs to be handed out again (`requeue`) or left for good (`skip`). Answered by Revived.

    `dead` and `held` change nothing: the answer has those that are dead, or that others of an ordered queue may wait
    behind.
    """

    queue: str
    seqs: list[int]
    action: str = "requeue"


class Revived(msgspec.Struct, tag="revived", frozen=True):
    """queue → who asked: the seqs that were dead and are not any more; an error, or an empty text."""

    seqs: list[int]
    error: str = ""


class WorkerStatus(msgspec.Struct, frozen=True):
    """One worker of a queue.

    credit: jobs it may hold for now. attempts: as in QueueStatus. silent_s: since it was last heard.
    """

    worker: str
    worker_no: int
    pid: int
    in_flight: int
    credit: int
    attempts: dict[str, int]
    done: int
    failed: int
    silent_s: float


class QueueStatus(msgspec.Struct, frozen=True):
    """One queue.

    depth: jobs that are not done: waiting, in flight, retrying, parked and unread together. unread: jobs that still lie
    in the journal only. uncounted: events not looked at yet, of which not all need be jobs; above 0 for a moment after
    a start, and part of depth. attempts: how many jobs in flight or retrying are at which attempt ("1": the first).
    parked_behind: jobs parked behind a dead one, by its seq. oldest_s: age of the oldest job not done, since numbered.
    """

    name: str
    depth: int
    uncounted: int
    waiting: int
    unread: int
    in_flight: int
    retrying: int
    parked: int
    parked_behind: dict[str, int]
    attempts: dict[str, int]
    dead: int
    done: int
    failed: int
    acked_through: int
    oldest_s: float
    workers: list[WorkerStatus]


class Status(msgspec.Struct, tag="queues", frozen=True):
    """queue → who asked."""

    queues: list[QueueStatus]


FromWorker = Hello | Ping | Ack | Started | Nack | Release | Goodbye | Drain | StatusRequest | Revive
FromQueue = Welcome | Refused | Unknown | Ping | Go | Goodbye | Drain | Status | Revived

_encoder = msgspec.msgpack.Encoder()
_from_worker: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(FromWorker)
_from_queue: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(FromQueue)

encode = _encoder.encode


def decode_from_worker(message: bytes) -> FromWorker:
    """Return what a worker said; raises msgspec.MsgspecError for anything else."""
    said: FromWorker = _from_worker.decode(message)
    return said


def decode_from_queue(message: bytes) -> FromQueue:
    """Return what the queue said; raises msgspec.MsgspecError for anything else."""
    said: FromQueue = _from_queue.decode(message)
    return said


def shortened(text: str) -> str:
    """Return the end of a text that is too long to travel, which in a traceback is what matters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= TEXT_IN_MESSAGE_MAX else "…" + text[1 - TEXT_IN_MESSAGE_MAX :]


class JobsHead(NamedTuple):
    """The head of a batch of jobs. token: of the worker it is for. deadline_ns: since 1970 UTC."""

    token: int
    batch_no: int
    deadline_ns: int
    seqs: list[int]
    attempts: list[int]
    flags: list[int]


def encode_jobs_head(token: int, batch_no: int, deadline_ns: int, seqs: Array, attempts: Array, flags: Array) -> bytes:
    """Return the head of a message of jobs. seqs: uint64, attempts: uint32, flags: uint8, all of one length."""
    head = JOBS_HEAD.pack(JOBS_MAGIC, len(seqs), token, batch_no, deadline_ns)
    return b"".join((head, seqs.tobytes(), attempts.tobytes(), flags.tobytes()))


def decode_jobs_head(head: bytes) -> JobsHead:
    """Return what a head says; raises ValueError for anything else."""
    if len(head) < JOBS_HEAD.size:
        raise ValueError(f"expected the head of a batch of jobs, found {len(head)} bytes")
    magic, count, token, batch_no, deadline_ns = JOBS_HEAD.unpack_from(head)
    if magic != JOBS_MAGIC or len(head) != JOBS_HEAD.size + 13 * count:
        raise ValueError(f"expected the head of a batch of jobs, found {head[:8]!r} and {len(head)} bytes")
    at = JOBS_HEAD.size
    seqs = np.frombuffer(head, "<u8", count, at).tolist()
    attempts = np.frombuffer(head, "<u4", count, at + 8 * count).tolist()
    return JobsHead(token, batch_no, deadline_ns, seqs, attempts, list(head[at + 12 * count :]))
