"""Workers killed every few hundred jobs, 1 % poison, the engine killed twice: each effect once, and nothing else dies.

10,000 jobs in every run, 100,000 at night, through two queues at once: one for speed, one with an order per account.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.deadletters import DeadLetterStore, LetterFilter
from engine.events import TradeExecuted
from engine.publisher import Publisher
from engine.requeue import Requeuer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from cli_process import environment, start

ACCOUNTS = 47  # prime: poison is in every one
CONFIG = """
[[queue]]
name = "fast"
backoff_min = "5ms"
backoff_max = "50ms"

[[queue]]
name = "ordered"
order_by = "account"
backoff_min = "5ms"
backoff_max = "50ms"
"""
QUEUES = {
    "fast": ("queue_handlers:prove", "queue_handlers:prove_batch"),
    "ordered": ("queue_handlers:prove_batch", "queue_handlers:prove_batch"),
}


class Proof:
    """An engine and its workers, all of which may be killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.base = f"ipc://{folder}/run"
        self.chance = random.Random(seed)
        self.kills = 0
        (folder / "riskwire.toml").write_text(CONFIG)
        self.dbs = {name: self._effects(name) for name in QUEUES}
        self.engine = self._serve()
        self.nursery = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker_nursery.py")), self.base],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.workers = [self.hire(name, i) for name in QUEUES for i in range(2)]

    def _effects(self, name: str) -> sqlite3.Connection:
        db = sqlite3.connect(self.folder / f"{name}.db", isolation_level=None, timeout=60)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(
            "CREATE TABLE effects (no INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER, account TEXT, pid INTEGER)"
        )
        return db

    def _serve(self) -> subprocess.Popen[str]:
        words = ("serve", "-c", "riskwire.toml", "--base", self.base, "--journal", "journal")
        engine = start(*words, cwd=self.folder)
        assert engine.stdout is not None
        assert engine.stdout.readline() == f"ready {self.base}\n"
        return engine

    def hire(self, queue: str, number: int) -> tuple[str, int, int]:
        """Start a worker; return its queue, its number there and its pid."""
        assert self.nursery.stdin is not None
        assert self.nursery.stdout is not None
        handler = QUEUES[queue][number]
        self.nursery.stdin.write(f"{queue} {handler} {20 if 'batch' in handler else 0}\n")
        self.nursery.stdin.flush()
        return queue, number, int(self.nursery.stdout.readline())

    def kill_one(self) -> None:
        """Kill a worker wherever it is, and start another in its place."""
        place = self.chance.randrange(len(self.workers))
        queue, number, pid = self.workers[place]
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.workers[place] = self.hire(queue, number)
        self.kills += 1

    def kill_engine(self) -> None:
        self.engine.kill()
        self.engine.communicate()
        self.engine = self._serve()

    def publish(self, jobs: int) -> None:
        with Publisher(self.base, "desk", wait_s=30) as publisher:
            for n in range(1, jobs + 1):
                account = f"A{n * 7919 % ACCOUNTS}"
                publisher.publish(TradeExecuted(f"T{n}", "S", Decimal(n), Decimal(1), "buy", n, account=account))

    def done(self, name: str) -> int:
        found = self.dbs[name].execute("SELECT max(no) FROM effects").fetchone()[0]
        return int(found or 0)

    def skip_dead(self) -> None:
        """Leave what has died in the ordered queue, so that its account goes on."""
        path = self.folder / "journal" / "dead-letters.db"
        with DeadLetterStore(path, create=False) as store, Requeuer(store, self.base, wait_s=30) as requeuer:
            dead = list(store.iterate(LetterFilter(stage="queue:ordered", status="dead")))
            requeuer.skip(dead)

    def letters(self, name: str) -> list[Any]:
        with DeadLetterStore(self.folder / "journal" / "dead-letters.db", read_only=True) as store:
            return list(store.iterate(LetterFilter(stage=f"queue:{name}")))

    def close(self) -> None:
        assert self.nursery.stdin is not None
        for _, _, pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self.nursery.stdin.close()
        self.nursery.wait(60)
        self.engine.terminate()
        self.engine.communicate(timeout=60)
        for db in self.dbs.values():
            db.close()


@pytest.fixture
def proof(tmp_path: Path) -> Iterator[Proof]:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    made = Proof(tmp_path, seed)
    yield made
    made.close()


def run_to_the_end(proof: Proof, jobs: int, kill_every: int, timeout_s: float) -> None:
    """Kill a worker whenever `kill_every` more jobs are done, and the engine at a third and at two thirds."""
    wanted = jobs - jobs // 100
    engine_kills = [2 * wanted // 3, 4 * wanted // 3]
    deadline, killed_at, skipped_at = time.monotonic() + timeout_s, 0, 0.0
    while (done := [proof.done(name) for name in QUEUES]) and min(done) < wanted:
        assert time.monotonic() < deadline, f"{done} of {wanted} done in {timeout_s} s"
        if sum(done) - killed_at >= kill_every:
            killed_at = sum(done)
            proof.kill_one()
        if engine_kills and sum(done) > engine_kills[0]:
            del engine_kills[0]
            proof.kill_engine()
        if time.monotonic() - skipped_at > 0.1:
            proof.skip_dead()
            skipped_at = time.monotonic()
        time.sleep(0.003)
    assert not engine_kills
    while any(len(proof.letters(name)) < jobs // 100 * (1 + (name == "ordered")) for name in QUEUES):
        assert time.monotonic() < deadline, "the dead letters are not all there"
        proof.skip_dead()
        time.sleep(0.02)


def check(proof: Proof, jobs: int, kills_min: int) -> None:
    assert proof.kills >= kills_min
    print(f"{proof.kills} workers killed, the engine twice")
    poison = set(range(100, jobs + 1, 100))
    for name, db in proof.dbs.items():
        rows = db.execute("SELECT seq, account FROM effects ORDER BY no").fetchall()
        counts = Counter(seq for seq, _ in rows)
        assert set(counts) == set(range(1, jobs + 1)) - poison, name
        assert max(counts.values()) == 1, f"{name}: an effect twice"
        letters = proof.letters(name)
        skipped = [letter.seq for letter in letters if letter.reason == "skipped"]
        dead = [letter.seq for letter in letters if letter.reason != "skipped"]  # the last attempt may have been killed
        assert sorted(dead) == sorted(poison), name
        if name == "ordered":
            assert set(skipped) == poison
            last: dict[str, int] = {}
            for seq, account in rows:
                assert seq > last.get(account, 0), f"{account}: {seq} after {last[account]}"
                last[account] = seq


def test_10_000_jobs_with_workers_and_the_engine_killed(proof: Proof) -> None:
    proof.publish(10_000)
    run_to_the_end(proof, 10_000, kill_every=500, timeout_s=100)
    check(proof, 10_000, kills_min=25)


@pytest.mark.nightly
def test_100_000_jobs_with_workers_and_the_engine_killed(proof: Proof) -> None:
    proof.publish(100_000)
    run_to_the_end(proof, 100_000, kill_every=400, timeout_s=3000)
    check(proof, 100_000, kills_min=300)
