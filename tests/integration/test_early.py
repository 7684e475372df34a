"""The memory that is made before a long replay is imported: what comes of the replay is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.early import LEAST_BYTES, early_memory
from engine.replay import ReplayOptions, run_replay
from ext.dedup import Dedup
from ext.journal import Journal
from ext.sequencer import Sequencer

COUNTED = ("trades_read", "accepted", "duplicates", "dead_letters", "first_seq", "last_seq")


def feed_of(path: Path, trades: int) -> Path:
    """Write a canonical CSV, the last of ten trades a duplicate of the one before."""
    lines = ["trade_id,executed_at,symbol,side,price,volume"]
    for i in range(trades):
        at = i - (i % 10 == 9)
        lines.append(f"t{at},{1_700_000_000_000_000_000 + at},S{at % 7},{'buy' if at % 3 else 'sell'},{100 + at % 9},1")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("trades", [20, 30_000])
def test_a_replay_in_early_memory_is_the_same(tmp_path, trades):
    """Also where a frame is larger than the room that was made, and where the room is filled and left behind."""
    feed = feed_of(tmp_path / "feed.csv", trades)
    runs = []
    for early in (None, early_memory([feed], least_bytes=0)):
        out = tmp_path / f"positions-{early is None}.csv"
        summary = run_replay(ReplayOptions([feed], positions=out, frame_records=64, early=early))
        runs.append(([getattr(summary, name) for name in COUNTED], out.read_bytes(), summary.core.state_hash()))
    assert runs[0] == runs[1]
    assert runs[0][0][:3] == [trades, trades * 9 // 10, trades // 10]


def test_only_long_feeds_of_text_have_memory_made(tmp_path):
    for name, size, made in (
        ("a.csv", LEAST_BYTES, True),
        ("b.csv", LEAST_BYTES - 1, False),
        ("c.gz", LEAST_BYTES, False),
    ):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
        assert (early_memory([tmp_path / name]) is not None) is made
    assert early_memory([tmp_path / "missing.csv", tmp_path]) is None


def test_what_knows_the_duplicates_is_of_the_same_journal():
    with pytest.raises(ValueError, match="another journal"):
        Sequencer(Journal(None), dedup=Dedup(Journal(None)))
    with pytest.raises(ValueError, match="in memory"):
        Journal("somewhere", room=4096)
