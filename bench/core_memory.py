"""Resident memory of a core: `python -m bench.core_memory KEYS TRADES` prints by how many bytes the process grew."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np

from bench.workload import Keys, make_records, names_frame, sequence, visit_once
from engine.limitset import parse_limits
from ext.risk import RiskCore


def resident_bytes() -> int:
    """Return the process's resident memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(key_count: int, trades: int) -> None:
    """Apply so many trades, the first of them once to each key, and print the growth."""
    keys = Keys(symbols=key_count // 100, accounts=100)
    random = np.random.default_rng(3)
    records, numbers = make_records(keys, trades, 2, random)
    visit_once(keys, records, random)
    names = names_frame(keys, 1, limits=parse_limits({"limit": keys.limits()}).to_json())
    frames = sequence(records, numbers, 2)
    before = resident_bytes()
    core = RiskCore()
    core.apply(names)
    for frame in frames:
        core.apply(frame)
    print(json.dumps({"grown_bytes": resident_bytes() - before, "positions": key_count, "seq": core.applied_seq}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
