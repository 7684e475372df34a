"""What is shipped works where it is installed: an sdist, a wheel made from it, a fresh environment, a replay."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND_MAX_S = 600
pytestmark = pytest.mark.timeout(2 * COMMAND_MAX_S)  # a wheel may have to be compiled, on a busy machine
PACKAGES = ("engine", "feeds", "ext")
NOT_COPIED = shutil.ignore_patterns(".venv*", ".git", "__pycache__", "*.egg-info", "dist", ".hypothesis", "temp.*")
IMPORT_NAMES = {"pyzmq": "zmq"}
FOR_DEVELOPERS = ("test", "bench", "dev")

TRADES = """\
trade_id,symbol,price,volume,side,executed_at,account
T1,BTCUSDT,100,6,buy,1700000000000000000,MM1
T2,BTCUSDT,110,6,buy,1700000000000000001,MM1
T2,BTCUSDT,110,6,buy,1700000000000000001,MM1
T3,BTCUSDT,105,-1,buy,1700000000000000002,MM1
"""
LIMITS = """\
[[limit]]
id = "position"
kind = "max_position"
per = ["account", "symbol"]
threshold = "10"
"""


def run(command: list[str | Path], cwd: Path) -> str:
    """Run a command without what the caller's environment says about Python; return what it printed."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=COMMAND_MAX_S)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    """Call the build backend as pip does, with the setuptools and Cython that are here; return the file."""
    out.mkdir(exist_ok=True)
    code = f"import sys; from setuptools.build_meta import build_{kind} as build; build(sys.argv[1])"
    run([sys.executable, "-c", code, out], source)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_COPIED, symlinks=True)
    return build("sdist", folder / "checkout", folder / "out")


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(sdist, folder)
    (source,) = folder.iterdir()
    return source


@pytest.fixture(scope="module")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel from the unpacked sdist. What is compiled already is lent to it, so that nothing is compiled twice."""
    if (ROOT / "build").exists():
        shutil.copytree(ROOT / "build", unpacked / "build")
        for path in (ROOT / "ext").glob("*.c"):
            shutil.copy2(path, unpacked / "ext")
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel") / "out")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment, outside the checkout, that holds the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=True)
    run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", wheel], folder)
    return folder / "bin"


def test_sdist_holds_every_source(unpacked: Path) -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in (".py", ".pyx", ".pxd", ".pyi", ".h", ".typed"):
                assert (unpacked / path.relative_to(ROOT)).exists(), path
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "docs/architecture.md"):
        assert (unpacked / name).exists(), name
    assert [path for path in unpacked.rglob("*.so") if "build" not in path.parts] == []


def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    for path in (ROOT / "ext").glob("*.pyx"):
        assert any(re.fullmatch(rf"ext/{path.stem}\.[^/]*so", name) for name in names), path.stem
    assert [name for name in names if name.endswith((".c", ".pyc"))] == []


def test_installed_wheel_replays_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "trades.csv").write_text(TRADES)
    (tmp_path / "limits.toml").write_text(LIMITS)
    where = run([installed / "python", "-c", "import engine, ext, feeds; print(engine.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    options = ["--limits", "limits.toml", "--positions", "out.json", "--alerts", "alerts.jsonl", "--json"]
    summary = json.loads(run([installed / "riskwire", "replay", "trades.csv", *options], tmp_path))
    assert (summary["trades_read"], summary["accepted"]) == (4, 2)
    assert (summary["duplicates"], summary["dead_letters"], summary["alerts"]) == (1, 1, 1)
    (position,) = json.loads((tmp_path / "out.json").read_text())
    assert (position["quantity"], position["avg_price"]) == ("12", "105")
    (alert,) = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert json.loads(alert)["trade_id"] == "T2"


def test_installed_wheel_is_in_good_health(installed: Path, tmp_path: Path) -> None:
    report = json.loads(run([installed / "riskwire", "doctor", "--json"], tmp_path))
    assert report["ok"], report
    assert run([installed / "riskwire", "--version"], tmp_path).startswith("riskwire ")


@pytest.mark.nightly
def test_sdist_compiles_from_nothing(sdist: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(sdist, tmp_path)
    (source,) = tmp_path.iterdir()
    assert build("wheel", source, tmp_path / "out").suffix == ".whl"


def third_party_imports() -> Iterator[tuple[str, str]]:
    """Yield (top-level name, file) of every import of a package that is neither ours nor Python's."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    names = [node.module]
                for top in {name.split(".")[0] for name in names} - set(PACKAGES) - sys.stdlib_module_names:
                    yield top, str(path.relative_to(ROOT))


def test_everything_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + [line for name in extras if name not in FOR_DEVELOPERS for line in extras[name]]
    declared = {match[0] for line in lines if (match := re.match(r"[\w-]+", line))}
    known = {IMPORT_NAMES.get(name, name) for name in declared}
    assert [(name, path) for name, path in third_party_imports() if name not in known] == []
