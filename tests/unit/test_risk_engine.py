"""RiskEngine, the library face: structs, mappings and arrays in; positions and alerts out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError, InvalidEvent
from engine.events import InstrumentDefined, MarkPrice, TradeExecuted
from engine.risk import RiskEngine
from ext.levels import DEBUG

AT = 1_700_000_000_000_000_000
LIMITS = {"limit": [{"id": "big", "kind": "max_position", "per": ["account", "symbol"], "threshold": "10"}]}


@pytest.fixture
def engine() -> Iterator[RiskEngine]:
    with RiskEngine(limits=LIMITS) as engine:
        yield engine


def trade(trade_id: str, volume: str = "1", side: Any = "buy", **fields: Any) -> TradeExecuted:
    return TradeExecuted(trade_id, "AA", Decimal("100"), Decimal(volume), side, AT, **fields)


def test_a_trade_gets_a_seq_and_its_duplicate_none(engine: RiskEngine) -> None:
    assert engine.apply(trade("t1")) == 2
    assert engine.apply(trade("t1")) == 0
    assert engine.seq == 2
    assert [row.quantity for row in engine.positions()] == [Decimal(1)]


def test_mappings_are_taken_as_json_has_them(engine: RiskEngine) -> None:
    engine.apply({"trade_id": "t", "symbol": "AA", "price": "7.5", "volume": 2, "side": "sell", "executed_at": AT})
    engine.apply({"type": "MarkPrice", "event_id": "m", "symbol": "AA", "price": "8", "at": AT})
    row = engine.position("default", "AA")
    assert row is not None
    assert (row.quantity, row.unrealized_pnl, row.last_price) == (Decimal(-2), Decimal(-1), Decimal(8))


def test_a_float_is_refused(engine: RiskEngine) -> None:
    with pytest.raises(InvalidEvent, match=r"float 7\.5") as caught:
        engine.apply({"trade_id": "t", "symbol": "AA", "price": 7.5, "volume": "2", "side": "buy", "executed_at": AT})
    assert caught.value.reason == "invalid"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (trade("b", exec_type="bust", ref_trade_id="nobody"), "unknown_trade"),
        (trade("v", volume="0.000000001"), "precision"),
        (trade("w", volume="-1"), "invalid"),
    ],
)
def test_refusals_carry_their_reason(engine: RiskEngine, event: TradeExecuted, reason: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        engine.apply(event)
    assert caught.value.reason == reason


def test_many_events_come_back_with_the_places_of_what_was_refused(engine: RiskEngine) -> None:
    engine.apply(trade("old"))
    events = [
        trade("old"),
        trade("t1"),
        trade("b", exec_type="bust", ref_trade_id="nobody"),
        trade("t1"),
        trade("t2", volume="-1"),
        trade("b2", exec_type="bust", ref_trade_id="t1"),
    ]
    applied = engine.apply_many(events)
    assert (applied.accepted, applied.duplicates) == (2, 2)
    assert [(refusal.place, refusal.reason) for refusal in applied.refused] == [(2, "unknown_trade"), (4, "invalid")]


def test_an_array_gives_the_same_as_its_trades(engine: RiskEngine) -> None:
    dtype = [
        ("trade_id", "S8"),
        ("symbol", "U8"),
        ("price", "i8"),
        ("volume", "i8"),
        ("side", "u1"),
        ("executed_at", "i8"),
    ]
    rows = [(f"t{i}".encode(), "AA", 10_000 + i, 1 + i, 1 + i % 2, AT + i) for i in range(50)]
    applied = engine.apply_array(np.array(rows, dtype), price_exponent=-2, volume_exponent=0)
    assert (applied.accepted, applied.duplicates, applied.refused) == (50, 0, ())
    with RiskEngine() as other:
        for name, symbol, price, volume, side, at in rows:
            price_text = Decimal(price).scaleb(-2)
            side_text = "buy" if side == 1 else "sell"
            other.apply(TradeExecuted(name.decode(), symbol, price_text, Decimal(volume), side_text, at))
        assert other.core.positions() == engine.core.positions()


def test_an_array_of_floats_is_refused(engine: RiskEngine) -> None:
    dtype = [
        ("trade_id", "S8"),
        ("symbol", "U8"),
        ("price", "f8"),
        ("volume", "i8"),
        ("side", "u1"),
        ("executed_at", "i8"),
    ]
    with pytest.raises(ValueError, match="expected integers"):
        engine.apply_array(np.zeros(1, dtype))


def test_alerts_are_kept_and_new_ones_told_apart(engine: RiskEngine) -> None:
    engine.apply(trade("t1", "11"))
    assert [alert.severity for alert in engine.new_alerts()] == ["breach"]
    assert engine.new_alerts() == []
    engine.apply(trade("t2", "11", "sell"))
    assert [alert.severity for alert in engine.new_alerts()] == ["clear"]
    assert [alert.alert_no for alert in engine.alerts()] == [1, 2]


def test_positions_as_an_array_are_exact_integers() -> None:
    with RiskEngine(instruments=[InstrumentDefined("i", "AA", -2, 0)]) as engine:
        engine.apply(trade("t1", "3"))
        (row,) = engine.positions_array()
        assert (row["account"], row["symbol"], row["quantity"], row["last_price"]) == (b"default", b"AA", 3, 10_000)


def test_a_position_is_found_by_its_very_name(engine: RiskEngine) -> None:
    engine.apply(trade("t1", account="A*"))
    engine.apply(trade("t2", account="AB"))
    engine.apply(MarkPrice("m", "AA", Decimal(1), AT))
    row = engine.position("A*", "AA")
    assert row is not None
    assert row.account == "A*"
    assert engine.position("nobody", "AA") is None


def test_a_journal_is_taken_up_again(tmp_path: Path) -> None:
    with RiskEngine(limits=LIMITS, journal=tmp_path) as engine:
        engine.apply(trade("t1", "11"))
        before = engine.core.positions()
    with RiskEngine(limits=LIMITS, journal=tmp_path) as engine:
        assert engine.core.positions() == before
        assert engine.new_alerts() == []
        assert engine.apply(trade("t1", "11")) == 0


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("expected", [1, 100, 2_000])
def test_more_trades_than_expected_are_taken_as_ever(tmp_path: Path, expected: int, on_disk: bool) -> None:
    trades = [trade(f"t{i}", str(1 + i % 7), "sell" if i % 2 else "buy") for i in range(1_000)]
    folder = tmp_path / "journal" if on_disk else None
    with RiskEngine(limits=LIMITS, journal=folder, expected_trades=expected) as engine, RiskEngine(LIMITS) as other:
        for each in (engine, other):
            assert each.apply(trades[0]) == 2  # behind the limits
            assert each.apply_many(trades).accepted == 999
        assert engine.core.state_hash() == other.core.state_hash()


@pytest.mark.skipif(DEBUG, reason="a sanitizer keeps what is freed")
def test_expected_trades_find_their_memory_made() -> None:
    """Each in a frame of its own, as `apply` takes them: what they need is resident before the first one."""
    script = "\n".join(
        (
            "from decimal import Decimal",
            "from pathlib import Path",
            "from engine.events import TradeExecuted",
            "from engine.risk import RiskEngine",
            "def resident():",
            "    return next(int(line.split()[1]) for line in Path('/proc/self/status').open() if 'RssAnon' in line)",
            "trade = lambda i: TradeExecuted(f'trade {i}', 'AA', Decimal(100 + i % 7), Decimal(1), 'buy', i)",
            "begin = resident()",
            "engine = RiskEngine(expected_trades=200_000)",
            "engine.apply(trade(0))",
            "made = resident()",
            "for i in range(1, 100_000):",
            "    engine.apply(trade(i))",
            "print(made - begin, resident() - made)",
        )
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    made_kb, grown_kb = map(int, done.stdout.split())
    assert made_kb > 200_000 * 170 / 1024
    assert grown_kb < 100_000 * 24 / 1024  # where each frame lies: 16 bytes, made as they come


def test_fewer_than_no_trades_cannot_be_expected() -> None:
    with pytest.raises(ValueError, match="expected_trades is -1"):
        RiskEngine(expected_trades=-1)


def test_more_than_the_machine_has_is_refused_before_it_is_touched() -> None:
    with pytest.raises(
        ConfigError, match=r"expected_trades = 1000000000000: that is [\d,.]+ GiB of memory, and this machine"
    ):
        RiskEngine(expected_trades=10**12)
