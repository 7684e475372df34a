"""Any part of a journal read by its index is what reading everything and choosing gives."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_retention import Engine, Session

from engine.errors import JournalError
from engine.events import Event
from engine.journal import EventSelection, events_of
from engine.journalindex import PartReader, SegmentIndex, Wanted, index_path, read_index, write_missing
from ext.records import Frame

Numbered = list[tuple[int, Event]]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]], Numbered]:
    """A folder of a dozen full segments with indexes, (seq, stamp) of its frames, and all its events."""
    engine = Engine(tmp_path_factory.mktemp("journal"), 10**6)
    session = Session(random.Random(8))
    for _ in range(300):
        engine.publish(session.batch(random.Random(9).randrange(1, 25)))
    for _ in range(8):
        engine.publish(session.batch(300))
    assert write_missing(engine.journal) == engine.journal.segment_count - 1 > 4
    assert write_missing(engine.journal) == 0
    frames = [Frame(data) for data in engine.journal]
    stamps = [(frame.first_seq, frame.stamped_at) for frame in frames]
    engine.journal.close()
    return engine.folder, stamps, list(events_of(engine.folder, EventSelection()))


def chosen(journal: tuple[Path, list[tuple[int, int]], Numbered], wanted: EventSelection) -> Numbered:
    _, frames, events = journal
    ends = [first for first, _ in frames[1:]] + [len(events) + 1]
    return [
        (seq, event)
        for (first, stamp), end in zip(frames, ends, strict=True)
        if (wanted.since_ns is None or stamp >= wanted.since_ns)
        and (wanted.until_ns is None or stamp <= wanted.until_ns)
        for seq, event in events[first - 1 : end - 1]
        if wanted.takes(seq, event)
    ]


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_part_is_what_choosing_from_everything_gives(journal, data: st.DataObject) -> None:
    _, frames, events = journal
    seq, stamp = st.integers(1, len(events) + 5), st.sampled_from([stamp for _, stamp in frames])
    wanted = EventSelection(
        first=data.draw(seq | st.just(1)),
        last=data.draw(st.none() | seq),
        since_ns=data.draw(st.none() | stamp | stamp.map(lambda at: at + 1)),
        until_ns=data.draw(st.none() | stamp),
        account=data.draw(st.sampled_from((None, "A1"))),
    )
    assert list(events_of(journal[0], wanted)) == chosen(journal, wanted)


def test_only_the_blocks_in_question_are_read(journal) -> None:
    folder, frames, events = journal
    total = sum(path.stat().st_size for path in folder.glob("*.rwj"))
    middle = frames[len(frames) // 2]
    for wanted in (
        Wanted(first=middle[0], last=middle[0] + 3),
        Wanted(since_ns=middle[1], until_ns=middle[1]),
        Wanted(last=5),
    ):
        reader = PartReader(folder, wanted)
        found = list(reader.frames())
        assert any(frame.first_seq <= middle[0] < frame.first_seq + len(frame) for frame in found) or wanted.last == 5
        assert reader.segments_read <= 2, "one, and the one that is written"
        assert reader.bytes_read < total / 2
    assert events


@pytest.mark.parametrize("spoil", ["missing", "empty", "bit", "other", "cut"])
def test_a_missing_or_damaged_index_is_made_again(journal, tmp_path: Path, spoil: str) -> None:
    folder = tmp_path / "journal"
    shutil.copytree(journal[0], folder)
    path = index_path(folder, 2)
    content = path.read_bytes()
    if spoil == "missing":
        path.unlink()
    elif spoil == "bit":
        path.write_bytes(content[:40] + bytes([content[40] ^ 8]) + content[41:])
    else:
        path.write_bytes({"empty": b"", "other": index_path(folder, 3).read_bytes(), "cut": content[:-1]}[spoil])
    assert read_index(folder, 2) is None
    first = SegmentIndex.decode(content).first_seq
    wanted = EventSelection(first=first + 7, last=first + 400)
    assert list(events_of(folder, wanted)) == chosen(journal, wanted)
    engine = Engine(folder, 10**6)
    assert write_missing(engine.journal) == 1
    assert path.read_bytes() == content
    assert engine.journal.seq_at(journal[1][5][1]) in {seq for seq, at in journal[1] if at == journal[1][5][1]}
    assert engine.journal.seq_at(2**62) is None
    engine.journal.close()


def test_an_index_of_a_removed_segment_goes(tmp_path: Path) -> None:
    engine = Engine(tmp_path, 10)
    session = Session(random.Random(3))
    for _ in range(10):
        engine.publish(session.batch(300))
    write_missing(engine.journal)
    orphan = index_path(tmp_path, 1).read_bytes()
    engine.snapshot(full=True)
    engine.snapshot(full=True)
    assert engine.retention().remove() > 2
    assert not list(tmp_path.glob("*.rwi"))
    index_path(tmp_path, 1).write_bytes(orphan)  # a kill came between
    write_missing(engine.journal)
    assert not list(tmp_path.glob("*.rwi"))
    first = engine.journal.first_seq
    assert [seq for seq, _ in events_of(tmp_path, EventSelection(first=3, last=first + 1))] == [first, first + 1]
    engine.journal.close()


def test_damage_in_what_is_read_is_found(journal, tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    shutil.copytree(journal[0], folder)
    index = SegmentIndex.decode(index_path(folder, 3).read_bytes())
    with open(folder / "00000003.rwj", "r+b") as file:
        file.seek(index.blocks[0].offset + 70)
        file.write(b"\xff\xff")
    with pytest.raises(JournalError, match=rf"00000003\.rwj is damaged at offset {index.blocks[0].offset}"):
        list(events_of(folder, EventSelection(first=index.first_seq, last=index.first_seq + 5)))
    (folder / "00000002.rwj").unlink()
    with pytest.raises(JournalError, match=r"00000002\.rwj is missing"):
        list(events_of(folder, EventSelection(first=5)))
