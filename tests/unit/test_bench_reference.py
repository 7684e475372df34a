"""The C++ reference of the core finds what the core finds, and a difference would be noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import core, core_run, native, workload
from bench.report import Report

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler")

FEW_KEYS = workload.Keys(symbols=20, accounts=5)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISKWIRE_BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "bench-cache"))


def test_the_reference_agrees_on_every_position_and_alert(tmp_path: Path):
    case = core.Case(tmp_path, FEW_KEYS, 2_000, 6_000)
    report = Report()
    assert case.agree(report), report.wrong
    found = case.ours()
    assert found["alerts"] > 20
    assert found["duplicates"] > 20
    assert found["accepted"] + found["duplicates"] == 8_000


def test_the_reference_judges_other_holders_at_a_new_mark(tmp_path: Path):
    """Every hundredth trade of a symbol revalues who holds it, and positions are near their limits."""
    case = core.Case(tmp_path, workload.Keys(symbols=2, accounts=40), 500, 20_000)
    report = Report()
    assert case.agree(report), report.wrong


def test_a_position_that_differs_is_found(tmp_path: Path):
    ours, theirs = tmp_path / "ours.csv", tmp_path / "reference.csv"
    ours.write_text(
        "account,symbol,quantity,avg_price,realized_pnl,unrealized_pnl,fees,last_price,trades\nA,S,1,2,3,4,5,6,7\n"
    )
    theirs.write_text("A,S,1,3,4,5,6,7\n")
    assert core.differing_rows(ours, theirs) == []
    theirs.write_text("A,S,1,3.000000000000001,4,5,6,7\n")
    assert len(core.differing_rows(ours, theirs)) == 1
    theirs.write_text("")
    assert len(core.differing_rows(ours, theirs)) == 1


def test_a_program_is_built_once_for_its_content():
    program = native.build("reference.cpp")
    built_at = program.stat().st_mtime_ns
    assert native.build("reference.cpp").stat().st_mtime_ns == built_at
    assert "-fwrapv" in native.flags()


def test_frames_come_back_from_a_file_as_they_were(tmp_path: Path):
    frames, before = workload.make_session(FEW_KEYS, 200, 100, 64)
    workload.write_frames(tmp_path / "frames.bin", frames)
    assert workload.read_frames(tmp_path / "frames.bin") == core_run.read_frames(tmp_path / "frames.bin") == frames
    assert before == 1 + 4
