"""Accounting of the core: average cost to the last unit, and what happens at the edge of each accumulator."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidEvent
from engine.events import InstrumentDefined, MarkPrice, PositionAdjusted, TradeExecuted
from engine.risk import RiskEngine
from ext.positions import fold

D = Decimal
AT = 1_700_000_000_000_000_000
MAX = 2**63 - 1
DATA = Path(os.environ.get("RISKWIRE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
GOLDEN = DATA / "golden-pnl" / "pnl_basic.json"
UNITS = [InstrumentDefined("units", "*", 0, 0)]


def trade(trade_id: str, price: Any, volume: Any, side: Any = "buy", **fields: Any) -> TradeExecuted:
    return TradeExecuted(trade_id, "X", D(price), D(volume), side, AT, **fields)


def row(engine: RiskEngine, account: str = "default") -> dict[str, Any]:
    (found,) = engine.core.positions(account, "X")
    return found


def refused(engine: RiskEngine, event: Any) -> str:
    with pytest.raises(InvalidEvent) as caught:
        engine.apply(event)
    return caught.value.reason


def test_a_part_of_the_cost_leaves_rounded_half_to_even_by_the_exact_remainder() -> None:
    assert fold([(10, 1), (11, 1), (0, -1)]) == (1, 11, -10)  # 21/2 = 10.5, to the even 10
    assert fold([(11, 1), (12, 1), (0, -1)]) == (1, 11, -12)  # 23/2 = 11.5, to the even 12
    assert fold([(10, 1), (10, 1), (11, 1), (0, -1)]) == (2, 21, -10)  # 31/3 = 10.33


def test_a_short_position_mirrors_a_long_one() -> None:
    assert fold([(10, -1), (11, -1), (0, 1)]) == (-1, -11, 10)


def test_through_zero_closes_all_and_opens_the_rest() -> None:
    assert fold([(10, 100), (12, 50), (11, -160)]) == (-10, -110, 50)


def test_negative_prices_are_prices() -> None:
    assert fold([(-5, 10), (5, -4), (5, -6)]) == (0, 0, 100)


def test_what_needs_130_bits_on_the_way_is_exact() -> None:
    # 1,000,000 shares at 1,000 dollars in units of 1e-9 and 1e-8: cost x closed has 130 bits.
    price, shares = 1000 * 10**9, 10**6 * 10**8
    assert fold([(price, shares), (price, -shares // 10)]) == (shares * 9 // 10, price * shares * 9 // 10, 0)


@pytest.mark.parametrize(
    "fills",
    [
        [(1, MAX), (1, 1)],  # quantity
        [(MAX, MAX), (MAX, MAX)],  # quantity and cost
        [(MAX, MAX), (-MAX, -MAX), (MAX, MAX), (-MAX, -MAX), (MAX, MAX), (-MAX, -MAX)],  # realized
    ],
)
def test_an_accumulator_beyond_its_type_is_an_overflow(fills: list[tuple[int, int]]) -> None:
    assert fold(fills) is None


def test_the_lowest_quantity_fits() -> None:
    assert fold([(0, -MAX), (0, -1)]) == (-(2**63), 0, 0)


def test_an_overflow_moves_nothing_and_raises_nothing() -> None:
    limit = {"id": "any", "kind": "restricted", "per": [], "action": "alert"}
    with RiskEngine(limits={"limit": [limit]}, instruments=UNITS) as engine:
        engine.apply(trade("t1", 1, MAX))
        before, alerts = engine.core.positions(), len(engine.alerts())
        assert refused(engine, trade("t2", 99, 1)) == "overflow"
        assert engine.core.positions() == before
        assert len(engine.alerts()) == alerts
        engine.apply(trade("t3", 1, 1, "sell"))
        assert row(engine)["quantity"] == str(MAX - 1)


def test_a_bust_that_would_overflow_is_refused_and_changes_nothing() -> None:
    with RiskEngine(instruments=UNITS) as engine:
        engine.apply(trade("s", 1, MAX, "sell"))
        engine.apply(trade("b1", 1, MAX))
        engine.apply(trade("b2", 1, MAX))
        before = engine.core.positions()
        assert refused(engine, trade("x", 1, 1, "sell", exec_type="bust", ref_trade_id="s")) == "overflow"
        assert engine.core.positions() == before


def test_multiplier_and_fees_stand_apart() -> None:
    with RiskEngine(instruments=[InstrumentDefined("es", "X", -2, 0, D(50))]) as engine:
        engine.apply(trade("t1", "5000.25", 2, fee=D("4.5")))
        engine.apply(trade("t2", "5010", 1, "sell", fee=D("-0.5")))
        found = row(engine)
        assert (found["realized_pnl"], found["unrealized_pnl"], found["fees"]) == ("487.5", "487.5", "4")


def test_the_mark_is_the_latest_live_trade_until_a_mark_price_comes() -> None:
    with RiskEngine() as engine:
        engine.apply(trade("t1", 10, 1))
        engine.apply(trade("t2", 12, 1, account="other"))
        assert row(engine)["last_price"] == "12"
        engine.apply(trade("b", 1, 1, account="other", exec_type="bust", ref_trade_id="t2"))
        assert (row(engine)["last_price"], row(engine)["unrealized_pnl"]) == ("10", "0")
        engine.apply(MarkPrice("m", "X", D("9.5"), AT))
        engine.apply(trade("t3", 20, 1))
        assert row(engine)["last_price"] == "9.5"


def test_without_a_mark_nothing_is_unrealized() -> None:
    with RiskEngine() as engine:
        engine.apply(PositionAdjusted("o", "default", "X", D(5), D(100), 0))
        found = row(engine)
        assert (
            found["quantity"],
            found["avg_price"],
            found["unrealized_pnl"],
            found["last_price"],
            found["trades"],
        ) == (
            "5",
            "100",
            "0",
            "0",
            0,
        )


def test_the_average_price_is_rounded_half_to_even_at_nine_decimals() -> None:
    with RiskEngine(instruments=UNITS) as engine:
        engine.apply(trade("t1", 10, 1))
        engine.apply(trade("t2", 10, 1))
        engine.apply(trade("t3", 11, 1))
        assert row(engine)["avg_price"] == "10.333333333"


def test_a_busted_day_leaves_a_flat_row() -> None:
    with RiskEngine() as engine:
        engine.apply(trade("t1", 10, 3, fee=D(1)))
        engine.apply(trade("b", 1, 1, exec_type="bust", ref_trade_id="t1"))
        assert row(engine) == {
            "account": "default",
            "symbol": "X",
            "quantity": "0",
            "avg_price": "0",
            "realized_pnl": "0",
            "unrealized_pnl": "0",
            "fees": "0",
            "last_price": "0",
            "trades": 0,
        }


def test_a_correct_is_known_by_its_own_id_and_keeps_its_place() -> None:
    with RiskEngine() as engine:
        engine.apply(trade("t1", 10, 1))
        engine.apply(trade("t2", 20, 1))
        engine.apply(trade("c1", 12, 3, exec_type="correct", ref_trade_id="t1"))
        assert (row(engine)["quantity"], row(engine)["last_price"], row(engine)["trades"]) == ("4", "20", 2)
        assert refused(engine, trade("b1", 1, 1, exec_type="bust", ref_trade_id="t1")) == "unknown_trade"
        engine.apply(trade("c2", 11, 1, "sell", exec_type="correct", ref_trade_id="c1"))
        assert row(engine)["quantity"] == "0"
        engine.apply(trade("b2", 1, 1, "sell", exec_type="bust", ref_trade_id="c2"))
        assert row(engine)["quantity"] == "1"
        assert refused(engine, trade("b3", 1, 1, "sell", exec_type="bust", ref_trade_id="c2")) == "unknown_trade"


def test_of_two_sides_with_one_id_a_bust_takes_its_own_and_a_correct_is_ambiguous() -> None:
    with RiskEngine() as engine:
        engine.apply(trade("m", 10, 1))
        engine.apply(trade("m", 10, 4, "sell"))
        assert refused(engine, trade("c", 10, 1, exec_type="correct", ref_trade_id="m")) == "ambiguous_trade"
        engine.apply(trade("b", 1, 1, "sell", exec_type="bust", ref_trade_id="m"))
        assert row(engine)["quantity"] == "1"
        assert refused(engine, trade("b2", 1, 1, "sell", exec_type="bust", ref_trade_id="m")) == "unknown_trade"


def test_rows_are_sorted_bytewise_and_reports_agree() -> None:
    accounts = ["b", "a", "Z", "é", 'q"uo,te', "a b"]
    with RiskEngine() as engine:
        for i, account in enumerate(accounts):
            engine.apply(trade(f"t{i}", 10, 1, account=account))
        rows = engine.core.positions()
        assert [found["account"] for found in rows] == sorted(accounts, key=str.encode)
        assert json.loads(engine.core.positions_json()) == rows
        header, *lines = engine.core.positions_csv().decode().splitlines()
        assert header.startswith("account,symbol,quantity,avg_price")
        assert lines[-2].startswith('"q""uo,te",X,1,10,')


def cases() -> list[Any]:
    found = json.loads(GOLDEN.read_text())["cases"] if GOLDEN.exists() else []
    linear = [case for case in found if case["method"] == "average_cost" and case["contract"]["type"] == "linear"]
    return [pytest.param(case, id=case["name"]) for case in linear]


@pytest.mark.skipif(not GOLDEN.exists(), reason="the recorded data are not here (RISKWIRE_DATA)")
@pytest.mark.parametrize("case", cases())
def test_worked_cases_of_other_systems_come_out(case: dict[str, Any]) -> None:
    multiplier = D(case["contract"].get("multiplier", "1"))
    tolerance = max(D(case.get("tolerance", "0")), D("1e-9"))
    with RiskEngine(instruments=[InstrumentDefined("i", "X", multiplier=multiplier)]) as engine:
        for fill in case["fills"]:
            side = "buy" if fill["side"] == "BUY" else "sell"
            fee = D(fill.get("fee", "0"))
            engine.apply(trade(fill["trade_id"], fill["price"], fill["qty"], side, fee=fee))
        found, expected = row(engine), case["expected"]
    assert D(found["quantity"]) == D(expected["position"])
    realized = D(found["realized_pnl"]) - (D(found["fees"]) if case.get("fees_in_realized") == "net" else 0)
    if case.get("fees_in_realized", "gross") in ("net", "gross") and "realized_pnl" in expected:
        assert abs(realized - D(expected["realized_pnl"])) <= tolerance
    # Some systems go on showing what a closed position had cost; here a flat one has no average price.
    if D(found["quantity"]) and "avg_open_price" in expected and case.get("fees_in_realized") != "capitalised_in_basis":
        assert abs(D(found["avg_price"]) - D(expected["avg_open_price"] or 0)) <= tolerance
