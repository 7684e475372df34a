"""Reference data files: instruments and opening positions, as events with ids made from their content."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from engine.checks import listed, parse_decimal, plain_text, read_toml, show, suggest
from engine.errors import InstrumentsError, LimitsError
from engine.events import InstrumentDefined, PositionAdjusted
from engine.limitset import TEXT_BYTES_MAX, LimitSet

INSTRUMENT_KEYS = ("symbol", "multiplier", "currency", "price_exponent", "quantity_exponent")
INVERSE_KEYS = ("inverse", "type", "contract_type")
OPENING_KEYS = ("account", "symbol", "quantity", "price")
PRICE_EXPONENT = -9
QUANTITY_EXPONENT = -8
EXPONENT_MIN = -18
TRUE_WORDS = frozenset({"1", "true", "yes", "y", "inverse"})
WHOLE = re.compile(r"[+-]?[0-9]{1,4}")


def content_id(prefix: str, *texts: str) -> str:
    """Return an event_id made from content: 16 hex digits of the SHA-256 of the texts, NUL between."""
    return f"{prefix}-{hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:16]}"


def limits_event_id(limits: LimitSet) -> str:
    """Return the event_id of the LimitsChanged that a limits file becomes."""
    return content_id("limits", limits.to_json().decode())


def load_instruments(path: str | Path) -> list[InstrumentDefined]:
    """Read an instruments file.

    path: .csv with a header, or .toml with [[instrument]] tables; `symbol` (exact, or a glob with `* ? [`),
    `multiplier` (1), `currency` (empty: the base currency), `price_exponent` (-9), `quantity_exponent` (-8);
    all but symbol optional, other columns ignored unless they look like a mistyped one.
    Returns one event a row, in the order of the file.
    Raises InstrumentsError naming file, line or row, and key.
    """
    found = []
    first: dict[str, str] = {}
    for place, row in _read_rows(path, "instrument", INSTRUMENT_KEYS, ("symbol",)):
        instrument = _instrument(row, place)
        if instrument.symbol in first:
            _fail(place, "symbol", f"{show(instrument.symbol)} is already defined at {first[instrument.symbol]}")
        first[instrument.symbol] = place
        found.append(instrument)
    return found


def load_opening(path: str | Path) -> list[PositionAdjusted]:
    """Read opening positions.

    path: .csv with a header, or .toml with [[opening]] tables; `account` (default `default`), `symbol`,
    `quantity` (signed) and `price`, decimals as text.
    Returns one event a row, in the order of the file, at time 0. A row that repeats an earlier one to the
    letter is another lot: its id ends in `#2`, `#3`, ...
    Raises InstrumentsError naming file, line or row, and key.
    """
    found = []
    seen: dict[str, int] = {}
    for place, row in _read_rows(path, "opening", OPENING_KEYS, ("symbol", "quantity", "price")):
        account = _text(row, "account", place, "default", 1)
        symbol = _text(row, "symbol", place, None, 1)
        quantity, price = _number(row, "quantity", place), _number(row, "price", place)
        event_id = content_id("opening", account, symbol, plain_text(quantity), plain_text(price))
        seen[event_id] = seen.get(event_id, 0) + 1
        found.append(
            PositionAdjusted(
                event_id=event_id if seen[event_id] == 1 else f"{event_id}#{seen[event_id]}",
                account=account,
                symbol=symbol,
                quantity=quantity,
                price=price,
                at=0,
                note="opening",
            )
        )
    return found


def check_currencies(limits: LimitSet, instruments: Iterable[InstrumentDefined]) -> None:
    """Raise LimitsError for an instrument whose currency is neither the base currency nor has an fx rate."""
    settings = limits.settings
    for instrument in instruments:
        currency = instrument.currency
        if currency and currency != settings.base_currency and currency not in settings.fx:
            raise LimitsError(
                f"settings.fx: no rate for {currency}, the currency of instrument {show(instrument.symbol)}; "
                f'add {currency} = "<one {currency} in {settings.base_currency}>" to [settings.fx]'
            )


def _fail(place: str, key: str, problem: str) -> NoReturn:
    raise InstrumentsError(f"{place}: {key}: {problem}")


def _instrument(row: dict[str, Any], place: str) -> InstrumentDefined:
    _check_linear(row, place)
    multiplier = _number(row, "multiplier", place, "1", 18, 18, -18)
    if multiplier <= 0:
        _fail(place, "multiplier", f"expected a number above 0, found {show(row['multiplier'])}")
    symbol = _text(row, "symbol", place, None, 1)
    currency = _text(row, "currency", place, "", 0)
    price_exponent = _exponent(row, "price_exponent", place, PRICE_EXPONENT)
    quantity_exponent = _exponent(row, "quantity_exponent", place, QUANTITY_EXPONENT)
    parts = (symbol, plain_text(multiplier), currency, str(price_exponent), str(quantity_exponent))
    return InstrumentDefined(
        event_id=content_id("instrument", *parts),
        symbol=symbol,
        price_exponent=price_exponent,
        quantity_exponent=quantity_exponent,
        multiplier=multiplier,
        currency=currency,
    )


def _check_linear(row: dict[str, Any], place: str) -> None:
    for key in INVERSE_KEYS:
        word = str(row.get(key, "")).strip().lower()
        if "inverse" in word or (key == "inverse" and word in TRUE_WORDS):
            symbol = show(str(row.get("symbol")))
            _fail(
                place,
                key,
                f"{symbol} is inverse; only linear instruments can be kept, take it out of the file",
            )


def _text(row: dict[str, Any], key: str, place: str, default: str | None, bytes_min: int) -> str:
    value = row.get(key)
    if value is None or (value == "" and default is not None):
        if default is None:
            _fail(place, key, "missing; this key is required")
        return default
    if not isinstance(value, str):
        _fail(place, key, f"expected text, found {show(value)}")
    size = len(value.encode("utf-8", "surrogatepass"))
    if not bytes_min <= size <= TEXT_BYTES_MAX:
        _fail(
            place,
            key,
            f"expected {bytes_min} to {TEXT_BYTES_MAX} bytes of UTF-8, found {size}: {show(value)}",
        )
    return value


def _number(
    row: dict[str, Any],
    key: str,
    place: str,
    default: str | None = None,
    digits_max: int = 38,
    exponent_max: int = 38,
    exponent_min: int = -38,
) -> Decimal:
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**40 else show(value)  # a whole number is exact in TOML too
    text = _text({key: value}, key, place, default, 1)
    try:
        return parse_decimal(text, digits_max, exponent_min, exponent_max)
    except ValueError as problem:
        _fail(place, key, str(problem))


def _exponent(row: dict[str, Any], key: str, place: str, default: int) -> int:
    value = row.get(key)
    text = str(default) if value is None or value == "" else str(value)
    if isinstance(value, bool) or WHOLE.fullmatch(text) is None or not EXPONENT_MIN <= int(text) <= 0:
        _fail(place, key, f"expected a whole number from {EXPONENT_MIN} to 0, found {show(value)}")
    return int(text)


Rows = list[tuple[str, dict[str, Any]]]


def _read_rows(path: str | Path, table: str, known: tuple[str, ...], required: tuple[str, ...]) -> Rows:
    """Return (place, row) for every row of a .csv or .toml file."""
    suffix = Path(path).suffix.lower()
    if suffix == ".toml":
        return _toml_rows(path, table, known)
    if suffix == ".csv":
        return _csv_rows(path, known, required)
    raise InstrumentsError(f"{path}: expected a file ending in .csv or .toml")


def _toml_rows(path: str | Path, table: str, known: tuple[str, ...]) -> Rows:
    top = read_toml(path, InstrumentsError)
    for key in top:
        if key != table:
            _fail(str(path), key, f"unknown key; expected [[{table}]] tables{suggest(key, (table,))}")
    rows = top.get(table, [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        _fail(str(path), table, f"expected an array of tables: [[{table}]]")
    placed = [(f"{path}: {table}[{number}]", row) for number, row in enumerate(rows, 1)]
    for place, row in placed:
        _check_keys(place, row, known)
    return placed


def _csv_rows(path: str | Path, known: tuple[str, ...], required: tuple[str, ...]) -> Rows:
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    header: list[str] = []
    rows: Rows = []
    try:
        for cells in reader:
            place = f"{path}: line {reader.line_num}"
            if not cells:
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                _check_header(place, header, known, required)
            elif len(cells) != len(header):
                raise InstrumentsError(f"{place}: expected {len(header)} fields as in the header, found {len(cells)}")
            else:
                rows.append((place, dict(zip(header, map(str.strip, cells), strict=True))))
    except csv.Error as problem:
        raise InstrumentsError(f"{path}: line {reader.line_num}: not CSV: {problem}") from None
    if not header:
        raise InstrumentsError(f"{path}: empty; expected a header with {listed(known)}")
    return rows


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise InstrumentsError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except UnicodeDecodeError as problem:
        raise InstrumentsError(f"{path}: not UTF-8 at byte {problem.start}") from None


def _check_header(place: str, header: list[str], known: tuple[str, ...], required: tuple[str, ...]) -> None:
    for name in required:
        if name not in header:
            _fail(place, name, f"no such column in the header; expected {listed(known)}")
    for name in known:
        if header.count(name) > 1:
            _fail(place, name, "this column is there twice; keep one")
    _check_keys(place, header, known)


def _check_keys(place: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    # Files of reference data carry columns of their own; only what looks like one of ours mistyped is an
    # error.
    for name in names:
        near = suggest(name, known) if name not in (*known, *INVERSE_KEYS) else ""
        if near:
            _fail(place, name, f"unknown key{near}")
