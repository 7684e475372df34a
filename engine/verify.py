"""The reference beside the core: `riskwire replay --verify`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from engine.alertframes import decode_alerts
from engine.codec import EventDecoder
from engine.errors import VerifyError
from engine.events import Event
from engine.limitset import LimitSet
from engine.oracle import Oracle
from ext.consumer import preset_limits
from ext.records import REASONS, RECORD_DTYPE, Frame, stamp_frame
from ext.risk import RiskCore

PROGRESS_EVERY = 4096  # events
STEPS = 64  # comparisons in one pass in search of the first difference
HEADER_BYTES, RECORD_BYTES = 64, RECORD_DTYPE.itemsize
COUNT = slice(8, 12)  # record_count in a header


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

    frames: the sequenced frames from seq 1 on (bytes or `Frame`); gone through again where positions differ. core: a
    RiskCore that has applied exactly these. limits: what was preset in the core, if anything. progress: called with the
    last seq, now and then. Returns the last seq compared. Raises VerifyError at the first difference, naming seq and
    field.
    """
    oracle = _reference(limits)
    alerts = _alerts_of(core)
    refusals = {seq: REASONS[reason] for seq, reason in core.refused()}
    compared = refused = 0
    for seq, event in _events_of(frames):
        oracle.apply(seq, event)
        for wanted in oracle.alerts[compared:]:
            _compare_alert(next(alerts, None), wanted)
        compared = len(oracle.alerts)
        _compare_refusal(seq, refusals.get(seq), oracle.refusals[refused:])
        refused = len(oracle.refusals)
        if progress is not None and seq % PROGRESS_EVERY == 0:
            progress(seq)
    _check_no_more(next(alerts, None), oracle.seq)
    try:
        _compare_state(core, oracle)
    except VerifyError as at_end:
        raise _first_difference(frames, limits, oracle.seq) or at_end from None
    return oracle.seq


def _reference(limits: LimitSet | None) -> Oracle:
    oracle = Oracle()
    if limits is not None:
        oracle.preset_limits(limits)
    return oracle


def _frames_of(frames: Iterable[Any]) -> Iterator[Frame]:
    return (message if isinstance(message, Frame) else Frame(message) for message in frames)


def _events_of(frames: Iterable[Any]) -> Iterator[tuple[int, Event]]:
    decoder = EventDecoder()
    for frame in _frames_of(frames):
        yield from decoder.decode_all(frame)


# --- where positions begin to differ ---------------------------------------------------------------------------------


def _first_difference(frames: Iterable[Any], limits: LimitSet | None, last_seq: int) -> VerifyError | None:
    """Return the earliest difference in positions or kills, found by going through the sequence again.

    Both start anew and are compared now and then, each time in finer steps up to where they were found to differ. None
    where a core of its own does not differ.
    """
    found, after, step = None, 0, last_seq
    while step > 1:
        step = max(1, step // STEPS)
        differs = _compare_in_steps(frames, limits, after, step, last_seq)
        if differs is None:
            return found
        found, seq = differs
        after = seq - step
    return found


def _compare_in_steps(
    frames: Iterable[Any], limits: LimitSet | None, after: int, step: int, last_seq: int
) -> tuple[VerifyError, int] | None:
    """Return the first difference, and its seq, comparing every `step` events behind seq `after`, and at the end."""
    oracle, core = _reference(limits), RiskCore()
    if limits is not None:
        preset_limits(core, limits.to_json())
    decoder = EventDecoder()
    for frame in _frames_of(frames):
        for place, (seq, event) in enumerate(decoder.decode_all(frame), 1):
            oracle.apply(seq, event)
            is_last = place == len(frame)
            if seq > after and ((seq - after) % step == 0 or seq == last_seq):
                core.apply(frame.buffer if is_last else _beginning(frame, place))
                try:
                    _compare_state(core, oracle)
                except VerifyError as difference:
                    return difference, seq
            elif is_last:
                core.apply(frame.buffer)
    return None


def _beginning(frame: Frame, count: int) -> bytearray:
    """Return a frame of the first records only; a core passes over those it has applied."""
    data = bytes(frame.buffer)
    cut = bytearray(data[: HEADER_BYTES + count * RECORD_BYTES] + data[HEADER_BYTES + len(frame) * RECORD_BYTES :])
    cut[COUNT] = count.to_bytes(4, "little")
    stamp_frame(cut, frame.first_seq, frame.epoch, frame.stamped_at)
    return cut


# --- comparing -------------------------------------------------------------------------------------------------------


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


def _compare_refusal(seq: int, found: str | None, refusals: Sequence[tuple[int, str]]) -> None:
    wanted = refusals[0][1] if refusals else None
    if found != wanted:
        raise VerifyError(f"seq {seq}: refusal: the core has {found or 'none'}, the reference {wanted or 'none'}")


def _compare_state(core: Core, oracle: Oracle) -> None:
    _compare_positions(core.positions(), oracle)
    _compare_kills(core, oracle)


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
