"""open_feed: any recorded feed by its path."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfoNotFoundError

from ext.feedwriter import FeedWriter
from feeds.capture import CAPTURE_LINE, CaptureSource
from feeds.columns import ColumnMap, parse_map
from feeds.csvfile import CsvSource
from feeds.errors import FeedError, JournalFeed
from feeds.feed import Feed, Source
from feeds.inputs import Input, open_inputs, peek
from feeds.jsonl import JsonSource
from feeds.linesource import LineSource
from feeds.presets import PRESETS, fit_to_name, preset_of_header

LINE_FORMATS: dict[str, type[LineSource]] = {"jsonl": JsonSource, "capture": CaptureSource}
FORMATS = ("csv", "jsonl", "journal", "capture", *PRESETS)
SIDES = ("buy", "sell", "tick")
FOREIGN = {
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow IPC",
    b"DBN": "Databento DBN",
    b"8=FIX": "a FIX log",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What open_feed was told about its files."""

    format: str | None
    map: ColumnMap
    side: str | None
    account: str | None
    source_name: str | None


def open_feed(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    format: str | None = None,
    map: str | Mapping[str, str] | None = None,
    side: str | None = None,
    account: str | None = None,
    source_name: str | None = None,
) -> Feed:
    """Open one recorded feed, or several merged by executed_at of their heads (ties in the order given).

    ``format``: one of FORMATS; None: guessed from the content. ``map``: which column is which field of a CSV
    (``price=px,volume=qty``; column numbers where there is no header; ``symbol==BCHEUR`` is a constant). ``side``:
    ``buy``, ``sell`` or ``tick`` where the feed has none. ``account``: of records that name none (default ``default``).
    ``source_name``: what dead letters call the feed instead of its path.

    Raises FeedError for what cannot be read at all (no file, no usable header), JournalFeed for a journal directory.
    """
    files = [os.fspath(paths)] if isinstance(paths, (str, os.PathLike)) else [os.fspath(path) for path in paths]
    options = Options(format, parse_map(map), side, account, source_name)
    check_options(files, options)
    writer = FeedWriter()
    sources: list[Source] = []
    try:
        for path in files:
            sources.extend(open_sources(path, writer, options))
    except BaseException:
        for source in sources:
            source.close()
        raise
    return Feed(sources, writer)


def check_options(files: list[str], options: Options) -> None:
    if not files:
        raise FeedError("no feed given: expected at least one file")
    if options.format is not None and options.format not in FORMATS:
        raise FeedError(f"unknown format {options.format!r}: expected one of {', '.join(FORMATS)}")
    if options.side is not None and options.side not in SIDES:
        raise FeedError(f"unknown side {options.side!r}: expected buy, sell or tick")
    if options.account is not None and not 0 < len(options.account.encode("utf-8", "replace")) <= 64:
        raise FeedError(f"account {options.account[:80]!r}: expected 1 to 64 bytes")
    if options.format in ("jsonl", "journal", "capture") and (options.map.columns or options.map.constants):
        raise FeedError(f"map is for CSV: a {options.format} feed names its fields itself")


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
                sources.append(open_source(opened, name, writer, options))
            except BaseException:
                opened.close()
                raise
    except BaseException:
        for source in sources:
            source.close()
        raise
    return sources


def open_source(opened: Input, name: str, writer: FeedWriter, options: Options) -> Source:
    peeked = peek(opened)
    if not peeked.head:
        reason = str(peeked.damage) if peeked.damage else f"{name} is empty"
        raise FeedError(f"{reason}: expected a CSV with a header, or JSON Lines")
    found = options.format or guess_format(peeked.head, name, options.map)
    if found in LINE_FORMATS:
        return LINE_FORMATS[found](peeked.input, writer, name, side=options.side, account=options.account)
    columns = options.map
    preset = PRESETS.get(found)
    if preset is not None:
        try:
            preset, symbol = fit_to_name(preset, opened.name.rpartition(":")[2])
        except (ValueError, ZoneInfoNotFoundError) as error:
            raise FeedError(f"{name} cannot be read as {found}: {error}") from None
        own = replace(columns, constants={"symbol": symbol, **columns.constants}) if symbol else columns
        columns = lay_over(parse_map(preset.map), own)
    return CsvSource(
        peeked.input, writer, name, columns=columns, side=options.side, account=options.account, preset=preset
    )


def lay_over(base: ColumnMap, own: ColumnMap) -> ColumnMap:
    """The preset's map with what the user says instead."""
    if own.columns and base.numbered != own.numbered:
        raise FeedError(f"map: this format's columns go by {'number' if base.numbered else 'name'}: give them that way")
    columns = {name: column for name, column in base.columns.items() if name not in own.constants}
    constants = {name: text for name, text in base.constants.items() if name not in own.columns}
    return ColumnMap({**columns, **own.columns}, {**constants, **own.constants}, base.numbered)


def guess_format(head: bytes, name: str, columns: ColumnMap) -> str:
    """csv, jsonl or a preset, by the first bytes. Raises FeedError for formats that are known but not read."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    for magic, kind in FOREIGN.items():
        if text.startswith(magic):
            raise FeedError(f"{name} is {kind}: this riskwire reads CSV, JSON Lines and journals")
    if text.startswith(b"{"):
        return "jsonl"
    if CAPTURE_LINE.match(text):
        return "capture"
    if not columns.columns:
        try:
            header = next(csv.reader([text.partition(b"\n")[0].rstrip(b"\r").decode()]), [])
        except (UnicodeDecodeError, csv.Error):
            return "csv"
        if "executed_at" not in header:
            return preset_of_header(set(header)) or "csv"
    return "csv"


def is_journal(path: str) -> bool:
    """Whether a directory holds a journal's segments."""
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return False
    return any(entry.endswith(".rwj") for entry in names)
