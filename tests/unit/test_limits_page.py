"""Every example of docs/limits.md does what the page says."""

from __future__ import annotations

import csv
import re
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from engine.config import KINDS, parse_limits
from engine.events import LimitsChanged, TradeExecuted
from engine.oracle import Door, Oracle

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "limits.md").read_text()
EXAMPLE = re.compile(r"^## (\w+)\n.*?```toml\n(.*?)```\n```csv\n(.*?)```\n```text\n(.*?)```", re.DOTALL | re.MULTILINE)
EXAMPLES = [match.groups() for match in EXAMPLE.finditer(PAGE)]


def trade_of(row: dict[str, str]) -> TradeExecuted:
    optional = {key: row[key] for key in ("account",) if key in row}
    return TradeExecuted(
        trade_id=row["trade_id"],
        symbol=row["symbol"],
        price=Decimal(row["price"]),
        volume=Decimal(row["volume"]),
        side=row["side"],  # type: ignore[arg-type]
        executed_at=int(row["executed_at"]),
        fee=Decimal(row.get("fee", "0")),
        **optional,
    )


def test_every_kind_has_an_example() -> None:
    assert [kind for kind, *_ in EXAMPLES] == list(KINDS)


def test_the_first_block_shows_a_file_that_is_accepted() -> None:
    block = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    assert parse_limits(tomllib.loads(block[1])).limit[0].clear_at == "0.7"


@pytest.mark.parametrize(("kind", "toml", "rows", "wanted"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_an_example_gives_the_alerts_it_shows(kind: str, toml: str, rows: str, wanted: str) -> None:
    limits = tomllib.loads(toml)
    assert [limit["kind"] for limit in limits["limit"]] == [kind]
    events = [
        LimitsChanged("limits", at=0, limit=limits["limit"]),
        *(trade_of(row) for row in csv.DictReader(rows.splitlines())),
    ]
    door, oracle = Door(), Oracle()
    for seq, event in enumerate(events, 1):
        assert door.judge(event) == "accepted"
        oracle.apply(seq, event)
    found = [f"{alert['trade_id']} {alert['severity']} {alert['value']}" for alert in oracle.alerts]
    assert found == wanted.splitlines()
