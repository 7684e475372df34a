"""The broker over real sockets: what it takes, what it answers, what it refuses, and what it survives."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
import zmq
from broker_rig import WAIT_S, RawPublisher, Rig, control_with, new_base, trade, wait_for

from engine.broker import Broker, BrokerSettings
from engine.endpoints import endpoint, prepare_base
from engine.errors import EndpointError
from engine.events import DeadLetter, InstrumentDefined, LimitsChanged, MarkPrice
from engine.sink import Sink
from engine.wire import ACK, FETCH, FETCHED, HEARTBEAT, NAK, Control, decode_control
from ext.encoder import EventEncoder
from ext.records import Frame, FrameBuilder, stamp_frame


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture(params=["inproc", "ipc"])
def base(request, tmp_path_factory) -> str:
    if request.param == "inproc":
        return new_base()
    base = f"ipc://{tmp_path_factory.mktemp('rw')}"
    prepare_base(base)
    return base


@pytest.fixture
def rig(context, base) -> Iterator[Rig]:
    with Rig(context, base) as rig:
        yield rig


@pytest.fixture
def raw(context, rig) -> Iterator[RawPublisher]:
    raw = RawPublisher(context, rig.base)
    yield raw
    raw.close()


def frame_of(*events, first: int = 1, incarnation: int = 77, encoder: EventEncoder | None = None) -> bytearray:
    encoder = encoder or EventEncoder()
    for event in events:
        encoder.add(event)
    return encoder.finish(first, incarnation)


def ack_of(raw: RawPublisher, source_seq: int) -> Control:
    ack = raw.receive(ACK)
    while ack.a < source_seq:
        ack = raw.receive(ACK)
    return ack


def reasons(broker: Broker) -> list[str]:
    return [letter.reason for letter in broker.dead_letters]


# --- publishing ------------------------------------------------------------------------------------------------------


def test_a_frame_is_numbered_journaled_acked_and_seen_by_subscribers(rig, raw, context):
    events = context.socket(zmq.SUB)
    events.subscribe(b"RW")
    events.connect(endpoint(rig.base, "events"))
    assert decode_control(events.recv()).type == HEARTBEAT  # subscribed
    welcome = raw.hello(1)
    assert (welcome.a, welcome.b, welcome.c) == (0, 0, 64)
    raw.send(frame_of(trade(1), trade(2)))
    ack = ack_of(raw, 2)
    assert (ack.a, ack.b, ack.c, ack.epoch) == (2, 2, 0, rig.journal.epoch)
    message = events.recv()
    while message[:4] != b"RWF1":
        message = events.recv()
    assert message == rig.journal.frame(1)
    assert rig.trade_ids() == ["T1", "T2"]
    events.close(0)


def test_names_are_the_publishers_before_the_broker_and_the_brokers_after(rig, context):
    one, two = RawPublisher(context, rig.base, 1), RawPublisher(context, rig.base, 2)
    one.hello()
    two.hello()
    one.send(frame_of(trade(1, symbol="A"), trade(2, symbol="B"), incarnation=1))
    ack_of(one, 2)
    two.send(frame_of(trade(3, symbol="B"), trade(4, symbol="C"), trade(5, symbol="A"), incarnation=2))
    ack_of(two, 3)
    assert [event.symbol for _, event in rig.events()] == ["A", "B", "B", "C", "A"]
    assert [text for kind, _, text in Frame(rig.journal.frame(3)).definitions() if kind == 0] == [b"C"]
    one.close()
    two.close()


def test_a_frame_sent_again_is_acked_again_and_adds_nothing(rig, raw):
    raw.hello(1)
    sent = frame_of(trade(1), trade(2))
    for _ in range(3):
        raw.send(sent)
    wait_for(lambda: rig.broker.stats().resent == 2, "the resends")
    ack_of(raw, 2)
    stats = rig.broker.stats()
    assert (stats.accepted, stats.duplicates, stats.last_seq) == (2, 0, 2)


def test_a_frame_that_overlaps_what_was_taken_adds_only_the_rest(rig, raw):
    raw.hello(1)
    encoder = EventEncoder()
    raw.send(frame_of(trade(1), trade(2), encoder=encoder))
    ack_of(raw, 2)
    encoder.define_again()
    raw.send(frame_of(trade(2), trade(3), trade(4), first=2, encoder=encoder))
    ack = ack_of(raw, 4)
    assert ack.c == 0
    assert rig.trade_ids() == ["T1", "T2", "T3", "T4"]


def test_a_hole_is_asked_for_and_nothing_behind_it_is_taken(rig, raw):
    raw.hello(1)
    raw.send(frame_of(trade(1)))
    ack_of(raw, 1)
    raw.send(frame_of(trade(3), first=3))
    assert raw.receive(NAK).a == 2
    raw.send(frame_of(trade(2), trade(3), first=2))
    ack_of(raw, 3)
    assert rig.trade_ids() == ["T1", "T2", "T3"]


def test_who_has_not_said_hello_is_asked_to(rig, raw):
    raw.send(frame_of(trade(1)))
    nak = raw.receive(NAK)
    assert (nak.a, nak.incarnation) == (0, 77)
    assert rig.broker.stats().last_seq == 0


def test_a_publisher_that_comes_back_hears_where_it_was(rig, raw, context):
    raw.hello(1)
    raw.send(frame_of(trade(1), trade(2)))
    ack_of(raw, 2)
    again = RawPublisher(context, rig.base)
    welcome = again.hello(3)
    assert welcome.a == 2
    assert welcome.b > 0
    again.close()


def test_duplicates_and_conflicts_are_counted_and_conflicts_are_kept(rig, context):
    one, two = RawPublisher(context, rig.base, 1), RawPublisher(context, rig.base, 2)
    one.hello()
    one.send(frame_of(trade(1), trade(2), incarnation=1))
    ack_of(one, 2)
    two.hello()
    conflict = trade(2, price=Decimal("1"))
    two.send(frame_of(trade(1), conflict, trade(1, side="sell"), trade(1, venue="X"), incarnation=2))
    assert ack_of(two, 4).c == (1 << 32) | 1
    assert rig.broker.stats().last_seq == 4
    (letter,) = rig.broker.dead_letters
    assert (letter.reason, letter.stage, letter.trade_id) == ("conflicting_duplicate", "door", "T2")
    assert (letter.source, letter.source_seq) == ("raw", 2)
    assert '"price":"1"' in letter.event
    one.close()
    two.close()


def test_a_refused_record_introduces_no_name(rig, raw):
    raw.hello(1)
    encoder = EventEncoder()
    raw.send(frame_of(trade(1, symbol="BAD", price=Decimal("1e-30")), encoder=encoder))
    ack_of(raw, 1)
    raw.send(frame_of(trade(2, symbol="GOOD"), first=2, encoder=encoder))
    ack_of(raw, 2)
    assert reasons(rig.broker) == ["precision"]
    assert [text for kind, _, text in Frame(rig.journal.frame(1)).definitions() if kind == 0] == [b"GOOD"]


def test_a_symbol_keeps_the_units_of_its_first_event(rig, raw):
    raw.hello(1)
    raw.send(
        frame_of(
            InstrumentDefined("i1", "ES*", price_exponent=-2, quantity_exponent=0),
            MarkPrice("m1", "ESZ4", Decimal("5000.25"), 1),
            InstrumentDefined("i2", "ES*", price_exponent=-4, quantity_exponent=0),
            MarkPrice("m2", "ESZ4", Decimal("5000.255"), 2),
            MarkPrice("m3", "ESH5", Decimal("5000.255"), 3),
        )
    )
    ack_of(raw, 5)
    assert reasons(rig.broker) == ["precision"]
    assert [event.event_id for _, event in rig.events()] == ["i1", "m1", "i2", "m3"]


def test_limits_that_cannot_be_used_are_refused_with_what_is_wrong(rig, raw):
    raw.hello(1)
    bad = [{"id": "x", "kind": "no_such_kind", "threshold": "1"}]
    good = [{"id": "x", "kind": "max_position", "per": ["symbol"], "threshold": "1"}]
    raw.send(frame_of(LimitsChanged("l1", 1, {}, bad), LimitsChanged("l2", 1, {}, good, "me")))
    ack_of(raw, 2)
    (letter,) = rig.broker.dead_letters
    assert letter.reason == "invalid"
    assert "no_such_kind" in letter.error
    ((_, kept),) = rig.events()
    assert (kept.event_id, kept.who, kept.limit[0]["threshold"]) == ("l2", "me", "1")


def test_a_feeds_bad_row_goes_to_the_dead_letters_with_its_place_and_bytes(rig, raw):
    raw.hello(1)
    builder = FrameBuilder()
    builder.add_record(type=15, exec_type=1, ref=b"9 fields where 6 were expected")
    builder.origin_source(b"day.csv")
    builder.origin(17, b"a,b,c")
    raw.send(builder.finish(1, 77))
    assert ack_of(raw, 1).c == 1
    (letter,) = rig.broker.dead_letters
    assert (letter.reason, letter.stage, letter.payload) == ("undecodable", "feed", b"a,b,c")
    assert (letter.source, letter.position, letter.unit) == ("day.csv", 17, "line")
    assert letter.error == "9 fields where 6 were expected"


# --- malformed -------------------------------------------------------------------------------------------------------


def spoilt(offset: int, value: int) -> bytes:
    data = frame_of(trade(1))
    data[offset] = value
    return bytes(data)


def other_kind() -> bytes:
    builder = FrameBuilder(1)
    builder.add_record(type=1, side=1, symbol=1, id=b"x", volume=1)
    return bytes(builder.finish(1, 77))


MALFORMED = {
    "nothing": (b"", "undecodable"),
    "junk": (b"junk", "undecodable"),
    "binary": (bytes(range(256)), "undecodable"),
    "half a header": (b"RWF1" + bytes(20), "undecodable"),
    "a flipped bit": (spoilt(80, 0xFF), "undecodable"),
    "another version": (spoilt(4, 2), "unsupported_version"),
    "a sequenced frame": (other_kind(), "undecodable"),
    "half a control message": (b"RWC1\x01\x01", "undecodable"),
    "another control version": (control_with(5, "<B", 2), "unsupported_version"),
    "an unknown control type": (control_with(4, "<B", 99), "undecodable"),
    "a text longer than the message": (control_with(6, "<H", 500), "undecodable"),
    "a HELLO without incarnation": (control_with(8, "<Q", 0), "undecodable"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_message_is_a_dead_letter_and_ends_nothing(rig, raw, name):
    message, reason = MALFORMED[name]
    raw.hello(1)
    raw.send(message)
    wait_for(lambda: rig.broker.stats().malformed == 1, "the malformed message")
    raw.send(frame_of(trade(1)))
    ack_of(raw, 1)
    (letter,) = rig.broker.dead_letters
    assert (letter.reason, letter.stage, letter.payload) == (reason, "door", message)


def test_more_parts_than_one_are_refused_as_a_whole(rig, raw):
    raw.hello(1)
    raw.socket.send_multipart([bytes(frame_of(trade(1))), b"more", b"parts"])
    raw.send(frame_of(trade(1)))
    ack_of(raw, 1)
    assert reasons(rig.broker) == ["undecodable"]


BAD_RECORDS = {
    "type": {"type": 9},
    "side": {"side": 3},
    "exec_type": {"exec_type": 3},
    "volume": {"volume": 0},
    "no id": {"id": b""},
    "a long id": {"id": b"x" * 65},
    "an id that is not UTF-8": {"id": b"\xff\xfe"},
    "no symbol": {"symbol": 0},
    "an undefined symbol": {"symbol": 2},
    "no account": {"account": 0},
    "an adjustment without account": {"type": 3, "side": 0, "account": 0},
    "a bust without ref": {"exec_type": 2},
    "a correct without ref": {"exec_type": 1},
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_record_with_a_bad_field_is_invalid_and_the_others_are_taken(rig, raw, name):
    good = {"type": 1, "side": 1, "symbol": 1, "account": 1, "id": b"T1", "price": 5, "volume": 1}
    raw.hello(1)
    builder = FrameBuilder()
    builder.define_name(0, 1, b"BTC")
    builder.define_name(1, 1, b"default")
    builder.add_record(**(good | BAD_RECORDS[name]))
    builder.add_record(**(good | {"id": b"T2"}))
    raw.send(builder.finish(1, 77))
    assert ack_of(raw, 2).c == 1
    assert reasons(rig.broker) == ["invalid"]
    assert rig.broker.dead_letters[0].error != "invalid"
    assert rig.trade_ids() == ["T2"]


@pytest.mark.parametrize("text", [b"\xc3\x28", b"x" * 65])
def test_a_name_that_is_no_text_makes_its_records_invalid(rig, raw, text):
    raw.hello(1)
    builder = FrameBuilder()
    builder.define_name(0, 1, text)
    builder.define_name(1, 1, b"default")
    builder.add_record(type=1, side=1, symbol=1, account=1, id=b"T1", volume=1)
    raw.send(builder.finish(1, 77))
    assert ack_of(raw, 1).c == 1
    assert reasons(rig.broker) == ["invalid"]


def test_too_many_names_refuse_the_record_and_take_nothing_else(context):
    with Rig(context, new_base(), names_max=2) as rig:
        raw = RawPublisher(context, rig.base)
        raw.hello(1)
        symbols = ["A", "B", "C", "A"]
        raw.send(frame_of(*(trade(i, symbol=symbol) for i, symbol in enumerate(symbols))))
        ack_of(raw, 4)
        assert reasons(rig.broker) == ["too_many_names"]
        assert [event.symbol for _, event in rig.events()] == ["A", "B", "A"]
        raw.close()


def test_beyond_the_bound_the_oldest_trades_are_forgotten_and_refused_as_too_old(context):
    with Rig(context, new_base(), dedup_max_trades=3) as rig:
        raw = RawPublisher(context, rig.base)
        raw.hello(1)
        encoder = EventEncoder()
        raw.send(frame_of(*(trade(i) for i in range(1, 6)), encoder=encoder))
        ack_of(raw, 5)
        raw.send(frame_of(*(trade(i) for i in range(1, 6)), first=6, encoder=encoder))
        assert ack_of(raw, 10).c == (3 << 32) | 2
        assert reasons(rig.broker) == ["too_old", "too_old"]
        raw.close()


# --- replay ----------------------------------------------------------------------------------------------------------


def fetch(context, base: str, first: int, to: int = 0, size: int = 0) -> tuple[list[bytes], Control]:
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint(base, "replay"))
    socket.send(Control(FETCH, 4, a=first, b=to, c=size).encode())
    frames = []
    while socket.poll(int(WAIT_S * 1000)):
        message = socket.recv()
        control = decode_control(message)
        if control:
            socket.close(0)
            assert (control.type, control.incarnation) == (FETCHED, 4)
            return frames, control
        frames.append(message)
    raise AssertionError("no FETCHED")


@pytest.fixture
def filled(rig, raw) -> Rig:
    raw.hello(1)
    for first in range(1, 41, 4):
        raw.send(frame_of(*(trade(i) for i in range(first, first + 4)), first=first, encoder=EventEncoder()))
        ack_of(raw, first + 3)  # what waits together would share a frame
    return rig


def test_frames_are_fetched_by_seq(filled, context):
    frames, end = fetch(context, filled.base, 1)
    assert frames == list(filled.journal)
    assert (end.a, end.b) == (41, 40)
    frames, end = fetch(context, filled.base, 6, 9)
    assert [Frame(data).first_seq for data in frames] == [5, 9]
    assert (end.a, end.b) == (13, 40)
    frames, end = fetch(context, filled.base, 41)
    assert (frames, end.a, end.b) == ([], 41, 40)
    frames, end = fetch(context, filled.base, 999)
    assert (frames, end.b) == ([], 40)


def test_a_fetch_of_few_bytes_is_answered_in_pieces_that_join(filled, context):
    first, collected = 1, []
    while first <= 40:
        frames, end = fetch(context, filled.base, first, 0, 1)
        assert len(frames) == 1
        collected += frames
        first = end.a
    assert collected == list(filled.journal)


def test_junk_at_the_replay_socket_ends_nothing(filled, context):
    socket = context.socket(zmq.DEALER)
    socket.connect(endpoint(filled.base, "replay"))
    for message in (b"", b"junk", control_with(4, "<B", 6)[:30], bytes(48), struct.pack("<48s", b"RWC1")):
        socket.send(message)
    socket.send_multipart([b"a", b"b", b"c"])
    wait_for(lambda: filled.broker.stats().malformed == 6, "the junk")
    assert fetch(context, filled.base, 1)[1].b == 40
    socket.close(0)


# --- the sink --------------------------------------------------------------------------------------------------------


def test_an_ack_waits_until_what_was_refused_is_in_the_sink(context, tmp_path):
    base = new_base()
    with Rig(context, base, sink=endpoint(base, "sink")) as rig:
        raw = RawPublisher(context, base)
        raw.hello(1)
        encoder = EventEncoder()
        raw.send(frame_of(trade(1), encoder=encoder))
        ack_of(raw, 1)
        raw.send(frame_of(trade(2), trade(1, volume=Decimal(9)), first=2, encoder=encoder))
        raw.send(frame_of(trade(3), first=4, encoder=encoder))
        wait_for(lambda: rig.broker.stats().last_seq == 3, "numbering")
        while raw.socket.poll(300):
            assert decode_control(raw.socket.recv()).a == 1
        with Sink(context, endpoint(base, "sink"), tmp_path / "letters.db") as sink:
            ack_of(raw, 4)
            assert sink.stored == 1
        assert rig.broker.stats().unconfirmed_batches == 0
        raw.close()


def test_what_one_message_to_the_sink_cannot_hold_goes_in_several(context, tmp_path):
    base = new_base()
    with Sink(context, endpoint(base, "sink"), tmp_path / "letters.db") as sink:
        with Rig(context, base, sink=endpoint(base, "sink")):
            raw = RawPublisher(context, base)
            raw.hello(1)
            builder = FrameBuilder()
            for number in range(2500):
                builder.add_record(type=15, exec_type=1, ref=b"bad")
                builder.origin(number, b"%d," % number + b"x" * (3 << 20 if number in (7, 8, 9) else 10))
            raw.send(builder.finish(1, 77))
            builder.add_record(type=15, exec_type=1, ref=b"long")
            builder.origin(1, b"y" * (31 << 20))
            raw.send(builder.finish(2501, 77))
            ack_of(raw, 2501)
            raw.close()
        assert sink.stored == 2501


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_quiet_broker_says_that_it_lives_and_what_it_gave_last(context):
    with Rig(context, new_base(), heartbeat_ns=5_000_000) as rig:
        raw = RawPublisher(context, rig.base)
        raw.hello(1)
        raw.send(frame_of(trade(1), trade(2)))
        ack_of(raw, 2)
        events = context.socket(zmq.SUB)
        events.subscribe(b"RWC1")
        events.connect(endpoint(rig.base, "events"))
        for _ in range(3):
            beat = decode_control(events.recv())
            assert (beat.type, beat.a, beat.epoch) == (HEARTBEAT, 2, rig.journal.epoch)
        events.close(0)
        raw.close()


def test_with_nodrop_a_full_subscriber_holds_the_broker_up_and_loses_nothing(context):
    with Rig(context, new_base(), nodrop=True, events_hwm=2) as rig:
        events = context.socket(zmq.SUB)
        events.rcvhwm = 2
        events.subscribe(b"RWF1")
        events.connect(endpoint(rig.base, "events"))
        raw = RawPublisher(context, rig.base)
        raw.hello(1)
        encoder = EventEncoder()
        firsts = list(range(1, 60 * 1024, 1024))  # frames that are not joined
        for first in firsts:
            raw.send(frame_of(*map(trade, range(first, first + 1024)), first=first, encoder=encoder))
        wait_for(lambda: rig.broker.stats().last_seq > 0, "the first frame")
        assert [Frame(events.recv()).first_seq for _ in range(60)] == firsts
        ack_of(raw, 60 * 1024)
        events.close(0)
        raw.close()


@contextmanager
def held(broker: Broker) -> Iterator[None]:
    """Hold the broker's loop up between two rounds, so that what is sent meanwhile waits together."""
    begun, release = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        release.wait(WAIT_S)

    holder = threading.Thread(target=broker.run_in_thread, args=(hold, WAIT_S))
    holder.start()
    assert begun.wait(WAIT_S)
    try:
        yield
    finally:
        release.set()
        holder.join()


