"""The peer most would write: positions, exact P&L, duplicates and three limits in plain Python dicts and integers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

PRICE_UNIT, VOLUME_UNIT = Decimal(10) ** 9, Decimal(10) ** 8
LEVELS = ("ok", "warn", "breach")


class DictEngine:
    """Thresholds in raw units: 1e-8 of quantity, 1e-17 of money, trades in a window of window_ns."""

    def __init__(self, position_max: int, notional_max: int, rate_max: int, window_ns: int) -> None:
        self.position_max, self.notional_max, self.rate_max, self.window_ns = (
            position_max,
            notional_max,
            rate_max,
            window_ns,
        )
        self.seen: dict[tuple[Any, ...], tuple[int, int]] = {}
        self.positions: dict[tuple[str, str], list[int]] = {}  # quantity, cost, realized, fees
        self.windows: dict[str, deque[int]] = {}
        self.levels: dict[tuple[Any, ...], int] = {}
        self.alerts = 0

    def apply(self, trade: Any) -> bool:
        """Apply a trade whose executed_at is not before the last; False for a duplicate."""
        price, volume = int(trade.price * PRICE_UNIT), int(trade.volume * VOLUME_UNIT)
        identity = (trade.venue, trade.account, trade.symbol, trade.side, trade.exec_type, trade.trade_id)
        if identity in self.seen:
            if self.seen[identity] != (price, volume):
                raise ValueError(f"{trade.trade_id} came before with another price or volume")
            return False
        self.seen[identity] = (price, volume)
        key = (trade.account, trade.symbol)
        position = self.positions.setdefault(key, [0, 0, 0, 0])
        fill(position, price, volume if trade.side == "buy" else -volume)
        position[3] += int(trade.fee * PRICE_UNIT)
        held = abs(position[0])
        self.judge(("position", key), held, self.position_max)
        self.judge(("notional", key), held * abs(price), self.notional_max)
        window = self.windows.setdefault(trade.account, deque())
        window.append(trade.executed_at)
        while window[0] <= trade.executed_at - self.window_ns:
            window.popleft()
        self.judge(("rate", trade.account), len(window), self.rate_max)
        return True

    def judge(self, key: tuple[Any, ...], value: int, threshold: int) -> None:
        """Count an alert where the level of a key changes."""
        level = 2 if value > threshold else 1 if value * 5 >= threshold * 4 else 0
        if level != self.levels.get(key, 0):
            self.levels[key] = level
            self.alerts += 1


def fill(position: list[int], price: int, quantity: int) -> None:
    """Apply a fill: average cost, removed cost rounded half to even, through zero in two steps."""
    held, cost = position[0], position[1]
    if held and (held > 0) != (quantity > 0):
        closed = quantity if abs(quantity) <= abs(held) else -held
        whole, rest = divmod(abs(cost) * abs(closed), abs(held))
        if rest * 2 > abs(held) or (rest * 2 == abs(held) and whole & 1):
            whole += 1
        removed = whole if cost >= 0 else -whole
        position[2] += -price * closed - removed
        position[1] -= removed
        position[0] += closed
        quantity -= closed
    position[0] += quantity
    position[1] += price * quantity


def replay(engine: DictEngine, trades: Sequence[Any]) -> int:
    """Apply all; how many were new."""
    return sum(engine.apply(trade) for trade in trades)
