"""Log lines of a running engine: time, level, part, what happened, and fields as name=value (or all of it as JSON)."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

__all__ = ["LEVELS", "Formatter", "start_logging"]

LEVELS: Final = ("debug", "info", "warning", "error")
_ROOT: Final = "riskwire"
_KNOWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


class Formatter(logging.Formatter):
    """`2026-11-25T09:20:11.123456Z WARNING snapshots: snapshot skipped path=… reason="…"`, or a JSON object a line."""

    def __init__(self, as_json: bool = False) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return one line; of an exception, its last line is the field `error`."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        part = record.name.removeprefix(f"{_ROOT}.")
        fields = {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        text = record.getMessage().replace("\n", " ")
        if self._as_json:
            line = {"time": at, "level": record.levelname.lower(), "part": part, "message": text, **fields}
            return _encode(line).decode()
        return " ".join((at, record.levelname, f"{part}:", text, *(f"{n}={_shown(v)}" for n, v in fields.items())))


def _shown(value: Any) -> str:
    text = str(value)
    plain = text and all(char.isprintable() and char not in ' "=' for char in text)
    return text if plain else _encode(text).decode()


def start_logging(level: str = "info", as_json: bool = False, stream: TextIO | None = None) -> None:
    """Write log lines of this level and above to a stream (stderr), in place of where they went before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(Formatter(as_json))
    root = logging.getLogger(_ROOT)
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    root.propagate = False
