"""Latencies counted in HdrHistogram's layout: percentiles, merging, and the text that HdrHistogram tools read.

Layout and encoding: HdrHistogram's V2 (https://github.com/HdrHistogram/HdrHistogram): 3 significant digits, values from
1 ns; the counts as zig-zag LEB128 with runs of zeros negative, deflated, in base64.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SUB_BITS = 11
SUBS = 1 << SUB_BITS  # linear buckets of the first two thousand ns
DIGITS = 3
HIGHEST_NS = 3_600_000_000_000
COOKIE, COMPRESSED_COOKIE = 0x1C849303 | 0x10, 0x1C849304 | 0x10
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)


def index_of(value: int) -> int:
    """Return which count a value belongs to."""
    bucket = (value | (SUBS - 1)).bit_length() - SUB_BITS
    return bucket * (SUBS // 2) + (value >> bucket)


def highest_of(index: int) -> int:
    """Return the highest value that belongs to a count."""
    bucket = max(0, index // (SUBS // 2) - 1)
    first = (index - bucket * (SUBS // 2)) << bucket
    return first + (1 << bucket) - 1


@dataclass
class Histogram:
    """Counts by index, and the highest value seen, in ns."""

    counts: dict[int, int] = field(default_factory=dict)
    max_ns: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Histogram:
        """Take what bench/rawzmq.c prints."""
        return cls({int(index): int(count) for index, count in given["counts"]}, int(given["max"]))

    @classmethod
    def of_values(cls, values: Iterable[int]) -> Histogram:
        """Count values."""
        made = cls()
        for value in values:
            index = index_of(value)
            made.counts[index] = made.counts.get(index, 0) + 1
            made.max_ns = max(made.max_ns, value)
        return made

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts.values())

    def percentile(self, percent: float) -> int:
        """Return the value that this share of the values does not exceed, in ns, exact to 3 digits."""
        wanted = max(1, -(-int(self.total * percent * 1_000) // 100_000))
        seen = 0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= wanted:
                return min(highest_of(index), self.max_ns)
        return self.max_ns

    def encode(self) -> str:
        """Return the histogram as HdrHistogram's compressed V2, in base64."""
        body = bytearray()
        at = 0
        for index in sorted(self.counts):
            if index > at:
                body += _zigzag(-(index - at))
            body += _zigzag(self.counts[index])
            at = index + 1
        header = struct.pack(">iiiiqqd", COOKIE, len(body), 0, DIGITS, 1, HIGHEST_NS, 1.0)
        packed = zlib.compress(header + bytes(body))
        return base64.b64encode(struct.pack(">ii", COMPRESSED_COOKIE, len(packed)) + packed).decode()


def _zigzag(value: int) -> bytes:
    left = (value << 1) ^ (value >> 63)
    out = bytearray()
    while left > 0x7F and len(out) < 8:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
