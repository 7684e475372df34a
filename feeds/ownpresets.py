"""A preset of the user's own, in TOML: what feeds/presets.py says about known files, for one that is not known."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ext.feedwriter import FIELD_NAMES, SIDE_TEXTS
from feeds.columns import parse_map
from feeds.errors import FeedError
from feeds.presets import Preset

UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
SIDE_NUMBERS = {"buy": SIDE_TEXTS["buy"], "sell": SIDE_TEXTS["sell"]}
KEYS: dict[str, tuple[type, ...]] = {
    "map": (dict,),
    "sides": (dict,),
    "round": (dict,),
    "keep": (dict,),
    "delimiter": (str,),
    "price_shift": (int,),
    "time_unit": (str,),
    "file_name": (str,),
    "timezone": (str,),
}


def load_preset(path: str) -> Preset:
    """Read a preset. Raises FeedError, naming the key, for what it cannot be."""
    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FeedError(f"{path} is no TOML: {error}") from None
    for key, value in data.items():
        if key not in KEYS:
            raise FeedError(f"{path}: unknown key {key!r}: expected one of {', '.join(KEYS)}")
        if not isinstance(value, KEYS[key]) or isinstance(value, bool):
            raise FeedError(f"{path}: {key}: expected {KEYS[key][0].__name__}, found {value!r}")
    try:
        return preset_of(data)
    except (FeedError, ValueError) as error:
        raise FeedError(f"{path}: {error}") from None


def preset_of(data: Mapping[str, Any]) -> Preset:
    """Raises ValueError (or FeedError) for a value that cannot be."""
    columns = {name: text_of(f"map.{name}", value) for name, value in data.get("map", {}).items()}
    parse_map(columns)
    delimiter = data.get("delimiter", ",")
    if len(delimiter.encode()) != 1 or delimiter in '"\n\r':
        raise ValueError(f"delimiter: expected one ASCII character, found {delimiter!r}")
    shift = data.get("price_shift", 0)
    if not -18 <= shift <= 18:
        raise ValueError(f"price_shift: expected -18 to 18, found {shift}")
    return Preset(
        map=columns,
        sides=sides_of(data.get("sides", {})),
        delimiter=delimiter,
        price_shift=shift,
        time_unit_ns=unit_of(data),
        file_name=pattern_of(data),
        timezone=data.get("timezone", ""),
        round=round_of(data.get("round", {})),
        keep=keep_of(data.get("keep", {})),
        own=True,
    )


def text_of(key: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected a text, found {value!r}")
    return value


def sides_of(given: Mapping[str, Any]) -> dict[str, int]:
    words: dict[str, int] = {}
    for side, texts in given.items():
        if side not in SIDE_NUMBERS:
            raise ValueError(f"sides: expected buy and sell, found {side!r}")
        for text in texts if isinstance(texts, list) else [texts]:
            word = text_of(f"sides.{side}", text)
            if not 0 < len(word.encode()) <= 8 or len(words) == 8:
                raise ValueError(f"sides.{side}: expected at most 8 words of 1 to 8 bytes, found {word!r}")
            words[word] = SIDE_NUMBERS[side]
    return words


def unit_of(data: Mapping[str, Any]) -> int:
    unit = data.get("time_unit")
    if unit is None:
        if data.get("timezone"):
            raise ValueError("timezone: times of a day need a time_unit: s, ms, us or ns")
        return 0
    if unit not in UNITS_NS:
        raise ValueError(f"time_unit: expected s, ms, us or ns, found {unit!r}")
    return UNITS_NS[unit]


def pattern_of(data: Mapping[str, Any]) -> str:
    pattern: str = data.get("file_name", "")
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"file_name: {error}") from None
    if pattern and not groups.keys() & {"symbol", "date"}:
        raise ValueError("file_name: expected a pattern with (?P<symbol>...) or (?P<date>...)")
    zone = data.get("timezone", "")
    if zone:
        if "date" not in groups:
            raise ValueError("timezone: the day must be in file_name, as (?P<date>...)")
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"timezone: {zone!r} is not known") from None
    return pattern


def round_of(given: Mapping[str, Any]) -> dict[str, int]:
    for name, decimals in given.items():
        if name not in FIELD_NAMES or type(decimals) is not int or not 0 <= decimals <= 15:
            raise ValueError(f"round.{name}: expected a field and 0 to 15 decimals, found {decimals!r}")
    return dict(given)


def keep_of(given: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    if not given:
        return None
    if len(given) > 1:
        raise ValueError("keep: expected one column and its values")
    column, values = next(iter(given.items()))
    texts = tuple(text_of(f"keep.{column}", value) for value in (values if isinstance(values, list) else [values]))
    if not 0 < len(texts) <= 16 or any(len(text.encode()) > 8 for text in texts):
        raise ValueError(f"keep.{column}: expected 1 to 16 values of at most 8 bytes")
    return column, texts
