"""`riskwire replay` as a contract: its summary, its files, its exit codes."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_process import COMMAND, GOOD_ROW, HEADER, environment, riskwire, start

SUMMARY_KEYS = [
    "trades_read",
    "accepted",
    "duplicates",
    "dead_letters",
    "alerts",
    "first_seq",
    "last_seq",
    "elapsed_s",
    "trades_per_s",
    "dead_letters_path",
]
POSITION_KEYS = [
    "account",
    "symbol",
    "quantity",
    "avg_price",
    "realized_pnl",
    "unrealized_pnl",
    "fees",
    "last_price",
    "trades",
]
ALERT_KEYS = [
    "alert_no",
    "seq",
    "limit_id",
    "kind",
    "severity",
    "account",
    "symbol",
    "venue",
    "strategy",
    "value",
    "threshold",
    "utilization",
    "trade_id",
    "executed_at",
]
LIMITS = '[[limit]]\nid = "position"\nkind = "max_position"\nper = ["account", "symbol"]\nthreshold = "10"\n'
ROWS = """\
T1,BTCUSDT,100,6,buy,1700000000000000000,MM1
T2,BTCUSDT,110,6,buy,1700000000000000001,MM1
T2,BTCUSDT,110,6,buy,1700000000000000001,MM1
T2,BTCUSDT,111,6,buy,1700000000000000001,MM1
T3,ETHUSDT,20,-1,buy,1700000000000000002,MM1
T4,ETHUSDT,20.50,3,sell,1700000000000000003,A2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trades.csv").write_text(HEADER + ROWS)
    (tmp_path / "limits.toml").write_text(LIMITS)
    return tmp_path


