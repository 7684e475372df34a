"""A reader at its own pace takes no more at once than it says, and what it leaves is told or fetched."""

from __future__ import annotations

import itertools

import zmq
from fake_broker import FakeBroker, trades_frame
from queue_rig import wait_for

from engine.endpoints import endpoint
from engine.sequence import READ_RECORDS_MAX, SequenceReader

FRAME_RECORDS = 1_000
FRAMES = 2 * READ_RECORDS_MAX // FRAME_RECORDS + 1
_names = itertools.count()


def test_what_came_while_it_was_not_asked_is_not_taken_all_at_once() -> None:
    context = zmq.Context.instance()
    base = f"inproc://reader-{next(_names)}"
    with FakeBroker(context, base) as broker:
        reader = SequenceReader(context, endpoint(base, "events"), endpoint(base, "replay"))
        try:
            broker.wait_subscribed()
            wait_for(lambda: reader.read(True) == [] and not reader.is_due(True))  # asked, and answered: nothing yet
            wait_for(lambda: reader.read(True) == [] and not reader._asked)
            for number in range(FRAMES):
                frame = trades_frame(number * FRAME_RECORDS + 1, FRAME_RECORDS)
                broker.accept(frame, FRAME_RECORDS)
            assert wait_for(lambda: reader.events.poll(60_000)), "the frames do not come"
            taken = reader.read(True)
            left = list(reader.passed)
            read = sum(map(len, taken))
            assert 0 < read < READ_RECORDS_MAX + FRAME_RECORDS
            assert left, "all of it was taken at once"
            assert left[0].first_seq == read + 1, "what was left is told, in order"
            while read < FRAMES * FRAME_RECORDS:
                for frame in wait_for(lambda: reader.read(True)):
                    assert frame.first_seq == read + 1
                    read += len(frame)
            assert reader.next_seq == FRAMES * FRAME_RECORDS + 1
        finally:
            reader.close()
