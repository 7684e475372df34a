"""What is removed of a journal is never missed: door, core and alerts go on as if nothing had been removed."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.codec import EventDecoder
from engine.config import parse_limits
from engine.errors import JournalError
from engine.events import (
    Event,
    InstrumentDefined,
    KillSwitch,
    LimitsChanged,
    MarkPrice,
    PositionAdjusted,
    SessionStarted,
    TradeExecuted,
)
from engine.firstevents import InForce
from engine.journal import EventSelection, events_of, journal_info
from engine.retention import Retention
from engine.risk import RiskEngine
from engine.snapshots import SnapshotStore, restore_core
from ext.encoder import EventEncoder
from ext.journal import Journal
from ext.records import Frame
from ext.risk import RiskCore
from ext.sequencer import Sequencer, Source
from ext.snapshot import Frozen

SEGMENT_BYTES = 65536
START_NS = 1_700_000_000_000_000_000
NOBODY = 2**63
LIMITS = [
    {"id": "position", "kind": "max_position", "per": ["account", "symbol"], "threshold": "300"},
    {"id": "loss", "kind": "max_drawdown", "per": ["account"], "threshold": "2000"},
    {"id": "rate", "kind": "volume_rate", "per": ["symbol"], "threshold": "60", "window": "40ns"},
    {"id": "again", "kind": "repeated_trade", "threshold": "2", "window": "1us"},
]


class Session:
    """Random events of a firm that repeats, corrects and busts what it did long ago."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sent: list[Event] = []
        self.trades: list[TradeExecuted] = []

    def batch(self, count: int) -> list[Event]:
        return [self.event() for _ in range(count)]

    def event(self) -> Event:
        rng = self.rng
        kind = rng.random()
        if kind < 0.12 and self.sent:  # a repeat of anything, of any age
            return rng.choice(self.sent)
        if kind < 0.20 and self.trades:
            event: Event = self.revision(rng.choice(self.trades))
        elif kind < 0.30:
            event = self.other(len(self.sent))
        else:
            event = self.trade(len(self.sent))
            self.trades.append(event)
        self.sent.append(event)
        return event

    def trade(self, n: int) -> TradeExecuted:
        rng = self.rng
        return TradeExecuted(
            f"trade-{n}-{'x' * rng.randrange(40)}",
            f"S{rng.randrange(1 + n // 200)}",  # new names in every part of the journal
            Decimal(rng.randrange(90, 110)),
            Decimal(rng.randrange(1, 9)),
            rng.choice(("buy", "sell")),
            START_NS + n * 10 - rng.choice((0, 0, 0, 5, 3000)),
            account=f"A{rng.randrange(3)}",
            venue=rng.choice(("", "X")),
            fee=Decimal(rng.randrange(3)) / 100,
        )

    def revision(self, of: TradeExecuted) -> TradeExecuted:
        rng, n = self.rng, len(self.sent)
        side = of.side if rng.random() < 0.8 else ("sell" if of.side == "buy" else "buy")
        at = START_NS + n * 10
        bust = rng.random() < 0.5
        return TradeExecuted(
            f"revision-{n}",
            of.symbol,
            of.price if bust else Decimal(rng.randrange(90, 110)),
            of.volume if bust else Decimal(rng.randrange(1, 9)),
            side,
            at,
            account=of.account,
            venue=of.venue,
            exec_type="bust" if bust else "correct",
            ref_trade_id=of.trade_id,
        )

    def other(self, n: int) -> Event:
        rng, at = self.rng, START_NS + n * 10
        symbol = f"S{rng.randrange(1 + n // 200)}"
        match rng.randrange(8):
            case 0:
                return PositionAdjusted(f"e{n}", "A1", symbol, Decimal(rng.randrange(-5, 6)), Decimal(100), at, "moved")
            case 1:
                return SessionStarted(f"e{n}", "day", at)
            case 2:
                return InstrumentDefined(f"e{n}", rng.choice((f"T{n}", "S*", symbol)), -2, -2, multiplier=Decimal(10))
            case 3:
                some = [dict(limit) for limit in LIMITS if rng.random() < 0.8]
                plain = parse_limits({"limit": some}).to_dict()
                return LimitsChanged(f"e{n}", at, plain["settings"], plain["limit"], "somebody")
            case 4:
                return KillSwitch(f"e{n}", "A2", rng.random() < 0.5, at, "somebody")
        return MarkPrice(f"e{n}", symbol, Decimal(rng.randrange(90, 110)), at)


