"""`riskwire journal`: what it shows can be chosen, and read again with the same result."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from cli_process import riskwire
from engine_rig import write_session

LIMITS_SEQ = 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    write_session(folder, 120)
    options = ["--limits", "limits.toml", "--journal", "j", "--alerts", "alerts.jsonl", "--positions", "p.json"]
    assert riskwire("replay", "trades.csv", *options, cwd=folder).code == 0
    return folder


def dumped(folder: Path, *options: str) -> list[dict[str, str]]:
    done = riskwire("journal", "dump", "j", "--json", *options, cwd=folder)
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_everything_is_dumped_with_its_seq(folder):
    rows = dumped(folder)
    assert [row["seq"] for row in rows] == list(range(1, 122))
    assert rows[0]["type"] == "LimitsChanged"


def test_a_range_of_seqs_is_inclusive(folder):
    assert [row["seq"] for row in dumped(folder, "--since", "5", "--until", "9")] == [5, 6, 7, 8, 9]
    assert [row["seq"] for row in dumped(folder, "--from", "121")] == [121]


def test_times_are_those_of_the_numbering(folder):
    assert dumped(folder, "--until", "2001-01-01T00:00:00Z") == []
    assert len(dumped(folder, "--since", "2001-01-01T00:00:00Z")) == 121


def test_globs_choose_by_symbol_and_account(folder):
    rows = dumped(folder, "--symbol", "S[12]", "--account", "A1")
    assert {(row["symbol"], row["account"]) for row in rows} == {("S1", "A1"), ("S2", "A1")}


def test_a_csv_dump_replays_to_the_same_positions_and_alerts(folder, tmp_path):
    done = riskwire("journal", "dump", "j", "--csv", cwd=folder)
    assert "1 events that are no trades are left out" in done.err
    rows = list(csv.DictReader(done.out.splitlines()))
    assert [row["seq"] for row in rows] == [str(seq) for seq in range(2, 122)]
    (tmp_path / "dump.csv").write_text(done.out)
    limits = str(folder / "limits.toml")
    outputs = ["--alerts", "alerts.jsonl", "--positions", "p.json"]
    assert riskwire("replay", "dump.csv", "--limits", limits, *outputs, cwd=tmp_path).code == 0
    for name in ("alerts.jsonl", "p.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_a_journal_and_its_dump_in_json_replay_to_the_same_bytes(folder, tmp_path):
    outputs = ["--alerts", "alerts.jsonl", "--positions", "p.json"]
    (tmp_path / "dump.jsonl").write_text(riskwire("journal", "dump", "j", "--json", cwd=folder).out)
    for feed in (str(folder / "j"), "dump.jsonl"):
        assert riskwire("replay", feed, *outputs, cwd=tmp_path).code == 0
        for name in ("alerts.jsonl", "p.json"):
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), (feed, name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "yesterday"], "neither a seq nor an ISO 8601 time"),
        (["--csv", "--json"], "choose one"),
    ],
)
def test_bad_usage_is_exit_code_2_and_one_line(folder, options, said):
    done = riskwire("journal", "dump", "j", *options, cwd=folder)
    assert done.code == 2
    assert said in done.err
