"""The core against the exact slow reference: positions, P&L, alerts, levels, sums, refusals and kills, event by event.

2,000 examples of each kind of session here (250 in a debug build, which is slow); 100,000 of both with `-m nightly`.
"""

from __future__ import annotations

import pytest
from agreement import check_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import sessions

from engine.events import Event
from ext.levels import DEBUG

CHECKED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=250 if DEBUG else 2000)
NIGHTLY = settings(CHECKED, max_examples=100_000)
RESTARTS = st.sets(st.integers(0, 79), max_size=3)
SIZES = st.lists(st.integers(1, 30), max_size=20)


@CHECKED
@given(sessions(events_max=60), RESTARTS, SIZES)
def test_everything_equals_the_reference_after_every_event(
    events: list[Event], restarts: set[int], sizes: list[int]
) -> None:
    check_session(events, restarts, sizes)


@CHECKED
@given(sessions(extreme=True), RESTARTS, SIZES)
def test_numbers_at_the_edge_of_their_types_equal_the_reference(
    events: list[Event], restarts: set[int], sizes: list[int]
) -> None:
    check_session(events, restarts, sizes)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@NIGHTLY
@given(st.booleans().flatmap(lambda extreme: sessions(events_max=80, extreme=extreme)), RESTARTS, SIZES)
def test_the_reference_agrees_all_night(events: list[Event], restarts: set[int], sizes: list[int]) -> None:
    check_session(events, restarts, sizes)
