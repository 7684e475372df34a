"""A slow FIX reader that shares no code with feeds: the fills of a log, message by message, with Decimal."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

SIDES = {"1": "buy", "3": "buy", "2": "sell", "4": "sell", "5": "sell", "6": "sell"}


class Fill(NamedTuple):
    id: str
    symbol: str
    price: Decimal
    volume: Decimal
    side: str
    executed_at: int
    account: str
    venue: str
    fee: Decimal
    exec_type: str
    ref: str


def time_ns(text: str) -> int:
    whole, _, fraction = text.partition(".")
    moment = datetime.strptime(whole, "%Y%m%d-%H:%M:%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 10**9 + int(fraction.ljust(9, "0") or 0)


def is_sound(message: bytes, delimiter: bytes) -> bool:
    found = re.fullmatch(rb"(8=[^\x01|]+.9=([0-9]+).)(.*)10=([0-9]{3}).?", message, re.DOTALL)
    if not found:
        return False
    head, length, body, checksum = found.groups()
    return len(body) == int(length) and sum((head + body).replace(delimiter, b"\1")) % 256 == int(checksum)


def fills(log: bytes, lenient: bool = False) -> list[Fill]:
    """Of a log with one message a line."""
    found = []
    for line in log.splitlines():
        at = line.find(b"8=FIX")
        if at < 0:
            continue
        message = line[at:]
        delimiter = b"\1" if b"\1" in message else b"|"
        if not lenient and not is_sound(message, delimiter):
            continue
        tags: dict[str, str] = {}
        for field in message.decode().split(delimiter.decode()):
            tag, equals, value = field.partition("=")
            if equals:
                tags.setdefault(tag, value)
        if tags.get("35") == "8" and (fill := fill_of(tags)):
            found.append(fill)
    return found


def fill_of(tags: dict[str, str]) -> Fill | None:
    trans, kind = tags.get("20", "0"), tags.get("150", tags.get("39", ""))
    volume = Decimal(tags.get("32", "0"))
    if trans == "3" or kind == "I":
        return None
    if trans == "1" or kind == "H":
        exec_type = "bust"
    elif trans == "2" or kind == "G":
        exec_type = "correct"
    elif kind == "F" or (kind in ("1", "2") and volume):
        exec_type = "new"
    else:
        return None
    fee = Decimal(tags.get("12", "0"))
    if tags.get("13") == "1":
        fee *= volume
    return Fill(
        tags["17"], tags["55"], Decimal(tags.get("31", "0")), volume or Decimal(1), SIDES[tags["54"]],
        time_ns(tags.get("60", tags.get("52", ""))), tags.get("1", "default"), tags.get("30", ""), fee, exec_type,
        tags.get("19", "") if exec_type != "new" else "",
    )  # fmt: skip
