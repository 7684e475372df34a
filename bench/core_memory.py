"""Memory of the core: what a position needs, and how it grows with the trades that are remembered.

    python -m bench.core_memory position KEYS TRADES            bytes by which a core grew
    python -m bench.core_memory session FRAMES LIMITS MARKS     the same of door and core at so many marks of a session
    python -m bench.core_memory dicts TRADES MARKS              the same of plain Python dicts

Each prints one JSON object. Of a session only what has no file behind it counts: the journal's pages have one.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.core_run import Engine
from bench.workload import Keys, make_records, names_frame, sequence, visit_once
from engine.limitset import parse_limits
from ext.risk import RiskCore


def anonymous_bytes() -> int:
    """Return the process's resident memory that has no file behind it (Linux)."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, "Linux tells it since 4.5"
    return int(found[1]) * 1024


def position(key_count: int, trades: int) -> dict[str, int]:
    """Apply so many trades to a core, the first of them once to each key, and return the growth."""
    keys = Keys(symbols=key_count // 100, accounts=100)
    random = np.random.default_rng(3)
    records, numbers = make_records(keys, trades, 2, random)
    visit_once(keys, records, random)
    names = names_frame(keys, 1, limits=parse_limits({"limit": keys.limits()}).to_json())
    frames = sequence(records, numbers, 2)
    before = anonymous_bytes()
    core = RiskCore()
    core.apply(names)
    for frame in frames:
        core.apply(frame)
    return {"grown_bytes": anonymous_bytes() - before, "positions": key_count, "seq": core.applied_seq}


def frames_in(path: Path) -> Iterator[bytes]:
    """Yield the frames of a file one by one, so that they need no memory."""
    with path.open("rb") as source:
        while head := source.read(8):
            yield source.read(int.from_bytes(head, "little"))


def session(frames_path: str, limits_path: str, marks: int) -> list[tuple[int, int]]:
    """Take a session with a journal on disk; returns (trades, bytes grown) at so many marks."""
    counts = [int.from_bytes(frame[8:12], "little") for frame in frames_in(Path(frames_path))]
    every, found, taken, next_mark = sum(counts) / marks, [], 0, 1
    with tempfile.TemporaryDirectory(prefix="riskwire-bench-") as folder:
        before = anonymous_bytes()
        engine = Engine(Path(limits_path).read_bytes(), 0, str(Path(folder) / "journal"))
        for frame, count in zip(frames_in(Path(frames_path)), counts, strict=True):
            engine.take(frame)
            taken += count
            if taken >= every * next_mark:
                found.append((taken, anonymous_bytes() - before))
                next_mark += 1
        engine.journal.close()
    return found


def dicts(trades: int, marks: int) -> list[tuple[int, int]]:
    """Take trades with plain dicts, which keep an identity, price and volume of each; (trades, bytes grown)."""
    from bench import core_python

    made = core_python.trades(trades)  # their texts are shared with the dicts, to the peer's advantage
    before = anonymous_bytes()
    peer = core_python.dict_engine()
    found = []
    for number, trade in enumerate(made, 1):
        peer.apply(trade)
        if number % (trades // marks) == 0:
            found.append((number, anonymous_bytes() - before))
    return found


def main(what: str, *arguments: str) -> None:
    """Measure and print."""
    if what == "position":
        print(json.dumps(position(int(arguments[0]), int(arguments[1]))))
    elif what == "session":
        print(json.dumps({"grown": session(arguments[0], arguments[1], int(arguments[2]))}))
    else:
        print(json.dumps({"grown": dicts(int(arguments[0]), int(arguments[1]))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
