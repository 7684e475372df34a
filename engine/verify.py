"""The reference beside the core: `riskwire replay --verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from engine.alertframes import decode_alerts
from engine.codec import EventDecoder
from engine.errors import VerifyError
from engine.limitset import LimitSet
from engine.oracle import Oracle
from ext.records import REASONS, Frame

PROGRESS_EVERY = 4096  # events


class AlertLog(Protocol):
    """What is asked of a core's alerts."""

    def __len__(self) -> int: ...
    def frame(self, first_no: int) -> Any: ...


class Core(Protocol):
    """What is asked of `ext.risk.RiskCore`."""

    @property
    def alerts(self) -> Any: ...
    def positions(self) -> list[dict[str, Any]]: ...
    def refused(self) -> list[tuple[int, int]]: ...
    def killed(self) -> Iterable[bytes]: ...


def verify_core(
    frames: Iterable[Any],
    core: Core,
    limits: LimitSet | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Apply a whole sequence to the reference and compare what the core made of it, to the letter.

    frames: the sequenced frames from seq 1 on (bytes or `Frame`). core: a RiskCore that has applied exactly these.
    limits: what was preset in the core, if anything. progress: called with the last seq, now and then.
    Returns the last seq compared. Raises VerifyError at the first difference, naming seq and field.
    """
    oracle = Oracle()
    if limits is not None:
        oracle.preset_limits(limits)
    decoder = EventDecoder()
    alerts = _alerts_of(core)
    compared = 0
    for message in frames:
        frame = message if isinstance(message, Frame) else Frame(message)
        for seq, event in decoder.decode_all(frame):
            oracle.apply(seq, event)
            for wanted in oracle.alerts[compared:]:
                _compare_alert(next(alerts, None), wanted)
            compared = len(oracle.alerts)
            if progress is not None and seq % PROGRESS_EVERY == 0:
                progress(seq)
    _check_no_more(next(alerts, None), oracle.seq)
    _compare_refusals(core, oracle)
    _compare_positions(core.positions(), oracle)
    _compare_kills(core, oracle)
    return oracle.seq


def _alerts_of(core: Core) -> Iterator[dict[str, Any]]:
    """Yield the core's alerts in order, as alert lines."""
    number = 1
    while number <= len(core.alerts):
        alerts = decode_alerts(core.alerts.frame(number))
        for alert in alerts:
            line = msgspec.structs.asdict(alert)
            for field in ("value", "threshold", "utilization"):
                line[field] = format(line[field], "f")
            yield line
        number += len(alerts)


def _compare_alert(found: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> None:
    if found is None:
        raise VerifyError(f"seq {wanted['seq']}: alert {wanted['alert_no']}: {_brief(wanted)} is missing in the core")
    seq = min(found["seq"], wanted["seq"])
    if found["seq"] != wanted["seq"]:
        extra = "the core" if found["seq"] < wanted["seq"] else "the reference"
        which = found if found["seq"] < wanted["seq"] else wanted
        raise VerifyError(f"seq {seq}: alert {which['alert_no']}: only {extra} has {_brief(which)}")
    _compare_fields(f"seq {seq}: alert {wanted['alert_no']} ({_brief(wanted)})", found, wanted)


def _compare_fields(where: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for field, value in wanted.items():
        if found.get(field) != value:
            raise VerifyError(f"{where}: {field}: the core has {found.get(field)!r}, the reference {value!r}")


def _brief(alert: Mapping[str, Any]) -> str:
    names = "/".join(str(alert[name]) for name in ("account", "symbol", "venue", "strategy"))
    return f"{alert['severity']} of {alert['limit_id']} for {names}"


def _check_no_more(found: Mapping[str, Any] | None, last_seq: int) -> None:
    if found is not None:
        raise VerifyError(
            f"seq {found['seq']}: alert {found['alert_no']}: only the core has {_brief(found)} "
            f"(the reference ends at seq {last_seq})"
        )


def _compare_refusals(core: Core, oracle: Oracle) -> None:
    found = {seq: REASONS[reason] for seq, reason in core.refused()}
    wanted = dict(oracle.refusals)
    for seq in sorted(found.keys() | wanted.keys()):
        if found.get(seq) != wanted.get(seq):
            raise VerifyError(
                f"seq {seq}: refusal: the core has {found.get(seq, 'none')}, the reference {wanted.get(seq, 'none')}"
            )


def _compare_positions(rows: list[dict[str, Any]], oracle: Oracle) -> None:
    wanted_rows = oracle.positions()
    for found, wanted in zip(rows, wanted_rows, strict=False):
        where = f"seq {oracle.seq}: position {wanted['account']}/{wanted['symbol']}"
        _compare_fields(where, found, wanted)
    if len(rows) != len(wanted_rows):
        raise VerifyError(
            f"seq {oracle.seq}: positions: the core has {len(rows)} rows, the reference {len(wanted_rows)}"
        )


def _compare_kills(core: Core, oracle: Oracle) -> None:
    found = {name.decode() for name in core.killed()}
    if found != oracle.kills:
        raise VerifyError(
            f"seq {oracle.seq}: kills: the core has {sorted(found)}, the reference {sorted(oracle.kills)}"
        )
