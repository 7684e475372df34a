"""Duplicates at scale: through growing tables, colliding fingerprints, forgetting and restarts, none is missed."""

from __future__ import annotations

import heapq
import itertools
import os
import random
import struct
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ext.base import Base
from ext.journal import Journal
from ext.records import RECORD_DTYPE, FrameBuilder, crc32c_of, stamp_frame
from ext.sequencer import Sequencer, Source

RECORDS = 1000
ID_BYTES = 8
TOO_OLD = 8


class Trades:
    """Frames of plain trades, made by filling in a template."""

    def __init__(self) -> None:
        builder = FrameBuilder()
        for _ in range(RECORDS):
            builder.add_record(type=1, side=1, symbol=1, account=1, id=b"0" * ID_BYTES, volume=1)
        builder.define_name(0, 1, b"BTC")
        builder.define_name(1, 1, b"default")
        self.template = builder.finish()
        self.source = Source("test", 1)
        self.next_seq = 1

    def frame(self, numbers: list[int], times: list[int] | None = None) -> bytearray:
        """Return a frame of RECORDS trades with these numbers as ids (the last one repeated where they are fewer)."""
        padded = (numbers + [numbers[-1]] * RECORDS)[:RECORDS]
        frame = bytearray(self.template)
        rows = np.frombuffer(frame, dtype=RECORD_DTYPE, count=RECORDS, offset=64)
        at = times if times is not None else numbers
        rows["executed_at"] = (list(at) + [at[-1]] * RECORDS)[:RECORDS]
        ids = np.char.zfill(np.array(padded).astype(f"S{ID_BYTES}"), ID_BYTES)
        frame[len(frame) - ID_BYTES * RECORDS :] = ids.tobytes()
        stamp_frame(frame, self.next_seq, 1)
        self.next_seq += RECORDS
        return frame


@pytest.mark.parametrize("code_bits", [36, 28, 12])
def test_every_duplicate_is_found_while_the_table_grows(code_bits):
    """300,000 trades: 28 bits of fingerprint (36 of a code) collide some 150 times, and each collision must be compared
    away. Codes of 12 bits grow two times on the way, in a table that is being left or not."""
    journal, trades = Journal(None), Trades()
    sequencer = Sequencer(journal, dedup_code_bits=code_bits)
    order = random.Random(5)
    for first in range(0, 300_000, RECORDS):
        accepted, duplicates, refused = sequencer.process_frame(
            trades.frame(list(range(first, first + RECORDS))), trades.source
        )
        assert (accepted, duplicates, refused) == (RECORDS, 0, [])
        if first % 20_000 == 0:
            seen = [order.randrange(first + RECORDS) for _ in range(RECORDS)]
            assert sequencer.process_frame(trades.frame(seen), trades.source) == (0, RECORDS, [])
    again = Sequencer(journal, dedup_code_bits=code_bits)
    for first in range(0, 300_000, RECORDS):
        numbers = list(range(first, first + RECORDS))
        assert again.process_frame(trades.frame(numbers), trades.source) == (0, RECORDS, [])
    assert again.dedup.slot_bytes <= 32 * 300_000
    assert again.last_seq == 300_000


def test_a_restart_takes_in_a_journal_at_once_into_a_table_that_it_nearly_fills():
    """Each time with another key, so that now and then a part of the table has no room left for what belongs to it; in
    nearly every one something goes on into the next part, and from the last one into the first."""
    journal, trades = Journal(None), Trades()
    first = Sequencer(journal)
    frames = [trades.frame(list(range(start, start + RECORDS))) for start in range(0, 3 * RECORDS, RECORDS)]
    for frame in frames:
        assert first.process_frame(frame, trades.source) == (RECORDS, 0, [])
    for expected in [0] * 1000 + [RECORDS, 2 * RECORDS, 100 * RECORDS]:
        again = Sequencer(journal, dedup_expected=expected)
        for frame in frames:
            assert again.process_frame(frame, trades.source) == (0, RECORDS, [])
        assert again.dedup.trades == 3 * RECORDS
    assert again.process_frame(trades.frame(list(range(10_000, 11_000))), trades.source) == (RECORDS, 0, [])