class Engine:
    """A door, its journal and a core behind it, without sockets; in memory, or in a folder."""

    def __init__(self, folder: Path | None, trades_max: int) -> None:
        self.folder, self.trades_max = folder, trades_max
        self.open()

    def open(self) -> None:
        self.journal = Journal(self.folder, segment_bytes=SEGMENT_BYTES)
        self.sequencer = Sequencer(self.journal, dedup_max_trades=self.trades_max)
        self.core = restore_core(self.journal)
        self.source = Source("session", 1)
        self.apply()

    def restart(self, clean: bool) -> None:
        (self.journal.close if clean else self.journal.abandon)()
        self.open()

    def publish(self, events: list[Event]) -> tuple[int, int, list[Any]]:
        encoder = EventEncoder()
        for event in events:
            encoder.add(event)
        answer = self.sequencer.process_frame(encoder.finish(self.source.taken + 1, 1), self.source)
        self.apply()
        return answer

    def apply(self) -> None:
        while (frame := self.journal.frame(self.core.applied_seq + 1)) is not None:
            self.core.apply(frame)

    def snapshot(self, full: bool, rng: random.Random | None = None) -> None:
        assert self.folder is not None
        frozen = Frozen()
        frozen.freeze(self.core, trades=False, journal=self.journal, in_pieces=full)
        while not frozen.take_alerts(self.core):
            continue
        parts = [*map(bytes, frozen.body())]
        while full and frozen.take_trades(self.core, rng.randrange(1, 400) if rng else 65536):
            parts.append(frozen.packed_trades())
        SnapshotStore(self.folder, 2).write(parts, frozen.seal, 0, full)

    def retention(self, needed: Callable[[], tuple[int, str]] = lambda: (NOBODY, "")) -> Retention:
        return Retention(self.journal, self.sequencer, lambda function: function(), needed, size_bytes=1)

    def alerts(self) -> bytes:
        log = self.core.alerts
        return b"".join(bytes(log.frame(number, 1))[64:] for number in range(1, len(log) + 1))

    def decoded(self) -> list[tuple[int, Event]]:
        decoder = EventDecoder()
        for data in self.journal.base.frames() if self.journal.base is not None else ():
            decoder.learn(Frame(data))
        return [pair for data in self.journal for pair in decoder.decode_all(Frame(data))]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from((5, 60, 400)))
def test_an_engine_whose_journal_was_cut_goes_on_as_one_whose_was_not(seed: int, trades_max: int) -> None:
    import tempfile

    rng = random.Random(seed)
    session = Session(rng)
    with tempfile.TemporaryDirectory() as folder:
        cut, whole = Engine(Path(folder), trades_max), Engine(None, trades_max)
        removed = 0
        for _ in range(14):
            events = session.batch(rng.randrange(100, 400))
            assert cut.publish(events) == whole.publish(events)
            if rng.random() < 0.7:
                cut.snapshot(full=True)
            elif rng.random() < 0.7:
                cut.snapshot(full=False)
            removed += cut.retention().remove()
            if rng.random() < 0.5:
                cut.restart(clean=rng.random() < 0.5)
        cut.snapshot(full=True)
        cut.snapshot(full=True)
        removed += cut.retention().remove()
        assert removed
        cut.restart(clean=True)
        events = session.batch(300)
        assert cut.publish(events) == whole.publish(events)
        assert cut.core.state_hash() == whole.core.state_hash()
        assert cut.alerts() == whole.alerts()
        assert cut.core.positions_json() == whole.core.positions_json()
        assert cut.decoded() == whole.decoded()[cut.journal.first_seq - 1 :]
        assert (cut.sequencer.dedup.trades, cut.sequencer.dedup.forgotten, cut.sequencer.dedup.horizon) == (
            whole.sequencer.dedup.trades,
            whole.sequencer.dedup.forgotten,
            whole.sequencer.dedup.horizon,
        )
        found, wanted = InForce.of(cut.journal), InForce.of(whole.journal)
        assert (found.limits, found.instruments, found.ids) == (wanted.limits, wanted.instruments, wanted.ids)
        cut.journal.close()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_trades_copied_piece_by_piece_are_those_of_the_instant_of_the_freeze(seed: int) -> None:
    rng = random.Random(seed)
    session, engine = Session(rng), Engine(None, 10**6)
    engine.publish(session.batch(600))
    frozen = Frozen()
    frozen.freeze(engine.core, trades=False, journal=engine.journal, in_pieces=True)
    wanted, at = engine.core.state_hash(), engine.core.applied_seq
    while not frozen.take_alerts(engine.core):
        continue
    parts = [*map(bytes, frozen.body())]
    while frozen.take_trades(engine.core, rng.randrange(1, 200)):
        parts.append(frozen.packed_trades())
        engine.publish(session.batch(rng.randrange(1, 60)))  # busts and corrects what is copied, and what is not yet
    restored = RiskCore()
    restored.restore(b"".join([frozen.seal(), *parts]))
    assert restored.applied_seq == at
    assert restored.state_hash() == wanted
    for data in engine.journal:
        restored.apply(data)
    assert restored.state_hash() == engine.core.state_hash()


