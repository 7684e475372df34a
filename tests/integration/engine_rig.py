"""Engines, feeds and files for tests: everything that is started is ended by its fixture or `with`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from engine.alertframes import alert_line, decode_alerts
from engine.config import EngineConfig
from engine.events import RiskAlert, TradeExecuted
from engine.replay import ReplayOptions, Summary, run_replay

HEADER = "trade_id,symbol,price,volume,side,executed_at,account\n"
LIMITS = """\
[[limit]]
id = "position"
kind = "max_position"
per = ["account", "symbol"]
threshold = "20"

[[limit]]
id = "size"
kind = "max_trade_volume"
threshold = "9"

[[limit]]
id = "rate"
kind = "trade_rate"
per = ["account"]
threshold = "8"
window = "10us"
"""


def rows(count: int, first: int = 0) -> str:
    """Return CSV rows of a small wild session: 7 symbols, 3 accounts, sizes 1 to 10, times 1 us apart."""
    lines = []
    for n in range(first, first + count):
        side = "sell" if (n * 7919) % 11 < 4 else "buy"
        lines.append(
            f"T{n},S{n * 31 % 7},{100 + n * 17 % 23}.{n % 10},{1 + n * 13 % 10},{side},"
            f"{1_700_000_000_000_000_000 + n * 1000},A{n * 5 % 3}\n"
        )
    return "".join(lines)


def write_session(folder: Path, count: int = 300) -> tuple[Path, Path]:
    """Write trades.csv and limits.toml; return their paths."""
    trades, limits = folder / "trades.csv", folder / "limits.toml"
    trades.write_text(HEADER + rows(count))
    limits.write_text(LIMITS)
    return trades, limits


def replay(*feeds: Path, **options: Any) -> Summary:
    """Replay with the dead letters beside the first feed unless told otherwise."""
    if "dead_letters" not in options and "journal" not in options:
        options["dead_letters"] = Path(feeds[0]).parent / "dead.db"
    return run_replay(ReplayOptions(list(feeds), **options))


def alert_lines(summary: Summary) -> bytes:
    """Return the alerts of a replay as its file would hold them."""
    return b"".join(alert_line(alert) for frame in summary.alert_frames for alert in decode_alerts(frame))


def lines_of(alerts: Sequence[RiskAlert]) -> bytes:
    return b"".join(map(alert_line, alerts))


def trade(n: int, *, volume: str = "1", account: str = "acc", symbol: str = "ABC", side: Any = "buy") -> TradeExecuted:
    return TradeExecuted(f"T{n}", symbol, Decimal("10"), Decimal(volume), side, 1_000 + n, account=account)


def config(folder: Path, **fields: Any) -> EngineConfig:
    """Return the settings of an engine that keeps everything in a folder."""
    fields.setdefault("dead_letters", str(folder / "dead.db"))
    return EngineConfig(base=f"ipc://{folder}/rw", heartbeat_every_ns=20_000_000, **fields)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
