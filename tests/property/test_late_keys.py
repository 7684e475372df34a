"""Keys that are made when they come near their limit, by example, against the exact slow reference."""

from __future__ import annotations

from decimal import Decimal

from agreement import check_session

from engine.events import Event, InstrumentDefined, LimitsChanged, MarkPrice, TradeExecuted

LATE_KINDS = ("max_position", "max_notional", "concentration")


def late(account: str, threshold: str = "10", **fields: str) -> list[dict[str, object]]:
    """Limits whose keys are made when they come near, for the accounts of a glob."""
    shared = {"per": ["account", "symbol"], "threshold": threshold, **fields}
    return [{"id": kind, "kind": kind, "match": {"account": account}, **shared} for kind in LATE_KINDS]


def trade(number: int, account: str, volume: int, price: int = 10, side: str = "buy", **fields: str) -> TradeExecuted:
    at, money = number * 1_000, Decimal(price)
    return TradeExecuted(f"t{number}", "X", money, Decimal(volume), side, at, account=account, **fields)


def test_keys_that_are_made_late_lose_their_cells_and_find_them_again() -> None:
    events: list[Event] = [
        LimitsChanged("l1", 0, limit=late("A*")),
        trade(1, "A1", 11),
        trade(2, "B1", 500),
        LimitsChanged("l2", 0, limit=late("B*")),
        trade(3, "A1", 1),
        MarkPrice("m1", "X", Decimal(9), 0),
        LimitsChanged("l3", 0, limit=late("A*")),
        MarkPrice("m2", "X", Decimal(1), 0),
        trade(4, "A1", 3, side="sell"),
        trade(5, "A1", 1, venue="V"),
        trade(6, "B1", 700),
        MarkPrice("m3", "X", Decimal(1_000), 0),
        LimitsChanged("l4", 0, limit=late("*", "100", warn_at="0.5", clear_at="0.4")),
        MarkPrice("m4", "X", Decimal("0.01"), 0),
    ]
    oracle = check_session(events, {3, 6, 8, 13})
    assert {alert["limit_id"] for alert in oracle.alerts} == set(LATE_KINDS)


def test_a_mark_judges_the_holders_that_a_limit_is_for_and_no_others() -> None:
    """Others may hold much more, and have keys of other limits."""
    limits = [
        *late("A*", "1000000"),
        {"id": "all", "kind": "max_position", "per": ["account", "symbol"], "threshold": "5"},
    ]
    events: list[Event] = [LimitsChanged("l", 0, limit=limits)]
    events += [trade(number, account, 900) for number, account in enumerate(("B1", "A1", "B2", "A2"), 1)]
    events += [
        MarkPrice(f"m{mark}", "X", Decimal(mark), 0)
        for mark in (500, 889, 900, 1_200, 1_112, 880, 1_111, 1_112, 0, -1_112)
    ]
    oracle = check_session(events, {4, 9})
    assert {alert["account"] for alert in oracle.alerts if alert["limit_id"] == "max_notional"} == {"A1", "A2"}


def test_an_instrument_that_changes_leaves_late_keys_at_what_they_were_judged_at() -> None:
    events: list[Event] = [
        LimitsChanged("l1", 0, limit=late("*", "1000")),
        trade(1, "A", 120),
        trade(2, "B", 3),
        InstrumentDefined("i1", "X", 0, 0, multiplier=Decimal(1_000)),
        LimitsChanged("l2", 0, limit=[limit for limit in late("*", "1000") if limit["kind"] != "max_notional"]),
        LimitsChanged("l3", 0, limit=late("*", "1000")),
        InstrumentDefined("i2", "X", 0, 0, multiplier=Decimal(1)),
        MarkPrice("m1", "X", Decimal(10), 0),
        trade(3, "B", 1),
        InstrumentDefined("i3", "X", 0, 0, multiplier=Decimal(500)),
        trade(4, "B", 1),
        MarkPrice("m2", "X", Decimal(10), 0),
    ]
    check_session(events, {5, 8, 11})


def test_a_mark_judges_anew_what_an_instrument_changed_even_where_its_level_stays() -> None:
    """The last value of a key that is gone is the one at that mark."""
    events: list[Event] = [
        LimitsChanged("l1", 0, limit=late("*", "100")),
        trade(1, "A", 120),
        InstrumentDefined("i1", "X", 0, 0, multiplier=Decimal(3)),
        MarkPrice("m1", "X", Decimal(10), 0),
        LimitsChanged("l2", 0),
    ]
    oracle = check_session(events, {4})
    assert "3600" in {alert["value"] for alert in oracle.alerts if alert["severity"] == "clear"}


def test_who_holds_nothing_in_all_but_something_in_each_venue_is_a_holder() -> None:
    limits = [
        {"id": kind, "kind": kind, "per": ["account"], "threshold": "100"}
        for kind in ("gross_notional", "net_notional", "max_loss", "max_drawdown")
    ]
    events: list[Event] = [
        LimitsChanged("l1", 0, limit=limits),
        trade(1, "A", 10, 10, venue="V"),
        trade(2, "A", 10, 9, "sell", venue="W"),
        InstrumentDefined("i1", "X", 0, 0, multiplier=Decimal(1_000)),
        MarkPrice("m1", "X", Decimal(9), 0),
    ]
    oracle = check_session(events, {4})
    assert {alert["limit_id"] for alert in oracle.alerts if alert["seq"] == 5} == {"max_loss", "max_drawdown"}