def test_small_frames_that_wait_together_share_a_frame_of_the_sequence(rig, raw, context):
    other = RawPublisher(context, rig.base, incarnation=78)
    raw.hello(1)
    other.hello(1)
    encoders = EventEncoder(), EventEncoder()
    with held(rig.broker):
        for number in range(
            1, 31
        ):  # each trade twice, by two publishers with names of their own; every tenth in conflict
            raw.send(frame_of(trade(number), first=number, encoder=encoders[0]))
            again = trade(number, volume=Decimal(99)) if number % 10 == 0 else trade(number)
            other.send(frame_of(again, first=number, incarnation=78, encoder=encoders[1]))
    wait_for(lambda: rig.broker.stats().frames_in == 60 and rig.broker.stats().last_seq == 30, "all of them")
    frames = [Frame(data) for data in rig.journal]
    assert [
        int(seq) for frame in frames for seq in range(frame.first_seq, frame.first_seq + len(frame.records))
    ] == list(range(1, 31))
    assert sorted(frame.id(i) for frame in frames for i in range(len(frame.records))) == sorted(
        trade(number).trade_id.encode() for number in range(1, 31)
    )
    assert len(frames) < 10, "hardly any frame was joined"
    stats = rig.broker.stats()
    assert (stats.accepted, stats.duplicates, stats.refused) == (30, 27, 3)
    other.close()


