"""The core's limits by example: levels and their order, windows, sums, kills, limits that change."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.events import (
    InstrumentDefined,
    KillSwitch,
    LimitsChanged,
    MarkPrice,
    PositionAdjusted,
    SessionStarted,
    TradeExecuted,
)
from engine.risk import RiskEngine
from ext.levels import sums
from ext.risk import RiskCore

D = Decimal
AT = 1_700_000_000_000_000_000
MS = 1_000_000


def limit(kind: str, threshold: str | None = None, **fields: Any) -> dict[str, Any]:
    row = {"id": kind, "kind": kind, "per": ["account", "symbol"], **fields}
    return row if threshold is None else row | {"threshold": threshold}


def engine_with(*limits: dict[str, Any], **settings: Any) -> RiskEngine:
    return RiskEngine(limits={"settings": settings, "limit": list(limits)})


class Trader:
    """Trades with ids of its own; returns what was raised as (severity, value) or more."""

    def __init__(self, engine: RiskEngine) -> None:
        self.engine = engine
        self.count = 0

    def __call__(self, volume: Any, price: Any = 10, side: Any = "buy", at_ms: int = 0, **fields: Any) -> list[Any]:
        self.count += 1
        names = {"symbol": "X", "account": "A", **fields}
        event = TradeExecuted(
            f"t{self.count}", price=D(price), volume=D(volume), side=side, executed_at=AT + at_ms * MS, **names
        )
        return self.raised(event)

    def raised(self, event: Any) -> list[Any]:
        self.engine.apply(event)
        return [(alert.severity, str(alert.value)) for alert in self.engine.new_alerts()]


def test_levels_are_decided_exactly_and_told_only_when_they_change() -> None:
    trade = Trader(engine_with(limit("max_position", "10")))
    assert trade("7.99999999") == []
    assert trade("0.00000001") == [("warn", "8")]
    assert trade("2") == []
    assert trade("0.00000001") == [("breach", "10.00000001")]
    assert trade("0.00000001", side="sell") == [("warn", "10")]
    assert trade("5", side="sell") == [("clear", "5")]


def test_with_clear_at_a_key_stays_warned_until_it_is_below_it() -> None:
    trade = Trader(engine_with(limit("max_position", "10", warn_at="0.8", clear_at="0.5")))
    assert trade(11) == [("breach", "11")]
    assert trade(4, side="sell") == [("warn", "7")]
    assert trade(2, side="sell") == []
    assert trade("0.1", side="sell") == [("clear", "4.9")]
    assert trade(2) == []


def test_a_notional_follows_its_mark() -> None:
    engine = engine_with(limit("max_notional", "100"))
    trade = Trader(engine)
    assert trade(9) == [("warn", "90")]
    assert trade.raised(MarkPrice("m1", "X", D(12), AT)) == [("breach", "108")]
    assert trade.raised(MarkPrice("m2", "X", D("8.5"), AT)) == [("clear", "76.5")]
    assert trade.raised(MarkPrice("m3", "X", D("-12"), AT)) == [("breach", "108")]


def test_holders_follow_marks_from_trades_when_the_clock_says_so() -> None:
    engine = engine_with(limit("max_notional", "100", match={"account": "A"}))
    trade = Trader(engine)
    assert trade(7) == []
    assert trade(1, 20, at_ms=99, account="B") == []
    assert trade(1, 20, at_ms=100, account="B") == [("breach", "140")]


def test_money_is_converted_to_the_base_currency() -> None:
    rows = [limit("max_notional", "100", per=["symbol"]), limit("gross_notional", "100", per=[])]
    instruments = [InstrumentDefined("i", "X", multiplier=D(2), currency="EUR")]
    limits = {"settings": {"fx": {"EUR": "1.08"}}, "limit": rows}
    with RiskEngine(limits=limits, instruments=instruments) as engine:
        assert Trader(engine)("4.7") == [("breach", "101.52"), ("breach", "101.52")]


def test_alerts_of_one_event_come_in_the_order_of_the_file_then_of_names() -> None:
    rows = [limit("max_notional", "1", id="z", per=["symbol", "venue"]), limit("max_trade_volume", "1", id="a")]
    engine = engine_with(*rows)
    trade = Trader(engine)
    for venue in ("w", "b", "é"):
        trade("0.01", venue=venue)
    engine.new_alerts()
    engine.apply(MarkPrice("m", "X", D(1000), AT))
    assert [(alert.limit_id, alert.venue) for alert in engine.new_alerts()] == [("z", "b"), ("z", "w"), ("z", "é")]
    trade(2, 1000, venue="b")
    engine.apply(PositionAdjusted("p", "A", "X", D(9), D(1), AT))
    assert [alert.limit_id for alert in engine.new_alerts()] == ["z"]


def test_a_late_trade_inside_the_window_counts_and_an_older_one_does_not() -> None:
    trade = Trader(engine_with(limit("trade_rate", "2", window="1s", warn_at="1")))
    assert trade(1, at_ms=1000) == []
    assert trade(1, at_ms=0) == []  # at t - window
    assert trade(1, at_ms=1) == [("warn", "2")]
    assert trade(1, at_ms=500) == [("breach", "3")]
    assert trade(1, at_ms=1500) == [("warn", "2")]
    assert trade(1, at_ms=2500) == [("clear", "1")]


def test_a_rate_of_volume_adds_what_has_other_units() -> None:
    engine = engine_with(limit("volume_rate", "3", window="1s", per=["account"]))
    engine.apply(InstrumentDefined("i", "FINE", 0, -12))
    trade = Trader(engine)
    assert trade("1.5") == []
    assert trade("1.500000000001", symbol="FINE") == [("breach", "3")]
    assert engine.alerts()[0].utilization == D(1)


@pytest.mark.parametrize(
    ("kind", "one", "unit"),
    [("trade_rate", "1", 1), ("volume_rate", "1", 1), ("volume_rate", "10000000000", 10**10)],
)
def test_a_rate_clears_when_its_window_empties_though_it_is_far_from_its_limit(kind: str, one: str, unit: int) -> None:
    fields = {"per": ["account"], "window": "1s"}
    threshold = str(10 * unit)
    held = limit(kind, threshold, id="held", clear_at="0.3", **fields)
    trade = Trader(engine_with(limit(kind, threshold, **fields), held))
    raised = [alert for at_ms in range(8) for alert in trade(one, 1, ("buy", "sell")[at_ms % 2], at_ms=at_ms)]
    assert raised == [("warn", str(8 * unit)), ("warn", str(8 * unit))]
    assert trade(one, 1, "sell", at_ms=1_004) == [("clear", str(4 * unit))]
    assert trade(one, 1, "buy", at_ms=1_500) == [("clear", str(2 * unit))]


def test_the_collar_looks_at_the_mark_before_the_trade() -> None:
    trade = Trader(engine_with(limit("price_collar", "10")))
    assert trade(1, 100) == []
    assert trade(1, "110.000000001") == [("breach", "10.000000001")]
    assert trade(1, "121") == [("warn", "9.999999999")]


def test_repeated_trades_are_counted_back_over_the_window() -> None:
    trade = Trader(engine_with(limit("repeated_trade", "2", window="100ms", warn_at="1")))
    assert trade(1, at_ms=0) == []
    assert trade(1, at_ms=50) == [("warn", "2")]
    assert trade(1, at_ms=99) == [("breach", "3")]
    assert trade(1, at_ms=120) == [("breach", "3")]
    assert trade(2, at_ms=121) == []


def test_loss_and_drawdown_start_again_with_a_session() -> None:
    engine = engine_with(limit("max_loss", "10", per=["account"]), limit("max_drawdown", "10", per=[]))
    trade = Trader(engine)
    trade(1, 100)
    assert trade.raised(MarkPrice("m1", "X", D(120), AT)) == []
    assert trade.raised(MarkPrice("m2", "X", D(109), AT)) == [("breach", "11")]
    assert trade.raised(MarkPrice("m3", "X", D(89), AT)) == [("breach", "11")]
    assert trade.raised(SessionStarted("s", "day", AT)) == [("clear", "0"), ("clear", "0")]
    assert trade.raised(MarkPrice("m4", "X", D(80), AT)) == [("warn", "9"), ("warn", "9")]


def test_an_opening_position_without_a_mark_is_no_loss() -> None:
    engine = engine_with(limit("max_loss", "10", per=[]))
    assert Trader(engine).raised(PositionAdjusted("o", "A", "X", D(5), D(100), 0)) == []


def test_concentration_is_quiet_up_to_its_floor() -> None:
    trade = Trader(engine_with(limit("concentration", "60", floor="100")))
    assert trade(10) == []
    assert trade("0.1") == [("breach", "100")]
    assert trade(10, symbol="Y") == [("warn", "49.751243781")]
    assert trade(1, side="sell") == [("clear", "47.643979058")]


def test_a_kill_takes_effect_from_the_next_event_on_until_released() -> None:
    engine = engine_with(limit("max_position", "10", action="kill"))
    trade = Trader(engine)
    assert trade(11) == [("breach", "11")]
    assert engine.core.kills() == [(2, b"A", b"max_position")]
    assert trade(1) == [("breach", "1")]
    assert trade(1, account="B") == []
    assert engine.alerts()[1].kind == "trade_after_kill"
    engine.apply(KillSwitch("k1", "*", engaged=True, at=AT))
    assert trade(1, account="B") == [("breach", "1")]
    engine.apply(KillSwitch("k2", "*", engaged=False, at=AT))
    assert trade(1, account="B") == trade(1) == []


def test_changed_limits_keep_levels_by_id_and_clear_what_is_gone() -> None:
    engine = engine_with(limit("max_position", "10"), limit("max_notional", "50"))
    trade = Trader(engine)
    assert trade(11) == [("breach", "11"), ("breach", "110")]
    engine.apply(LimitsChanged("l", AT, limit=[limit("max_position", "5")]))
    (gone,) = engine.new_alerts()
    assert (gone.limit_id, gone.severity, gone.value, gone.threshold) == ("max_notional", "clear", D(110), D(50))
    engine.apply(LimitsChanged("l2", AT, limit=[limit("max_position", "100")]))
    assert [(alert.severity, alert.threshold) for alert in engine.new_alerts()] == [("clear", D(100))]


def test_a_correct_is_judged_like_a_trade_and_a_bust_is_not() -> None:
    engine = engine_with(limit("max_trade_volume", "10"), limit("max_position", "100"))
    trade = Trader(engine)
    assert trade(1) == []
    names = {"symbol": "X", "price": D(10), "side": "buy", "executed_at": AT, "account": "A"}
    correct = TradeExecuted("c", volume=D(99), exec_type="correct", ref_trade_id="t1", **names)
    assert trade.raised(correct) == [("breach", "99"), ("warn", "99")]
    assert trade.raised(TradeExecuted("b", volume=D(99), exec_type="bust", ref_trade_id="c", **names)) == [
        ("clear", "0")
    ]


@pytest.mark.parametrize("count", [1, 300])
def test_a_limit_that_does_not_match_costs_nothing_and_says_nothing(count: int) -> None:
    rows = [limit("max_position", "1", id=f"l{i}", match={"symbol": f"Z{i}*"}) for i in range(count)]
    trade = Trader(engine_with(*rows))
    assert trade(1000) == []


def test_a_sum_in_a_limit_never_refuses_a_trade() -> None:
    engine = engine_with(limit("net_notional", "1", per=[]), limit("max_position", "1", per=["symbol"]))
    engine.apply(InstrumentDefined("u", "*", 0, 0, multiplier=D(10) ** 17))
    trade = Trader(engine)
    biggest = 2**63 - 1
    for i in range(5):
        trade(biggest, biggest, account=f"A{i}")
    engine.apply(MarkPrice("m", "X", D(1), AT))
    assert engine.core.refused() == []
    trade(2, 1, account="B")
    assert engine.position("B", "X") is not None


def test_a_restored_core_comes_to_the_same_hash_whatever_room_its_windows_have() -> None:
    limit = {"id": "r", "kind": "trade_rate", "per": ["account"], "threshold": "1000", "window": "100ns"}
    engine, restored = RiskEngine(limits={"limit": [limit]}), RiskCore()
    for number, at in enumerate([*range(33), *range(115, 160)]):  # a window that has grown, and half emptied again
        engine.apply(TradeExecuted(f"T{number}", "S", Decimal(1), Decimal(1), "buy", at))
        if number == 33:
            restored.restore(engine.core.snapshot())
        elif number > 33:
            restored.apply(engine._journal.frame(engine.core.applied_seq))
            assert restored.state_hash() == engine.core.state_hash(), number


def test_a_hash_has_no_bytes_that_nothing_was_written_to() -> None:
    hashes = set()
    for depth in range(20):  # the same core made at other depths of the stack, over what was there before

        def made(left: int, noise: tuple[int, ...] = ()) -> RiskCore:
            return RiskCore() if left == 0 else made(left - 1, (*noise, left * 0x5A5A5A))

        hashes.add(made(depth).state_hash())
    assert len(hashes) == 1


def test_cells_of_one_position_share_its_keys_in_whatever_order_their_limits_come() -> None:
    globs = {"late": "V2", "first": "V1", "all": "V*", "last": "V3"}
    engine = engine_with(*(limit("max_position", "20", id=name, match={"venue": glob}) for name, glob in globs.items()))
    trade = Trader(engine)
    for venue in ("V1", "V2", "V3", "V1"):
        for account in ("A", "B"):
            assert trade("2", account=account, venue=venue) == []
    held = {"late": 2, "first": 4, "all": 8, "last": 2}
    found = {name: D(whole).scaleb(exponent) for name, (whole, exponent, _) in sums(engine.core).items()}
    assert found == {(name, (account, "X", "*", "*")): held[name] for name in held for account in "AB"}
    restored = RiskCore()
    restored.restore(engine.core.snapshot())
    assert restored.state_hash() == engine.core.state_hash()
