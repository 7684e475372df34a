"""Trades remembered by where they lie in a journal are the trades that were copied, in every session and snapshot."""

from __future__ import annotations

import gc
from decimal import Decimal

from core_frames import SequencedFrames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import accepted, sessions

from engine.events import Event, TradeExecuted
from ext.journal import Journal
from ext.risk import RiskCore
from ext.snapshot import HEADER_BYTES, Frozen, dump, load

THOROUGH = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)


def in_pieces(core: RiskCore, journal: Journal) -> bytes:
    frozen = Frozen()
    frozen.freeze(core, trades=False, journal=journal, in_pieces=True)
    while not frozen.take_alerts(core):
        continue
    parts = [*map(bytes, frozen.body())]
    while frozen.take_trades(core, 7):
        parts.append(frozen.packed_trades())
    return b"".join([frozen.seal(), *parts])


def without_header(snapshot: bytes) -> bytes:
    """A header says when it was taken."""
    return snapshot[HEADER_BYTES:]


@THOROUGH
@given(
    st.booleans().flatmap(lambda extreme: sessions(extreme=extreme)),
    st.lists(st.integers(1, 9), max_size=30),
    st.integers(0, 60),
    st.booleans(),
)
def test_a_core_that_follows_is_the_core_that_copies(
    events: list[Event], cuts: list[int], at: int, again: bool
) -> None:
    frames = SequencedFrames().cut(accepted(events), cuts)
    journal, copies, follows = Journal(None), RiskCore(), RiskCore()
    for frame in frames[:at]:
        journal.append_frame(frame)
        copies.apply(frame)
    follows.follow(journal, check_crc=True)
    if again:  # a restart: the state from a snapshot, the trades where they lie
        frozen = Frozen()
        frozen.freeze(follows, trades=False, journal=journal)
        while not frozen.take_alerts(follows):
            continue
        follows = RiskCore()
        load(follows, b"".join(frozen.parts), journal, lasts=True)
    for i, frame in enumerate(frames[at:]):
        journal.append_frame(frame)
        copies.apply(frame)
        if i % 3 == 2:  # one that came another way is copied
            follows.apply(frame)
        else:
            follows.follow(journal)
    assert follows.state_hash() == copies.state_hash()
    assert follows.positions_json() == copies.positions_json()
    assert without_header(in_pieces(follows, journal)) == without_header(in_pieces(copies, journal))
    restored = RiskCore()
    load(restored, in_pieces(follows, journal), journal)
    assert restored.state_hash() == copies.state_hash()
    assert without_header(dump(follows)) == without_header(dump(copies))


def test_the_trades_outlive_their_journal() -> None:
    trades = [
        TradeExecuted(
            f"T{n}", f"S{n % 3}", Decimal(10 + n), Decimal(1 + n % 4), "buy", 1_000 + n, account="A", fee=Decimal(n)
        )
        for n in range(2_000)
    ]
    busts = [
        TradeExecuted(
            f"B{t.trade_id}",
            t.symbol,
            t.price,
            t.volume,
            "buy",
            5_000,
            account="A",
            exec_type="bust",
            ref_trade_id=t.trade_id,
        )
        for t in trades[::2]
    ]
    frames = SequencedFrames().cut(accepted([*trades, *busts]), [100] * 20)
    journal, follows, copies = Journal(None), RiskCore(), RiskCore()
    for frame in frames[:20]:
        journal.append_frame(frame)
    follows.follow(journal)
    journal.close()
    del journal
    gc.collect()
    other = Journal(None)  # what was mapped there would be written over now
    for frame in frames:
        other.append_frame(bytes(frame))
        copies.apply(frame)
    for frame in frames[20:]:
        follows.apply(frame)
    assert follows.state_hash() == copies.state_hash()
    assert follows.positions_json() == copies.positions_json()
    assert not follows.refused()
