"""What commands print: JSON for programs; aligned tables, and colours on a terminal, for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

COLOURS = {
    "breach": "red",
    "warn": "yellow",
    "clear": "green",
    "ok": "green",
    "bad": "red",
    "dim": "bright_black",
}


def print_json(value: Any) -> None:
    """Print one JSON value on one line; structs, decimals and enums are written as msgspec writes them."""
    import msgspec

    click.echo(msgspec.json.encode(value).decode())


def print_line(text: str = "") -> None:
    """Print one line for people."""
    click.echo(text, color=use_colours())


def use_colours() -> bool:
    """Tell whether stdout wants colours: a terminal, and no NO_COLOR (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, meaning: str) -> str:
    """Return text in the colour of its meaning, where colours are wanted; unknown meanings stay plain."""
    if meaning not in COLOURS or not use_colours():
        return text
    return click.style(text, fg=COLOURS[meaning])


def grouped(number: object, places: int | None = None) -> str:
    """Return decimal text with thousands separated: `-1234567.50` is `-1,234,567.50`.

    number: an int, or decimal text as riskwire writes it. places: digits after the point to round to (half to
    even, for reading only); default: as many as there are.
    """
    from decimal import Context, Decimal

    if isinstance(number, int):
        return f"{number:,}"
    text = str(number)
    try:
        value = Decimal(text)
    except ArithmeticError:
        return text
    if places is None:
        return f"{value:,f}"
    rounded = value.quantize(Decimal(1).scaleb(-places), context=Context(prec=80))
    return f"{rounded if rounded else abs(rounded):,f}"


class Table:
    """An aligned table: a header, rows, and perhaps a last row of totals.

    columns: the header's words; one that starts with `>` names a column of numbers, aligned to the right.
    """

    def __init__(self, *columns: str) -> None:
        self.titles = [column.removeprefix(">") for column in columns]
        self.right = [column.startswith(">") for column in columns]
        self.rows: list[list[str]] = []
        self.meanings: list[str] = []
        self.totals: list[str] | None = None

    def add(self, *cells: object, meaning: str = "") -> None:
        """Add a row; meaning colours it (`breach`, `warn`, `clear`, …)."""
        self.rows.append(self.check_width(cells))
        self.meanings.append(meaning)

    def total(self, *cells: object) -> None:
        """Set the row of totals that is printed below a rule."""
        self.totals = self.check_width(cells)

    def check_width(self, cells: Sequence[object]) -> list[str]:
        """Return cells as text, one per column."""
        if len(cells) != len(self.titles):
            raise ValueError(f"expected {len(self.titles)} cells, found {len(cells)}")
        return [printable(str(cell)) for cell in cells]

    def lines(self) -> list[str]:
        """Return the table as lines, without trailing blanks."""
        every = [self.titles, *self.rows, *([self.totals] if self.totals else [])]
        widths = [max(map(len, column)) for column in zip(*every, strict=True)]
        result = [self.line(self.titles, widths)]
        result += [
            paint(self.line(row, widths), meaning) for row, meaning in zip(self.rows, self.meanings, strict=True)
        ]
        if self.totals:
            result.append("  ".join("-" * width for width in widths))
            result.append(self.line(self.totals, widths))
        return result

    def line(self, cells: Iterable[str], widths: Sequence[int]) -> str:
        """Return one row, padded."""
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, self.right, strict=True)
        )
        return "  ".join(padded).rstrip()

    def print(self) -> None:
        """Print the table."""
        for line in self.lines():
            print_line(line)


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: control characters of a feed are shown as escapes."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line, values aligned."""
    shown = [(name, printable(str(value))) for name, value in pairs]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        print_line(f"{name.ljust(width)}  {value}")


def count_of(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: `1 alert`, `2,000 alerts`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
