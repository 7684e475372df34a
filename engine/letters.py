"""Dead letters as they are stored: their words, how they are chosen, and what makes two of them the same."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import msgspec

from engine.events import DeadLetter

STATUSES = ("dead", "requeued", "resolved", "skipped")
Status = Literal["dead", "requeued", "resolved", "skipped"]


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One dead letter as it lies in the store; times in ns since 1970 UTC, seq 0 where it never got one."""

    id: int
    reason: str
    stage: str
    error: str
    payload: bytes
    event: str
    source: str
    position: int
    unit: str
    seq: int
    source_seq: int
    account: str
    symbol: str
    trade_id: str
    attempts: int
    count: int
    first_at: int
    last_at: int
    history: list[Any]
    traceback: str
    status: str
    first_failure: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the letter as plain JSON values: `payload` as text to read, `payload_base64` exactly."""
        fields = msgspec.structs.asdict(self)
        fields["event"] = msgspec.json.decode(self.event) if self.event else None
        fields["payload"] = self.payload.decode("utf-8", "backslashreplace")
        fields["payload_base64"] = base64.b64encode(self.payload).decode()
        return fields


class Batch(NamedTuple):
    """One message to the sink: letters, or jobs of a queue that were dead letters and are now done.

    sender, batch_no: stored in the same transaction, so that a batch sent again is known even after a crash.
    """

    letters: Iterable[DeadLetter] = ()
    resolved_stage: str = ""
    resolved_seqs: Iterable[int] = ()
    sender: str = ""
    batch_no: int = 0


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters to take; an empty field takes all.

    stage: `queue` takes every `queue:<name>`.
    account, symbol: case-sensitive globs. since: ns since 1970 UTC, compared with the last refusal.
    """

    reason: str = ""
    stage: str = ""
    account: str = ""
    symbol: str = ""
    status: str = ""
    source: str = ""
    since: int = 0

    @property
    def takes_all(self) -> bool:
        """Tell whether nothing is filtered out."""
        return self == LetterFilter()

    def where(self) -> tuple[str, list[Any]]:
        """Return the SQL condition and its parameters."""
        terms: list[str] = ["1"]
        values: list[Any] = []
        for field in ("reason", "status", "source"):
            if value := getattr(self, field):
                terms.append(f"{field} = ?")
                values.append(value)
        if self.stage:
            terms.append("(stage = ? OR substr(stage, 1, ?) = ?)")
            values += [self.stage, len(self.stage) + 1, self.stage + ":"]
        for field in ("account", "symbol"):
            if value := getattr(self, field):
                terms.append(f"{field} GLOB ?")
                values.append(value)
        if self.since:
            terms.append("last_at >= ?")
            values.append(self.since)
        return " AND ".join(terms), values


def letter_key(reason: str, stage: str, payload: bytes) -> bytes:
    """Return the hash that finds a letter again; equal keys are compared, never trusted."""
    head = f"{reason}\0{stage}\0".encode()
    return hashlib.blake2b(head + payload, digest_size=16).digest()


def event_identity(event_json: str) -> str:
    """Return what identifies an event (JSON text) when it comes again, or an empty text."""
    try:
        event = msgspec.json.decode(event_json)
    except msgspec.DecodeError:
        return ""
    if not isinstance(event, dict):
        return ""
    kind = str(event.get("type") or "TradeExecuted")
    if kind != "TradeExecuted":
        event_id = event.get("event_id")
        return f"{kind}\0{event_id}" if event_id else ""
    parts = [kind]
    for field in ("venue", "account", "symbol", "side", "exec_type", "trade_id"):
        parts.append(str(event.get(field) or ""))
    return "\0".join(parts) if parts[-1] else ""