def test_json_summary_has_its_keys_and_adds_up(folder: Path) -> None:
    done = riskwire("replay", "trades.csv", "--limits", "limits.toml", "--json", cwd=folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    summary = json.loads(done.out)
    assert list(summary) == SUMMARY_KEYS
    assert (summary["trades_read"], summary["accepted"]) == (6, 3)
    assert (summary["duplicates"], summary["dead_letters"]) == (1, 2)
    assert summary["alerts"] == 2 - 1
    assert (summary["first_seq"], summary["last_seq"]) == (2, 4)  # the limits are seq 1
    assert Path(summary["dead_letters_path"]).exists()
    assert summary["trades_per_s"] == pytest.approx(6 / summary["elapsed_s"], rel=0.01)


def test_files_have_their_rows(folder: Path) -> None:
    files = ["--positions", "out.json", "--alerts", "alerts.jsonl"]
    assert riskwire("replay", "trades.csv", "--limits", "limits.toml", *files, "--json", cwd=folder).code == 0
    rows = json.loads((folder / "out.json").read_text())
    assert [list(row) for row in rows] == [POSITION_KEYS] * 2
    assert rows[0] == {
        "account": "A2",
        "symbol": "ETHUSDT",
        "quantity": "-3",
        "avg_price": "20.5",
        "realized_pnl": "0",
        "unrealized_pnl": "0",
        "fees": "0",
        "last_price": "20.5",
        "trades": 1,
    }
    assert (rows[1]["quantity"], rows[1]["avg_price"], rows[1]["unrealized_pnl"]) == ("12", "105", "60")
    (alert,) = map(json.loads, (folder / "alerts.jsonl").read_text().splitlines())
    assert list(alert) == ALERT_KEYS
    assert alert == {
        "alert_no": 1,
        "seq": 3,
        "limit_id": "position",
        "kind": "max_position",
        "severity": "breach",
        "account": "MM1",
        "symbol": "BTCUSDT",
        "venue": "*",
        "strategy": "*",
        "value": "12",
        "threshold": "10",
        "utilization": "1.2",
        "trade_id": "T2",
        "executed_at": 1700000000000000001,
    }


def test_positions_as_csv_say_the_same_as_json(folder: Path) -> None:
    for name in ("out.json", "out.csv"):
        assert riskwire("replay", "trades.csv", "--positions", name, "--json", cwd=folder).code == 0
    with open(folder / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == POSITION_KEYS
    expected = json.loads((folder / "out.json").read_text())
    assert rows == [{name: str(value) for name, value in row.items()} for row in expected]


def test_parquet_says_the_same_as_json(folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for names in (["out.json", "alerts.jsonl"], ["out.parquet", "alerts.parquet"]):
        options = ["--limits", "limits.toml", "--positions", names[0], "--alerts", names[1]]
        assert riskwire("replay", "trades.csv", *options, "--json", cwd=folder).code == 0
    assert parquet.read_table(folder / "out.parquet").to_pylist() == json.loads((folder / "out.json").read_text())
    lines = (folder / "alerts.jsonl").read_text().splitlines()
    assert parquet.read_table(folder / "alerts.parquet").to_pylist() == [json.loads(line) for line in lines]


def test_two_replays_give_the_same_bytes(folder: Path) -> None:
    outputs = []
    for number in (1, 2):
        names = [f"out{number}.json", f"alerts{number}.jsonl"]
        options = ["--limits", "limits.toml", "--positions", names[0], "--alerts", names[1]]
        assert riskwire("replay", "trades.csv", *options, "--json", cwd=folder).code == 0
        outputs.append([(folder / name).read_bytes() for name in names])
    assert outputs[0] == outputs[1]


def test_feed_without_events_has_no_seqs(tmp_path: Path) -> None:
    (tmp_path / "trades.csv").write_text(HEADER)
    done = riskwire("replay", "trades.csv", "--json", "--positions", "out.json", cwd=tmp_path)
    summary = json.loads(done.out)
    assert done.code == 0
    assert (summary["trades_read"], summary["first_seq"], summary["last_seq"]) == (0, None, None)
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_journal_is_continued_and_replayed(folder: Path) -> None:
    first = json.loads(riskwire("replay", "trades.csv", "--journal", "j", "--json", cwd=folder).out)
    again = json.loads(riskwire("replay", "trades.csv", "--journal", "j", "--json", cwd=folder).out)
    assert (again["accepted"], again["duplicates"]) == (0, first["accepted"] + first["duplicates"])
    assert (again["first_seq"], again["last_seq"]) == (None, None)
    assert Path(folder / "j" / "dead-letters.db").exists()
    options = ["--positions", "from-journal.json", "--json"]
    journal = json.loads(riskwire("replay", "j", *options, cwd=folder).out)
    assert journal["accepted"] == first["accepted"]
    rows = json.loads((folder / "from-journal.json").read_text())
    assert [row["account"] for row in rows] == ["A2", "MM1"]


def test_people_get_tables_without_colours_in_a_pipe(folder: Path) -> None:
    done = riskwire("replay", "trades.csv", "--limits", "limits.toml", cwd=folder)
    assert (done.code, done.err) == (0, "")
    assert "\x1b" not in done.out
    assert re.search(r"^trades read +6$", done.out, re.MULTILINE)
    assert "conflicting_duplicate" in done.out
    assert re.search(r"^total ", done.out, re.MULTILINE)


def test_a_dash_is_standard_input(tmp_path: Path) -> None:
    """A file of that name has to be told by its folder."""
    (tmp_path / "-").write_text(HEADER)
    rows = HEADER + "".join(GOOD_ROW.format(n=n) for n in range(1_000))
    done = subprocess.run(
        [*COMMAND, "replay", "-", "--json"],
        cwd=tmp_path,
        env=environment(),
        input=rows,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accepted"] == 1_000
    assert json.loads(riskwire("replay", "./-", "--json", cwd=tmp_path).out)["accepted"] == 0


def test_ctrl_c_in_the_middle_gives_a_summary_and_130(tmp_path: Path) -> None:
    """The feed is a pipe that stays open, so the replay is in its middle for certain."""
    pipe = tmp_path / "trades.csv"
    os.mkfifo(pipe)
    process = start("replay", pipe, "--format", "csv", "--journal", "j", "--json", cwd=tmp_path)
    try:
        with open(pipe, "w") as feed:
            feed.write(HEADER + "".join(GOOD_ROW.format(n=n) for n in range(100_000)))
            feed.flush()
            wait_for_journal(tmp_path / "j", process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    summary = json.loads(out)
    assert list(summary) == SUMMARY_KEYS
    assert summary["trades_read"] == summary["accepted"] > 0


def wait_for_journal(folder: Path, process: object) -> None:
    """Wait until something was accepted: the journal holds frames."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if folder.exists() and any(b"RWF1" in path.read_bytes() for path in folder.iterdir() if path.is_file()):
            return
        time.sleep(0.02)
    pytest.fail("nothing was accepted within 30 s")


BROKEN_REFERENCE = """
import sys
from engine.cli.main import main
from engine.oracle import Oracle
fill = Oracle._fill
def wrong(oracle, *given):
    made = fill(oracle, *given)
    made.fee += oracle.seq == 3
    return made
Oracle._fill = wrong
sys.exit(main())
"""


def test_verify_exits_1_at_the_first_difference_and_names_seq_and_field(tmp_path: Path) -> None:
    feed = tmp_path / "trades.csv"
    feed.write_text(HEADER + "".join(GOOD_ROW.format(n=n) for n in range(1, 9)))
    done = riskwire("replay", feed, "--verify", "--json", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    command = [sys.executable, "-c", BROKEN_REFERENCE, "replay", str(feed), "--verify", "--json"]
    broken = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert broken.returncode == 1
    assert len(broken.stderr.splitlines()) == 1
    assert "seq 3: position MM1/BTCUSDT: fees: the core has '0', the reference '0.000000001'" in broken.stderr
