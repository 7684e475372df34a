"""Files that are not what they are said to be: one clear line, or dead letters, and never silence."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest
from feed_rows import read_rows

from feeds import FeedError
from feeds.opening import FORMATS

CSV = b"trade_id,symbol,price,volume,side,executed_at\nT1,S,1,1,buy,1700000000\n"
JSON = b'{"trade_id":"T1","symbol":"S","price":"1","volume":"1","side":"buy","executed_at":1700000000}\n'
FIX = b"8=FIX.4.2\x019=5\x0135=8\x01"
CAPTURE = b'1723161256127000000 {"e":"trade","s":"BTCUSDT"}\n'
NOISE = random.Random(5).randbytes(5000)
CONTENTS = {
    "nothing": b"",
    "blank": b"\n\r\n \t\n",
    "a byte order mark": b"\xef\xbb\xbf",
    "NULs": bytes(3000),
    "noise": NOISE,
    "text": b"hello world\nthis is no data\n" * 20,
    "digits": b"1,2,3\n4,5,6\n",
    "CSV": CSV,
    "JSON Lines": JSON,
    "JSON array": b"[" + JSON.strip() + b"]\n",
    "FIX": FIX,
    "capture": CAPTURE,
    "the head of DBN": b"DBN\x01",
    "the head of Parquet": b"PAR1" + NOISE[:90],
    "the head of Arrow": b"ARROW1\0\0" + NOISE[:90],
    "gzip of nothing": gzip.compress(b""),
    "a cut gzip of noise": gzip.compress(NOISE)[:100],
}
RIGHT = {None: ("CSV", "JSON Lines", "FIX", "capture"), "csv": ("CSV",)}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("format", [None, *(name for name in FORMATS if name != "journal")])
def test_a_wrong_file_is_refused_in_a_line_or_leaves_dead_letters(
    format: str | None, content: str, tmp_path: Path
) -> None:
    path = tmp_path / "BTCUSDT.dat"
    path.write_bytes(CONTENTS[content])
    try:
        rows = read_rows(path, format=format, side="tick")
    except FeedError as error:
        message = str(error)
        assert "BTCUSDT.dat" in message
        assert "\n" not in message
        assert len(message) < 600
        assert content not in RIGHT.get(format, ())
    else:
        assert rows, "a file without any record is told apart from one that cannot be read"


@pytest.mark.parametrize(
    ("content", "format", "words"),
    [
        ("text", "fix", "holds no FIX message: expected messages that start with 8=FIX"),
        ("noise", "fix", "holds no FIX message"),
        ("text", "dbn", "is no Databento DBN"),
        ("the head of DBN", "dbn", "is Databento DBN with unreadable metadata"),
        ("text", "parquet", "is no parquet file"),
        ("nothing", "dbn", "is empty: expected a header or a record"),
        ("blank", None, "is empty: expected a header or a record"),
        ("gzip of nothing", None, "is empty: expected a header or a record"),
        ("a cut gzip of noise", "csv", "breaks off at byte 100"),
        ("noise", None, "is binary: expected a CSV header"),
        ("text", None, "no column symbol: the header is hello world"),
        ("JSON array", None, "is a JSON array: give one object a line"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(content: str, format: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.dat"
    path.write_bytes(CONTENTS[content])
    with pytest.raises(FeedError, match=words.replace("(", r"\(")):
        read_rows(path, format=format)


def test_a_log_without_a_fill_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    body = b"35=0\x0149=A\x0156=B\x0134=1\x0152=20240102-14:30:00\x01"
    message = b"8=FIX.4.2\x019=%d\x01" % len(body) + body
    path.write_bytes(b"a line of the logger\n" * 9000 + message + b"10=%03d\x01\n" % (sum(message) % 256))
    assert read_rows(path, format="fix") == []
