"""What a replay reads: recorded feeds, or a journal whose sequence is replayed as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from engine.codec import EventDecoder
from engine.config import LimitSet, check_currencies
from engine.errors import UsageError
from engine.events import InstrumentDefined
from engine.firstevents import limits_changed
from ext.consumer import frames_with
from ext.encoder import EventEncoder
from ext.journal import Journal
from ext.records import EVENT_NAMES, Frame, FrameBuilder
from feeds import Feed, JournalFeed, open_feed

KIND_OFFSET: Final = 5  # of FrameHeader.kind
_LIMITS: Final = next(number for number, name in EVENT_NAMES.items() if name == "LimitsChanged")
_INSTRUMENT: Final = next(number for number, name in EVENT_NAMES.items() if name == "InstrumentDefined")
_COPIED: Final = (
    "type",
    "exec_type",
    "side",
    "flags",
    "symbol",
    "account",
    "venue",
    "strategy",
    "price",
    "price_exponent",
    "volume",
    "volume_exponent",
    "fee",
    "executed_at",
)


class FrameSource(Protocol):
    """Unsequenced frames to publish, in order."""

    keeps_seqs: bool
    """Whether its events must get the seqs they had: nothing may be numbered before or between them."""
    preset_limits: LimitSet | None
    """Limits to apply before the first event without an event of their own."""

    @property
    def bytes_read(self) -> int: ...
    @property
    def bytes_total(self) -> int | None: ...

    def next_frame(self, records_max: int) -> bytearray | None:
        """Return the next frame of at most records_max records, or None at the end."""

    def close(self) -> None: ...


def open_source(
    paths: Sequence[str | Path],
    *,
    format: str | None = None,
    map: str | None = None,
    side: str | None = None,
    account: str | None = None,
    limits: LimitSet | None = None,
    **reading: Any,
) -> FrameSource:
    """Open recorded feeds as `feeds.open_feed` does, or one journal directory.

    limits: for a journal, what replaces every LimitsChanged in it. reading: what else `feeds.open_feed` takes.
    Raises UsageError (FeedError among them) for what cannot be read.
    """
    try:
        return FileSource(open_feed(paths, format=format, map=map, side=side, account=account, **reading))
    except JournalFeed as found:
        if len(paths) > 1:
            raise UsageError(f"{found.path} is a journal: replay it alone, its sequence is complete") from None
        if side is not None or account is not None or map:
            raise UsageError(f"{found.path} is a journal: --map, --side and --account are for feeds") from None
        if any(value not in (None, 0, False, ()) for value in reading.values()):
            raise UsageError(
                f"{found.path} is a journal: its sequence is replayed whole; options that choose are for feeds"
            ) from None
        return JournalSource(found.path, limits)


class FileSource:
    """Recorded feeds: every record gets a seq of its own."""

    keeps_seqs = False
    preset_limits: LimitSet | None = None

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    @property
    def bytes_read(self) -> int:
        """Bytes of the files so far."""
        return self._feed.bytes_read

    @property
    def bytes_total(self) -> int | None:
        """Bytes of all files; None where one is a pipe."""
        return self._feed.bytes_total

    def next_frame(self, records_max: int) -> bytearray | None:
        """Return the next frame of at most records_max records, or None at the end."""
        return self._feed.next_frame(records_max, sealed=False)

    def close(self) -> None:
        """Release the files."""
        self._feed.close()


class JournalSource:
    """A journal's frames as they were published: its names, its order, its seqs.

    limits: instead of those of every LimitsChanged in it; where it has none, they are `preset_limits`.
    """

    keeps_seqs = True

    def __init__(self, directory: str | Path, limits: LimitSet | None) -> None:
        self._journal = Journal(directory, readonly=True)
        if self._journal.first_seq > 1:
            first_seq = self._journal.first_seq
            self._journal.close()
            raise UsageError(
                f"{directory}: events up to seq {first_seq - 1} were removed by retention, so the sequence cannot be "
                f"replayed from its beginning; `riskwire serve --journal` continues it, and `riskwire journal dump` "
                f"prints it from seq {first_seq} on"
            )
        self._index = 0
        self.preset_limits: LimitSet | None = None
        self.bytes_read = 0
        self.bytes_total: int | None = self._journal.used_bytes
        self._limits_json = b""
        try:
            if limits is not None:
                self._replace_limits(limits)
        except BaseException:
            self._journal.close()
            raise

    def _replace_limits(self, limits: LimitSet) -> None:
        decoder = EventDecoder()
        changes, instruments = 0, []
        for index in frames_with(self._journal, [_LIMITS, _INSTRUMENT]):
            frame = Frame(self._journal.frame_by_index(index), False)
            decoder.learn(frame)
            for i, kind in enumerate(frame.records["type"].tolist()):
                changes += kind == _LIMITS
                if kind == _INSTRUMENT and isinstance(event := decoder.decode(frame, i), InstrumentDefined):
                    instruments.append(event)
        check_currencies(limits, instruments)
        if changes:
            self._limits_json = limits_json(limits)
        else:
            self.preset_limits = limits

    def next_frame(self, records_max: int) -> bytearray | None:
        """Return the next frame as it was published, whatever its size; None at the end."""
        if self._index >= len(self._journal):
            return None
        frame = bytearray(self._journal.frame_by_index(self._index))
        self._index += 1
        self.bytes_read += len(frame)
        frame[KIND_OFFSET] = 0
        if self._limits_json and (Frame(frame, False).records["type"] == _LIMITS).any():
            return with_limits(Frame(frame, False), self._limits_json)
        return frame

    def close(self) -> None:
        """Release the journal."""
        self._journal.close()


def limits_json(limits: LimitSet, who: str = "") -> bytes:
    """Return the JSON that a LimitsChanged record carries for a set of limits."""
    encoder = EventEncoder()
    encoder.add(limits_changed(limits, "limits", 0, who))
    return Frame(encoder.finish()).ref(0)


def with_limits(frame: Frame, json: bytes) -> bytearray:
    """Return a frame with other limits in each of its LimitsChanged records, and all else as it is."""
    builder = FrameBuilder()
    for kind, name_id, text in frame.definitions():
        builder.define_name(kind, name_id, text)
    for i in range(len(frame)):
        record = frame.records[i]
        fields: dict[str, Any] = {name: int(record[name]) for name in _COPIED}
        ref = json if fields["type"] == _LIMITS else frame.ref(i)
        builder.add_record(**fields, id=frame.id(i), ref=ref)
    return builder.finish()
