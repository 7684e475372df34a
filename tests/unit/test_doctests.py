"""What docstrings show is what happens."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from engine.risk import RiskEngine

ROOT = Path(__file__).resolve().parents[2]
SHOWN = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in ("engine", "feeds")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", SHOWN)
def test_examples_in_docstrings_come_out_as_shown(name: str) -> None:
    # Some need a running engine and say so (+SKIP).
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_the_library_face_shows_how_each_part_is_used() -> None:
    shown = [RiskEngine, *(getattr(RiskEngine, name) for name in ("apply", "apply_many", "apply_array", "set_limits"))]
    shown += [getattr(RiskEngine, name) for name in ("positions", "positions_array", "new_alerts")]
    assert [part for part in shown if ">>> " not in (part.__doc__ or "")] == []
