"""A queue with its sink and a fake broker behind it, and worker processes that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq
from fake_broker import TRADE, FakeBroker

from engine.config import QueueConfig
from engine.deadletters import DeadLetterStore, StoredLetter
from engine.endpoints import endpoint
from engine.jobwire import QueueStatus, Revive, Revived, Status, StatusRequest, decode_from_queue, encode
from engine.queue import QueueService
from engine.sink import Sink
from engine.verdicts import Verdicts
from ext.records import KIND_SEQUENCED, FrameBuilder

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
ACCOUNTS = 7
# A lease that no busy machine outlasts: who tests its end says a shorter one.
FAST = {"lease_ns": 60_000 * MS, "backoff_min_ns": 2 * MS, "backoff_max_ns": 20 * MS}


def config(name: str = "q", **fields: Any) -> QueueConfig:
    """Return settings that fail fast, so that tests do."""
    return QueueConfig(name=name, **{**FAST, **fields})


def trades(first_seq: int, count: int, marks_every: int = 0) -> bytes:
    """Return a frame of trades T<seq> in accounts A0 … A6 round robin; every nth record a mark price instead."""
    builder = FrameBuilder(KIND_SEQUENCED)
    if first_seq == 1:
        builder.define_name(0, 1, b"BTC")
        for account in range(ACCOUNTS):
            builder.define_name(1, 1 + account, b"A%d" % account)
    for seq in range(first_seq, first_seq + count):
        mark = marks_every and seq % marks_every == 0
        builder.add_record(
            type=2 if mark else TRADE,
            side=0 if mark else 1,
            symbol=1,
            account=0 if mark else 1 + seq % ACCOUNTS,
            id=b"T%d" % seq,
            price=seq * 10**9,
            price_exponent=-9,
            volume=0 if mark else 10**8,
            volume_exponent=-8,
            executed_at=seq,
        )
    return bytes(builder.finish(first_seq, 1, time.time_ns()))


def wait_for(what: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    """Poll until something is true; fail with its last value when it never is."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"still {value!r} after {timeout_s} s"
        time.sleep(0.005)
    return value


class Rig:
    """Broker, sink and queue of one engine; `restart_queue` ends the queue and starts another life of it."""

    def __init__(
        self,
        base: str,
        folder: Path,
        queues: Sequence[QueueConfig] = (),
        journal: bool = True,
        verdicts: Verdicts | None = None,
    ) -> None:
        self.base = base
        self.folder = folder
        self.context: zmq.Context[Any] = zmq.Context()
        self.broker = FakeBroker(self.context, base)
        self.letters_path = folder / "dead-letters.db"
        self.sink = Sink(self.context, endpoint(base, "sink"), self.letters_path)
        self.sink.start()
        self._queues = queues
        self._journal = journal
        self._verdicts = verdicts
        self.processes: list[subprocess.Popen[str]] = []
        self.queue = self._start_queue()

    def _start_queue(self) -> QueueService:
        queue = QueueService(
            self.context,
            self.base,
            queues=self._queues,
            folder=self.folder if self._journal else None,
            verdicts=self._verdicts,
        )
        queue.start()
        return queue

    def restart_queue(self) -> None:
        self.queue.stop()
        self.queue = self._start_queue()

    def publish(self, count: int, marks_every: int = 0, frame_records: int = 500) -> None:
        """Append trades to the sequence."""
        while count:
            size = min(count, frame_records)
            self.broker.accept(trades(self.broker.last_seq + 1, size, marks_every), size)
            count -= size

    def status(self, name: str = "q") -> QueueStatus:
        """Ask the queue."""
        answer = self._ask(StatusRequest())
        assert isinstance(answer, Status)
        return next(queue for queue in answer.queues if queue.name == name)

    def revive(self, seqs: list[int], action: str = "requeue", name: str = "q") -> Revived:
        answer = self._ask(Revive(name, seqs, action))
        assert isinstance(answer, Revived)
        return answer

    def _ask(self, request: Any) -> Any:
        socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(endpoint(self.base, "queue"))
        socket.send(encode(request))
        assert socket.poll(60_000), "the queue does not answer"
        answer = decode_from_queue(socket.recv())
        socket.close(0)
        return answer

    def wait_idle(self, name: str = "q", timeout_s: float = 60.0) -> QueueStatus:
        """Wait until every job is done or dead and the acks are in."""

        def idle() -> QueueStatus | None:
            status = self.status(name)
            busy = status.waiting + status.in_flight + status.retrying + status.unread
            return status if not busy and status.acked_through == self.broker.last_seq else None

        try:
            found: QueueStatus = wait_for(idle, timeout_s)
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.status(name)}") from None
        return found

    def letters(self) -> list[StoredLetter]:
        with DeadLetterStore(self.letters_path, read_only=True) as store:
            return list(store.iterate())

    def start_worker(self, handler: str, *options: str, queue: str = "q", **environment: str) -> subprocess.Popen[str]:
        """Start a worker process whose handlers are in tests/integration/queue_handlers.py."""
        code = "import sys; from engine.cli.main import main; sys.exit(main())"
        words = ["worker", "--queue", queue, "--handler", handler, "--connect", self.base, *options]
        process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()
        self.queue.stop()
        self.sink.stop()
        self.broker.__exit__()
        self.context.destroy(linger=0)

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def read_lines(path: Path) -> list[Any]:
    """Return the JSON lines that handlers wrote; the last may be torn by a kill."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines if line.endswith("}")]
