"""A subscriber as a process of its own, to be stopped: `python slow_subscriber.py BASE LAST_SEQ`.

Prints `ready` after its first frame, and at the end how many seqs it got, in order and once each, and its gaps.
"""

from __future__ import annotations

import sys

from engine.eventstream import EventStream


def main() -> None:
    base, last_seq = sys.argv[1], int(sys.argv[2])
    stream = EventStream(base)
    next_seq = 1
    while next_seq <= last_seq:
        frame = stream.next_frame(60)
        assert frame is not None, f"nothing came for 60 s; seq {next_seq} is next"
        assert frame.first_seq == next_seq, (frame.first_seq, next_seq)
        if next_seq == 1:
            print("ready", flush=True)
        next_seq += len(frame)
    print(next_seq - 1, stream.gaps, flush=True)


if __name__ == "__main__":
    main()
