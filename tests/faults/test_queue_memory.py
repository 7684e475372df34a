"""What waiting jobs cost: a seq each where an order must be kept, and nothing where none is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))
from cli_process import environment

BYTES_MAX = 32
READ_AHEAD_MAX = 20_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("jobs", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.nightly)])
def test_a_waiting_job_costs_no_more_than_32_bytes(jobs: int) -> None:
    program = Path(__file__).with_name("queue_memory.py")
    done = subprocess.run(
        [sys.executable, str(program), str(jobs)], env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    bytes_a_job, read_ahead = map(float, done.stdout.split())
    assert bytes_a_job <= BYTES_MAX
    assert read_ahead <= READ_AHEAD_MAX
