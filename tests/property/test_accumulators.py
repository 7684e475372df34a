"""Every accumulator of the core at and beyond the edge of 64 and 128 bits, beside the reference's endless integers."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from agreement import check_session

from engine.events import Event, InstrumentDefined, LimitsChanged, MarkPrice, PositionAdjusted, TradeExecuted
from engine.oracle import Oracle
from ext.positions import fold

D = Decimal
MAX = 2**63 - 1
I128_MAX = 2**127 - 1
AT = 1_700_000_000_000_000_000
UNITS = InstrumentDefined("units", "*", 0, 0)
ADDING = ("gross_notional", "net_notional", "max_loss", "max_drawdown", "volume_rate", "trade_rate")


def limits(*rows: dict[str, Any]) -> LimitsChanged:
    plain: dict[str, Any] = {"threshold": "1", "warn_at": "1"}
    return LimitsChanged("limits", AT, limit=[plain | {"id": f"{i}"} | row for i, row in enumerate(rows)])


class Tape:
    """Trades of one account in units, one a nanosecond."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, side: Any, price: int, volume: int = MAX, **more: Any) -> TradeExecuted:
        self.count += 1
        fields = {"symbol": "X", "account": "A", **more}
        return TradeExecuted(
            f"t{self.count}", price=D(price), volume=D(volume), side=side, executed_at=AT + self.count, **fields
        )


def last_row(oracle: Oracle) -> dict[str, Any]:
    return oracle.positions()[-1]


# --- positions ---------------------------------------------------------------------------------------------------


def test_quantity_ends_at_int64_on_either_side() -> None:
    buy, sell = Tape(), Tape()
    oracle = check_session(
        [
            UNITS,
            *(buy("buy", 1, volume) for volume in (MAX, 1, 1)),
            *(sell("sell", 1, volume, symbol="Y") for volume in (MAX, 1, 1)),
        ]
    )
    assert [reason for _, reason in oracle.refusals] == ["overflow"] * 3
    assert [row["quantity"] for row in oracle.positions()] == [str(MAX), str(-(2**63))]


def losing_rounds(tape: Tape, rounds: int, **more: Any) -> list[Event]:
    """Buy at the highest price and sell at the lowest: each round loses 2**127 less a little."""
    return [trade for _ in range(rounds) for trade in (tape("buy", MAX, **more), tape("sell", -MAX, **more))]


@pytest.mark.parametrize("sign", [1, -1])
def test_realized_ends_at_int128(sign: int) -> None:
    tape = Tape()
    rounds = [trade for _ in range(2) for trade in (tape("buy", -sign * MAX), tape("sell", sign * MAX))]
    oracle = check_session([UNITS, *rounds])
    assert [reason for _, reason in oracle.refusals] == ["overflow"] * len(oracle.refusals) != []
    assert D(last_row(oracle)["realized_pnl"]) == sign * 2 * MAX * MAX


def test_cash_ends_at_int128_where_realized_alone_would_fit() -> None:
    assert fold([(-10, 1)], realized=I128_MAX - 10) == (1, -10, I128_MAX - 10)
    assert fold([(-11, 1)], realized=I128_MAX - 10) is None
    assert fold([(11, 1)], realized=-I128_MAX + 10) == (1, 11, -I128_MAX + 10)
    assert fold([(12, 1)], realized=-I128_MAX + 10) is None
    # By trades alone: most of int128 is lost, and the next position is bought at the highest price.
    tape = Tape()
    oracle = check_session([UNITS, *losing_rounds(tape, 1), tape("buy", MAX)])
    assert [reason for _, reason in oracle.refusals] == ["overflow"]


def test_cost_is_at_most_quantity_x_price_so_only_a_made_up_one_overflows() -> None:
    assert fold([(1, 1)], cost=I128_MAX - 1, quantity=1) == (2, I128_MAX, 0)
    assert fold([(1, 1)], cost=I128_MAX, quantity=1) is None
    assert fold([(-MAX, MAX)], cost=-I128_MAX, quantity=0) is None
    assert fold([(-MAX, -MAX), (-MAX, -1), (MAX, 1)]) == (-MAX, MAX * MAX, -2 * MAX)


def test_fees_go_on_beyond_64_bits() -> None:
    # 2**64 trades with the highest fee would be needed for 128 bits; the core holds 2**32 entries.
    tape, fee = Tape(), D(MAX).scaleb(-9)
    for sign in (1, -1):
        oracle = check_session([UNITS, *(tape("buy", 1, 1, fee=sign * fee) for _ in range(5))])
        assert D(last_row(oracle)["fees"]) == sign * 5 * fee


def test_unrealized_needs_a_bit_more_than_128() -> None:
    tape = Tape()
    oracle = check_session([UNITS, tape("buy", MAX), MarkPrice("m", "X", D(-MAX), AT)])
    assert D(last_row(oracle)["unrealized_pnl"]) == -2 * MAX * MAX


