"""The processed table alone: what is fresh, what is rolled back, what waits for the disk."""

from __future__ import annotations

import itertools
import queue as queues
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import processed as module
from engine.errors import SinkError
from engine.processed import Processed, SyncThread

QUEUES = ("p", "q")
BATCHES = st.lists(
    st.tuples(
        st.sampled_from(QUEUES),
        st.lists(st.integers(1, 40), min_size=1, max_size=20, unique=True)
        | st.tuples(st.integers(1, 30), st.integers(1, 20)).map(lambda run: list(range(run[0], run[0] + run[1]))),
        st.integers(1, 2),  # which journal: it gives the same seqs to other events
        st.booleans(),  # whether the transaction is kept
    ),
    max_size=12,
)


def hashes(seqs: list[int], journal: int = 1) -> bytes:
    """Return a hash a job; each third event is the same in both journals."""
    return b"".join((seq * 10 + (journal if seq % 3 else 0)).to_bytes(8, "little") for seq in seqs)


@pytest.fixture
def processed(tmp_path: Path) -> Iterator[Processed]:
    made = Processed(tmp_path / "p.db")
    made.db.execute("CREATE TABLE effects (seq INTEGER)")
    yield made
    made.close()


def fresh(processed: Processed, queue: str, seqs: list[int], journal: int = 1) -> list[int]:
    with processed.once(queue, seqs, hashes(seqs, journal)) as (_, places):
        return [seqs[place] for place in places]


