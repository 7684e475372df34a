"""One format's reader under atheris: `python fuzz_feeds.py KIND [libFuzzer options] [corpus]`, with KIND of KINDS.

Whatever the bytes: no crash, no hang, the same records in one piece as in small pieces, or one line that says why not.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from feed_bytes import MAKERS

from ext.feedwriter import FeedWriter
from ext.records import Frame, FrameDecodeError
from feeds.errors import FeedError
from feeds.feed import Feed
from feeds.inputs import open_inputs
from feeds.opening import Options, open_source
from feeds.reading import Reading

KINDS = ("csv", "jsonl", "capture", "fix", "dbn", "csv.gz", "zip", "arrow", "frame")
IN_FILES = ("csv.gz", "zip", "arrow")  # unpacked or read from several places: these want a file
FOLDER = tempfile.TemporaryDirectory()


class Pieces:
    """Bytes as an input that gives at most ``size`` of them at a time."""

    name, total = "fuzz", None

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    @property
    def position(self) -> int:
        return self._data.tell()

    def readinto(self, buffer: memoryview, /) -> int:
        return self._data.readinto(buffer[: self._size])

    def close(self) -> None: ...


def records_of(feed: Feed, frame_records: int) -> list[tuple[object, ...]]:
    """What a feed gives, without what depends on how it is cut into frames."""
    found: list[tuple[object, ...]] = []
    with feed:
        while (buffer := feed.next_frame(frame_records)) is not None:
            frame = Frame(bytes(buffer))
            for i, record in enumerate(frame.records.tolist()):
                found.append((*frame.origin(i), frame.id(i), frame.ref(i), *record[:8], *record[10:]))
    return found


def outcome(kind: str, data: bytes, size: int, frame_records: int) -> object:
    options = Options(format="csv" if kind == "csv" else None, reading=Reading(side="tick"))
    writer = FeedWriter()
    try:
        if kind in IN_FILES:
            path = str(Path(FOLDER.name) / f"a.{kind}")
            Path(path).write_bytes(data)
            sources = [open_source(opened, path, "fuzz", writer, options) for opened in open_inputs(path)]
        else:
            options = Options(format=kind, reading=options.reading)
            sources = [open_source(Pieces(data, size), "fuzz", "fuzz", writer, options)]
        return records_of(Feed(sources, writer), frame_records)
    except FeedError as error:
        line = str(error)
    assert "\n" not in line
    return line


def fuzz_frame(data: bytes) -> None:
    """A frame that is opened can be read blindly."""
    try:
        frame = Frame(data, check_crc=False)
    except FrameDecodeError:
        return
    frame.definitions()
    for i in range(len(frame) if frame.kind != 2 else 0):
        frame.origin(i)
        frame.origin_source(i)
        frame.id(i)
        frame.ref(i)


def fuzz_one(kind: str, data: bytes) -> None:
    if kind == "frame":
        fuzz_frame(data)
        return
    size = 1 + (data[-1] if data else 0) % 61
    whole, pieces = outcome(kind, data, 1 << 20, 512), outcome(kind, data, size, 1 + size % 5)
    assert whole == pieces, (whole, pieces)


def seed_of(kind: str) -> bytes:
    if kind != "frame":
        return MAKERS[kind]()
    writer = FeedWriter()
    options = Options(format="csv")
    feed = Feed(
        [open_source(Pieces(MAKERS["csv"](), 1 << 20), "a", f"name{i}", writer, options) for i in (0, 1)], writer
    )
    return bytes(feed.next_frame(20) or b"")


def main() -> None:
    import atheris  # type: ignore[import-not-found,unused-ignore]

    kind = sys.argv.pop(1)
    whole = seed_of(kind)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """A whole file with some changes: the core tells atheris no coverage, so that it would keep no corpus."""
        data = whole
        for _ in range(1 + seed % 6):
            data = atheris.Mutate(data, max_size)
        return data

    atheris.Setup(sys.argv, lambda data: fuzz_one(kind, data), custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