@pytest.fixture
def filled(tmp_path: Path) -> Engine:
    """An engine with some segments, all of whose trades but the last few are forgotten."""
    engine = Engine(tmp_path / "journal", 10)
    session = Session(random.Random(3))
    for _ in range(12):
        engine.publish(session.batch(300))
    return engine


def test_nothing_is_removed_before_two_snapshots_have_the_trades(filled: Engine) -> None:
    retention = filled.retention()
    assert retention.needs_snapshot()
    assert retention.remove() == 0
    assert "waits for two snapshots" in retention.held_by
    filled.snapshot(full=False)
    filled.snapshot(full=True)
    assert retention.remove() == 0
    assert retention.needs_snapshot()
    filled.snapshot(full=True)
    assert not retention.needs_snapshot()
    segments = filled.journal.segment_count
    assert retention.remove() == segments - 1
    assert filled.journal.segment_count == 1
    assert not list(filled.folder.glob("*.tmp"))
    assert len(list(filled.folder.glob("*.rwj"))) == 1


def test_a_trade_that_is_still_remembered_keeps_its_segment(tmp_path: Path) -> None:
    engine = Engine(tmp_path, 10**6)
    session = Session(random.Random(4))
    for _ in range(8):
        engine.publish(session.batch(300))
    engine.snapshot(full=True)
    engine.snapshot(full=True)
    retention = engine.retention()
    assert not retention.needs_snapshot()  # it would free nothing
    assert retention.remove() == 0
    assert "segment 1 has trades that are still remembered" in retention.held_by
    assert engine.journal.first_seq == 1


def test_a_queue_keeps_the_segment_of_its_open_job(filled: Engine) -> None:
    filled.snapshot(full=True)
    filled.snapshot(full=True)
    second = filled.journal.segments()[1][1]
    retention = filled.retention(lambda: (second, "queue slow: open job of seq 9 needs it"))
    assert retention.remove() == 1
    assert filled.journal.first_seq == second
    assert retention.held_by == "segment 2: queue slow: open job of seq 9 needs it"


def test_a_damaged_snapshot_counts_as_none(filled: Engine) -> None:
    filled.snapshot(full=True)
    filled.snapshot(full=True)
    newest = SnapshotStore(filled.folder).full_paths()[0]
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    retention = filled.retention()
    assert retention.remove() == 0
    assert retention.needs_snapshot()
    filled.snapshot(full=True)
    assert retention.remove() == 0  # the damaged one has pushed out a good one
    filled.snapshot(full=True)
    assert retention.remove() > 0


def test_what_was_removed_is_told(filled: Engine) -> None:
    filled.snapshot(full=True)
    filled.snapshot(full=True)
    whole = list(events_of(filled.folder, EventSelection()))
    filled.retention().remove()
    first_seq = filled.journal.first_seq
    filled.journal.close()
    found = journal_info(filled.folder)
    assert (found.first_seq, found.segments, found.sealed) == (first_seq, 1, True)
    assert found.removed_bytes > SEGMENT_BYTES
    assert found.removed_trades > 1000
    assert list(events_of(filled.folder, EventSelection())) == whole[first_seq - 1 :]


def test_the_library_takes_up_a_journal_without_its_beginning(filled: Engine) -> None:
    filled.snapshot(full=True)
    filled.snapshot(full=True)
    filled.retention().remove()
    wanted, alerts = filled.core.positions_json(), filled.alerts()
    filled.journal.close()
    with RiskEngine(journal=filled.folder) as engine:
        assert engine.core.positions_json() == wanted
        assert len(engine.alerts()) == len(filled.core.alerts)
        assert engine.apply(MarkPrice("later", "S0", Decimal(7), START_NS))
        assert filled.alerts() == alerts


def test_without_any_snapshot_a_cut_journal_is_an_error_and_not_an_empty_book(filled: Engine) -> None:
    filled.snapshot(full=True)
    filled.snapshot(full=True)
    filled.retention().remove()
    filled.journal.close()
    for path in SnapshotStore(filled.folder).paths():
        path.write_bytes(b"")
    with Journal(filled.folder) as journal, pytest.raises(JournalError, match="no snapshot that stands for them"):
        restore_core(journal)


def test_damage_anywhere_in_a_base_is_found(filled: Engine) -> None:
    filled.snapshot(full=True)
    filled.snapshot(full=True)
    filled.retention().remove()
    filled.journal.close()
    base = filled.folder / "base.rwb"
    content = base.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 199)):
        base.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        with pytest.raises(JournalError, match=r"base\.rwb"):
            Journal(filled.folder, readonly=True)
    base.write_bytes(content[:-1])
    with pytest.raises(JournalError, match=r"base\.rwb"):
        Journal(filled.folder, readonly=True)
    base.unlink()
    with pytest.raises(JournalError, match=r"00000001\.rwj is missing"):
        Journal(filled.folder)
