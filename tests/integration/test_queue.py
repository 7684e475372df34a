"""The queue with real sockets: who gets what, what comes again, and what survives another life of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zmq
from queue_rig import ACCOUNTS, Rig, config, trades, wait_for

from engine.endpoints import endpoint
from engine.errors import EngineUnreachable, UsageError
from engine.events import TradeExecuted
from engine.jobwire import (
    Ack,
    Drain,
    Goodbye,
    Hello,
    Ping,
    Refused,
    Unknown,
    Welcome,
    decode_from_queue,
    decode_from_worker,
    encode,
    encode_jobs_head,
)
from engine.queue import QueueService
from engine.worker import JobContext, Worker


@pytest.fixture
def base(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}"


class Crew:
    """Workers in threads of this process; each handler call is noted."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.seen: list[tuple[int, int, str]] = []  # seq, attempt, trade_id
        self.workers: list[tuple[Worker, threading.Thread]] = []
        self.errors: list[Exception] = []

    def add(self, handler: Any = None, queue: str = "q", **options: Any) -> Worker:
        def note(event: TradeExecuted, context: JobContext) -> None:
            self.seen.append((context.seq, context.attempt, event.trade_id))
            if handler is not None:
                handler(event, context)

        worker = Worker(queue, note, self.rig.base, context=self.rig.context, **options)
        thread = threading.Thread(target=self._run, args=(worker,), daemon=True)
        thread.start()
        self.workers.append((worker, thread))
        return worker

    def _run(self, worker: Worker) -> None:
        try:
            worker.run()
        except Exception as problem:
            self.errors.append(problem)

    def dismiss(self) -> None:
        for worker, _ in self.workers:
            worker.stop()
        for _, thread in self.workers:
            thread.join(60)
            assert not thread.is_alive()
        self.workers.clear()


@pytest.fixture
def rig(base: str, tmp_path: Path) -> Iterator[Rig]:
    with Rig(base, tmp_path, [config()]) as made:
        yield made


@pytest.fixture
def crew(rig: Rig) -> Iterator[Crew]:
    made = Crew(rig)
    yield made
    made.dismiss()


def test_competing_workers_do_every_job_once_and_share_them(base: str, tmp_path: Path) -> None:
    together = threading.Barrier(3, timeout=60)

    def meeting() -> Callable[[Any, JobContext], None]:
        """Return a handler that goes on with its first job once each worker has one."""
        met: list[bool] = []

        def handle(event: TradeExecuted, context: JobContext) -> None:
            if not met:
                met.append(True)
                together.wait()

        return handle

    with Rig(base, tmp_path, [config(in_hands_max=100)]) as rig:
        crew = Crew(rig)
        for _ in range(3):
            crew.add(meeting())
        wait_for(lambda: len(rig.status().workers) == 3)
        rig.publish(3000)
        status = rig.wait_idle()
        letters = rig.letters()
        crew.dismiss()
    assert sorted(seq for seq, _, _ in crew.seen) == list(range(1, 3001))
    assert all(trade_id == f"T{seq}" and attempt == 1 for seq, attempt, trade_id in crew.seen)
    assert all(worker.done > 0 for worker in status.workers)
    assert (status.done, status.failed, letters) == (3000, 0, [])


def test_only_trades_are_jobs_and_names_of_other_events_do_no_harm(rig: Rig, crew: Crew) -> None:
    rig.publish(100, marks_every=3)
    crew.add()
    rig.wait_idle()
    assert sorted(seq for seq, _, _ in crew.seen) == [seq for seq in range(1, 101) if seq % 3]


def test_what_was_published_before_the_queue_was_there_is_fetched(base: str, tmp_path: Path) -> None:
    with Rig(base, tmp_path, [config()]) as rig:
        rig.queue.stop()
        for _ in range(20):
            rig.broker.accept_trades(10, publish=False)
        rig.queue = rig._start_queue()
        crew = Crew(rig)
        crew.add()
        rig.wait_idle()
        crew.dismiss()
        assert sorted(seq for seq, _, _ in crew.seen) == list(range(1, 201))


