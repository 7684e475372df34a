"""Trades for the core's figures, as frames: uniform over all keys (hardest for caches), one in a hundred repeated."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ext.records import RECORD_DTYPE, FrameBuilder, stamp_frame

START_NS = 1_700_000_000_000_000_000
HEADER = struct.Struct("<IBBHIIQQIIIIqQ")
FRAME_MAGIC = 0x31465752
ID_DIGITS = 10
ID_BYTES = ID_DIGITS + 1
PRICE_EXPONENT, VOLUME_EXPONENT = -4, -2
Records = npt.NDArray[np.void]
Numbers = npt.NDArray[np.int64]  # of the trades: what their ids are made from

VOLUME_DEVIATION = 577  # of a signed volume: uniform up to 1,000
POSITION_DEVIATIONS = 4.3  # at the limit; a warning comes at 3.4: about one trade in some thousands alerts
PRICE = 100
RATE_MAX = 720  # trades of an account in a window; 500 is what comes on average
RATE_MEAN = 500


@dataclass(frozen=True)
class Keys:
    """How many symbols and accounts trade; every account trades every symbol, `turnover` times in the end."""

    symbols: int = 1_000
    accounts: int = 100
    turnover: float = 20.0

    @property
    def count(self) -> int:
        """How many positions there are in the end."""
        return self.symbols * self.accounts

    @property
    def step_ns(self) -> int:
        """Time between trades, so that each symbol trades every millisecond."""
        return 1_000_000 // self.symbols

    @property
    def window_ns(self) -> int:
        """The rate limit's window: 500 trades of an account on average."""
        return RATE_MEAN * self.accounts * self.step_ns

    @property
    def position_max(self) -> int:
        """A quantity that few positions reach."""
        return int(VOLUME_DEVIATION * POSITION_DEVIATIONS * math.sqrt(max(self.turnover, 1.0)))

    @property
    def notional_max(self) -> int:
        """About the same as money."""
        return self.position_max * PRICE

    def limits(self) -> list[dict[str, object]]:
        """Return the three limits."""
        per = ["account", "symbol"]
        return [
            {"id": "position", "kind": "max_position", "per": per, "threshold": str(self.position_max)},
            {"id": "notional", "kind": "max_notional", "per": per, "threshold": str(self.notional_max)},
            {
                "id": "rate",
                "kind": "trade_rate",
                "per": ["account"],
                "threshold": str(RATE_MAX),
                "window": f"{self.window_ns}ns",
            },
        ]

    def reference_arguments(self) -> list[str]:
        """Return the same for the reference: raw units (1e-8 of quantity, 1e-17 of money), trades, ns."""
        return [str(self.position_max * 10**8), str(self.notional_max * 10**17), str(RATE_MAX), str(self.window_ns)]


def make_records(keys: Keys, count: int, first: int, random: np.random.Generator) -> tuple[Records, Numbers]:
    """Return new trades in a random order over all keys, and their numbers, from `first` on."""
    records = np.zeros(count, RECORD_DTYPE)
    records["type"] = 1
    key = random.integers(0, keys.count, count)
    records["symbol"], records["account"] = key // keys.accounts + 1, key % keys.accounts + 1
    records["side"] = random.integers(1, 3, count)
    records["price"] = 1_000_000 + random.integers(-5_000, 5_001, count)
    records["volume"] = random.integers(1, 100_000, count)
    records["price_exponent"], records["volume_exponent"] = PRICE_EXPONENT, VOLUME_EXPONENT
    records["fee"] = random.integers(-10, 100, count) * 1_000_000
    numbers = np.arange(first, first + count)
    records["executed_at"] = START_NS + numbers * keys.step_ns
    return records, numbers


def visit_once(keys: Keys, records: Records, random: np.random.Generator) -> None:
    """Let the first trades go to each key once, in a random order, so that all positions exist behind them."""
    key = random.permutation(keys.count)[: len(records)]
    records["symbol"][: len(key)], records["account"][: len(key)] = key // keys.accounts + 1, key % keys.accounts + 1


def repeat_some(records: Records, numbers: Numbers, random: np.random.Generator, share: float) -> None:
    """Turn this share of the trades into duplicates of one at most a thousand before."""
    place = np.flatnonzero(random.random(len(records)) < share)
    place = place[place > 0]
    origin = np.maximum(0, place - random.integers(1, 1_000, len(place)))
    records[place], numbers[place] = records[origin], numbers[origin]


def to_frames(
    records: Records, numbers: Numbers, per_frame: int, first_seq: int, *, epoch: int = 1, kind: int = 0
) -> Iterator[bytes]:
    """Yield stamped frames of so many trades each; ids are `T` and the number."""
    digits = np.empty((len(records), ID_BYTES), np.uint8)
    digits[:, 0] = ord("T")
    for place in range(ID_DIGITS):
        digits[:, ID_DIGITS - place] = numbers // 10**place % 10 + ord("0")
    for start in range(0, len(records), per_frame):
        part = records[start : start + per_frame].copy()
        part["id_offset"], part["id_length"] = np.arange(len(part)) * ID_BYTES, ID_BYTES
        heap = digits[start : start + per_frame].tobytes()
        header = HEADER.pack(FRAME_MAGIC, 1, kind, 0, len(part), 0, 0, 0, len(heap), 0, 0, 0, 0, 0)
        frame = bytearray(header + part.tobytes() + heap)
        stamp_frame(frame, first_seq + start, epoch)
        yield bytes(frame)


def names_frame(keys: Keys, kind: int = 0, epoch: int = 1, limits: bytes | None = None) -> bytes:
    """Return a frame that defines all names; with `limits`, also with a LimitsChanged (as the frame at seq 1)."""
    builder = FrameBuilder(kind)
    for i in range(1, keys.symbols + 1):
        builder.define_name(0, i, b"SYM%06d" % i)
    for i in range(1, keys.accounts + 1):
        builder.define_name(1, i, b"ACC%05d" % i)
    if limits is not None:
        builder.add_record(type=6, id=b"limits", ref=limits)
    return bytes(builder.finish(1, epoch))


def sequence(records: Records, numbers: Numbers, first_seq: int, per_frame: int = 1_024) -> list[bytes]:
    """Return the frames a broker would make of new trades: the default units, numbered."""
    records["price"] *= 10 ** (PRICE_EXPONENT + 9)
    records["volume"] *= 10 ** (VOLUME_EXPONENT + 8)
    records["price_exponent"], records["volume_exponent"] = -9, -8
    return list(to_frames(records, numbers, per_frame, first_seq, kind=1))


def make_session(keys: Keys, warm: int, timed: int, per_frame: int, seed: int = 1) -> tuple[list[bytes], int]:
    """Return unsequenced frames, names first, and how many of them come before the timed trades."""
    random = np.random.default_rng(seed)
    frames = [names_frame(keys)]
    records, numbers = make_records(keys, warm, 1, random)
    visit_once(keys, records, random)
    frames += to_frames(records, numbers, per_frame, 1)
    before = len(frames)
    records, numbers = make_records(keys, timed, warm + 1, random)
    repeat_some(records, numbers, random, 0.01)
    frames += to_frames(records, numbers, per_frame, warm + 1)
    return frames, before


def write_frames(path: Path, frames: Iterable[bytes]) -> None:
    """Write frames, each behind its size as a little-endian uint64."""
    with path.open("wb") as out:
        for frame in frames:
            out.write(len(frame).to_bytes(8, "little"))
            out.write(frame)


def read_frames(path: Path) -> list[bytes]:
    """Read what `write_frames` wrote."""
    data = path.read_bytes()
    frames, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        frames.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return frames
