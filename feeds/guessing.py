"""What a file is, by its first bytes."""

from __future__ import annotations

import re

from feeds.errors import FeedError
from feeds.inputs import BOM
from feeds.presets import preset_of_header

DBN_MAGIC = b"DBN"
CAPTURE_LINE = re.compile(rb"[0-9]{16,19} [{\[]")
FIX_MESSAGE = re.compile(rb"(?:^|[^0-9])8=FIXT?\.[0-9]\.[0-9][\x01|]9=[0-9]")
FIX_LOOK_BYTES = 4096  # a log may begin with lines of the logger's own
COLUMN_FORMATS = ("parquet", "arrow")
COLUMN_MAGICS = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")
READ = "CSV, JSON Lines, Parquet, Arrow IPC, Databento DBN, FIX logs and journals"
FOREIGN = {
    b"DBZ": "the old Databento DBZ",
    b"\x89HDF": "HDF5",
    b"SQLite format 3": "an SQLite database",
    b"BZh": "bzip2: unpack it first",
    b"\xfd7zXZ": "xz: unpack it first",
    b"7z\xbc\xaf": "7z: unpack it first",
    b"\x04\x22\x4d\x18": "lz4: unpack it first",
    b"\xd4\xc3\xb2\xa1": "a packet capture",
    b"\x4d\x3c\xb2\xa1": "a packet capture",
    b"\x0a\x0d\x0d\x0a": "a packet capture",
    b"<": "XML or HTML",
    b"[": "a JSON array: give one object a line",
}
CRYPTOFEED_LINE = re.compile(rb"(wss?://|[0-9]{9,10}\.[0-9]+: )")


def column_magic(head: bytes) -> bytes | None:
    """How a Parquet or Arrow file starts; None for all else."""
    return next((magic for magic in COLUMN_MAGICS if head.startswith(magic)), None)


def guess_format(head: bytes, name: str, known: bool) -> str:
    """csv, another format or a preset, by the first bytes; ``known``: a map says what the columns are.

    Raises FeedError for formats that are not read.
    """
    if head.startswith(DBN_MAGIC):
        return "dbn"
    text = head.removeprefix(BOM).lstrip(b" \t\r\n")
    if text.startswith(b"{"):
        return "jsonl"
    if CAPTURE_LINE.match(text):
        return "capture"
    if FIX_MESSAGE.search(head[:FIX_LOOK_BYTES]):
        return "fix"
    for magic, kind in FOREIGN.items():
        if head.startswith(magic):
            raise FeedError(f"{name} is {kind}: riskwire reads {READ}")
    if CRYPTOFEED_LINE.match(text):
        raise FeedError(f"{name} is a cryptofeed capture: riskwire reads {READ}")
    return "csv" if known else guess_preset(text)


def guess_preset(text: bytes) -> str:
    import csv

    try:
        header = next(csv.reader([text.partition(b"\n")[0].rstrip(b"\r").decode()]), [])
    except (UnicodeDecodeError, csv.Error):
        return "csv"
    if "executed_at" in header:
        return "csv"
    return preset_of_header(set(header)) or "csv"
