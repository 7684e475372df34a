"""Canonical CSV, and any CSV whose columns a map or a preset names (DESIGN section 9)."""

from __future__ import annotations

import csv
import hashlib
import io

from ext.csvrows import CsvReader
from ext.feedwriter import FeedWriter, RowRules
from feeds.columns import ColumnMap, Layout, check_required, layout_by_name, layout_by_number
from feeds.errors import FeedError
from feeds.inputs import Input
from feeds.presets import Preset

HEADER_HINT = "trade_id,symbol,price,volume,side,executed_at"


class CsvSource:
    """One CSV file as a source of records. Raises FeedError where its header cannot be used."""

    unit = 0

    def __init__(
        self,
        source: Input,
        writer: FeedWriter,
        name: str,
        *,
        columns: ColumnMap,
        side: str | None = None,
        account: str | None = None,
        preset: Preset | None = None,
    ) -> None:
        self.name = name
        self._input = source
        self._reader = CsvReader(source, writer, delimiter=preset.delimiter if preset else ",")
        layout = self._find_columns(columns)
        self._reader.configure(layout.targets, layout.constants, layout.copies)
        self._reader.begin(self._rules(layout, side, account, preset))

    def _find_columns(self, columns: ColumnMap) -> Layout:
        if columns.numbered:
            header = None
            found = self._first_row_layout(columns)
        else:
            header = self._read_header()
            found = layout_by_name(header, columns, self.name)
        check_required(found, header, self.name)
        return found

    def _read_header(self) -> list[str]:
        try:
            raw = self._reader.read_header()
        except ValueError as error:
            raise FeedError(f"{self.name}: the header is unusable: {error}; expected {HEADER_HINT}") from None
        if raw is None:
            raise FeedError(f"{self.name} is empty: expected a header such as {HEADER_HINT}")
        if b"\0" in raw:
            raise FeedError(f"{self.name} is binary: expected a CSV header such as {HEADER_HINT}")
        try:
            return next(csv.reader(io.StringIO(raw.decode(), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error):
            raise FeedError(f"{self.name} is no text in UTF-8: expected a CSV header such as {HEADER_HINT}") from None

    def _first_row_layout(self, columns: ColumnMap) -> Layout:
        first = self._reader.first_record()
        if first is None:
            numbers = [int(column) for column in columns.columns.values()]
            return layout_by_number(max(numbers), columns, self.name)
        if b"\0" in first:
            raise FeedError(f"{self.name} is binary: expected CSV")
        return layout_by_number(self._reader.columns_found, columns, self.name)

    def _rules(self, layout: Layout, side: str | None, account: str | None, preset: Preset | None) -> RowRules:
        prefix = None
        if not layout.has("trade_id"):
            prefix = hashlib.sha256(self._reader.first_record() or b"").hexdigest()[:16].encode()
        if layout.has("side"):
            side = None
        elif side is None:
            raise FeedError(
                f"{self.name}: no column side: say --side buy, sell or tick, or name it with --map side=COLUMN"
            )
        return RowRules(
            side=side,
            account="default" if account is None else account,
            id_prefix=prefix,
            side_texts=dict(preset.sides) if preset and preset.sides else None,
            price_shift=preset.price_shift if preset else 0,
            time_base_ns=preset.time_base_ns if preset else 0,
            time_unit_ns=preset.time_unit_ns if preset else 0,
        )

    @property
    def records_read(self) -> int:
        return self._reader.records_read

    @property
    def bytes_read(self) -> int:
        return self._input.position

    @property
    def bytes_total(self) -> int | None:
        return self._input.total

    def head(self) -> tuple[bool, int | None]:
        return self._reader.head()

    def fill(self, records_max: int, limit: int | None = None) -> bool:
        return self._reader.fill(records_max, limit)

    def close(self) -> None:
        self._input.close()
