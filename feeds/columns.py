"""Which column of a file is which field: the canonical header, ``--map``, and presets for known files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ext.feedwriter import FIELD_GUARD_NUMBER, FIELD_NAMES
from feeds.errors import FeedError

FIELD_IGNORED = len(FIELD_NAMES)
REQUIRED = ("symbol", "price", "volume", "executed_at")


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Which column is which field.

    ``columns``: field to column name, or to a column number from 1 where ``numbered``; ``constants``: field to text.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)
    numbered: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """What CsvReader.configure takes, and which of the fields that can be made are there."""

    targets: list[int]
    constants: dict[int, bytes]
    copies: list[tuple[int, int]]

    def has(self, name: str) -> bool:
        number = FIELD_NAMES.index(name)
        return number in self.targets or number in self.constants or any(number == copy for copy, _ in self.copies)


def parse_map(text: str | Mapping[str, str] | None) -> ColumnMap:
    """Read ``price=px,volume=qty,symbol==BCHEUR`` (or the same as a mapping, ``{"symbol": "=BCHEUR"}``).

    Raises FeedError for an unknown field, a field given twice, a missing name, or names and numbers mixed.
    """
    columns: dict[str, str] = {}
    constants: dict[str, str] = {}
    for name, column in map_items(text):
        if name not in FIELD_NAMES:
            raise FeedError(f"map: unknown field {name!r}: expected one of {', '.join(FIELD_NAMES)}")
        if name in columns or name in constants:
            raise FeedError(f"map: {name} is given twice: name one column for it")
        if not column:
            raise FeedError(f"map: {name} has no column: expected {name}=COLUMN, or {name}==TEXT for a constant")
        if column.startswith("="):
            constants[name] = column[1:]
        else:
            columns[name] = column
    numbers = [column for column in columns.values() if re.fullmatch("[0-9]+", column)]
    if numbers and len(numbers) != len(columns):
        raise FeedError("map: column names and numbers are mixed: numbers are for files without a header")
    for column in numbers:
        if not 1 <= int(column[:9]) <= 4096:
            raise FeedError(f"map: column {column}: expected a number from 1 to 4096")
    return ColumnMap(columns, constants, numbered=bool(numbers))


def map_items(text: str | Mapping[str, str] | None) -> list[tuple[str, str]]:
    if text is None:
        return []
    if isinstance(text, Mapping):
        return list(text.items())
    items = []
    for part in text.split(","):
        name, equals, column = part.partition("=")
        if not equals:
            raise FeedError(f"map: {part!r} is no FIELD=COLUMN: expected for example price=px,volume=qty")
        items.append((name.strip(), column.strip()))
    return items


def columns_by_name(header: list[str], columns: ColumnMap, where: str) -> dict[str, str]:
    """Find the fields in a header, field to column: the mapped ones by their column's name, the others by their own.

    Raises FeedError, naming ``where``, for a mapped column that is not there or a needed one that is there twice.
    """
    wanted: dict[str, str] = {name: name for name in FIELD_NAMES if name in header and name not in columns.constants}
    for name, column in columns.columns.items():
        if column not in header:
            raise FeedError(f"{where}: no column {column!r} for {name}: the header is {show_header(header)}")
        wanted[name] = column
    for name, column in wanted.items():
        if header.count(column) > 1:
            raise FeedError(f"{where}: column {column!r} is there {header.count(column)} times: {name} needs one")
    return wanted


def layout_by_name(header: list[str], columns: ColumnMap, where: str) -> Layout:
    """columns_by_name, by position."""
    wanted = columns_by_name(header, columns, where)
    return layout({name: header.index(column) for name, column in wanted.items()}, len(header), columns.constants)


def layout_by_number(count: int, columns: ColumnMap, where: str) -> Layout:
    """The fields of a file without a header whose first row has ``count`` columns."""
    for name, column in columns.columns.items():
        if int(column) > count:
            raise FeedError(f"{where}: no column {column} for {name}: the first row has {count} columns")
    return layout({name: int(column) - 1 for name, column in columns.columns.items()}, count, columns.constants)


def layout(positions: Mapping[str, int], count: int, constants: Mapping[str, str]) -> Layout:
    targets = [FIELD_IGNORED] * count
    copies = []
    for name, position in positions.items():
        number = FIELD_NAMES.index(name)
        if targets[position] == FIELD_IGNORED:
            targets[position] = number
        else:
            copies.append((number, targets[position]))
    texts = {FIELD_NAMES.index(name): text.encode() for name, text in constants.items()}
    return Layout(targets, texts, copies)


def guard(found: Layout, header: list[str] | None, column: str) -> bool:
    """Make a column the one that says whether a row is a trade; False where it is not there.

    Raises FeedError where the column is a field too.
    """
    if header is None:
        place = int(column) - 1 if column.isdigit() else -1
        if not 0 <= place < len(found.targets):
            return False
    elif column in header:
        place = header.index(column)
    else:
        return False
    if found.targets[place] != FIELD_IGNORED:
        raise FeedError(f"keep: column {column!r} is mapped to {FIELD_NAMES[found.targets[place]]} already")
    found.targets[place] = FIELD_GUARD_NUMBER
    return True


def check_required(found: Layout, header: list[str] | None, where: str, as_marks: bool = False) -> None:
    """Raise FeedError where a column is missing that nothing can stand in for; marks have no volume."""
    for name in REQUIRED:
        if name == "volume" and as_marks:
            continue
        if not found.has(name):
            seen = "" if header is None else f": the header is {show_header(header)}"
            raise FeedError(f"{where}: no column {name}{seen}; name it with --map {name}=COLUMN")


def show_header(header: list[str]) -> str:
    text = ",".join(header)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 200 else text[:200] + "..."
