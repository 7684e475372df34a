"""The reference does what sections 5 and 6 of the design say, example by example."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

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
from engine.oracle import Oracle

MS = 1_000_000
S = 1_000 * MS
D = Decimal


class Desk:
    """An oracle and a short way to say events: times are in ms, ids count up."""

    def __init__(self, *limits: dict[str, Any], **settings: Any) -> None:
        self.oracle = Oracle()
        self.seq = 0
        if limits:
            self.limits(*limits, **settings)

    def apply(self, event: Event) -> list[dict[str, Any]]:
        """Apply one event and return the alerts it caused."""
        before = len(self.oracle.alerts)
        self.seq += 1
        self.oracle.apply(self.seq, event)
        return self.oracle.alerts[before:]

    def limits(self, *limits: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
        return self.apply(LimitsChanged(f"L{self.seq}", at=5, settings=settings, limit=list(limits)))

    def trade(self, side: str, volume: str, price: str, **more: Any) -> list[dict[str, Any]]:
        return self.apply(make(side, volume, price, **{"trade_id": f"T{self.seq + 1}", **more}))

    def buy(self, volume: str, price: str, **more: Any) -> list[dict[str, Any]]:
        return self.trade("buy", volume, price, **more)

    def sell(self, volume: str, price: str, **more: Any) -> list[dict[str, Any]]:
        return self.trade("sell", volume, price, **more)

    def mark(self, price: str, symbol: str = "X", at: int = 0) -> list[dict[str, Any]]:
        return self.apply(MarkPrice(f"M{self.seq}", symbol, D(price), at * MS))

    def adjust(self, quantity: str, price: str, account: str = "A", symbol: str = "X") -> list[dict[str, Any]]:
        return self.apply(PositionAdjusted(f"P{self.seq}", account, symbol, D(quantity), D(price), 0))

    def session(self, at: int = 0) -> list[dict[str, Any]]:
        return self.apply(SessionStarted(f"S{self.seq}", "day", at * MS))

    def row(self, account: str = "A", symbol: str = "X") -> dict[str, Any]:
        row = self.oracle.position(account, symbol)
        assert row is not None
        return row

    def refused(self) -> list[str]:
        return [reason for _, reason in self.oracle.refusals]


def make(side: str, volume: str, price: str, at: int = 0, fee: str = "0", **more: Any) -> TradeExecuted:
    fields: dict[str, Any] = {"trade_id": "T", "symbol": "X", "account": "A", **more}
    return TradeExecuted(side=side, volume=D(volume), price=D(price), executed_at=at * MS, fee=D(fee), **fields)


def limit(kind: str, threshold: str | None = "10", **more: Any) -> dict[str, Any]:
    row = {"id": kind, "kind": kind, "threshold": threshold, **more}
    return {key: value for key, value in row.items() if value is not None}


def said(alerts: list[dict[str, Any]], *fields: str) -> list[tuple[Any, ...]]:
    fields = fields or ("severity", "value")
    return [tuple(alert[field] for field in fields) for alert in alerts]


def brief(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[key] for key in ("quantity", "avg_price", "realized_pnl", "unrealized_pnl", "trades"))


# --- positions ------------------------------------------------------------------------------------------------


def test_a_row_has_the_fields_of_the_design_in_order() -> None:
    desk = Desk()
    desk.buy("0.50", "100.10", fee="0.25")
    assert list(desk.row().items()) == [
        ("account", "A"),
        ("symbol", "X"),
        ("quantity", "0.5"),
        ("avg_price", "100.1"),
        ("realized_pnl", "0"),
        ("unrealized_pnl", "0"),
        ("fees", "0.25"),
        ("last_price", "100.1"),
        ("trades", 1),
    ]


def test_average_cost_and_realized_by_netting() -> None:
    desk = Desk()
    desk.buy("10", "100")
    desk.buy("10", "110")
    desk.sell("5", "120")
    assert brief(desk.row()) == ("15", "105", "75", "225", 3)


def test_through_zero_closes_all_and_opens_the_rest() -> None:
    desk = Desk()
    desk.buy("10", "100")
    desk.sell("15", "90")
    assert brief(desk.row()) == ("-5", "90", "-100", "0", 2)
    desk.buy("5", "80")
    assert brief(desk.row()) == ("0", "0", "-50", "0", 3)


def test_removed_cost_is_rounded_half_to_even_in_the_smallest_unit() -> None:
    desk = Desk()
    desk.apply(InstrumentDefined("I", "X", price_exponent=0, quantity_exponent=0))
    desk.buy("1", "1")
    desk.buy("1", "2")  # cost 3: half of it is 1.5, which rounds to 2
    desk.sell("1", "0")
    assert brief(desk.row()) == ("1", "1", "-2", "-1", 3)
    desk.buy("1", "4")  # cost 5: half is 2.5, to 2
    desk.sell("1", "0")
    assert brief(desk.row())[:3] == ("1", "3", "-4")


def test_a_short_is_a_long_in_the_mirror() -> None:
    long, short = Desk(), Desk()
    for side, volume, price in [("buy", "3", "7"), ("buy", "4", "9"), ("sell", "2", "5"), ("sell", "9", "4")]:
        long.trade(side, volume, price)
        short.trade("sell" if side == "buy" else "buy", volume, f"-{price}")
    # Mirrored side and price: the same money flows the same way.
    assert long.row()["realized_pnl"] == short.row()["realized_pnl"]
    assert long.row()["quantity"] == "-4"
    assert short.row()["quantity"] == "4"


def test_zero_and_negative_prices_are_prices() -> None:
    desk = Desk()
    desk.buy("2", "-5")
    desk.sell("1", "0")
    assert brief(desk.row()) == ("1", "-5", "5", "5", 2)


def test_multiplier_exponents_and_fees() -> None:
    desk = Desk()
    desk.apply(InstrumentDefined("I", "X", price_exponent=-2, quantity_exponent=0, multiplier=D("50")))
    desk.buy("2", "10.25", fee="-0.5")
    desk.sell("1", "10.50", fee="1.25")
    assert brief(desk.row()) == ("1", "10.25", "12.5", "12.5", 2)
    assert desk.row()["fees"] == "0.75"


def test_the_average_is_rounded_half_to_even_at_nine_decimals() -> None:
    desk = Desk()
    desk.apply(InstrumentDefined("I", "X", price_exponent=-18, quantity_exponent=0))
    desk.buy("1", "0.0000000005")
    assert desk.row()["avg_price"] == "0"
    desk.buy("1", "0.0000000025")
    assert desk.row()["avg_price"] == "0.000000002"
    other = Desk()
    other.buy("3", "1")
    other.buy("4", "2")
    assert other.row()["avg_price"] == "1.571428571"


def test_instruments_are_found_exact_before_glob_and_the_first_glob_wins() -> None:
    desk = Desk()
    desk.apply(InstrumentDefined("1", "B*", multiplier=D(2)))
    desk.apply(InstrumentDefined("2", "BT*", multiplier=D(3)))
    desk.apply(InstrumentDefined("3", "BTC", multiplier=D(5)))
    for symbol, profit in [("BTC", "5"), ("BTX", "2"), ("ETH", "1")]:
        desk.buy("1", "1", symbol=symbol)
        desk.sell("1", "2", symbol=symbol)
        assert desk.row(symbol=symbol)["realized_pnl"] == profit


def test_a_later_multiplier_counts_for_what_is_held_but_exponents_in_use_stay() -> None:
    desk = Desk()
    desk.buy("1", "1.5")
    desk.apply(InstrumentDefined("1", "X", price_exponent=0, quantity_exponent=0, multiplier=D(2)))
    desk.sell("1", "2.25")
    assert desk.row()["realized_pnl"] == "1.5"


def test_an_adjustment_moves_the_position_but_neither_mark_nor_count() -> None:
    desk = Desk()
    desk.adjust("-5", "10")
    assert brief(desk.row()) == ("-5", "10", "0", "0", 0)
    assert desk.row()["last_price"] == "0"
    desk.mark("12")
    desk.adjust("5", "11")
    assert brief(desk.row()) == ("0", "0", "-5", "0", 0)


def test_once_marked_trades_no_longer_move_the_mark() -> None:
    desk = Desk()
    desk.buy("1", "10")
    assert desk.row()["last_price"] == "10"
    desk.mark("11")
    desk.buy("1", "20")
    assert desk.row()["last_price"] == "11"
    assert desk.row()["unrealized_pnl"] == "-8"


def test_rows_are_sorted_bytewise_and_flat_ones_stay() -> None:
    desk = Desk()
    for account, symbol in [("b", "X"), ("B", "é"), ("B", "z"), ("B", "Z")]:
        desk.buy("1", "1", account=account, symbol=symbol)
    desk.sell("1", "1", account="b")
    order = [(row["account"], row["symbol"]) for row in desk.oracle.positions()]
    assert order == [("B", "Z"), ("B", "z"), ("B", "é"), ("b", "X")]


# --- busts and corrects ---------------------------------------------------------------------------------------


def test_a_bust_takes_the_trade_out_as_if_it_had_never_been() -> None:
    desk, other = Desk(), Desk()
    desk.buy("10", "100", trade_id="1")
    desk.buy("7", "130", trade_id="2", fee="3")
    desk.sell("5", "120", trade_id="3")
    desk.buy("7", "1", trade_id="b", exec_type="bust", ref_trade_id="2")
    other.buy("10", "100")
    other.sell("5", "120")
    assert desk.row() == other.row()


def test_a_correct_takes_the_old_place() -> None:
    desk, other = Desk(), Desk()
    desk.buy("10", "100", trade_id="1")
    desk.sell("5", "120", trade_id="2")
    desk.sell("4", "90", trade_id="c", exec_type="correct", ref_trade_id="1", fee="2", strategy="s")
    other.sell("4", "90", fee="2")
    other.sell("5", "120")
    assert desk.row() == other.row()


def test_a_corrects_own_id_is_what_later_ones_name() -> None:
    desk = Desk()
    desk.buy("1", "10", trade_id="1")
    desk.buy("2", "10", trade_id="2", exec_type="correct", ref_trade_id="1")
    desk.buy("3", "10", trade_id="3", exec_type="correct", ref_trade_id="1")
    assert desk.refused() == ["unknown_trade"]
    desk.buy("4", "10", trade_id="4", exec_type="correct", ref_trade_id="2")
    assert desk.row()["quantity"] == "4"
    desk.buy("4", "10", trade_id="5", exec_type="bust", ref_trade_id="4")
    assert brief(desk.row()) == ("0", "0", "0", "0", 0)
    desk.buy("4", "10", trade_id="6", exec_type="bust", ref_trade_id="4")
    assert desk.refused() == ["unknown_trade", "unknown_trade"]


def test_a_correct_may_keep_the_id_it_replaces() -> None:
    desk = Desk()
    desk.buy("1", "10", trade_id="1")
    desk.buy("2", "10", trade_id="1", exec_type="correct", ref_trade_id="1")
    desk.buy("2", "10", trade_id="b", exec_type="bust", ref_trade_id="1")
    assert desk.row()["quantity"] == "0"
    assert desk.refused() == []


def test_of_two_sides_a_bust_takes_its_own_and_a_correct_is_ambiguous() -> None:
    desk = Desk()
    desk.buy("1", "10", trade_id="1")
    desk.sell("3", "10", trade_id="1")
    desk.buy("1", "11", trade_id="c", exec_type="correct", ref_trade_id="1")
    assert desk.refused() == ["ambiguous_trade"]
    desk.sell("3", "10", trade_id="b", exec_type="bust", ref_trade_id="1")
    assert desk.row()["quantity"] == "1"
    desk.sell("3", "10", trade_id="b2", exec_type="bust", ref_trade_id="1")
    assert desk.refused() == ["ambiguous_trade", "unknown_trade"]
    desk.buy("1", "11", trade_id="c2", exec_type="correct", ref_trade_id="1")
    assert desk.row()["avg_price"] == "11"


def test_a_bust_with_the_wrong_side_still_finds_a_lone_trade() -> None:
    desk = Desk()
    desk.buy("1", "10", trade_id="1")
    desk.sell("1", "10", trade_id="b", exec_type="bust", ref_trade_id="1")
    assert desk.row()["quantity"] == "0"


@pytest.mark.parametrize("more", [{"venue": "V"}, {"account": "B"}, {"symbol": "Y"}, {"ref_trade_id": "2"}])
def test_a_trade_of_another_name_is_unknown(more: dict[str, str]) -> None:
    desk = Desk()
    desk.buy("1", "10", trade_id="1")
    desk.buy("1", "10", **{"trade_id": "b", "exec_type": "bust", "ref_trade_id": "1", **more})
    assert desk.refused() == ["unknown_trade"]
    assert len(desk.oracle.positions()) == 1


def test_a_bust_moves_the_mark_back_to_the_latest_live_trade() -> None:
    desk = Desk()
    desk.buy("1", "10", trade_id="1")
    desk.buy("1", "30", trade_id="2", account="B")
    desk.buy("1", "30", trade_id="b", account="B", exec_type="bust", ref_trade_id="2")
    assert desk.row()["last_price"] == "10"
    desk.buy("1", "15", trade_id="c", exec_type="correct", ref_trade_id="1")
    assert desk.row()["last_price"] == "15"
    desk.buy("1", "15", trade_id="b2", exec_type="bust", ref_trade_id="c")
    assert desk.row()["last_price"] == "0"


# --- overflow -------------------------------------------------------------------------------------------------


def unit_desk() -> Desk:
    desk = Desk()
    desk.apply(InstrumentDefined("I", "X", price_exponent=0, quantity_exponent=0))
    return desk


def test_a_quantity_beyond_int64_is_refused_and_moves_nothing() -> None:
    desk = unit_desk()
    desk.buy(str(2**63 - 1), "1")
    desk.buy("1", "5")
    assert desk.refused() == ["overflow"]
    assert desk.row()["last_price"] == "1"
    desk.sell(str(2**63 - 1), "1")
    desk.sell(str(2**63 - 1), "1")
    desk.sell("1", "1")
    assert desk.row()["quantity"] == str(-(2**63))
    desk.sell("1", "1")
    assert desk.refused() == ["overflow", "overflow"]


def test_realized_beyond_int128_is_refused() -> None:
    desk = unit_desk()
    high = str(2**63 - 1)
    desk.buy(high, f"-{high}")
    desk.sell(high, high)  # 2 x (2**63 - 1)**2 is 2**127 - 2**65 + 2
    desk.buy("2", f"-{high}")
    desk.sell("2", high)
    assert desk.row()["realized_pnl"] == str(2**127 - 2)
    desk.buy("1", "0")
    desk.sell("1", "2")
    assert desk.refused() == ["overflow"]
    assert desk.row()["quantity"] == "1"
    desk.sell("1", "1")
    assert desk.row()["realized_pnl"] == str(2**127 - 1)


def test_naive_cost_times_closed_would_need_more_than_128_bits() -> None:
    desk = Desk()
    desk.buy("1000000", "1000")
    desk.sell("100000", "1001")
    assert brief(desk.row()) == ("900000", "1000", "100000", "900000", 2)


def test_a_correct_whose_history_overflows_anywhere_is_refused() -> None:
    desk = unit_desk()
    desk.buy("5", "1", trade_id="1")
    desk.buy(str(2**62), "1")
    desk.sell(str(2**62), "1")
    desk.buy(str(2**63 - 1), "1", trade_id="c", exec_type="correct", ref_trade_id="1")
    assert desk.refused() == ["overflow"]
    assert desk.row()["quantity"] == "5"


# --- levels ---------------------------------------------------------------------------------------------------

POSITION = limit("max_position", "10", per=["account", "symbol"])


def test_levels_change_at_exactly_warn_and_above_the_threshold() -> None:
    desk = Desk(POSITION)
    assert said(desk.buy("7.99999999", "1")) == []
    assert said(desk.buy("0.00000001", "1")) == [("warn", "8")]
    assert said(desk.buy("2", "1")) == []
    assert said(desk.sell("20.00000001", "1")) == [("breach", "10.00000001")]
    assert said(desk.buy("0.00000001", "1")) == [("warn", "10")]
    assert said(desk.buy("9", "1")) == [("clear", "1")]


def test_clear_at_holds_a_key_at_warn_until_it_is_below() -> None:
    desk = Desk({**POSITION, "clear_at": 0.5})
    assert said(desk.buy("7", "1")) == []
    desk.buy("4", "1")
    assert said(desk.sell("4", "1")) == [("warn", "7")]
    assert said(desk.sell("2", "1")) == []
    assert said(desk.sell("0.00000001", "1")) == [("clear", "4.99999999")]
    assert said(desk.buy("1", "1")) == []


def test_an_alert_line_is_whole() -> None:
    desk = Desk(limit("max_position", "3.0", per=["symbol", "venue"], id="p"))
    (alert,) = desk.buy("10", "1", venue="V", at=7)
    assert list(alert.items()) == [
        ("alert_no", 1),
        ("seq", 2),
        ("limit_id", "p"),
        ("kind", "max_position"),
        ("severity", "breach"),
        ("account", "*"),
        ("symbol", "X"),
        ("venue", "V"),
        ("strategy", "*"),
        ("value", "10"),
        ("threshold", "3"),
        ("utilization", "3.333333333"),
        ("trade_id", "T2"),
        ("executed_at", 7 * MS),
    ]


def test_alerts_of_one_event_follow_the_file_then_the_keys_bytewise() -> None:
    desk = Desk(limit("net_notional", "1", id="n"), limit("max_notional", "1", id="m", per=["account", "symbol"]))
    for account in ("b", "a", "B"):
        desk.adjust("5", "1", account=account)
    alerts = desk.mark("1")
    assert said(alerts, "limit_id", "account") == [("n", "*"), ("m", "B"), ("m", "a"), ("m", "b")]
    assert [alert["alert_no"] for alert in alerts] == [1, 2, 3, 4]
    assert {alert["trade_id"] for alert in alerts} == {""}


def test_match_selects_cells_case_sensitively() -> None:
    rows = [
        limit("max_position", "1", per=["symbol"], match={"account": "MM*"}),
        limit("max_trade_volume", "1", match={"strategy": "[!x]?"}),
    ]
    desk = Desk(*rows)
    assert desk.buy("5", "1", account="mm1", strategy="xa") == []
    assert desk.buy("1", "1", account="MM1") == desk.oracle.alerts[:1]
    assert said(desk.oracle.alerts, "severity") == [("warn",)]
    assert said(desk.buy("5", "1", account="B", strategy="ab"), "kind") == [("max_trade_volume",)]


def test_cells_are_added_up_by_key() -> None:
    desk = Desk(limit("max_position", "4", per=["symbol", "strategy"]))
    desk.buy("3", "1", account="A", strategy="s")
    assert said(desk.buy("3", "1", account="B", strategy="s", venue="V"), "strategy", "value") == [("s", "6")]
    assert said(desk.sell("3", "1", account="C", strategy="s"), "severity") == [("clear",)]
    assert desk.sell("3", "1", account="C", strategy="t") == []


# --- kinds ----------------------------------------------------------------------------------------------------


def test_one_trade_kinds_alert_on_every_offending_trade() -> None:
    desk = Desk(limit("max_trade_volume", "10"), limit("max_trade_notional", "100", per=["account"]))
    for _ in range(2):
        assert said(desk.buy("9", "-20"), "kind", "severity", "value", "account") == [
            ("max_trade_volume", "warn", "9", "*"),
            ("max_trade_notional", "breach", "180", "A"),
        ]
    assert desk.buy("1", "1") == []


def test_max_notional_is_taken_at_the_mark_of_the_moment() -> None:
    desk = Desk(limit("max_notional", "100", per=["symbol"]))
    desk.buy("5", "10", account="A")
    assert said(desk.buy("1", "20", account="B", at=1)) == [("breach", "120")]
    assert said(desk.mark("-10")) == [("clear", "60")]


def test_gross_adds_positions_as_last_valued() -> None:
    desk = Desk(limit("gross_notional", "100", warn_at=1))
    desk.buy("5", "10", account="A", at=0)
    assert desk.sell("1", "20", account="B", at=99) == []  # A still at 10: 50 + 20
    assert said(desk.buy("1", "20", account="C", at=100)) == [("breach", "140")]  # 100 + 20 + 20


def test_the_clock_starts_with_the_first_trade_and_never_goes_back() -> None:
    desk = Desk(limit("gross_notional", "1000", id="g", warn_at=0.001), limit("net_notional", "1000", id="n"))
    desk.adjust("10", "1", account="A")
    desk.buy("1", "5", account="B", at=1000)  # starts the clock, values only B
    assert desk.oracle.alerts[-1]["value"] == "5"
    desk.buy("1", "7", account="B", at=500)
    desk.sell("2", "9", account="B", at=1099)
    assert desk.oracle.levels() == {}
    desk.buy("1", "9", account="B", at=1100)
    assert desk.oracle.alerts[-1]["value"] == "99"


def test_a_session_moves_the_clock_and_values_everybody() -> None:
    desk = Desk(limit("gross_notional", "100", warn_at=1))
    desk.buy("5", "10", account="A", at=0)
    desk.buy("1", "21", account="B", at=50)
    assert said(desk.session(at=90)) == [("breach", "126")]
    assert desk.buy("1", "1", account="B", at=150) == []  # A still at 21: 105 + 2
    assert said(desk.buy("1", "1", account="B", at=190)) == [("clear", "8")]


def test_net_takes_signs_and_fx_and_multiplier() -> None:
    desk = Desk(limit("net_notional", "100"), fx={"EUR": "1.5"})
    desk.apply(InstrumentDefined("1", "E", currency="EUR", multiplier=D(10)))
    assert said(desk.buy("1", "10", symbol="E")) == [("breach", "150")]
    assert said(desk.sell("6", "20")) == [("clear", "30")]


def test_loss_counts_from_the_session_and_after_fees() -> None:
    desk = Desk(limit("max_loss", "100", per=["account"]))
    desk.buy("10", "10", fee="1")
    assert said(desk.sell("1", "0")) == [("breach", "101")]
    assert said(desk.session()) == [("clear", "0")]
    assert desk.buy("9", "0") == []
    assert said(desk.sell("1", "-5.1")) == [("warn", "91.8")]


def test_drawdown_is_from_the_highest_point_which_starts_at_zero() -> None:
    desk = Desk(limit("max_drawdown", "10"))
    desk.buy("1", "100")
    assert said(desk.mark("91")) == [("warn", "9")]
    desk.mark("120")
    assert said(desk.mark("109")) == [("breach", "11")]
    assert said(desk.session()) == [("clear", "0")]
    assert said(desk.mark("101")) == [("warn", "8")]


def test_loss_without_a_mark_is_what_was_realized() -> None:
    desk = Desk(limit("max_loss", "10", warn_at=1))
    assert desk.adjust("2", "100") == []
    assert said(desk.adjust("-1", "89")) == [("breach", "11")]


def test_trade_rate_counts_what_is_within_the_window() -> None:
    desk = Desk(limit("trade_rate", "2", window="1s", per=["account"], warn_at=1))
    desk.buy("1", "1", at=0)
    assert said(desk.buy("1", "1", at=500)) == [("warn", "2")]
    assert said(desk.buy("1", "1", at=999)) == [("breach", "3")]
    assert said(desk.buy("1", "1", at=1000)) == []  # 0 has left: still three
    assert said(desk.buy("1", "1", at=0)) == []  # at t - window: neither counts nor moves t
    assert said(desk.buy("1", "1", at=2600)) == [("clear", "1")]
    desk.buy("1", "1", at=1700)
    assert said(desk.buy("1", "1", at=1601)) == [("breach", "3")]
    assert desk.adjust("1", "1") == []


def test_volume_rate_adds_quantities_of_the_key() -> None:
    desk = Desk(limit("volume_rate", "2.5", window="1s", warn_at=1))
    desk.apply(InstrumentDefined("1", "Y", quantity_exponent=0))
    desk.buy("1", "1")
    assert said(desk.sell("2", "1", symbol="Y")) == [("breach", "3")]


def test_corrects_and_busts_neither_enter_nor_leave_a_rate() -> None:
    desk = Desk(limit("trade_rate", "1", window="1s", warn_at=1))
    assert said(desk.buy("1", "1", trade_id="1")) == [("warn", "1")]
    assert desk.buy("2", "1", trade_id="2", exec_type="correct", ref_trade_id="1") == []
    assert desk.buy("2", "1", trade_id="3", exec_type="bust", ref_trade_id="2") == []
    assert desk.oracle.levels() == {("trade_rate", ("*", "*", "*", "*")): "warn"}


def test_the_collar_judges_by_the_mark_before() -> None:
    desk = Desk(limit("price_collar", "10", per=["symbol"]))
    assert desk.buy("1", "100") == []
    assert said(desk.buy("1", "112"), "severity", "value") == [("breach", "12")]
    assert said(desk.buy("1", "102.6666667")) == [("warn", "8.333333304")]
    desk.buy("1", "0", symbol="Z")
    assert desk.buy("1", "5", symbol="Z") == []


def test_a_correct_is_judged_like_a_trade_by_the_mark_at_its_own_seq() -> None:
    desk = Desk(limit("price_collar", "10", per=["symbol"]), limit("max_trade_volume", "5", warn_at=1))
    desk.buy("1", "100", trade_id="1")
    desk.buy("1", "105", trade_id="2")
    alerts = desk.buy("6", "120", trade_id="c", exec_type="correct", ref_trade_id="1")
    assert said(alerts, "kind", "value", "trade_id") == [
        ("price_collar", "14.285714286", "c"),
        ("max_trade_volume", "6", "c"),
    ]
    assert desk.buy("6", "500", trade_id="b", exec_type="bust", ref_trade_id="c") == []


def test_restricted_is_a_breach_of_one_over_zero() -> None:
    desk = Desk(limit("restricted", None, match={"symbol": "G*"}))
    assert desk.buy("1", "1") == []
    assert said(desk.buy("1", "1", symbol="GME"), "severity", "value", "threshold", "utilization") == [
        ("breach", "1", "0", "1")
    ]


def test_concentration_is_a_share_of_the_accounts_gross() -> None:
    desk = Desk(limit("concentration", "60", floor="100", warn_at=1))
    assert desk.buy("1", "100") == []  # all of it, but gross is at the floor
    assert said(desk.buy("1", "50", symbol="Y")) == []  # only Y is touched: 33 percent
    assert said(desk.buy("1", "100", at=1)) == [("breach", "80")]
    assert said(desk.sell("2", "100", at=2)) == [("clear", "0")]


def test_repeated_trades_are_a_tail_within_the_window() -> None:
    desk = Desk(limit("repeated_trade", "2", window="1s", warn_at=1))
    desk.buy("1", "1", at=0)
    assert said(desk.buy("1", "1", at=1)) == [("warn", "2")]
    assert said(desk.buy("1", "1", at=999)) == [("breach", "3")]
    assert said(desk.buy("1", "1", at=1001)) == [("warn", "2")]  # 999 and 1001
    assert desk.sell("1", "1", at=1001) == []
    assert desk.buy("1", "1", at=1001) == []
    assert desk.buy("1", "1", at=1001, account="B") == []


def test_the_longest_tail_may_hold_late_trades() -> None:
    desk = Desk(limit("repeated_trade", "9", window="60ms", warn_at="0.1"))
    desk.buy("1", "1", at=100)
    desk.buy("1", "1", at=30)
    assert said(desk.buy("1", "1", at=101)) == [("warn", "3")]


def test_a_revision_that_moves_the_mark_values_every_holder_at_once() -> None:
    desk = Desk(limit("gross_notional", "100", warn_at=1))
    desk.buy("10", "5", account="A", at=0)
    desk.buy("1", "5", account="B", at=1, trade_id="b1")
    assert said(desk.buy("1", "11", account="B", at=2, trade_id="c", exec_type="correct", ref_trade_id="b1")) == [
        ("breach", "121")
    ]
    alerts = desk.buy("1", "11", account="B", at=3, trade_id="x", exec_type="bust", ref_trade_id="c")
    assert said(alerts, "severity", "value", "trade_id") == [("clear", "50", "x")]


def test_a_refused_event_raises_nothing() -> None:
    desk = Desk(limit("restricted", None), limit("trade_rate", "1", window="1s", warn_at=1))
    assert desk.buy("1", "1", exec_type="bust", ref_trade_id="no") == []
    assert desk.buy("1", "1", exec_type="correct", ref_trade_id="no") == []
    assert said(desk.buy("1", "1"), "kind", "value") == [("restricted", "1"), ("trade_rate", "1")]


# --- limits that change ---------------------------------------------------------------------------------------


def test_a_limit_that_is_gone_clears_first_with_its_last_value() -> None:
    loss = limit("max_loss", "1", id="l")
    desk = Desk({**POSITION, "id": "p"}, loss)
    desk.buy("11", "1")
    desk.buy("1", "0")
    alerts = desk.limits(limit("max_position", "5", per=["symbol"], id="q"), loss)
    assert said(alerts, "limit_id", "severity", "value", "threshold", "account", "trade_id") == [
        ("p", "clear", "12", "10", "A", ""),
        ("q", "breach", "12", "5", "*", ""),
    ]


def test_a_level_is_kept_by_id_and_kind_and_judged_by_the_new_threshold() -> None:
    desk = Desk(POSITION)
    desk.buy("11", "1")
    assert desk.limits({**POSITION, "threshold": "10.5"}) == []
    assert said(desk.limits({**POSITION, "threshold": "11"}), "severity", "threshold") == [("warn", "11")]
    assert said(desk.limits({**POSITION, "match": {"account": "B"}})) == [("clear", "0")]


def test_another_per_is_another_limit() -> None:
    desk = Desk(POSITION)
    desk.buy("11", "1")
    alerts = desk.limits({**POSITION, "per": ["symbol"]})
    assert said(alerts, "severity", "account") == [("clear", "A"), ("breach", "*")]


def test_windows_and_peaks_start_empty_but_pnl_does_not() -> None:
    rows = [
        limit("trade_rate", "1", window="1s", warn_at=1),
        limit("max_loss", "5"),
        limit("max_drawdown", "5"),
    ]
    desk = Desk(*rows)
    desk.buy("1", "10")
    desk.mark("20")
    desk.mark("16")
    assert said(desk.limits(*rows), "kind", "severity") == [("trade_rate", "clear"), ("max_drawdown", "clear")]
    desk.mark("4")
    assert said(desk.limits(limit("max_loss", "5", id="new")), "limit_id", "severity") == [
        ("max_loss", "clear"),
        ("max_drawdown", "clear"),
        ("new", "breach"),
    ]


# --- kill -----------------------------------------------------------------------------------------------------


def test_a_kill_counts_from_the_next_event_on_and_lasts_over_sessions() -> None:
    desk = Desk({**POSITION, "action": "kill"})
    assert said(desk.buy("11", "1"), "kind") == [("max_position",)]
    assert desk.oracle.kills == {"A"}
    desk.session()
    (alert,) = desk.buy("1", "1", venue="V", strategy="s", at=3)
    wanted = {
        "limit_id": "kill",
        "kind": "trade_after_kill",
        "severity": "breach",
        "account": "A",
        "symbol": "*",
        "venue": "*",
        "strategy": "*",
        "value": "1",
        "threshold": "0",
        "utilization": "1",
        "trade_id": "T4",
        "executed_at": 3 * MS,
    }
    assert {key: alert[key] for key in wanted} == wanted
    assert said(desk.sell("9", "1"), "kind", "severity") == [
        ("trade_after_kill", "breach"),
        ("max_position", "clear"),
    ]
    assert desk.buy("1", "1", account="B") == []


def test_a_kill_of_the_firm_stops_everybody_until_released() -> None:
    desk = Desk(limit("max_trade_volume", "5", action="kill", kill_scope="firm"))
    desk.buy("6", "1")
    assert desk.oracle.kills == {"*"}
    assert said(desk.buy("1", "1", account="B", trade_id="1"), "kind", "account") == [("trade_after_kill", "B")]
    bust = {"account": "B", "exec_type": "bust", "ref_trade_id": "1"}
    assert desk.buy("1", "1", **bust) == []
    desk.apply(KillSwitch("k", "*", engaged=False, at=0))
    assert desk.buy("1", "1", account="B") == []


def test_a_switch_engaged_by_hand_stops_one_account() -> None:
    desk = Desk()
    desk.apply(KillSwitch("k", "A", engaged=True, at=0))
    assert said(desk.buy("1", "1"), "kind") == [("trade_after_kill",)]
    assert desk.buy("1", "1", account="B") == []
    desk.apply(KillSwitch("r", "A", engaged=False, at=0))
    assert desk.buy("1", "1") == []


def test_seqs_must_rise() -> None:
    desk = Desk()
    desk.buy("1", "1")
    with pytest.raises(ValueError, match="in order"):
        desk.oracle.apply(1, make("buy", "1", "1"))


# --- readings that are easy to get wrong ----------------------------------------------------------------------


def test_a_trade_values_all_cells_of_its_account_and_symbol() -> None:
    desk = Desk(limit("max_notional", "100", per=["symbol", "strategy"], warn_at=1))
    desk.buy("5", "10", strategy="s")
    assert said(desk.buy("1", "25", strategy="t", at=1), "strategy", "value") == [("s", "125")]


def test_another_accounts_trade_does_not_judge_a_holder_before_the_clock() -> None:
    desk = Desk(limit("max_notional", "100", per=["symbol", "account"], warn_at=1))
    desk.buy("5", "10", account="A", at=0)
    assert desk.buy("1", "25", account="B", at=99) == []
    assert said(desk.buy("1", "25", account="B", at=100), "account", "value") == [("A", "125")]


def test_a_correct_moves_what_it_names_between_cells() -> None:
    desk = Desk(limit("max_position", "4", per=["symbol", "strategy"], warn_at=1))
    desk.buy("5", "1", trade_id="1", strategy="s")
    alerts = desk.buy("6", "1", trade_id="2", exec_type="correct", ref_trade_id="1", strategy="t")
    assert said(alerts, "strategy", "severity", "value") == [("s", "clear", "0"), ("t", "breach", "6")]


def test_peaks_stay_when_a_trade_is_busted() -> None:
    desk = Desk(limit("max_drawdown", "50", warn_at=1))
    desk.buy("1", "100", trade_id="1")
    desk.mark("160")
    alerts = desk.buy("1", "100", trade_id="b", exec_type="bust", ref_trade_id="1")
    assert said(alerts) == [("breach", "60")]


def test_a_bust_of_yesterdays_trade_counts_against_todays_pnl() -> None:
    desk = Desk(limit("max_loss", "5", warn_at=1))
    desk.buy("1", "100", trade_id="1")
    desk.mark("110")
    desk.session()
    alerts = desk.buy("1", "100", trade_id="b", exec_type="bust", ref_trade_id="1")
    assert said(alerts) == [("breach", "10")]


def test_releasing_everybody_releases_each_account_but_not_the_other_way_round() -> None:
    desk = Desk()
    for account in ("A", "*"):
        desk.apply(KillSwitch(f"k{account}", account, engaged=True, at=0))
    desk.apply(KillSwitch("r1", "A", engaged=False, at=0))
    assert said(desk.buy("1", "1"), "kind") == [("trade_after_kill",)]
    desk.apply(KillSwitch("k2", "A", engaged=True, at=0))
    desk.apply(KillSwitch("r2", "*", engaged=False, at=0))
    assert desk.oracle.kills == set()


def test_a_level_kept_over_a_change_engages_no_kill() -> None:
    desk = Desk(POSITION)
    desk.buy("11", "1")
    desk.limits({**POSITION, "action": "kill"})
    assert desk.oracle.kills == set()
    desk.sell("11", "1")
    desk.buy("11", "1")
    assert desk.oracle.kills == {"A"}


def test_a_session_empties_tails_and_windows() -> None:
    rows = [
        limit("repeated_trade", "1", window="1m", warn_at=1),
        limit("trade_rate", "1", window="1m", warn_at=1),
    ]
    desk = Desk(*rows)
    desk.buy("1", "1")
    assert said(desk.session(), "kind", "severity", "value") == [("trade_rate", "clear", "0")]
    assert said(desk.buy("1", "1"), "kind", "value") == [("repeated_trade", "1"), ("trade_rate", "1")]
