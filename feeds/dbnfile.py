"""Databento Binary Encoding, versions 1 to 3: trades of the schemas trades, mbo, mbp-1, mbp-10, tbbo, cmbp-1, tcbbo.

https://databento.com/docs/standards-and-conventions/databento-binary-encoding
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from struct import Struct
from struct import error as StructError

from ext.bytewindow import ByteWindow
from ext.dbnrecords import DbnReader
from ext.feedwriter import FIELD_NAMES, SIDE_TEXTS, FeedWriter
from feeds.columns import ColumnMap
from feeds.errors import FeedError
from feeds.guessing import DBN_MAGIC
from feeds.inputs import Input
from feeds.reading import Reading, id_prefix
from feeds.source import BYTES, Source

METADATA_BYTES_MAX = 256 * 1024 * 1024
HEADER = Struct("<3sBI")
FIXED = Struct("<16sHQQQ")
SCHEMA_NONE = 0xFFFF
SCHEMAS = (
    "mbo", "mbp-1", "mbp-10", "tbbo", "trades", "ohlcv-1s", "ohlcv-1m", "ohlcv-1h", "ohlcv-1d", "definition",
    "statistics", "status", "imbalance", "ohlcv-eod", "cmbp-1", "cbbo-1s", "cbbo-1m", "tcbbo", "bbo-1s", "bbo-1m",
)  # fmt: skip
WITH_TRADES = ("mbo", "mbp-1", "mbp-10", "tbbo", "trades", "cmbp-1", "tcbbo")
WITH_QUOTES = ("cbbo-1s", "cbbo-1m", "bbo-1s", "bbo-1m")
INSTRUMENT_ID = 0
SYMBOL_BYTES_V1, SYMBOL_BYTES = 22, 71
FIXED_BYTES, RESERVED_V1, RESERVED = 100, 47, 53
SIDES = {"B": SIDE_TEXTS["buy"], "A": SIDE_TEXTS["sell"]}
CONSTANT_FIELDS = ("account", "venue", "strategy", "fee")
INT64_MAX = 2**63 - 1

Intervals = dict[int, list[tuple[int, int, bytes]]]


class Cursor:
    """Reads the metadata; what is not there is a ValueError."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise ValueError("it breaks off")
        self._at += size
        return part

    def number(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def text(self, size: int) -> str:
        return self.take(size).partition(b"\0")[0].decode()

    def skip_texts(self, size: int) -> None:
        self.take(self.number() * size)


class Metadata:
    """What a stream says of itself. Raises ValueError where it cannot be read."""

    def __init__(self, version: int, data: bytes) -> None:
        name, schema, *_ = FIXED.unpack_from(data.ljust(FIXED.size, b"\0"))
        self.version = version
        self.dataset = name.partition(b"\0")[0].decode()
        self.schema = "" if schema == SCHEMA_NONE else SCHEMAS[schema] if schema < len(SCHEMAS) else f"schema {schema}"
        at = FIXED.size + (8 if version == 1 else 0)
        cursor = Cursor(data, at)
        stype_in, stype_out, _ = cursor.take(3)
        symbol_bytes = SYMBOL_BYTES_V1 if version == 1 else int.from_bytes(cursor.take(2), "little")
        cursor.take(RESERVED_V1 if version == 1 else RESERVED)
        cursor.take(cursor.number())
        for _ in range(3):
            cursor.skip_texts(symbol_bytes)
        self.symbols = read_mappings(cursor, symbol_bytes, stype_in, stype_out)


def read_mappings(cursor: Cursor, symbol_bytes: int, stype_in: int, stype_out: int) -> Intervals:
    """What each instrument id means and when, by start."""
    found: Intervals = {}
    for _ in range(cursor.number()):
        asked = cursor.text(symbol_bytes)
        for _ in range(cursor.number()):
            start, end = midnight_ns(cursor.number()), midnight_ns(cursor.number())
            given = cursor.text(symbol_bytes)
            if stype_out == INSTRUMENT_ID:
                number, symbol = given, asked
            elif stype_in == INSTRUMENT_ID:
                number, symbol = asked, given
            else:
                continue
            if number.isdecimal() and int(number) < 2**32 and symbol and start < end:
                found.setdefault(int(number), []).append((start, end, symbol.encode()))
    return {number: without_overlaps(intervals) for number, intervals in found.items()}


def without_overlaps(intervals: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """By start; where two overlap, the later one begins where the earlier one ends."""
    done: list[tuple[int, int, bytes]] = []
    for start, end, symbol in sorted(intervals):
        start = max(start, done[-1][1]) if done else start
        if start < end:
            done.append((start, end, symbol))
    return done


def midnight_ns(yyyymmdd: int) -> int:
    day = date(yyyymmdd // 10000, yyyymmdd // 100 % 100, yyyymmdd % 100)
    seconds = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    return max(-INT64_MAX, min(seconds * 10**9, INT64_MAX))


class DbnSource(Source):
    """One DBN stream as a source of records; ``columns`` may set constants."""

    unit = BYTES

    def __init__(self, source: Input, writer: FeedWriter, name: str, columns: ColumnMap, reading: Reading) -> None:
        super().__init__(name, source)
        window = ByteWindow(source)
        metadata = self._read_metadata(window)
        self._check_schema(metadata.schema, reading.as_marks)
        reader = DbnReader(window, writer, metadata.version, self._constants(columns, metadata))
        for number, intervals in metadata.symbols.items():
            reader.map_symbol(number, intervals)
        reader.expect_marks(reading.as_marks)
        prefix = id_prefix(reader.first_record() or b"")
        reader.begin(
            reading.without_side().rules(id_prefix=prefix, side_texts=SIDES),
            reading.rules(id_prefix=prefix, side_texts=SIDES),
        )
        self.reader = reader

    def _read_metadata(self, window: ByteWindow) -> Metadata:
        try:
            head = window.read(HEADER.size)
            if not head.startswith(DBN_MAGIC):
                raise FeedError(f"{self.name} is no Databento DBN: leave --format out, or give another file")
            if len(head) < HEADER.size:
                raise ValueError("it breaks off")
            _, version, size = HEADER.unpack(head)
            if not 1 <= version <= 3:
                raise FeedError(f"{self.name} is DBN version {version}: riskwire reads versions 1 to 3")
            if not FIXED_BYTES <= size <= METADATA_BYTES_MAX:
                raise ValueError(f"its length is {size}")
            data = window.read(size)
            if len(data) < size:
                raise ValueError("it breaks off")
            return Metadata(version, data)
        except (ValueError, ArithmeticError, StructError) as error:
            raise FeedError(f"{self.name} is Databento DBN with unreadable metadata: {error}") from None

    def _check_schema(self, schema: str, as_marks: bool) -> None:
        good = (*WITH_TRADES, *WITH_QUOTES) if as_marks else WITH_TRADES
        if schema and schema not in good:
            raise FeedError(f"{self.name} holds {schema}: expected one of {', '.join(good)}")

    def _constants(self, columns: ColumnMap, metadata: Metadata) -> dict[int, bytes]:
        if columns.columns or set(columns.constants) - set(CONSTANT_FIELDS):
            raise FeedError(
                f"{self.name}: map: DBN names its fields itself: only {', '.join(CONSTANT_FIELDS)} can be set, as in "
                "venue==CME"
            )
        texts = {"venue": metadata.dataset, **columns.constants}
        return {FIELD_NAMES.index(field): text.encode() for field, text in texts.items()}
