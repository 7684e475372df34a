"""The publisher: whatever is late, killed, silent or repeated, each event arrives once and in order."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest
import zmq
from broker_rig import WAIT_S, Rig, new_base, trade, wait_for

from engine.endpoints import endpoint, prepare_base
from engine.errors import EngineBehind, EngineUnreachable, InvalidEvent, UsageError
from engine.events import LimitsChanged
from engine.publisher import Publisher
from engine.sink import Sink
from engine.wire import ACK, HELLO, NAK, WELCOME, Control, decode_control
from ext.encoder import EventEncoder
from ext.records import Frame, FrameDecodeError


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
def publisher(context, base) -> Iterator[Publisher]:
    publisher = Publisher(base, "test", context=context, wait_s=WAIT_S)
    yield publisher
    publisher.abandon()


def ids(first: int, count: int) -> list[str]:
    return [f"T{i}" for i in range(first, first + count)]


def frames(encoder: EventEncoder, first: int, count: int, size: int) -> list[bytearray]:
    """Return frames of a feed: names defined where they are first used, never again."""
    made = []
    for at in range(first, first + count, size):
        for number in range(at, at + size):
            encoder.add(trade(number, symbol=f"S{number % 7}"))
        made.append(encoder.finish())
    return made


def test_events_arrive_in_order_and_are_acked(context, base, publisher):
    with Rig(context, base) as rig:
        for number in range(1, 1001):
            publisher.publish(trade(number))
        publisher.flush()
        assert rig.trade_ids() == ids(1, 1000)
        stats = publisher.stats
        assert (stats.sent, stats.acked, stats.duplicates, stats.refused) == (1000, 1000, 0, 0)
        assert publisher.unacked == 0


def test_a_publisher_may_come_before_the_broker(context, base, publisher):
    for number in range(1, 101):
        publisher.publish(trade(number))
    assert publisher.unacked == 100
    with Rig(context, base) as rig:
        publisher.flush()
        assert rig.trade_ids() == ids(1, 100)
        assert rig.broker.stats().frames_in == 1  # what waited went as one frame


def test_a_feeds_frames_wait_for_a_late_broker(context, base, publisher):
    with Rig(context, base) as rig:
        rig.stop()
        starter = threading.Timer(0.3, rig.start)
        starter.start()
        for frame in frames(EventEncoder(), 1, 40, 4):
            publisher.publish_frame(frame)
        publisher.flush()
        starter.join()
        assert rig.trade_ids() == ids(1, 40)


def test_a_killed_broker_gets_everything_unacked_again_and_takes_nothing_twice(context, tmp_path):
    base = f"ipc://{tmp_path / 'base'}"
    prepare_base(base)
    publisher = Publisher(base, "test", context=context, wait_s=WAIT_S)
    with Rig(context, base, tmp_path / "journal") as rig:
        feed = iter(frames(EventEncoder(), 1, 3000, 10))
        for turn in range(300):
            if turn in (40, 41, 150, 280):
                rig.kill()
                rig.start()
            publisher.publish_frame(next(feed))
        publisher.flush()
        assert rig.trade_ids() == ids(1, 3000)
        assert [event.symbol for _, event in rig.events()] == [f"S{i % 7}" for i in range(1, 3001)]
        assert publisher.stats.acked == 3000
    publisher.abandon()


def test_events_survive_a_killed_broker_too(context, tmp_path):
    base = f"ipc://{tmp_path / 'base'}"
    prepare_base(base)
    publisher = Publisher(base, "test", context=context, wait_s=WAIT_S)
    with Rig(context, base, tmp_path / "journal") as rig:
        for number in range(1, 301):
            if number in (50, 200):
                rig.kill()
                rig.start()
            publisher.publish(trade(number, symbol=f"S{number % 5}"))
        publisher.flush()
        assert rig.trade_ids() == ids(1, 300)
    publisher.abandon()


def test_a_broker_that_was_idle_and_started_again_learns_the_names_anew(context, base, publisher, tmp_path):
    with Rig(context, base, tmp_path / "journal") as rig:
        publisher.publish(trade(1, symbol="A", account="X"))
        publisher.flush()
        rig.kill()
        rig.start()
        publisher.publish(trade(2, symbol="A", account="X"))
        publisher.flush()
        assert rig.trade_ids() == ids(1, 2)
        assert rig.broker.dead_letters == []


def test_the_same_feed_published_twice_adds_nothing(context, base):
    with Rig(context, base) as rig:
        for _ in range(2):
            with Publisher(base, "feed", context=context) as publisher:
                for frame in frames(EventEncoder(), 1, 100, 10):
                    publisher.publish_frame(frame)
                publisher.flush()
                stats = publisher.stats
        assert (stats.acked, stats.duplicates) == (100, 100)
        assert rig.trade_ids() == ids(1, 100)


def test_refused_events_are_acked_and_counted(context, base, publisher):
    with Rig(context, base) as rig:
        publisher.publish(trade(1))
        publisher.publish(trade(1, price=Decimal(1)))
        publisher.publish(trade(2, price=Decimal("1e-40")))
        publisher.flush()
        assert publisher.stats.refused == 2
        assert [letter.reason for letter in rig.broker.dead_letters] == ["conflicting_duplicate", "precision"]


def test_events_and_frames_of_one_publisher_keep_their_order(context, base, publisher):
    with Rig(context, base) as rig:
        feed = frames(EventEncoder(), 100, 6, 2)
        publisher.publish(trade(1, symbol="first"))
        publisher.publish_frame(feed[0])
        publisher.publish(trade(2, symbol="second"))
        publisher.publish_frame(feed[1])
        publisher.publish_frame(feed[2])
        publisher.publish(trade(3, symbol="first"))
        publisher.flush()
        assert rig.trade_ids() == ["T1", "T100", "T101", "T2", "T102", "T103", "T104", "T105", "T3"]


def test_names_alone_are_kept_for_the_frames_that_use_them(context, base, publisher):
    encoder = EventEncoder()
    encoder.add(trade(1))
    whole = encoder.finish()
    encoder.define_again()
    names = encoder.finish()
    encoder.add(trade(2))
    rest = encoder.finish()
    assert len(Frame(names)) == 0
    with Rig(context, base) as rig:
        publisher.publish_frame(names)
        publisher.publish_frame(rest)
        publisher.publish_frame(whole)
        publisher.flush()
        assert rig.trade_ids() == ["T2", "T1"]


def test_an_event_alone_leaves_at_once_without_flush_or_poll(context, tmp_path):
    base = f"ipc://{tmp_path}"
    with Rig(context, base) as rig:
        publisher = Publisher(base, "test", context=context)
        publisher.publish(trade(1))
        wait_for(lambda: rig.broker.stats().last_seq == 1, "the event that nobody flushed")
        publisher.publish(trade(2))
        wait_for(lambda: rig.broker.stats().last_seq == 2, "the second one")
        publisher.abandon()


def publish_all(publisher: Publisher, numbers: Iterator[int]) -> None:
    for number in numbers:
        publisher.publish(trade(number, price=Decimal("1e-40")))


def test_with_raise_a_publisher_says_that_the_engine_is_behind_and_takes_nothing(context, base):
    """A broker whose sink is away acks nothing: its window fills, and then what may wait."""
    with Rig(context, base, sink=endpoint(base, "sink")):
        publisher = Publisher(base, "test", context=context, window=2, when_full="raise")
        numbers = iter(range(20_000))
        with pytest.raises(EngineBehind, match="is behind"):
            publish_all(publisher, numbers)
        assert publisher.unacked == next(numbers) - 1
        publisher.abandon()


def test_with_raise_a_feeds_frame_beyond_the_window_is_refused_and_can_be_given_again(context, base, tmp_path):
    with Rig(context, base, sink=endpoint(base, "sink")) as rig:
        publisher = Publisher(base, "test", context=context, window=2, when_full="raise")
        encoder = EventEncoder()
        encoder.add(trade(0, price=Decimal("1e-40")))
        publisher.publish_frame(encoder.finish())
        made = frames(encoder, 1, 3, 1)
        publisher.publish_frame(made[0])
        with pytest.raises(EngineBehind):
            publisher.publish_frame(made[1])
        with Sink(context, endpoint(base, "sink"), tmp_path / "letters.db"):
            publisher.flush(WAIT_S)
            publisher.publish_frame(made[1])
            publisher.publish_frame(made[2])
            publisher.close(WAIT_S)
        assert len(rig.trade_ids()) == 3


def test_a_message_larger_than_the_engine_takes_is_refused_before_it_ends_the_connection(context, base):
    with Rig(context, base) as rig:
        with Publisher(base, "test", context=context) as publisher:
            publisher.publish(trade(1))
            with pytest.raises(InvalidEvent, match="33,554,432"):
                publisher.publish(LimitsChanged("big", 1, {"base_currency": "U" * (33 << 20)}, []))
            with pytest.raises(InvalidEvent, match="33,554,432"):
                publisher.publish_frame(bytearray(33 << 20))
            publisher.publish(trade(2))
        assert rig.trade_ids() == ["T1", "T2"]


def test_when_full_is_one_of_two_words(context, base):
    with pytest.raises(UsageError, match="'block' or 'raise'"):
        Publisher(base, "test", context=context, when_full="drop")


def test_no_engine_is_one_clear_error(context, base):
    publisher = Publisher(base, "test", context=context, wait_s=0.3)
    publisher.publish(trade(1))
    with pytest.raises(EngineUnreachable, match=r"no engine answers at .*publish.*riskwire serve"):
        publisher.close()


def test_a_feed_stops_at_a_full_window_when_no_engine_comes(context, base):
    publisher = Publisher(base, "test", context=context, wait_s=0.2)
    with pytest.raises(EngineUnreachable):
        publisher.publish_frame(frames(EventEncoder(), 1, 1, 1)[0])
    publisher.abandon()


def test_waiting_events_are_bounded(context, base):
    publisher = Publisher(base, "test", context=context, wait_s=0.2)
    for number in range(4095):
        publisher.publish(trade(number))
    with pytest.raises(EngineUnreachable):
        publisher.publish(trade(4095))
    assert publisher.unacked == 4096
    publisher.abandon()


def test_an_engine_that_takes_but_cannot_store_refusals_is_told_apart(context):
    base = new_base()
    with Rig(context, base, sink=endpoint(base, "sink")):
        publisher = Publisher(base, "test", context=context, wait_s=0.5)
        publisher.publish(trade(1, price=Decimal("1e-40")))
        with pytest.raises(EngineUnreachable, match="answers but has not acked 1 events"):
            publisher.flush(3)
        publisher.abandon()


def test_an_ack_held_back_for_the_sink_comes_when_the_sink_does(context, tmp_path):
    base = new_base()
    with Rig(context, base, sink=endpoint(base, "sink")) as rig:
        publisher = Publisher(base, "test", context=context, wait_s=WAIT_S)
        publisher.publish(trade(1, price=Decimal("1e-40")))
        publisher.publish(trade(2))
        wait_for(lambda: publisher.poll() >= 0 and rig.broker.stats().last_seq == 1, "the second trade")
        with Sink(context, endpoint(base, "sink"), tmp_path / "letters.db") as sink:
            publisher.flush()
            assert sink.stored == 1
        publisher.close()


@pytest.mark.parametrize("bad", [trade(1, symbol=""), trade(1, side="hold"), trade(1, volume=Decimal(0))])
def test_an_event_that_cannot_be_one_is_refused_before_it_is_sent(context, base, publisher, bad):
    with pytest.raises(InvalidEvent) as caught:
        publisher.publish(bad)
    assert caught.value.reason == "invalid"
    with Rig(context, base) as rig:
        publisher.publish(trade(2))
        publisher.flush()
        assert rig.trade_ids() == ["T2"]


@pytest.mark.parametrize("source", ["", "x" * 65, "é" * 33])
def test_a_source_needs_a_name_of_1_to_64_bytes(context, source):
    with pytest.raises(UsageError, match="expected 1 to 64"):
        Publisher("inproc://x", source, context=context)


@pytest.mark.parametrize("sync", ["os", "group"])
def test_a_full_disk_holds_publishers_up_and_loses_nothing(context, tmp_path, sync):
    """A limit on file size acts as a full disk does: the next segment cannot be made."""
    base = new_base()
    with Rig(context, base, tmp_path / "journal", sync) as rig:
        publisher = Publisher(base, "test", context=context, wait_s=WAIT_S)
        publisher.publish(trade(1))
        publisher.flush()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        try:
            for frame in frames(EventEncoder(), 100, 20_000, 500):
                publisher.publish_frame(frame)
            wait_for(lambda: publisher.poll() > 0 and "File too large" in rig.broker.stats().trouble, "the trouble")
            assert rig.broker.is_alive
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        publisher.flush()
        assert rig.broker.stats().trouble == ""
        assert rig.trade_ids() == ["T1", *ids(100, 20_000)]
        publisher.close()


# --- against a broker that misbehaves --------------------------------------------------------------------------------


class Bad:
    """A broker that answers what the test says."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], base: str) -> None:
        self.socket = context.socket(zmq.ROUTER)
        self.socket.linger = 0
        self.socket.bind(endpoint(base, "publish"))
        self.identity = b""

    def frame(self) -> Frame:
        return Frame(self.receive(b"RWF1"))

    def receive(self, magic: bytes) -> bytes:
        while self.socket.poll(int(WAIT_S * 1000)):
            self.identity, message = self.socket.recv_multipart()
            if message[:4] == magic:
                return message
        raise AssertionError("nothing came")

    def hello(self) -> Control:
        control = decode_control(self.receive(b"RWC1"))
        assert control is not None
        assert control.type == HELLO
        return control

    def say(self, kind: int, incarnation: int, a: int = 0, b: int = 1, c: int = 64) -> None:
        self.socket.send_multipart([self.identity, Control(kind, incarnation, 9, a, b, c).encode()])


