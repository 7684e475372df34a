"""Joining an engine whose journal has lost its beginning: its newest snapshot with all trades, piece by piece."""

from __future__ import annotations

import mmap
import tempfile
from typing import IO, Any, Final

import zmq

from engine.client import EngineClient
from engine.errors import RiskwireError
from ext.risk import RiskCore
from ext.snapshot import load

TRIES: Final = 5  # a newer one may take its place while it is being read


class SnapshotGone(RiskwireError):
    """The snapshot that was being fetched has been replaced by a newer one."""


def fetch_core_of(base: str, context: zmq.Context[Any] | None = None) -> RiskCore:
    """Return a core with the newest snapshot of the engine at a base that has its trades in it.

    Raises EngineUnreachable, RequestRefused where the engine has none, SnapshotError where it is one of another build.
    """
    with EngineClient(base, context=context, insecure=True) as client, tempfile.TemporaryFile() as file:
        for _ in range(TRIES):
            try:
                _fetch(client, file)
                break
            except SnapshotGone:
                continue
        else:
            raise RiskwireError(f"the snapshots at {base} are replaced faster than they can be fetched")
        core = RiskCore()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            load(core, content)
        return core


def _fetch(client: EngineClient, file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()
    answer = client.request("snapshot")
    name, size = answer["name"], answer["size"]
    while True:
        file.write(answer["data"])
        if file.tell() >= size:
            file.flush()
            return
        answer = client.request("snapshot", name=name, offset=file.tell())
        if answer["name"] != name:
            raise SnapshotGone(name)
