"""Alert frames back into RiskAlert structs, for people and programs at people's speed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import msgspec

from engine.events import RiskAlert, Severity
from engine.limitset import KINDS
from ext.records import KIND_ALERTS, Frame

SEVERITIES: Final[tuple[Severity, ...]] = ("clear", "warn", "breach")
KIND_NAMES: Final[tuple[str, ...]] = (*KINDS, "trade_after_kill")  # by number: ext/limits.pxd

_encode = msgspec.json.Encoder(decimal_format="string").encode


def alert_topics() -> dict[tuple[int, int], bytes]:
    """Return the topic of each (severity, kind): `alert.<severity>.<kind>`."""
    return {
        (severity, kind): f"alert.{SEVERITIES[severity]}.{name}".encode()
        for severity in range(len(SEVERITIES))
        for kind, name in enumerate(KIND_NAMES)
    }


def decode_alerts(message: Any) -> list[RiskAlert]:
    """Return the alerts of one alert frame.

    Raises FrameDecodeError where the bytes are no frame, ValueError where the frame holds no alerts.
    """
    frame = Frame(message)
    if frame.kind != KIND_ALERTS:
        raise ValueError(f"expected a frame of alerts, found frame kind {frame.kind}")
    records = frame.records
    seqs, times = records["seq"].tolist(), records["executed_at"].tolist()
    kinds, severities = records["kind"].tolist(), records["severity"].tolist()
    offsets, lengths = records["text_offset"].tolist(), records["lengths"].tolist()
    first_no = frame.first_seq
    alerts = []
    for i in range(len(frame)):
        texts = _split(frame.text(offsets[i], sum(lengths[i])), lengths[i])
        limit_id, account, symbol, venue, strategy, trade_id, value, threshold, utilization = texts
        alerts.append(
            RiskAlert(
                alert_no=first_no + i,
                seq=seqs[i],
                limit_id=limit_id,
                kind=KIND_NAMES[kinds[i]],
                severity=SEVERITIES[severities[i]],
                account=account,
                symbol=symbol,
                venue=venue,
                strategy=strategy,
                value=Decimal(value),
                threshold=Decimal(threshold),
                utilization=Decimal(utilization),
                trade_id=trade_id,
                executed_at=times[i],
            )
        )
    return alerts


def alert_line(alert: RiskAlert) -> bytes:
    """Return an alert as one line of JSON, decimals as text, with its line end."""
    return _encode(alert) + b"\n"


def _split(text: bytes, lengths: list[int]) -> list[str]:
    parts = []
    at = 0
    for length in lengths:
        parts.append(text[at : at + length].decode("utf-8", "replace"))
        at += length
    return parts
