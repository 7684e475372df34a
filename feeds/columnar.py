"""Parquet and Arrow IPC: columns by name, read batch by batch; memory does not grow with the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec

from ext.columnrows import ColumnReader
from ext.feedwriter import FIELD_NAMES, FeedWriter, RowRules
from feeds.arrowcolumns import Arrow, arrow_column, check_type, load_arrow
from feeds.columns import REQUIRED, ColumnMap, columns_by_name, show_header
from feeds.errors import FeedError
from feeds.inputs import one_line
from feeds.presets import Preset
from feeds.reading import Reading, id_prefix
from feeds.source import RECORDS, Source

BATCH_ROWS = 65_536
PARQUET_MAGIC, ARROW_MAGIC, STREAM_MAGIC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
CODED_FIELDS = ("symbol", "account", "venue", "strategy", "side", "exec_type")


class ColumnFile:
    """A Parquet or Arrow file: its columns, its size in rows where it says so, and its batches."""

    def __init__(self, path: str, magic: bytes) -> None:
        self.arrow: Arrow = load_arrow(path)
        self._path = path
        self._magic = magic
        self._file = self.arrow.lib.OSFile(path, "r")
        self.rows_total: int | None = None
        try:
            self._open()
            self.names: list[str] = list(self.schema.names)
        except (self.arrow.lib.ArrowException, OSError, ValueError) as error:
            self._file.close()
            raise FeedError(f"{path} cannot be read: {one_line(error)}") from None

    def _open(self) -> None:
        ipc, parquet = self.arrow.ipc, self.arrow.parquet
        if self._magic == PARQUET_MAGIC:
            plain = parquet.ParquetFile(self._file, pre_buffer=False, buffer_size=1 << 20)
            self.schema = plain.schema_arrow
            self.rows_total = plain.metadata.num_rows
        elif self._magic == ARROW_MAGIC:
            self._reader = ipc.open_file(self._file)
            self.schema = self._reader.schema
        else:
            self._reader = ipc.open_stream(self._file)
            self.schema = self._reader.schema

    def batches(self, columns: list[str], coded: list[str]) -> Iterator[Any]:
        """Record batches with the columns named; ``coded`` ones as dictionaries where the file has them so."""
        if self._magic == PARQUET_MAGIC:
            reader = self.arrow.parquet.ParquetFile(
                self._file, pre_buffer=False, buffer_size=1 << 20, read_dictionary=coded
            )
            yield from reader.iter_batches(batch_size=BATCH_ROWS, columns=columns)
        elif self._magic == ARROW_MAGIC:
            for index in range(self._reader.num_record_batches):
                yield from self._pieces(self._reader.get_batch(index))
        else:
            for batch in self._reader:
                yield from self._pieces(batch)

    def _pieces(self, batch: Any) -> Iterator[Any]:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)

    @property
    def trusted(self) -> bool:
        """Whether Arrow made the buffers itself; those of an IPC file are the file's bytes."""
        return self._magic == PARQUET_MAGIC

    def close(self) -> None:
        """Release the file."""
        self._file.close()


