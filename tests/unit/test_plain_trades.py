"""A trade whose names the broker has is judged like one whose names are new: the short way decides nothing itself."""

from __future__ import annotations

from typing import Any

import pytest

from ext.journal import Journal
from ext.records import Frame, FrameBuilder
from ext.sequencer import Sequencer, Source

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
NAMES = (b"BTC", b"acc", b"venue", b"strat")
PLAIN: dict[str, Any] = {
    "type": 1,
    "side": 1,
    "symbol": 1,
    "account": 1,
    "venue": 1,
    "strategy": 1,
    "id": b"T-000001",
    "price": 12345,
    "price_exponent": -2,
    "volume": 7,
    "fee": 25,
    "executed_at": 1_700_000_000_000_000_000,
}
LONG = b"0123456789abcdef" * 5
CHANGES: list[dict[str, Any]] = [
    {},
    {"side": 2},
    *({"side": side} for side in (0, 3, 4, 255)),
    *({"exec_type": kind, "ref": ref} for kind in (1, 2, 3, 255) for ref in (b"", b"T-0")),
    {"ref": b"other"},
    {"ref": b"\xff"},
    *({"flags": 1 << bit} for bit in range(8)),
    *({"type": kind} for kind in (0, 2, 3, 9, 255)),
    *({"id": LONG[:length]} for length in (0, 1, 2, 3, 4, 7, 8, 9, 16, 17, 63, 64, 65)),
    *({"id": "é".encode() * count} for count in (1, 2, 4, 16)),
    *(
        {"id": LONG[:at] + b"\x80" + LONG[at + 1 : size]}
        for size in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 25)
        for at in range(size)
    ),
    *({"volume": volume} for volume in (0, -1, INT64_MIN, INT64_MAX)),
    *({"price": price, "price_exponent": 0} for price in (0, -5, INT64_MIN, INT64_MAX)),
    *({"price_exponent": exponent} for exponent in (-128, -19, -18, -12, -11, -10, -9, 0, 5, 18, 127)),
    *({"price": 10**12, "price_exponent": exponent} for exponent in (-21, -20, -13, -12)),
    *({"volume_exponent": exponent} for exponent in (-9, -8, 0, 9, 18)),
    *({"fee": fee} for fee in (INT64_MIN, INT64_MIN + 1, INT64_MAX)),
    *({"executed_at": at} for at in (INT64_MIN, INT64_MIN + 1, -1, INT64_MAX)),
    *({name: 0} for name in ("symbol", "account", "venue", "strategy")),
    *({name: 2} for name in ("symbol", "account", "venue", "strategy")),
    *({name: 2**32 - 1} for name in ("symbol", "account", "venue", "strategy")),
]


def frame_of(first: int, *records: dict[str, Any]) -> bytes:
    builder = FrameBuilder()
    for kind, name in enumerate(NAMES):
        builder.define_name(kind, 1, name)
    for record in records:
        builder.add_record(**record)
    return bytes(builder.finish(first, 1, 0))


def last_of(journal: Journal) -> tuple[Any, ...]:
    """Return the last event: its fields but where its texts lie, and these."""
    data = journal.frame(journal.last_seq)
    assert data is not None
    frame = Frame(data)
    row = frame.records[-1]
    fields = {name: int(row[name]) for name in row.dtype.names if not name.endswith("_offset")}
    return fields, frame.id(len(frame) - 1), frame.ref(len(frame) - 1), bool(row["ref_offset"])


@pytest.mark.parametrize("changed", CHANGES, ids=repr)
def test_it_is_judged_and_kept_the_same_either_way(changed: dict[str, Any]) -> None:
    record = PLAIN | changed
    full = Sequencer(Journal(None))
    expected = full.process_frame(frame_of(1, record), Source("new", 1))

    plain, source = Sequencer(Journal(None)), Source("known", 1)
    assert plain.process_frame(frame_of(1, PLAIN | {"id": b"first", "executed_at": INT64_MIN + 1}), source)[0] == 1
    assert plain.process_frame(frame_of(2, record), source) == expected
    if expected[0]:
        assert last_of(plain.journal) == last_of(full.journal)
    accepted, duplicates = (0, 1) if expected[0] else (0, 0)
    assert plain.process_frame(frame_of(3, record), source)[:2] == (accepted, duplicates)


def test_one_that_comes_twice_in_a_frame_or_with_another_price_is_told() -> None:
    sequencer, source = Sequencer(Journal(None)), Source("a", 1)
    sequencer.process_frame(frame_of(1, PLAIN), source)
    later = PLAIN | {"id": b"T-000002", "executed_at": PLAIN["executed_at"] + 1}
    other = later | {"price": 1}
    accepted, duplicates, refused = sequencer.process_frame(frame_of(2, later, later, other, PLAIN), source)
    assert (accepted, duplicates) == (1, 2)
    assert [index for index, _, _ in refused] == [2]
