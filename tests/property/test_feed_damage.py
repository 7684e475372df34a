"""Damaged bytes of every format: no crash, no hang; what cannot be read is a dead letter, or one line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from feed_bytes import COUNT, MAKERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ext.records import Frame
from feeds import FeedError, open_feed

edits = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.floats(0, 1), st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("insert"), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("delete"), st.floats(0, 1), st.integers(1, 64)),
        st.tuples(st.just("cut"), st.floats(0, 1), st.just(0)),
        st.tuples(st.just("repeat"), st.floats(0, 1), st.integers(1, 200)),
    ),
    max_size=4,
)


def damaged(data: bytes, changes: list[tuple[str, float, Any]]) -> bytes:
    for what, where, how in changes:
        at = int(where * len(data))
        if what == "set":
            data = data[:at] + how + data[at + len(how) :]
        elif what == "insert":
            data = data[:at] + how + data[at:]
        elif what == "delete":
            data = data[:at] + data[at + how :]
        elif what == "cut":
            data = data[:at]
        else:
            data = data[:at] + data[at : at + how] * 2 + data[at + how :]
    return data


def read_all(path: Path, **options: Any) -> list[tuple[int, bytes]]:
    """Every record's position and bytes; a frame is checked when it is opened."""
    found = []
    with open_feed(path, **options) as feed:
        while (buffer := feed.next_frame(7)) is not None:
            frame = Frame(bytes(buffer))
            found += [frame.origin(i) for i in range(len(frame))]
            assert len(found) < 100_000
    return found


def outcome(path: Path, lenient: bool) -> str | list[tuple[int, bytes]]:
    """What is read, or the line that says why nothing is."""
    try:
        return read_all(path, lenient=lenient, side="buy")
    except FeedError as error:
        line = str(error)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("kind", MAKERS)
def test_whole_files_give_every_record(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(MAKERS[kind]())
    assert len(read_all(path)) == COUNT * (2 if kind == "zip" else 1)


@pytest.mark.parametrize("kind", MAKERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=edits, lenient=st.booleans())
def test_damage_is_a_dead_letter_or_one_line(kind: str, changes: list[tuple[str, float, Any]], lenient: bool) -> None:
    data = damaged(MAKERS[kind](), changes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind}"
        path.write_bytes(data)
        assert outcome(path, lenient) == outcome(path, lenient)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["fix", "dbn", "csv", "capture", "jsonl"]), st.binary(max_size=400))
def test_any_bytes_behind_a_beginning(kind: str, tail: bytes) -> None:
    whole = MAKERS[kind]()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        path.write_bytes(whole[: len(whole) // 2] + tail + whole[len(whole) // 2 :] + tail)
        assert len(read_all(path, side="buy")) > COUNT // 3
