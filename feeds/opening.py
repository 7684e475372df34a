"""open_feed: any recorded feed by its path."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from ext.feedfilter import RowFilter
from ext.feedwriter import FeedWriter
from feeds.columns import ColumnMap, parse_map
from feeds.errors import FeedError, JournalFeed
from feeds.feed import Feed
from feeds.guessing import COLUMN_FORMATS, column_magic, guess_format
from feeds.inputs import BOM, PEEK_BYTES, Input, open_inputs, peek
from feeds.presets import PRESETS, Preset, fit_to_name, preset_of_header
from feeds.reading import Reading
from feeds.source import Source

FORMATS = ("csv", "jsonl", "journal", "capture", "fix", "dbn", *COLUMN_FORMATS, *PRESETS)
SIDES = ("buy", "sell", "tick")
ACCOUNTS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Options:
    """What open_feed was told about its files."""

    format: str | None = None
    map: ColumnMap = field(default_factory=ColumnMap)
    preset: Preset | None = None
    reading: Reading = field(default_factory=Reading)
    source_name: str | None = None


Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def open_feed(
    paths: Paths,
    *,
    format: str | None = None,
    map: str | Mapping[str, str] | None = None,
    side: str | None = None,
    account: str | None = None,
    accounts: int | None = None,
    seed: int = 0,
    marks: Paths = (),
    time_from: int | None = None,
    time_to: int | None = None,
    only_symbols: Iterable[str] = (),
    only_accounts: Iterable[str] = (),
    max_records: int | None = None,
    lenient: bool = False,
    source_name: str | None = None,
) -> Feed:
    """Open one recorded feed, or several merged by executed_at of their heads (ties in the order given).

    ``format``: one of FORMATS; None: guessed from the content. ``map``: which column is which field of a CSV
    (``price=px,volume=qty``; column numbers where there is no header; ``symbol==BCHEUR`` is a constant), or the name of
    a preset in TOML. ``side``: ``buy``, ``sell`` or ``tick`` where the feed has none. ``account``: of records that name
    none (default ``default``); ``accounts``: so many of them instead, shared out by a hash of ``seed``, symbol and
    trade id. ``marks``: feeds whose trades and quotes come as MarkPrice, merged by time, before trades of the same
    time. ``time_from`` (inclusive) and ``time_to`` (exclusive), in ns, and the globs ``only_symbols`` and
    ``only_accounts``: what is not of them is left out. ``max_records``: stop after so many. ``lenient``: take FIX
    messages in spite of their checksums and lengths. ``source_name``: what dead letters call the feed instead of its
    path.

    Raises FeedError for what cannot be read at all (no file, no usable header), JournalFeed for a journal directory.
    """
    files = listed(paths)
    reading = Reading(side, account, accounts or 0, seed, lenient=lenient)
    columns, preset = load_map(map)
    options = Options(format, columns, preset, reading, source_name)
    check_options(files, options, max_records)
    row_filter = make_filter(time_from, time_to, list(only_symbols), list(only_accounts))
    writer = FeedWriter()
    if row_filter is not None:
        writer.filter_rows(row_filter)
    marking = Options(reading=Reading(as_marks=True, lenient=lenient))
    sources: list[Source] = []
    try:
        for path, how in [(path, marking) for path in listed(marks)] + [(path, options) for path in files]:
            sources.extend(open_sources(path, writer, how))
    except BaseException:
        for source in sources:
            source.close()
        raise
    return Feed(sources, writer, max_records)


def listed(paths: Paths) -> list[str]:
    return [os.fspath(paths)] if isinstance(paths, (str, os.PathLike)) else [os.fspath(path) for path in paths]


def load_map(given: str | Mapping[str, str] | None) -> tuple[ColumnMap, Preset | None]:
    """A map as it stands, or a preset where a TOML file is named."""
    if isinstance(given, str) and given.endswith(".toml") and "=" not in given:
        from feeds.ownpresets import load_preset

        return ColumnMap(), load_preset(given)
    return parse_map(given), None


def make_filter(
    time_from: int | None, time_to: int | None, symbols: list[str], accounts: list[str]
) -> RowFilter | None:
    if time_from is not None and time_to is not None and time_from >= time_to:
        raise FeedError("nothing lies between the times given: the first must be before the second")
    for glob in symbols + accounts:
        if not 0 < len(glob.encode("utf-8", "replace")) <= 64:
            raise FeedError(f"glob {glob[:80]!r}: expected 1 to 64 bytes")
    if time_from is None and time_to is None and not symbols and not accounts:
        return None
    return RowFilter(from_ns=time_from, to_ns=time_to, symbols=symbols, accounts=accounts)


def check_options(files: list[str], options: Options, max_records: int | None) -> None:
    reading = options.reading
    if not files:
        raise FeedError("no feed given: expected at least one file")
    if options.format is not None and options.format not in FORMATS:
        raise FeedError(f"unknown format {options.format!r}: expected one of {', '.join(FORMATS)}")
    if reading.side is not None and reading.side not in SIDES:
        raise FeedError(f"unknown side {reading.side!r}: expected buy, sell or tick")
    if reading.account is not None and not 0 < len(reading.account.encode("utf-8", "replace")) <= 64:
        raise FeedError(f"account {reading.account[:80]!r}: expected 1 to 64 bytes")
    if not 0 <= reading.accounts <= ACCOUNTS_MAX:
        raise FeedError(f"accounts: expected 1 to {ACCOUNTS_MAX}, found {reading.accounts}")
    if reading.accounts and reading.account is not None:
        raise FeedError("an account, or so many accounts: give one of both")
    if max_records is not None and max_records < 1:
        raise FeedError(f"max_records: expected at least 1, found {max_records}")
    given = options.map.columns or options.map.constants or options.preset
    if options.format in ("jsonl", "journal", "capture") and given:
        raise FeedError(f"map is for CSV: a {options.format} feed names its fields itself")
    if options.preset is not None and options.format in PRESETS:
        raise FeedError(f"--format {options.format} and a preset of your own: give one of both")


def open_sources(path: str, writer: FeedWriter, options: Options) -> list[Source]:
    """The sources of one path: one, or as many as a .zip holds."""
    if os.path.isdir(path) and (options.format == "journal" or is_journal(path)):
        raise JournalFeed(path)
    if options.format == "journal":
        raise FeedError(f"{path} is no directory: expected a journal directory")
    sources: list[Source] = []
    try:
        for opened in open_inputs(path):
            name = options.source_name or path
            if opened.name.startswith(os.path.basename(path) + ":"):
                name += opened.name[len(os.path.basename(path)) :]
            try:
                sources.append(open_source(opened, path, name, writer, options))
            except BaseException:
                opened.close()
                raise
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


def open_source(opened: Input, path: str, name: str, writer: FeedWriter, options: Options) -> Source:
    peeked = peek(opened)
    if not peeked.head or (opened.total is not None and is_blank(peeked.head)):
        reason = str(peeked.damage) if peeked.damage else f"{name} is empty"
        raise FeedError(f"{reason}: expected a header or a record")
    magic = column_magic(peeked.head)
    if magic is not None:
        return open_columns(opened, magic, path, name, writer, options)
    if options.format in COLUMN_FORMATS:
        raise FeedError(f"{name} is no {options.format} file: leave --format out, or give another file")
    known = bool(options.map.columns or options.preset)
    found = options.format or guess_format(peeked.head, name, known)
    if found in ("jsonl", "capture", "fix", "dbn"):
        return open_messages(found, peeked.input, name, writer, options)
    from feeds.csvfile import CsvSource

    preset, columns = fitted(options.preset or PRESETS.get(found), opened.name, name, found, options.map)
    return CsvSource(peeked.input, writer, name, columns=columns, reading=options.reading, preset=preset)


def is_blank(head: bytes) -> bool:
    """Whether the beginning of a file is all of it, and nothing but white space."""
    return len(head) < PEEK_BYTES and not head.removeprefix(BOM).strip()


def open_messages(found: str, source: Input, name: str, writer: FeedWriter, options: Options) -> Source:
    """Open what is no table. A format's module is imported where the first file of the format is."""
    if found == "jsonl":
        from feeds.jsonl import JsonSource

        return JsonSource(source, writer, name, options.reading)
    if found == "capture":
        from feeds.capture import CaptureSource

        return CaptureSource(source, writer, name, options.reading)
    if options.preset is not None:
        raise FeedError(f"{name}: a preset is for tables, and this is {found}")
    if found == "fix":
        from feeds.fixfile import FixSource

        return FixSource(source, writer, name, options.map, options.reading)
    from feeds.dbnfile import DbnSource

    return DbnSource(source, writer, name, options.map, options.reading)