@pytest.mark.parametrize("code_bits", [28, 12])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_forgotten_is_what_was_executed_first(seed, code_bits):
    """Against a heap, with times that come late, early and equal; restarts in between change nothing."""
    bound = 2500
    order = random.Random(seed)
    journal, trades = Journal(None), Trades()
    sequencer = Sequencer(journal, dedup_max_trades=bound, dedup_code_bits=code_bits)
    heap: list[tuple[int, int, int]] = []
    known: dict[int, int] = {}
    horizon = None
    times: list[int] = []
    arrivals = itertools.count()
    for turn in range(25):
        numbers = [len(times) + i for i in range(600)]
        times += [turn * 600 + i + order.choice((0, 0, 0, -700, -3000, 2500, i % 3)) for i in range(600)]
        numbers += [order.randrange(len(times)) for _ in range(400)]
        expected = [0, 0, 0]
        for number in numbers:
            if number in known:
                expected[1] += 1
            elif horizon is not None and (times[number] <= horizon or times[number] < heap[0][0]):
                expected[2] += 1
            else:
                expected[0] += 1
                known[number] = 1
                heapq.heappush(heap, (times[number], next(arrivals), number))
                if len(heap) > bound:
                    horizon, _, gone = heapq.heappop(heap)
                    del known[gone]
        if turn % 7 == 6:
            sequencer = Sequencer(journal, dedup_max_trades=bound, dedup_code_bits=code_bits)
        accepted, duplicates, refused = sequencer.process_frame(
            trades.frame(numbers, [times[number] for number in numbers]), trades.source
        )
        assert [accepted, duplicates, len(refused)] == expected, turn
        assert {reason for _, reason, _ in refused} <= {TOO_OLD}
        assert sequencer.dedup.trades <= bound
    assert sequencer.dedup.forgotten > 0


def test_a_remembered_trade_costs_32_bytes_at_most_and_128_where_no_journal_is_kept(capsys):
    """At every moment, also while the table doubles; without a journal on disk its records are in memory too."""
    journal, trades = Journal(None), Trades()
    sequencer = Sequencer(journal)
    worst = 0.0
    for first in range(0, 450_000, RECORDS):
        sequencer.process_frame(trades.frame(list(range(first, first + RECORDS))), trades.source)
        if first >= 20_000:
            worst = max(worst, sequencer.dedup.slot_bytes / (first + RECORDS))
    records = sum(len(frame) for frame in journal) / 450_000
    with capsys.disabled():
        print(f" {worst:.1f} bytes a trade at worst; {records + worst:.1f} with its record of {records:.1f}")
    assert sequencer.dedup.trades == 450_000
    assert worst <= 32
    assert records + worst <= 128


# --- seqs that the bits of a code cannot tell apart, in a journal whose beginning was removed ---

PERIOD = 2**36 - 2  # of the widest codes
KNOWN = struct.Struct("<QqqQBB6x")  # of ext/base.pxd; then where fields of its header are
CRC, FIRST_SEQ, KNOWN_BYTES, TEXT_BYTES = slice(8, 12), slice(24, 32), slice(104, 112), slice(112, 120)
REMOVED_TRADES, LATEST = slice(48, 56), slice(72, 80)
SEGMENT_CRC, SEGMENT_HEADER_BYTES = slice(60, 64), 64  # its first_seq is at the same place
MARK, ADJUST = 2, 3


def journal_from(folder: Path, first_seq: int, marks: list[int], latest: int | None = None) -> Journal:
    """Return a journal that goes on with first_seq; of what was removed, these seqs were marks with their seq as id.

    latest: when the last of the trades that were removed was executed; None: there were none.
    """
    with closing(Journal(folder)) as journal:
        trades = Trades()
        Sequencer(journal).process_frame(trades.frame([0]), trades.source)
    with (folder / "00000001.rwj").open("r+b") as segment:
        header, size = bytearray(segment.read(SEGMENT_HEADER_BYTES)), segment.seek(0, os.SEEK_END)
        header[FIRST_SEQ] = first_seq.to_bytes(8, "little")
        header[SEGMENT_CRC] = crc32c_of(bytes(header[:60])).to_bytes(4, "little")
        segment.truncate(0)
        segment.seek(0)
        segment.write(header)
        segment.truncate(size)
    header = bytearray(Base().parts()[0])
    known = b"".join(KNOWN.pack(seq, 10**9, 0, i * ID_BYTES, MARK, ID_BYTES) for i, seq in enumerate(marks))
    ids = b"".join(b"%0*d" % (ID_BYTES, seq) for seq in marks)
    header[FIRST_SEQ] = first_seq.to_bytes(8, "little")
    if latest is not None:
        header[REMOVED_TRADES], header[LATEST] = (1).to_bytes(8, "little"), latest.to_bytes(8, "little")
    header[KNOWN_BYTES] = len(known).to_bytes(8, "little")
    header[TEXT_BYTES] = len(ids).to_bytes(8, "little")
    header[CRC] = bytes(4)
    header[CRC] = crc32c_of(bytes(header) + known + ids).to_bytes(4, "little")
    (folder / "base.rwb").write_bytes(header + known + ids)
    return Journal(folder)


