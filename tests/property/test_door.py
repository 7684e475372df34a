"""The door against the exact slow reference: any session, frames cut anywhere, restarts between them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import sessions

from engine.broker import check_limits
from engine.codec import EventDecoder
from engine.events import Event
from engine.oracle import Door
from ext.encoder import EncodeError, EventEncoder
from ext.journal import Journal
from ext.records import REASONS, Frame, FrameDecodeError, stamp_frame
from ext.sequencer import Sequencer, Source

SIZES = st.lists(st.integers(1, 70), min_size=1, max_size=6)


class DoorUnderTest:
    """A sequencer over a journal in memory, fed by one publisher in frames of given sizes."""

    def __init__(self, trades_max: int, names_max: int) -> None:
        self.journal = Journal(None)
        self.limits = {"dedup_max_trades": trades_max, "names_max": names_max, "check_limits": check_limits}
        self.decoder = EventDecoder()
        self.start(1)

    def start(self, incarnation: int) -> None:
        """Start as after a restart: what was known is read from the journal."""
        self.sequencer = Sequencer(self.journal, **self.limits)
        self.source = Source("test", incarnation)
        self.encoder = EventEncoder()

    def judge(self, events: list[Event]) -> tuple[list[Event], int, dict[int, str]]:
        """Send events as one frame: what was accepted, how many duplicates, and the reasons by position."""
        frames = len(self.journal)
        for event in events:
            self.encoder.add(event)
        _, duplicates, refused = self.sequencer.process_frame(self.encoder.finish(), self.source)
        accepted: list[Event] = []
        for index in range(frames, len(self.journal)):
            frame = Frame(self.journal.frame_by_index(index))
            accepted += [event for _, event in self.decoder.decode_all(frame)]
        return accepted, duplicates, {index: REASONS[reason] for index, reason, _ in refused}


def encodable(events: list[Event]) -> list[Event]:
    """Leave out what no record can hold: a publisher never sends it."""
    encoder, good = EventEncoder(), []
    for event in events:
        try:
            encoder.add(event)
        except EncodeError:
            continue
        good.append(event)
    return good


def without_limits_text(events: list[Event]) -> list[tuple[str, object]]:
    """Limits come back in their canonical form, so only their ids are compared."""
    return [
        (type(event).__name__, event.event_id if type(event).__name__ == "LimitsChanged" else event) for event in events
    ]


def agree(events: list[Event], sizes: list[int], trades_max: int, names_max: int, restarts: bool) -> None:
    reference = Door(trades_max, names_max)
    door = DoorUnderTest(trades_max, names_max)
    events = encodable(events)
    at = turn = 0
    while at < len(events):
        chunk = events[at : at + sizes[turn % len(sizes)]]
        verdicts = [reference.judge(event) for event in chunk]
        accepted, duplicates, refused = door.judge(chunk)
        expected = [event for event, verdict in zip(chunk, verdicts, strict=True) if verdict == "accepted"]
        assert refused == {i: v for i, v in enumerate(verdicts) if v not in ("accepted", "duplicate")}
        assert duplicates == verdicts.count("duplicate")
        assert without_limits_text(accepted) == without_limits_text(expected)
        at += len(chunk)
        turn += 1
        if restarts and turn % 3 == 0:
            door.start(turn + 1)


@settings(max_examples=80, deadline=None)
@given(sessions(events_max=60), SIZES, st.booleans())
def test_the_door_accepts_and_refuses_what_the_reference_does(events, sizes, restarts):
    agree(events, sizes, trades_max=1000, names_max=1000, restarts=restarts)


@settings(max_examples=80, deadline=None)
@given(sessions(events_max=60), SIZES, st.integers(1, 12), st.integers(1, 4), st.booleans())
def test_it_does_so_where_trades_are_forgotten_and_names_run_out(events, sizes, trades_max, names_max, restarts):
    agree(events, sizes, trades_max, names_max, restarts)


@settings(max_examples=50, deadline=None)
@given(sessions(events_max=40, extreme=True), SIZES)
def test_it_does_so_at_the_edges_of_int64(events, sizes):
    agree(events, sizes, trades_max=1000, names_max=1000, restarts=False)


@settings(max_examples=200, deadline=None)
@given(sessions(events_max=12), st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12))
def test_whatever_the_bytes_say_the_door_stays_upright_and_the_journal_readable(events, changes):
    """Bytes spoilt at random under a valid CRC, as a broken publisher would send them."""
    encoder = EventEncoder()
    for event in encodable(events):
        encoder.add(event)
    frame = encoder.finish()
    for at, value in changes:
        frame[at % len(frame)] = value
    stamp_frame(frame, 1, 1)
    journal = Journal(None)
    sequencer = Sequencer(journal, names_max=50, check_limits=check_limits)
    try:
        accepted, duplicates, refused = sequencer.process_frame(frame, Source("test", 1))
    except (FrameDecodeError, ValueError):
        assert len(journal) == 0
        return
    assert accepted + duplicates + len(refused) == len(Frame(frame))
    decoder = EventDecoder()
    assert sum(len(decoder.decode_all(Frame(data))) for data in journal) == accepted
    assert Sequencer(journal).last_seq == accepted
