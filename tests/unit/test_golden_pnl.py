"""Worked P&L cases of other systems, where riskwire computes the same thing; see docs/golden-pnl.md for the others."""

from __future__ import annotations

import json
import os
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest

from engine.events import MarkPrice, TradeExecuted
from engine.oracle import Oracle

DATA = Path(os.environ.get("RISKWIRE_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
GOLDEN = DATA / "golden-pnl"
NINE = Decimal("1e-9")
D = Decimal

pytestmark = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded data are not here (RISKWIRE_DATA)")


def load(name: str) -> dict[str, Any]:
    path = GOLDEN / name
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"cases": []}
    return found


CASES = [
    case
    for case in load("pnl_basic.json")["cases"]
    if case["method"] == "average_cost" and case["contract"]["type"] == "linear"
]


class Replay:
    """One case through the reference, fill by fill."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.oracle = Oracle()

    def fill(self, fill: dict[str, str]) -> None:
        self.oracle.apply(
            self.oracle.seq + 1,
            TradeExecuted(
                trade_id=fill["trade_id"],
                symbol="X",
                price=D(fill["price"]),
                volume=D(fill["qty"]),
                side="buy" if fill["side"] == "BUY" else "sell",
                executed_at=self.oracle.seq,
                fee=D(fill.get("fee", "0")),
            ),
        )

    def mark(self, price: str) -> None:
        self.oracle.apply(self.oracle.seq + 1, MarkPrice(f"m{self.oracle.seq}", "X", D(price), self.oracle.seq))

    def number(self, field: str) -> Decimal:
        row = self.oracle.position("default", "X")
        assert row is not None
        return D(row[field])

    def realized(self) -> Decimal:
        """Realized P&L in the case's own fee convention."""
        convention = self.case["fees_in_realized"]
        gross = self.number("realized_pnl")
        if convention == "gross":
            return gross
        if convention == "net":
            return gross - self.number("fees")
        assert convention == "capitalised_in_basis", convention
        opening, closing = self.case["fills"]
        closed = D(closing["qty"]) / D(opening["qty"])
        return gross - D(closing["fee"]) - D(opening["fee"]) * closed


def near(found: Decimal, wanted: str, tolerance: str) -> bool:
    with localcontext() as context:
        context.prec = 60
        return abs(found - D(wanted)) <= D(tolerance)


def check_state(replay: Replay, wanted: dict[str, Any]) -> None:
    tolerance = replay.case["tolerance"]
    assert near(replay.number("quantity"), wanted["position"], "0")
    if "avg_open_price" in wanted and D(wanted["position"]) != 0:
        # A riskwire report rounds the average at nine decimals; money is exact.
        average = D(wanted["avg_open_price"]).quantize(NINE, ROUND_HALF_EVEN)
        assert near(replay.number("avg_price"), str(average), tolerance)
    if "realized_pnl" in wanted:
        assert near(replay.realized(), wanted["realized_pnl"], tolerance)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_a_linear_average_cost_case_comes_out_the_same(case: dict[str, Any]) -> None:
    replay = Replay(case)
    steps = {step["after_seq"]: step for step in case.get("steps", [])}
    for fill in case["fills"]:
        replay.fill(fill)
        if fill["seq"] in steps:
            check_state(replay, steps[fill["seq"]])
    expected = case["expected"]
    check_state(replay, expected)
    if "fees" in expected:
        assert near(replay.number("fees"), expected["fees"], case["tolerance"])
    check_cycles(replay, expected)
    check_marks(replay, expected)


def check_cycles(replay: Replay, expected: dict[str, Any]) -> None:
    """Some systems count P&L anew from each flat position: their cycles add up to ours."""
    cycles = [expected.get("closed_position", {}).get("realized_pnl"), expected.get("realized_pnl_open_position")]
    if any(cycles):
        total = sum((D(cycle) for cycle in cycles if cycle is not None), D(0))
        assert near(replay.realized(), str(total), replay.case["tolerance"])


def check_marks(replay: Replay, expected: dict[str, Any]) -> None:
    tolerance = replay.case["tolerance"]
    marks = {mark for key in expected if key.endswith("_at") for mark in expected[key]}
    for mark in sorted(marks):
        replay.mark(mark)
        unrealized = replay.number("unrealized_pnl")
        found = {
            "unrealized_pnl_at": unrealized,
            "total_pnl_at": unrealized + replay.realized(),
            "notional_at": abs(replay.number("quantity") * replay.number("last_price")),
        }
        for key, value in found.items():
            if mark in expected.get(key, {}):
                assert near(value, expected[key][mark], tolerance), (key, mark)


def test_there_are_cases() -> None:
    assert len(CASES) >= 18
    assert {case["fees_in_realized"] for case in CASES} == {"net", "gross", "capitalised_in_basis"}


def test_a_bust_after_cancel_leaves_flat_and_a_later_fill_counts() -> None:
    """FIX 4.2 Appendix D 35: exec B is cancelled by E (ExecRefID B), and F is a new fill."""
    scenario = load("fix_bust_D35.json")
    oracle = Oracle()
    for report in scenario["reports"]:
        if D(report["last_qty"]) > 0:
            execution(oracle, report, "new", report["last_px"], report["last_qty"])
        elif report["exec_trans"] == "CANCEL":
            execution(oracle, report, "bust", "0", "1", ref=report["exec_ref"])
        row = oracle.position("default", "X")
        assert (row or {"quantity": "0"})["quantity"] == scenario["expected_position_after"][report["exec_id"]]
    assert oracle.refusals == []
    row = oracle.position("default", "X")
    assert row is not None
    assert row["quantity"] == scenario["expected"]["position"]
    assert row["avg_price"] == scenario["expected"]["avg_open_price"]
    assert row["realized_pnl"] == scenario["expected"]["realized_pnl"]
    assert row["trades"] == len(scenario["expected"]["live_executions"])


def execution(oracle: Oracle, report: dict[str, str], exec_type: Any, price: str, volume: str, ref: str = "") -> None:
    trade = TradeExecuted(
        trade_id=report["exec_id"],
        symbol="X",
        price=D(price),
        volume=D(volume),
        side="buy",
        executed_at=oracle.seq,
        exec_type=exec_type,
        ref_trade_id=ref,
    )
    oracle.apply(oracle.seq + 1, trade)
