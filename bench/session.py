"""The bench's recorded session: one CSV, the same for every peer, made once and kept in the temporary directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

SYMBOLS = 1_000
ACCOUNTS = 100
DUPLICATES = 0.01  # share of rows that repeat an earlier one
SEED = 20_240_517
VERSION = 1  # of the content, part of the file's name

POSITION_MAX = 300
NOTIONAL_MAX = 100_000
TRADE_VOLUME_MAX = 500

LIMITS = f"""\
[[limit]]
id = "position"
kind = "max_position"
per = ["account", "symbol"]
threshold = "{POSITION_MAX}"

[[limit]]
id = "notional"
kind = "max_notional"
per = ["account", "symbol"]
threshold = "{NOTIONAL_MAX}"

[[limit]]
id = "volume"
kind = "max_trade_volume"
threshold = "{TRADE_VOLUME_MAX}"
"""


def folder() -> Path:
    """Return the folder where sessions are kept."""
    path = Path(tempfile.gettempdir()) / f"riskwire-bench-{os.getuid()}"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def session_csv(trades: int) -> Path:
    """Return a CSV of so many rows, making it the first time."""
    path = folder() / f"trades-{trades}-v{VERSION}.csv"
    if not path.exists():
        part = path.with_suffix(".part")
        make(trades).write_csv(part)
        part.rename(path)
    return path


def limits_toml() -> Path:
    """Return the file of the three limits."""
    path = folder() / "limits.toml"
    path.write_text(LIMITS)
    return path


def make(rows: int) -> pl.DataFrame:
    """Make the session: every account trades every symbol, prices to the cent, volumes to a hundredth."""
    random = np.random.default_rng(SEED)
    unique = max(1, rows - int(rows * DUPLICATES))
    symbol = random.integers(0, SYMBOLS, unique)
    base_cents = random.integers(500, 50_000, SYMBOLS)
    price_cents = (base_cents[symbol] * (1 + random.normal(0, 0.01, unique))).astype(np.int64)
    volume_cents = np.maximum(1, random.lognormal(np.log(1_000), 1, unique)).astype(np.int64)
    frame = pl.DataFrame(
        {
            "trade_id": pl.Series(np.arange(unique)).cast(pl.String).str.pad_start(8, "0"),
            "symbol": ("S" + pl.Series(symbol).cast(pl.String).str.pad_start(4, "0")),
            "price": cents(price_cents),
            "volume": cents(volume_cents),
            "side": pl.Series(random.integers(0, 2, unique)).replace_strict({0: "buy", 1: "sell"}),
            "executed_at": 1_700_000_000_000_000_000 + np.cumsum(random.integers(1, 20_000, unique)),
            "account": "A" + pl.Series(random.integers(0, ACCOUNTS, unique)).cast(pl.String).str.pad_start(3, "0"),
        }
    )
    return with_duplicates(frame, rows, random)


def cents(values: np.ndarray) -> pl.Series:
    """Return hundredths as decimal text."""
    series = pl.Series(values)
    return (series // 100).cast(pl.String) + "." + (series % 100).cast(pl.String).str.pad_start(2, "0")


def with_duplicates(frame: pl.DataFrame, rows: int, random: np.random.Generator) -> pl.DataFrame:
    """Repeat some rows up to a thousand rows later, so that the frame has as many rows as asked for."""
    again = random.integers(0, frame.height, rows - frame.height)
    place = np.concatenate([np.arange(frame.height), again + random.integers(1, 1_000, again.size) + 0.5])
    picked = np.concatenate([np.arange(frame.height), again])[np.argsort(place, kind="stable")]
    return frame[picked]
