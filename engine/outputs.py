"""Files that a replay writes: positions and alerts. The format is decided, and the path tried, before anything runs."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from engine.alertframes import decode_alerts
from engine.errors import OutputError
from ext.report import ALERT_FIELDS, POSITION_FIELDS, alerts_to_jsonl
from ext.risk import RiskCore

POSITION_FORMATS: Final = (".json", ".csv", ".parquet")
ALERT_FORMATS: Final = (".jsonl", ".parquet")
PARQUET_ROWS: Final = 65_536

Row = Mapping[str, Any]


class OutputFile:
    """A file that appears whole or not at all: written under a temporary name beside it, then renamed.

    path: where it shall be. what: `positions` or `alerts`, for messages. formats: extensions allowed.
    Raises OutputError at once for an extension that is none of these and for a path that cannot be written.
    """

    def __init__(self, path: str | Path, what: str, formats: Sequence[str]) -> None:
        self.path = Path(path)
        self.format = self.path.suffix.lower()
        if self.format not in formats:
            raise OutputError(f"{path}: {what} cannot be written as {self.format or 'a file without extension'!r}; "
                              f"expected a name ending in {', '.join(formats)}")  # fmt: skip
        if self.path.is_dir():
            raise OutputError(f"{path}: is a directory; name the {what} file in it")
        if self.format == ".parquet":
            _pyarrow(path)
        temporary = self.path.with_name(f".{self.path.name[:64]}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            temporary.open("xb").close()
        except OSError as problem:
            raise OutputError(f"{path}: {what} cannot be written: {problem.strerror}; choose another path") from None
        self._temporary: Path | None = temporary

    def write(self, fill: Callable[[IO[bytes]], object]) -> None:
        """Fill the file and put it in its place. Raises OutputError where the disk does not take it."""
        assert self._temporary is not None, "written before"
        try:
            with open(self._temporary, "wb") as file:
                fill(file)
            os.replace(self._temporary, self.path)
            self._temporary = None
        except OSError as problem:
            raise OutputError(f"{self.path}: cannot be written: {problem.strerror}") from None

    def discard(self) -> None:
        """Remove the temporary file, if the output was not written."""
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None


def positions_file(path: str | Path) -> OutputFile:
    """Check and return the place for positions: .json, .csv or .parquet."""
    return OutputFile(path, "positions", POSITION_FORMATS)


def alerts_file(path: str | Path) -> OutputFile:
    """Check and return the place for alerts: .jsonl or .parquet."""
    return OutputFile(path, "alerts", ALERT_FORMATS)


def write_positions(file: OutputFile, core: RiskCore) -> None:
    """Write a core's positions in the file's format."""
    if file.format == ".json":
        file.write(lambda out: core.write_positions_json(out.write))
    elif file.format == ".csv":
        file.write(lambda out: core.write_positions_csv(out.write))
    else:
        file.write(lambda out: _write_parquet(out, POSITION_FIELDS, [core.positions()], {"trades"}))


def write_alerts(file: OutputFile, frames: Iterable[bytes]) -> None:
    """Write alerts, given as alert frames in order, in the file's format."""
    if file.format == ".jsonl":
        file.write(lambda out: out.writelines(map(alerts_to_jsonl, frames)))
    else:
        batches = ([msgspec.to_builtins(alert) for alert in decode_alerts(frame)] for frame in frames)
        file.write(lambda out: _write_parquet(out, ALERT_FIELDS, batches, {"alert_no", "seq", "executed_at"}))


def _write_parquet(
    out: IO[bytes], columns: Sequence[str], batches: Iterable[Sequence[Row]], integers: set[str]
) -> None:
    pa, pq = _pyarrow("")
    schema = pa.schema([(name, pa.int64() if name in integers else pa.string()) for name in columns])
    with pq.ParquetWriter(out, schema) as writer:
        for batch in batches:
            for start in range(0, len(batch), PARQUET_ROWS):
                part = batch[start : start + PARQUET_ROWS]
                writer.write_table(pa.table({name: [row[name] for row in part] for name in columns}, schema))


def _pyarrow(path: str | Path) -> tuple[Any, Any]:
    try:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError:
        raise OutputError(
            f"{path}: Parquet needs pyarrow, which is not installed; run `pip install 'riskwire[parquet]'`, "
            "or choose .json, .jsonl or .csv"
        ) from None
    return pyarrow, parquet
