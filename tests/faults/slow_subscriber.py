"""A subscriber as a process of its own, to be stopped: `python slow_subscriber.py BASE [LAST_SEQ]`.

Without LAST_SEQ it reads until a line on stdin says which seq is the last.

Prints `ready` after its first frame, once it follows the topic and fetches nothing, and at the end how many seqs it
got, in order and once each, and its gaps.
"""

from __future__ import annotations

import select
import sys

from engine.eventstream import EventStream

FOREVER = 2**63


def main() -> None:
    base, last_seq = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else FOREVER
    stream = EventStream(base)
    next_seq, ready = 1, False
    while next_seq <= last_seq:
        open_end = last_seq == FOREVER
        frame = stream.next_frame(0.2 if open_end else 60)
        if open_end and select.select([sys.stdin], [], [], 0)[0]:
            last_seq = int(sys.stdin.readline())
        if not ready and next_seq > 1 and stream.caught_up:
            ready = True
            print("ready", flush=True)
        if frame is None and open_end:
            continue
        assert frame is not None, f"nothing came for 60 s; seq {next_seq} is next"
        assert frame.first_seq == next_seq, (frame.first_seq, next_seq)
        next_seq += len(frame)
    print(next_seq - 1, stream.gaps, flush=True)


if __name__ == "__main__":
    main()