class ColumnSource(Source):
    """One Parquet or Arrow file as a source of records. Raises FeedError where its columns cannot be used."""

    unit = RECORDS
    reader: ColumnReader

    def __init__(
        self, file: ColumnFile, path: str, writer: FeedWriter, name: str, columns: ColumnMap, reading: Reading,
        preset: Preset | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self._bytes_total = os.path.getsize(path)
        self._file = file
        self._names = self._find_columns(columns, reading.as_marks)
        self._round = dict(preset.round) if preset else {}
        keep = self._find_guard(preset)
        self._batch: Any = None
        self.damage: str | None = None
        self._ended = False
        wanted = sorted({*self._names.values(), *([self._guard] if self._guard else [])})
        has_side, has_id = self._has("side", columns), self._has("trade_id", columns)
        if reading.side is None and not has_side and not reading.as_marks:
            raise FeedError(f"{name}: no column side: say --side buy, sell or tick, or name it with --map side=COLUMN")
        self._batches = Ahead(file.batches(wanted, self._coded()))
        self._prepared: list[Any] = []
        try:
            first = self._take_batch()
            prefix = None
            if not has_id or reading.as_marks:
                prefix = id_prefix(self.row_text(0) if first else b"")
            rules = rules_of(reading.without_side() if has_side else reading, preset, prefix, keep)
            constants = {FIELD_NAMES.index(field): text.encode() for field, text in columns.constants.items()}
            self.reader = ColumnReader(self, writer, rules, constants)
            if first:
                self._load()
        except BaseException:
            self._batches.close()
            raise

    def _has(self, field: str, columns: ColumnMap) -> bool:
        return field in self._names or field in columns.constants

    def _find_columns(self, columns: ColumnMap, as_marks: bool) -> dict[str, str]:
        if columns.numbered:
            raise FeedError(f"{self.name}: map: columns have names here: give them instead of numbers")
        header = self._file.names
        found = columns_by_name(header, columns, self.name)
        for field in REQUIRED:
            if field not in found and field not in columns.constants and not (as_marks and field == "volume"):
                raise FeedError(
                    f"{self.name}: no column {field}: the columns are {show_header(header)}; name it with "
                    f"--map {field}=COLUMN"
                )
        for field, column in found.items():
            check_type(self._file.arrow, field, column, self._file.schema.field(column).type, self.name)
        return found

    def _find_guard(self, preset: Preset | None) -> tuple[str, ...]:
        """Note the column that says which rows are trades; the values with which they are."""
        self._guard = ""
        if preset is None or preset.keep is None:
            return ()
        column, values = preset.keep
        if column not in self._file.names:
            if preset.own:
                raise FeedError(f"{self.name}: keep: there is no column {column!r}")
            return ()
        check_type(self._file.arrow, "keep", column, self._file.schema.field(column).type, self.name)
        self._guard = column
        return values

    def _coded(self) -> list[str]:
        types = self._file.arrow.types
        schema = self._file.schema
        names = {self._names[field] for field in CODED_FIELDS if field in self._names}
        return [name for name in names if types.is_string(schema.field(name).type)]

    # --- batches ---

    def next_batch(self) -> bool:
        """Give the reader the next batch that has rows; False at the end, or where the file is damaged: `damage`."""
        if self._batch is None or not self._take_batch():
            return False
        self._load()
        return True

    def _take_batch(self) -> bool:
        while not self._ended:
            try:
                batch = self._batches.next()
                if batch is not None and batch.num_rows:
                    self._prepare(batch)
                    return True
            except (self._file.arrow.lib.ArrowException, OSError, ValueError, OverflowError) as error:
                self._set_damage(error)
                batch = None
            self._ended = batch is None
        self._batch = None
        return False

    def _set_damage(self, error: BaseException) -> None:
        row = self.reader.records_read + 1 if hasattr(self, "reader") else 1
        self.damage = f"{self.name} is damaged at row {row}: {one_line(error)}"

    def _prepare(self, batch: Any) -> None:
        columns, kept = [], [batch]
        fields = [*self._names.items(), *([("keep", self._guard)] if self._guard else [])]
        for field, name in fields:
            array = batch.column(batch.schema.get_field_index(name))
            column, keep = arrow_column(self._file.arrow, field, array, self._round.get(field, -1), self._file.trusted)
            if column is not None:
                columns.append(column)
                kept.append(keep)
        self._batch, self._prepared, self._kept = batch, columns, kept
        self._sound: dict[str, bool] = {}

    def _load(self) -> None:
        self.reader.load(self._kept, self._batch.num_rows, self._prepared)

    def row_text(self, index: int) -> bytes:
        """A row's mapped columns as a JSON object: what stands for its bytes."""
        errors = (self._file.arrow.lib.ArrowException, ValueError, OverflowError, IndexError)
        values = dict.fromkeys(self._names.values())
        for name in values:
            if self._is_sound(name):
                with suppress(*errors):
                    values[name] = self._batch.column(self._batch.schema.get_field_index(name))[index].as_py()
        return msgspec.json.encode(values, enc_hook=str)

    def _is_sound(self, name: str) -> bool:
        """Whether a column of the batch can be shown: Arrow would read an untrusted one beyond its buffers."""
        if name not in self._sound:
            self._sound[name] = True
            if not self._file.trusted:
                try:
                    self._batch.column(self._batch.schema.get_field_index(name)).validate(full=True)
                except self._file.arrow.lib.ArrowException:
                    self._sound[name] = False
        return self._sound[name]

    # --- the source ---

    @property
    def bytes_read(self) -> int:
        """By the rows taken, where the file says how many there are; else by the place in the file."""
        total, rows = self._bytes_total, self._file.rows_total
        if rows is None:
            return total if self._ended else int(self._file._file.tell())
        return total * self.reader.records_read // max(rows, 1)

    @property
    def bytes_total(self) -> int | None:
        return self._bytes_total

    def close(self) -> None:
        self._batches.close()
        self._file.close()


def rules_of(reading: Reading, preset: Preset | None, prefix: bytes | None, keep: tuple[str, ...]) -> RowRules:
    if preset is None:
        return reading.rules(id_prefix=prefix)
    return reading.rules(
        id_prefix=prefix,
        side_texts=preset.sides,
        price_shift=preset.price_shift,
        time_base_ns=preset.time_base_ns,
        time_unit_ns=preset.time_unit_ns,
        keep=keep,
    )


class Ahead:
    """Batches, each decoded by another thread while the one before it is made into records."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._thread = ThreadPoolExecutor(1, "columns")
        self._coming: Future[Any] | None = self._thread.submit(next, batches, None)

    def next(self) -> Any:
        """The next batch, or None at the end. Raises what its decoding raised; after that, and at the end, there is no
        other."""
        if self._coming is None:
            return None
        coming, self._coming = self._coming, None
        batch = coming.result()
        if batch is not None:
            self._coming = self._thread.submit(next, self._batches, None)
        return batch

    def close(self) -> None:
        """Wait for what is being decoded: it reads the file."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._coming = None
