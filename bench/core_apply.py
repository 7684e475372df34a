"""What one trade costs in the core: ns per trade over frames in memory, no sockets (``python -m bench.core_apply``).

Zipf-like symbols are not used: keys are uniform over symbols x accounts, the hardest case for caches.
"""

from __future__ import annotations

import argparse
import struct
import time

import numpy as np

from engine.limitset import parse_limits
from ext.records import RECORD_DTYPE, FrameBuilder, stamp_frame
from ext.risk import RiskCore

START_NS = 1_700_000_000_000_000_000
LIMITS = [
    {"id": "position", "kind": "max_position", "per": ["account", "symbol"], "threshold": "1000000"},
    {"id": "notional", "kind": "max_notional", "per": ["account", "symbol"], "threshold": "1000000000000"},
    {"id": "trade", "kind": "max_trade_notional", "per": [], "threshold": "1000000000"},
    {"id": "rate", "kind": "trade_rate", "per": ["account"], "threshold": "1000000", "window": "1s"},
    {"id": "collar", "kind": "price_collar", "per": ["symbol"], "threshold": "50"},
    {"id": "gross", "kind": "gross_notional", "per": ["account"], "threshold": "1000000000000000"},
    {"id": "loss", "kind": "max_loss", "per": ["account"], "threshold": "1000000000000000"},
]


def first_frame(symbols: int, accounts: int, limits: list[dict[str, object]]) -> tuple[bytes, int]:
    """Return a frame with all names and a LimitsChanged, and the next seq."""
    builder = FrameBuilder(1)
    for i in range(1, symbols + 1):
        builder.define_name(0, i, b"SYM%06d" % i)
    for i in range(1, accounts + 1):
        builder.define_name(1, i, b"ACC%05d" % i)
    builder.add_record(type=6, id=b"limits", ref=parse_limits({"limit": limits}).to_json())
    return bytes(builder.finish(1, 1, 0)), 2


def trade_frames(
    count: int, symbols: int, accounts: int, seq: int, per_frame: int, step_ns: int, seed: int = 1
) -> list[bytes]:
    """Return sequenced frames of random new trades, step_ns apart."""
    random = np.random.default_rng(seed)
    records = np.zeros(count, RECORD_DTYPE)
    records["type"] = 1
    records["symbol"] = random.integers(1, symbols + 1, count)
    records["account"] = random.integers(1, accounts + 1, count)
    records["side"] = random.integers(1, 3, count)
    records["price"] = (10_000 + random.integers(-50, 51, count)) * 10**7
    records["volume"] = random.integers(1, 1000, count) * 10**8
    records["price_exponent"], records["volume_exponent"] = -9, -8
    records["executed_at"] = START_NS + (seq + np.arange(count)) * step_ns
    frames = []
    for start in range(0, count, per_frame):
        part = records[start : start + per_frame].copy()
        heap = b"".join(b"T%010d" % i for i in range(start, start + len(part)))
        part["id_offset"] = np.arange(len(part)) * 11
        part["id_length"] = 11
        header = struct.pack("<IBBHIIQQIIIIqQ", 0x31465752, 1, 1, 0, len(part), 0, 0, 0, len(heap), 0, 0, 0, 0, 0)
        frame = bytearray(header + part.tobytes() + heap)
        stamp_frame(frame, seq + start, 1)
        frames.append(bytes(frame))
    return frames


def measure(limits: int, options: argparse.Namespace) -> float:
    """Return ns per trade with this many limits, after a pass that creates the keys."""
    core = RiskCore()
    frame, seq = first_frame(options.symbols, options.accounts, LIMITS[:limits])
    core.apply(frame)
    warm = trade_frames(options.warm, options.symbols, options.accounts, seq, options.frame, options.step_ns)
    for frame in warm:
        core.apply(frame)
    best = float("inf")
    seq += options.warm
    for round_ in range(options.rounds):
        frames = trade_frames(
            options.trades, options.symbols, options.accounts, seq, options.frame, options.step_ns, round_ + 2
        )
        seq += options.trades
        start = time.thread_time_ns()
        for frame in frames:
            core.apply(frame)
        best = min(best, (time.thread_time_ns() - start) / options.trades)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--warm", type=int, default=1_000_000)
    parser.add_argument("--trades", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frame", type=int, default=1024)
    parser.add_argument("--step-ns", type=int, default=1_000)
    parser.add_argument("--limits", type=int, nargs="*", default=[0, 1, 3, 5, 7])
    options = parser.parse_args()
    keys = options.symbols * options.accounts
    for limits in options.limits:
        names = ", ".join(str(limit["kind"]) for limit in LIMITS[:limits]) or "none"
        print(f"{keys} keys, {limits} limits: {measure(limits, options):6.1f} ns/trade   ({names})")


if __name__ == "__main__":
    main()
