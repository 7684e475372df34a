"""Feeds through the command line: what is chosen, what is refused, and what a FIX bust does to a position."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

RISKWIRE = Path(sys.executable).parent / "riskwire"
T0 = 1_700_000_000_000_000_000


def riskwire(*arguments: object, code: int = 0) -> str:
    done = subprocess.run([RISKWIRE, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    path = tmp_path / "trades.csv"
    rows = [f"T{i},SYM{i % 2},{100 + i},1,buy,{T0 + i * 10**9},acct-{i % 3}" for i in range(30)]
    path.write_text("\n".join(["trade_id,symbol,price,volume,side,executed_at,account", *rows]) + "\n")
    return path


def test_a_replay_of_what_was_chosen(trades: Path) -> None:
    chosen = ["--from", "2023-11-14T22:13:30Z", "--to", T0 + 20 * 10**9, "--only-symbol", "SYM1"]
    assert json.loads(riskwire("replay", trades, *chosen, "--json"))["trades_read"] == 5
    chosen += ["--only-account", "acct-[12]", "--max-records", "2"]
    assert json.loads(riskwire("replay", trades, *chosen, "--json"))["trades_read"] == 2


def test_private_trades_are_valued_with_public_prices(trades: Path, tmp_path: Path) -> None:
    marks = tmp_path / "marks.csv"
    marks.write_text(f"symbol,price,executed_at\nSYM0,500,{T0 + 29 * 10**9}\nSYM1,600,{T0 + 40 * 10**9}\n")
    riskwire("replay", trades, "--marks", marks, "--positions", tmp_path / "p.json")
    rows = json.loads((tmp_path / "p.json").read_text())
    assert {(row["symbol"], row["last_price"]) for row in rows} == {("SYM0", "500"), ("SYM1", "600")}


def test_a_bust_in_a_drop_copy_takes_its_fill_back(tmp_path: Path) -> None:
    def report(exec_id: str, more: str) -> bytes:
        body = f"35=8|1=ACC|17={exec_id}|55=XYZ|54=1|60=20240102-14:30:00|{more}|".replace("|", "\1")
        text = f"8=FIX.4.2\0019={len(body)}\1{body}".encode()
        return text + b"10=%03d\1\n" % (sum(text) % 256)

    log = tmp_path / "drop.log"
    log.write_bytes(report("B", "20=0|150=1|31=50|32=5000") + report("E", "19=B|20=1|150=1|31=0|32=0")
                    + report("F", "20=0|150=1|31=51|32=4000"))  # fmt: skip
    riskwire("replay", log, "--positions", tmp_path / "p.json")
    (row,) = json.loads((tmp_path / "p.json").read_text())
    assert (row["quantity"], row["avg_price"], row["realized_pnl"]) == ("4000", "51", "0")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "yesterday"], "expected a time"),
        (["--accounts", "3", "--account", "x"], "give one of both"),
        (["--format", "dbn"], "is no Databento DBN"),
        (["--format", "parquet"], "is no parquet file"),
        (["--map", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(trades: Path, arguments: list[str], said: str) -> None:
    line = riskwire("replay", trades, *arguments, code=2)
    assert said in line
    assert len(line.splitlines()) == 1