def test_frames_that_wait_are_joined_until_there_is_enough_for_a_message(rig, raw):
    raw.hello(1)
    encoder = EventEncoder()
    with held(rig.broker):
        for first in range(1, 3073, 256):
            raw.send(frame_of(*map(trade, range(first, first + 256)), first=first, encoder=encoder))
    wait_for(lambda: rig.broker.stats().last_seq == 3072, "all of them")
    sizes = [len(Frame(data)) for data in rig.journal]
    assert sum(sizes) == 3072
    assert len(sizes) < 8, "hardly any frame was joined"
    assert max(sizes) < 1024 + 256, "who waits for the first of them waits for all of them"


def test_frames_that_are_joined_have_no_more_records_than_a_frame_may_have(rig, raw, context):
    other = RawPublisher(context, rig.base, incarnation=78)
    raw.hello(1)
    other.hello(1)
    long = [trade(number, trade_id=f"{number:060d}") for number in range(1, 8193)]
    raw.send(frame_of(*long[:-100], first=1))
    ack_of(raw, 8092)
    with held(rig.broker):
        # All but a hundred are known already, so that the frame stays open; their texts would leave room for many more.
        other.send(frame_of(*long, first=1, incarnation=78))
        raw.send(frame_of(*map(trade, range(1, 8143)), first=8093, encoder=EventEncoder()))
    wait_for(lambda: rig.broker.stats().last_seq == 16334, "all of them")
    frames = [Frame(data) for data in rig.journal]  # each can be read
    assert sum(map(len, frames)) == 16334
    other.close()