def test_poison_goes_to_the_sink_after_its_attempts_with_its_traceback(rig: Rig, crew: Crew) -> None:
    def handle(event: TradeExecuted, context: JobContext) -> None:
        if context.seq == 7:
            raise ValueError(f"no luck with {event.trade_id}")

    for _ in range(2):
        crew.add(handle)
    rig.publish(20)
    status = rig.wait_idle()
    (letter,) = rig.letters()
    assert [attempt for seq, attempt, _ in crew.seen if seq == 7] == [1, 2, 3, 4, 5]
    assert (letter.reason, letter.stage, letter.seq, letter.attempts) == ("handler_failed", "queue:q", 7, 5)
    assert (letter.trade_id, letter.account, letter.symbol) == ("T7", f"A{7 % ACCOUNTS}", "BTC")
    assert letter.error == "ValueError: no luck with T7"
    assert 'raise ValueError(f"no luck with' in letter.traceback
    assert [entry["attempt"] for entry in letter.history] == [1, 2, 3, 4, 5]
    assert msgspec.json.decode(letter.event)["trade_id"] == "T7"
    assert letter.payload == letter.event.encode()
    assert (status.done, status.dead) == (19, 1)


def test_several_queues_each_get_every_trade(base: str, tmp_path: Path) -> None:
    with Rig(base, tmp_path, [config("a"), config("b")]) as rig:
        a, b = Crew(rig), Crew(rig)
        a.add(queue="a")
        b.add(queue="b")
        rig.publish(50)
        rig.wait_idle("a")
        rig.wait_idle("b")
        a.dismiss()
        b.dismiss()
        for crew in (a, b):
            assert sorted(seq for seq, _, _ in crew.seen) == list(range(1, 51))


def test_a_queue_nobody_configured_is_made_at_the_first_hello_and_starts_at_the_beginning(rig: Rig, crew: Crew) -> None:
    rig.publish(10)
    crew.add(queue="new one")
    wait_for(lambda: crew.seen)
    rig.wait_idle("new one")
    assert sorted(seq for seq, _, _ in crew.seen) == list(range(1, 11))
    rig.restart_queue()
    assert rig.status("new one").name == "new one", "it is remembered"


def test_a_name_that_cannot_be_a_queues_is_refused_and_so_is_an_unknown_one_where_all_are_configured(
    base: str, tmp_path: Path
) -> None:
    with Rig(base, tmp_path, [config()]) as rig:
        with pytest.raises(UsageError, match="no queue's name"):
            Worker("x" * 65, print, base).run()
        rig.queue.stop()
        strict = QueueService(rig.context, base, queues=[config()], only_configured=True)
        with strict, pytest.raises(UsageError, match="there is no queue 'nope'; there are: q"):
            Worker("nope", print, base).run()


def test_without_an_engine_a_worker_says_so_in_time(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachable, match="riskwire serve"):
        Worker("q", print, f"ipc://{tmp_path}", wait_s=0.1).run()


def test_acks_survive_a_restart_of_the_queue(rig: Rig, crew: Crew) -> None:
    crew.add()
    rig.publish(500)
    rig.wait_idle()
    crew.dismiss()
    rig.restart_queue()
    rig.publish(10)
    crew.add()
    rig.wait_idle()
    assert sorted(seq for seq, _, _ in crew.seen) == list(range(1, 511))


def test_without_a_journal_a_new_life_begins_at_the_beginning(base: str, tmp_path: Path) -> None:
    with Rig(base, tmp_path, [config()], journal=False) as rig:
        crew = Crew(rig)
        crew.add()
        rig.publish(5)
        rig.wait_idle()
        rig.restart_queue()
        wait_for(lambda: len(crew.seen) == 10)
        crew.dismiss()
    assert not list(tmp_path.glob("queue-*"))


def test_workers_find_a_restarted_queue_again_and_nothing_is_lost(rig: Rig, crew: Crew) -> None:
    gate = threading.Event()
    crew.add(lambda event, context: gate.wait(60) if context.seq == 50 else None)
    rig.publish(100)
    wait_for(lambda: any(seq == 50 for seq, _, _ in crew.seen))
    rig.restart_queue()
    gate.set()
    rig.publish(100)
    rig.wait_idle()
    assert {seq for seq, _, _ in crew.seen} == set(range(1, 201))
    assert len(crew.seen) <= 200 + 100, "at most what was in hand is done again"


