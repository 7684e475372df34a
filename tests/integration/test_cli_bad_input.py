"""Bad input at the command line: what is unusable as a whole ends with 2 and one line, a bad row is a dead letter."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_process import GOOD_ROW, HEADER, assert_one_line, riskwire

LIMIT = '[[limit]]\nid = "a"\nkind = "max_position"\nper = ["symbol"]\nthreshold = "100"\n'


@pytest.fixture
def trades(tmp_path: Path) -> Path:
    path = tmp_path / "trades.csv"
    path.write_text(HEADER + GOOD_ROW.format(n=1))
    return path


def test_directory_as_feed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = riskwire("replay", "folder", cwd=tmp_path)
    assert done.code == 2
    assert_one_line(done)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_feed_without_permission(tmp_path: Path, trades: Path) -> None:
    trades.chmod(0)
    done = riskwire("replay", trades, cwd=tmp_path)
    assert done.code == 2
    assert_one_line(done)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="no such file"),
        pytest.param(b"", id="empty file"),
        pytest.param(bytes(range(256)) * 64, id="binary junk"),
        pytest.param(b"\x1f\x8b\x08" + bytes(40), id="damaged gzip"),
        pytest.param(b"trade_id,symbol,volume,side,executed_at\nT1,A,1,buy,1\n", id="header without price"),
        pytest.param(b"trade_id,symbol,price,volume,executed_at\nT1,A,1,1,1\n", id="no side and no --side"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_unusable_feed(content: bytes | None, as_json: bool, tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    if content is not None:
        path.write_bytes(content)
    done = riskwire("replay", path, *(["--json"] if as_json else []), cwd=tmp_path)
    assert done.code == 2
    assert_one_line(done)
    assert "feed.csv" in done.err


@pytest.mark.parametrize(
    ("toml", "named"),
    [
        ("[[limit]\n", "line 1"),
        (LIMIT + 'treshold = "1"\n', "treshold"),
        (LIMIT.replace("max_position", "max_postion"), "max_postion"),
        (LIMIT.replace('"100"', '"many"'), "many"),
        (LIMIT.replace('"100"', '"-1"'), "threshold"),
        (LIMIT.replace('"100"', "100"), "threshold"),
        (LIMIT + LIMIT, '"a"'),
    ],
    ids=["no TOML", "wrong key", "wrong kind", "no number", "negative", "bare number", "duplicate id"],
)
def test_unusable_limits(toml: str, named: str, tmp_path: Path, trades: Path) -> None:
    (tmp_path / "limits.toml").write_text(toml)
    for words in (["replay", trades, "--limits", "limits.toml"], ["limits", "check", "limits.toml"]):
        done = riskwire(*words, cwd=tmp_path)
        assert done.code == 2
        assert_one_line(done)
        assert "limits.toml" in done.err
        assert named in done.err


@pytest.mark.parametrize(
    "options",
    [
        ["--positions", "out.xml"],
        ["--positions", "out"],
        ["--alerts", "out.csv"],
        ["--positions", "missing/out.json"],
        ["--alerts", "missing/out.jsonl"],
        ["--format", "morse"],
        ["--speed", "fast"],
        ["--side", "up"],
        ["--map", "price"],
        ["--map", "price=nothing"],
        ["--limits", "missing.toml"],
        ["--instruments", "missing.csv"],
        ["--opening", "missing.csv"],
        ["--nonsense"],
    ],
    ids=" ".join,
)
def test_unusable_option(options: list[str], tmp_path: Path, trades: Path) -> None:
    done = riskwire("replay", trades, *options, cwd=tmp_path)
    assert done.code == 2
    assert_one_line(done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trades.csv"]


BAD_ROWS = {
    "negative volume": (b"T2,BTCUSDT,100,-1,buy,1700000000000000000,MM1", "invalid"),
    "zero volume": (b"T2,BTCUSDT,100,0,buy,1700000000000000000,MM1", "invalid"),
    "NaN": (b"T2,BTCUSDT,NaN,1,buy,1700000000000000000,MM1", "invalid"),
    "1e400": (b"T2,BTCUSDT,1e400,1,buy,1700000000000000000,MM1", "overflow"),
    "1_0": (b"T2,BTCUSDT,1_0,1,buy,1700000000000000000,MM1", "invalid"),
    "10 MB line": (b"T2," + b"x" * 10_000_000 + b",100,1,buy,1700000000000000000,MM1", None),
    "10 MB line without a comma": (b"x" * 10_000_000, "undecodable"),
    "invalid UTF-8": (b"T2,BTC\xff\xfe,100,1,buy,1700000000000000000,MM1", "undecodable"),
    "symbol of 300 characters": (b"T2," + b"S" * 300 + b",100,1,buy,1700000000000000000,MM1", "invalid"),
    "a field missing": (b"T2,BTCUSDT,100,1,buy,1700000000000000000", "undecodable"),
    "empty price": (b"T2,BTCUSDT,,1,buy,1700000000000000000,MM1", "invalid"),
    "too precise": (b"T2,BTCUSDT,0.0000000001,1,buy,1700000000000000000,MM1", "precision"),
    "unknown side": (b"T2,BTCUSDT,100,1,up,1700000000000000000,MM1", "invalid"),
}


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row_is_a_dead_letter_with_its_line(row: bytes, reason: str | None, tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    good = [GOOD_ROW.format(n=n).encode() for n in (1, 3)]
    path.write_bytes(HEADER.encode() + good[0] + row + b"\n" + good[1])
    done = riskwire("replay", path, "--dead-letters", "dead.db", "--json", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out)
    assert (summary["trades_read"], summary["accepted"], summary["dead_letters"]) == (3, 2, 1)
    listed = riskwire("dlq", "list", "dead.db", "--json", cwd=tmp_path)
    assert listed.code == 0
    (letter,) = json.loads(listed.out)
    assert letter["position"] == 3
    assert letter["source"].endswith("trades.csv")
    assert letter["reason"] in ({reason} if reason else {"undecodable", "invalid"})
