"""The queue's decisions, with a clock of the test's own and no sockets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.acklog import AckedSet, AckLog
from engine.codec import EventDecoder
from engine.config import QueueConfig
from engine.errors import JournalError
from engine.jobframes import JobDecoder, NameFilter, Source, cut_jobs
from engine.jobqueue import JobQueue
from engine.jobs import Batch, Hands
from engine.jobwire import ANNOUNCE, decode_jobs_head, encode_jobs_head
from ext.joinframes import join_frames
from ext.records import KIND_SEQUENCED, Frame, FrameBuilder

SECOND = 1_000_000_000
LEASE = 5 * SECOND


def frame(first_seq: int, count: int, keys: int = 3, marks: tuple[int, ...] = (), refs: bool = False) -> Frame:
    """Return trades T<seq> of accounts A0, A1, … round robin; the seqs in `marks` are mark prices instead."""
    builder = FrameBuilder(KIND_SEQUENCED)
    if first_seq == 1:
        builder.define_name(0, 1, b"BTC")
        for key in range(keys):
            builder.define_name(1, 1 + key, b"A%d" % key)
    for seq in range(first_seq, first_seq + count):
        mark = seq in marks
        builder.add_record(
            type=2 if mark else 1,
            side=0 if mark else 1,
            exec_type=1 if refs and seq % 2 else 0,
            symbol=1,
            account=0 if mark else 1 + seq % keys,
            id=b"T%d" % seq,
            ref=b"R%d" % seq if refs and seq % 2 else b"",
            price=seq * 10**9,
            price_exponent=-9,
            volume=0 if mark else 10**8,
            volume_exponent=-8,
            executed_at=seq,
        )
    return Frame(bytes(builder.finish(first_seq, 1, 77)))


class Bench:
    """A queue fed with frames, and the frames to fetch from again."""

    def __init__(self, log: AckLog | None = None, **config: object) -> None:
        self.frames: list[Frame] = []
        self.fetches = 0
        self.log = log or AckLog(None)
        settings = {"lease_ns": LEASE, "backoff_min_ns": SECOND, "backoff_max_ns": 4 * SECOND, **config}
        self.queue = JobQueue(QueueConfig(name="q", **settings), self.log, self.fetch, seed=1)

    def fetch(self, seq: int) -> Frame | None:
        self.fetches += 1
        return next((f for f in self.frames if f.first_seq <= seq < f.first_seq + len(f)), None)

    def feed(self, *args: object, **kwargs: object) -> None:
        made = frame(*args, **kwargs)
        self.frames.append(made)
        self.queue.feed(made)

    def take(self, hands: Hands, now: int = 0, share: int = 256) -> list[int]:
        """Return the seqs of the next batch, [] where there is none."""
        self.queue.available(now)
        self.batch = self.queue.take(hands, now, share)
        if self.batch is None:
            return []
        self.attempts, self.flags = self.queue.attempts_and_flags(self.batch)
        return [int(seq) for seq in self.batch.seqs]

    def bury_all(self) -> list[int]:
        letters, self.queue.letters = self.queue.letters, []
        for _, job in letters:
            self.queue.bury(job)
        return [letter.seq for letter, _ in letters]


def test_jobs_are_handed_out_in_order_and_each_once() -> None:
    bench = Bench(in_hands_max=8)
    bench.feed(1, 10)
    a, b = Hands(), Hands()
    assert [bench.take(a), bench.take(b), bench.take(a)] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]
    assert bench.take(b) == []


def test_a_worker_gets_no_more_than_its_credit_until_it_acks() -> None:
    bench = Bench(in_hands_max=4)
    bench.feed(1, 10)
    hands = Hands()
    assert bench.take(hands) == [1, 2]
    first = bench.batch
    assert bench.take(hands) == [3, 4]
    assert bench.take(hands) == []
    bench.queue.ack(hands, first.no, [0], 1)
    assert bench.take(hands) == [], "no crumbs"
    bench.queue.ack(hands, first.no, [1], 1)
    assert bench.take(hands) == [5, 6]
    assert hands.in_hands == 4


def test_what_is_there_is_handed_out_at_once_however_little_it_is() -> None:
    bench = Bench(in_hands_max=8)
    bench.feed(1, 3)
    hands = Hands()
    assert bench.take(hands, share=3) == [1, 2, 3]
    bench.feed(4, 2)
    assert bench.take(hands, share=2) == [4, 5]
    bench.feed(6, 9)
    assert bench.take(hands, share=9) == [], "room for 3 of 9, and 4 is what it takes at a time"


def test_a_batch_is_filled_from_as_many_frames_as_it_takes_and_acked_as_one() -> None:
    bench = Bench(in_hands_max=20)
    for first_seq in range(1, 19, 3):
        bench.feed(first_seq, 3, marks=(2, 7))
    hands = Hands("w", batch=10)
    assert bench.take(hands) == [1, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    frame = sent(bench.batch, NameFilter(), bench.queue.decoder)
    assert [event.trade_id for event in JobDecoder().decode(frame)] == [f"T{seq}" for seq in bench.batch.seqs]
    bench.queue.ack(hands, bench.batch.no, None, 1)
    assert bench.log.acked.ranges() == [(1, 12)]
    assert bench.take(hands) == [13, 14, 15, 16, 17, 18]
    bench.queue.nack(hands, bench.batch.no, 4, "error", "x", "", 1)
    bench.queue.lose(hands, 1)
    assert bench.take(Hands("v", batch=10), 9 * SECOND) == [14, 15, 16, 18, 13, 17]


def test_a_quick_worker_gets_more_at_a_time_and_a_slow_one_less() -> None:
    bench = Bench(in_hands_max=100)
    bench.feed(1, 2000)
    quick, slow = Hands(), Hands()
    sizes = []
    for now in range(8):
        sizes.append(len(bench.take(quick, now)))
        bench.queue.ack(quick, bench.batch.no, None, now)
    assert sizes == [8, 16, 32, 50, 50, 50, 50, 50]
    sizes = []
    for now in range(5):
        sizes.append(len(bench.take(slow, now * SECOND)))
        bench.queue.ack(slow, bench.batch.no, None, (now + 1) * SECOND)
    assert sizes == [8, 4, 2, 1, 1]


def test_who_takes_many_at_a_time_is_given_as_many_however_slow_it_is() -> None:
    bench = Bench(in_hands_max=4096)
    bench.feed(1, 4000)
    hands = Hands("w", batch=100)
    assert len(bench.take(hands)) == 100
    for _ in range(5):
        bench.queue.ack(hands, bench.batch.no, None, bench.batch.sent_ns + 10 * SECOND)
        assert len(bench.take(hands, bench.batch.sent_ns + 10 * SECOND)) == 100
    assert hands.quota == 200


def test_what_is_not_a_job_is_not_handed_out_but_counts_as_done() -> None:
    bench = Bench()
    bench.feed(1, 6, marks=(1, 4, 6))
    hands = Hands()
    assert bench.take(hands) == [2, 3, 5]
    assert bench.log.acked.through == 1
    bench.queue.ack(hands, bench.batch.no, None, 1)
    assert bench.log.acked.through == 6


@pytest.mark.parametrize(
    ("settings", "jobs"),
    [
        ({"match": {"account": "A[12]"}}, [1, 4, 7, 8, 10]),
        ({"match": {"account": "A1", "symbol": "B*"}}, [1, 4, 7, 10]),
        ({"match": {"symbol": "X"}}, []),
        ({"events": ("MarkPrice",)}, [2, 5]),
        ({"events": ("MarkPrice", "TradeExecuted"), "match": {"symbol": "BTC"}}, list(range(1, 11))),
        ({"events": ("MarkPrice", "TradeExecuted"), "match": {"account": "*"}}, list(range(1, 11))),
        ({"events": ("MarkPrice", "TradeExecuted"), "match": {"account": "A0"}}, [3, 6, 9]),
    ],
)
def test_a_queue_takes_the_events_its_filter_names(settings: dict[str, object], jobs: list[int]) -> None:
    bench = Bench(**settings)
    bench.feed(1, 10, marks=(2, 5))
    hands = Hands()
    assert bench.take(hands) + bench.take(hands) == jobs


def test_a_name_that_comes_later_is_matched_when_it_comes() -> None:
    bench = Bench(match={"account": "A*"})
    bench.feed(1, 3)
    builder = FrameBuilder(KIND_SEQUENCED)
    for name_id, name in ((200, b"A200"), (201, b"B201")):
        builder.define_name(1, name_id, name)
        builder.add_record(type=1, side=1, symbol=1, account=name_id, id=b"x", price=1, volume=1)
    bench.queue.feed(Frame(bytes(builder.finish(4, 1))))
    hands = Hands()
    assert bench.take(hands) + bench.take(hands) == [1, 2, 3, 4]


def test_a_failed_job_comes_again_after_its_backoff_and_dies_after_max_attempts() -> None:
    bench = Bench(max_attempts=3)
    bench.feed(1, 1)
    hands, now = Hands("w1"), 0
    waits = []
    for attempt in (1, 2, 3):
        assert bench.take(hands, now) == [1]
        assert list(bench.attempts) == [attempt]
        bench.queue.nack(hands, bench.batch.no, 0, "error", f"boom {attempt}", "Traceback", now)
        if attempt < 3:
            due = bench.queue.next_due()
            waits.append(due - now)
            assert bench.take(hands, due - 1) == []
            now = due
    assert SECOND / 2 <= waits[0] <= SECOND
    assert SECOND <= waits[1] <= 2 * SECOND
    ((letter, _),) = bench.queue.letters
    assert (letter.reason, letter.stage, letter.attempts, letter.seq) == ("handler_failed", "queue:q", 3, 1)
    assert (letter.trade_id, letter.account, letter.symbol, letter.traceback) == ("T1", "A1", "BTC", "Traceback")
    assert [entry["error"] for entry in letter.history] == ["boom 1", "boom 2", "boom 3"]
    assert bench.log.acked.through == 0, "not before the letter is safe"
    assert bench.bury_all() == [1]
    assert bench.log.acked.through == 1
    assert bench.log.dead == {1}


def test_a_lease_that_ends_brings_the_jobs_to_another_worker() -> None:
    bench = Bench(in_hands_max=8, max_attempts=5)
    bench.feed(1, 4)
    stopped, other = Hands("stopped"), Hands("other")
    assert bench.take(stopped) == [1, 2, 3, 4]
    assert bench.queue.expire(stopped, LEASE - 1) == 0
    assert bench.queue.expire(stopped, LEASE) == 4
    assert bench.take(other, LEASE + 2 * SECOND) == [2, 3, 4, 1], "the first may have been begun: it failed once"
    assert list(bench.attempts) == [2, 2, 2, 2], "a handler may have seen any of them"
    assert set(bench.flags) == {ANNOUNCE}
    assert stopped.in_hands == 4, "they still lie in its socket"
    bench.queue.ack(other, bench.batch.no, None, LEASE + 3 * SECOND)
    assert bench.log.acked.through == 4


def test_an_ack_renews_the_lease_of_what_is_left_and_of_what_is_not_begun() -> None:
    bench = Bench(in_hands_max=4)
    bench.feed(1, 4)
    hands = Hands()
    bench.take(hands)
    first = bench.batch
    bench.take(hands)
    bench.queue.ack(hands, first.no, [0], LEASE - 1)
    assert bench.queue.expire(hands, LEASE) == 0
    assert bench.queue.expire(hands, 2 * LEASE) == 3


def test_only_a_job_known_to_have_begun_is_worn_out_by_workers_that_die() -> None:
    bench = Bench(max_attempts=3, in_hands_max=8)
    bench.feed(1, 3)
    now = 0
    for life in range(20):  # the worker dies in job 2 each time; what it was not doing must survive
        hands = Hands(f"life {life}")
        while seqs := bench.take(hands, now):
            if 2 in seqs and list(bench.flags)[seqs.index(2)]:
                bench.queue.start(hands, bench.batch.no, seqs.index(2), now)
        bench.queue.lose(hands, now)
        now += 10 * SECOND
        if bench.bury_all():
            break
    assert bench.log.dead == {2}
    assert bench.take(Hands(), now) == [1, 3]


def test_a_late_ack_of_a_job_that_nobody_has_yet_is_taken() -> None:
    bench = Bench()
    bench.feed(1, 1)
    late = Hands()
    bench.take(late)
    batch = bench.batch
    bench.queue.expire(late, LEASE)
    bench.queue.ack(late, batch.no, None, LEASE + 1)
    assert bench.log.acked.through == 1
    assert bench.take(Hands(), 10 * LEASE) == []
    assert late.in_hands == 0


def test_a_late_ack_of_a_job_that_another_has_changes_nothing() -> None:
    bench = Bench()
    bench.feed(1, 1)
    late, other = Hands(), Hands()
    bench.take(late)
    batch = bench.batch
    bench.queue.expire(late, LEASE)
    assert bench.take(other, 2 * LEASE) == [1]
    bench.queue.ack(late, batch.no, None, 2 * LEASE)
    bench.queue.nack(late, batch.no, 0, "error", "late", "", 2 * LEASE)
    assert bench.log.acked.through == 0
    bench.queue.ack(other, bench.batch.no, None, 2 * LEASE)
    assert (bench.log.acked.through, bench.queue.done) == (1, 1)


def test_jobs_given_back_go_to_others_at_once_and_count_no_attempt() -> None:
    bench = Bench()
    bench.feed(1, 3)
    leaving, other = Hands(), Hands()
    bench.take(leaving)
    bench.queue.ack(leaving, bench.batch.no, [0], 1)
    bench.queue.release(leaving, bench.batch.no, [1, 2], 1)
    assert leaving.in_hands == 0
    assert bench.take(other, 1) == [2, 3]
    assert list(bench.attempts) == [1, 1]


def test_acks_of_unknown_batches_and_places_are_ignored() -> None:
    bench = Bench()
    bench.feed(1, 2)
    hands = Hands()
    bench.take(hands)
    bench.queue.ack(hands, 12345, None, 1)
    bench.queue.ack(hands, bench.batch.no, [-1, 2, 99], 1)
    bench.queue.ack(hands, bench.batch.no, [0, 0], 1)
    assert (hands.in_hands, bench.log.acked.through) == (1, 1)


def test_with_order_by_a_key_has_one_job_in_hand_and_others_go_on() -> None:
    bench = Bench(order_by="account", in_hands_max=16)
    bench.feed(1, 9, keys=3)
    hands = Hands()
    assert bench.take(hands) == [1, 2, 3]
    batch = bench.batch
    assert bench.take(hands) == []
    bench.queue.ack(hands, batch.no, [1], 1)
    assert bench.take(hands) == [5]
    bench.queue.nack(hands, batch.no, 0, "error", "x", "", 1)
    assert bench.take(hands) == [], "4 waits for 1, which waits for its backoff"
    bench.queue.ack(hands, batch.no, [2], 1)
    assert bench.take(hands) == [6]


def test_behind_a_dead_job_its_key_is_parked_until_it_is_sent_again() -> None:
    bench = Bench(order_by="account", max_attempts=1)
    bench.feed(1, 6, keys=2)
    hands = Hands()
    assert bench.take(hands) == [1, 2]
    bench.queue.nack(hands, bench.batch.no, 0, "error", "x", "", 1)
    bench.queue.ack(hands, bench.batch.no, [1], 1)
    assert bench.bury_all() == [1]
    assert bench.queue.parked == 2
    assert bench.take(hands) == [4]
    bench.queue.ack(hands, bench.batch.no, None, 2)
    assert bench.queue.revive([1, 4, 99], 3) == [1]
    assert bench.take(hands, 3)[0] in (1, 6)
    seen = [int(seq) for seq in bench.batch.seqs]
    assert 1 in seen
    assert 3 not in seen
    bench.queue.ack(hands, bench.batch.no, None, 4)
    assert bench.queue.resolved == [1]
    assert bench.take(hands, 4) == [3] or 3 in [int(s) for s in bench.batch.seqs]
    bench.queue.ack(hands, bench.batch.no, None, 5)
    assert bench.take(hands, 5) == [5]


def test_a_skipped_dead_job_lets_its_key_go_on() -> None:
    bench = Bench(order_by="account", max_attempts=1)
    bench.feed(1, 3, keys=1)
    hands = Hands()
    bench.take(hands)
    bench.queue.nack(hands, bench.batch.no, 0, "error", "x", "", 1)
    bench.bury_all()
    assert bench.take(hands) == []
    assert bench.queue.skip([1]) == [1]
    assert (bench.queue.skip([1]), bench.queue.revive([1], 0)) == ([], [])
    assert bench.queue.parked > 0, "not before the letter of it is safe"
    (letter, _) = bench.queue.letters[0]
    assert (letter.reason, letter.seq, letter.trade_id) == ("skipped", 1, "T1")
    assert bench.bury_all() == [1]
    assert bench.take(hands) == [2]
    assert bench.log.dead == set()


def test_a_job_that_dies_twice_is_dead_twice() -> None:
    bench = Bench(max_attempts=1)
    bench.feed(1, 1)
    hands = Hands()
    for _ in range(2):
        assert bench.take(hands, 5) == [1]
        bench.queue.nack(hands, bench.batch.no, 0, "error", "x", "", 5)
        assert bench.bury_all() == [1]
        assert bench.queue.revive([1], 5) == [1]
    assert bench.take(hands, 5) == [1]


def test_a_new_life_hands_out_what_was_not_acked_and_knows_what_is_dead(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        bench = Bench(log, max_attempts=1, in_hands_max=20)
        bench.feed(1, 6)
        hands = Hands()
        bench.take(hands)
        bench.queue.ack(hands, bench.batch.no, [0, 2, 4], 1)
        bench.queue.nack(hands, bench.batch.no, 3, "error", "x", "", 1)
        bench.bury_all()
    with AckLog(path) as log:
        again = Bench(log, max_attempts=1, in_hands_max=20)
        again.feed(1, 6)
        again.feed(7, 1)
        assert log.dead == {4}
        assert again.take(Hands()) == [2, 6, 7]


def test_a_new_life_keeps_the_line_behind_a_dead_job_parked_and_a_revived_one_alive(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        bench = Bench(log, order_by="account", max_attempts=1)
        bench.feed(1, 4, keys=2)
        hands = Hands()
        assert bench.take(hands) == [1, 2]
        for place in (0, 1):
            bench.queue.nack(hands, bench.batch.no, place, "error", "x", "", 1)
        bench.bury_all()
        bench.queue.revive([2], 2)  # and the process dies before a worker gets it
    with AckLog(path) as log:
        again = Bench(log, order_by="account", max_attempts=1)
        again.feed(1, 4, keys=2)
        again.queue.resume_revived(3)
        hands = Hands()
        assert again.take(hands, 3) == [2]
        again.queue.ack(hands, again.batch.no, None, 4)
        assert again.take(hands, 4) == [4]
        assert again.queue.parked == 1


def test_lines_behind_a_busy_key_cost_a_seq_each_and_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.joblines.LINE_JOBS_MAX", 4)
    bench = Bench(order_by="account", in_hands_max=2)
    bench.feed(1, 20, keys=1)
    bench.feed(21, 20, keys=1)
    hands, seen = Hands(), []
    while seqs := bench.take(hands):
        seen += seqs
        bench.queue.ack(hands, bench.batch.no, None, 1)
    assert seen == list(range(1, 41))
    assert bench.fetches > 0


# --- what travels


def sent(batch: Batch, names: NameFilter, decoder: EventDecoder) -> Frame:
    return Frame(bytes(cut_jobs(batch.parts(), names, decoder, 1)))


@pytest.mark.parametrize("refs", [False, True])
@given(places=st.lists(st.integers(0, 29), min_size=1, max_size=30, unique=True))
@settings(max_examples=50, deadline=None)
def test_a_cut_frame_decodes_to_the_same_events_as_the_whole_one(refs: bool, places: list[int]) -> None:
    whole = frame(1, 30, refs=refs)
    decoder = EventDecoder()
    expected = dict(enumerate(event for _, event in decoder.decode_all(whole)))
    cut = Frame(bytes(cut_jobs([(Source(whole), np.array(places))], NameFilter(), decoder, 1)))
    assert list(JobDecoder().decode(cut)) == [expected[place] for place in places]


def test_jobs_of_several_frames_and_types_travel_in_one() -> None:
    first, second = frame(1, 5, marks=(2,)), frame(6, 5, refs=True)
    decoder = EventDecoder()
    expected = [event for _, event in decoder.decode_all(first)] + [event for _, event in decoder.decode_all(second)]
    parts = [(Source(first), np.array([1, 4])), (Source(second), np.array([3, 0])), (Source(first), np.array([0]))]
    cut = Frame(bytes(cut_jobs(parts, NameFilter(), decoder, 1)))
    assert list(JobDecoder().decode(cut)) == [expected[i] for i in (1, 4, 8, 5, 0)]


def test_joined_frames_read_like_the_frames_they_were() -> None:
    parts = [frame(1, 1), frame(2, 3, refs=True, marks=(3,)), frame(5, 1), frame(6, 20)]
    (joined,) = join_frames(parts)
    assert (joined.first_seq, len(joined), joined.stamped_at) == (1, 25, 77)
    decoder, whole = EventDecoder(), EventDecoder()
    assert [row for part in parts for row in decoder.decode_all(part)] == whole.decode_all(joined)
    assert Source(joined).in_order


def test_frames_that_do_not_fit_one_are_joined_to_several_and_a_gap_is_refused() -> None:
    parts = [frame(1, 5000), frame(5001, 3000), frame(8001, 500)]
    assert [(f.first_seq, len(f)) for f in join_frames(parts)] == [(1, 8000), (8001, 500)]
    assert join_frames([]) == []
    with pytest.raises(ValueError, match="frame 7 does not follow 5"):
        join_frames([frame(1, 5), frame(7, 1)])


def test_a_worker_is_told_each_name_once() -> None:
    bench = Bench()
    bench.feed(1, 6)
    bench.feed(7, 6)
    names, hands, decoder = NameFilter(), Hands(), JobDecoder()
    bench.take(hands)
    one = sent(bench.batch, names, bench.queue.decoder)
    bench.take(hands)
    two = sent(bench.batch, names, bench.queue.decoder)
    assert len(one.definitions()) == 4
    assert two.definitions() == []
    assert [event.account for event in [*decoder.decode(one), *decoder.decode(two)]] == [
        f"A{i % 3}" for i in range(1, 13)
    ]


def test_the_head_of_a_batch_survives_the_wire_and_junk_is_refused() -> None:
    seqs, attempts, flags = np.array([5, 2**63], "<u8"), np.array([1, 3], "<u4"), np.array([0, 1], "u1")
    head = encode_jobs_head(2**64 - 1, 9, 10, seqs, attempts, flags)
    assert decode_jobs_head(head) == (2**64 - 1, 9, 10, [5, 2**63], [1, 3], [0, 1])
    for junk in (b"", head[:-1], b"XXXX" + head[4:]):
        with pytest.raises(ValueError):
            decode_jobs_head(junk)


# --- what is done, remembered


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=40))
@settings(deadline=None)
def test_the_acked_set_agrees_with_a_set_of_numbers(ranges: list[tuple[int, int]]) -> None:
    acked, plain = AckedSet(), set()
    for first, more in ranges:
        acked.add(first, first + more)
        plain |= set(range(first, first + more + 1))
    through = next(seq for seq in range(1, 200) if seq not in plain) - 1
    assert acked.through == through
    assert [bool(bit) for bit in acked.mask(1, 100)] == [seq in plain for seq in range(1, 101)]
    assert [bool(bit) for bit in acked.mask(31, 10)] == [seq in plain for seq in range(31, 41)]
    assert {seq for a, b in acked.ranges() for seq in range(a, b + 1)} == plain


def test_a_torn_log_keeps_what_came_before_the_tear(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        log.add(1, 3)
        log.add(7, 9)
        log.flush()
        whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with AckLog(path) as log:
            assert log.acked.ranges() in ([], [(1, 3)], [(1, 3), (7, 9)])
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with AckLog(path) as log:
        assert log.acked.ranges() == [(1, 3)]


def test_events_that_are_no_jobs_are_not_looked_at_again_by_the_next_life(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        log.acked.add(1, 5)  # other events: not noted one by one
        log.add(6, 6)
        log.acked.add(7, 9)
    with AckLog(path) as log:
        assert log.acked.ranges() == [(1, 9)]


def test_a_job_sent_again_and_done_stays_done_beside_its_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        log.add_dead(5)
        log.revive(5)
        log.add(4, 4)
        log.add(5, 5)
        log.add(6, 6)
    with AckLog(path) as log:
        assert (log.dead, log.revived) == (set(), set())


def test_acks_beyond_the_journal_are_forgotten_because_other_events_get_their_seqs(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        log.add(1, 10)
        log.add_dead(12)
    with AckLog(path, last_seq=6) as log:
        assert log.acked.ranges() == [(1, 6)]
        assert log.dead == set()


def test_another_file_in_the_place_of_the_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue-q.acks"
    path.write_bytes(b"something else entirely")
    with pytest.raises(JournalError, match="not a queue's log"):
        AckLog(path)
    assert path.read_bytes() == b"something else entirely"


def test_a_long_log_is_rewritten_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.acklog.COMPACT_BYTES", 1000)
    path = tmp_path / "queue-q.acks"
    with AckLog(path) as log:
        for seq in range(1, 200):
            log.add(seq, seq)
            log.flush()
        assert path.stat().st_size < 1200
        log.add(300, 300)
    with AckLog(path) as log:
        assert log.acked.ranges() == [(1, 199), (300, 300)]
