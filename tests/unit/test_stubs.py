"""Each compiled module has a stub; what it names is there, and a class has no public member that it does not name."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

EXT = Path(__file__).resolve().parents[2] / "ext"
FOR_CYTHON = {"RiskCore": {"book", "compile_limits", "instruments", "limits"}}  # seen by other modules of ext only
MODULES = sorted(path.stem for path in EXT.glob("*.pyx"))


def is_public(name: str) -> bool:
    return not name.startswith("_")


def members(node: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    """Return the public names that a stub, or a class in it, defines."""
    found: dict[str, ast.stmt] = {}
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
    return {name: statement for name, statement in found.items() if is_public(name)}


def is_protocol(statement: ast.stmt) -> bool:
    """Tell whether a stub's class only describes what a caller gives."""
    return isinstance(statement, ast.ClassDef) and any(ast.unparse(base) == "Protocol" for base in statement.bases)


@pytest.mark.parametrize("name", MODULES)
def test_what_a_stub_says_is_in_the_compiled_module(name: str) -> None:
    stub = members(ast.parse((EXT / f"{name}.pyi").read_text()))
    module = importlib.import_module(f"ext.{name}")
    for public, statement in stub.items():
        if is_protocol(statement):
            continue
        assert hasattr(module, public), f"the stub has {public}, ext.{name} has not"
        kind = getattr(module, public)
        if isinstance(statement, ast.ClassDef) and not issubclass(kind, Exception):
            runtime = {each for each in vars(kind) if is_public(each)} - FOR_CYTHON.get(public, set())
            assert runtime == members(statement).keys(), public
