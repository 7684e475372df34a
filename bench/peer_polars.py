"""The peer: polars does what `riskwire replay` does with three limits. Run as a process; prints one JSON object.

Floats, where riskwire is exact: an advantage given to the peer. Every core is used, as polars does by itself.
"""

from __future__ import annotations

import json
import sys
import time

import polars as pl

KEY = ["account", "symbol"]
SCHEMA = {
    "trade_id": pl.String,
    "symbol": pl.String,
    "price": pl.Float64,
    "volume": pl.Float64,
    "side": pl.String,
    "executed_at": pl.Int64,
    "account": pl.String,
}


def main(path: str, positions_out: str, position_max: float, notional_max: float, volume_max: float) -> None:
    """Read, drop duplicate ids, keep running positions, filter the breaches, write the final positions."""
    started = time.perf_counter()
    trades = (
        pl.scan_csv(path, schema=SCHEMA)
        .unique(subset="trade_id", keep="first", maintain_order=True)
        .with_columns(signed=pl.when(pl.col("side") == "buy").then("volume").otherwise(-pl.col("volume")))
        .with_columns(position=pl.col("signed").cum_sum().over(KEY))
        .with_columns(notional=pl.col("position").abs() * pl.col("price").abs())
        .collect()
    )
    breaches = trades.filter(
        (pl.col("position").abs() > position_max)
        | (pl.col("notional") > notional_max)
        | (pl.col("volume") > volume_max)
    )
    final = trades.group_by(KEY).agg(quantity=pl.col("signed").sum().round(2)).sort(KEY)
    final.write_csv(positions_out)
    elapsed_s = time.perf_counter() - started
    over = breaches.filter(pl.col("position").abs() > position_max + 1e-6).select(KEY).unique().height
    print(
        json.dumps(
            {
                "elapsed_s": elapsed_s,
                "accepted": trades.height,
                "breaches": breaches.height,
                "volume_breaches": breaches.filter(pl.col("volume") > volume_max).height,
                "keys_over_position": over,
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:6]))
