"""Every reason of the closed list (DESIGN section 4) ends in the sink's file, with stage and original bytes."""

from __future__ import annotations

import sqlite3
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import zmq
from engine_rig import config
from queue_rig import wait_for

from engine.config import QueueConfig
from engine.deadletters import DeadLetterStore
from engine.endpoints import endpoint
from engine.events import TradeExecuted
from engine.jobwire import Revive
from engine.publisher import Publisher
from engine.requeue import ask_queue
from engine.runtime import Engine
from engine.worker import Worker
from ext.records import REASONS

MS = 1_000_000
HUGE = 2**63 - 1


def trade(trade_id: str, volume: str = "1", price: str = "1", side: Any = "buy", **more: Any) -> TradeExecuted:
    fields = {"executed_at": 1000 * MS, "account": "A", **more}
    return TradeExecuted(trade_id, fields.pop("symbol", "S"), Decimal(price), Decimal(volume), side, **fields)


def handle(event: TradeExecuted, context: Any) -> None:
    if event.trade_id == "poison":
        raise ValueError("no")
    while event.trade_id == "hangs":
        time.sleep(0.005)


def publish_what_is_refused(base: str) -> None:
    with Publisher(base, "desk") as publisher:
        accepted = [trade("poison"), trade("hangs"), trade("two"), trade("two", side="sell")]
        refused = [
            trade("fine", volume="0.123456789"),  # precision
            trade("big", volume="1e12"),  # overflow
            trade("poison", volume="2"),  # conflicting_duplicate
            trade("B1", exec_type="bust", ref_trade_id="never"),  # unknown_trade, in the sequence
            trade("C1", exec_type="correct", ref_trade_id="two"),  # ambiguous_trade
            trade("n", symbol="one-name-too-many"),
        ]
        for event in accepted + refused:
            publisher.publish(event)
        publisher.flush()
        for n in range(70):
            publisher.publish(trade(f"fill-{n}", executed_at=(2000 + n) * MS))
        publisher.publish(trade("late", executed_at=500 * MS))  # too_old: the oldest remembered is later
        publisher.flush()


def send_raw(engine: Engine) -> None:
    """Send what no publisher of ours sends: no frame, one of another version, and a trade without a volume."""
    from ext.records import FrameBuilder

    socket: zmq.Socket[bytes] = engine.pipeline.context.socket(zmq.DEALER)
    socket.linger = 1000
    socket.connect(endpoint(engine.base, "publish"))
    socket.send(b"no frame at all")
    builder = FrameBuilder()
    other = bytearray(builder.finish(1, 5))
    other[4] = 9
    socket.send(bytes(other))
    socket.close()


def test_every_reason_of_the_closed_list_ends_in_the_file(tmp_path: Path) -> None:
    settings = QueueConfig(
        "q", max_attempts=2, lease_ns=1000 * MS, backoff_min_ns=MS, backoff_max_ns=MS, match={"account": "A"}
    )
    made = config(tmp_path, journal=str(tmp_path / "journal"), queue=(settings,), max_names=1, dedup_max_trades=64)
    with Engine(made) as engine:
        publish_what_is_refused(engine.base)
        send_raw(engine)
        (tmp_path / "feed.csv").write_text("trade_id,symbol,price,volume,side,executed_at,account\nT,S,1,-1,buy,1,A\n")
        publish_feed(engine.base, tmp_path / "feed.csv")
        worker = Worker("q", handle, engine.base)
        thread = threading.Thread(target=worker.run, daemon=True)
        thread.start()

        def given_up() -> list[Any]:
            with DeadLetterStore(made.dead_letters or "", read_only=True) as store:
                return [row for row in store.iterate() if row.stage == "queue:q"]

        def reasons() -> set[str]:
            return {row.reason for row in given_up()}

        wait_for(lambda: reasons() >= {"handler_failed", "lease_exhausted"})
        poison = next(row for row in given_up() if row.reason == "handler_failed")
        wait_for(lambda: ask_queue(engine.pipeline.context, engine.base, Revive("q", [poison.seq], "skip")).seqs)
        wait_for(lambda: "skipped" in reasons())
        worker.stop()
        thread.join(60)
    with DeadLetterStore(made.dead_letters or "", read_only=True) as store:
        letters = list(store.iterate())
    found = {letter.reason: letter.stage for letter in letters}
    expected = dict.fromkeys(REASONS[1:9], "door")
    expected |= {"invalid": "feed", "unknown_trade": "sequence", "ambiguous_trade": "sequence"}
    expected |= dict.fromkeys(("handler_failed", "lease_exhausted", "skipped"), "queue:q")
    assert found == expected
    assert set(found) == {reason for reason in REASONS if reason}
    payloads = {letter.reason: letter.payload for letter in letters}
    assert payloads["undecodable"] == b"no frame at all"
    assert payloads["invalid"] == b"T,S,1,-1,buy,1,A"
    assert msgspec.json.decode(payloads["precision"])["volume"] == "0.123456789"
    assert all(payloads.values())
    db = sqlite3.connect(made.dead_letters or "")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


def publish_feed(base: str, path: Path) -> None:
    import contextlib
    import io

    from engine.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["publish", str(path), "--connect", base]) == 0
