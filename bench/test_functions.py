"""pytest-benchmark of functions: `python -m pytest bench/`; frames of 1,000 trades, so µs a frame are ns a trade."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark", reason="pip install pytest-benchmark, or make bench")

from bench import core_python, core_run, workload
from engine import RiskEngine
from engine.codec import EventDecoder
from engine.limitset import parse_limits
from ext.encoder import EventEncoder
from ext.journal import Journal
from ext.records import Frame, crc32c_of
from ext.risk import RiskCore
from ext.sequencer import Sequencer, Source
from feeds import open_feed

PER_FRAME = 1_000
KEYS = workload.Keys(symbols=100, accounts=10)
ROUNDS = 200


@pytest.fixture(scope="module")
def new_frames() -> list[bytes]:
    """Unsequenced frames of new trades: a function under test takes each once."""
    records, numbers = workload.make_records(KEYS, ROUNDS * PER_FRAME, 1, np.random.default_rng(1))
    return [workload.names_frame(KEYS), *workload.to_frames(records, numbers, PER_FRAME, 1)]


@pytest.fixture(scope="module")
def sequenced_frames() -> list[bytes]:
    """The same as a broker numbers them, from seq 2 on."""
    records, numbers = workload.make_records(KEYS, ROUNDS * PER_FRAME, 2, np.random.default_rng(1))
    return workload.sequence(records, numbers, 2, PER_FRAME)


def test_door_takes_a_frame(benchmark, new_frames):
    sequencer, source, left = Sequencer(Journal(None)), Source("bench", 1), iter(new_frames)
    sequencer.process_frame(next(left), source)
    accepted = []
    benchmark.pedantic(
        lambda: accepted.append(sequencer.process_frame(next(left), source)[0]), rounds=ROUNDS, iterations=1
    )
    assert set(accepted) == {PER_FRAME}


@pytest.mark.parametrize("limits", [0, 3])
def test_core_folds_a_frame(benchmark, sequenced_frames, limits):
    core, left = RiskCore(), iter(sequenced_frames)
    document = parse_limits({"limit": KEYS.limits()[:limits]}).to_json()
    core.apply(workload.names_frame(KEYS, 1, limits=document))
    applied = []
    benchmark.pedantic(lambda: applied.append(core.apply(next(left))), rounds=ROUNDS, iterations=1)
    assert core.applied_seq == len(applied) * PER_FRAME + 1


def test_encoder_makes_a_frame(benchmark):
    events = core_python.trades(PER_FRAME)

    def encode() -> bytearray:
        encoder = EventEncoder()
        for event in events:
            encoder.add(event)
        return encoder.finish(1, 1)

    assert len(Frame(benchmark(encode))) == PER_FRAME


def test_decoder_reads_a_frame(benchmark):
    events = core_python.trades(PER_FRAME)
    encoder = EventEncoder()
    for event in events:
        encoder.add(event)
    frame = Frame(encoder.finish(1, 1))
    assert [event for _, event in benchmark(lambda: EventDecoder().decode_all(frame))] == events


def test_frame_is_checked(benchmark, sequenced_frames):
    frame = sequenced_frames[0]
    assert len(benchmark(lambda: Frame(frame))) == PER_FRAME


def test_crc32c_of_a_frame(benchmark, sequenced_frames):
    frame = sequenced_frames[0]
    assert benchmark(lambda: crc32c_of(frame)) == crc32c_of(frame)


def test_risk_engine_applies_one_trade(benchmark):
    trades = {trade.trade_id: trade for trade in core_python.trades(20_000)}
    with RiskEngine(limits=core_python.limits()) as engine:
        left = iter(trades.values())
        seqs = []
        benchmark.pedantic(lambda: seqs.append(engine.apply(next(left))), rounds=len(trades) - 1, iterations=1)
        assert seqs == list(range(2, len(seqs) + 2))


def test_csv_reader_reads_a_thousand_rows(benchmark, tmp_path: Path):
    path = tmp_path / "trades.csv"
    header = "trade_id,symbol,price,volume,side,executed_at,account\n"
    rows = (
        f"T{i},S{i % 50:03d},{100 + i % 7}.25,{1 + i % 9},buy,{1_700_000_000 + i},A{i % 10}\n" for i in range(PER_FRAME)
    )
    path.write_text(header + "".join(rows))

    def read() -> int:
        feed = open_feed(path)
        return sum(len(Frame(frame)) for frame in iter(lambda: feed.next_frame(PER_FRAME), None))

    assert benchmark(read) == PER_FRAME


def test_engine_takes_a_frame_from_door_to_alert(benchmark, new_frames):
    engine = core_run.Engine(parse_limits({"limit": KEYS.limits()}).to_json(), ROUNDS * PER_FRAME)
    left = itertools.chain(new_frames)
    engine.take(next(left))
    taken = []
    benchmark.pedantic(lambda: taken.append(engine.take(next(left))), rounds=ROUNDS, iterations=1)
    assert engine.core.applied_seq == len(taken) * PER_FRAME + 1
