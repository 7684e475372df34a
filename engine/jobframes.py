"""Jobs as frames: what a worker is sent, cut out of sequenced frames, and back into events at the worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from engine.codec import EventDecoder
from engine.events import Event, TradeExecuted
from engine.jobwire import FRAME_HEADER, FRAME_MAGIC, FRAME_VERSION
from ext.jobevents import JobReader
from ext.records import KIND_SEQUENCED, NAME_KIND_NAMES, RECORD_DTYPE, Frame, stamp_frame

Records = npt.NDArray[Any]
NAME_FIELDS = ("symbol", "account", "venue", "strategy")  # in the order of their kinds
TYPE_LIMITS = 6
HASH_BYTES = 8
HEAP_SPARSE = 4  # cut texts out one by one where their span is that many times their length
assert NAME_KIND_NAMES == NAME_FIELDS


class Source:
    """One sequenced frame made ready to be cut: what is needed of every slice is computed once for all of them."""

    __slots__ = ("_ends", "_names", "_starts", "first_seq", "frame", "in_order", "records", "ref_lengths")

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.first_seq = frame.first_seq
        self.records: Records = frame.records
        self.ref_lengths: Records | None = None  # None: no record has a second text
        self._names: list[Records] | None = None
        self._measure_texts()

    def _measure_texts(self) -> None:
        records = self.records
        starts = records["id_offset"].astype(np.int64)
        ends = starts + records["id_length"]
        lengths = records["ref_length"].astype(np.int64)
        limits = records["type"] == TYPE_LIMITS
        lengths[limits] = records["volume"][limits]
        if lengths.any():
            self.ref_lengths = lengths
            has_ref = lengths > 0
            refs = records["ref_offset"].astype(np.int64)
            starts = np.where(has_ref, np.minimum(starts, refs), starts)
            ends = np.where(has_ref, np.maximum(ends, refs + lengths), ends)
        # Encoders write texts in the order of the records, so that a slice's texts are a slice of the heap.
        self.in_order = bool((starts[1:] >= starts[:-1]).all() and (ends[1:] >= ends[:-1]).all())
        self._starts, self._ends = starts, ends

    @property
    def names(self) -> list[Records]:
        """Return the ids of the names that the records use, per kind."""
        if self._names is None:
            self._names = [np.unique(self.records[field]) for field in NAME_FIELDS]
        return self._names

    def cut(self, places: Records) -> tuple[Records, bytes]:
        """Return copies of records, their texts' offsets counted from the heap that is returned with them."""
        first, last = int(places[0]), int(places[-1])
        adjacent = last - first + 1 == len(places) and bool((places[1:] > places[:-1]).all())
        if self.in_order and adjacent:
            taken = self.records[first : last + 1].copy()
            start, end = int(self._starts[first]), int(self._ends[last])
        else:
            taken = self.records[places]
            start, end = int(self._starts[places].min()), int(self._ends[places].max())
            lengths = [0] * len(places) if self.ref_lengths is None else self.ref_lengths[places].tolist()
            if end - start > HEAP_SPARSE * (int(taken["id_length"].sum()) + sum(lengths)):
                return taken, self._gather(taken, lengths)
        taken["id_offset"] -= start
        if self.ref_lengths is None:
            taken["ref_offset"] = 0
        else:
            taken["ref_offset"] -= np.where(self.ref_lengths[places] > 0, start, taken["ref_offset"]).astype(np.uint32)
        return taken, self.frame.text(start, end - start)

    def _gather(self, taken: Records, ref_lengths: list[int]) -> bytes:
        heap = bytearray()
        for i, ref_length in enumerate(ref_lengths):
            text = self.frame.text(int(taken["id_offset"][i]), int(taken["id_length"][i]))
            taken["id_offset"][i] = len(heap)
            heap += text
            text = self.frame.text(int(taken["ref_offset"][i]), ref_length) if ref_length else b""
            taken["ref_offset"][i] = len(heap) if ref_length else 0
            heap += text
        return bytes(heap)


