"""The peer: DuckDB does what `riskwire replay` does with three limits. Run as a process; prints one JSON object.

Floats, where riskwire is exact, and rows in any order until the window sorts them: advantages given to the peer (in
decimals, and keeping the order of the file, it was slower). All cores are used, as DuckDB does by itself.
"""

from __future__ import annotations

import json
import sys
import time

import duckdb

COLUMNS = {
    "trade_id": "VARCHAR",
    "symbol": "VARCHAR",
    "price": "DOUBLE",
    "volume": "DOUBLE",
    "side": "VARCHAR",
    "executed_at": "BIGINT",
    "account": "VARCHAR",
}
# Times rise with each new trade, and what is repeated is the whole row: any row of an id is its first.
TRADES = """
CREATE TEMP TABLE trades AS
WITH found AS (
    SELECT any_value(COLUMNS(* EXCLUDE trade_id))
    FROM read_csv($path, header=true, auto_detect=false, columns={columns})
    GROUP BY trade_id
), moved AS (
    SELECT *, CASE WHEN side = 'buy' THEN volume ELSE -volume END AS signed FROM found
)
SELECT account, symbol, price, volume, signed,
       sum(signed) OVER (PARTITION BY account, symbol ORDER BY executed_at ROWS UNBOUNDED PRECEDING) AS position
FROM moved
"""
BREACHES = """
SELECT count(*),
       count(*) FILTER (abs(position) > $position OR abs(position) * abs(price) > $notional OR volume > $volume),
       count(*) FILTER (volume > $volume),
       count(DISTINCT (account, symbol)) FILTER (abs(position) > $position + 1e-6)
FROM trades
"""
FINAL = "SELECT account, symbol, round(sum(signed), 2) AS quantity FROM trades GROUP BY ALL ORDER BY ALL"


def main(path: str, positions_out: str, position_max: float, notional_max: float, volume_max: float) -> None:
    """Read, drop duplicate ids, keep running positions, filter the breaches, write the final positions."""
    started = time.perf_counter()
    db = duckdb.connect()
    db.execute("SET preserve_insertion_order = false")
    db.execute(TRADES.format(columns=COLUMNS), {"path": path})
    thresholds = {"position": position_max, "notional": notional_max, "volume": volume_max}
    accepted, breaches, volume_breaches, over = db.execute(BREACHES, thresholds).fetchall()[0]
    db.sql(FINAL).write_csv(positions_out)
    found = {
        "elapsed_s": time.perf_counter() - started,
        "accepted": accepted,
        "breaches": breaches,
        "volume_breaches": volume_breaches,
        "keys_over_position": over,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:6]))
