"""A snapshot without its trades, and the journal that has them, are the whole state at any point of any session."""

from __future__ import annotations

from decimal import Decimal

import pytest
from core_frames import SequencedFrames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import accepted, sessions

from engine.events import Event, TradeExecuted
from ext.journal import Journal
from ext.records import stamp_frame
from ext.risk import RiskCore
from ext.snapshot import Frozen, SnapshotError, load

TRADES = [
    TradeExecuted(f"T{n}", f"S{n % 3}", Decimal(10 + n), Decimal(1 + n % 4), "buy", 1_000 + n, account="A")
    for n in range(20)
]
FRAMES = SequencedFrames().cut(accepted(TRADES), [])


def snapshot_of(core: RiskCore, journal: Journal, piece_bytes: int = 1 << 20) -> bytes:
    frozen = Frozen()
    frozen.freeze(core, trades=False, journal=journal)
    while not frozen.take_alerts(core, piece_bytes):
        continue
    return b"".join(frozen.parts)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
@given(st.booleans().flatmap(lambda extreme: sessions(extreme=extreme)), st.integers(0, 60), st.integers(1, 400))
def test_the_state_comes_back_from_snapshot_and_journal(events: list[Event], at: int, piece_bytes: int) -> None:
    numbered = accepted(events)
    frames = SequencedFrames().cut(numbered, [1] * len(numbered))
    journal, core = Journal(None), RiskCore()
    for frame in frames:
        journal.append_frame(frame)
    for frame in frames[:at]:
        core.apply(frame)
    frozen = Frozen()
    frozen.freeze(core, trades=False, journal=journal)
    later = RiskCore()  # goes on while the alerts are still being copied
    for frame in frames[:at]:
        later.apply(frame)
    for frame in frames[at:]:
        later.apply(frame)
        frozen.take_alerts(later, piece_bytes)
    while not frozen.take_alerts(later, piece_bytes):
        continue
    restored = RiskCore()
    load(restored, b"".join(frozen.parts), journal)
    assert restored.applied_seq == core.applied_seq
    assert restored.state_hash() == core.state_hash()
    for frame in frames[at:]:
        restored.apply(frame)
    assert restored.positions_json() == later.positions_json()
    assert restored.state_hash() == later.state_hash()


def test_a_snapshot_of_another_history_is_refused() -> None:
    journals = [Journal(None), Journal(None)]
    for journal, epoch in zip(journals, (7, 8), strict=True):
        for frame in map(bytearray, FRAMES):
            journal.append_frame(stamp_frame(frame, int.from_bytes(frame[16:24], "little"), epoch) or frame)
    core = RiskCore()
    for frame in journals[0]:
        core.apply(frame)
    snapshot = snapshot_of(core, journals[0])
    load(RiskCore(), snapshot, journals[0])
    with pytest.raises(SnapshotError, match="another history"):
        load(RiskCore(), snapshot, journals[1])
    with pytest.raises(SnapshotError, match="where the journal ends with 0"):
        load(RiskCore(), snapshot, Journal(None))
    with pytest.raises(SnapshotError, match="without its trades"):
        load(RiskCore(), snapshot)


def test_damage_anywhere_in_a_snapshot_is_found() -> None:
    core, journal = RiskCore(), Journal(None)
    for frame in FRAMES:
        journal.append_frame(frame)
        core.apply(frame)
    snapshot = snapshot_of(core, journal)
    for at in range(0, len(snapshot), 7):
        damaged = bytearray(snapshot)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(SnapshotError):
            load(RiskCore(), damaged, journal)
    for cut in range(0, len(snapshot), 101):
        with pytest.raises(SnapshotError):
            load(RiskCore(), snapshot[:cut], journal)
