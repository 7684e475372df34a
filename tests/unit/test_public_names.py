"""`from engine import …`: the public names, imported when they are used."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import engine


@pytest.mark.parametrize("name", engine.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(importlib.import_module("engine"), name) is not None
    assert name in dir(engine)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(str(engine.__file__)).read_text())
    seen = {"__version__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("engine."):
            for alias in node.names:
                assert engine._MODULE_OF[alias.name] == node.module
                seen.add(alias.name)
    assert seen == set(engine.__all__) == {*engine._MODULE_OF, "__version__"}


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = engine.nonsense