class NameFilter:
    """Which names one worker has been told: each is defined once, in the first frame that may use it."""

    def __init__(self) -> None:
        self._known: list[npt.NDArray[np.bool_]] = [np.ones(1, np.bool_) for _ in NAME_FIELDS]
        self._told: Source | None = None  # everything in it is known

    def definitions(self, source: Source, decoder: EventDecoder) -> bytes:
        """Return the definitions of names in a frame that are new to the worker."""
        if source is self._told:
            return b""
        result = b""
        for kind, ids in enumerate(source.names):
            known = self._known[kind]
            top = int(ids[-1])
            if top >= len(known):
                grown = np.zeros(max(top + 1, 2 * len(known)), np.bool_)
                grown[: len(known)] = known
                self._known[kind] = known = grown
            fresh = ids[~known[ids]]
            known[fresh] = True
            result += b"".join(_definition(kind, i, decoder.name(kind, i)) for i in fresh.tolist())
        self._told = source
        return result


def _definition(kind: int, name_id: int, name: str) -> bytes:
    text = name.encode()
    head = bytes((kind, len(text), 0, 0)) + name_id.to_bytes(4, "little")
    return head + text + bytes(-len(text) % 4)


def cut_jobs(
    parts: Sequence[tuple[Source, Records]], names: NameFilter, decoder: EventDecoder, epoch: int
) -> bytearray:
    """Return one frame with chosen records of several frames, and the definitions its reader needs.

    parts: frames, each with the places of its records to take (integers).
    """
    records: list[bytes] = []
    heaps: list[bytes] = []
    definitions = b""
    count = offset = 0
    for source, places in parts:
        taken, heap = source.cut(places)
        if offset:
            taken["id_offset"] += offset
            taken["ref_offset"] += offset
        definitions += names.definitions(source, decoder)
        offset += len(heap)
        count += len(taken)
        records.append(taken.tobytes())
        heaps.append(heap)
    header = FRAME_HEADER.pack(
        FRAME_MAGIC, FRAME_VERSION, KIND_SEQUENCED, 0, count, len(definitions), 0, 0, offset, 0, 0, 0, 0, 0
    )
    buffer = bytearray(b"".join((header, *records, definitions, *heaps)))
    source, places = parts[0]
    stamp_frame(buffer, source.first_seq + int(places[0]), epoch, source.frame.stamped_at)
    return buffer


class LazyEvents(Sequence[Event]):
    """The events of a worker's frame, decoded when one is looked at; a slice shares what was decoded."""

    __slots__ = ("_frame", "_range")

    def __init__(self, frame: _Decoded, places: range) -> None:
        self._frame = frame
        self._range = places

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> LazyEvents: ...

    def __getitem__(self, index: int | slice) -> Event | LazyEvents:
        if isinstance(index, slice):
            return LazyEvents(self._frame, self._range[index])
        return self._frame.events[self._range[index]]

    def __len__(self) -> int:
        return len(self._range)

    def __iter__(self) -> Iterator[Event]:
        events, places = self._frame.events, self._range
        return iter(events[places.start : places.stop] if places.step == 1 else [events[i] for i in places])

    @property
    def hashes(self) -> bytes:
        """Return HASH_BYTES for each event, by which it is known again; no event is decoded for them."""
        hashes, places = self._frame.hashes, self._range
        if places.step == 1:
            return hashes[HASH_BYTES * places.start : HASH_BYTES * places.stop]
        return b"".join([hashes[HASH_BYTES * i : HASH_BYTES * (i + 1)] for i in places])


class _Decoded:
    """A frame, and its events and their hashes once they were asked for."""

    def __init__(self, decoder: JobDecoder, frame: Frame) -> None:
        self._decoder = decoder
        self._frame = frame

    @cached_property
    def events(self) -> list[Event]:
        return self._decoder.events(self._frame)

    @cached_property
    def hashes(self) -> bytes:
        return self._decoder.hashes(self._frame)


class JobDecoder:
    """Decodes a worker's frames of jobs, remembering names."""

    def __init__(self) -> None:
        self._names = EventDecoder()
        self._reader = JobReader(TradeExecuted, self._names.texts)
        self.hashes = self._reader.hashes

    def decode(self, frame: Frame) -> LazyEvents:
        """Learn a frame's names and return its events, in the order of its records."""
        self._names.learn(frame)
        return LazyEvents(_Decoded(self, frame), range(len(frame)))

    def events(self, frame: Frame) -> list[Event]:
        """Return the events of a frame whose names are known."""
        trades = self._reader.trades(frame)
        return trades if trades is not None else [event for _, event in self._names.decode_all(frame)]


assert RECORD_DTYPE.itemsize == 64