@pytest.fixture
def bad(context) -> Iterator[tuple[Bad, Publisher]]:
    base = new_base()
    bad = Bad(context, base)
    publisher = Publisher(base, "test", context=context, wait_s=WAIT_S)
    yield bad, publisher
    publisher.abandon()
    bad.socket.close(0)


def greet(bad: Bad, publisher: Publisher, credit: int = 64) -> int:
    publisher.publish(trade(0))
    incarnation = bad.hello().incarnation
    bad.say(WELCOME, incarnation, c=credit)
    publisher.poll()
    wait_for(lambda: publisher.poll() >= 0 and publisher.stats.sent == 1, "the first frame")
    assert bad.frame().first_seq == 1
    return incarnation


def listen(publisher: Publisher) -> None:
    """Let the publisher hear what was said last."""
    publisher._socket.poll(int(WAIT_S * 1000))
    publisher.poll()


def test_a_nak_brings_everything_from_there_again(bad):
    broker, publisher = bad
    incarnation = greet(broker, publisher)
    for number in range(1, 4):
        publisher.publish(trade(number))
    assert [broker.frame().first_seq for _ in range(3)] == [2, 3, 4]
    broker.say(NAK, incarnation, a=3)
    listen(publisher)
    assert [broker.frame().first_seq for _ in range(2)] == [3, 4]