def test_a_worker_waits_for_a_restarted_queue_however_long_it_has_worked(rig: Rig, crew: Crew) -> None:
    wait_s = 0.5  # of the start alone
    begun = time.monotonic()
    crew.add(wait_s=wait_s)
    rig.publish(10)
    rig.wait_idle()
    wait_for(lambda: crew.errors or time.monotonic() - begun > 2 * wait_s)
    rig.restart_queue()
    rig.publish(10)
    wait_for(lambda: crew.errors or len({seq for seq, _, _ in crew.seen}) == 20)
    assert crew.errors == []


def test_a_worker_that_leaves_finishes_what_it_does_and_gives_the_rest_back(rig: Rig, crew: Crew) -> None:
    gate = threading.Event()
    first = crew.add(lambda event, context: gate.wait(60))
    rig.publish(40)
    wait_for(lambda: crew.seen)
    first.stop()
    gate.set()
    wait_for(lambda: not rig.status().workers)
    assert len(crew.seen) == 1
    crew.add()
    rig.wait_idle()
    assert sorted(seq for seq, _, _ in crew.seen) == list(range(1, 41))
    assert {attempt for _, attempt, _ in crew.seen} == {1}


def test_with_order_by_each_key_is_done_in_order_by_whoever(base: str, tmp_path: Path) -> None:
    with Rig(base, tmp_path, [config(order_by="account")]) as rig:
        crew = Crew(rig)

        def handle(event: TradeExecuted, context: JobContext) -> None:
            if context.seq % 13 == 0 and context.attempt < 3:
                raise RuntimeError("not yet")

        for _ in range(3):
            crew.add(handle)
        rig.publish(300)
        rig.wait_idle()
        crew.dismiss()
        for account in range(ACCOUNTS):
            seqs = [seq for seq, _, _ in crew.seen if seq % ACCOUNTS == account]
            assert seqs == sorted(seqs)
        assert {seq for seq, _, _ in crew.seen} == set(range(1, 301))


def test_a_dead_job_sent_again_is_done_and_its_letter_resolved(base: str, tmp_path: Path) -> None:
    with Rig(base, tmp_path, [config(order_by="account", max_attempts=2)]) as rig:
        crew = Crew(rig)
        mended = threading.Event()

        def handle(event: TradeExecuted, context: JobContext) -> None:
            if context.seq == 3 and not mended.is_set():
                raise RuntimeError("broken")

        crew.add(handle)
        rig.publish(3 + 5 * ACCOUNTS)
        wait_for(lambda: rig.status().dead == 1 and rig.status().parked == 5)
        mended.set()
        assert wait_for(lambda: rig.revive([3]).seqs) == [3]
        rig.wait_idle()
        (letter,) = wait_for(lambda: [row for row in rig.letters() if row.status == "resolved"])
        assert letter.seq == 3
        assert rig.revive([3]).seqs == [], "again changes nothing"
        crew.dismiss()
        assert [seq for seq, _, _ in crew.seen if seq % ACCOUNTS == 3] == [3, 3, 3, 10, 17, 24, 31, 38]


def test_a_job_that_is_due_while_nobody_is_free_costs_no_time(base: str, tmp_path: Path) -> None:
    with Rig(base, tmp_path, [config(in_hands_max=1, lease_ns=60 * 10**9)]) as rig:
        crew = Crew(rig)
        gate = threading.Event()

        def handle(event: TradeExecuted, context: JobContext) -> None:
            if context.seq == 1 and context.attempt == 1:
                raise RuntimeError("again")
            gate.wait(60)

        crew.add(handle)
        rig.publish(2)
        wait_for(lambda: len(crew.seen) == 2)
        before = time.process_time()
        time.sleep(0.5)  # what is measured is time in which nothing happens
        assert time.process_time() - before < 0.2
        gate.set()
        rig.wait_idle()
        crew.dismiss()


