"""The bench's recorded session: one CSV, the same for every peer, made once and kept in the temporary directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

SYMBOLS = 1_000
ACCOUNTS = 100
DUPLICATES = 0.01  # share of rows that repeat an earlier one
SEED = 20_240_517
START_NS = 1_700_000_000_000_000_000
SIDES = ("buy", "sell")
PIECE = 100_000  # rows written at once
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
        with part.open("w") as out:
            make(trades, out)
        part.rename(path)
    return path


def limits_toml() -> Path:
    """Return the file of the three limits."""
    path = folder() / "limits.toml"
    path.write_text(LIMITS)
    return path


def make(rows: int, out: TextIO) -> None:
    """Write the session: every account trades every symbol, prices to the cent, volumes to a hundredth."""
    random = np.random.default_rng(SEED)
    unique = max(1, rows - int(rows * DUPLICATES))
    symbol = random.integers(0, SYMBOLS, unique)
    base_cents = random.integers(500, 50_000, SYMBOLS)
    price_cents = (base_cents[symbol] * (1 + random.normal(0, 0.01, unique))).astype(np.int64)
    volume_cents = np.maximum(1, random.lognormal(np.log(1_000), 1, unique)).astype(np.int64)
    side = random.integers(0, 2, unique)
    executed_at = START_NS + np.cumsum(random.integers(1, 20_000, unique))
    account = random.integers(0, ACCOUNTS, unique)
    columns = (np.arange(unique), symbol, price_cents, volume_cents, side, executed_at, account)
    order = with_duplicates(unique, rows, random)
    out.write("trade_id,symbol,price,volume,side,executed_at,account\n")
    for start in range(0, rows, PIECE):
        piece = [column[order[start : start + PIECE]].tolist() for column in columns]
        out.writelines(
            f"{number:08d},S{symbol:04d},{price // 100}.{price % 100:02d},{volume // 100}.{volume % 100:02d},"
            f"{SIDES[side]},{at},A{account:03d}\n"
            for number, symbol, price, volume, side, at, account in zip(*piece, strict=True)
        )


def with_duplicates(unique: int, rows: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return which trade each row is: some are repeated up to a thousand rows later."""
    again = random.integers(0, unique, rows - unique)
    place = np.concatenate([np.arange(unique), again + random.integers(1, 1_000, again.size) + 0.5])
    return np.concatenate([np.arange(unique), again])[np.argsort(place, kind="stable")]
