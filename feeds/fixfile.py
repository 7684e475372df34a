"""FIX 4.0 to 5.0 logs (drop copies): the ExecutionReports that are fills, and what corrects or busts them.

https://www.fixtrading.org/online-specification/ (ExecutionReport, ExecType, ExecTransType)
"""

from __future__ import annotations

from ext.feedwriter import FIELD_NAMES, SIDE_TEXTS, FeedWriter
from ext.fixlog import FixReader
from feeds.columns import ColumnMap
from feeds.errors import FeedError
from feeds.inputs import Input
from feeds.reading import Reading, id_prefix
from feeds.source import Source

# Field to tag: ExecID, Symbol, LastPx, LastQty, Side, TransactTime, Account, LastMkt, Commission, ExecRefID.
TAGS = {
    "trade_id": 17,
    "symbol": 55,
    "price": 31,
    "volume": 32,
    "side": 54,
    "executed_at": 60,
    "account": 1,
    "venue": 30,
    "fee": 12,
    "ref_trade_id": 19,
}
# Buy, sell, buy minus, sell plus, sell short, sell short exempt.
SIDES = {
    "1": SIDE_TEXTS["buy"],
    "2": SIDE_TEXTS["sell"],
    "3": SIDE_TEXTS["buy"],
    "4": SIDE_TEXTS["sell"],
    "5": SIDE_TEXTS["sell"],
    "6": SIDE_TEXTS["sell"],
}


class FixSource(Source):
    """One FIX log as a source of records; ``columns`` maps fields to tags."""

    def __init__(self, source: Input, writer: FeedWriter, name: str, columns: ColumnMap, reading: Reading) -> None:
        super().__init__(name, source)
        constants = {FIELD_NAMES.index(field): text.encode() for field, text in columns.constants.items()}
        reader = FixReader(source, writer, self._tags(columns), constants, reading.lenient)
        if not reader.has_message():
            raise FeedError(f"{name} holds no FIX message: expected messages that start with 8=FIX")
        prefix = None
        if reading.as_marks:
            prefix = id_prefix(reader.first_record() or b"")
        reader.begin(
            reading.without_side().rules(id_prefix=prefix, side_texts=SIDES),
            reading.rules(id_prefix=prefix, side_texts=SIDES),
        )
        self.reader = reader

    def _tags(self, columns: ColumnMap) -> dict[int, int]:
        if columns.columns and not columns.numbered:
            raise FeedError(f"{self.name}: map: fields of FIX are tags: expected for example strategy=109")
        if "exec_type" in columns.columns or "exec_type" in columns.constants:
            raise FeedError(f"{self.name}: map: exec_type follows from ExecType and ExecTransType")
        if "executed_at" in columns.constants:
            raise FeedError(f"{self.name}: map: executed_at cannot be a constant: expected a tag")
        tags = {field: tag for field, tag in TAGS.items() if field not in columns.constants}
        tags.update({field: int(tag) for field, tag in columns.columns.items()})
        return {FIELD_NAMES.index(field): tag for field, tag in tags.items()}