@pytest.mark.parametrize("expected", [0, 20_000])
@pytest.mark.parametrize(
    "first_seq", [PERIOD - 2_500, PERIOD - 1, PERIOD, 2 * PERIOD - 3_500, 2**40 - 500, 2**28 // 16 * 15]
)
def test_seqs_whose_codes_come_round_are_told_apart(tmp_path: Path, first_seq: int, expected: int) -> None:
    trades = Trades()
    with closing(journal_from(tmp_path, first_seq, [])) as journal:
        sequencer = Sequencer(journal, dedup_expected=expected)
        frames = [trades.frame(list(range(start, start + RECORDS))) for start in range(0, 6 * RECORDS, RECORDS)]
        for frame in frames:
            assert sequencer.process_frame(frame, trades.source) == (RECORDS, 0, [])
        assert sequencer.last_seq == first_seq + 6 * RECORDS - 1
        again = Sequencer(journal, dedup_expected=expected)
        for known in (sequencer, again):
            for frame in frames:
                assert known.process_frame(frame, trades.source) == (0, RECORDS, [])
        assert again.process_frame(trades.frame(list(range(10_000, 11_000))), trades.source) == (RECORDS, 0, [])


@pytest.mark.parametrize("first_seq", [5_000, 2**28, 2**32, PERIOD - 6_000])
def test_what_is_known_of_removed_events_is_found_behind_a_jump_of_seqs(tmp_path: Path, first_seq: int) -> None:
    """Their codes are those of low seqs, and widen with the first one behind the jump."""
    marks, builder = list(range(1, 4_000)), FrameBuilder()
    builder.define_name(0, 1, b"BTC")
    for seq in [*marks, 9_999]:
        builder.add_record(type=MARK, symbol=1, price=10**9, price_exponent=-9, id=b"%0*d" % (ID_BYTES, seq))
    frame = bytearray(builder.finish())
    stamp_frame(frame, 1, 1)
    trades = Trades()
    with closing(journal_from(tmp_path, first_seq, marks)) as journal:
        for sequencer in (Sequencer(journal), Sequencer(journal, dedup_expected=4_000)):
            assert sequencer.process_frame(frame, Source("marks", 1))[1:] == (len(marks), [])
        numbers = list(range(RECORDS))
        assert sequencer.process_frame(trades.frame(numbers), trades.source) == (RECORDS, 0, [])
        assert sequencer.process_frame(frame, Source("marks", 2)) == (0, len(marks) + 1, [])
        assert sequencer.process_frame(trades.frame(numbers), trades.source) == (0, RECORDS, [])


def test_a_trade_no_later_than_those_removed_is_too_old_and_a_later_one_is_not(tmp_path: Path) -> None:
    """Also on the way that nearly every trade takes, of one whose names are known."""
    removed_at, trades, builder = 10**9, Trades(), FrameBuilder()
    builder.define_name(0, 1, b"BTC")
    builder.define_name(1, 1, b"default")
    builder.add_record(type=ADJUST, symbol=1, account=1, price_exponent=-9, volume=1, volume_exponent=-8, id=b"adjust")
    frame = bytearray(builder.finish())
    stamp_frame(frame, 1, 1)
    with closing(journal_from(tmp_path, 100, [], removed_at)) as journal:
        sequencer = Sequencer(journal)
        assert sequencer.process_frame(frame, Source("names", 1)) == (1, 0, [])
        numbers = list(range(RECORDS))
        for _ in range(2):
            accepted, duplicates, refused = sequencer.process_frame(
                trades.frame(numbers, [removed_at] * RECORDS), trades.source
            )
            assert (accepted, duplicates, {reason for _, reason, _ in refused}) == (0, 0, {TOO_OLD})
        later = trades.frame(numbers, [removed_at + 1 + i for i in numbers])
        assert sequencer.process_frame(later, trades.source) == (RECORDS, 0, [])
        again = Sequencer(journal)
        for known in (sequencer, again):
            known_now = known.process_frame(trades.frame(numbers, [removed_at + 1 + i for i in numbers]), trades.source)
            assert known_now == (0, RECORDS, [])
