"""The main job through the real parts: nothing lost, nothing twice, the same bytes every time."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from engine_rig import HEADER, LIMITS, alert_lines, read_json, replay, rows, write_session

from engine.errors import OutputError, UsageError, VerifyError
from engine.events import Event
from engine.journal import read_frames
from engine.oracle import Oracle
from engine.replay import JSON_KEYS, _Run


@pytest.mark.parametrize("frame_records", [1, 7, 64, 8192])
def test_frames_of_any_size_give_the_same_bytes(tmp_path: Path, frame_records: int) -> None:
    trades, limits = write_session(tmp_path)
    one = replay(trades, limits=limits)
    other = replay(trades, limits=limits, frame_records=frame_records)
    assert alert_lines(one) == alert_lines(other) != b""
    assert one.positions == other.positions
    assert (one.first_seq, one.last_seq) == (other.first_seq, other.last_seq) == (2, 301)


def test_trades_cross_zeromq_sockets(tmp_path: Path) -> None:
    """Over ipc the operating system carries every frame; the result is that of inproc."""
    trades, limits = write_session(tmp_path)
    inproc = replay(trades, limits=limits)
    ipc = replay(trades, limits=limits, transport="ipc")
    assert alert_lines(inproc) == alert_lines(ipc)
    assert inproc.positions == ipc.positions


def test_every_event_counts_once_on_arrival(tmp_path: Path) -> None:
    feed = tmp_path / "trades.csv"
    bad = "X1,S1,abc,1,buy,1,A0\nX2,S1,1,-1,buy,1,A0\nX3,S1,0.0000000001,1,buy,1,A0\nshort\n"
    feed.write_text(HEADER + rows(10) + rows(4) + bad)
    summary = replay(feed)
    assert (summary.trades_read, summary.accepted, summary.duplicates, summary.dead_letters) == (18, 10, 4, 4)
    assert (summary.first_seq, summary.last_seq, summary.alerts) == (1, 10, 0)
    assert summary.reasons == {"invalid": 2, "precision": 1, "undecodable": 1}
    assert tuple(summary.to_json()) == JSON_KEYS
    assert summary.trades_per_s == pytest.approx(18 / summary.elapsed_s)


def test_what_is_refused_in_the_sequence_is_a_dead_letter_only(tmp_path: Path) -> None:
    feed = tmp_path / "trades.csv"
    head = HEADER.strip() + ",exec_type,ref_trade_id\n"
    good = "T1,S,1,1,buy,1,A,,\n"
    bust = "B1,S,1,1,buy,2,A,bust,nobody\n"
    feed.write_text(head + bust + good + bust.replace("B1", "B2"))
    summary = replay(feed)
    assert (summary.trades_read, summary.accepted, summary.dead_letters) == (3, 1, 2)
    assert (summary.first_seq, summary.last_seq) == (2, 2)
    assert summary.reasons == {"unknown_trade": 2}
    with sqlite3.connect(summary.dead_letters_path) as db:
        letters = db.execute("SELECT stage, seq, trade_id, symbol FROM dead_letters ORDER BY seq").fetchall()
    assert letters == [("sequence", 1, "B1", "S"), ("sequence", 3, "B2", "S")]


def test_a_journal_is_continued_and_only_this_run_is_counted(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path, 100)
    journal = tmp_path / "journal"
    first = replay(trades, limits=limits, journal=journal)
    trades.write_text(HEADER + rows(200))
    second = replay(trades, limits=limits, journal=journal)
    assert (second.accepted, second.duplicates) == (100, 100)
    assert (second.first_seq, second.last_seq) == (102, 201)
    whole = replay(trades, limits=limits)
    assert second.positions == whole.positions
    assert alert_lines(first) + alert_lines(second) == alert_lines(whole)
    assert first.alerts + second.alerts == whole.alerts
    assert Path(second.dead_letters_path) == journal / "dead-letters.db"


def test_a_replayed_journal_gives_the_same_bytes_and_seqs(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path)
    original = replay(trades, limits=limits, journal=tmp_path / "journal")
    again = replay(tmp_path / "journal", dead_letters=tmp_path / "again.db")
    assert alert_lines(original) == alert_lines(again) != b""
    assert original.positions == again.positions
    assert (again.trades_read, again.first_seq, again.last_seq) == (301, 1, 301)


def test_other_limits_replace_those_of_a_journal_in_place(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path)
    replay(trades, limits=limits, journal=tmp_path / "journal")
    limits.write_text(LIMITS.replace('threshold = "20"', 'threshold = "30"'))
    asked = replay(tmp_path / "journal", limits=limits, dead_letters=tmp_path / "again.db")
    fresh = replay(trades, limits=limits, dead_letters=tmp_path / "fresh.db")
    assert alert_lines(asked) == alert_lines(fresh)
    assert asked.last_seq == fresh.last_seq == 301


def test_limits_for_a_journal_without_any_apply_before_its_first_event(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path)
    replay(trades, journal=tmp_path / "journal")
    asked = replay(tmp_path / "journal", limits=limits, dead_letters=tmp_path / "again.db")
    fresh = replay(trades, limits=limits, dead_letters=tmp_path / "fresh.db")
    assert (asked.first_seq, asked.last_seq) == (1, 300)  # its seqs are kept: the limits take none
    assert asked.alerts == fresh.alerts > 0


def test_changed_limits_take_effect_also_when_they_were_in_force_before(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path, 10)
    journal = tmp_path / "journal"
    for number, threshold in enumerate(["20", "30", "20", "20"], 1):
        limits.write_text(LIMITS.replace('threshold = "20"', f'threshold = "{threshold}"'))
        trades.write_text(HEADER + rows(10, first=10 * number))
        summary = replay(trades, limits=limits, journal=journal)
        assert summary.accepted == 10
    # Three of the four changed the limits, the last did not: 3 events of ours before 40 trades.
    assert summary.last_seq == 43


def test_instruments_and_opening_positions_come_first_and_are_not_counted(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path, 5)
    (tmp_path / "instruments.csv").write_text("symbol,multiplier\nS*,10\n")
    (tmp_path / "opening.csv").write_text("account,symbol,quantity,price\nA0,OLD,-5,2\n")
    files = {"instruments": tmp_path / "instruments.csv", "opening": tmp_path / "opening.csv"}
    for _ in range(2):  # the second time all of it is known
        summary = replay(trades, limits=limits, journal=tmp_path / "journal", **files)
    assert summary.trades_read == summary.duplicates == 5
    assert summary.alerts == 0
    row = next(row for row in summary.positions if row["symbol"] == "OLD")
    assert (str(row["quantity"]), str(row["avg_price"])) == ("-5", "2")


def test_an_opening_position_that_cannot_be_is_an_error_of_its_file(tmp_path: Path) -> None:
    trades, _ = write_session(tmp_path, 5)
    opening = tmp_path / "opening.csv"
    opening.write_text("account,symbol,quantity,price\nA0,OLD,0.000000001,2\n")
    with pytest.raises(UsageError, match="opening position of A0 in OLD: precision"):
        replay(trades, opening=opening)


def test_outputs_are_written_whole_under_their_names(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path)
    positions, alerts = tmp_path / "out.json", tmp_path / "alerts.jsonl"
    summary = replay(trades, limits=limits, positions=positions, alerts=alerts)
    assert alerts.read_bytes() == alert_lines(summary)
    assert len(read_json(positions)) == len(summary.positions) == 21
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("positions", "out.txt", "expected a name ending in .json, .csv, .parquet"),
        ("positions", "out", "expected a name ending in"),
        ("alerts", "alerts.csv", "expected a name ending in .jsonl, .parquet"),
        ("alerts", "missing/alerts.jsonl", "No such file"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_anything_runs(
    tmp_path: Path, option: str, name: str, message: str
) -> None:
    trades, _ = write_session(tmp_path)
    with pytest.raises(OutputError, match=message):
        replay(trades, journal=tmp_path / "journal", **{option: tmp_path / name})
    assert not (tmp_path / "journal").exists()


def test_a_failed_replay_leaves_no_half_written_files(tmp_path: Path) -> None:
    trades, _ = write_session(tmp_path)
    with pytest.raises(UsageError):
        replay(trades, limits=tmp_path / "missing.toml", positions=tmp_path / "out.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["limits.toml", "trades.csv"]


def test_a_paced_replay_keeps_the_recorded_distances(tmp_path: Path) -> None:
    feed = tmp_path / "trades.csv"
    times = [0, 50, 100, 400]  # ms
    feed.write_text(HEADER + "".join(f"T{ms},S,1,1,buy,{(1_700_000_000_000 + ms) * 10**6},A\n" for ms in times))
    summary = replay(feed, speed=2)
    assert summary.accepted == 4
    assert summary.elapsed_s >= 0.2


def test_progress_is_told_from_the_calling_thread(tmp_path: Path) -> None:
    feed = tmp_path / "trades.csv"
    feed.write_text(HEADER + "T1,S,1,1,buy,1700000000000000000,A\nT2,S,1,1,buy,1700000000300000000,A\n")
    told: list[tuple[int, int, int, float | None, int]] = []
    replay(feed, speed=1, progress=lambda *numbers: told.append((*numbers, threading.get_ident())))
    assert {ident for *_, ident in told} == {threading.get_ident()}
    assert told[-1][0] <= told[-1][1] == feed.stat().st_size
    assert all(lag is not None and lag >= 0 for _, _, _, lag, _ in told)


def test_a_replay_ends_every_thread_it_started(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path)
    before = {thread.name for thread in threading.enumerate()}
    replay(trades, limits=limits)
    assert {thread.name for thread in threading.enumerate()} <= before


@pytest.mark.parametrize("journal", [None, "journal"])
def test_a_core_without_its_trades_answers_as_before_and_applies_nothing_more(
    tmp_path: Path, journal: str | None
) -> None:
    trades, limits = write_session(tmp_path)
    place = tmp_path / journal if journal else None
    keeping = replay(trades, limits=limits, journal=tmp_path / "kept")
    frame = next(iter(read_frames(tmp_path / "kept")))
    summary = replay(trades, limits=limits, journal=place, positions=tmp_path / "out.csv", keep_trades=False)
    assert (tmp_path / "out.csv").read_bytes() == keeping.core.positions_csv()
    assert (summary.positions, alert_lines(summary)) == (keeping.positions, alert_lines(keeping))
    for use in (lambda: summary.core.apply(frame), summary.core.snapshot, summary.core.state_hash):
        with pytest.raises(ValueError, match="let go of its trades"):
            use()


def test_a_core_that_gives_its_trades_back_takes_no_more_from_when_it_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its memory is given back by a thread, which may begin much later."""
    trades, limits = write_session(tmp_path)
    replay(trades, limits=limits, journal=tmp_path / "kept")
    frame = next(iter(read_frames(tmp_path / "kept")))
    may_begin, give_back = threading.Event(), _Run.let_go

    def late(run: _Run) -> None:
        may_begin.wait()
        give_back(run)

    monkeypatch.setattr(_Run, "let_go", late)
    summary = replay(trades, limits=limits, keep_trades=False)
    try:
        for use in (lambda: summary.core.apply(frame), summary.core.snapshot):
            with pytest.raises(ValueError, match="let go of its trades"):
                use()
    finally:
        may_begin.set()
    assert summary.core.positions_csv()


