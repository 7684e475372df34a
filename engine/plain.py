"""The plain entry: one event per message, as a JSON object or a msgpack map, for programs in any language.

No frames, no numbering, no handshake: what is known by its identity is a duplicate, so a message without an answer is
simply sent again. For tens of thousands of events a second; frames are for more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from engine.events import DeadLetter, Event, TradeExecuted
from ext.encoder import EncodeError, EventEncoder
from ext.records import REASONS
from ext.sequencer import Sequencer, Source

__all__ = ["PlainEntry", "decode_event"]

SOURCE: Final = "plain"
STAGE: Final = "door"
RAW_BYTES_MAX: Final = 1 << 20  # of a message that are kept for its dead letter

_json_any: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_msgpack_any: Final = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])
_json_event: Final[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
_msgpack_event: Final[msgspec.msgpack.Decoder[Event]] = msgspec.msgpack.Decoder(Event)
_json_trade: Final = msgspec.json.Decoder(TradeExecuted)
_msgpack_trade: Final = msgspec.msgpack.Decoder(TradeExecuted)
_to_json: Final = msgspec.json.encode
_to_msgpack: Final = msgspec.msgpack.encode

Refuse = Callable[[bytes, Source, int, list[tuple[int, int, str]]], int]
HandOn = Callable[[list[DeadLetter]], int]


class _Refused(Exception):
    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


def decode_event(message: bytes) -> Event:
    """Return the event of a JSON object or msgpack map; without `type` it is a TradeExecuted.

    Raises msgspec.ValidationError where a field does not fit, msgspec.DecodeError where it is neither.
    """
    as_json = message[:1] == b"{"
    try:
        return (_json_event if as_json else _msgpack_event).decode(message)
    except msgspec.ValidationError:
        if "type" in (_json_any if as_json else _msgpack_any).decode(message):
            raise
        return (_json_trade if as_json else _msgpack_trade).decode(message)


class PlainEntry:
    """Puts plain events into the sequence, and says what became of each. Used in the broker's thread.

    refuse: makes dead letters of a frame's refused records; hand_on: takes dead letters. Both return the number of the
    sink's batch, 0 without a sink.
    """

    def __init__(self, sequencer: Sequencer, refuse: Refuse, hand_on: HandOn) -> None:
        self._sequencer, self._refuse, self._hand_on = sequencer, refuse, hand_on
        self._source = Source(SOURCE, secrets.randbits(63) | 1)
        self._encoder = EventEncoder()

    def take(self, message: bytes) -> tuple[bytes, int]:
        """Return the answer to a message, in its own format, and the batch of the sink that it has to wait for."""
        answer: dict[str, Any]
        batch_no = 0
        try:
            event = self._decode(message)
            answer = {"ok": True, "id": _identity(event)}
            more, batch_no = self._sequence(event)
            answer |= more
        except _Refused as refused:
            answer = {"ok": False, "reason": refused.reason, "error": refused.error}
            batch_no = self._hand_on([self._letter(message, refused)])
        except OSError as problem:
            self._encoder.define_again()
            answer = {"ok": False, "reason": "", "error": f"{problem.strerror}; nothing was taken: send it again later"}
        return (_to_json if message[:1] == b"{" else _to_msgpack)(answer), batch_no

    def _decode(self, message: bytes) -> Event:
        try:
            return decode_event(message)
        except msgspec.ValidationError as problem:
            raise _Refused("invalid", str(problem)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
            raise _Refused("undecodable", str(problem)) from None

    def _sequence(self, event: Event) -> tuple[dict[str, Any], int]:
        try:
            self._encoder.add(event)
        except EncodeError as problem:
            raise _Refused(problem.reason, str(problem)) from None
        frame = self._encoder.finish(self._source.taken + 1, self._source.incarnation)
        accepted, duplicates, refused = self._sequencer.process_frame(frame, self._source)
        if refused:
            _, reason, text = refused[0]
            batch_no = self._refuse(bytes(frame), self._source, 0, refused)
            return {"ok": False, "reason": REASONS[reason], "error": text}, batch_no
        if duplicates:
            return {"duplicate": True}, 0
        assert accepted == 1
        return {"seq": self._sequencer.last_seq}, 0

    def _letter(self, message: bytes, refused: _Refused) -> DeadLetter:
        return DeadLetter(
            reason=refused.reason,
            stage=STAGE,
            error=refused.error,
            payload=message[:RAW_BYTES_MAX],
            source=SOURCE,
            at=time.time_ns(),
        )


def _identity(event: Event) -> str:
    return event.trade_id if isinstance(event, TradeExecuted) else event.event_id
