"""What is fetched ahead of a trade, and where a position keeps its limits, changes nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from agreement import alerts_of, check_session, check_state
from core_frames import SequencedFrames
from strategies import accepted

from engine.events import Event, LimitsChanged, TradeExecuted
from engine.oracle import Oracle
from ext.risk import RiskCore

D = Decimal
AT = 1_700_000_000_000_000_000
KEYS = 1_200  # more than are left to the cache (KEYS_AT_HAND)
PER_KIND = {
    "max_position": {"per": ["account", "symbol"], "threshold": "30"},
    "max_notional": {"per": ["account", "symbol"], "threshold": "300"},
    "trade_rate": {"per": ["account"], "threshold": "9", "window": "1s"},
    "gross_notional": {"per": ["account"], "threshold": "500"},
    "max_trade_volume": {"per": [], "threshold": "9"},
    "max_loss": {"per": [], "threshold": "20"},
    "volume_rate": {"per": ["symbol"], "threshold": "50", "window": "1s"},
}


def first(count: int) -> list[dict[str, Any]]:
    return [{"id": kind, "kind": kind, **fields} for kind, fields in list(PER_KIND.items())[:count]]


def change(number: int, limits: list[dict[str, Any]]) -> LimitsChanged:
    return LimitsChanged(f"limits {number}", AT, limit=limits)


def trade(number: int, symbol: str) -> TradeExecuted:
    side = "buy" if number % 3 else "sell"
    return TradeExecuted(
        f"t{number}", symbol, D(9 + number % 4), D(1 + number % 7), side, AT + number * 10**8, "AB"[number % 2]
    )


def test_limits_that_change_in_the_middle_of_a_frame() -> None:
    """Behind the change no key is left that had been fetched before."""
    near = [{"id": "near", "kind": "max_position", "per": ["account", "symbol"], "threshold": "1"}]
    symbols = [f"S{i}" for i in range(KEYS)]
    events: list[Event] = [change(0, near), *(trade(i, symbol) for i, symbol in enumerate(symbols))]
    events += [
        trade(KEYS, "S1"),
        change(1, []),
        *(trade(KEYS + 1 + i, symbol) for i, symbol in enumerate(symbols[:90])),
    ]
    numbered = accepted(events)
    core, oracle = RiskCore(), Oracle()
    for frame in SequencedFrames().cut(numbered, [KEYS + 1]):
        core.apply(frame)
    for seq, event in numbered:
        oracle.apply(seq, event)
    assert alerts_of(core) == oracle.alerts
    check_state(core, oracle)


@pytest.mark.parametrize("counts", [(3, 4, 5), (5, 4, 7), (7, 0, 4), (4, 5, 4)])
def test_a_position_has_room_for_some_limits_and_more_are_elsewhere(counts: tuple[int, ...]) -> None:
    events: list[Event] = []
    for number, count in enumerate(counts):
        events.append(change(number, first(count)))
        events += [trade(40 * number + i, f"S{i % 5}") for i in range(40)]
    check_session(events, restarts={20, 60, 100}, sizes=[7, 50])
