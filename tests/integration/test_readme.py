"""README.md keeps its word: its limits are valid, and its Python does what the text says."""

from __future__ import annotations

import ast
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import ROOT, environment, riskwire, start

README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """Return the first code block of a language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no {language} block"
    return found[1]


@pytest.fixture
def engine_base(tmp_path: Path) -> Iterator[str]:
    """The address of an engine that serves the README's limits."""
    (tmp_path / "limits.toml").write_text(block("toml"))
    base = f"ipc://{tmp_path}/engine"
    process = start("serve", "--base", base, "--limits", "limits.toml", cwd=tmp_path)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"ready {base}\n"
        yield base
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, ""), out
    finally:
        process.kill()
        process.communicate()


def test_limits_of_the_readme_are_valid(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(block("toml"))
    assert len(tomllib.loads(block("toml"))["limit"]) == 2
    assert riskwire("limits", "check", "limits.toml", cwd=tmp_path).code == 0


def test_python_of_the_readme_publishes_hears_and_asks(engine_base: str, tmp_path: Path) -> None:
    address = "ipc:///tmp/riskwire"
    python = block("python")
    assert address in python
    done = subprocess.run(
        [sys.executable, "-c", python.replace(address, engine_base)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    alert, positions = done.stdout.splitlines()
    assert alert == "breach btc-position MM1 150"
    (row,) = ast.literal_eval(positions)
    assert (row["account"], row["symbol"], row["quantity"]) == ("MM1", "BTCUSDT", "150")


def test_every_command_named_in_the_readme_exists() -> None:
    from engine.cli.main import COMMANDS

    named = set(re.findall(r"\briskwire ([a-z]+)", README)) - {"is", "will", "and"}
    assert named - set(COMMANDS) == set()


def test_every_file_linked_in_the_readme_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
