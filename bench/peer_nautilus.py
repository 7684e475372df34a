"""The peer NautilusTrader, in its own environment: `Position.apply` over fills of one position; prints one JSON object.

`python bench/peer_nautilus.py TRADES.csv`, rows of `side,price,volume` that never close the position. Its position
keeps all its events and looks for duplicates among them, and its averages are floats: riskwire's are exact.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.enums import LiquiditySide, OrderSide, OrderType
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import (
    AccountId,
    ClientOrderId,
    PositionId,
    StrategyId,
    TradeId,
    TraderId,
    VenueOrderId,
)
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.model.position import Position
from nautilus_trader.test_kit.providers import TestInstrumentProvider

PIECE = 200


def fill_of(instrument: Any, number: int, side: str, price: str, volume: str) -> OrderFilled:
    """Return a fill of the one position."""
    return OrderFilled(
        trader_id=TraderId("BENCH-001"),
        strategy_id=StrategyId("S-001"),
        instrument_id=instrument.id,
        client_order_id=ClientOrderId(f"O-{number}"),
        venue_order_id=VenueOrderId(f"V-{number}"),
        account_id=AccountId("SIM-001"),
        trade_id=TradeId(f"T{number}"),
        position_id=PositionId("P-1"),
        order_side=OrderSide.BUY if side == "buy" else OrderSide.SELL,
        order_type=OrderType.MARKET,
        last_qty=Quantity.from_str(volume),
        last_px=Price.from_str(price),
        currency=instrument.quote_currency,
        commission=Money(0, instrument.quote_currency),
        liquidity_side=LiquiditySide.TAKER,
        event_id=UUID4(),
        ts_event=number,
        ts_init=number,
    )


def main(path: str) -> None:
    """Apply all; ns a fill of the first pieces behind 1,000 fills and of the last ones."""
    instrument = TestInstrumentProvider.equity("AAPL", "XNAS")
    rows = [line.split(",") for line in Path(path).read_text().splitlines()]
    fills = [fill_of(instrument, number, *row) for number, row in enumerate(rows)]
    position = Position(instrument, fills[0])
    marks = {}
    for start in range(1, len(fills), PIECE):
        piece = fills[start : start + PIECE]
        began = time.perf_counter_ns()
        for fill in piece:
            position.apply(fill)
        marks[start + len(piece)] = (time.perf_counter_ns() - began) / len(piece)
    print(
        json.dumps(
            {
                "quantity": str(position.signed_decimal_qty()),
                "realized_pnl": float(position.realized_pnl.as_double()),
                "early_ns": next(ns for fills_before, ns in marks.items() if fills_before > 1_000),
                "late_ns": marks[max(marks)],
                "fills": len(fills),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
