"""The reference door: what is accepted, what is a duplicate, and why the rest is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.errors import InvalidEvent
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
from engine.oracle import Door
from engine.risk import RiskEngine

D = Decimal
BIG = 2**63 - 1


def trade(trade_id: str = "1", **more: Any) -> TradeExecuted:
    fields: dict[str, Any] = {
        "symbol": "X",
        "price": D("10"),
        "volume": D("1"),
        "side": "buy",
        "executed_at": 100,
        **more,
    }
    return TradeExecuted(trade_id=trade_id, **fields)


def verdicts(*events: Event, **more: Any) -> list[str]:
    door = Door(**more)
    return [door.judge(event) for event in events]


@pytest.mark.parametrize(
    "other",
    [
        {"venue": "V"},
        {"account": "B"},
        {"symbol": "Y"},
        {"side": "sell"},
        {"exec_type": "bust", "ref_trade_id": "9"},
    ],
)
def test_each_part_of_the_identity_tells_trades_apart(other: dict[str, Any]) -> None:
    assert verdicts(trade(), trade(**other)) == ["accepted", "accepted"]


def test_a_second_arrival_is_a_duplicate_whatever_else_it_says() -> None:
    again = trade(executed_at=200, fee=D(3), strategy="s", price=D("10.000"))
    assert verdicts(trade(), again) == ["accepted", "duplicate"]


def test_another_price_or_volume_is_a_conflict() -> None:
    events = trade(), trade(price=D(11)), trade(volume=D(2)), trade()
    assert verdicts(*events) == ["accepted", "conflicting_duplicate", "conflicting_duplicate", "duplicate"]


def test_a_correct_also_conflicts_by_what_it_names_and_a_bust_never() -> None:
    correct = trade(exec_type="correct", ref_trade_id="a")
    bust = trade(exec_type="bust", ref_trade_id="a")
    assert verdicts(correct, trade(exec_type="correct", ref_trade_id="b"))[1] == "conflicting_duplicate"
    assert verdicts(bust, trade(exec_type="bust", ref_trade_id="b", price=D(3)))[1] == "duplicate"


def test_marks_and_adjustments_conflict_by_their_numbers_others_by_nothing() -> None:
    mark = MarkPrice("e", "X", D(1), 0)
    assert verdicts(mark, MarkPrice("e", "X", D(1), 9), MarkPrice("e", "X", D(2), 0)) == [
        "accepted",
        "duplicate",
        "conflicting_duplicate",
    ]
    adjusted = PositionAdjusted("e", "A", "X", D(1), D(1), 0)
    assert verdicts(mark, adjusted, PositionAdjusted("e", "A", "X", D(2), D(1), 0)) == [
        "accepted",
        "accepted",
        "conflicting_duplicate",
    ]
    kill = KillSwitch("k", "A", engaged=True, at=0)
    assert verdicts(kill, KillSwitch("k", "B", engaged=False, at=0)) == ["accepted", "duplicate"]


INVALID: list[Event] = [
    trade(volume=D(0)),
    trade(volume=D(-1)),
    trade(price=D("NaN")),
    trade(fee=D("Infinity")),
    trade(side="hold"),
    trade(exec_type="new?"),
    trade(""),
    trade(account=""),
    trade(exec_type="bust"),
    trade(exec_type="correct"),
    PositionAdjusted("a", "", "X", D(1), D(1), 0),
    trade(symbol="s" * 65),
    trade(venue="é" * 33),
    trade(symbol="\ud800"),
    SessionStarted("", "day", 0),
    InstrumentDefined("i", "X", price_exponent=1),
    InstrumentDefined("i", "X", quantity_exponent=-19),
    InstrumentDefined("i", "X", multiplier=D(0)),
    InstrumentDefined("i", "X", multiplier=D("1e18")),
    InstrumentDefined("i", "X", multiplier=D("1e-19")),
    InstrumentDefined("i", "X", multiplier=D("1234567890123456789")),
    LimitsChanged("l", 0, limit=[{"id": "x"}]),
]
BY_TYPE = [type(event).__name__ for event in INVALID]


@pytest.mark.parametrize("event", INVALID, ids=BY_TYPE)
def test_a_value_that_cannot_be_is_invalid(event: Event) -> None:
    assert verdicts(event) == ["invalid"]


@pytest.mark.parametrize("event", INVALID, ids=BY_TYPE)
def test_the_encoder_and_the_door_call_invalid_what_the_reference_does(event: Event) -> None:
    with RiskEngine() as engine, pytest.raises(InvalidEvent) as caught:
        engine.apply(event)
    assert caught.value.reason == "invalid"


def test_precision_comes_before_overflow_and_is_the_instruments() -> None:
    cents = InstrumentDefined("i", "X", price_exponent=-2, quantity_exponent=0)
    events = [
        trade(price=D("10.005")),
        trade(price=D("10.000")),
        trade("2", volume=D("0.5")),
        trade("3", price=D("1e400"), volume=D("0.5")),
        trade("4", price=D("1e400")),
        trade("5", price=D(BIG).scaleb(-2)),
        trade("6", price=D(BIG + 1).scaleb(-2)),
        trade("7", fee=D("1e-10")),
        trade("8", fee=D("1e10")),
        trade("9", executed_at=2**63),
    ]
    assert verdicts(cents, *events)[1:] == [
        "precision",
        "accepted",
        "precision",
        "precision",
        "overflow",
        "accepted",
        "overflow",
        "precision",
        "overflow",
        "overflow",
    ]


def test_an_instrument_holds_for_symbols_not_used_before() -> None:
    door = Door()
    assert door.judge(trade("1", price=D("0.001"))) == "accepted"
    assert door.judge(InstrumentDefined("i", "*", price_exponent=0)) == "accepted"
    assert door.judge(trade("2", price=D("0.001"))) == "accepted"
    assert door.judge(trade("3", price=D("0.001"), symbol="Y")) == "precision"


def test_a_currency_needs_a_rate_once_there_are_limits() -> None:
    euro = InstrumentDefined("i", "X", currency="EUR")
    rates = LimitsChanged("l", 0, settings={"fx": {"EUR": "1.1"}})
    assert verdicts(euro, LimitsChanged("l", 0), rates) == ["accepted", "invalid", "accepted"]
    assert verdicts(LimitsChanged("m", 0), euro, rates, euro) == ["accepted", "invalid", "accepted", "accepted"]


def test_names_are_bounded_by_kind() -> None:
    events = trade("1"), trade("2", symbol="Y"), trade("3", symbol="Z"), trade("4", account="B"), trade("1")
    assert verdicts(*events, names_max=2) == [
        "accepted",
        "accepted",
        "too_many_names",
        "accepted",
        "duplicate",
    ]


def test_what_is_refused_is_not_remembered() -> None:
    assert verdicts(trade(volume=D(0)), trade()) == ["invalid", "accepted"]


def test_beyond_the_bound_what_may_have_been_forgotten_is_too_old() -> None:
    events = [trade(str(at), executed_at=at) for at in (10, 20, 30)]
    late = trade("late", executed_at=15)
    assert verdicts(*events, events[0], events[1], late, trade("x", executed_at=20), trades_max=2) == [
        "accepted",
        "accepted",
        "accepted",
        "too_old",
        "duplicate",
        "too_old",
        "accepted",
    ]


def test_nothing_is_too_old_while_nothing_is_forgotten() -> None:
    assert verdicts(trade("1", executed_at=100), trade("2", executed_at=-5), trades_max=2) == [
        "accepted",
        "accepted",
    ]
