"""Merged files against the rule itself: the earliest head next, ties in the order given, one without a time at once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from feed_rows import Names, decode_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from feeds import open_feed

TIMES = st.none() | st.integers(0, 12)
HEADER = "trade_id,symbol,price,volume,side,executed_at\n"


def csv_of(name: str, times: list[int | None]) -> str:
    return HEADER + "".join(
        f"{name}-{i},S,1,1,buy,{'bad' if time is None else 1700000000 + time}\n" for i, time in enumerate(times)
    )


def json_of(name: str, times: list[int | None]) -> str:
    """Every third line is an event that the core leaves to Python."""
    lines = []
    for i, time in enumerate(times):
        at = '"bad"' if time is None else 1700000000 + time
        if i % 3 == 2:
            lines.append(f'{{"type":"SessionStarted","event_id":"{name}-{i}","name":"x","at":{at}}}\n')
        else:
            lines.append(
                f'{{"trade_id":"{name}-{i}","symbol":"S","price":1,"volume":1,"side":"buy","executed_at":{at}}}\n'
            )
    return "".join(lines)


def merged(files: list[list[int | None]]) -> list[tuple[int, int]]:
    """(file, record), each time from the head that is due."""
    places = [0] * len(files)
    found = []
    while True:
        heads = [(f, times[places[f]]) for f, times in enumerate(files) if places[f] < len(times)]
        if not heads:
            return found
        untimed = [f for f, time in heads if time is None]
        chosen = untimed[0] if untimed else min((time, f) for f, time in heads if time is not None)[1]
        found.append((chosen, places[chosen]))
        places[chosen] += 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.lists(TIMES, max_size=8)), min_size=1, max_size=6),
    st.sampled_from([1, 2, 5, 512]),
)
def test_files_are_merged_as_the_rule_says(kinds: list[tuple[bool, list[int | None]]], frame_records: int) -> None:
    files = [times for _, times in kinds]
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, (as_json, times) in enumerate(kinds):
            path = Path(folder) / (f"{number}.jsonl" if as_json else f"{number}.csv")
            path.write_text(json_of(f"T{number}", times) if as_json else csv_of(f"T{number}", times))
            if times or not as_json:  # an empty file is an error of its own
                paths.append(path)
        if not paths:
            return
        names, found = Names(), []
        with open_feed(paths) as feed:
            while (frame := feed.next_frame(frame_records)) is not None:
                rows = decode_frame(frame, names)
                assert 1 <= len(rows) <= frame_records
                found += [(row.source, row.line, row.id, row.raw) for row in rows]
    expected = [(number, place) for number, place in merged(files)]
    assert [int(Path(source).stem) for source, _, _, _ in found] == [number for number, _ in expected]
    for (source, line, trade, raw), (number, place) in zip(found, expected, strict=True):
        assert line == place + (1 if source.endswith("jsonl") else 2)
        assert trade in ("", f"T{number}-{place}")
        assert f"T{number}-{place}".encode() in raw