@pytest.mark.parametrize("revision", ["bust", "correct"])
def test_a_revision_whose_history_would_overflow_on_the_way_moves_nothing(revision: Any) -> None:
    tape = Tape()
    first, *rest = tape("sell", 1), tape("buy", 1), tape("buy", 1)
    change = tape("sell", 1, 1, exec_type=revision, ref_trade_id="t1")
    oracle = check_session([UNITS, limits({"kind": "max_trade_volume"}), first, *rest, change])
    assert oracle.refusals == [(6, "overflow")]
    assert last_row(oracle)["quantity"] == str(MAX)


# --- the family of 130 bits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(("price", "shares", "sold"), [(1000, 10**6, 10**5), (1000, 10**6, 333_333), (7919, 10**6, 7)])
def test_what_leaves_a_position_is_exact_where_cost_x_closed_needs_130_bits(
    side: Any, price: int, shares: int, sold: int
) -> None:
    """In the default units of 1e-9 and 1e-8, cost x closed is beyond int128, and what it gives is small."""
    other: Any = "sell" if side == "buy" else "buy"
    assert price * 10**9 * shares * 10**8 * sold * 10**8 >= 2**100
    tape = Tape()
    odd = TradeExecuted("odd", "X", D("0.000000001"), D("0.00000001"), side, AT, "A")  # leaves a remainder
    oracle = check_session([tape(side, price, shares), odd, tape(other, price + 1, sold)], restarts={3})
    row = last_row(oracle)
    sign = 1 if side == "buy" else -1
    assert D(row["quantity"]) == sign * (shares - sold + D("0.00000001"))
    # The average is a little below the price, by less than the price of the odd lot.
    assert 0 <= sign * (D(row["realized_pnl"]) - sign * sold) <= 1


@pytest.mark.parametrize("closed", [1, 2, MAX // 3, MAX // 2, MAX - 1, MAX])
def test_the_highest_cost_is_divided_exactly(closed: int) -> None:
    for price in (MAX, -MAX, MAX - 1):
        for sign in (1, -1):
            cost = price * MAX
            removed = price * closed
            assert fold([(price, sign * MAX), (0, -sign * closed)]) == (
                sign * (MAX - closed),
                sign * (cost - removed),
                -sign * removed,
            )


# --- cells and limits --------------------------------------------------------------------------------------------


def one_sided(rounds: int) -> Iterator[TradeExecuted]:
    """Buy everything at venue V and sell it at venue W: their cells grow while the position stays within int64."""
    tape = Tape()
    for _ in range(rounds):
        yield tape("buy", MAX, venue="V")
        yield tape("sell", MAX, venue="W")


@pytest.mark.parametrize("kind", ["max_position", "max_notional"])
def test_the_quantity_of_a_cell_goes_on_beyond_64_bits(kind: str) -> None:
    row = {"kind": kind, "per": ["symbol", "venue"]}
    oracle = check_session([UNITS, *one_sided(6), limits(row), *list(one_sided(8))[12:]], restarts={5, 15})
    assert max(D(alert["value"]) for alert in oracle.alerts) >= 6 * MAX


@pytest.mark.parametrize("kind", ADDING)
def test_sums_and_windows_go_on_beyond_128_bits(kind: str) -> None:
    window = {"window": "1h"} if kind.endswith("rate") else {}
    rows: list[dict[str, Any]] = [
        {"kind": kind, "per": per, **window} for per in ([], ["venue"], ["account", "symbol"])
    ]
    big = InstrumentDefined("big", "*", 0, 0, multiplier=D(10**17))
    oracle = check_session([big, limits(*rows), *one_sided(6), MarkPrice("m", "X", D(-MAX), AT)], restarts={7})
    assert oracle.refusals == []
    assert any(alert["severity"] == "breach" for alert in oracle.alerts)
    wanted = {"trade_rate": 1, "volume_rate": 1}.get(kind, 2**128)
    assert max(abs(D(alert["value"])) for alert in oracle.alerts) > wanted


@pytest.mark.parametrize("kind", ["max_trade_notional", "max_trade_volume", "price_collar", "concentration"])
def test_what_judges_one_trade_or_a_share_takes_the_highest_numbers(kind: str) -> None:
    per = {} if kind.startswith("max") else {"per": ["account", "symbol"]}
    tape = Tape()
    trades = [tape("buy", 1), tape("sell", -MAX), tape("sell", MAX), tape("sell", MAX, 1, symbol="Y")]
    oracle = check_session([UNITS, limits({"kind": kind, **per}), *trades], restarts={4})
    assert oracle.alerts


def test_adjustments_overflow_like_trades_and_raise_nothing() -> None:
    give = [PositionAdjusted(f"p{i}", "A", "X", D(MAX), D(MAX), AT) for i in range(2)]
    oracle = check_session([UNITS, limits({"kind": "max_position", "per": ["symbol"]}), *give])
    assert [reason for _, reason in oracle.refusals] == ["overflow"]
    assert len(oracle.alerts) == 1


def test_a_cell_may_be_hundreds_of_positions_wide() -> None:
    """More than 256 x 2**63 in a venue, and cash beyond 2**135."""
    rows: list[dict[str, Any]] = [
        {"kind": "max_position", "per": ["symbol", "venue"]},
        {"kind": "max_loss", "per": ["venue"]},
    ]
    trades = list(one_sided(600))
    check_session([UNITS, *trades[:-4], limits(*rows), *trades[-4:]])
