"""The dead-letter store and the sink: one letter per cause, durable before it is confirmed, clear errors."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import zmq

from engine import deadletters
from engine.deadletters import DeadLetterFileError, DeadLetterStore, LetterFilter
from engine.events import DeadLetter
from engine.sink import HEAD, Sink, SinkClient, decode_batch, encode_batch


def letter(payload: bytes = b"T1,BTC,-1", **fields: object) -> DeadLetter:
    values = {"reason": "invalid", "stage": "door", "error": "volume -1: expected above 0", "at": 1_000}
    return DeadLetter(**{**values, "payload": payload, **fields})


def queue_letter(seq: int, **fields: object) -> DeadLetter:
    event = json.dumps({"type": "TradeExecuted", "trade_id": f"T{seq}", "account": "A", "symbol": "BTC"})
    values = {"reason": "handler_failed", "stage": "queue:q", "seq": seq, "event": event}
    return letter(event.encode(), **{**values, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dead-letters.db"


@pytest.fixture
def store(path: Path) -> Iterator[DeadLetterStore]:
    with DeadLetterStore(path) as opened:
        yield opened


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    opened = zmq.Context()
    yield opened
    opened.destroy(linger=0)


# --- the store


def test_a_letter_comes_back_as_it_was_put_in(store: DeadLetterStore) -> None:
    given = letter(
        b"\xff\x00raw",
        event='{"type":"TradeExecuted","trade_id":"T1"}',
        source="trades.csv",
        position=7,
        unit="line",
        seq=12,
        source_seq=3,
        account="A",
        symbol="BTC",
        trade_id="T1",
        attempts=5,
        history=[{"attempt": 1, "error": "boom"}],
        traceback="Traceback …",
    )
    store.record([given])
    (got,) = store.list()
    for field in DeadLetter.__struct_fields__:
        if field != "at":
            assert getattr(got, field) == getattr(given, field), field
    assert (got.count, got.first_at, got.last_at, got.status, got.first_failure) == (1, 1_000, 1_000, "dead", None)


def test_the_same_bytes_for_the_same_reason_are_one_letter_with_a_count(store: DeadLetterStore) -> None:
    store.record([letter(at=5), letter(at=9), letter(at=7)])
    store.record([letter(reason="precision"), letter(stage="feed"), letter(b"other")])
    assert [(row.reason, row.stage, row.payload, row.count) for row in store.list()] == [
        ("invalid", "door", b"T1,BTC,-1", 3),
        ("precision", "door", b"T1,BTC,-1", 1),
        ("invalid", "feed", b"T1,BTC,-1", 1),
        ("invalid", "door", b"other", 1),
    ]
    first = store.list()[0]
    assert (first.first_at, first.last_at) == (5, 9)
    assert store.counts_by_reason() == {"invalid": 5, "precision": 1}


def test_letters_whose_hashes_collide_stay_two_letters(store: DeadLetterStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletters, "letter_key", lambda *_: b"same")
    store.record([letter(b"one"), letter(b"two"), letter(b"one")])
    assert [(row.payload, row.count) for row in store.list()] == [(b"one", 2), (b"two", 1)]


def test_a_letter_made_again_from_the_sequence_does_not_count_again(store: DeadLetterStore) -> None:
    refused = letter(stage="sequence", reason="unknown_trade", seq=41)
    store.record([refused])
    store.record([refused])
    store.record([letter(stage="sequence", reason="unknown_trade", seq=90)])
    assert [(row.seq, row.count) for row in store.list()] == [(41, 2)]


def test_a_job_that_was_sent_again_and_failed_again_counts_again(store: DeadLetterStore) -> None:
    store.record([queue_letter(5)])
    store.record([queue_letter(5)])
    assert store.list()[0].count == 1
    store.mark([1], "requeued")
    store.record([queue_letter(5, error="again")])
    (row,) = store.list()
    assert (row.count, row.status, row.error) == (2, "dead", "again")


def test_what_is_refused_of_a_requeued_event_is_linked_to_the_first_failure(store: DeadLetterStore) -> None:
    store.record([msgspec.structs.replace(queue_letter(5), stage="door", seq=0)])
    store.note_requeue(1, store.list()[0].event)
    edited = msgspec.structs.replace(queue_letter(5), stage="door", payload=b"edited", seq=0, reason="precision")
    store.record([edited])
    assert [(row.status, row.first_failure) for row in store.list()] == [("requeued", None), ("dead", 1)]


def test_a_queues_job_that_fails_otherwise_after_it_was_sent_again_is_linked_within_that_queue(
    store: DeadLetterStore,
) -> None:
    event = '{"type":"TradeExecuted","trade_id":"T1","symbol":"BTC","account":"A"}'

    def given_up(reason: str, stage: str) -> DeadLetter:
        return DeadLetter(reason, stage, "no", payload=event.encode(), event=event, seq=7)

    store.record([given_up("handler_failed", "queue:q")])
    store.note_requeue(1, event)
    store.record([given_up("lease_exhausted", "queue:q"), given_up("handler_failed", "queue:other")])
    assert [letter.first_failure for letter in store.iterate()] == [None, 1, None]


def test_a_skipped_job_is_a_letter_of_its_own_that_names_the_first(store: DeadLetterStore) -> None:
    store.record([DeadLetter("handler_failed", "queue:q", "no", payload=b"x", seq=7, attempts=5)])
    store.record([DeadLetter("handler_failed", "queue:p", "no", payload=b"x", seq=7, attempts=5)])
    store.record([DeadLetter("skipped", "queue:q", "left", payload=b"x", seq=7, attempts=0)])
    rows = [(letter.reason, letter.status, letter.first_failure) for letter in store.iterate()]
    assert rows == [("handler_failed", "skipped", None), ("handler_failed", "dead", None), ("skipped", "skipped", 1)]


def test_filters_take_what_they_name_and_combine(store: DeadLetterStore) -> None:
    store.record(
        [
            letter(b"1", account="MM1", symbol="BTCUSD", at=10),
            letter(b"2", account="MM2", symbol="ETHUSD", at=20),
            letter(b"3", account="mm3", symbol="BTCUSD", at=30, reason="overflow"),
            letter(b"4", stage="queue:a", account="X", at=40),
            letter(b"5", stage="queue:b", account="X", at=50),
        ]
    )

    def taken(**fields: object) -> list[bytes]:
        return [row.payload for row in store.list(LetterFilter(**fields))]

    assert taken(account="MM*") == [b"1", b"2"]
    assert taken(symbol="BTC*") == [b"1", b"3"]
    assert taken(account="MM*", symbol="BTC*") == [b"1"]
    assert taken(reason="overflow") == [b"3"]
    assert taken(stage="queue") == [b"4", b"5"]
    assert taken(stage="queue:a") == [b"4"]
    assert taken(since=30) == [b"3", b"4", b"5"]
    assert taken(reason="nothing") == []


def test_pages_give_every_letter_once(store: DeadLetterStore) -> None:
    store.record([letter(b"%d" % i) for i in range(25)])
    seen, after = [], 0
    while page := store.list(after=after, limit=10):
        seen += [row.payload for row in page]
        after = page[-1].id
    assert seen == [b"%d" % i for i in range(25)]
    assert [row.payload for row in store.iterate()] == seen


def test_an_export_keeps_the_bytes_exactly(store: DeadLetterStore) -> None:
    store.record([letter(b"\xff\xfe")])
    lines: list[bytes] = []
    assert deadletters.export_letters(store, LetterFilter(), lines.append) == 1
    row = json.loads(lines[0])
    assert row["payload_base64"] == "//4="
    assert row["reason"] == "invalid"


def test_a_purge_deletes_what_the_filter_takes_and_a_dry_run_nothing(store: DeadLetterStore) -> None:
    store.record([letter(b"1"), letter(b"2", reason="overflow")])
    assert store.purge(LetterFilter(reason="overflow"), dry_run=True) == (1, 0)
    assert store.count() == 2
    assert store.purge(LetterFilter(reason="overflow")) == (1, 0)
    assert [row.payload for row in store.list()] == [b"1"]


def test_a_purge_keeps_what_others_may_wait_behind_which_without_an_engine_is_every_unsettled_job(
    store: DeadLetterStore,
) -> None:
    more = {"reason": "handler_failed"}
    store.record([letter(b"%d" % seq, seq=seq, stage="queue:q", **more) for seq in range(1, 6)])
    store.record([letter(b"6", seq=1, stage="queue:free", **more), letter(b"7"), letter(b"8", seq=9, stage="sequence")])
    store.mark([4], "resolved")
    store.mark([5], "requeued")
    asked: list[tuple[str, list[int]]] = []

    def holds(stage: str, seqs: Sequence[int]) -> list[int]:
        asked.append((stage, sorted(seqs)))
        return [2, 5, 77] if stage == "queue:q" else []

    everything = LetterFilter()
    assert store.purge(everything, dry_run=True) == (3, 5)
    assert store.purge(everything, dry_run=True, holds=holds) == (6, 2)
    assert sorted(asked) == [("queue:free", [1]), ("queue:q", [1, 2, 3, 5])]
    assert store.purge(LetterFilter(stage="queue:q"), holds=holds) == (3, 2)
    assert store.purge(everything) == (2, 3)
    assert [(row.stage, row.seq) for row in store.list()] == [("queue:q", 2), ("queue:q", 5), ("queue:free", 1)]
    assert store.purge(everything, holds=deadletters.hold_nothing) == (3, 0)


def test_numbers_beyond_sqlite_and_lone_surrogates_are_stored_not_raised(store: DeadLetterStore) -> None:
    store.record([letter(seq=2**64 - 1, position=2**64 - 1, source="tr\udcffades.csv")])
    (row,) = store.list()
    assert row.position == 2**63 - 1
    assert row.source == "tr\\udcffades.csv"


def test_a_file_that_is_no_dead_letter_file_is_refused_in_one_line(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database\n" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    for path in (text, other):
        for read_only in (False, True):
            with pytest.raises(DeadLetterFileError, match="not a dead-letter file") as caught:
                DeadLetterStore(path, read_only=read_only)
            assert caught.value.exit_code == 2
            assert "\n" not in str(caught.value)
    with pytest.raises(DeadLetterFileError, match="is a directory"):
        DeadLetterStore(tmp_path)
    with pytest.raises(DeadLetterFileError, match="folder does not exist"):
        DeadLetterStore(tmp_path / "no" / "x.db")
    with pytest.raises(DeadLetterFileError, match="no such file"):
        DeadLetterStore(tmp_path / "x.db", read_only=True)
    assert not (tmp_path / "x.db").exists()


def test_a_newer_schema_is_refused_by_its_number(path: Path) -> None:
    DeadLetterStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(DeadLetterFileError, match="schema version 9"):
        DeadLetterStore(path)


def test_a_folder_without_rights_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root may write anywhere but in a file system made by the kernel
        folder = Path("/proc")
    with pytest.raises(DeadLetterFileError, match="rights"):
        DeadLetterStore(folder / "x.db")


def test_a_new_file_is_settled_by_the_first_letter_whoever_made_it(path: Path, tmp_path: Path) -> None:
    """A file alone, without its write-ahead log, stands for what is on the disk: SQLite syncs what it writes there."""

    def alone() -> tuple[int, int]:
        shutil.copy(path, tmp_path / "alone.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "alone.db")) as db:
            tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            return tables, db.execute("PRAGMA user_version").fetchone()[0]

    with DeadLetterStore(path) as store:
        assert synchronous(store) == 0
        store.forget_senders(1)
        store.list()
        assert (synchronous(store), alone()) == (0, (0, 0))
    tables, version = alone()
    assert (tables > 0, version) == (True, 0)
    with DeadLetterStore(path) as store, DeadLetterStore(path) as other:
        assert (synchronous(store), synchronous(other)) == (0, 0)
        store.record([letter()])
        assert (synchronous(store), alone()[0]) == (2, tables)
        other.mark([1], "resolved")
        assert synchronous(other) == 2
    assert alone() == (tables, deadletters.SCHEMA_VERSION)
    with DeadLetterStore(path) as store:
        assert (synchronous(store), store.count()) == (2, 1)


def synchronous(store: DeadLetterStore) -> int:
    return int(store._db.execute("PRAGMA synchronous").fetchone()[0])


def test_a_full_disk_is_told_and_nothing_half_is_stored(store: DeadLetterStore) -> None:
    store.record([letter(b"first")])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DeadLetterFileError, match="free some space"):
        store.record([letter(b"small"), letter(bytes(1 << 20))])
    store._db.execute("PRAGMA max_page_count = 1000000")
    assert [row.payload for row in store.list()] == [b"first"]
    store.record([letter(b"second")])
    assert store.count() == 2


def test_a_store_can_be_read_while_another_writes_it(path: Path, store: DeadLetterStore) -> None:
    store.record([letter()])
    page = deadletters.list_letters(path, LetterFilter())
    assert (page["total"], page["counts"]) == (1, {"invalid": 1})
    assert deadletters.show_letter(path, 1)["payload"] == "T1,BTC,-1"
    assert deadletters.show_letter(path, 2) is None
    assert deadletters.purge_letters(path, LetterFilter())["purged"] == 1


# --- the service


def test_confirmed_means_that_another_process_could_read_it(context: zmq.Context, path: Path) -> None:
    with Sink(context, "inproc://sink", path):
        client = SinkClient(context, "inproc://sink")
        assert [client.send([letter(b"1")]), client.send([letter(b"2"), letter(b"3")])] == [1, 2]
        assert client.flush(60)
        assert client.confirmed == 2
        with DeadLetterStore(path, read_only=True) as reader:
            assert [row.payload for row in reader.list()] == [b"1", b"2", b"3"]
        client.close()


def test_the_wire_is_one_part_with_a_batch_number(context: zmq.Context, path: Path) -> None:
    assert decode_batch(encode_batch(7, [letter()])) == (7, [letter()])
    with Sink(context, "inproc://sink", path):
        socket = context.socket(zmq.DEALER)
        socket.connect("inproc://sink")
        socket.send(encode_batch(1, [letter()]))
        assert socket.poll(60_000)
        assert HEAD.unpack(socket.recv()) == (b"RWD1", 1)
        socket.close(0)


def test_a_batch_sent_twice_is_stored_once_also_after_a_restart(context: zmq.Context, path: Path) -> None:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, b"me")
    endpoint = f"ipc://{path.parent}/sink"
    socket.connect(endpoint)
    for _ in range(2):
        with Sink(context, endpoint, path):
            for _ in range(2):
                socket.send(encode_batch(1, [letter()]))
                assert socket.poll(60_000)
                assert HEAD.unpack(socket.recv()) == (b"RWD1", 1)
    socket.close(0)
    with DeadLetterStore(path, read_only=True) as reader:
        assert [row.count for row in reader.list()] == [1]


def test_a_batch_after_a_lost_one_is_not_confirmed(context: zmq.Context, path: Path) -> None:
    with Sink(context, "inproc://sink", path):
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, b"me")
        socket.connect("inproc://sink")
        socket.send(encode_batch(2, [letter()]))
        assert socket.poll(60_000)
        assert HEAD.unpack(socket.recv()) == (b"RWD1", 0)
        socket.close(0)
    with DeadLetterStore(path, read_only=True) as reader:
        assert reader.count() == 0


def test_letters_sent_before_the_sink_is_there_arrive(context: zmq.Context, path: Path) -> None:
    endpoint = f"ipc://{path.parent}/sink"
    client = SinkClient(context, endpoint, resend_after_s=0.05)
    client.send([letter(b"early")])
    assert not client.flush(0.12)
    with Sink(context, endpoint, path):
        assert client.flush(60)
    client.send([letter(b"while it is away")])
    with Sink(context, endpoint, path):
        assert client.flush(60)
    client.close()
    with DeadLetterStore(path, read_only=True) as reader:
        assert [(row.payload, row.count) for row in reader.list()] == [(b"early", 1), (b"while it is away", 1)]


def test_a_client_goes_on_when_the_file_was_replaced(context: zmq.Context, path: Path) -> None:
    endpoint = f"ipc://{path.parent}/sink"
    client = SinkClient(context, endpoint, resend_after_s=0.05)
    with Sink(context, endpoint, path):
        client.send([letter(b"1")])
        assert client.flush(60)
    path.unlink()
    with Sink(context, endpoint, path):
        assert client.send([letter(b"2")]) == 2
        assert client.flush(60)
        assert client.confirmed == 2
    client.close()
    with DeadLetterStore(path, read_only=True) as reader:
        assert [row.payload for row in reader.list()] == [b"2"]


def test_junk_ends_nothing_and_an_unreadable_batch_is_kept_as_a_letter(context: zmq.Context, path: Path) -> None:
    with Sink(context, "inproc://sink", path) as sink:
        socket = context.socket(zmq.DEALER)
        socket.connect("inproc://sink")
        socket.send(b"junk")
        socket.send_multipart([b"RWD1", b"two parts"])
        socket.send(HEAD.pack(b"RWD1", 1) + b"\xc1")
        assert socket.poll(60_000)
        assert HEAD.unpack(socket.recv()) == (b"RWD1", 1)
        assert (sink.malformed, sink.stored, sink.is_alive) == (2, 1, True)
        socket.close(0)
    with DeadLetterStore(path, read_only=True) as reader:
        assert [(row.reason, row.stage) for row in reader.list()] == [("undecodable", "sink")]


def test_what_cannot_be_written_is_not_confirmed_until_it_can(context: zmq.Context, path: Path) -> None:
    with Sink(context, "inproc://sink", path) as sink:
        client = SinkClient(context, "inproc://sink", resend_after_s=0.05, letters_max=1)
        locker = sqlite3.connect(path, isolation_level=None)
        sink._store._db.execute("PRAGMA busy_timeout = 1")
        locker.execute("BEGIN IMMEDIATE")
        client.send([letter()])
        assert client.full
        while "locked" not in sink.error:  # it may take a while until it is tried
            assert not client.flush(0.1)
        locker.execute("ROLLBACK")
        locker.close()
        assert client.flush(60)
        assert not client.full
        assert sink.error == ""
        client.close()
    with DeadLetterStore(path, read_only=True) as reader:
        assert [row.count for row in reader.list()] == [1]


def test_a_job_done_after_all_marks_its_letter_resolved(context: zmq.Context, path: Path) -> None:
    with Sink(context, "inproc://sink", path):
        client = SinkClient(context, "inproc://sink")
        client.send([queue_letter(5), queue_letter(6)])
        client.send_resolved("queue:q", [5])
        client.send_resolved("queue:other", [6])
        assert client.flush(60)
        client.close()
    with DeadLetterStore(path, read_only=True) as reader:
        assert [(row.seq, row.status) for row in reader.list()] == [(5, "resolved"), (6, "dead")]


def test_an_endpoint_in_use_is_raised_to_who_starts_it(context: zmq.Context, path: Path) -> None:
    with Sink(context, "inproc://sink", path), pytest.raises(zmq.ZMQError):
        Sink(context, "inproc://sink", path.with_name("other.db")).start()


def test_nothing_piles_up_for_a_sink_that_is_away(context: zmq.Context, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/sink"
    client = SinkClient(context, endpoint, resend_after_s=0.005)
    for i in range(3):
        client.send([letter(b"%d" % i)])
    assert not client.flush(0.2)
    router = context.socket(zmq.ROUTER)
    router.bind(endpoint)
    while not router.poll(50):  # it may take a while until they are connected
        assert not client.flush(0.2)
    numbers = []
    while router.poll(50):
        numbers.append(HEAD.unpack_from(router.recv_multipart()[1])[1])
    assert numbers[:3] == [1, 2, 3]
    assert len(numbers) < 60, "resent a few times at most, at doubled pauses"
    client.close()
    router.close(0)
