"""`kill -9` between any two steps of removing a journal's beginning: the engine goes on as if nothing had been."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "property"))
from test_retention import Engine, Session

from engine.journal import journal_info
from engine.snapshots import SnapshotStore

STEPS = ("write", "pwrite", "fsync", "rename", "unlink")
TRADES_MAX = 10


class Killer:
    """Kills this process before the n-th call of what changes files."""

    def __init__(self, at: int) -> None:
        self.left = at

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
            return function(*arguments, **named)

        return step


def in_child(work: Callable[[], None]) -> bool:
    """Run `work` in a forked process; tell whether it came to its end, or was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


def cut(folder: Path, at: int) -> None:
    """Take two snapshots with trades and remove what they cover, until the step at which this process is killed."""
    engine = Engine(folder, TRADES_MAX)
    killer = Killer(at)
    for name in STEPS:
        setattr(os, name, killer.wrap(getattr(os, name)))
    engine.snapshot(full=True)
    engine.snapshot(full=True)
    assert engine.retention().remove() > 3


class Fault:
    """Lets the n-th call of what changes files fail, once."""

    def __init__(self, at: int) -> None:
        self.left, self.struck = at, ""

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                self.struck = function.__name__
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return function(*arguments, **named)

        return step


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Session, Engine]:
    """The folder of a killed engine, what it was sent, and an engine in memory that got the same."""
    folder = tmp_path_factory.mktemp("prepared") / "journal"
    session = Session(random.Random(11))
    engine, whole = Engine(folder, TRADES_MAX), Engine(None, TRADES_MAX)
    for _ in range(10):
        events = session.batch(300)
        assert engine.publish(events) == whole.publish(events)
    engine.snapshot(full=False)
    engine.journal.abandon()
    return folder, session, whole


def test_a_kill_at_each_step_changes_nothing(prepared: tuple[Path, Session, Engine], tmp_path: Path) -> None:
    folder, session, whole = prepared
    wanted = whole.core.state_hash()
    repeats = [*session.sent[::7], *session.batch(60)]
    answer = whole.publish(repeats)
    after = whole.core.state_hash()
    at, ended, bases, kept = 0, False, 0, set()
    while not ended:
        copy = tmp_path / f"journal-{at}"
        shutil.copytree(folder, copy)
        ended = in_child(lambda copy=copy, at=at: cut(copy, at))
        bases += (copy / "base.rwb").exists()
        seen = journal_info(copy)  # a reader, before anybody has tidied up
        engine = Engine(copy, TRADES_MAX)
        assert engine.core.state_hash() == wanted
        assert engine.journal.first_seq == seen.first_seq
        assert len(list(copy.glob("*.rwj"))) == engine.journal.segment_count, "what a base stands for is gone"
        assert engine.publish(repeats) == answer
        assert engine.core.state_hash() == after
        assert engine.alerts() == whole.alerts()
        kept.add(engine.journal.first_seq)
        engine.snapshot(full=True)  # and it can be cut further
        engine.snapshot(full=True)
        engine.retention().remove()
        assert engine.journal.segment_count == 1
        engine.restart(clean=True)
        assert engine.core.state_hash() == after
        assert not list(copy.glob("*.tmp"))
        assert len(SnapshotStore(copy).full_paths()) == 2
        engine.journal.close()
        shutil.rmtree(copy)
        at += 1
    assert at > 20
    assert bases > 5
    assert len(kept) == 2, "either nothing was removed, or all of it"


def test_a_disk_that_fails_at_each_step_ends_nothing(
    prepared: tuple[Path, Session, Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = prepared
    more = Session(random.Random(12)).batch(200)
    shutil.copytree(folder, tmp_path / "whole")
    wanted = Engine(tmp_path / "whole", TRADES_MAX)
    answer, after = wanted.publish(more), wanted.core.state_hash()
    wanted.journal.close()
    at, struck, done = 0, set(), False
    while not done:
        copy = tmp_path / f"journal-{at}"
        shutil.copytree(folder, copy)
        engine, fault = Engine(copy, TRADES_MAX), Fault(at)
        retention = engine.retention()
        with monkeypatch.context() as patched:
            for name in STEPS:
                patched.setattr(os, name, fault.wrap(getattr(os, name)))
            for step in (
                lambda e=engine: e.snapshot(full=True),
                lambda e=engine: e.snapshot(full=True),
                retention.remove,
            ):
                with contextlib.suppress(OSError):
                    step()
        done = not fault.struck
        struck.add(fault.struck)
        assert engine.publish(more) == answer  # the engine goes on, and tries again
        for _ in range(2):
            engine.snapshot(full=True)
        retention.remove()
        assert engine.journal.segment_count <= 2, "but what holds the last trades that are remembered"
        assert engine.core.state_hash() == after
        engine.restart(clean=bool(at % 2))
        assert engine.core.state_hash() == after
        assert len(list(copy.glob("*.rwj"))) == engine.journal.segment_count
        engine.journal.close()
        shutil.rmtree(copy)
        at += 1
    assert struck == {"", *STEPS}
