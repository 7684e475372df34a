"""What it means that the core agrees with the exact slow reference: compared here, to the last unit."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from core_frames import SequencedFrames
from strategies import accepted

from engine.events import Event
from engine.oracle import Oracle
from engine.oracle.numbers import VALUE_EXPONENT
from engine.oracle.rules import RATES, Key, Rule, quantity_factor
from ext.levels import check_cash, levels, sums
from ext.records import REASONS
from ext.report import alerts_to_jsonl
from ext.risk import RiskCore

Numbered = list[tuple[int, Event]]
Sums = dict[tuple[str, Key], tuple[int, int]]
BY_QUANTITY = {"max_position", "max_notional"}
ADDED = {*BY_QUANTITY, *RATES, "gross_notional", "net_notional", "max_loss", "max_drawdown", "concentration"}


def alerts_of(core: RiskCore, first_no: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while first_no + len(found) <= len(core.alerts):
        lines = alerts_to_jsonl(core.alerts.frame(first_no + len(found)))
        found += [json.loads(line) for line in lines.splitlines()]
    return found


def refusals_of(core: RiskCore) -> list[tuple[int, str]]:
    return [(seq, REASONS[reason]) for seq, reason in core.refused()]


def sums_of(core: RiskCore) -> Sums:
    """Return what every key adds up to, and its peak, in units of 1e-72, where it is anything."""
    found = {}
    for name, (mantissa, exponent, peak) in sums(core).items():
        if mantissa or peak:
            unit = 10 ** (exponent - VALUE_EXPONENT)
            found[name] = mantissa * unit, peak * unit
    return found


def reference_sums(oracle: Oracle) -> Sums:
    found = {}
    for rule in oracle._rules:
        if rule.kind in ADDED:
            for key, state in rule.keys.items():
                if state.total or state.peak:
                    found[rule.limit.id, key] = state.total * unit_of(oracle, rule, key), state.peak
    return found


def unit_of(oracle: Oracle, rule: Rule, key: Key) -> int:
    return quantity_factor(oracle._symbols[key[1]]) if rule.kind in BY_QUANTITY else 1


def check_state(core: RiskCore, oracle: Oracle) -> None:
    check_cash(core)
    assert core.positions() == oracle.positions()
    assert refusals_of(core) == oracle.refusals
    assert {name.decode() for name in core.killed()} == oracle.kills
    assert levels(core) == oracle.levels()
    assert sums_of(core) == reference_sums(oracle)


def restarted(core: RiskCore) -> RiskCore:
    """Return a core restored from a snapshot of this one: what goes on must not notice."""
    fresh = RiskCore()
    fresh.restore(core.snapshot())
    assert fresh.state_hash() == core.state_hash()
    return fresh


def check_session(events: Sequence[Event], restarts: Collection[int] = (), sizes: Sequence[int] = ()) -> Oracle:
    """Compare after each event, restarting from a snapshot before some; then once more in frames cut anywhere.

    Returns the reference.
    """
    numbered = accepted(events)
    frames, core, oracle = SequencedFrames(), RiskCore(), Oracle()
    seen = 0
    for seq, event in numbered:
        if seq in restarts:
            core = restarted(core)
        core.apply(frames.frame(seq, [event]))
        oracle.apply(seq, event)
        assert alerts_of(core, seen + 1) == oracle.alerts[seen:], (seq, event)
        seen = len(oracle.alerts)
        check_state(core, oracle)
    check_frames(numbered, sizes, core)
    return oracle


def check_frames(numbered: Numbered, sizes: Sequence[int], one_by_one: RiskCore) -> None:
    core = RiskCore()
    for frame in SequencedFrames().cut(numbered, sizes):
        core.apply(frame)
        core.apply(frame)  # what came before is passed over
    assert core.state_hash() == one_by_one.state_hash()
    assert core.positions_json() == one_by_one.positions_json()
    assert alerts_of(core) == alerts_of(one_by_one)