def test_junk_and_strangers_are_answered_and_end_nothing(rig: Rig, crew: Crew) -> None:
    socket = rig.context.socket(zmq.DEALER)
    socket.connect(endpoint(rig.base, "queue"))
    socket.send(b"\xc1junk")
    assert isinstance(decode_from_queue(socket.recv()), Refused)
    socket.send(encode(Ping()))
    assert isinstance(decode_from_queue(socket.recv()), Unknown)
    socket.send_multipart([b"two", b"parts"])
    socket.close(0)
    rig.publish(5)
    crew.add()
    rig.wait_idle()
    assert rig.queue.is_alive


def test_the_sockets_of_workers_that_left_are_gone(rig: Rig, crew: Crew, tmp_path: Path) -> None:
    for _ in range(3):
        crew.add()
    wait_for(lambda: len(rig.status().workers) == 3)
    assert len(list(tmp_path.glob("worker-*"))) == 3
    crew.dismiss()
    wait_for(lambda: not list(tmp_path.glob("worker-*")))


def hello(rig: Rig) -> Welcome:
    socket = rig.context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint(rig.base, "queue"))
    socket.send(encode(Hello("q")))
    answer = decode_from_queue(socket.recv())
    socket.close()
    assert isinstance(answer, Welcome)
    return answer


def test_no_worker_gets_an_address_that_another_had_whose_socket_would_connect_to_it_again(rig: Rig) -> None:
    found = []
    for _ in range(4):
        found.append(hello(rig))
        wait_for(lambda: not rig.status().workers)
        rig.restart_queue()
    assert len({welcome.endpoint for welcome in found}) == len({welcome.token for welcome in found}) == 4


def test_a_worker_leaves_a_batch_alone_that_is_for_another(base: str, tmp_path: Path) -> None:
    """As after a crash of the engine, when a port or a path is given out again."""
    context: zmq.Context[Any] = zmq.Context()
    router, push = context.socket(zmq.ROUTER), context.socket(zmq.PUSH)
    router.linger = push.linger = 0
    router.bind(endpoint(base, "queue"))
    push.bind(endpoint(base, "worker-x"))
    seen: list[int] = []
    worker = Worker("q", lambda event, job: seen.append(job.seq), base, processed=tmp_path / "p.db")
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    identity, _ = router.recv_multipart()
    router.send_multipart((identity, encode(Welcome(endpoint(base, "worker-x"), 77, 1, 10**10, 5, 100, 10**9))))
    frame = trades(1, 3)
    for batch_no, token in ((1, 78), (2, 77)):
        seqs = np.arange(1, 4, dtype=np.uint64) + np.uint64(10 * batch_no)
        head = encode_jobs_head(token, batch_no, 0, seqs, np.ones(3, np.uint32), np.zeros(3, np.uint8))
        push.send_multipart((head, frame))
    message: Any = None
    while not isinstance(message, Ack):
        message = decode_from_worker(router.recv_multipart()[1])
    assert (message.batch, seen) == (2, [21, 22, 23])
    worker.stop()
    while not isinstance(message, Goodbye):
        message = decode_from_worker(router.recv_multipart()[1])
        if isinstance(message, Drain):
            push.send(encode(Drain()))
    router.send_multipart((identity, encode(Goodbye())))
    thread.join(60)
    assert not thread.is_alive()
    context.destroy(linger=0)


@pytest.mark.parametrize("scheme", ["inproc", "tcp"])
def test_it_works_over_every_transport(scheme: str, tmp_path: Path) -> None:
    base = "inproc://riskwire-test" if scheme == "inproc" else f"tcp://127.0.0.1:{free_ports()}"
    with Rig(base, tmp_path, [config()]) as rig:
        crew = Crew(rig)
        crew.add()
        rig.publish(100)
        rig.wait_idle()
        crew.dismiss()
        assert len(crew.seen) == 100


def free_ports() -> int:
    """Return a port with six more free after it, as far as can be known."""
    context = zmq.Context()
    try:
        for _ in range(100):
            sockets = [context.socket(zmq.PUSH) for _ in range(7)]
            try:
                port = sockets[0].bind_to_random_port("tcp://127.0.0.1")
                for i in range(1, 7):
                    sockets[i].bind(f"tcp://127.0.0.1:{port + i}")
                return port
            except zmq.ZMQError:
                continue
            finally:
                for socket in sockets:
                    socket.close(0)
    finally:
        context.term()
    raise AssertionError("no seven free ports in a row")
