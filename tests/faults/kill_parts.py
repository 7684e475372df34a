"""The parts that the kill loop kills, as processes: `python kill_parts.py publish|consume …`; and what is published.

The events are a function of a number, so that every process and the undisturbed run have the same.
"""

from __future__ import annotations

import os
import random
import sys
import time
from decimal import Decimal
from typing import Final

import zmq

from engine.consumer import RiskConsumer
from engine.events import Event, MarkPrice, PositionAdjusted, TradeExecuted
from engine.publisher import Publisher
from ext.encoder import EventEncoder
from ext.risk import RiskCore

START_NS: Final = 1_700_000_000_000_000_000
WAIT_S: Final = 120.0

LIMITS = """\
[[limit]]
id = "position"
kind = "max_position"
per = ["account", "symbol"]
threshold = "40"

[[limit]]
id = "rate"
kind = "trade_rate"
per = ["account"]
threshold = "30"
window = "20us"

[[limit]]
id = "loss"
kind = "max_drawdown"
per = ["account"]
threshold = "500"

[[limit]]
id = "again"
kind = "repeated_trade"
threshold = "2"
window = "1ms"
"""


def session(number: int, count: int) -> list[Event]:
    """Return trades, busts, corrections, marks, adjustments, duplicates, conflicts and unknown trades."""
    rng = random.Random(number)
    events: list[Event] = []
    trades: list[TradeExecuted] = []
    for n in range(count):
        at = START_NS + n * 1_000
        kind = rng.random()
        if kind < 0.03 and trades:
            events.append(rng.choice(trades))  # a duplicate
        elif kind < 0.05 and trades:
            events.append(changed(rng.choice(trades), price=Decimal(1)))  # a conflict: refused at the door
        elif kind < 0.09 and trades:
            old = rng.choice(trades)  # a second bust is refused in the sequence
            events.append(changed(old, trade_id=f"B{n}", exec_type="bust", ref_trade_id=old.trade_id, executed_at=at))
        elif kind < 0.12 and trades:
            old = rng.choice(trades)
            volume = Decimal(rng.randrange(1, 9))
            correct = {"trade_id": f"C{n}", "exec_type": "correct", "ref_trade_id": old.trade_id, "volume": volume}
            events.append(changed(old, **correct, executed_at=at))
        elif kind < 0.14:
            events.append(MarkPrice(f"M{n}", f"S{rng.randrange(5)}", Decimal(rng.randrange(90, 110)), at))
        elif kind < 0.15:
            quantity, price = Decimal(rng.randrange(-5, 6)), Decimal(100)
            events.append(
                PositionAdjusted(f"J{n}", f"A{rng.randrange(3)}", f"S{rng.randrange(5)}", quantity, price, at)
            )
        else:
            trades.append(
                TradeExecuted(
                    f"T{n}",
                    f"S{rng.randrange(5)}",
                    Decimal(rng.randrange(9000, 11000)) / 100,
                    Decimal(rng.randrange(1, 9)),
                    "buy" if rng.random() < 0.55 else "sell",
                    at,
                    account=f"A{rng.randrange(3)}",
                    strategy=f"x{rng.randrange(2)}",
                )
            )
            events.append(trades[-1])
    return events


def changed(trade: TradeExecuted, **fields: object) -> TradeExecuted:
    import msgspec

    return msgspec.structs.replace(trade, **fields)


def publish(base: str, number: int, count: int, progress: str, pause_s: float) -> None:
    """Publish the session in frames of random sizes, from a little before what was acked in an earlier life on.

    How many events are acked is written into a file before going on.
    """
    rng = random.Random(os.getpid())
    fd = os.open(progress, os.O_RDWR | os.O_CREAT)
    first = max(0, int(os.pread(fd, 10, 0) or b"0") - rng.randrange(200))
    encoder = EventEncoder()
    waiting = 0
    with Publisher(base, "session", wait_s=WAIT_S) as publisher:
        size = rng.choice((1, 7, 60))
        for event in session(number, count)[first:]:
            encoder.add(event)
            waiting += 1
            if waiting == size:
                publisher.publish_frame(encoder.finish())
                publisher.poll()
                os.pwrite(fd, b"%10d" % (first + publisher.stats.acked), 0)
                waiting, size = 0, rng.choice((1, 7, 60))
                time.sleep(pause_s)
        if waiting:
            publisher.publish_frame(encoder.finish())
        publisher.flush()
        os.pwrite(fd, b"%10d" % (first + publisher.stats.acked), 0)


def consume(base: str) -> None:
    """Follow an engine from outside; for each seq on stdin print the state's hash there."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with RiskConsumer(context, base, announce=False) as consumer:
        print("ready", flush=True)
        for line in sys.stdin:
            consumer.wait_applied(int(line), WAIT_S)
            print(consumer.call(RiskCore.state_hash).result(WAIT_S).hex(), flush=True)
    context.term()


if __name__ == "__main__":
    if sys.argv[1] == "publish":
        publish(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5], float(sys.argv[6]))
    else:
        consume(sys.argv[2])
