"""Jobs as frames: what a worker is sent, cut out of sequenced frames, and back into events at the worker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.codec import EventDecoder, decimal_of
from engine.events import Event, TradeExecuted
from engine.jobwire import FRAME_HEADER, FRAME_MAGIC, FRAME_VERSION
from ext.records import EXEC_TYPES, KIND_SEQUENCED, NAME_KIND_NAMES, RECORD_DTYPE, SIDES, Frame, stamp_frame

Records = npt.NDArray[Any]
NAME_FIELDS = ("symbol", "account", "venue", "strategy")  # in the order of their kinds
TYPE_TRADE, TYPE_LIMITS = 1, 6
HEAP_SPARSE = 4  # cut texts out one by one where their span is that many times their length
_cached_decimal = lru_cache(maxsize=65_536)(decimal_of)
assert NAME_KIND_NAMES == NAME_FIELDS


class NameFilter:
    """Which names one worker has been told: each is defined once, in the first frame that uses it."""

    def __init__(self) -> None:
        self._known: list[npt.NDArray[np.bool_]] = [np.ones(1, np.bool_) for _ in NAME_FIELDS]

    def definitions(self, records: Records, names: EventDecoder) -> bytes:
        """Return the definitions of names in the records that are new to the worker."""
        result = b""
        for kind, field in enumerate(NAME_FIELDS):
            ids = records[field]
            known = self._known[kind]
            top = int(ids.max())
            if top >= len(known):
                grown = np.zeros(max(top + 1, 2 * len(known)), np.bool_)
                grown[: len(known)] = known
                self._known[kind] = known = grown
            fresh = ids[~known[ids]]
            if len(fresh):
                known[fresh] = True
                result += b"".join(_definition(kind, i, names.name(kind, i)) for i in np.unique(fresh).tolist())
        return result


def _definition(kind: int, name_id: int, name: str) -> bytes:
    text = name.encode()
    head = bytes((kind, len(text), 0, 0)) + name_id.to_bytes(4, "little")
    return head + text + bytes(-len(text) % 4)


def cut_jobs(parts: Sequence[tuple[Frame, Records]], names: NameFilter, decoder: EventDecoder, epoch: int) -> bytearray:
    """Return one frame with chosen records of several frames, and the definitions its reader needs.

    parts: frames, each with the places of its records to take (integers, ascending).
    """
    records: list[Records] = []
    heaps: list[bytes] = []
    offset = 0
    for frame, places in parts:
        taken, heap = _cut(frame, places)
        taken["id_offset"] += offset
        taken["ref_offset"] += offset
        offset += len(heap)
        records.append(taken)
        heaps.append(heap)
    merged = records[0] if len(records) == 1 else np.concatenate(records)
    definitions = names.definitions(merged, decoder)
    header = FRAME_HEADER.pack(
        FRAME_MAGIC, FRAME_VERSION, KIND_SEQUENCED, 0, len(merged), len(definitions), 0, 0, offset, 0, 0, 0, 0, 0
    )
    buffer = bytearray(b"".join((header, merged.tobytes(), definitions, *heaps)))
    first_frame, first_places = parts[0]
    stamp_frame(buffer, first_frame.first_seq + int(first_places[0]), epoch, first_frame.stamped_at)
    return buffer


def _cut(frame: Frame, places: Records) -> tuple[Records, bytes]:
    """Return copies of records with their texts' offsets counted from the heap that is returned with them."""
    taken = frame.records[places]
    id_ends = taken["id_offset"] + taken["id_length"]
    ref_lengths = taken["ref_length"].astype(np.uint32)
    limits = taken["type"] == TYPE_LIMITS
    if limits.any():
        ref_lengths[limits] = taken["volume"][limits]
    ref_ends = taken["ref_offset"] + ref_lengths
    has_ref = ref_lengths > 0
    taken["ref_offset"][~has_ref] = 0
    start, end = int(taken["id_offset"].min()), int(id_ends.max())
    if has_ref.any():
        start = min(start, int(taken["ref_offset"][has_ref].min()))
        end = max(end, int(ref_ends.max()))
    texts = int(taken["id_length"].sum()) + int(ref_lengths.sum())
    if end - start > HEAP_SPARSE * texts:
        return taken, _gather(frame, taken, ref_lengths.tolist())
    taken["id_offset"] -= start
    taken["ref_offset"][has_ref] -= start
    return taken, frame.text(start, end - start)


def _gather(frame: Frame, taken: Records, ref_lengths: list[int]) -> bytes:
    heap = bytearray()
    for i, ref_length in enumerate(ref_lengths):
        text = frame.text(int(taken["id_offset"][i]), int(taken["id_length"][i]))
        taken["id_offset"][i] = len(heap)
        heap += text
        if ref_length:
            text = frame.text(int(taken["ref_offset"][i]), ref_length)
            taken["ref_offset"][i] = len(heap)
            heap += text
    return bytes(heap)


class JobDecoder:
    """Decodes a worker's frames of jobs, remembering names; trades, the common case, by columns."""

    def __init__(self) -> None:
        self._names = EventDecoder()

    def decode(self, frame: Frame) -> list[Event]:
        """Return the events of a frame, in the order of its records."""
        records = frame.records
        if (records["type"] != TYPE_TRADE).any():
            return [event for _, event in self._names.decode_all(frame)]
        self._names.learn(frame)
        name = self._names.name
        sides = [SIDES[side] for side in records["side"].tolist()]
        rows = zip(
            range(len(records)),
            records["symbol"].tolist(),
            _decimals(records, "price"),
            _decimals(records, "volume"),
            sides,
            records["executed_at"].tolist(),
            records["account"].tolist(),
            records["venue"].tolist(),
            records["strategy"].tolist(),
            records["fee"].tolist(),
            records["exec_type"].tolist(),
            records["ref_length"].tolist(),
            strict=True,
        )
        return [
            TradeExecuted(
                frame.id(i).decode("utf-8", "replace"),
                name(0, symbol),
                price,
                volume,
                side,
                at,
                name(1, account),
                name(2, venue),
                name(3, strategy),
                _cached_decimal(fee, -9),
                EXEC_TYPES[exec_type],
                frame.ref(i).decode("utf-8", "replace") if ref_length else "",
            )
            for i, symbol, price, volume, side, at, account, venue, strategy, fee, exec_type, ref_length in rows
        ]


def _decimals(records: Records, field: str) -> list[Any]:
    pairs = zip(records[field].tolist(), records[field + "_exponent"].tolist(), strict=True)
    return [_cached_decimal(mantissa, exponent) for mantissa, exponent in pairs]


assert RECORD_DTYPE.itemsize == 64