def test_a_nak_for_a_hello_brings_hello_names_and_everything_unacked(bad):
    broker, publisher = bad
    incarnation = greet(broker, publisher)
    broker.say(ACK, incarnation, a=1)
    listen(publisher)
    publisher.publish(trade(1))
    assert broker.frame().definitions() == []
    broker.say(NAK, incarnation, a=0)
    publisher._lanes[incarnation].hello_at = 0.0
    listen(publisher)
    hello = broker.hello()
    assert (hello.incarnation, hello.a) == (incarnation, 2)
    broker.say(WELCOME, incarnation, a=1, b=0)
    listen(publisher)
    names = broker.frame()
    assert len(names) == 0
    assert (0, 1, b"BTCUSDT") in names.definitions()
    assert broker.frame().first_seq == 2


def test_silence_brings_a_hello_and_then_what_was_not_taken(bad):
    broker, publisher = bad
    incarnation = greet(broker, publisher)
    publisher.publish(trade(1))
    assert broker.frame().first_seq == 2
    publisher._quiet_since -= 10
    publisher._lanes[incarnation].hello_at = 0.0
    publisher.poll()
    assert broker.hello().a == 1
    broker.say(WELCOME, incarnation, a=1)
    listen(publisher)
    assert broker.frame().first_seq == 2


