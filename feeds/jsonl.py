"""JSON Lines: every event of DESIGN section 4, one object a line with `type` (default TradeExecuted).

Numbers may be JSON strings or JSON numbers and are taken from their text as it stands, never through a float. Keys
that the event does not have are ignored, as other columns of a CSV are; `null` is as good as absent.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

from ext.decimals import parse_number, parse_timestamp
from ext.feedwriter import FIELD_NAMES
from ext.jsonrows import JsonReader
from ext.records import EVENT_NAMES, FLAGS, NAME_KIND_NAMES, REASONS
from feeds.inputs import Input
from feeds.linesource import INVALID, UNDECODABLE, LineSource, Refused

TEXT_BYTES_MAX = 64
SYMBOL, ACCOUNT = NAME_KIND_NAMES.index("symbol"), NAME_KIND_NAMES.index("account")
EVENT_CODES = {name: code for code, name in EVENT_NAMES.items() if name != "Rejected"}
PRECISION, OVERFLOW = REASONS.index("precision"), REASONS.index("overflow")

WITH_SYMBOL = ("MarkPrice", "PositionAdjusted", "InstrumentDefined")
WITH_ACCOUNT = ("PositionAdjusted", "KillSwitch")
NUMBERS = ("price", "volume", "fee", "executed_at", "trade_id", "ref_trade_id")

Value = Raw | UnsetType


class Line(msgspec.Struct):
    """All keys of all events, undecoded."""

    type: Value = UNSET
    trade_id: Value = UNSET
    symbol: Value = UNSET
    price: Value = UNSET
    volume: Value = UNSET
    side: Value = UNSET
    executed_at: Value = UNSET
    account: Value = UNSET
    venue: Value = UNSET
    strategy: Value = UNSET
    fee: Value = UNSET
    exec_type: Value = UNSET
    ref_trade_id: Value = UNSET
    event_id: Value = UNSET
    at: Value = UNSET
    quantity: Value = UNSET
    note: Value = UNSET
    name: Value = UNSET
    price_exponent: Value = UNSET
    quantity_exponent: Value = UNSET
    multiplier: Value = UNSET
    currency: Value = UNSET
    settings: Value = UNSET
    limit: Value = UNSET
    who: Value = UNSET
    engaged: Value = UNSET
    caused_by_seq: Value = UNSET


decode_line = msgspec.json.Decoder(Line).decode
decode_text = msgspec.json.Decoder(str).decode


def bytes_of(value: Value) -> bytes | None:
    """The JSON text of a key; None where it is absent or null."""
    if isinstance(value, UnsetType):
        return None
    raw = bytes(memoryview(value))
    return None if raw == b"null" else raw


def shown(raw: bytes | None) -> str:
    if raw is None:
        return "nothing"
    text = raw.decode("utf-8", "replace")
    return text if len(text) <= 80 else f"{text[:80]}... ({len(raw)} bytes)"


def invalid(field: str, raw: bytes | None, expected: str) -> Refused:
    return Refused(INVALID, f"{field}: found {shown(raw)}, expected {expected}")


def unquoted(field: str, raw: bytes, expected: str) -> bytes:
    """The text of a JSON string."""
    if raw[:1] != b'"':
        raise invalid(field, raw, expected)
    if b"\\" not in raw:
        return raw[1:-1]
    try:
        return decode_text(raw).encode()
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise Refused(UNDECODABLE, f"{field}: found {shown(raw)}, expected a JSON string in UTF-8") from None


def text_field(line: Line, field: str, *, required: bool = False, default: bytes = b"") -> bytes:
    expected = "a text of 1 to 64 bytes" if required else "a text of at most 64 bytes"
    raw = bytes_of(getattr(line, field))
    if raw is None:
        if required:
            raise invalid(field, raw, expected)
        return default
    text = unquoted(field, raw, expected)
    if len(text) > TEXT_BYTES_MAX or (required and not text):
        raise invalid(field, raw, expected)
    return text or default


def scalar(field: str, raw: bytes, expected: str) -> bytes:
    """The text of a JSON number or string."""
    if raw[:1] == b'"':
        return unquoted(field, raw, expected)
    if raw[:1] in b"-0123456789":
        return raw
    raise invalid(field, raw, expected)


def number_field(line: Line, field: str, default: bytes | None = None) -> tuple[int, int, bool]:
    """(mantissa, exponent, wide) of a decimal number."""
    expected = "a decimal number such as 101.25"
    raw = bytes_of(getattr(line, field))
    text = default if raw is None else scalar(field, raw, expected)
    number = None if text is None else parse_number(text)
    if number is None:
        raise invalid(field, raw, expected)
    return number


def integer_field(line: Line, field: str, default: int, low: int, high: int) -> int:
    raw = bytes_of(getattr(line, field))
    if raw is None:
        return default
    expected = f"an integer from {low} to {high}"
    text = scalar(field, raw, expected)
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or not low <= int(text) <= high:
        raise invalid(field, raw, expected)
    return int(text)


def time_field(line: Line, field: str) -> tuple[int, int]:
    """(ns, flags) of a time."""
    expected = "an integer since 1970 or an ISO 8601 time"
    raw = bytes_of(getattr(line, field))
    if raw is None:
        raise invalid(field, raw, expected)
    reason, value = parse_timestamp(scalar(field, raw, expected))
    if reason == INVALID:
        raise invalid(field, raw, expected)
    return (value, 0) if reason == 0 else (0, FLAGS["time_precision" if reason == PRECISION else "time_overflow"])


def decode(raw: bytes) -> Line:
    """Raises Refused (undecodable) for what is no JSON object in UTF-8."""
    try:
        if not raw.isascii():
            raw.decode()
        return decode_line(raw)
    except UnicodeDecodeError as error:
        raise Refused(UNDECODABLE, f"not UTF-8 at byte {error.start} of the line: expected text in UTF-8") from None
    except msgspec.ValidationError:
        raise Refused(UNDECODABLE, "found no JSON object, expected one event as an object") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(UNDECODABLE, f"broken JSON: {error}; expected one object a line") from None


class JsonSource(LineSource):
    """One JSON Lines file as a source of records: trades and marks of flat objects apart (ext.jsonrows)."""

    def _reader(self, source: Input) -> JsonReader:
        return JsonReader(source, self.writer, self)

    def time_of(self, raw: bytes) -> int | None:
        try:
            line = decode(raw)
            time, flags = time_field(line, "executed_at" if bytes_of(line.at) is None else "at")
        except Refused:
            return None
        return None if flags else time

    def add_line(self, raw: bytes) -> None:
        self._add_event(decode(raw))

    def _add_event(self, line: Line) -> None:
        kind = None if line.type is UNSET else bytes_of(line.type)
        name = "TradeExecuted" if kind is None else kind.decode()[1:-1]
        if name not in EVENT_CODES:
            raise invalid("type", kind, "one of " + ", ".join(EVENT_CODES))
        if name == "TradeExecuted":
            self._add_trade(line)
        elif self._is_wanted(name, line):
            ADDERS[name](self, line)

    def _is_wanted(self, name: str, line: Line) -> bool:
        """Whether an event that is no trade passes the filter, and belongs into a feed of marks where this is one.

        One that cannot be read passes: it is refused later, in its own words.
        """
        if self.reading.as_marks and name not in ("MarkPrice", "InstrumentDefined"):
            return False
        try:
            symbol = self._symbol(line) if name in WITH_SYMBOL else None
            account = text_field(line, "account", default=self.account.encode()) if name in WITH_ACCOUNT else None
            time, flags = time_field(line, "at") if name != "InstrumentDefined" else (0, 1)
        except Refused:
            return True
        return self.writer.keeps(symbol, None if account == b"*" else account, None if flags else time)

    def _add_trade(self, line: Line) -> None:
        rules = self.rules
        if self.sided is not rules and bytes_of(line.side) is None:
            rules = self.sided
        fields: list[bytes | None] = []
        for field in FIELD_NAMES:
            raw = bytes_of(getattr(line, field))
            if raw is None:
                fields.append(self.made_id() if field == "trade_id" else None)
            elif field in NUMBERS:
                fields.append(scalar(field, raw, "a string or a number"))
            else:
                fields.append(unquoted(field, raw, "a string"))
        self.writer.add_trade(rules, tuple(fields), self.number)

    def _event_id(self, line: Line) -> bytes:
        raw = bytes_of(line.event_id)
        if raw is None:
            return self.made_id()
        expected = "1 to 64 bytes"
        text = scalar("event_id", raw, expected)
        if not 0 < len(text) <= TEXT_BYTES_MAX:
            raise invalid("event_id", raw, expected)
        return text

    def _symbol(self, line: Line) -> bytes:
        return text_field(line, "symbol", required=True)

    def _add_mark(self, line: Line) -> None:
        event_id, symbol = self._event_id(line), self._symbol(line)
        price, exponent, wide = number_field(line, "price")
        at, flags = time_field(line, "at")
        self.writer.builder.add_record(
            type=EVENT_CODES["MarkPrice"],
            flags=flags | (FLAGS["price_wide"] if wide else 0),
            symbol=self.writer.name(SYMBOL, symbol),
            id=event_id,
            price=price,
            price_exponent=exponent,
            executed_at=at,
        )

    def _add_adjustment(self, line: Line) -> None:
        event_id, symbol = self._event_id(line), self._symbol(line)
        account = text_field(line, "account", default=self.account.encode())
        quantity, quantity_exponent, quantity_wide = number_field(line, "quantity")
        price, price_exponent, price_wide = number_field(line, "price")
        at, flags = time_field(line, "at")
        flags |= FLAGS["price_wide"] if price_wide else 0
        flags |= FLAGS["volume_wide"] if quantity_wide else 0
        note = text_field(line, "note")
        self.writer.builder.add_record(
            type=EVENT_CODES["PositionAdjusted"],
            flags=flags,
            symbol=self.writer.name(SYMBOL, symbol),
            account=self.writer.name(ACCOUNT, account),
            id=event_id,
            ref=note,
            price=price,
            price_exponent=price_exponent,
            volume=quantity,
            volume_exponent=quantity_exponent,
            executed_at=at,
        )

    def _add_session(self, line: Line) -> None:
        event_id, name = self._event_id(line), text_field(line, "name", required=True)
        at, flags = time_field(line, "at")
        self.writer.builder.add_record(
            type=EVENT_CODES["SessionStarted"], flags=flags, id=event_id, ref=name, executed_at=at
        )

    def _add_instrument(self, line: Line) -> None:
        event_id, symbol = self._event_id(line), self._symbol(line)
        multiplier, exponent, wide = number_field(line, "multiplier", b"1")
        if multiplier <= 0:
            raise invalid("multiplier", bytes_of(line.multiplier), "a decimal number above 0")
        if wide:
            raise Refused(OVERFLOW, f"multiplier: found {shown(bytes_of(line.multiplier))}, expected at most 18 digits")
        self.writer.builder.add_record(
            type=EVENT_CODES["InstrumentDefined"],
            price_exponent=integer_field(line, "price_exponent", -9, -18, 0),
            volume_exponent=integer_field(line, "quantity_exponent", -8, -18, 0),
            symbol=self.writer.name(SYMBOL, symbol),
            id=event_id,
            ref=text_field(line, "currency"),
            price=multiplier,
            volume=exponent,
        )

    def _add_limits(self, line: Line) -> None:
        event_id, who = self._event_id(line), text_field(line, "who")
        settings = bytes_of(line.settings) or b"{}"
        limit = bytes_of(line.limit) or b"[]"
        if settings[:1] != b"{":
            raise invalid("settings", settings, "an object as in the limits file")
        if limit[:1] != b"[":
            raise invalid("limit", limit, "an array of objects as in the limits file")
        at, flags = time_field(line, "at")
        blob = b'{"settings":%b,"limit":%b,"who":%b}' % (settings, limit, msgspec.json.encode(who.decode()))
        self.writer.builder.add_record(
            type=EVENT_CODES["LimitsChanged"], flags=flags, id=event_id, ref=blob, executed_at=at
        )

    def _add_kill(self, line: Line) -> None:
        event_id, account = self._event_id(line), text_field(line, "account", required=True)
        engaged = bytes_of(line.engaged)
        if engaged not in (b"true", b"false"):
            raise invalid("engaged", engaged, "true or false")
        at, flags = time_field(line, "at")
        who = text_field(line, "who")
        cause = integer_field(line, "caused_by_seq", 0, 0, 2**63 - 1)
        self.writer.builder.add_record(
            type=EVENT_CODES["KillSwitch"],
            exec_type=1 if engaged == b"true" else 0,
            flags=flags,
            account=0 if account == b"*" else self.writer.name(ACCOUNT, account),
            id=event_id,
            ref=who,
            volume=cause,
            executed_at=at,
        )


ADDERS = {
    "MarkPrice": JsonSource._add_mark,
    "PositionAdjusted": JsonSource._add_adjustment,
    "SessionStarted": JsonSource._add_session,
    "InstrumentDefined": JsonSource._add_instrument,
    "LimitsChanged": JsonSource._add_limits,
    "KillSwitch": JsonSource._add_kill,
}
