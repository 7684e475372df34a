"""A running engine from the command line: serve, publish, alerts, positions, status, limits, kill, session."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import GOOD_ROW, HEADER, riskwire, start

LIMITS = '[[limit]]\nid = "position"\nkind = "max_position"\nper = ["account", "symbol"]\nthreshold = "10"\n'
TRADES = 20


class Engine:
    """A served engine: its address, and the folder its commands run in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = f"ipc://{folder}/engine"
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        self.process = start("serve", "--base", self.base, *options, cwd=self.folder)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == f"ready {self.base}\n", line or self.process.communicate()[1]

    def stop(self, with_signal: int = signal.SIGTERM) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(with_signal)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err

    def run(self, *words: str) -> str:
        done = riskwire(*words, cwd=self.folder, RISKWIRE_CONNECT=self.base)
        assert (done.code, done.err) == (0, ""), done
        return done.out


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    (tmp_path / "limits.toml").write_text(LIMITS)
    rows = "".join(GOOD_ROW.format(n=n) for n in range(TRADES))
    (tmp_path / "trades.csv").write_text(HEADER + rows)
    engine = Engine(tmp_path)
    yield engine
    if engine.process is not None:
        engine.process.kill()
        engine.process.communicate()


def test_day_of_an_engine(engine: Engine) -> None:
    engine.start("--limits", "limits.toml", "--journal", "journal")
    published = json.loads(engine.run("publish", "trades.csv", "--json"))
    assert published["accepted"] == TRADES
    again = json.loads(engine.run("publish", "trades.csv", "--json"))
    assert (again["accepted"], again["duplicates"]) == (0, TRADES)
    (position,) = json.loads(engine.run("positions", "--json"))
    assert (position["account"], position["quantity"]) == ("MM1", str(2 * TRADES))
    alerts = [json.loads(line) for line in engine.run("alerts", "--since", "0", "--count", "2", "--json").splitlines()]
    assert [alert["severity"] for alert in alerts] == ["warn", "breach"]
    assert engine.run("alerts", "--since", "0", "--severity", "clear", "--idle", "200ms") == ""
    assert json.loads(engine.run("status", "--json"))
    assert json.loads(engine.run("doctor", "--json"))["ok"]
    assert engine.stop() == (0, "")


def test_alerts_are_those_of_the_replay(engine: Engine) -> None:
    options = ["--limits", "limits.toml", "--alerts", "alerts.jsonl", "--json"]
    assert riskwire("replay", "trades.csv", *options, cwd=engine.folder).code == 0
    replayed = (engine.folder / "alerts.jsonl").read_text()
    engine.start("--limits", "limits.toml", "--journal", "journal")
    engine.run("publish", "trades.csv")
    assert engine.run("alerts", "--since", "0", "--count", str(replayed.count("\n")), "--json") == replayed


def test_steering(engine: Engine) -> None:
    engine.start("--journal", "journal")
    assert json.loads(engine.run("limits", "show", "--json"))["limit"] == []
    assert json.loads(engine.run("limits", "set", "limits.toml", "--json"))["limits"] == 1
    assert "position" in engine.run("limits", "show")
    assert json.loads(engine.run("kill", "MM1", "--json"))["engaged"] is True
    engine.run("publish", "trades.csv")
    killed = json.loads(engine.run("alerts", "--since", "0", "--count", "1", "--json"))
    assert (killed["kind"], killed["account"]) == ("trade_after_kill", "MM1")
    assert json.loads(engine.run("release", "MM1", "--json"))["engaged"] is False
    assert "session day" in engine.run("session", "start", "day")


def test_restart_gives_the_same_positions_and_alerts(engine: Engine) -> None:
    engine.start("--limits", "limits.toml", "--journal", "journal")
    engine.run("publish", "trades.csv")
    alerts = engine.run("alerts", "--since", "0", "--count", "2", "--json")
    before = engine.run("positions", "--json")
    assert engine.stop(signal.SIGINT) == (0, "")
    engine.start("--limits", "limits.toml", "--journal", "journal")
    assert engine.run("positions", "--json") == before
    assert engine.run("alerts", "--since", "0", "--count", "2", "--json") == alerts
    assert engine.stop() == (0, "")


@pytest.mark.parametrize("second", ["same address", "same journal"])
def test_second_serve_is_refused(engine: Engine, second: str) -> None:
    engine.start("--journal", "journal")
    base = engine.base if second == "same address" else f"ipc://{engine.folder}/other"
    journal = "other" if second == "same address" else "journal"
    done = riskwire("serve", "--base", base, "--journal", journal, cwd=engine.folder)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    engine.run("status")


def test_configuration_file_is_used(engine: Engine) -> None:
    config = f'[engine]\nbase = "{engine.base}"\njournal = "journal"\nlimits = "limits.toml"\n'
    (engine.folder / "riskwire.toml").write_text(config)
    engine.process = start("serve", "-c", "riskwire.toml", cwd=engine.folder)
    assert engine.process.stdout is not None
    assert engine.process.stdout.readline() == f"ready {engine.base}\n"
    assert "position" in engine.run("limits", "show")


@pytest.mark.parametrize(
    "options",
    [
        ["--limits", "missing.toml"],
        ["-c", "missing.toml"],
        ["--base", "tcp://10.1.2.3:7400"],
        ["--base", "ipc://" + "x" * 200],
        ["--base", "nonsense"],
        ["--retain-size", "10"],
        ["--retain-age", "0d"],
    ],
    ids=" ".join,
)
def test_unusable_serve_is_exit_code_2(options: list[str], tmp_path: Path) -> None:
    done = riskwire("serve", *options, cwd=tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1), done


def test_stale_is_said_when_the_engine_dies(engine: Engine) -> None:
    engine.start("--limits", "limits.toml")
    engine.run("publish", "trades.csv")
    follower = start("alerts", "--connect", engine.base, "--since", "0", cwd=engine.folder)
    try:
        assert follower.stdout is not None
        assert follower.stderr is not None
        assert "warn" in follower.stdout.readline()
        assert engine.process is not None
        engine.process.kill()
        assert follower.stderr.readline().startswith("STALE")
        follower.send_signal(signal.SIGINT)
        follower.communicate(timeout=60)
        assert follower.returncode == 130
    finally:
        follower.kill()
        follower.communicate()