def test_dead_letters_without_a_place_go_to_a_temporary_file(tmp_path: Path) -> None:
    trades, _ = write_session(tmp_path, 3)
    summary = replay(trades, dead_letters=None)
    assert os.path.exists(summary.dead_letters_path)
    os.unlink(summary.dead_letters_path)


def test_verify_agrees_with_the_reference_also_on_a_continued_and_on_a_replayed_journal(tmp_path: Path) -> None:
    trades, limits = write_session(tmp_path)
    files = {"limits": limits, "verify": True}
    replay(trades, journal=tmp_path / "journal", **files)
    trades.write_text(HEADER + rows(500))
    assert replay(trades, journal=tmp_path / "journal", **files).accepted == 200
    assert replay(tmp_path / "journal", dead_letters=tmp_path / "again.db", **files).alerts > 0


def test_verify_names_seq_and_field_of_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trades, limits = write_session(tmp_path)
    monkeypatch.setattr(Oracle, "_dispatch", without_seq_9(Oracle._dispatch))
    with pytest.raises(VerifyError, match=r"^seq \d+: "):
        replay(trades, limits=limits, verify=True)


def without_seq_9(dispatch: Callable[[Oracle, Event], None]) -> Callable[[Oracle, Event], None]:
    """Return a reference with an error in it: it overlooks one event."""
    return lambda oracle, event: None if oracle.seq == 9 else dispatch(oracle, event)