def test_an_endpoint_that_cannot_be_bound_is_named(context):
    with Rig(context, new_base()) as rig:
        other = Rig(context, rig.base)
        with pytest.raises(EndpointError, match=f"{rig.base}-publish: cannot be bound"):
            other.start()


def test_several_endpoints_of_a_role_serve_one_broker(context, tmp_path):
    base, more = new_base(), f"ipc://{tmp_path}/publish"
    with Rig(context, base) as rig:
        rig.stop()
        settings = BrokerSettings(publish=(endpoint(base, "publish"), more), events=f"{base}-e", replay=f"{base}-r")
        with Broker(rig.journal, settings, context) as broker:
            assert broker.bound["publish"] == (endpoint(base, "publish"), more)
            raw = RawPublisher(context, base)
            raw.hello()
            raw.close()


def test_what_is_refused_can_be_handed_to_a_function(context):
    taken: list[DeadLetter] = []
    base = new_base()
    with Rig(context, base) as rig:
        rig.stop()
        settings = BrokerSettings(
            publish=endpoint(base, "publish"), events=endpoint(base, "events"), replay=endpoint(base, "replay")
        )
        with Broker(rig.journal, settings, context, on_dead_letters=taken.extend):
            raw = RawPublisher(context, base)
            raw.hello(1)
            raw.send(frame_of(trade(1, price=Decimal("1e300"))))
            ack_of(raw, 1)
            raw.close()
    assert [letter.reason for letter in taken] == ["overflow"]


def test_more_publishers_than_are_remembered_are_still_served(context):
    with Rig(context, new_base(), sources_max=3) as rig:
        for number in range(1, 9):
            raw = RawPublisher(context, rig.base, number)
            raw.hello(1)
            raw.send(frame_of(trade(number), incarnation=number))
            ack_of(raw, 1)
            raw.close()
        assert len(rig.broker.stats().sources) == 3
        assert rig.broker.stats().last_seq == 8


def test_group_sync_acks_and_publishes_the_same(context, tmp_path):
    with Rig(context, new_base(), tmp_path / "journal", "group") as rig:
        raw = RawPublisher(context, rig.base)
        raw.hello(1)
        raw.send(frame_of(trade(1), trade(2)))
        assert ack_of(raw, 2).b == 2
        stats = rig.broker.stats()
        assert (stats.frames_out, stats.last_seq) == (1, 2)
        raw.close()


def test_a_frame_restamped_by_hand_is_taken_under_its_new_number(rig, raw):
    raw.hello(5)
    data = frame_of(trade(1))
    stamp_frame(data, 5, 77)
    raw.send(data)
    assert ack_of(raw, 5).a == 5
