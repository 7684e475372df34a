"""Bytes of files: read forward once, in chunks, with a position for progress."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from feeds.errors import FeedError, InputDamaged

PEEK_BYTES = 65536
BOM = b"\xef\xbb\xbf"
PACKED_MAGICS = GZIP_MAGIC, ZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"


class Input(Protocol):
    """A file being read. ``position`` counts bytes of the file as it lies on the disk, ``total`` all of them."""

    name: str
    total: int | None

    @property
    def position(self) -> int: ...

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill ``buffer`` from the front; the bytes read, 0 at the end. Raises InputDamaged where it breaks off."""

    def close(self) -> None: ...


class PlainInput:
    """A file as it is; also a pipe, whose size is unknown."""

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self._path = path
        self._file = open_bytes(path)
        status = os.fstat(self._file.fileno())
        self.total = status.st_size if stat.S_ISREG(status.st_mode) else None
        self.position = 0

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            count = self._file.readinto(buffer) or 0
        except OSError as error:
            raise InputDamaged(f"{self.name} cannot be read at byte {self.position}: {error.strerror}") from None
        self.position += count
        return count

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Peeked:
    """The beginning of an input, for guessing its format, and the input as if nothing had been read."""

    head: bytes
    input: Input
    damage: InputDamaged | None


class ReplayedInput:
    """An input whose beginning has been looked at."""

    def __init__(self, source: Input, head: bytes, damage: InputDamaged | None) -> None:
        self.name = source.name
        self.total = source.total
        self._source = source
        self._head = head
        self._damage = damage

    @property
    def position(self) -> int:
        return self._source.position - (len(self._head) if is_plain(self._source) else 0)

    @property
    def source(self) -> Input:
        """The input that was looked at."""
        return self._source

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._head:
            if self._damage is not None:
                raise self._damage
            return self._source.readinto(buffer)
        count = min(len(self._head), len(buffer))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count

    def close(self) -> None:
        self._source.close()


def is_plain(source: Input) -> bool:
    """Whether what is read are the bytes of the file."""
    return isinstance(source.source if isinstance(source, ReplayedInput) else source, PlainInput)


def one_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def open_bytes(path: str) -> io.FileIO:
    """Open a file unbuffered. Raises FeedError for what cannot be read, directories among it."""
    try:
        return io.FileIO(path, "rb")
    except IsADirectoryError:
        raise FeedError(f"{path} is a directory: expected a file, or a journal directory") from None
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise FeedError(f"{path!r} is no file name: it holds a NUL byte") from None


def is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False  # opening it says what is wrong


def open_inputs(path: str) -> Iterator[Input]:
    """Open a file, decompressed by its first bytes; a .zip gives one input per file in it, in its order.

    Raises FeedError for what cannot be opened.
    """
    magic = b""
    if is_regular(path):  # a pipe is opened once: who writes into it would see it closed
        with open_bytes(path) as file:
            magic = file.read(4)
    if magic.startswith(PACKED_MAGICS):
        from feeds.packed import open_packed

        yield from open_packed(path, magic)
    else:
        yield PlainInput(path)


def peek(source: Input, size_bytes: int = PEEK_BYTES) -> Peeked:
    """The first bytes of an input (fewer where it is shorter or breaks off), and the input from its start."""
    buffer = bytearray(size_bytes)
    filled = 0
    damage: InputDamaged | None = None
    # A pipe is not waited for once it has given a line.
    while filled < size_bytes and not (source.total is None and b"\n" in buffer[:filled]):
        try:
            count = source.readinto(memoryview(buffer)[filled:])
        except InputDamaged as error:
            damage = error
            break
        if count == 0:
            break
        filled += count
    head = bytes(buffer[:filled])
    return Peeked(head, ReplayedInput(source, head, damage), damage)
