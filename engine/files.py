"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["sync", "write_file"]


def write_file(path: Path, head: Iterable[Any], parts: Iterable[Any], seal: Callable[[], bytes] | None = None) -> None:
    """Write a file that is there whole, on the disk, or not at all. Raises OSError.

    seal: gives what stands at its beginning in the end.
    """
    temporary = path.with_name(re.split("[-.]", path.name)[0] + ".tmp")  # of a life that was killed: written over
    try:
        with open(temporary, "wb", buffering=0) as file:
            for part in itertools.chain(head, parts):
                _write_all(file.fileno(), part)
            if seal is not None:
                os.pwrite(file.fileno(), seal(), 0)
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def _write_all(fd: int, data: Any) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]


def sync(path: Path) -> None:
    """Make what is in a file, or the names in a folder, survive a power loss. Raises OSError."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