def test_no_more_frames_go_than_the_engine_allows(bad):
    broker, publisher = bad
    incarnation = greet(broker, publisher, credit=3)
    for number in range(1, 11):
        publisher.publish(trade(number))
    assert [broker.frame().first_seq for _ in range(2)] == [2, 3]
    assert not broker.socket.poll(50)
    broker.say(ACK, incarnation, a=2)
    listen(publisher)
    waited = broker.frame()
    assert (waited.first_seq, len(waited)) == (4, 8)


def test_junk_and_strangers_words_change_nothing(bad):
    broker, publisher = bad
    incarnation = greet(broker, publisher)
    for message in (b"", b"junk", b"RWC1", Control(99, incarnation).encode(), Control(ACK, 12345, a=1).encode()):
        broker.socket.send_multipart([broker.identity, message])
    broker.say(WELCOME, incarnation, a=0, b=0, c=0)
    broker.say(ACK, incarnation, a=0)
    wait_for(lambda: publisher.poll() == 1 and not publisher._socket.poll(0), "the junk to be read")
    broker.say(ACK, incarnation, a=1)
    publisher.flush()


def test_an_unsealed_frame_is_sealed_in_the_journal_by_a_broker_that_looks_at_no_crc(context):
    base = new_base()
    with Rig(context, base, check_crc=False) as rig:
        with Publisher(base, "feed", context=context, wait_s=WAIT_S, seal=False) as publisher:
            sent = frames(EventEncoder(), 1, 100, 10)
            for frame in sent:
                publisher.publish_frame(frame)
        with pytest.raises(FrameDecodeError, match="CRC"):
            Frame(sent[0])
        assert rig.trade_ids() == ids(1, 100)
        seq = 1
        while seq <= 100:
            seq += len(Frame(rig.journal.frame(seq)))  # raises where the CRC is not the frame's


def test_any_other_broker_refuses_an_unsealed_frame(context):
    base = new_base()
    with Rig(context, base) as rig:
        publisher = Publisher(base, "feed", context=context, wait_s=WAIT_S, seal=False)
        publisher.publish_frame(frames(EventEncoder(), 1, 10, 10)[0])
        wait_for(lambda: rig.broker.stats().malformed > 0, "the refusal")
        publisher.abandon()
        assert rig.journal.last_seq == 0
