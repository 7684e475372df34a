"""The core against the exact slow reference: every position, alert, refusal and kill, after every event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_frames import SequencedFrames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import accepted, sessions

from engine.events import Event
from engine.oracle import Oracle
from ext.records import REASONS
from ext.report import alerts_to_jsonl
from ext.risk import RiskCore

CHECKED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
NIGHTLY = settings(CHECKED, max_examples=100_000)
Numbered = list[tuple[int, Event]]


def alerts_of(core: RiskCore, first_no: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while first_no + len(found) <= len(core.alerts):
        lines = alerts_to_jsonl(core.alerts.frame(first_no + len(found)))
        found += [json.loads(line) for line in lines.splitlines()]
    return found


def refusals_of(core: RiskCore) -> list[tuple[int, str]]:
    return [(seq, REASONS[reason]) for seq, reason in core.refused()]


def check_event_by_event(numbered: Numbered) -> None:
    frames, core, oracle = SequencedFrames(), RiskCore(), Oracle()
    seen = 0
    for seq, event in numbered:
        core.apply(frames.frame(seq, [event]))
        oracle.apply(seq, event)
        assert alerts_of(core, seen + 1) == oracle.alerts[seen:], (seq, event)
        seen = len(oracle.alerts)
        assert core.positions() == oracle.positions(), (seq, event)
        assert refusals_of(core) == oracle.refusals, (seq, event)
        assert {name.decode() for name in core.killed()} == oracle.kills, (seq, event)


@CHECKED
@given(sessions())
def test_positions_and_alerts_equal_the_reference_after_every_event(events: list[Event]) -> None:
    check_event_by_event(accepted(events))


@CHECKED
@given(sessions(extreme=True))
def test_numbers_at_the_edge_of_their_types_equal_the_reference(events: list[Event]) -> None:
    check_event_by_event(accepted(events))


@CHECKED
@given(sessions(), st.lists(st.integers(1, 9), max_size=30))
def test_frame_boundaries_change_nothing(events: list[Event], sizes: list[int]) -> None:
    numbered = accepted(events)
    one, many = RiskCore(), RiskCore()
    for frame in SequencedFrames().cut(numbered, []):
        one.apply(frame)
    for frame in SequencedFrames().cut(numbered, sizes):
        many.apply(frame)
        many.apply(frame)  # what came before is passed over
    assert one.positions_json() == many.positions_json()
    assert alerts_of(one) == alerts_of(many)
    assert refusals_of(one) == refusals_of(many)
    assert one.state_hash() == many.state_hash()


@CHECKED
@given(sessions(), st.integers(0, 60))
def test_the_state_survives_a_snapshot_at_any_point(events: list[Event], at: int) -> None:
    numbered = accepted(events)
    frames = SequencedFrames().cut(numbered, [1] * len(numbered))
    core = RiskCore()
    for frame in frames[:at]:
        core.apply(frame)
    restored = RiskCore()
    restored.restore(core.snapshot())
    assert restored.state_hash() == core.state_hash()
    for frame in frames[at:]:
        core.apply(frame)
        restored.apply(frame)
    assert restored.positions_json() == core.positions_json()
    assert alerts_of(restored) == alerts_of(core)
    assert restored.state_hash() == core.state_hash()


@pytest.mark.nightly
@pytest.mark.timeout(0)
@NIGHTLY
@given(st.booleans().flatmap(lambda extreme: sessions(events_max=80, extreme=extreme)))
def test_the_reference_agrees_all_night(events: list[Event]) -> None:
    check_event_by_event(accepted(events))
