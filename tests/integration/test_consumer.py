"""The consumer behind a broker that loses, delays, damages and repeats: every seq is applied once, in order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal

import pytest
import zmq
from broker_rig import wait_for
from fake_broker import FakeBroker, trades_frame

from engine.consumer import ConsumerStopped, RiskConsumer
from engine.wire import FETCHED, HEARTBEAT, Control, decode_control

WAIT_S = 60.0
_names = itertools.count()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def base() -> str:
    return f"inproc://consumer-{next(_names)}"


@pytest.fixture
def consumer(context, base) -> Iterator[RiskConsumer]:
    with RiskConsumer(context, base, announce=False, retry_s=0.05) as consumer:
        yield consumer


def quantity(consumer: RiskConsumer) -> str:
    rows = consumer.call(lambda core: core.positions()).result(WAIT_S)
    return str(rows[0]["quantity"])


def test_a_consumer_that_comes_late_fetches_everything_from_the_first_seq(context, base):
    with FakeBroker(context, base) as broker:
        for count in (3, 5, 2):
            broker.accept_trades(count)
        with RiskConsumer(context, base, announce=False) as consumer:
            assert consumer.wait_applied(10, WAIT_S) == 10
            assert quantity(consumer) == "10"
            assert broker.fetches[0] == (1, 0)


def test_a_consumer_that_comes_before_the_broker_loses_nothing(context, base, consumer):
    with FakeBroker(context, base) as broker:
        broker.accept_trades(4)
        assert consumer.wait_applied(4, WAIT_S) == 4


def live(broker: FakeBroker, consumer: RiskConsumer) -> None:
    """Bring the consumer to where it follows the topic and fetches nothing."""
    broker.wait_subscribed()
    broker.accept_trades(1)
    consumer.wait_applied(1, WAIT_S)
    while consumer.loop.state_name != "live":
        broker.fetched.wait(0.01)
    broker.fetches.clear()


def patient(context: zmq.Context[zmq.Socket[bytes]], base: str) -> RiskConsumer:
    """Return a consumer that asks nothing again, however late an answer is on a busy machine."""
    return RiskConsumer(context, base, announce=False, retry_s=WAIT_S, silence_s=WAIT_S)


def test_frames_of_the_topic_are_applied_without_asking_for_anything(context, base):
    with FakeBroker(context, base) as broker, patient(context, base) as consumer:
        live(broker, consumer)
        for _ in range(50):
            broker.accept_trades(2)
        assert consumer.wait_applied(101, WAIT_S) == 101
        assert broker.fetches == []
        assert consumer.loop.gaps == 0


def test_a_lost_frame_is_fetched_and_the_next_one_waits_for_it(context, base):
    with FakeBroker(context, base) as broker, patient(context, base) as consumer:
        live(broker, consumer)
        broker.accept_trades(3, publish=False)
        broker.accept_trades(1)
        assert consumer.wait_applied(5, WAIT_S) == 5
        assert broker.fetches == [(2, 4)]
        assert quantity(consumer) == "5"


def test_a_loss_at_the_very_end_is_seen_by_the_heartbeat(context, base, consumer):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.accept_trades(2, publish=False)
        broker.beat()
        assert consumer.wait_applied(3, WAIT_S) == 3


def test_what_comes_twice_is_applied_once(context, base, consumer):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.accept_trades(2)
        for _, _, frame in list(broker.frames):
            broker.send(frame)
        broker.send(trades_frame(2, 3))  # overlaps what is there and goes on
        broker.frames.append((4, 4, trades_frame(4, 1)))
        assert consumer.wait_applied(4, WAIT_S) == 4
        assert quantity(consumer) == "4"


def test_several_losses_in_a_burst_are_all_filled(context, base, consumer):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        for number in range(600):  # more than the consumer holds while it fetches
            broker.accept_trades(1, publish=number % 7 != 0)
        broker.beat()
        assert consumer.wait_applied(601, WAIT_S) == 601
        assert quantity(consumer) == "601"


def test_a_fetch_in_pieces_ends_with_everything(context, base):
    with FakeBroker(context, base) as broker:
        broker.reply_bytes_max = 1
        for _ in range(20):
            broker.accept_trades(1)
        with RiskConsumer(context, base, announce=False) as consumer:
            assert consumer.wait_applied(20, WAIT_S) == 20
            assert len(broker.fetches) >= 20


def test_a_gap_fetched_in_pieces_leaves_what_is_held_in_its_place(context, base, consumer):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.reply_bytes_max = 1  # one frame an answer
        for _ in range(3):
            broker.accept_trades(1, publish=False)
        for _ in range(3):
            broker.accept_trades(1)
        assert consumer.wait_applied(7, WAIT_S) == 7
        assert quantity(consumer) == "7"


def test_a_fetch_that_nobody_answers_is_asked_again(context, base, consumer):
    with FakeBroker(context, base, mute=True) as broker:
        broker.accept_trades(2)
        assert broker.fetched.wait(WAIT_S)
        broker.mute = False
        assert consumer.wait_applied(2, WAIT_S) == 2
        assert len(broker.fetches) >= 2


@pytest.mark.parametrize("junk", [b"", b"RW", b"RWF1", b"RWC1", b"RWF1" + bytes(100), b"RWC1" + bytes(44)])
def test_junk_on_the_topic_changes_nothing(context, base, consumer, junk):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.send(b"RW" + junk)
        broker.send(junk)
        broker.accept_trades(1)
        assert consumer.wait_applied(2, WAIT_S) == 2


def test_a_damaged_frame_is_fetched_again(context, tmp_path):
    base = f"ipc://{tmp_path}"
    with FakeBroker(context, base) as broker, RiskConsumer(context, base, announce=False) as consumer:
        live(broker, consumer)
        frame = bytearray(trades_frame(2, 1))
        frame[70] ^= 1
        broker.accept_trades(1, publish=False)
        broker.send(bytes(frame))
        broker.beat()
        assert consumer.wait_applied(2, WAIT_S) == 2
        assert consumer.loop.damaged == 1


@pytest.mark.parametrize("regrown", [0, 1, 3, 9])
def test_a_broker_that_lost_its_tail_is_followed_from_the_start(context, base, consumer, regrown):
    """Also where it has long given the same seqs, and more, to other events."""
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.accept_trades(2)
        broker.accept_trades(3)
        consumer.wait_applied(6, WAIT_S)
        assert quantity(consumer) == "6"
        del broker.frames[2:]
        broker.epoch = 2
        if regrown:
            broker.accept(trades_frame(4, regrown, 2, price=900), regrown, publish=False)
        broker.accept_trades(1)
        broker.beat()
        wait_for(lambda: consumer.loop.resets == 1, "a new start")
        seq = 4 + regrown
        assert consumer.wait_applied(seq, WAIT_S) == seq
        (row,) = consumer.call(lambda core: core.positions()).result(WAIT_S)
        assert row["quantity"] == str(seq)
        assert row["last_price"] == "100"
        assert row["avg_price"] == avg_price(seq, regrown)


@pytest.mark.parametrize("lost", [False, True])
def test_a_broker_that_loses_its_tail_while_it_is_asked_is_noticed(context, base, lost):
    """What is fetched from the next life of the broker goes on where the last one stopped; nothing else tells of it."""
    with FakeBroker(context, base) as broker:
        for count in (3, 2, 1):
            broker.accept_trades(count, publish=False)
        broker.answer_frames(2)
        with RiskConsumer(context, base, announce=False, retry_s=0.05) as consumer:
            assert consumer.wait_applied(5, WAIT_S) == 5
            broker.epoch = 2
            del broker.frames[1 if lost else 2 :]
            if lost:
                broker.accept(trades_frame(4, 2, 2, price=900), 2, publish=False)
            broker.accept_trades(2, publish=False)
            broker.answer_frames(None)
            wait_for(lambda: consumer.loop.resets == int(lost), "a new start where the tail was lost")
            assert consumer.wait_applied(7, WAIT_S) == 7
            assert consumer.loop.resets == int(lost)
            (row,) = consumer.call(lambda core: core.positions()).result(WAIT_S)
            assert row["quantity"] == "7"
            assert row["avg_price"] == avg_price(7, 2 if lost else 0)


def avg_price(seq: int, regrown: int) -> str:
    cost = Decimal(100 * (seq - regrown) + 900 * regrown)
    return str((cost / seq).quantize(Decimal("1e-9")).normalize() + 0)


def test_a_consumer_says_when_the_broker_is_gone_and_when_it_is_back(context, base, caplog):
    with FakeBroker(context, base) as broker, RiskConsumer(context, base, announce=False, silence_s=0.1) as consumer:
        live(broker, consumer)
        wait_for(lambda: "is gone" in caplog.text, "a word that the broker is gone")
        assert consumer.loop.silent

        def heard() -> bool:
            broker.beat()  # again and again: it is gone again when a busy machine is late
            return not consumer.loop.silent

        wait_for(heard, "a broker that is heard again")
        wait_for(lambda: "is back" in caplog.text, "a word that it is back")


def test_a_new_epoch_that_goes_on_is_followed(context, base, consumer):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.epoch = 2
        broker.accept_trades(2)
        assert consumer.wait_applied(3, WAIT_S) == 3
        assert consumer.loop.epoch == 2


def test_an_idle_consumer_says_on_the_alerts_socket_how_far_it_has_judged(context, base):
    with (
        FakeBroker(context, base) as broker,
        RiskConsumer(context, base, heartbeat_s=0.01) as consumer,
        context.socket(zmq.SUB) as alerts,
    ):
        broker.accept_trades(3)
        consumer.wait_applied(3, WAIT_S)
        alerts.subscribe(b"heartbeat")
        alerts.connect(f"{base}-alerts")
        assert alerts.poll(int(1000 * WAIT_S))
        topic, message = alerts.recv_multipart()
        beat = decode_control(message)
        assert (topic, beat.type, beat.a, beat.b, beat.c) == (b"heartbeat", HEARTBEAT, 3, 3, 0)


def test_asking_a_stopped_consumer_is_an_error_and_not_a_wait(context, base):
    consumer = RiskConsumer(context, base, announce=False)
    consumer.start()
    consumer.stop()
    with pytest.raises(ConsumerStopped):
        consumer.wait_applied(1, WAIT_S)


def test_stopping_fails_those_who_wait(context, base):
    consumer = RiskConsumer(context, base, announce=False)
    consumer.start()
    never = consumer.applied(1)
    consumer.stop()
    with pytest.raises(ConsumerStopped):
        never.result(WAIT_S)


def test_an_error_in_a_request_reaches_the_one_who_asked_and_nobody_else(context, base, consumer):
    failed = consumer.call(lambda core: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(WAIT_S)
    assert consumer.call(lambda core: core.applied_seq).result(WAIT_S) == 0


def test_a_late_answer_to_an_old_fetch_does_no_harm(context, base, consumer):
    with FakeBroker(context, base) as broker:
        live(broker, consumer)
        broker.send(Control(FETCHED, epoch=1, a=9, b=9).encode())
        broker.accept_trades(1)
        assert consumer.wait_applied(2, WAIT_S) == 2
