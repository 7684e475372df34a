"""The command line as its users run it: a process, its exit code, and what it printed where."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# As from a terminal: a shell gives what it runs in the background a SIGINT that is ignored.
FROM_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
COMMAND = [sys.executable, "-c", FROM_TERMINAL + "import sys; from engine.cli.main import main; sys.exit(main())"]
TIMEOUT_S = 60

HEADER = "trade_id,symbol,price,volume,side,executed_at,account\n"
GOOD_ROW = "T{n},BTCUSDT,100.5,2,buy,1700000000000000000,MM1\n"


class Done(NamedTuple):
    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """Return this environment without what would change the command line's behaviour."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RISKWIRE_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def start(*words: str | Path, cwd: Path, **more: str) -> subprocess.Popen[str]:
    """Start `riskwire words…`; the caller ends it."""
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env=environment(**more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def riskwire(*words: str | Path, cwd: Path, **more: str) -> Done:
    """Run `riskwire words…` to its end."""
    process = start(*words, cwd=cwd, **more)
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return Done(process.returncode, out, err)


def assert_one_line(done: Done) -> None:
    """An error is one line on stderr that a person can act on, and nothing on stdout."""
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("riskwire"), done.err
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
