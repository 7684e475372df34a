"""Positions of the reference: the list of live trades is the truth, a position is what replaying it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import NamedTuple

from engine.events import InstrumentDefined
from engine.oracle.numbers import (
    INT64_MAX,
    INT64_MIN,
    INT128_MAX,
    INT128_MIN,
    PLACES,
    round_half_even,
    rounded_text,
    text_of,
    units,
)

FEE_EXPONENT = -9
MULTIPLIER_EXPONENT = -18


class Overflow(Exception):
    """An accumulator of a position would not fit its type."""


class Instrument(NamedTuple):
    """What a symbol's whole numbers mean. multiplier in units of 1e-18; currency "" is the base currency."""

    price_exponent: int = -9
    quantity_exponent: int = -8
    multiplier: int = 10**-MULTIPLIER_EXPONENT
    currency: str = ""

    def price(self, price: Decimal) -> int:
        """Return a price in the instrument's unit."""
        return units(price, self.price_exponent)

    def quantity(self, quantity: Decimal) -> int:
        """Return a quantity in the instrument's unit."""
        return units(quantity, self.quantity_exponent)

    def money_text(self, money: int) -> str:
        """Return price units x quantity units as money text, with the multiplier."""
        exponent = self.price_exponent + self.quantity_exponent + MULTIPLIER_EXPONENT
        return text_of(money * self.multiplier, exponent)


class Instruments:
    """What InstrumentDefined events have said: an exact symbol before globs, the first glob wins."""

    def __init__(self) -> None:
        self._rules: dict[str, Instrument] = {}

    def define(self, event: InstrumentDefined) -> None:
        """Take in a definition; one of the same symbol text replaces the earlier one at its place."""
        self._rules[event.symbol] = Instrument(
            event.price_exponent,
            event.quantity_exponent,
            units(event.multiplier, MULTIPLIER_EXPONENT),
            event.currency,
        )

    def find(self, symbol: str) -> Instrument:
        """Return what holds for a symbol, the default where nothing was said."""
        if symbol in self._rules:
            return self._rules[symbol]
        for pattern, instrument in self._rules.items():
            if any(char in pattern for char in "*?[") and fnmatchcase(symbol, pattern):
                return instrument
        return Instrument()


@dataclass(slots=True, eq=False)
class Fill:
    """A live trade or an adjustment at its place in the sequence. A correct rewrites the fill it names."""

    place: int
    pair: Pair
    venue: str
    name: str  # the id that a bust or correct would name; "" for an adjustment
    is_trade: bool
    strategy: str
    quantity: int  # signed
    price: int
    fee: int
    live: bool = True


class Position(NamedTuple):
    """quantity, cost and realized in units of quantity and of price x quantity, without the multiplier."""

    quantity: int = 0
    cost: int = 0
    realized: int = 0
    fees: int = 0
    trades: int = 0


FLAT = Position()


@dataclass(slots=True, eq=False)
class Cell:
    """What limits add up, of one (account, symbol, venue, strategy). money_0 and fees_0: at the session's start."""

    quantity: int = 0
    cash: int = 0
    fees: int = 0
    money_0: int = 0
    fees_0: int = 0


CellName = tuple[str, str]  # venue, strategy
NO_CELL: CellName = ("", "")


@dataclass(slots=True, eq=False)
class Pair:
    """One (account, symbol): its history, the position that the history gives, and its cells."""

    account: str
    symbol: Symbol
    fills: list[Fill] = field(default_factory=list)
    position: Position = FLAT
    cells: dict[CellName, Cell] = field(default_factory=dict)
    valued_at: int | None = None  # the mark it was last valued at

    def row(self) -> dict[str, str | int]:
        """Return the position as a report shows it, at the current mark."""
        position, instrument, mark = self.position, self.symbol.instrument, self.symbol.mark
        unrealized = 0 if mark is None else position.quantity * mark - position.cost
        return {
            "account": self.account,
            "symbol": self.symbol.name,
            "quantity": text_of(position.quantity, instrument.quantity_exponent),
            "avg_price": average_text(position, instrument),
            "realized_pnl": instrument.money_text(position.realized),
            "unrealized_pnl": instrument.money_text(unrealized),
            "fees": text_of(position.fees, FEE_EXPONENT),
            "last_price": text_of(mark or 0, instrument.price_exponent),
            "trades": position.trades,
        }

    def cell_money(self, name: CellName, cell: Cell) -> int:
        """Return cash + quantity x mark of a cell as last valued; without a mark what is realized."""
        if self.valued_at is not None:
            return cell.cash + cell.quantity * self.valued_at
        # Never valued, so nothing but adjustments is live here, and they are all in one cell.
        return cell.cash + self.position.cost if name == NO_CELL else cell.cash

    def is_flat(self) -> bool:
        """Tell whether no cell holds anything, so that no mark can move its value."""
        return all(cell.quantity == 0 for cell in self.cells.values())


