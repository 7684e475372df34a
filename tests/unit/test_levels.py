"""What limits stand at can be asked, and cash that did not flow is noticed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.events import TradeExecuted
from engine.risk import RiskEngine
from ext.levels import check_cash, levels, sums
from ext.records import crc32c_of
from ext.risk import RiskCore
from ext.snapshot import HEADER_BYTES

D = Decimal
CRC = slice(12, 16)  # in the header of a snapshot
LIMITS = {
    "limit": [
        {"id": "venue", "kind": "max_position", "per": ["symbol", "venue"], "threshold": "10"},
        {"id": "gross", "kind": "gross_notional", "per": ["account"], "threshold": "1000"},
        {"id": "fall", "kind": "max_drawdown", "threshold": "5"},
    ]
}


def engine_after(*trades: tuple[str, int, int, Any, str]) -> RiskEngine:
    engine = RiskEngine(limits=LIMITS)
    for at, (trade_id, price, volume, side, venue) in enumerate(trades):
        engine.apply(TradeExecuted(trade_id, "X", D(price), D(volume), side, at, "A", venue))
    return engine


def test_levels_and_sums_have_the_names_of_their_keys() -> None:
    with engine_after(("1", 10, 9, "buy", "V"), ("2", 12, 20, "sell", "W"), ("3", 12, 2, "buy", "W")) as engine:
        assert levels(engine.core) == {
            ("venue", ("*", "X", "V", "*")): "warn",
            ("venue", ("*", "X", "W", "*")): "breach",
        }
        found = {name: D(whole).scaleb(exponent) for name, (whole, exponent, _) in sums(engine.core).items()}
        assert found == {
            ("venue", ("*", "X", "V", "*")): 9,
            ("venue", ("*", "X", "W", "*")): -18,
            ("gross", ("A", "*", "*", "*")): 108,
            ("fall", ("*", "*", "*", "*")): 18,
        }


def test_a_peak_is_told_with_its_sum() -> None:
    with engine_after(("1", 10, 2, "buy", "V"), ("2", 13, 1, "buy", "V"), ("3", 11, 1, "buy", "V")) as engine:
        whole, exponent, peak = sums(engine.core)["fall", ("*", "*", "*", "*")]
        assert (D(whole).scaleb(exponent), D(peak).scaleb(exponent)) == (0, 6)
        assert levels(engine.core) == {("fall", ("*", "*", "*", "*")): "breach"}


def test_cash_that_did_not_flow_is_noticed() -> None:
    with engine_after(("1", 3, 1, "buy", "V"), ("2", 3, 1, "buy", "W")) as engine:
        check_cash(engine.core)
        snapshot = bytearray(engine.core.snapshot())
    cost = (6 * 10**17).to_bytes(16, "little")
    assert snapshot.count(cost) == 1
    snapshot[snapshot.find(cost)] ^= 1
    snapshot[CRC] = bytes(4)
    body = crc32c_of(snapshot[HEADER_BYTES:])
    snapshot[CRC] = crc32c_of(snapshot[:HEADER_BYTES], body).to_bytes(4, "little")
    core = RiskCore()
    core.restore(snapshot)
    with pytest.raises(AssertionError, match="cash that flowed in A/X"):
        check_cash(core)
