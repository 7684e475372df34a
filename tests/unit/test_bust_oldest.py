"""Busting the oldest of a key's million trades: within 100 ms, and nobody else waits longer than that."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ext.levels import DEBUG, check_cash
from ext.records import RECORD_DTYPE, FrameBuilder, stamp_frame
from ext.risk import RiskCore

TRADES, RECORDS, ID_BYTES = 1_000_000, 1000, 8
EPOCH, SEQUENCED, TRADE, BUST, BUY, SELL = 7, 1, 1, 2, 1, 2
GOAL_MS = 100
CI_MS = 1000 if DEBUG else 250  # machines differ, and a debug build is not for speed
LIMITS = (
    b'{"settings":{"base_currency":"USD","revalue_every_ns":100000000,"fx":{}},"limit":['
    b'{"id":"p","kind":"max_position","per":["account","symbol"],"match":{},"threshold":"100000","warn_at":"0.8",'
    b'"clear_at":null,"window_ns":null,"floor":"0","action":"alert","kill_scope":"account"}]}'
)


def trades_of_one_key() -> bytearray:
    """Return a frame of buys and sells in turn at rising prices, whose times and ids are still to be filled in."""
    builder = FrameBuilder(SEQUENCED)
    for i in range(RECORDS):
        side = SELL if i % 3 == 2 else BUY
        builder.add_record(
            type=TRADE, side=side, symbol=1, account=1, id=b"0" * ID_BYTES, price=100 + i % 7, volume=1 + i % 5
        )
    return builder.finish(1, EPOCH, 1)


def names_and_limits() -> bytes:
    builder = FrameBuilder(SEQUENCED)
    for kind, number, text in ((0, 1, b"X"), (1, 1, b"A"), (1, 2, b"B")):
        builder.define_name(kind, number, text)
    builder.add_record(type=6, id=b"limits", ref=LIMITS)
    return bytes(builder.finish(1, EPOCH, 1))


def one(seq: int, account: int, exec_type: int = 0, ref: bytes = b"") -> bytes:
    builder = FrameBuilder(SEQUENCED)
    builder.add_record(
        type=TRADE,
        exec_type=exec_type,
        side=BUY,
        symbol=1,
        account=account,
        id=b"n%d" % seq,
        ref=ref,
        price=100,
        volume=1,
        executed_at=seq,
    )
    return bytes(builder.finish(seq, EPOCH, 1))


def core_with_a_million_trades() -> RiskCore:
    core = RiskCore()
    core.apply(names_and_limits())
    frame = trades_of_one_key()
    rows = np.frombuffer(frame, dtype=RECORD_DTYPE, count=RECORDS, offset=64)
    for first in range(0, TRADES, RECORDS):
        numbers = np.arange(first, first + RECORDS)
        rows["executed_at"] = numbers
        ids = np.char.zfill(numbers.astype(f"S{ID_BYTES}"), ID_BYTES)
        frame[len(frame) - ID_BYTES * RECORDS :] = ids.tobytes()
        stamp_frame(frame, 2 + first, EPOCH)
        core.apply(frame)
    return core


def timed_ms(core: RiskCore, frame: bytes) -> float:
    begin = time.thread_time()
    core.apply(frame)
    return (time.thread_time() - begin) * 1e3


@pytest.mark.parametrize("kind", ["bust", "correct"])
def test_the_oldest_of_a_million_trades_is_revised_within_a_tenth_of_a_second(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    core = core_with_a_million_trades()
    seq = core.applied_seq
    assert seq == TRADES + 1
    revised, others = [], []
    for number in (0, 1, 3):  # buys
        ref = b"%0*d" % (ID_BYTES, number)
        revised.append(timed_ms(core, one(seq + 1, 1, BUST if kind == "bust" else 1, ref)))
        others.append(timed_ms(core, one(seq + 2, 2)))
        seq += 2
    assert core.refused() == []
    row, _ = core.positions()
    assert row["trades"] == TRADES - (3 if kind == "bust" else 0)
    check_cash(core)
    with capsys.disabled():
        print(f" {kind}: {min(revised):.1f} ms of CPU (goal {GOAL_MS}), another key's trade {min(others):.3f} ms")
    assert min(revised) <= CI_MS
    assert min(others) <= CI_MS / 10
