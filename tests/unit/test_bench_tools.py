"""What the benchmark suite says about figures: histograms, noise and change, tables, and the gate on instructions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import __main__ as suite
from bench import compare, gate, latency, plots, published, table
from bench.report import MORE, Figure, Report, markdown, ratios, row
from ext.histogram import Histogram


def run_of(values: dict[str, list[float]], better: str = "less") -> dict[str, object]:
    report = Report(group="core")
    report.figures = [Figure("core", name, "ns", each, better) for name, each in values.items()]
    return {"commit": "x", **report.to_dict()}


# --- latencies ----------------------------------------------------------------------------------------------------


def test_the_sweep_finds_the_highest_rate_that_holds():
    for limit, found in ((130_000, 130_000), (9_999, 0), (10_000, 10_000), (1e9, latency.SWEEP_LAST)):
        assert latency.highest(lambda rate, limit=limit: rate <= limit, 3) == found
    assert latency.highest(lambda rate: rate <= 130_000, 0) == 80_000


def test_latencies_become_a_log_that_hdrhistograms_tools_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    counted = Histogram()
    counted.record(70_000_000, 3)
    run = {"commit": "x", "started_at": 1.5, "histograms": {"riskwire 1000/s": {"alert": counted.encode()}}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert suite.main(["hdr", str(tmp_path / "run.json"), "--out", str(tmp_path / "run.hlog")]) == 0
    assert suite.main(["hdr", str(tmp_path / "run.json")]) == 0
    text = (tmp_path / "run.hlog").read_text()
    assert capsys.readouterr().out == text
    assert text.splitlines()[-1] == f"Tag=riskwire_1000/s_alert,0.000,1.000,70.058,{counted.encode()}"
    log = pytest.importorskip("hdrh.log")
    from hdrh.histogram import HdrHistogram

    reader = log.HistogramLogReader(str(tmp_path / "run.hlog"), HdrHistogram(1, 3_600_000_000_000, 3))
    assert reader.get_next_interval_histogram().get_total_count() == 3


# --- noise and change ---------------------------------------------------------------------------------------------


def test_a_change_beyond_the_rounds_spread_is_told_from_noise():
    old = run_of({"same": [100, 103, 98, 101, 99], "slower": [100, 101, 99, 100, 102], "once": [100.0]})
    new = run_of({"same": [99, 102, 100, 97, 104], "slower": [120, 121, 119, 122, 120], "once": [300.0]})
    assert {each.key: each.verdict for each in compare.changes(old, new)} == {
        "core/same": "noise",
        "core/slower": "worse",
        "core/once": "few rounds",
    }
    assert {
        each.verdict for each in compare.changes(run_of({"a": [1, 1, 1]}, MORE), run_of({"a": [2, 2, 2]}, MORE))
    } == {"better"}


def test_compare_fails_only_when_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(run_of({"a": [1.0, 1.0, 1.0]})))
    new.write_text(json.dumps(run_of({"a": [2.0, 2.0, 2.0]})))
    assert suite.main(["compare", str(old), str(new)]) == 0
    assert "worse" in capsys.readouterr().out
    assert suite.main(["compare", "--fail", str(old), str(new)]) == 1


# --- rows, tables, results ----------------------------------------------------------------------------------------


def test_a_missed_target_and_a_missing_peer_are_said_in_their_rows():
    assert "MISSED" in row(Figure("g", "a", "ns", [11, 12, 13], target=10))
    assert "MISSED" not in row(Figure("g", "a", "x", [11, 12, 13], MORE, target=10))
    assert "pip install" in row(Figure("g", "a", "", [], note="pip install it"))
    assert "**missed**" in markdown([Figure("g", "a", "ns", [11.0], target=10)])


def test_ratios_are_taken_round_by_round():
    assert ratios([10, 40], [5, 10]) == [2, 4]


def test_a_wrong_result_is_kept_and_fails_the_run(capsys: pytest.CaptureFixture[str]):
    report = Report(group="core")
    assert not report.check("positions", 1, 2)
    assert report.check("alerts", 3, 3)
    assert report.wrong == ["core: positions: 1, the peer has 2"]
    assert "WRONG" in capsys.readouterr().out


def test_figures_replace_those_between_the_marks():
    text = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.replace(text, "new") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    with pytest.raises(ValueError, match="no lines"):
        table.replace("a page", "new")


# --- plots --------------------------------------------------------------------------------------------------------

FACTS = {
    "started_at": 0.0, "arguments": [], "commit": "x", "cpu": "c", "cores": 2, "memory_gib": 1, "kernel": "k",
    "python": "3", "libzmq": "4", "flags": "-O3", "load_average": [0.1],
}  # fmt: skip


def plotted_run() -> dict[str, object]:
    report = Report(group="core")
    report.add("a", "ns", [1.0])
    for line in ("riskwire", "reference in C++"):
        for x in (1e6, 1e3, 1e3):
            report.point("keys", line, x, [x / 100, x / 90, x / 80])
    return {**FACTS, **json.loads(json.dumps(report.to_dict()))}


def test_a_page_is_written_with_the_plots_that_there_are_points_for(tmp_path: Path):
    pytest.importorskip("matplotlib")
    (tmp_path / "run.json").write_text(json.dumps(plotted_run()))
    written = []
    for _ in range(2):
        (tmp_path / "page.md").write_text(f"{table.BEGIN}\n{table.END}\n")
        assert suite.main(["table", str(tmp_path / "run.json"), "--write", str(tmp_path / "page.md")]) == 0
        assert [path.name for path in (tmp_path / "plots").iterdir()] == ["keys.svg"]
        written.append((tmp_path / "plots" / "keys.svg").read_bytes())
    assert "(plots/keys.svg)" in (tmp_path / "page.md").read_text()
    assert written[0] == written[1]
    assert b"reference in C++" in written[0]


def test_without_matplotlib_a_page_is_written_and_the_plots_are_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(plots, "missing", lambda: plots.HOW)
    (tmp_path / "run.json").write_text(json.dumps(plotted_run()))
    (tmp_path / "page.md").write_text(f"{table.BEGIN}\n{table.END}\n")
    assert suite.main(["table", str(tmp_path / "run.json"), "--write", str(tmp_path / "page.md")]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out
    assert "### core" in (tmp_path / "page.md").read_text()
    with pytest.raises(SystemExit, match="2"):
        suite.main(["plot", str(tmp_path / "run.json"), "--to", str(tmp_path)])


def test_a_page_says_when_others_were_using_the_machine():
    quiet = plotted_run()
    assert table.BUSY not in table.page(quiet)
    assert table.BUSY in table.page({**quiet, "load_average": [3.0, 2.0, 1.0]})


def test_a_page_names_the_command_but_not_where_it_wrote():
    assert table.command_of(["core", "--json", "/tmp/new.json", "--rounds", "9"]) == "python -m bench core --rounds 9"
    assert table.command_of([]) == "python -m bench"


def test_points_of_one_x_are_one_point_in_rising_order():
    assert plots.gathered([(5, [1]), (1, [2]), (5, [3, 4])]) == [(1, [2]), (5, [1, 3, 4])]


def test_riskwire_has_its_colour_and_each_line_of_a_system_its_kind():
    assert plots.looks(["libzmq p50", "riskwire p50", "riskwire, p99"]) == [("C1", "-"), ("C0", "-"), ("C0", "--")]


def test_published_figures_name_their_source():
    assert {each.system for each in published.FIGURES} >= {"exchange-core", "LMAX Disruptor"}
    assert all(each.source.startswith("https://") for each in published.FIGURES)


# --- the gate -----------------------------------------------------------------------------------------------------


def test_the_gate_fails_beyond_five_percent_of_the_baseline():
    baseline = {"door and core": 1_000.0, "door": 400.0, "core": 600.0}
    assert gate.compare({**baseline, "core": 629.0}, baseline) == []
    grown = gate.compare({**baseline, "core": 631.0}, baseline)
    assert len(grown) == 1
    assert "core: 631 instructions a trade, the baseline has 600 (+5.2%" in grown[0]


def test_the_gate_is_skipped_aloud_where_it_cannot_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(gate.shutil, "which", lambda name: None)
    assert gate.main([]) == 0
    assert "SKIPPED" in capsys.readouterr().out
    monkeypatch.setattr(gate.shutil, "which", lambda name: "/usr/bin/valgrind")
    monkeypatch.setattr(gate, "BASELINE", tmp_path / "none.json")
    monkeypatch.setattr(gate, "compiler", lambda: "gcc 1")
    assert gate.main([]) == 0
    assert "SKIPPED" in capsys.readouterr().out


def test_the_committed_baseline_has_every_part():
    for counts in json.loads(gate.BASELINE.read_text()).values():
        assert set(counts) == set(gate.PARTS)
        assert counts["door"] + counts["core"] == pytest.approx(counts["door and core"], abs=0.3)


def test_an_unknown_group_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        suite.parse(["nothing"])
    assert "no group 'nothing'" in capsys.readouterr().err


def test_a_compiled_function_belongs_to_its_module():
    names = ("7windows_window_add", "4risk_8RiskCore_fold", "rw_crc32c_three", "__memcpy_avx_unaligned_erms")
    assert [gate.module_of(name) for name in names] == ["windows", "risk", "crc32c", "libc and the interpreter"]
