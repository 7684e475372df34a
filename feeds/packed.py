"""Bytes of compressed files: streamed, bounded, each format's damage said where it lies."""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from feeds.errors import FeedError, InputDamaged
from feeds.inputs import GZIP_MAGIC, ZIP_MAGIC, Input, one_line, open_bytes

COMPRESSED_CHUNK_BYTES = 65536
# What unpacks to more than this, and to more than so many times its size, is no recording. Deflate cannot reach it.
UNPACKED_BYTES_FREE = 1 << 30
UNPACKED_RATIO_MAX = 2000
# One block of zstd is at most 128 KiB and at least 4 bytes: pieces this small unpack to 16 MiB at most.
ZSTD_PIECE_BYTES = 512
UNPACK_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
)  # fmt: skip


class GzipInput:
    """The members of a .gz file one after another (RFC 1952), each checked by its own CRC."""

    def __init__(self, path: str) -> None:
        self.name = os.path.basename(path)
        self._file = open_bytes(path)
        self.total: int | None = os.fstat(self._file.fileno()).st_size
        self.position = 0
        self._inflater = zlib.decompressobj(wbits=31)
        self._pending = b""

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            if self._inflater.eof and not self._next_member():
                return 0
            if not self._pending:
                self._pending = self._read()
                if not self._pending:
                    return self._end()
            before = self._inflater.copy()
            try:
                data = self._inflater.decompress(self._pending, len(buffer))
                self._pending = self._inflater.unused_data if self._inflater.eof else self._inflater.unconsumed_tail
            except zlib.error as error:
                self._inflater = before
                data = self._salvage(len(buffer))
                if not data:
                    place = self.position - len(self._pending)
                    raise InputDamaged(f"{self.name} is damaged at byte {place}: {error}") from None
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _salvage(self, size_bytes: int) -> bytes:
        """What inflates before the damage in the pending bytes: an error throws away all of its call's output."""
        found = bytearray()
        while self._pending and len(found) < size_bytes:
            before = self._inflater.copy()
            try:
                found += self._inflater.decompress(self._pending[:1], size_bytes - len(found))
            except zlib.error:
                self._inflater = before
                break
            self._pending = self._inflater.unconsumed_tail + self._pending[1:]
        return bytes(found)

    def _read(self) -> bytes:
        chunk = self._file.read(COMPRESSED_CHUNK_BYTES) or b""
        self.position += len(chunk)
        return chunk

    def _next_member(self) -> bool:
        """Start the next member, behind zero padding (as gzip does); False at the end of the file."""
        rest = self._pending.lstrip(b"\0")
        while not rest:
            chunk = self._read()
            if not chunk:
                return False
            rest = chunk.lstrip(b"\0")
        self._pending = rest
        self._inflater = zlib.decompressobj(wbits=31)
        return True

    def _end(self) -> int:
        raise InputDamaged(f"{self.name} breaks off at byte {self.position}: expected the rest of a gzip member")

    def close(self) -> None:
        self._file.close()


class StreamInput:
    """What a library decompresses: a member of a .zip, a .zst through pyarrow."""

    def __init__(self, name: str, stream: IO[bytes], raw: IO[bytes], total: int | None) -> None:
        self.name = name
        self.total = total
        self._stream = stream
        self._raw = raw
        self._done = 0

    @property
    def position(self) -> int:
        return self._raw.tell() if not self._raw.closed else self.total or 0

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            data = self._stream.read(len(buffer))
        except UNPACK_ERRORS as error:
            raise InputDamaged(f"{self.name} is damaged behind its byte {self._done}: {one_line(error)}") from None
        buffer[: len(data)] = data
        self._done += len(data)
        check_ratio(self.name, self._done, self.position)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        self._raw.close()


class ZstdInput:
    """The frames of a .zst file one after another, through zstandard."""

    def __init__(self, path: str, library: Any) -> None:
        self.name = os.path.basename(path)
        self._file = open_bytes(path)
        self.total: int | None = os.fstat(self._file.fileno()).st_size
        self.position = 0
        self._library = library
        self._packed = b""
        self._unpacked = memoryview(b"")
        self._frame: Any = None
        self._done = 0

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._unpacked:
            if not self._packed and not self._read():
                if self._frame is not None:
                    raise InputDamaged(
                        f"{self.name} breaks off at byte {self.position}: expected the rest of a zstd frame"
                    )
                return 0
            self._unpack()
        count = min(len(buffer), len(self._unpacked))
        buffer[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count

    def _read(self) -> bool:
        self._packed = self._file.read(COMPRESSED_CHUNK_BYTES) or b""
        self.position += len(self._packed)
        return bool(self._packed)

    def _unpack(self) -> None:
        """Unpack one piece; what follows a frame begins the next."""
        if self._frame is None:
            self._frame = self._library.ZstdDecompressor().decompressobj()
        piece, self._packed = self._packed[:ZSTD_PIECE_BYTES], self._packed[ZSTD_PIECE_BYTES:]
        try:
            self._unpacked = memoryview(self._frame.decompress(piece))
        except self._library.ZstdError as error:
            place = self.position - len(self._packed) - len(piece)
            raise InputDamaged(f"{self.name} is damaged behind byte {place}: {one_line(error)}") from None
        if self._frame.eof:
            self._packed = self._frame.unused_data + self._packed
            self._frame = None
        self._done += len(self._unpacked)
        check_ratio(self.name, self._done, self.position)

    def close(self) -> None:
        self._file.close()


def check_ratio(name: str, unpacked: int, packed: int) -> None:
    """Raise InputDamaged for what unpacks without end."""
    if unpacked > UNPACKED_BYTES_FREE and unpacked > packed * UNPACKED_RATIO_MAX:
        raise InputDamaged(
            f"{name} unpacks to more than {UNPACKED_RATIO_MAX} times its size: expected a recording; unpack it first"
        )


def open_packed(path: str, magic: bytes) -> Iterator[Input]:
    """Open what begins with ``magic``, one of PACKED_MAGICS: one input, or as many as a .zip holds."""
    if magic.startswith(GZIP_MAGIC):
        yield GzipInput(path)
    elif magic == ZIP_MAGIC:
        yield from open_zip(path)
    else:
        yield open_zstd(path)


def open_zip(path: str) -> Iterator[Input]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if info.filename and not info.filename.endswith("/")]
    except UNPACK_ERRORS as error:
        raise FeedError(f"{path} is no readable zip: {one_line(error)}") from None
    if not names:
        raise FeedError(f"{path} is an empty zip: expected a file in it")
    for name in names:
        # Each member has its own handle, so that members can be read side by side.
        raw = Path(path).open("rb")  # noqa: SIM115 (closed by the input)
        try:
            stream = zipfile.ZipFile(raw).open(name)  # noqa: SIM115 (closed by the input)
        except (*UNPACK_ERRORS, KeyError) as error:
            raw.close()
            raise FeedError(f"{path}: {name} cannot be unpacked: {one_line(error)}") from None
        yield StreamInput(f"{os.path.basename(path)}:{name}", stream, raw, os.path.getsize(path) // len(names))


def open_zstd(path: str) -> Input:
    try:
        import zstandard  # type: ignore[import-not-found,unused-ignore]

        return ZstdInput(path, zstandard)
    except ImportError:
        pass
    try:
        import pyarrow  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise FeedError(f"{path} is zstd: install zstandard or pyarrow to read it, or unpack it first") from None
    raw = Path(path).open("rb")  # noqa: SIM115 (closed by the input)
    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw), "zstd")
    return StreamInput(os.path.basename(path), stream, raw, os.path.getsize(path))
