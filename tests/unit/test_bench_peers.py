"""Each peer of the benchmarks computes what it is said to: a small test of its result."""

from __future__ import annotations

import shutil
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from bench import core_python, hops, latency, pipeline
from bench.peer_dicts import DictEngine, fill, replay
from engine import RiskEngine, TradeExecuted

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="no C compiler")


@pytest.fixture
def libzmq(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RISKWIRE_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "bench-cache"))
    try:
        return hops.libzmq_path()
    except hops.NoLibrary as problem:
        pytest.skip(str(problem))


def test_dicts_and_the_engine_agree_on_positions_and_alerts():
    trades, peer = core_python.trades(3_000), core_python.dict_engine()
    with RiskEngine(limits=core_python.limits()) as engine:
        for trade in trades:
            engine.apply(trade)
        assert replay(peer, trades) == engine.seq - 1
        assert core_python.dict_positions(peer) == core_python.our_positions(engine)
        assert len(engine.alerts()) == peer.alerts > 0


def test_dicts_round_what_they_remove_half_to_even():
    position = [0, 0, 0, 0]
    fill(position, 3, 1)
    fill(position, 2, 1)
    fill(position, 0, -1)  # half of 5 is 2.5, to even 2
    assert position[:3] == [1, 3, -2]


def test_dicts_refuse_another_trade_under_a_known_id():
    trade = TradeExecuted("T1", "S", Decimal(1), Decimal(1), "buy", 1)
    peer = DictEngine(1, 1, 1, 1)
    assert peer.apply(trade)
    assert not peer.apply(trade)
    with pytest.raises(ValueError, match="T1"):
        peer.apply(TradeExecuted("T1", "S", Decimal(2), Decimal(1), "buy", 1))


@needs_compiler
def test_libzmq_alone_passes_every_record_through_its_hops(tmp_path: Path, libzmq: Path):
    pipeline.write_session(tmp_path / "frames.bin", 2_000, 64)
    rate, seen = pipeline.raw_rate(tmp_path / "frames.bin", 2_000, 8)
    assert (seen["records"], rate > 0) == (2_000, True)
    assert seen["bytes"] > 2_000 * 75


@needs_compiler
def test_pyzmq_on_asyncio_passes_every_record_through_its_hops(tmp_path: Path, libzmq: Path):
    def program(*words: str) -> list[str]:
        return [sys.executable, "-m", "bench.peer_asyncio", *words]

    pipeline.write_session(tmp_path / "frames.bin", 1_000, 1)
    _, seen = pipeline.raw_rate(tmp_path / "frames.bin", 1_000, 64, program)
    assert seen["records"] == 1_000


@needs_compiler
def test_the_probe_times_each_ack_and_each_alert_through_libzmq(libzmq: Path):
    found = latency.through_libzmq(5_000, 500)
    assert {name: histogram.total for name, histogram in found.items()} == {"ack": 500, "alert": 500}
    assert 0 < found["alert"].percentile(50) <= found["alert"].max_ns < 10_000_000_000


@needs_compiler
def test_the_same_generator_drives_riskwire(libzmq: Path):
    found = latency.through_riskwire(5_000, 500)
    assert {name: histogram.total for name, histogram in found.items()} == {"ack": 500, "alert": 500}


def test_nautilus_and_openpit_say_what_they_found(tmp_path: Path):
    path = tmp_path / "fills.csv"
    path.write_text("buy,100.00,100\nbuy,110.00,100\nsell,120.00,50\n" + "buy,1.00,1\n" * 1_200)
    nautilus = core_python.peer("peer_nautilus.py", str(path))
    openpit = core_python.peer("peer_openpit.py", str(path), "99", "1000000")
    if nautilus is None or openpit is None:
        pytest.skip("make bench-peers installs NautilusTrader and openpit")
    assert (Decimal(nautilus["quantity"]), nautilus["realized_pnl"]) == (1_350, pytest.approx(750.0))
    assert openpit["rejected"] == 2
