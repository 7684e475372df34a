"""The peer openpit (Rust behind Python), in its own environment: one size check of an order; prints one JSON object.

`python bench/peer_openpit.py TRADES.csv MAX_VOLUME MAX_NOTIONAL`, rows of `side,price,volume`. It judges orders before
they are sent, by quantity and notional; riskwire does duplicates, the position and three limits in its call.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import openpit
from openpit.param import AccountId, Price, Quantity, Side, TradeAmount, Volume
from openpit.pretrade.policies import OrderSizeBrokerBarrier, OrderSizeLimit, build_order_size_limit


def order_of(account: AccountId, side: str, price: str, volume: str) -> openpit.Order:
    """Return an order as the library wants it."""
    return openpit.Order(
        operation=openpit.OrderOperation(
            instrument=openpit.Instrument("AAPL", "USD"),
            account_id=account,
            side=Side.BUY if side == "buy" else Side.SELL,
            trade_amount=TradeAmount.quantity(volume),
            price=Price(price),
        )
    )


def main(path: str, volume_max: str, notional_max: str) -> None:
    """Check every row, prepared and with building the order; count what is rejected."""
    limit = OrderSizeLimit(max_quantity=Quantity(volume_max), max_notional=Volume(notional_max))
    policy = build_order_size_limit().broker_barrier(OrderSizeBrokerBarrier(limit=limit))
    engine = openpit.Engine.builder().no_sync().builtin(policy).build()
    rows = [line.split(",") for line in Path(path).read_text().splitlines()]
    account = AccountId.from_int(1)
    orders = [order_of(account, *row) for row in rows]
    rejected = 0
    began = time.perf_counter_ns()
    for order in orders:
        result = engine.execute_pre_trade(order=order)
        if result.ok:
            result.reservation.commit()
        else:
            rejected += 1
    prepared = time.perf_counter_ns() - began
    began = time.perf_counter_ns()
    for row in rows:
        result = engine.execute_pre_trade(order=order_of(account, *row))
        if result.ok:
            result.reservation.commit()
    built = time.perf_counter_ns() - began
    count = len(rows)
    print(json.dumps({"rejected": rejected, "prepared_ns": prepared / count, "built_ns": built / count}))


if __name__ == "__main__":
    main(*sys.argv[1:])
