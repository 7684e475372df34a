"""`--verify`: the core that agrees passes, and each kind of difference is named with its seq and field."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from engine.broker import check_limits
from engine.errors import VerifyError
from engine.events import Event, LimitsChanged, TradeExecuted
from engine.limitset import LimitSet, parse_limits
from engine.oracle import Oracle
from engine.verify import verify_core
from ext.encoder import EventEncoder
from ext.journal import Journal
from ext.risk import RiskCore
from ext.sequencer import Sequencer, Source


def limits_event(threshold: str) -> LimitsChanged:
    row = {"id": "p", "kind": "max_position", "per": ["account", "symbol"], "threshold": threshold, "action": "kill"}
    return LimitsChanged("limits", at=0, limit=[row])


def trade(number: int, side: Any, volume: str, **more: Any) -> TradeExecuted:
    return TradeExecuted(f"t{number}", "X", Decimal(10 + number), Decimal(volume), side, number, "A", **more)


TRADES = [
    trade(1, "buy", "4"),
    trade(2, "buy", "7"),
    trade(3, "sell", "2", exec_type="bust", ref_trade_id="none"),
    trade(4, "sell", "9.5"),
]


def sequence(*events: Event) -> list[bytes]:
    """Return the frames that the door makes of events, two a frame."""
    with Journal(None) as journal:
        door, source, encoder = Sequencer(journal, check_limits=check_limits), Source("test", 1), EventEncoder()
        for at in range(0, len(events), 2):
            for event in events[at : at + 2]:
                encoder.add(event)
            door.process_frame(encoder.finish(at + 1, 1), source)
        return [bytes(frame) for frame in journal]


FRAMES = sequence(limits_event("10"), *TRADES)


def core_of(frames: list[bytes]) -> RiskCore:
    core = RiskCore()
    for frame in frames:
        core.apply(frame)
    return core


class Changed:
    """A core with one answer changed."""

    def __init__(self, **answers: Any) -> None:
        self._core = core_of(FRAMES)
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name in self._answers:
            return lambda: self._answers[name](getattr(self._core, name)())
        return getattr(self._core, name)


def test_a_core_that_agrees_passes() -> None:
    seen: list[int] = []
    assert verify_core(FRAMES, core_of(FRAMES), progress=seen.append) == 5


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        ("4", r"^seq 2: alert 1: only the core has warn of p for A/X/\*/\*"),
        ("100", r"^seq 3: alert 1: breach of p for A/X/\*/\* is missing in the core"),
        ("10.5", r"^seq 3: alert 1 \(breach of p .*\): threshold: the core has '10.5', the reference '10'"),
    ],
)
def test_the_first_alert_that_differs_is_named(threshold: str, words: str) -> None:
    core = core_of(sequence(limits_event(threshold), *TRADES))
    with pytest.raises(VerifyError, match=words):
        verify_core(FRAMES, core)


def test_an_alert_too_many_at_the_end_is_named() -> None:
    core = core_of(sequence(limits_event("10"), *TRADES, trade(5, "buy", "8")))
    with pytest.raises(VerifyError, match=r"^seq 6: alert 4: only the core has"):
        verify_core(FRAMES, core)


def test_a_position_field_is_named() -> None:
    core = Changed(positions=lambda rows: [{**rows[0], "realized_pnl": "1"}])
    with pytest.raises(VerifyError, match=r"^seq 5: position A/X: realized_pnl: the core has '1', the reference '"):
        verify_core(FRAMES, core)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"positions": lambda rows: []}, "^seq 5: positions: the core has 0 rows, the reference 1"),
        ({"refused": lambda seqs: []}, "^seq 4: refusal: the core has none, the reference unknown_trade"),
        ({"killed": lambda names: []}, r"^seq 5: kills: the core has \[\], the reference \['A'\]"),
    ],
)
def test_other_differences_are_named(answers: dict[str, Any], words: str) -> None:
    with pytest.raises(VerifyError, match=words):
        verify_core(FRAMES, Changed(**answers))


def test_preset_limits_are_in_force_from_the_start() -> None:
    frames = sequence(*TRADES)
    limits = parse_limits({"limit": limits_event("10").limit})
    with pytest.raises(VerifyError, match=r"^seq 2: alert 1: breach of p"):
        verify_core(frames, core_of(frames), limits=limits)
    assert verify_core(frames, core_of(frames), limits=LimitSet()) == 4


@pytest.mark.parametrize("wrong_at", [1, 2, 9, 150, 299, 300])
def test_where_only_a_position_differs_the_event_that_made_it_so_is_named(
    wrong_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No limit looks at fees: nothing but the position shows that the reference has gone wrong."""
    frames = sequence(*(trade(number, "buy" if number % 3 else "sell", "1") for number in range(1, 301)))
    fill = Oracle._fill

    def with_a_fee(oracle: Oracle, *given: Any) -> Any:
        made = fill(oracle, *given)
        made.fee += oracle.seq == wrong_at
        return made

    monkeypatch.setattr(Oracle, "_fill", with_a_fee)
    with pytest.raises(VerifyError, match=rf"^seq {wrong_at}: position A/X: fees: the core has '0', the reference"):
        verify_core(frames, core_of(frames))


def test_a_refusal_is_named_before_what_follows_from_it() -> None:
    core = core_of(sequence(limits_event("10"), *TRADES[:2], trade(3, "sell", "2"), TRADES[3]))
    with pytest.raises(VerifyError, match=r"^seq 4: refusal: the core has none, the reference unknown_trade"):
        verify_core(FRAMES, core)