@dataclass(slots=True, eq=False)
class Symbol:
    """What all holders of a symbol share. clock_ns: executed_at of the last revaluation where trades make marks."""

    name: str
    instrument: Instrument
    mark: int | None = None
    has_mark_price: bool = False
    clock_ns: int | None = None
    trades: list[Fill] = field(default_factory=list)  # in order of place; dead ones leave from the end
    pairs: dict[str, Pair] = field(default_factory=dict)  # by account

    def mark_from_trades(self) -> int | None:
        """Return the price of the latest live trade."""
        while self.trades and not self.trades[-1].live:
            self.trades.pop()
        return self.trades[-1].price if self.trades else None


def average_text(position: Position, instrument: Instrument) -> str:
    """Return the average price of an open position, rounded half to even at nine decimals; `0` when flat."""
    if position.quantity == 0:
        return "0"
    sign = 1 if position.quantity > 0 else -1
    exponent = instrument.price_exponent
    if exponent < -PLACES:
        return rounded_text(sign * position.cost, abs(position.quantity) * 10**-exponent)
    return text_of(round_half_even(sign * position.cost * 10 ** (PLACES + exponent), abs(position.quantity)), -PLACES)


def after(position: Position, fill: Fill) -> Position:
    """Return the position after one more fill: average cost, netting, through zero in two steps."""
    quantity, cost, realized, fees, trades = position
    fees += fill.fee
    trades += fill.is_trade
    change, price = fill.quantity, fill.price
    if quantity * change < 0:
        sign = 1 if quantity > 0 else -1
        closed = min(abs(quantity), abs(change))
        removed = closed_cost(cost, closed, abs(quantity))
        realized += sign * price * closed - removed
        cost -= removed
        quantity -= sign * closed
        change += sign * closed
    return checked(Position(quantity + change, cost + price * change, realized, fees, trades))


def closed_cost(cost: int, closed: int, quantity: int) -> int:
    """Return the part of a cost that leaves with `closed` of `quantity`, rounded half to even, signed like the cost."""
    removed = round_half_even(abs(cost) * closed, quantity)
    return removed if cost >= 0 else -removed


def checked(position: Position) -> Position:
    """Return the position, or raise Overflow where an accumulator is beyond its type."""
    if not INT64_MIN <= position.quantity <= INT64_MAX:
        raise Overflow("quantity")
    cash = position.realized - position.cost
    for amount in (position.cost, position.realized, cash, position.fees):
        if not INT128_MIN <= amount <= INT128_MAX:
            raise Overflow("money")
    return position


def rebuilt(fills: list[Fill]) -> Position:
    """Return the position that a history gives."""
    position = FLAT
    for fill in fills:
        position = after(position, fill)
    return position


def add_to_cell(pair: Pair, fill: Fill) -> None:
    """Add a fill to its cell."""
    cell = pair.cells.setdefault((fill.venue, fill.strategy), Cell())
    cell.quantity += fill.quantity
    cell.cash -= fill.price * fill.quantity
    cell.fees += fill.fee


def rebuild_cells(pair: Pair) -> None:
    """Fill the cells again from the history; what they were at the session's start stays."""
    for cell in pair.cells.values():
        cell.quantity = cell.cash = cell.fees = 0
    for fill in pair.fills:
        add_to_cell(pair, fill)


def check_cash(pair: Pair) -> None:
    """Assert that realized - open cost is the cash that flowed, to the last unit."""
    cells = pair.cells.values()
    assert pair.position.realized - pair.position.cost == sum(cell.cash for cell in cells)
    assert pair.position.quantity == sum(cell.quantity for cell in cells)
    assert pair.position.fees == sum(cell.fees for cell in cells)
