"""Events as objects into records: whatever keeps its fields like a trade is one, wherever it keeps them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.events import TradeExecuted
from ext.encoder import EncodeError, EventEncoder

TRADE = TradeExecuted(
    "T1", "BTCUSDT", Decimal("9682.19"), Decimal("12.50"), "sell", 17, "MM1", "X", "", Decimal("-0.01"), "bust", "T0"
)
FIELDS = {name: getattr(TRADE, name) for name in TRADE.__struct_fields__}


def encoded(event: Any) -> bytes:
    encoder = EventEncoder()
    encoder.add(event)
    return bytes(encoder.finish(1, 1))


class Plain:
    def __init__(self, fields: dict[str, Any] = FIELDS) -> None:
        for name, value in fields.items():
            setattr(self, name, value)


class Slotted(Plain):
    __slots__ = tuple(FIELDS)


class Computed(Slotted):
    __slots__ = ()

    @property
    def price(self) -> Decimal:
        return Slotted.price.__get__(self) * 2

    @price.setter
    def price(self, value: Decimal) -> None:
        Slotted.price.__set__(self, value / 2)


class Asked(Slotted):
    """What its slots hold is not what it says."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        return FIELDS[name] if name in FIELDS else object.__getattribute__(self, name)


class Further(TradeExecuted, frozen=True, tag="TradeExecuted"):
    note: str = ""


def named(cls: type) -> type:
    return type("TradeExecuted", (cls,), {} if cls is Plain else {"__slots__": ()})


@pytest.mark.parametrize("cls", [Plain, Slotted, Computed])
def test_a_trade_of_any_class_is_the_same_record(cls: type) -> None:
    event = named(cls)()
    for _ in range(2):  # the class is new, then known
        assert encoded(event) == encoded(TRADE)


def test_what_a_class_says_of_its_fields_counts_and_not_what_its_slots_hold() -> None:
    event = named(Asked)({**FIELDS, "venue": "elsewhere"})
    assert encoded(event) == encoded(TRADE)


def test_a_subclass_of_a_struct_keeps_its_fields_elsewhere_and_is_read_all_the_same() -> None:
    event = type("TradeExecuted", (Further,), {}, frozen=True)(**FIELDS)
    assert encoded(event) == encoded(TRADE)


def test_a_field_that_is_missing_is_said_by_its_name_and_leaves_nothing() -> None:
    cls = named(Slotted)
    event = cls()
    assert encoded(event) == encoded(TRADE)
    del event.venue
    encoder = EventEncoder()
    with pytest.raises(AttributeError, match="venue"):
        encoder.add(event)
    encoder.add(TRADE)
    assert len(encoder) == 1


@pytest.mark.parametrize("value", [1.5, True, "", "1e", "NaN", ".5", "5.", Decimal("Infinity"), "1.2.3", None])
def test_what_is_no_decimal_number_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="price is"):
        encoded(msgspec.structs.replace(TRADE, price=value))


def test_what_is_no_event_is_refused() -> None:
    for event in (None, 5, {"price": 1}):
        with pytest.raises(EncodeError, match="expected one of TradeExecuted"):
            EventEncoder().add(event)


def test_a_text_that_utf8_cannot_hold_is_refused_and_one_beyond_ascii_is_kept() -> None:
    with pytest.raises(EncodeError, match="UTF-8"):
        encoded(msgspec.structs.replace(TRADE, symbol="\ud800"))
    assert "Ä€".encode() in encoded(msgspec.structs.replace(TRADE, symbol="Ä€"))
