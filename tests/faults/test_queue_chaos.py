"""Two queues with filters, one of them ordered, while everything goes wrong at once; at the end nothing is missing.

Workers are killed and stopped and let go on, so is the engine; handlers hang, die, and fail in the middle of batches
and after their effects; what died is sent again when its cause is mended. Each effect is there once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.deadletters import DeadLetterStore, LetterFilter
from engine.events import MarkPrice, TradeExecuted
from engine.publisher import Publisher
from engine.requeue import Requeuer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from cli_process import environment, riskwire, start

JOBS = 1500
CONFIG = """
[[queue]]
name = "some"
match = { account = "A[1-4]" }
lease = "1s"
max_attempts = 4
backoff_min = "5ms"
backoff_max = "50ms"

[[queue]]
name = "ordered"
order_by = "account"
match = { symbol = "S1" }
lease = "1s"
max_attempts = 4
backoff_min = "5ms"
backoff_max = "50ms"
"""


def account_of(seq: int) -> str:
    return f"A{seq * 7919 % 11}"


def is_mark(seq: int) -> bool:
    return seq % 9 == 0


EXPECTED = {
    "some": [seq for seq in range(1, JOBS + 1) if not is_mark(seq) and account_of(seq) in ("A1", "A2", "A3", "A4")],
    "ordered": [seq for seq in range(1, JOBS + 1) if not is_mark(seq) and seq % 2],
}


class Chaos:
    """An engine, its workers, and what is done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.base = f"ipc://{folder}/run"
        self.chance = random.Random(seed)
        (folder / "riskwire.toml").write_text(CONFIG)
        self.db = sqlite3.connect(folder / "effects.db", isolation_level=None, timeout=60)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(
            "CREATE TABLE effects (no INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT, seq INTEGER, account TEXT)"
        )
        self.engine = self.serve()
        nursery = str(Path(__file__).with_name("worker_nursery.py"))
        self.nursery = subprocess.Popen(
            [sys.executable, nursery, self.base, "effects.db"],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.workers = [(queue, self.hire(queue)) for queue in EXPECTED for _ in range(2)]
        self.stopped: dict[int, float] = {}

    def serve(self) -> subprocess.Popen[str]:
        engine = start("serve", "-c", "riskwire.toml", "--base", self.base, "--journal", "journal", cwd=self.folder)
        assert engine.stdout is not None
        assert engine.stdout.readline() == f"ready {self.base}\n"
        return engine

    def hire(self, queue: str) -> int:
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        self.nursery.stdin.write(f"{queue} queue_handlers:chaos 20\n")
        self.nursery.stdin.flush()
        return int(self.nursery.stdout.readline())

    def disturb(self) -> None:
        """Kill a worker, or stop one for longer than its lease; replace those that have died of their jobs."""
        place = self.chance.randrange(len(self.workers))
        _, pid = self.workers[place]
        if self.chance.random() < 0.5:
            self.signal(pid, signal.SIGKILL)
        else:
            self.hold(pid)
        self.look_after()

    def hold(self, pid: int) -> None:
        """Stop a process for longer than a lease."""
        if pid not in self.stopped:
            self.signal(pid, signal.SIGSTOP)
            self.stopped[pid] = time.monotonic() + 1.5

    def look_after(self) -> None:
        for pid, until in list(self.stopped.items()):
            if time.monotonic() > until:
                del self.stopped[pid]
                self.signal(pid, signal.SIGCONT)
        for place, (queue, pid) in enumerate(self.workers):
            if not self.signal(pid, 0):
                self.workers[place] = (queue, self.hire(queue))

    def signal(self, pid: int, number: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def kill_engine(self) -> None:
        self.stopped.pop(self.engine.pid, None)
        self.engine.kill()
        self.engine.communicate()
        self.engine = self.serve()

    def requeue_dead(self) -> None:
        path = self.folder / "journal" / "dead-letters.db"
        with DeadLetterStore(path, create=False) as store, Requeuer(store, self.base, wait_s=30) as requeuer:
            requeuer.send(list(store.iterate(LetterFilter(status="dead"))))

    def queues(self) -> dict[str, Any]:
        done = riskwire("queue", "--json", "--connect", self.base, "--wait", "30s", cwd=self.folder)
        assert done.code == 0, done.err
        return {queue["name"]: queue for queue in json.loads(done.out)}

    def close(self) -> None:
        for _, pid in self.workers:
            self.signal(pid, signal.SIGCONT)
            self.signal(pid, signal.SIGTERM)
        assert self.nursery.stdin is not None
        self.nursery.stdin.close()
        self.nursery.wait(60)
        self.engine.terminate()
        self.engine.communicate(timeout=60)
        self.db.close()


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    made = Chaos(tmp_path, seed)
    yield made
    made.close()


def events() -> Iterator[TradeExecuted | MarkPrice]:
    for seq in range(1, JOBS + 1):
        if is_mark(seq):
            yield MarkPrice(f"M{seq}", "S1", Decimal(seq), seq)
        else:
            yield TradeExecuted(f"T{seq}", f"S{seq % 2}", Decimal(seq), Decimal(1), "buy", seq, account=account_of(seq))


def effects(chaos: Chaos, queue: str) -> list[tuple[int, str]]:
    return chaos.db.execute("SELECT seq, account FROM effects WHERE queue = ? ORDER BY no", (queue,)).fetchall()


def test_whatever_goes_wrong_each_effect_is_there_once_and_in_order_when_the_poison_is_mended(chaos: Chaos) -> None:
    with Publisher(chaos.base, "desk", wait_s=30) as publisher:
        for event in events():
            publisher.publish(event)
    deadline = time.monotonic() + 100
    disturbances, engine_kills, disturbed_at = 0, 0, 0.0
    while chaos.db.execute("SELECT count(DISTINCT queue) FROM effects").fetchone() != (2,):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while disturbances < 24:
        assert time.monotonic() < deadline
        if time.monotonic() - disturbed_at > 0.15:
            disturbed_at = time.monotonic()
            disturbances += 1
            chaos.disturb()
            if disturbances % 10 == 5:
                chaos.hold(chaos.engine.pid)
            if disturbances % 10 == 0:
                chaos.kill_engine()
                engine_kills += 1
        time.sleep(0.01)
    (chaos.folder / "FIXED").touch()
    while True:
        chaos.look_after()
        chaos.requeue_dead()
        found = chaos.queues()
        if all(queue["depth"] == queue["dead"] == queue["uncounted"] == 0 for queue in found.values()):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    for queue, seqs in EXPECTED.items():
        rows = effects(chaos, queue)
        assert sorted(seq for seq, _ in rows) == seqs, queue
    last: dict[str, int] = {}
    for seq, account in effects(chaos, "ordered"):
        assert seq > last.get(account, 0), f"{account}: {seq} after {last[account]}"
        last[account] = seq
    with DeadLetterStore(chaos.folder / "journal" / "dead-letters.db", read_only=True) as store:
        letters = list(store.iterate())
        print(f"{disturbances} disturbances, {engine_kills} engine kills, {len(letters)} dead letters")
        assert {letter.status for letter in letters} <= {"resolved"}
