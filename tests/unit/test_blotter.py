"""The blotter without an engine: each trade once, marks in whatever order the trades come, and files by day."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RiskwireError, UsageError
from engine.events import TradeExecuted
from engine.oracle.oracle import Oracle
from engine.workers.blotter import prepare, record, take_lock
from engine.workers.parquet import ParquetWriter, write_days

DAY_NS = 86_400 * 10**9


def trade(
    trade_id: str,
    exec_type: Any = "new",
    ref: str = "",
    side: Any = "buy",
    volume: Decimal = Decimal(2),
    **more: Any,
) -> TradeExecuted:
    fields = {"executed_at": 1_700_000_000 * 10**9, "account": "A", **more}
    return TradeExecuted(
        trade_id, "BTC", Decimal("1.50"), volume, side, exec_type=exec_type, ref_trade_id=ref, **fields
    )


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(tmp_path / "blotter.db", isolation_level=None)
    made.execute("PRAGMA journal_mode = WAL")
    made.execute("PRAGMA synchronous = OFF")  # a test's file need not survive anything
    prepare(made)
    yield made
    made.close()


def marks(db: sqlite3.Connection) -> dict[int, tuple[str, int | None, int | None]]:
    return {seq: tuple(mark) for seq, *mark in db.execute("SELECT seq, status, changed_by, changes FROM trades")}


HISTORY = [
    trade("T1"),
    trade("T1", side="sell"),
    trade("T2"),
    trade("C1", "correct", "T1"),  # two sides have that id
    trade("B1", "bust", "T1", side="sell"),  # takes its own side's
    trade("C2", "correct", "T1"),  # now there is one
    trade("B2", "bust", "C2"),  # a correct's own id is what later ones name
    trade("B3", "bust", "C2"),
    trade("B4", "bust", "never"),
    trade("C3", "correct", "T2", account="other"),  # another account's
]
EXPECTED = {
    1: ("corrected", 6, None),
    2: ("busted", 5, None),
    3: ("live", None, None),
    4: ("ambiguous_trade", None, None),
    5: ("bust", None, 2),
    6: ("busted", 7, 1),
    7: ("bust", None, 6),
    8: ("unknown_trade", None, None),
    9: ("unknown_trade", None, None),
    10: ("unknown_trade", None, None),
}


def refusals_of(numbered: Sequence[tuple[int, TradeExecuted]]) -> dict[int, str]:
    """Return what the sequence refuses of events in their order."""
    oracle = Oracle()
    for seq, event in numbered:
        oracle.apply(seq, event)
    return dict(oracle.refusals)


@pytest.mark.parametrize("seed", range(20))
def test_busts_and_corrections_are_marked_alike_in_whatever_order_and_batches_trades_come(
    db: sqlite3.Connection, seed: int
) -> None:
    numbered = list(enumerate(HISTORY, 1))
    refusals = refusals_of(numbered)
    chance = random.Random(seed)
    if seed:
        chance.shuffle(numbered)
    while numbered:
        size = chance.randint(1, len(numbered))
        record(db, numbered[:size], refusals)
        del numbered[:size]
    assert marks(db) == EXPECTED


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_live_is_what_the_reference_holds_whatever_it_refused(data: st.DataObject) -> None:
    ids = st.sampled_from(["T1", "T2", "T3"])
    events = data.draw(
        st.lists(
            st.builds(
                trade,
                ids,
                st.sampled_from(["new", "new", "correct", "bust"]),
                ids,
                st.sampled_from(["buy", "sell"]),
                account=st.sampled_from(["A", "B"]),
                volume=st.sampled_from([Decimal(2), Decimal(2), Decimal(60_000_000_000)]),  # two of them are overflow
            ),
            max_size=14,
            unique_by=lambda event: (event.account, event.side, event.exec_type, event.trade_id),
        )
    )
    oracle, db = Oracle(), sqlite3.connect(":memory:", isolation_level=None)
    prepare(db)
    for seq, event in enumerate(events, 1):
        oracle.apply(seq, event)
    numbered = list(enumerate(events, 1))
    record(db, data.draw(st.permutations(numbered)), dict(oracle.refusals))
    signed = "sum(CASE side WHEN 'buy' THEN 1 ELSE -1 END * CAST(volume AS INTEGER))"
    live = db.execute(
        f"SELECT account, count(*), {signed} FROM trades WHERE status = 'live' GROUP BY account ORDER BY account"
    ).fetchall()
    expected = [(row["account"], row["trades"], int(row["quantity"])) for row in oracle.positions() if row["trades"]]
    assert live == expected
    refused = db.execute(
        "SELECT seq, status FROM trades WHERE status LIKE '%_trade' OR status = 'overflow' ORDER BY seq"
    ).fetchall()
    assert refused == oracle.refusals
    changed = db.execute("SELECT changed_by, seq FROM trades WHERE changed_by > 0 ORDER BY 1").fetchall()
    assert changed == db.execute("SELECT seq, changes FROM trades WHERE changes > 0 ORDER BY 1").fetchall()
    takes = sum(event.exec_type != "new" and seq not in dict(oracle.refusals) for seq, event in numbered)
    assert len(changed) == takes, "each that was not refused has changed one trade"
    db.close()


def test_a_bust_that_the_sequence_refused_leaves_its_trade_live_and_a_later_one_takes_it(
    db: sqlite3.Connection,
) -> None:
    events = [trade("T1"), trade("B1", "bust", "T1"), trade("B2", "bust", "T1"), trade("T2"), trade("B3", "bust", "T2")]
    record(db, list(enumerate(events, 1)), {2: "overflow", 4: "overflow", 5: "unknown_trade"})
    assert marks(db) == {
        1: ("busted", 3, None),
        2: ("overflow", None, None),
        3: ("bust", None, 1),
        4: ("overflow", None, None),
        5: ("unknown_trade", None, None),
    }


def test_a_trade_that_comes_again_changes_nothing(db: sqlite3.Connection) -> None:
    refusals = refusals_of(list(enumerate(HISTORY, 1)))
    record(db, list(enumerate(HISTORY, 1)), refusals)
    before = db.execute("SELECT * FROM trades").fetchall()
    record(db, list(enumerate(HISTORY, 1))[::-1], refusals)
    assert db.execute("SELECT * FROM trades").fetchall() == before


def test_another_journals_trade_under_the_same_seq_is_refused(db: sqlite3.Connection) -> None:
    record(db, [(1, trade("T1"))])
    with pytest.raises(RiskwireError, match="seq 1 is trade T1 here and trade X1"):
        record(db, [(1, trade("X1"))])


def rows_of(folder: Path) -> dict[str, list[Any]]:
    return {file.stem: pq.read_table(file).to_pylist() for file in sorted(folder.glob("*.parquet"))}


def numbered(events: Sequence[TradeExecuted], first: int = 1) -> list[tuple[int, TradeExecuted]]:
    return list(zip(itertools.count(first), events, strict=False))


def test_each_day_is_a_file_and_only_days_that_changed_are_written_again(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    path, folder = tmp_path / "blotter.db", tmp_path / "days"
    record(db, numbered([trade(f"T{n}", executed_at=n * DAY_NS) for n in (0, 1, 1, 2)]))
    assert write_days(path, folder) == ["1970-01-01", "1970-01-02", "1970-01-03"]
    assert write_days(path, folder) == []
    record(db, numbered([trade("B1", "bust", "T0", executed_at=2 * DAY_NS)], 5))
    assert write_days(path, folder) == ["1970-01-01", "1970-01-03"], "the bust's day and the day of what it busts"
    days = rows_of(folder)
    assert [row["seq"] for row in days["1970-01-02"]] == [2, 3]
    (busted,) = days["1970-01-01"]
    assert (busted["status"], busted["changed_by"], busted["price"]) == ("busted", 5, Decimal("1.5"))
    (folder / "1970-01-02.parquet").unlink()
    assert write_days(path, folder) == ["1970-01-02"]


def test_the_writer_writes_once_more_when_it_is_closed(db: sqlite3.Connection, tmp_path: Path) -> None:
    writer = ParquetWriter(tmp_path / "blotter.db", tmp_path / "days", every_s=3600)
    writer.start()
    record(db, [(1, trade("T1"))])
    writer.close()
    assert list(rows_of(tmp_path / "days")) == ["2023-11-14"]


def test_a_blotter_is_not_made_again_while_workers_write_it(tmp_path: Path) -> None:
    import os

    one, two = take_lock(tmp_path / "b.db"), take_lock(tmp_path / "b.db")
    with pytest.raises(UsageError, match="stop them first"):
        take_lock(tmp_path / "b.db", alone=True)
    os.close(one)
    os.close(two)
    alone = take_lock(tmp_path / "b.db", alone=True)
    with pytest.raises(UsageError, match="being made again"):
        take_lock(tmp_path / "b.db")
    os.close(alone)
