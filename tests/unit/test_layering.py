"""Imports run one way: engine -> feeds -> ext, and inside engine from the command line down to the words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("engine", "feeds", "ext")
MAY_IMPORT = {"engine": {"engine", "feeds", "ext"}, "feeds": {"feeds", "ext"}, "ext": {"ext"}}

# Inside engine, a module may import its own layer and those before it; modules not named here are services.
LAYERS = [
    ["errors", "checks", "files"],
    ["events", "config", "limitset", "reference", "endpoints", "wire", "codec", "alertframes"],
    ["publisher", "subscriber", "eventstream", "journal", "journalindex", "client"],
    ["services"],
    ["runtime", "replay"],
    ["cli"],
]
SERVICES = 3
CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import|c?import\s+([\w.]+))", re.MULTILINE)


def python_files(package: str) -> list[Path]:
    return sorted(path for path in (ROOT / package).rglob("*.py*") if path.suffix in (".py", ".pyi"))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import, also those inside functions and under TYPE_CHECKING."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def layer_of(dotted: str) -> int:
    part = dotted.split(".")[1]
    return next((i for i, names in enumerate(LAYERS) if part in names), SERVICES)


def is_module_of_engine(dotted: str) -> bool:
    name = dotted.split(".")[1] if "." in dotted else "?"
    return (ROOT / "engine" / f"{name}.py").exists() or (ROOT / "engine" / name / "__init__.py").exists()


def check(path: Path, imports: Iterator[tuple[int, str]]) -> list[str]:
    """Return what a file imports against the rules, as `file:line: name: why`."""
    own = path.relative_to(ROOT).parts[0]
    found = []
    for line, name in imports:
        top = name.split(".")[0]
        place = f"{path.relative_to(ROOT)}:{line}: {name}"
        if top in ("bench", "tests"):
            found.append(f"{place}: nothing imports {top}")
        elif top in PACKAGES and top not in MAY_IMPORT[own]:
            found.append(f"{place}: {own} does not import {top}")
        elif top == own == "engine" and not allowed_inside_engine(path, name):
            found.append(f"{place}: imports run from cli to runtime to services to the stream's ends to the words")
    return found


def allowed_inside_engine(path: Path, name: str) -> bool:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    if module == "engine.__init__":  # the public face, which imports each name when it is used
        return True
    if not is_module_of_engine(name):  # `import engine`: only the command line may use the public face
        return module.startswith("engine.cli.")
    return layer_of(name) <= layer_of(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_python_imports_run_one_way(package: str) -> None:
    files = python_files(package)
    assert files, f"no files found in {package}"
    assert [fault for path in files for fault in check(path, imports_of(path))] == []


def test_cython_core_imports_only_itself() -> None:
    files = sorted(path for path in (ROOT / "ext").iterdir() if path.suffix in (".pyx", ".pxd"))
    assert files
    faults = []
    for path in files:
        text = path.read_text()
        for match in CYTHON_IMPORT.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            faults += check(path, iter([(line, match[1] or match[2])]))
    assert faults == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ext/records.pyi", "import engine.errors"),
        ("feeds/csv.py", "from engine.events import TradeExecuted"),
        ("engine/config.py", "from engine.broker import Broker"),
        ("engine/errors.py", "import engine.events"),
        ("engine/runtime.py", "from engine.cli import output"),
        ("engine/cli/demo.py", "import tests.unit"),
        ("engine/risk.py", "def f():\n    from engine import cli"),
    ],
)
def test_import_against_the_rule_is_found(
    file: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("engine/events.py", "engine/broker.py", "engine/errors.py", "engine/cli/__init__.py", file):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line if name == file else "")
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert len(check(tmp_path / file, imports_of(tmp_path / file))) == 1
