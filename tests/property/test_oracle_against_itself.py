"""The reference agrees with itself: what it keeps up to date equals what counting from scratch gives."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from strategies import accepted, limits_changes, replaced, sessions, to_csv, to_jsonl

from engine.codec import decimal_of
from engine.events import Event, InstrumentDefined, LimitsChanged, MarkPrice, PositionAdjusted, TradeExecuted
from engine.limitset import parse_limits
from engine.oracle import Door, Oracle
from engine.oracle.rules import ONE_TRADE, RATES, Rule

CHECKED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run(numbered: list[tuple[int, Event]]) -> Oracle:
    oracle = Oracle()
    for seq, event in numbered:
        oracle.apply(seq, event)
    return oracle


def fold(oracle: Oracle) -> list[dict[str, Any]]:
    """Apply only what is live, each at its place, as new trades: the position rows of a history without revisions."""
    fresh = Oracle()
    fresh._instruments = oracle._instruments
    for symbol in oracle._symbols.values():
        fresh._symbol(symbol.name).instrument = symbol.instrument
    fills = sorted((fill for pair in oracle._pairs() for fill in pair.fills), key=lambda fill: fill.place)
    for seq, fill in enumerate(fills, 1):
        instrument, pair = fill.pair.symbol.instrument, fill.pair
        quantity = decimal_of(fill.quantity, instrument.quantity_exponent)
        price = decimal_of(fill.price, instrument.price_exponent)
        name = pair.symbol.name
        event: Event = PositionAdjusted(f"{seq}", pair.account, name, quantity, price, 0)
        if fill.is_trade:
            side = "buy" if quantity > 0 else "sell"
            fee = decimal_of(fill.fee, -9)
            event = TradeExecuted(f"{seq}", name, price, abs(quantity), side, 0, pair.account, fee=fee)
        fresh.apply(seq, event)
    for number, symbol in enumerate(oracle._symbols.values(), 1):
        if symbol.has_mark_price and symbol.mark is not None:
            mark = decimal_of(symbol.mark, symbol.instrument.price_exponent)
            fresh.apply(seq_after(fresh, number), MarkPrice(f"m{number}", symbol.name, mark, 0))
    return fresh.positions()


def seq_after(oracle: Oracle, number: int) -> int:
    return oracle.seq + number


def is_empty(row: dict[str, Any]) -> bool:
    return row["trades"] == 0 and all(row[key] == "0" for key in ("quantity", "realized_pnl", "fees"))


@CHECKED
@given(sessions())
def test_positions_are_those_of_the_live_trades_alone(events: list[Event]) -> None:
    oracle = run(accepted(events))
    kept = [row for row in oracle.positions() if not is_empty(row)]
    assert kept == [row for row in fold(oracle) if not is_empty(row)]


@CHECKED
@given(sessions())
def test_sums_kept_up_to_date_equal_sums_from_scratch(events: list[Event]) -> None:
    oracle = Oracle()
    for seq, event in accepted(events):
        oracle.apply(seq, event)
        for rule in oracle._rules:
            if rule.kind not in ONE_TRADE | RATES:
                check_sums(oracle, rule)


def check_sums(oracle: Oracle, rule: Rule) -> None:
    fresh = Rule(rule.limit)
    for pair in oracle._pairs():
        fresh.update(pair, oracle._money)
    totals = {key: state.total for key, state in fresh.keys.items() if state.total}
    assert {key: state.total for key, state in rule.keys.items() if state.total} == totals
    assert {a: g for a, g in fresh.account_gross.items() if g} == {a: g for a, g in rule.account_gross.items() if g}


@CHECKED
@given(sessions())
def test_everything_sent_twice_changes_nothing(events: list[Event]) -> None:
    once = run(accepted(events))
    twice = run(accepted([event for event in events for _ in range(2)]))
    assert (twice.alerts, twice.positions(), twice.kills) == (once.alerts, once.positions(), once.kills)


@CHECKED
@given(sessions(extreme=True))
def test_at_the_edges_what_overflows_moves_nothing(events: list[Event]) -> None:
    oracle = Oracle()
    for seq, event in accepted(events):
        before = oracle.positions(), oracle.kills, len(oracle.alerts), len(oracle.refusals)
        oracle.apply(seq, event)
        if len(oracle.refusals) > before[3]:
            assert (oracle.positions(), oracle.kills, len(oracle.alerts)) == before[:3]


@CHECKED
@given(sessions())
def test_alerts_of_a_key_alternate_between_levels(events: list[Event]) -> None:
    last: dict[tuple[str, ...], str] = {}
    oracle = run(accepted(events))
    for number, alert in enumerate(oracle.alerts, 1):
        assert alert["alert_no"] == number
        if alert["kind"] in (*ONE_TRADE, "trade_after_kill"):
            assert alert["severity"] != "clear"
            continue
        names = ("limit_id", "kind", "account", "symbol", "venue", "strategy")
        key = tuple(alert[name] for name in names)
        assert last.get(key, "clear") != alert["severity"]
        last[key] = alert["severity"]
    assert [alert["seq"] for alert in oracle.alerts] == sorted(alert["seq"] for alert in oracle.alerts)


@CHECKED
@given(limits_changes())
def test_the_canonical_form_of_limits_is_a_fixed_point(event: LimitsChanged) -> None:
    parsed = parse_limits({"settings": event.settings, "limit": event.limit})
    assert parse_limits(json.loads(parsed.to_json())).to_json() == parsed.to_json()


@CHECKED
@given(sessions(events_max=25))
def test_a_small_memory_never_accepts_a_trade_twice(events: list[Event]) -> None:
    door = Door(trades_max=3)
    taken: set[TradeExecuted] = set()
    for event in [*events, *events]:
        if isinstance(event, TradeExecuted) and door.judge(event) == "accepted":
            assert event not in taken
            taken.add(event)


@CHECKED
@given(sessions(events_max=10))
def test_sessions_can_be_written_as_files(events: list[Event]) -> None:
    assert to_jsonl(events).count(b"\n") == len(events)
    trades = [event for event in events if isinstance(event, TradeExecuted)]
    assert len(to_csv(events).splitlines()) == len(trades) + 1
    assert all(isinstance(replaced(trade, fee=trade.fee), TradeExecuted) for trade in trades)


def test_a_definition_made_first_holds_for_every_symbol() -> None:
    oracle = run([(1, InstrumentDefined("i", "*", price_exponent=0))])
    assert oracle._symbol("anything").instrument.price_exponent == 0
