"""Rates whose windows are settled only when that is asked for, against the exact slow reference."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from agreement import alerts_of, check_session, reference_sums, restarted, sums_of
from core_frames import SequencedFrames
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import accepted

from engine.events import Event, LimitsChanged, SessionStarted, TradeExecuted
from engine.oracle import Oracle
from ext.risk import RiskCore
from ext.snapshot import state_bytes

START = 1_700_000_000_000_000_000
WINDOW_NS = 1_000
steps = st.sampled_from([0, 1, 1, 7, 50, 90, 100, 110, 400, 999, 1_000, 1_001, 5_000, -1, -60, -999, -1_000, -1_001])
volumes = st.sampled_from([1, 1, 1, 2, 5, 40])
trades = st.lists(st.tuples(steps, volumes), min_size=1, max_size=120)


def limits(count: int, volume: int, **fields: str) -> list[dict[str, object]]:
    """A rate and a volume of an account, and of the firm with twice as much."""
    found: list[dict[str, object]] = []
    for per, times in ((["account"], 1), ([], 2)):
        for kind, threshold in (("trade_rate", count), ("volume_rate", volume)):
            found.append(
                {
                    "id": f"{kind}-{len(per)}",
                    "kind": kind,
                    "per": per,
                    "threshold": str(threshold * times),
                    "window": f"{WINDOW_NS}ns",
                    **fields,
                }
            )
    return found


def session(given_trades: list[tuple[int, int]], wanted: list[dict[str, object]], starts: set[int]) -> list[Event]:
    events: list[Event] = [LimitsChanged("l", 0, limit=wanted)]
    at = START
    for number, (step, volume) in enumerate(given_trades):
        if number in starts:
            events.append(SessionStarted(f"s{number}", f"day {number}", at))
        at += step
        account = "AB"[number % 3 == 0]
        events.append(TradeExecuted(f"t{number}", "X", Decimal(1), Decimal(volume), "buy", at, account=account))
    return events


@settings(max_examples=150, deadline=None)
@given(
    trades,
    st.integers(1, 40),
    st.integers(1, 90),
    st.sampled_from([{}, {"warn_at": "0.5"}, {"warn_at": "0.5", "clear_at": "0.25"}, {"warn_at": "1"}]),
    st.sets(st.integers(2, 120), max_size=3),
    st.sets(st.integers(1, 120), max_size=1),
    st.lists(st.integers(1, 60), max_size=4),
)
def test_rates_are_what_they_are_however_late_their_windows_are_settled(
    given_trades: list[tuple[int, int]],
    count: int,
    volume: int,
    fields: dict[str, str],
    restarts: set[int],
    starts: set[int],
    sizes: list[int],
) -> None:
    events = session(given_trades, limits(count, volume, **fields), starts)
    check_unasked(events, check_session(events, restarts, sizes), restarts)


@pytest.mark.parametrize("burst", range(1, 40))
def test_what_leaves_a_full_window_at_once_is_in_no_sum(burst: int) -> None:
    given_trades = [*[(0, 3)] * burst, (5_000, 1), (1, 1), *[(0, 1)] * 5, (WINDOW_NS - 1, 2), (1, 2), (1, 1)]
    events = session(given_trades, limits(7, 9), set())
    check_unasked(events, check_session(events), set())


def check_unasked(events: list[Event], oracle: Oracle, restarts: set[int]) -> None:
    """Event by event, `check_session` asks for all sums after each. Here nothing does, but snapshots and the end."""
    frames, core = SequencedFrames(), RiskCore()
    for seq, event in accepted(events):
        if seq in restarts:
            core = restarted(core)
        core.apply(frames.frame(seq, [event]))
    assert alerts_of(core) == oracle.alerts
    assert sums_of(core) == reference_sums(oracle)


def sizes_of(given_trades: list[tuple[int, int]], per_frame: int) -> list[int]:
    """Return what the state takes after each frame, with two limits that are far."""
    core, frames = RiskCore(), SequencedFrames()
    events = session(given_trades, limits(1_000_000, 1_000_000)[:2], set())
    sizes = []
    for start in range(0, len(events), per_frame):
        core.apply(frames.frame(start + 1, events[start : start + per_frame]))
        sizes.append(state_bytes(core))
    return sizes


def test_a_window_keeps_little_more_than_what_is_in_it() -> None:
    """100 trades are in a window of each of two limits, of 30,000 that came."""
    sizes = sizes_of([(WINDOW_NS // 100, 1)] * 30_000, 1_000)
    assert max(sizes[1:]) - min(sizes[1:]) < 2 * 100 * 24
    assert max(sizes) < 100_000


def test_a_window_gives_back_what_a_burst_needed_while_trades_go_on() -> None:
    """20,000 at once; when they have left, as many again, one by one."""
    sizes = sizes_of([(0, 1)] * 20_000 + [(WINDOW_NS, 1)] * 20_500, 500)
    assert max(sizes) > 20_000 * 24
    assert sizes[-1] < 100_000
    falls = [before - after for before, after in itertools.pairwise(sizes)]
    assert max(falls) < 2 * 2 * 500 * 24, "what has left goes little by little"
