"""`kill -9` of engine, consumer and publisher at random instants, again and again.

Nothing acked is lost, nothing is applied twice, and in the end positions, alerts, dead letters and the state's hash are
those of an undisturbed run. Every failure says its seed; RISKWIRE_SEED=… runs that one again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from kill_parts import LIMITS, session

from engine.alertframes import alert_line
from engine.client import EngineClient
from engine.config import load_config
from engine.deadletters import LetterFilter, list_letters
from engine.events import Event
from engine.journal import EventSelection, events_of, journal_info
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.subscriber import AlertSubscriber
from ext.risk import RiskCore

ROOT = Path(__file__).resolve().parents[2]
SERVE = [sys.executable, "-c", "import sys; from engine.cli.main import main; sys.exit(main())", "serve"]
PARTS = [sys.executable, str(Path(__file__).with_name("kill_parts.py"))]
SESSION, EVENTS = 4, 6000
KILLS = 10  # in one run
RUNS, CUT_RUNS, NIGHTLY_RUNS = 5, 2, 200
AT_ONCE = 3  # runs side by side: they wait more than they work
PAUSE_S = 0.004
WAIT_S = 90.0
CONFIG = """\
[engine]
base = "ipc://{folder}/rw"
journal = "journal"
sync = "{sync}"
limits = "limits.toml"
dead_letters = "dead.db"
heartbeat_every = "50ms"
snapshot_every = "{snapshot_every}"
snapshots_kept = 2
segment_size = "64KiB"
{more}
"""
FORGETFUL = "dedup_max_trades = 2000"  # so that most of the journal may go
CUT = f'{FORGETFUL}\nretain_size = "1B"'


def write_config(folder: Path, sync: str, snapshot_every: str, more: str = "") -> Path:
    (folder / "limits.toml").write_text(LIMITS)
    path = folder / "riskwire.toml"
    path.write_text(CONFIG.format(folder=folder, sync=sync, snapshot_every=snapshot_every, more=more))
    return path


@dataclass
class Outcome:
    """What a run came to."""

    events: list[tuple[int, Event]]
    positions: object
    alerts: bytes
    state: bytes
    letters: dict[str, int]


def journaled(directory: Path) -> list[tuple[int, Event]]:
    return list(events_of(directory, EventSelection()))


def letters_of(path: Path, stage: str = "") -> dict[str, int]:
    """Count distinct dead letters by reason."""
    found = list_letters(path, LetterFilter(stage=stage), 0, 10_000)["letters"]
    counts: dict[str, int] = {}
    for letter in found:
        counts[letter["reason"]] = counts.get(letter["reason"], 0) + 1
    return counts


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Outcome:
    return run_undisturbed(tmp_path_factory.mktemp("undisturbed"), "")


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory) -> Outcome:
    return run_undisturbed(tmp_path_factory.mktemp("forgetful"), FORGETFUL)


def run_undisturbed(folder: Path, more: str) -> Outcome:
    engine = Engine(load_config(write_config(folder, "os", "1h", more)))
    with engine:
        with Publisher(engine.base, "session") as publisher:
            for event in session(SESSION, EVENTS):
                publisher.publish(event)
        with EngineClient(engine.base) as client:
            client.wait_judged(engine.journal.last_seq)
            positions = client.positions()
        state = engine.pipeline.consumer.call(RiskCore.state_hash).result(60)
        alerts = all_alerts(engine.base)
    return Outcome(journaled(folder / "journal"), positions, alerts, state, letters_of(folder / "dead.db"))


def last_seq_of(events: list[tuple[int, Event]]) -> int:
    return events[-1][0] if events else 0


def all_alerts(base: str) -> bytes:
    with AlertSubscriber(base, since=0, idle_s=0.2) as subscriber:
        return b"".join(map(alert_line, subscriber))


class Run:
    """One engine, one publisher and one consumer, as processes of one folder."""

    def __init__(self, folder: Path, stack: ExitStack, rng: random.Random, cut: bool = False) -> None:
        self.folder, self.stack, self.rng, self.cut = folder, stack, rng, cut
        self.base = f"ipc://{folder}/rw"
        self.progress = folder / "acked"
        sync, snapshot_every = (
            rng.choice(("os", "group")),
            rng.choice(("20ms", "100ms") if cut else ("20ms", "100ms", "1h")),
        )
        self.config = write_config(folder, sync, snapshot_every, CUT if cut else "")
        self.engine: subprocess.Popen[str] | None = None
        self.publisher: subprocess.Popen[str] | None = None
        self.consumer: subprocess.Popen[str] | None = None

    def spawn(self, words: list[str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            words, cwd=self.folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.stack.callback(end, process)
        return process

    def start_engine(self) -> None:
        self.engine = self.spawn([*SERVE, "-c", str(self.config)])
        while self.rng.random() < 0.2:  # killed while it starts
            time.sleep(self.rng.uniform(0, 0.6))
            end(self.engine)
            self.check_journal()
            self.engine = self.spawn([*SERVE, "-c", str(self.config)])
        assert self.engine.stdout is not None
        assert self.engine.stdout.readline().startswith("ready ")

    def start_publisher(self) -> None:
        words = ["publish", self.base, str(SESSION), str(EVENTS), str(self.progress), str(PAUSE_S)]
        self.publisher = self.spawn([*PARTS, *words])

    def start_consumer(self) -> None:
        self.consumer = self.spawn([*PARTS, "consume", self.base])
        assert self.consumer.stdout is not None
        assert self.consumer.stdout.readline() == "ready\n"

    def kill_one(self) -> None:
        time.sleep(self.rng.uniform(0, 0.25))
        victim = self.rng.choice(("engine", "engine", "publisher", "consumer"))
        process = getattr(self, victim)
        end(process)
        if victim == "engine":
            self.check_journal()
        getattr(self, f"start_{victim}")()

    def check_journal(self) -> None:
        """Whatever was acked lies in the journal of the dead engine, and nothing that does not belong there."""
        acked = int(self.progress.read_bytes() or b"0") if self.progress.exists() else 0
        if not (self.folder / "journal").exists():
            assert acked == 0
            return
        found = journaled(self.folder / "journal")
        self.check_events(found)
        assert last_seq_of(found) >= self.accepted_of(acked)

    def check_events(self, found: list[tuple[int, Event]]) -> None:
        """What is journaled is what the undisturbed run has there, without a gap; only a beginning may be gone."""
        first_seq = found[0][0] if found else 1
        assert first_seq == 1 or self.cut
        assert found == self.undisturbed.events[first_seq - 1 : first_seq - 1 + len(found)]

    def accepted_of(self, acked: int) -> int:
        """How many seqs the first `acked` events of the session got: one more for the limits."""
        return self.seqs_after[acked]

    def prepare(self, undisturbed: Outcome) -> None:
        self.undisturbed = undisturbed
        ids = {identity(event) for _, event in undisturbed.events[1:]}
        self.seqs_after = [0]
        for event in session(SESSION, EVENTS):
            count = self.seqs_after[-1] or 1
            if identity(event) in ids and undisturbed.events[count][1] == event:
                count += 1
            self.seqs_after.append(count if count < len(undisturbed.events) else len(undisturbed.events))

    def finish(self) -> None:
        """Let everything come to its end, and compare it with the undisturbed run."""
        assert self.publisher is not None
        assert self.publisher.wait(WAIT_S) == 0
        wanted, last_seq = self.undisturbed, self.undisturbed.events[-1][0]
        with EngineClient(self.base, wait_s=WAIT_S) as client:
            client.wait_judged(last_seq, WAIT_S)
            assert client.positions() == wanted.positions
        assert all_alerts(self.base) == wanted.alerts
        assert self.hash_outside(last_seq) == wanted.state
        assert self.engine is not None
        self.engine.send_signal(signal.SIGTERM)
        assert self.engine.wait(WAIT_S) == 0
        found, info = journaled(self.folder / "journal"), journal_info(self.folder / "journal")
        self.check_events(found)
        assert found[-1] == wanted.events[-1]
        assert info.sealed
        assert (info.first_seq > 1) == self.cut, "what is to be removed is, and nothing else"
        if not self.cut:  # else what is sent again may be too old by then
            assert letters_of(self.folder / "dead.db") == wanted.letters

    def hash_outside(self, seq: int) -> bytes:
        assert self.consumer is not None
        assert self.consumer.stdin is not None
        assert self.consumer.stdout is not None
        self.consumer.stdin.write(f"{seq}\n")
        self.consumer.stdin.flush()
        return bytes.fromhex(self.consumer.stdout.readline())


def identity(event: Event) -> str:
    return str(getattr(event, "trade_id", None) or getattr(event, "event_id", ""))


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()


def seeds(count: int) -> Iterator[int]:
    if "RISKWIRE_SEED" in os.environ:
        yield int(os.environ["RISKWIRE_SEED"])
        return
    for _ in range(count):
        yield random.SystemRandom().randrange(1 << 32)


def run_once(folder: Path, undisturbed: Outcome, seed: int, cut: bool = False) -> None:
    print(f"seed {seed}: again with RISKWIRE_SEED={seed}", flush=True)
    with ExitStack() as stack:
        run = Run(folder, stack, random.Random(seed), cut)
        run.prepare(undisturbed)
        run.start_publisher()
        run.start_engine()
        run.start_consumer()
        try:
            for _ in range(KILLS):
                run.kill_one()
            run.finish()
        except BaseException as problem:
            problem.add_note(f"RISKWIRE_SEED={seed}")
            raise


def run_all(count: int, tmp_path_factory: pytest.TempPathFactory, undisturbed: Outcome, cut: bool = False) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        runs = [
            threads.submit(run_once, tmp_path_factory.mktemp("killed"), undisturbed, seed, cut) for seed in seeds(count)
        ]
        for run in runs:
            run.result()


@pytest.mark.timeout(600)
def test_fifty_kills_at_random_instants_change_nothing(tmp_path_factory, undisturbed):
    assert undisturbed.letters
    assert undisturbed.alerts
    run_all(RUNS, tmp_path_factory, undisturbed)


@pytest.mark.timeout(600)
def test_kills_while_the_beginning_of_the_journal_is_removed_change_nothing(tmp_path_factory, forgetful):
    run_all(CUT_RUNS, tmp_path_factory, forgetful, cut=True)


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_a_thousand_kills_while_the_beginning_is_removed_change_nothing(tmp_path_factory, forgetful):
    run_all(NIGHTLY_RUNS // 2, tmp_path_factory, forgetful, cut=True)


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_two_thousand_kills_at_random_instants_change_nothing(tmp_path_factory, undisturbed):
    run_all(NIGHTLY_RUNS, tmp_path_factory, undisturbed)
