"""docs/queue.md: its examples run against a real engine, as written there, and change no file to be added."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from cli_process import ROOT, environment, start
from queue_rig import wait_for

from engine.client import EngineClient
from engine.config import QueueConfig, load_config
from engine.events import TradeExecuted
from engine.publisher import Publisher

EXAMPLES = ROOT / "docs" / "examples"
PAGE = (ROOT / "docs" / "queue.md").read_text() if (ROOT / "docs" / "queue.md").exists() else ""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    base = f"ipc://{tmp_path}/run"
    process = start("serve", "--base", base, "--journal", "journal", cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == f"ready {base}\n"
    with Publisher(base, "desk") as publisher:
        for n in range(1, 201):
            symbol = "BTC" if n % 2 else "ETH"
            publisher.publish(TradeExecuted(f"T{n}", symbol, Decimal(1000), Decimal(n), "buy", 1_700_000_000 * 10**9))
    yield base
    process.terminate()
    process.communicate(timeout=60)


@pytest.mark.parametrize("example", ["big_trades.py", "trades_by_account.py"])
def test_the_page_shows_the_example_as_it_is(example: str) -> None:
    body = (EXAMPLES / example).read_text().split('"""')[2].strip()
    assert f"```python\n{body}\n```" in PAGE


def test_the_batch_worker_of_the_page_counts_each_trade_once(engine: str, tmp_path: Path) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("riskwire worker --queue counts")]
    path = {"PYTHONPATH": f"{ROOT}:{EXAMPLES}", "RISKWIRE_CONNECT": engine}
    workers = [start(*line.split()[1:], cwd=tmp_path, **path) for _ in range(2)]

    def counted() -> int:
        try:
            with sqlite3.connect(f"file:{tmp_path}/counts.db?mode=ro", uri=True, timeout=60) as db:
                return db.execute("SELECT sum(trades) FROM counts").fetchone()[0] or 0
        except sqlite3.OperationalError:  # no table yet
            return 0
        finally:
            if "db" in locals():
                db.close()

    try:
        wait_for(lambda: counted() >= 200)
        with EngineClient(engine) as client:  # one of them may have been quick, and the other still be starting
            wait_for(lambda: sum(len(queue["workers"]) for queue in client.status()["queues"]) == 2)
    finally:
        for worker in workers:
            worker.terminate()
        ends = [worker.communicate(timeout=60)[1] for worker in workers]
    assert counted() == 200
    assert [worker.returncode for worker in workers] == [0, 0], ends


def test_the_settings_of_the_page_are_taken(tmp_path: Path) -> None:
    toml = PAGE.split("```toml\n")[1].split("```")[0]
    (tmp_path / "riskwire.toml").write_text(toml)
    (queue,) = load_config(tmp_path / "riskwire.toml").queue
    assert queue.match == {"account": "MM*", "symbol": "BTCUSDT"}
    default = {name: getattr(queue, name) for name in ("lease_ns", "max_attempts", "in_hands_max", "events")}
    assert default == {name: getattr(QueueConfig("x"), name) for name in default}, "what it shows are the defaults"


def test_the_worker_of_the_page_keeps_each_big_trade_once_with_two_competing(engine: str, tmp_path: Path) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("riskwire worker --queue big-trades")]
    words = line.split()[1:]
    path = {"PYTHONPATH": f"{ROOT}:{EXAMPLES}", "RISKWIRE_CONNECT": engine}
    workers = [start(*words, cwd=tmp_path, **path) for _ in range(2)]

    def rows() -> list[tuple[str, str]]:
        if not (tmp_path / "big-trades.db").exists():
            return []
        db = sqlite3.connect(tmp_path / "big-trades.db", timeout=60)
        try:
            return db.execute("SELECT trade_id, value FROM big_trades ORDER BY seq").fetchall()
        except sqlite3.OperationalError:  # no table yet
            return []
        finally:
            db.close()

    expected = [(f"T{n}", str(1000 * n)) for n in range(100, 201)]
    try:
        wait_for(lambda: len(rows()) >= len(expected))
    finally:
        for worker in workers:
            worker.terminate()
        ends = [worker.communicate(timeout=60)[1] for worker in workers]
    assert rows() == expected
    assert [worker.returncode for worker in workers] == [0, 0], ends


def test_the_subscriber_of_the_page_sees_every_trade(engine: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "volume_by_symbol.py", engine, "200"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"BTC {sum(range(1, 201, 2))}\nETH {sum(range(2, 201, 2))}\n"
