"""Frames of a feed as plain rows, for tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from ext.records import EVENT_NAMES, EXEC_TYPES, FLAGS, REASONS, SIDES, Frame
from feeds import open_feed


class Row(NamedTuple):
    type: str
    id: str
    symbol: str
    price: Decimal
    volume: Decimal
    side: str
    executed_at: int
    account: str
    venue: str
    strategy: str
    fee: Decimal
    exec_type: str
    ref: str
    flags: frozenset[str]
    line: int
    raw: bytes
    source: str

    @property
    def reason(self) -> str:
        return self.exec_type if self.type == "Rejected" else ""


class Names:
    """The definitions of a feed's frames so far."""

    def __init__(self) -> None:
        self.texts: dict[tuple[int, int], str] = {}

    def learn(self, frame: Frame) -> None:
        for kind, number, text in frame.definitions():
            assert (kind, number) not in self.texts, "a name is defined once"
            self.texts[kind, number] = text.decode()

    def __call__(self, kind: int, number: int) -> str:
        return self.texts[kind, int(number)] if number else ""


def decode_frame(buffer: bytearray, names: Names) -> list[Row]:
    frame = Frame(bytes(buffer))
    names.learn(frame)
    return [row_of(frame, i, names) for i in range(len(frame))]


def row_of(frame: Frame, i: int, names: Names) -> Row:
    r = frame.records[i]
    kind = EVENT_NAMES[int(r["type"])]
    line, raw = frame.origin(i)
    exec_type = REASONS[r["exec_type"]] if kind == "Rejected" else EXEC_TYPES[r["exec_type"]]
    return Row(
        kind,
        frame.id(i).decode(),
        names(0, r["symbol"]),
        Decimal(int(r["price"])).scaleb(int(r["price_exponent"])),
        Decimal(int(r["volume"])).scaleb(int(r["volume_exponent"])),
        SIDES[r["side"]],
        int(r["executed_at"]),
        names(1, r["account"]),
        names(2, r["venue"]),
        names(3, r["strategy"]),
        Decimal(int(r["fee"])).scaleb(-9),
        exec_type,
        frame.ref(i).decode(),
        frozenset(name for name, bit in FLAGS.items() if r["flags"] & bit),
        line,
        raw,
        frame.origin_source(i)[0].decode(),
    )


def read_rows(paths: Any, max_records: int = 512, **options: Any) -> list[Row]:
    names = Names()
    rows: list[Row] = []
    with open_feed(paths, **options) as feed:
        while (buffer := feed.next_frame(max_records)) is not None:
            decoded = decode_frame(buffer, names)
            assert 1 <= len(decoded) <= max_records
            rows += decoded
        assert feed.records_read == len(rows)
        assert feed.next_frame() is None
    return rows
