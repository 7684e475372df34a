"""Strict readers for tables that people write: TOML, JSON and CSV, with errors that name the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

DECIMAL = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
DURATION = re.compile(r"([0-9]+)(ns|us|ms|s|m|h)")
DURATION_NS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
DAYS = re.compile(r"([0-9]{1,5})d")
AGE_DAYS_MAX = 36_525
SIZE = re.compile(r"([0-9]+)(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
SIZE_BYTES: dict[str, int] = {"B": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("KMGT", 1)
    for unit, base in (("B", 1000), ("iB", 1024))
}
DURATION_NS_MAX = 366 * 24 * DURATION_NS["h"]
EXPONENT_CHARS_MAX = 6  # "e-1234" and no more: int() of a long exponent is slow, and no number here needs it

ErrorFactory = Callable[[str], Exception]


def show(value: object) -> str:
    """Return a short picture of a value for an error message, as TOML or JSON would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    else:
        text = "null" if value is None else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for a near miss among the known words, else an empty text."""
    from difflib import get_close_matches  # only here: who mistypes nothing does not wait for it

    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""


def listed(words: Iterable[str]) -> str:
    """Return words as a list for a message."""
    return ", ".join(words)


def parse_duration(text: str) -> int:
    """Return a duration such as `100ms` in nanoseconds.

    text: a positive whole number and one of `ns us ms s m h`, nothing else: `1500ms`, not `1.5s`.
    Raises ValueError, saying what was expected, for anything else and for more than 366 days.
    """
    found = DURATION.fullmatch(text) if len(text) <= 24 else None
    if found is None:
        raise ValueError(
            f'expected a duration such as "100ms" (a whole number and ns, us, ms, s, m or h), found {show(text)}'
        )
    duration_ns = int(found[1]) * DURATION_NS[found[2]]
    if not 0 < duration_ns <= DURATION_NS_MAX:
        raise ValueError(f"expected a duration above 0 and at most 366 days, found {show(text)}")
    return duration_ns


def parse_age(text: str) -> int:
    """Return an age such as `7d` in nanoseconds: days, or any duration that `parse_duration` takes.

    Raises ValueError, saying what was expected, for anything else and for more than 100 years.
    """
    if (days := DAYS.fullmatch(text)) is not None and 0 < int(days[1]) <= AGE_DAYS_MAX:
        return int(days[1]) * 24 * DURATION_NS["h"]
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f'expected an age such as "7d" or "12h", found {show(text)}') from None


def parse_size(text: str) -> int:
    """Return a size such as `10GB` in bytes.

    text: a positive whole number and one of `B KB MB GB TB` (powers of 1,000) or `KiB MiB GiB TiB` (of 1,024).
    Raises ValueError, saying what was expected, for anything else.
    """
    found = SIZE.fullmatch(text) if len(text) <= 24 else None
    if found is None or int(found[1]) == 0:
        raise ValueError(f'expected a size such as "10GB" or "512MiB", found {show(text)}')
    return int(found[1]) * SIZE_BYTES[found[2]]


def parse_decimal(text: str, digits_max: int, exponent_min: int, exponent_max: int) -> Decimal:
    """Return decimal text exactly.

    text: ASCII `[+-]digits[.digits][e±digits]`.
    digits_max: significant digits allowed; exponent_min: power of ten of the finest digit allowed (trailing
    zeros do not count); exponent_max: the magnitude must be below 10**exponent_max.
    Raises ValueError, saying what was expected.
    """
    found = DECIMAL.fullmatch(text) if len(text) <= 256 else None
    if found is None or len(found[2] or "") > EXPONENT_CHARS_MAX:
        raise ValueError(f'expected decimal text such as "100" or "0.25", found {show(text)}')
    sign, digits, exponent = Decimal(text).as_tuple()
    kept = "".join(map(str, digits)).lstrip("0")
    assert isinstance(exponent, int)
    trimmed = kept.rstrip("0")
    exponent += len(kept) - len(trimmed)
    if not trimmed:
        return Decimal(0)
    if len(trimmed) > digits_max:
        raise ValueError(f"expected at most {digits_max} significant digits, found {show(text)}")
    if exponent < exponent_min or exponent + len(trimmed) > exponent_max:
        raise ValueError(
            f"expected a number below 1e{exponent_max} and no finer than 1e{exponent_min}, found {show(text)}"
        )
    return Decimal((sign, tuple(map(int, trimmed)), exponent))


def plain_text(value: Decimal) -> str:
    """Return a decimal as plain text: no exponent, no trailing zeros, `0` for zero."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def read_toml(path: str | Path, error: ErrorFactory) -> dict[str, Any]:
    """Read a TOML file; what cannot be read raises `error` with one line naming file and line."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode()
        return tomllib.loads(text)
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not UTF-8 at byte {problem.start}; TOML files are UTF-8 text") from None
    except tomllib.TOMLDecodeError as problem:
        end = f"at line {text.count(chr(10)) + 1}, the end of the file"
        raise error(f"{path}: not TOML: {str(problem).replace('at end of document', end)}") from None
    except (
        ValueError,
        RecursionError,
    ) as problem:  # an integer of thousands of digits, brackets nested too deep
        raise error(f"{path}: not usable as TOML: {str(problem).splitlines()[0]}") from None


class Table:
    """One table of settings, read strictly: every key is known, every value has its type.

    obj: the table as tomllib or json gives it. where: what an error names, such as `limits.toml: limit[2]`.
    """

    def __init__(self, obj: object, where: str, known: Iterable[str], error: ErrorFactory) -> None:
        self.where = where
        self.known = tuple(known)
        self.error = error
        if not isinstance(obj, Mapping):
            raise error(f"{where}: expected a table, found {show(obj)}")
        self.obj: Mapping[str, Any] = obj
        for key in obj:
            if key not in self.known:
                near = suggest(str(key), self.known)
                self.fail(str(key), f"unknown key; expected one of {listed(self.known)}{near}")

    def fail(self, key: str, problem: str) -> NoReturn:
        """Raise the error that names this table and the key."""
        raise self.error(f"{self.where}: {key}: {problem}")

    def has(self, key: str) -> bool:
        """Tell whether the key is there (JSON's null counts as absent)."""
        return self.obj.get(key) is not None

    def require(self, key: str) -> None:
        """Raise the error for a missing key."""
        if not self.has(key):
            self.fail(key, "missing; this key is required")

    def text(self, key: str, default: str | None = None, bytes_max: int = 4096, bytes_min: int = 0) -> str:
        """Return a text of bytes_min to bytes_max bytes of UTF-8; without a default the key is required."""
        if not self.has(key):
            if default is not None:
                return default
            self.require(key)
        value = self.obj[key]
        if not isinstance(value, str):
            self.fail(key, f"expected text in quotes, found {show(value)}")
        self.check_text(key, value, bytes_max, bytes_min)
        return value

    def check_text(self, key: str, value: str, bytes_max: int, bytes_min: int) -> None:
        """Raise the error for a text that is too short, too long or not UTF-8."""
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            self.fail(key, f"expected UTF-8 text, found the lone surrogate in {show(ascii(value))}")
        if not bytes_min <= size <= bytes_max:
            self.fail(key, f"expected {bytes_min} to {bytes_max} bytes of UTF-8, found {size}: {show(value)}")

    def choice(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        """Return one of the given words."""
        value = self.text(key, default)
        choices = tuple(choices)
        if value not in choices:
            near = suggest(value, choices)
            self.fail(key, f"expected one of {listed(choices)}, found {show(value)}{near}")
        return value

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """Return a whole number from low to high."""
        if not self.has(key) and default is not None:
            return default
        self.require(key)
        value = self.obj[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.fail(key, f"expected a whole number from {low} to {high}, found {show(value)}")
        return int(value)

    def decimal(
        self,
        key: str,
        default: str | None,
        digits_max: int = 38,
        exponent_min: int = -18,
        exponent_max: int = 38,
    ) -> Decimal:
        """Return decimal text exactly; a bare number is refused, because TOML would read it as a float."""
        if not self.has(key) and default is not None:
            return Decimal(default)
        self.require(key)
        value = self.obj[key]
        if not isinstance(value, str):
            hint = f'; write "{value}" in quotes' if type(value) in (int, float) else ""
            self.fail(key, f"expected a decimal number as text, found {show(value)}{hint}")
        try:
            return parse_decimal(value, digits_max, exponent_min, exponent_max)
        except ValueError as problem:
            self.fail(key, str(problem))

    def ratio(self, key: str) -> Decimal | None:
        """Return a ratio in (0, 1], written as a number (its shortest decimal text) or as text, or None."""
        if not self.has(key):
            return None
        value = self.obj[key]
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            self.fail(key, f"expected a number above 0 and at most 1, found {show(value)}")
        try:
            ratio = parse_decimal(value if isinstance(value, str) else repr(value), 18, -18, 18)
        except ValueError as problem:
            self.fail(key, str(problem))
        if not 0 < ratio <= 1:
            self.fail(key, f"expected a number above 0 and at most 1, found {show(value)}")
        return ratio

    def duration(self, key: str, key_ns: str | None = None) -> int | None:
        """Return a duration in ns, of `key` ("100ms") or `key_ns` (a whole number, the canonical form)."""
        if key_ns is not None and self.has(key_ns):
            if self.has(key):
                self.fail(key, f"given twice, as {key} and as {key_ns}; keep one")
            return self.integer(key_ns, None, 1, DURATION_NS_MAX)
        return self._parsed(key, parse_duration)

    def age(self, key: str) -> int | None:
        """Return an age in ns ("7d", "12h")."""
        return self._parsed(key, parse_age)

    def size(self, key: str, low: int, high: int) -> int | None:
        """Return a size in bytes ("10GB") from low to high."""
        size = self._parsed(key, parse_size)
        if size is not None and not low <= size <= high:
            self.fail(key, f"expected {low:,} to {high:,} bytes, found {show(self.obj[key])}")
        return size

    def _parsed(self, key: str, parse: Callable[[str], int]) -> int | None:
        if not self.has(key):
            return None
        try:
            return parse(self.text(key))
        except ValueError as problem:
            self.fail(key, str(problem))

    def tables(self, key: str) -> list[object]:
        """Return an array of tables, unchecked inside; absent: empty."""
        value = self.obj.get(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            self.fail(key, f"expected an array of tables ([[{key}]]), found {show(value)}")
        return list(value)
