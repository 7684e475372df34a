"""Damaged bytes of every format: no crash, no hang; what cannot be read is a dead letter, or one line."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ext.records import Frame
from feeds import FeedError, open_feed

T0 = 1_700_000_000_000_000_000
COUNT = 40


def csv_bytes() -> bytes:
    lines = [f'T{i},"SYM{i % 3}",{100 + i}.25,1,buy,{T0 + i}' for i in range(COUNT)]
    return "\n".join(["trade_id,symbol,price,volume,side,executed_at", *lines]).encode()


def json_bytes() -> bytes:
    trade = {"symbol": "A", "price": "1.5", "volume": 2, "side": "buy"}
    return "\n".join(json.dumps({**trade, "trade_id": i, "executed_at": T0 + i}) for i in range(COUNT)).encode()


def capture_bytes() -> bytes:
    event = {"e": "trade", "s": "BTCUSDT", "p": "1.5", "q": "2", "m": True}
    return b"\n".join(
        b"%d %b" % (T0 + i, json.dumps({**event, "t": i, "T": i}, separators=(",", ":")).encode()) for i in range(COUNT)
    )


def fix_bytes() -> bytes:
    return b"\n".join(fix_message(i) for i in range(COUNT))


def fix_message(i: int) -> bytes:
    body = f"35=8|17=E{i}|150=F|55=X|54=1|31=1.5|32=2|95=3|96=a|b|60=20240102-14:30:00|".replace("|", "\1").encode()
    text = b"8=FIX.4.4\x019=%d\x01" % len(body) + body
    return text + b"10=%03d\x01" % (sum(text) % 256)


def dbn_bytes() -> bytes:
    head = b"GLBX.MDP3".ljust(16, b"\0") + b"\x04\0" + bytes(24) + b"\1\0\0" + b"\x47\0" + bytes(53)
    symbol = b"ESU4".ljust(71, b"\0")
    days = (20240701).to_bytes(4, "little") + (20240703).to_bytes(4, "little")
    mapping = b"\1\0\0\0" + symbol + b"\1\0\0\0" + days + b"7".ljust(71, b"\0")
    metadata = head + bytes(4) + bytes(12) + mapping
    record = b"\x0c\0\1\0\7\0\0\0" + (1719792000 * 10**9 + 5).to_bytes(8, "little") + (5 * 10**9).to_bytes(8, "little")
    record += b"\2\0\0\0TB\0\0" + (1719792000 * 10**9 + 9).to_bytes(8, "little") + bytes(8)
    return b"DBN\2" + len(metadata).to_bytes(4, "little") + metadata + record * COUNT


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", csv_bytes())
        archive.writestr("b.csv", csv_bytes())
    return buffer.getvalue()


def column_bytes(kind: str) -> bytes:
    pa = pytest.importorskip("pyarrow")
    table = pa.table(
        {
            "trade_id": list(range(COUNT)),
            "symbol": pa.array(["A", "B"] * (COUNT // 2)).dictionary_encode(),
            "price": [1.5 + i for i in range(COUNT)],
            "volume": [f"{i + 1}" for i in range(COUNT)],
            "side": ["buy", None] * (COUNT // 2),
            "executed_at": [T0 + i for i in range(COUNT)],
        }
    )
    buffer = io.BytesIO()
    if kind == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, buffer, row_group_size=15, compression="none")
    else:
        ipc = pytest.importorskip("pyarrow.ipc")
        make = ipc.new_file if kind == "arrow" else ipc.new_stream
        with make(buffer, table.schema) as writer:
            writer.write_table(table, max_chunksize=15)
    return buffer.getvalue()


MAKERS: dict[str, Callable[[], bytes]] = {
    "csv": csv_bytes,
    "csv.gz": lambda: gzip.compress(csv_bytes()),
    "zip": zip_bytes,
    "jsonl": json_bytes,
    "capture": capture_bytes,
    "fix": fix_bytes,
    "dbn": dbn_bytes,
    "parquet": lambda: column_bytes("parquet"),
    "arrow": lambda: column_bytes("arrow"),
    "arrows": lambda: column_bytes("stream"),
}

edits = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("delete"), st.floats(0, 1), st.integers(1, 64)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 200)),
    ),
    max_size=4,
)


def damaged(data: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    for what, where, how in changes:
        at = int(where * len(data))
        if what == "set":
            data = data[:at] + how + data[at + len(how) :]
        elif what == "insert":
            data = data[:at] + how + data[at:]
        elif what == "delete":
            data = data[:at] + data[at + how :]
        elif what == "cut":
            data = data[:at]
        else:
            data = data[:at] + data[at : at + how] * 2 + data[at + how :]
    return data


def read_all(path: Path, **options: Any) -> list[tuple[int, bytes]]:
    """Every record's position and bytes; a frame is checked when it is opened."""
    found = []
    with open_feed(path, **options) as feed:
        while (buffer := feed.next_frame(7)) is not None:
            frame = Frame(bytes(buffer))
            found += [frame.origin(i) for i in range(len(frame))]
            assert len(found) < 100_000
    return found


def outcome(path: Path, lenient: bool) -> str | list[tuple[int, bytes]]:
    """What is read, or the line that says why nothing is."""
    try:
        return read_all(path, lenient=lenient, side="buy")
    except FeedError as error:
        line = str(error)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("kind", MAKERS)
def test_whole_files_give_every_record(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(MAKERS[kind]())
    assert len(read_all(path)) == COUNT * (2 if kind == "zip" else 1)


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=edits, lenient=st.booleans())
def test_damage_is_a_dead_letter_or_one_line(kind: str, changes: list[tuple[str, float, Any]], lenient: bool) -> None:
    data = damaged(MAKERS[kind](), changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        path.write_bytes(data)
        assert outcome(path, lenient) == outcome(path, lenient)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["fix", "dbn", "csv", "capture", "jsonl"]), st.binary(max_size=400))
def test_any_bytes_behind_a_beginning(kind: str, tail: bytes) -> None:
    whole = MAKERS[kind]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(whole[: len(whole) // 2] + tail + whole[len(whole) // 2 :] + tail)
        assert len(read_all(path, side="buy")) > COUNT // 3
