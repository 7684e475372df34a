"""What the benchmark suite says about figures: histograms, noise and change, tables, and the gate on instructions."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from bench import __main__ as suite
from bench import compare, gate, table
from bench.histogram import Histogram, highest_of, index_of
from bench.report import MORE, Figure, Report, markdown, ratios, row


def run_of(values: dict[str, list[float]], better: str = "less") -> dict[str, object]:
    report = Report(group="core")
    report.figures = [Figure("core", name, "ns", each, better) for name, each in values.items()]
    return {"commit": "x", **report.to_dict()}


# --- histograms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1, 1_023, 2_047, 2_048, 4_095, 4_096, 1_000_000, 123_456_789_012])
def test_a_value_and_its_bucket_differ_by_a_thousandth_at_most(value: int):
    highest = highest_of(index_of(value))
    assert value <= highest <= value * 1.001
    assert index_of(highest) == index_of(value)
    assert index_of(highest + 1) == index_of(value) + 1


def test_percentiles_are_those_of_the_values():
    values = np.random.default_rng(1).lognormal(10, 1, 20_000).astype(int).tolist()
    histogram = Histogram.of_values(values)
    for percent in (50.0, 90.0, 99.0, 99.9):
        exact = sorted(values)[int(np.ceil(len(values) * percent / 100)) - 1]
        assert histogram.percentile(percent) == pytest.approx(exact, rel=1.1e-3)
    assert histogram.percentile(100.0) == histogram.max_ns == max(values)


def test_an_encoded_histogram_decodes_by_the_published_format():
    histogram = Histogram.of_values([5, 5, 3_000, 70_000_000])
    outer = base64.b64decode(histogram.encode())
    cookie, length = struct.unpack(">ii", outer[:8])
    inner = zlib.decompress(outer[8 : 8 + length])
    assert (cookie & ~0xF0, len(outer)) == (0x1C849304, 8 + length)
    cookie, payload, offset, digits, lowest, _, ratio = struct.unpack(">iiiiqqd", inner[:40])
    assert (cookie & ~0xF0, payload, offset, digits, lowest, ratio) == (0x1C849303, len(inner) - 40, 0, 3, 1, 1.0)
    counts, index, at = {}, 0, 40
    while at < len(inner):
        word = shift = 0
        while True:
            byte = inner[at]
            at += 1
            word |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        count = (word >> 1) ^ -(word & 1)
        if count < 0:
            index -= count
        else:
            counts[index] = count
            index += 1
    assert counts == histogram.counts


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
