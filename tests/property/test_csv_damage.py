"""Damaged files: whatever is cut or flipped, what came before is read, one dead letter says so, and nothing hangs."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ext.records import EVENT_NAMES, REASONS, Frame
from feeds import FeedError, open_feed

ROWS = [f"T{i},S{i % 9},{i}.5,{i + 1},buy,{1700000000 + i * 7919 % 1000}" for i in range(3000)]
TEXT = "\n".join(["trade_id,symbol,price,volume,side,executed_at", *ROWS, ""]).encode()
GZIPPED = gzip.compress(TEXT[:40_000]) + gzip.compress(TEXT[40_000:])
JSON_LINES = b"".join(
    json.dumps({"trade_id": f"T{i}", "symbol": "S", "price": i, "volume": "1", "side": "B", "executed_at": i}).encode()
    + b"\n"
    for i in range(20)
)


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", TEXT)
    return data.getvalue()


ZIPPED = zipped()


def read(data: bytes) -> list[tuple[str, bytes]] | None:
    """(type or reason, raw) per record; None where the file is refused as a whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data)
        found = []
        try:
            with open_feed(path, side="buy") as feed:
                while (buffer := feed.next_frame()) is not None:
                    frame = Frame(bytes(buffer))
                    for i, record in enumerate(frame.records):
                        kind = EVENT_NAMES[int(record["type"])]
                        reason = REASONS[record["exec_type"]] if kind == "Rejected" else kind
                        found.append((reason, frame.origin(i)[1]))
        except FeedError:
            return None
        return found


@settings(max_examples=60, deadline=None)
@given(st.integers(20, len(GZIPPED) - 1))
def test_a_gzip_that_breaks_off_gives_what_came_before(size: int) -> None:
    found = read(GZIPPED[:size])
    if found is None:
        return
    whole = [raw.decode() for _, raw in found[:-1]]
    assert whole == ROWS[: len(whole)]
    assert found[-1][0] == "undecodable"
    assert [*ROWS, ""][len(whole)].startswith(found[-1][1].decode())


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([GZIPPED, ZIPPED]), st.data())
def test_flipped_bits_in_compressed_files_neither_crash_nor_pass_unnoticed(packed: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(packed) - 1))
    damaged = bytearray(packed)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    found = read(bytes(damaged))
    if found is None:
        return
    # Some bits mean nothing (a time stamp in a header); any other damage leaves a dead letter.
    assert [raw.decode() for _, raw in found] == ROWS or found[-1][0] == "undecodable"


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(JSON_LINES) - 1), st.binary(min_size=1, max_size=6))
def test_rubbish_in_json_lines_costs_the_lines_it_touches(at: int, rubbish: bytes) -> None:
    found = read(JSON_LINES[:at] + rubbish + JSON_LINES[at + len(rubbish) :])
    if found is None:
        return
    good = {raw for _, raw in found}
    touched = JSON_LINES[at : at + len(rubbish)].count(b"\n") + 1
    assert len(good & set(JSON_LINES.splitlines())) >= 20 - touched
