"""docs/settings.md shows every setting of an engine, with the default that it has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from engine.config import ENGINE_KEYS, EngineConfig, parse_config

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "settings.md").read_text()
BLOCK = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
SHOWN = re.compile(r"^(?:# )?(\w+) = ", re.MULTILINE)


def test_every_setting_is_shown_once() -> None:
    assert sorted(SHOWN.findall(BLOCK)) == sorted(ENGINE_KEYS)


def test_what_is_shown_as_a_default_is_it() -> None:
    assert parse_config(tomllib.loads(BLOCK)) == EngineConfig()


def test_what_is_commented_out_is_accepted() -> None:
    everything = re.sub(r"^# (\w+ = )", r"\1", BLOCK, flags=re.MULTILINE)
    changed = parse_config(tomllib.loads(everything))
    assert changed.retain_bytes == 10**10
    assert changed.journal == "var/journal"
