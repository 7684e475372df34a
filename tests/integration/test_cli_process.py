"""The command line as a process: start-up, pipes, and what it leaves alone."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_process import COMMAND, FROM_TERMINAL, ROOT, environment, riskwire

HEAVY = ("zmq", "numpy", "msgspec", "uvloop", "sqlite3", "asyncio", "pyarrow", "ext.records")
HELP_MAX_S = 0.2


def test_help_imports_no_service(tmp_path: Path) -> None:
    code = (
        "import sys; from engine.cli.main import main; main(['--help']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stderr == "[]\n"


def test_importing_engine_imports_no_library(tmp_path: Path) -> None:
    code = f"import sys, engine; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_start_is_not_searched_for_garbage_and_what_follows_is(tmp_path: Path) -> None:
    code = """
import gc, engine
def state():
    return sum(each["collections"] for each in gc.get_stats()), gc.get_threshold(), len(gc.callbacks)
gc.collect()
before = state()
import engine.cli.main, engine.replay
started = state()
gc.collect(0)
after = state()
assert started[0] == before[0], (before, started)
assert after == (before[0] + 1, *before[1:]), (before, after)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_comes_at_once(tmp_path: Path) -> None:
    """Processor time, not wall time: the machine may be busy with other tests."""
    used_s = []
    for _ in range(5):
        before = os.times()
        assert riskwire("--help", cwd=tmp_path).code == 0
        after = os.times()
        used_s.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(used_s) <= HELP_MAX_S


def test_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "--help"], cwd=tmp_path, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words",
    [["positions"], ["status"], ["alerts"], ["kill", "MM1"], ["release", "MM1"], ["session", "start", "day"]],
    ids=" ".join,
)
def test_unreachable_engine_is_one_line_and_exit_code_1(words: list[str], tmp_path: Path) -> None:
    started = time.monotonic()
    done = riskwire(*words, "--wait", "200ms", cwd=tmp_path, RISKWIRE_CONNECT=f"ipc://{tmp_path}/none")
    assert done.code == 1
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert f"ipc://{tmp_path}/none" in done.err
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "base", ["nonsense", "ipc://", "tcp://127.0.0.1", "udp://127.0.0.1:7400", "tcp://10.1.2.3:7400"]
)
def test_unusable_endpoint_is_exit_code_2(base: str, tmp_path: Path) -> None:
    done = riskwire("status", "--connect", base, "--wait", "0", cwd=tmp_path)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert base in done.err


def test_checkout_is_not_needed_in_the_working_directory(tmp_path: Path) -> None:
    assert not tmp_path.is_relative_to(ROOT)
    assert riskwire("--version", cwd=tmp_path).out.startswith("riskwire ")


def test_ctrl_c_while_the_program_is_imported_is_answered_as_later(tmp_path: Path) -> None:
    """The first library that it imports is one that a Ctrl-C comes in."""
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    code = FROM_TERMINAL + first + "from engine.cli.start import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "riskwire: interrupted\n")


def test_the_console_script_is_the_one_that_answers_it() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="riskwire")
    assert script.value == "engine.cli.start:main"
