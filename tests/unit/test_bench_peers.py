"""Each peer of the benchmarks computes what it is said to: a small test of its result."""

from __future__ import annotations

import shutil
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from bench import brokers, budget, core_python, feedformats, feeds, hops, latency, pipeline, queue, replay, servers
from bench.peer_dicts import DictEngine, fill
from bench.peer_dicts import replay as replay_dicts
from bench.report import Report
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
        assert replay_dicts(peer, trades) == engine.seq - 1
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
    assert {name: histogram.total for name, histogram in found.items()} == dict.fromkeys(latency.KINDS, 500)
    assert 0 < found["position"].percentile(50) <= found["alert"].percentile(50) <= found["alert"].max_ns < 10**10


@needs_compiler
def test_the_same_generator_drives_riskwire(libzmq: Path):
    found = latency.through_riskwire(5_000, 500)
    assert {name: histogram.total for name, histogram in found.items()} == dict.fromkeys(latency.KINDS, 500)
    assert 0 < found["position"].percentile(50) <= found["alert"].percentile(50)


def test_nautilus_and_openpit_say_what_they_found(tmp_path: Path):
    path = tmp_path / "fills.csv"
    path.write_text("buy,100.00,100\nbuy,110.00,100\nsell,120.00,50\n" + "buy,1.00,1\n" * 1_200)
    nautilus = core_python.peer("peer_nautilus.py", str(path))
    openpit = core_python.peer("peer_openpit.py", str(path), "99", "1000000")
    if nautilus is None or openpit is None:
        pytest.skip("make bench-peers installs NautilusTrader and openpit")
    assert (Decimal(nautilus["quantity"]), nautilus["realized_pnl"]) == (1_350, pytest.approx(750.0))
    assert openpit["rejected"] == 2


TAPE = """\
trade_id,symbol,price,volume,side,executed_at,account
1,S,10.00,5.00,buy,1,A
2,S,10.00,600.00,buy,2,A
1,S,10.00,5.00,buy,1,A
3,S,10.00,604.50,sell,3,A
4,T,1.00,2.25,sell,4,A
5,S,10.00,301.00,buy,5,B
"""


@pytest.mark.parametrize("peer", replay.PEERS, ids=lambda peer: peer.name)
def test_a_peer_of_the_replay_finds_positions_and_breaches(tmp_path: Path, peer: replay.Peer):
    if peer.missing:
        pytest.skip(peer.missing)
    (tmp_path / "tape.csv").write_text(TAPE)
    found = replay.of_peer(peer, tmp_path / "tape.csv", tmp_path)
    assert (found["accepted"], found["volume_breaches"], found["keys_over_position"]) == (5, 2, 2)
    assert replay.quantities(tmp_path / f"{peer.name}.csv") == {("A", "S"): 0.5, ("A", "T"): -2.25, ("B", "S"): 301.0}


def test_positions_that_differ_or_are_missing_fail_the_replay(tmp_path: Path):
    peer, report = replay.PEERS[0], Report(group="replay")
    (tmp_path / "riskwire.csv").write_text("account,symbol,quantity\nA,S,1\nA,T,2\n")
    for theirs in ("A,S,1\nA,T,2.5\n", "A,S,1\n", "A,S,1\nA,T,2\nB,T,1\n"):
        (tmp_path / f"{peer.name}.csv").write_text("account,symbol,quantity\n" + theirs)
        assert not replay.same_positions(peer, tmp_path, report)
    assert len(report.wrong) == 3


@pytest.mark.parametrize("each", feedformats.FORMATS, ids=lambda each: each.name)
def test_a_reader_of_a_format_and_riskwire_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, each):
    pytest.importorskip(each.package)
    pytest.importorskip(feedformats.MADE_WITH.get(each.name, each.package))
    monkeypatch.setattr(feedformats.session, "folder", lambda: tmp_path)
    path = tmp_path / f"x.{each.name.lower()}"
    each.make(path, 300)
    records = feedformats.riskwire(path)[1]
    assert feedformats.sums_of(records) == each.read(path, 300)[1]
    assert feedformats.sums_of(records[:100]).rows == 100


@pytest.mark.parametrize("name", feeds.PEERS)
def test_a_reader_of_csv_reads_what_riskwire_reads(tmp_path: Path, name: str):
    package, read, sums = feeds.PEERS[name]
    pytest.importorskip(package)
    (tmp_path / "tape.csv").write_text(TAPE)
    frames = feeds.riskwire_kept(tmp_path / "tape.csv")[1]
    assert sums(read(tmp_path / "tape.csv")[1]) == feeds.volume_of(frames) == (6, 151_775)
    assert feeds.plain_csv(tmp_path / "tape.csv", 2)[1] == feeds.volume_of(frames, 2) == (2, 60_500)


@pytest.mark.parametrize("system", brokers.NAMES)
def test_another_broker_hands_on_every_record(tmp_path: Path, system: str):
    if how := servers.missing(system):
        pytest.skip(how)
    pipeline.write_session(tmp_path / "frames.bin", 500, 64)
    rate, sent, seen = brokers.rate_of(system, tmp_path / "frames.bin", 500)
    assert (seen["records"], seen["bytes"], rate > 0) == (500, sent["bytes"], True)


@pytest.mark.parametrize("system", ["redis", "jetstream"])
def test_another_queue_hands_out_every_job_once_and_has_it_acked(system: str):
    if how := servers.missing(system):
        pytest.skip(how)
    measure = {"redis": queue.measure_redis, "jetstream": queue.measure_jetstream}[system]
    assert measure(1_500).rate > 0  # a job too many or too few, or one left unacked, raises


@needs_compiler
def test_the_legs_of_a_trade_add_up(libzmq: Path):
    report = Report(group="budget")
    budget.tell(report, [budget.riskwire(300)], [budget.libzmq(300)], [1_000.0], [2_000.0])
    found = {figure.name: figure.values[0] for figure in report.figures}
    legs, whole = list(found.values())[:4], found["together: planned to heard"]
    assert report.wrong == []
    assert all(leg > 0 for leg in legs)
    assert sum(legs) == pytest.approx(whole)
    assert found["libzmq alone: together"] > found["libzmq alone: from there to heard, a hop"] > 0
