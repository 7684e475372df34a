"""The door and the core over a file of frames, as a process.

`python -m bench.core_run FRAMES WARM_FRAMES LIMITS.json [POSITIONS.csv | -] [FRAMES_MAX] [door | ready]`; `door` leaves
out the core, with `ready` memory for all trades is made before the first one. Prints one JSON object: ns of this
thread's processor time per trade of the frames after WARM_FRAMES, door and core apart, those of the thread that touches
their pages ahead (`ahead_ns`), and what was found. Imports little, so that callgrind has little to look at.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from ext.journal import Journal
from ext.records import FrameBuilder, keep_freed_memory
from ext.risk import RiskCore
from ext.sequencer import Sequencer, Source

SEGMENT_SLACK = 1 << 20  # bytes of a segment beside its frames


def read_frames(path: Path) -> list[bytes]:
    """Read frames, each behind its size as a little-endian uint64."""
    frames = []
    with path.open("rb") as source:
        while head := source.read(8):
            frames.append(source.read(int.from_bytes(head, "little")))
    return frames


def limits_frame(limits: bytes) -> bytes:
    """Return a frame of one LimitsChanged."""
    builder = FrameBuilder()
    builder.add_record(type=6, id=b"limits", ref=limits)
    return bytes(builder.finish(1, 2))


class Engine:
    """Door, journal (in memory, or in a folder) and core, in this thread.

    expected: trades that the table of duplicates has room for. room: bytes of frames that the journal in memory has;
    then the core has it too, for what it remembers of `expected`; 0: both find their pages as they need them.
    """

    def __init__(self, limits: bytes, expected: int, folder: str | None = None, room: int = 0) -> None:
        self.journal = Journal(folder, room=room)
        self.sequencer = Sequencer(self.journal, dedup_expected=expected)
        self.sequencer.dedup.prepare()
        self.source = Source("bench", 1)
        self.core = RiskCore()
        if room:
            self.journal.touch_room(wait=True)
            self.core.make_room(expected)
        self.duplicates = self.refused = 0
        self.take(limits_frame(limits), Source("limits", 2))

    def take(self, frame: bytes, source: Source | None = None, judged: bool = True) -> tuple[int, int]:
        """Take one unsequenced frame; ns of processor time that the door and the core (`judged`) needed."""
        cpu_ns = time.thread_time_ns
        start = cpu_ns()
        accepted, duplicates, refused = self.sequencer.process_frame(frame, source or self.source)
        between = cpu_ns()
        self.duplicates += duplicates
        self.refused += len(refused)
        if not accepted or not judged:
            return between - start, 0
        again = cpu_ns()
        # As a consumer in the broker's process; the CRC is checked because the reference does.
        self.core.follow(self.journal, check_crc=True)
        return between - start, cpu_ns() - again


def others_ns() -> int:
    """Return the processor time of this process's other threads so far."""
    return time.process_time_ns() - time.thread_time_ns()


def main(
    frames_path: str, warm: str, limits_path: str, positions_path: str = "-", frames_max: str = "", part: str = ""
) -> None:
    """Run it and print what was measured and found."""
    keep_freed_memory()
    frames = read_frames(Path(frames_path))
    count = sum(int.from_bytes(frame[8:12], "little") for frame in frames)
    room = sum(map(len, frames)) + SEGMENT_SLACK if part == "ready" else 0
    engine = Engine(Path(limits_path).read_bytes(), count, room=room)
    door_ns = core_ns = timed = ahead_ns = 0
    for i, frame in enumerate(frames[: int(frames_max) if frames_max else None]):
        if i == int(warm):
            ahead_ns = others_ns()
        door, core = engine.take(frame, judged=part != "door")
        if i >= int(warm):
            door_ns, core_ns = door_ns + door, core_ns + core
            timed += int.from_bytes(frame[8:12], "little")
    ahead_ns = others_ns() - ahead_ns
    positions = engine.core.positions_csv() if positions_path != "-" else b""
    print(
        json.dumps(
            {
                "trades": count,
                "timed": timed,
                "door_ns": door_ns / max(timed, 1),
                "core_ns": core_ns / max(timed, 1),
                "ahead_ns": ahead_ns / max(timed, 1),
                "accepted": engine.core.applied_seq - 1 - engine.core.refused_count,
                "duplicates": engine.duplicates,
                "refused": engine.refused + engine.core.refused_count,
                "alerts": len(engine.core.alerts),
            }
        )
    )
    if positions_path != "-":
        Path(positions_path).write_bytes(positions)


if __name__ == "__main__":
    main(*sys.argv[1:])
