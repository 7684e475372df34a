"""A small whole file of every format, for tests that damage it."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable

import pytest

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