def open_columns(opened: Input, magic: bytes, path: str, name: str, writer: FeedWriter, options: Options) -> Source:
    """Open a Parquet or Arrow file: a plain one, as it is read from several places."""
    from feeds.columnar import ColumnFile, ColumnSource
    from feeds.inputs import PlainInput

    if not isinstance(opened, PlainInput) or opened.total is None:
        raise FeedError(f"{name} is {COLUMN_NAMES[magic]} in a compressed file or a pipe: unpack it into a file first")
    if options.format not in (None, *COLUMN_FORMATS, *PRESETS):
        raise FeedError(f"{name} is {COLUMN_NAMES[magic]}, not {options.format}: leave --format out")
    opened.close()
    file = ColumnFile(path, magic)
    try:
        found = options.format if options.format in PRESETS else None
        header = set(file.names)
        if found is None and "executed_at" not in header and not options.map.columns:
            found = preset_of_header(header)
        preset, columns = fitted(
            options.preset or PRESETS.get(found or ""), os.path.basename(path), name, found or "", options.map
        )
        return ColumnSource(file, path, writer, name, columns, options.reading, preset)
    except BaseException:
        file.close()
        raise


COLUMN_NAMES = {b"PAR1": "Parquet", b"ARROW1": "Arrow IPC", b"\xff\xff\xff\xff": "an Arrow IPC stream"}


def fitted(
    preset: Preset | None, file_name: str, name: str, found: str, columns: ColumnMap
) -> tuple[Preset | None, ColumnMap]:
    """A preset with what a file's name says, and its map with what the user says laid over it."""
    if preset is None:
        return None, columns
    try:
        preset, symbol = fit_to_name(preset, file_name.rpartition(":")[2])
    except ValueError as error:
        raise FeedError(f"{name} cannot be read as {found or 'this preset says'}: {error}") from None
    own = replace(columns, constants={"symbol": symbol, **columns.constants}) if symbol else columns
    return preset, lay_over(parse_map(preset.map), own)


def lay_over(base: ColumnMap, own: ColumnMap) -> ColumnMap:
    """The preset's map with what the user says instead."""
    if own.columns and base.numbered != own.numbered:
        raise FeedError(f"map: this format's columns go by {'number' if base.numbered else 'name'}: give them that way")
    columns = {name: column for name, column in base.columns.items() if name not in own.constants}
    constants = {name: text for name, text in base.constants.items() if name not in own.columns}
    return ColumnMap({**columns, **own.columns}, {**constants, **own.constants}, base.numbered)


def is_journal(path: str) -> bool:
    """Whether a directory holds a journal's segments."""
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return False
    return any(entry.endswith(".rwj") for entry in names)
