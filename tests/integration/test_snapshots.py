"""A start reads the newest good snapshot and the rest of the journal, and comes to the very state there was."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from broker_rig import wait_for
from engine_rig import LIMITS, config, lines_of, trade

from engine.client import EngineClient
from engine.errors import RiskwireError
from engine.events import RiskAlert
from engine.publisher import Publisher
from engine.runtime import Engine
from engine.snapshots import SnapshotStore, restore_core
from engine.subscriber import AlertSubscriber
from ext.journal import Journal
from ext.risk import RiskCore


def run(engine: Engine, first: int, count: int) -> tuple[list[dict[str, str]], bytes, bytes]:
    """Publish trades with a breach now and then; return positions, alerts and the state's hash."""
    with Publisher(engine.base, "p") as publisher:
        for n in range(first, first + count):
            publisher.publish(trade(n, volume="12" if n % 5 == 0 else "1", side="sell" if n % 3 else "buy"))
    seq = engine.journal.last_seq
    with EngineClient(engine.base) as client:
        client.wait_judged(seq)
        alerts = history(engine)
        state = engine.pipeline.consumer.call(RiskCore.state_hash).result(60)
        return client.positions(), lines_of(alerts), state


def history(engine: Engine) -> list[RiskAlert]:
    with AlertSubscriber(engine.base, since=0, idle_s=0.1) as subscriber:
        return list(subscriber)


@pytest.fixture
def serve(tmp_path) -> Callable[..., Engine]:
    (tmp_path / "limits.toml").write_text(LIMITS)

    def make(**fields: object) -> Engine:
        return Engine(
            config(tmp_path, journal=str(tmp_path / "journal"), limits=str(tmp_path / "limits.toml"), **fields)
        )

    return make


def test_a_start_from_a_snapshot_and_the_tail_is_the_state_there_was(tmp_path, serve, caplog):
    with serve() as engine:
        run(engine, 0, 50)
        taken = engine.snapshots.take()
        assert taken is not None
        assert taken.seq == engine.journal.last_seq
        wanted = run(engine, 50, 50)
        files = {path.name: path.read_bytes() for path in SnapshotStore(tmp_path / "journal").paths()}
    for path in SnapshotStore(tmp_path / "journal").paths():
        path.unlink()  # the one of the clean stop
    for name, content in files.items():
        (tmp_path / "journal" / name).write_bytes(content)
    caplog.set_level("INFO", "riskwire.snapshots")
    with serve() as engine:
        assert "snapshot loaded" in caplog.text
        assert run(engine, 0, 100) == wanted  # all duplicates
        assert engine.pipeline.consumer.loop.frames < 100  # what the snapshot has is not applied again


def test_a_clean_stop_leaves_nothing_to_apply_again(serve):
    with serve() as engine:
        wanted = run(engine, 0, 40)
    with serve() as engine:
        assert engine.pipeline.consumer.core.applied_seq == engine.journal.last_seq
        last = engine.snapshots.last
        assert last is not None
        assert last.seq == engine.journal.last_seq
        assert run(engine, 0, 40) == wanted


def test_a_damaged_snapshot_is_skipped_with_a_warning(tmp_path, serve, caplog):
    with serve() as engine:
        run(engine, 0, 10)
        engine.snapshots.take()
        wanted = run(engine, 10, 20)
    newest, older = SnapshotStore(tmp_path / "journal").paths()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 4
    newest.write_bytes(content)
    with serve() as engine:
        assert f"{newest.name}" in str([record.__dict__.get("path") for record in caplog.records])
        assert "snapshot skipped" in caplog.text
        assert run(engine, 0, 30) == wanted
    older.write_bytes(b"")
    newest.write_bytes(b"RWS1")
    for path in SnapshotStore(tmp_path / "journal").paths():
        if path not in (older, newest):
            path.unlink()
    with serve() as engine:  # without any good one, the whole journal is read
        assert run(engine, 0, 30) == wanted


def test_a_snapshot_ahead_of_its_journal_is_not_used(tmp_path, serve, caplog):
    """A power cut with sync = "os" may take the journal's tail and leave a snapshot that was synced."""
    with serve() as engine:
        run(engine, 0, 20)
        state = {path.name: path.read_bytes() for path in (tmp_path / "journal").glob("*.rwj")}
        run(engine, 20, 20)
        assert engine.snapshots.take() is not None
    for name, content in state.items():
        (tmp_path / "journal" / name).write_bytes(content)
    with serve() as engine:
        assert "snapshot skipped" in caplog.text
        with EngineClient(engine.base) as client:
            assert client.wait_judged(engine.journal.last_seq) == engine.journal.last_seq
            (row,) = client.positions()
        assert row["trades"] == 20


def test_the_last_few_are_kept_and_taken_by_themselves(tmp_path, serve):
    with serve(snapshot_every_ns=5_000_000, snapshots_kept=2) as engine:
        for n in range(6):
            run(engine, n * 5, 5)
            wait_for(
                lambda: engine.snapshots.last is not None and engine.snapshots.last.seq == engine.journal.last_seq,
                "a snapshot",
            )
        last = engine.snapshots.last
        assert last is not None
        assert len(SnapshotStore(tmp_path / "journal").paths()) == 2
        assert not list((tmp_path / "journal").glob("*.tmp"))
        assert engine.snapshots.take() == last  # nothing new, nothing written
    with Journal(tmp_path / "journal", readonly=True) as journal:
        assert restore_core(journal).applied_seq == journal.last_seq


def test_a_folder_that_cannot_be_written_is_a_warning_and_ends_nothing(tmp_path, serve, caplog):
    with serve(snapshot_every_ns=3_600_000_000_000) as engine:
        run(engine, 0, 5)
        (tmp_path / "journal" / "snapshot.tmp").mkdir()
        with pytest.raises(OSError):
            engine.snapshots.take()
        (tmp_path / "journal" / "snapshot.tmp").rmdir()
        assert engine.snapshots.take() is not None


def test_a_snapshot_leaves_the_journal_its_room(tmp_path, serve, monkeypatch):
    with serve(snapshot_every_ns=3_600_000_000_000) as engine:
        run(engine, 0, 5)
        monkeypatch.setattr("engine.snapshots.KEPT_FREE_BYTES", 1 << 60)
        with pytest.raises(OSError, match="which the journal may need"):
            engine.snapshots.take()
        monkeypatch.undo()
        assert engine.snapshots.take() is not None


def test_what_was_refused_is_with_the_sink_before_a_snapshot_counts(serve, monkeypatch):
    monkeypatch.setattr("engine.snapshots.SINK_WAIT_S", 0.05)
    with serve(snapshot_every_ns=3_600_000_000_000) as engine:
        run(engine, 0, 5)
        consumer = engine.pipeline.consumer
        monkeypatch.setattr(type(consumer), "sink_sent", property(lambda _: 99))
        with pytest.raises(RiskwireError, match="sink"):
            engine.snapshots.take()
        monkeypatch.undo()
