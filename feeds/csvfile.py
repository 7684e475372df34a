"""Canonical CSV, and any CSV whose columns a map or a preset names (DESIGN section 9)."""

from __future__ import annotations

import csv
import io

from ext.csvrows import CsvReader
from ext.feedwriter import FeedWriter, RowRules
from feeds.columns import ColumnMap, Layout, check_required, guard, layout_by_name, layout_by_number
from feeds.errors import FeedError
from feeds.inputs import Input
from feeds.presets import Preset
from feeds.reading import Reading, id_prefix
from feeds.source import Source

HEADER_HINT = "trade_id,symbol,price,volume,side,executed_at"


class CsvSource(Source):
    """One CSV file as a source of records. Raises FeedError where its header cannot be used."""

    reader: CsvReader

    def __init__(
        self,
        source: Input,
        writer: FeedWriter,
        name: str,
        *,
        columns: ColumnMap,
        reading: Reading | None = None,
        preset: Preset | None = None,
    ) -> None:
        super().__init__(name, source)
        self._reading = reading or Reading()
        self._delimiter = preset.delimiter if preset else ","
        self.reader = CsvReader(source, writer, delimiter=self._delimiter)
        layout = self._find_columns(columns, preset)
        self.reader.configure(layout.targets, layout.constants, layout.copies)
        self.reader.begin(self._rules(layout, preset))

    def _find_columns(self, columns: ColumnMap, preset: Preset | None) -> Layout:
        header: list[str] | None
        if columns.numbered:
            header = None
            found = self._first_row_layout(columns)
        else:
            header = self._read_header()
            found = layout_by_name(header, columns, self.name)
        check_required(found, header, self.name, self._reading.as_marks)
        self._keep: tuple[str, ...] = ()
        if preset is not None and preset.keep is not None:
            column, values = preset.keep
            if guard(found, header, column):
                self._keep = values
            elif preset.own:
                raise FeedError(f"{self.name}: keep: there is no column {column!r}")
        return found

    def _read_header(self) -> list[str]:
        try:
            raw = self.reader.read_header()
        except ValueError as error:
            raise FeedError(f"{self.name}: the header is unusable: {error}; expected {HEADER_HINT}") from None
        if raw is None:
            reason = self.reader.damage or f"{self.name} is empty"
            raise FeedError(f"{reason}: expected a header such as {HEADER_HINT}")
        if b"\0" in raw:
            raise FeedError(f"{self.name} is binary: expected a CSV header such as {HEADER_HINT}")
        try:
            lines = csv.reader(io.StringIO(raw.decode(), newline=""), strict=True, delimiter=self._delimiter)
            return next(lines)
        except (UnicodeDecodeError, csv.Error):
            raise FeedError(f"{self.name} is no text in UTF-8: expected a CSV header such as {HEADER_HINT}") from None

    def _first_row_layout(self, columns: ColumnMap) -> Layout:
        first = self.reader.first_record()
        if first is None:
            numbers = [int(column) for column in columns.columns.values()]
            return layout_by_number(max(numbers), columns, self.name)
        if b"\0" in first:
            raise FeedError(f"{self.name} is binary: expected CSV")
        return layout_by_number(self.reader.columns_found, columns, self.name)

    def _rules(self, layout: Layout, preset: Preset | None) -> RowRules:
        reading, prefix = self._reading, None
        if not layout.has("trade_id") or reading.as_marks:
            prefix = id_prefix(self.reader.first_record() or b"")
        if layout.has("side"):
            reading = reading.without_side()
        elif reading.side is None and not reading.as_marks:
            raise FeedError(
                f"{self.name}: no column side: say --side buy, sell or tick, or name it with --map side=COLUMN"
            )
        if preset is None:
            return reading.rules(id_prefix=prefix)
        return reading.rules(
            id_prefix=prefix,
            side_texts=preset.sides,
            price_shift=preset.price_shift,
            time_base_ns=preset.time_base_ns,
            time_unit_ns=preset.time_unit_ns,
            keep=self._keep,
        )
