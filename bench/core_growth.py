"""The core behind many trades: `python -m bench.core_growth TRADES` prints ns a trade behind 10,000 and behind TRADES.

1,000 keys, so that all exist behind 10,000 trades. Sequenced frames in memory, this thread's processor time.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

from bench.machine import median
from bench.workload import Keys, make_records, names_frame, sequence
from engine.limitset import parse_limits
from ext.records import keep_freed_memory
from ext.risk import RiskCore

KEYS = Keys(symbols=100, accounts=10, turnover=10_000)
EARLY, PIECE, SAMPLES = 10_000, 20_000, 15


def sequenced(first: int, count: int, random: np.random.Generator) -> list[bytes]:
    """Return sequenced frames of new trades whose numbers are their seqs."""
    return sequence(*make_records(KEYS, count, first, random), first)


def new_core() -> RiskCore:
    """Return a core with names and limits; seq 1 is taken."""
    core = RiskCore()
    core.apply(names_frame(KEYS, 1, limits=parse_limits({"limit": KEYS.limits()}).to_json()))
    return core


def apply_ns(core: RiskCore, frames: list[bytes]) -> float:
    """Apply frames and return ns a trade."""
    start = time.thread_time_ns()
    for frame in frames:
        core.apply(frame)
    return (time.thread_time_ns() - start) / PIECE


def main(trades: int) -> None:
    """Measure both, several pieces each, and print their medians."""
    keep_freed_memory()
    random = np.random.default_rng(7)
    first, piece = sequenced(2, EARLY, random), sequenced(2 + EARLY, PIECE, random)
    early = []
    for _ in range(SAMPLES):
        core = new_core()
        apply_ns(core, first)
        early.append(apply_ns(core, piece))
    core = new_core()
    seq = 2
    while seq < trades:
        count = min(500_000, trades + 2 - seq)
        apply_ns(core, sequenced(seq, count, random))
        seq += count
    late = []
    for _ in range(SAMPLES):
        late.append(apply_ns(core, sequenced(seq, PIECE, random)))
        seq += PIECE
    print(json.dumps({"early_ns": median(early), "late_ns": median(late)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