@given(BATCHES)
@settings(max_examples=150, deadline=None)
def test_a_job_is_fresh_where_its_event_was_not_the_last_noted_of_its_seq(batches: list[Any]) -> None:
    noted: dict[tuple[str, int], bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        processed = Processed(Path(folder) / "p.db")
        try:
            for queue, seqs, journal, kept in batches:
                each = {(queue, seq): hashes([seq], journal) for seq in seqs}
                expected = [key[1] for key, event in each.items() if noted.get(key) != event]
                try:
                    with processed.once(queue, seqs, hashes(seqs, journal)) as (_, places):
                        assert [seqs[place] for place in places] == expected
                        if not kept:
                            raise InterruptedError
                    noted |= each
                except InterruptedError:
                    pass
            check_runs(processed.db, len(noted))
        finally:
            processed.close()


def check_runs(db: sqlite3.Connection, count: int) -> None:
    rows = db.execute("SELECT job, length(events) / 8 FROM riskwire_runs ORDER BY job").fetchall()
    assert sum(jobs for _, jobs in rows) == count
    assert all(first + jobs <= following for (first, jobs), (following, _) in itertools.pairwise(rows))


def test_a_batch_of_jobs_that_follow_each_other_is_one_row(processed: Processed) -> None:
    assert fresh(processed, "q", list(range(1, 1001))) == list(range(1, 1001))
    assert processed.db.execute("SELECT count(*), sum(length(events)) FROM riskwire_runs").fetchone() == (1, 8000)
    assert fresh(processed, "q", list(range(500, 1002))) == [1001]


def test_another_queue_and_another_journals_event_of_the_same_seq_are_not_mistaken(processed: Processed) -> None:
    assert [fresh(processed, *job) for job in (("q", [1]), ("other", [1]), ("q", [1], 2), ("q", [1], 2))] == [
        [1],
        [1],
        [1],
        [],
    ]


def test_an_effect_that_raises_is_rolled_back_and_can_happen_later(processed: Processed) -> None:
    def fail_half_way() -> None:
        with processed.once("q", [1], hashes([1])) as (db, places):
            assert places == [0]
            db.execute("INSERT INTO effects VALUES (1)")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail_half_way()
    for expected in ([0], []):
        with processed.once("q", [1], hashes([1])) as (db, places):
            assert places == expected
            if places:
                db.execute("INSERT INTO effects VALUES (1)")
    assert processed.db.execute("SELECT count(*) FROM effects").fetchone() == (1,)


def test_what_is_written_needs_a_sync_inside_once_and_outside(
    processed: Processed, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(module, "_sync_file", synced.append)
    assert not processed.settle(), "nothing was written"
    processed.db.execute("INSERT INTO effects VALUES (1)")
    assert processed.settle()
    assert processed.settle(), "as long as it is not there, whoever asks"
    processed.sync()
    assert (processed.settle(), len(synced)) == (False, 1)
    assert fresh(processed, "q", [1]) == [1]
    assert processed.settle()
    processed.sync()
    assert fresh(processed, "q", [1]) == []
    assert processed.settle(), "who wrote it may have been killed before it was on the disk"
    processed.sync()
    assert (processed.settle(), len(synced)) == (False, 3)


def test_what_is_written_while_the_disk_is_waited_for_needs_another_sync(
    processed: Processed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_meanwhile(fd: int) -> None:
        fresh(processed, "q", [2])
        processed.settle()

    monkeypatch.setattr(module, "_sync_file", write_meanwhile)
    fresh(processed, "q", [1])
    processed.settle()
    processed.sync()
    assert processed.settle()


def test_a_disk_that_has_failed_once_is_not_believed_again(
    processed: Processed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "_sync_file", fail)
    for seq in (1, 2):
        fresh(processed, "q", [seq])
        assert processed.settle()
        with pytest.raises(SinkError, match=r"p\.db: what was written may not be on the disk \(Input/output error\)"):
            processed.sync()
        monkeypatch.undo()


def test_a_file_that_cannot_hold_the_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "junk.db"
    path.write_text("junk " * 100)
    with pytest.raises(SinkError, match=r"junk\.db"):
        _ = Processed(path).db


def test_a_file_of_the_form_before_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE riskwire_processed (job INTEGER PRIMARY KEY, event INTEGER NOT NULL) STRICT")
    db.close()
    with pytest.raises(SinkError, match=r"old\.db: its table riskwire_processed .* or name another file"):
        Processed(path).check()


def test_workers_that_make_the_file_at_once_do_not_find_it_locked(tmp_path: Path) -> None:
    for i in range(20):
        path, start, problems = tmp_path / f"{i}.db", threading.Barrier(3), []

        def use(path: Path = path, start: threading.Barrier = start, problems: list[object] = problems) -> None:
            start.wait(30)
            try:
                Processed(path).check()
            except SinkError as problem:
                problems.append(problem)

        threads = [threading.Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert problems == []


# --- waiting for the disk beside the handlers


def test_what_comes_while_the_disk_is_waited_for_shares_the_next_sync() -> None:
    began: queues.SimpleQueue[int] = queues.SimpleQueue()
    go_on: queues.SimpleQueue[Exception | None] = queues.SimpleQueue()
    settled: list[tuple[int, str]] = []
    count = 0

    def sync() -> None:
        nonlocal count
        count += 1
        began.put(count)
        if (problem := go_on.get(timeout=30)) is not None:
            raise problem

    thread = SyncThread(sync, lambda item, problem: settled.append((item, str(problem))))
    thread.add(1)
    assert began.get(timeout=30) == 1
    for item in (2, 3):
        thread.add(item)
    assert settled == []
    go_on.put(None)
    assert began.get(timeout=30) == 2
    assert settled == [(1, "None")]
    thread.add(4)
    go_on.put(OSError("no disk"))
    assert began.get(timeout=30) == 3
    assert settled[1:] == [(2, "no disk"), (3, "no disk")]
    go_on.put(None)
    thread.close()
    assert (settled[3:], count) == ([(4, "None")], 3), "closing settles what is there, and syncs for nothing more"


def test_a_thread_that_nothing_was_handed_in_to_closes_at_once() -> None:
    before = threading.active_count()
    SyncThread(lambda: None, lambda item, problem: None).close()
    assert threading.active_count() == before
