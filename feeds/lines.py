"""Physical lines of an input, for formats that are decoded line by line in Python."""

from __future__ import annotations

from feeds.errors import InputDamaged
from feeds.inputs import Input

LINE_BYTES_MAX = 16_777_216
LONG_LINE_RAW_BYTES = 65_536
CHUNK_BYTES = 262_144


class Lines:
    """Lines one after another, without their ends (``\\n`` or ``\\r\\n``) and without a byte order mark.

    ``number`` is the physical line returned last, from 1. Of a line above 16 MiB the first 64 KiB are returned and
    ``cut`` is true. Where the input breaks off, ``damage`` says how once ``next`` has returned None, and ``rest`` is
    the line that it cut.
    """

    def __init__(self, source: Input) -> None:
        self.number = 0
        self.cut = False
        self.damage: str | None = None
        self.rest = b""
        self._source = source
        self._buffer = bytearray()
        self._at = 0
        self._searched = 0
        self._ended = False
        self._drained = False
        self._chunk = memoryview(bytearray(CHUNK_BYTES))

    def next(self) -> bytes | None:
        """The next line; None at the end."""
        while True:
            end = self._buffer.find(b"\n", max(self._at, self._searched))
            if end >= 0:
                return self._take(end, end + 1)
            self._searched = len(self._buffer)
            if self._ended:
                return self._last()
            if self._searched - self._at > LINE_BYTES_MAX:
                return self._take_long()
            self._read()

    @property
    def would_wait(self) -> bool:
        """Whether the next line may have to be waited for: the last read of a pipe gave all there was."""
        return self._drained and self._buffer.find(b"\n", self._at) < 0

    def _read(self) -> None:
        del self._buffer[: self._at]
        self._searched -= self._at
        self._at = 0
        try:
            count = self._source.readinto(self._chunk)
        except InputDamaged as error:
            self.damage = str(error)
            count = 0
        self._ended = count == 0
        self._drained = 0 < count < CHUNK_BYTES
        self._buffer += self._chunk[:count]

    def _take(self, end: int, following: int) -> bytes:
        line = bytes(self._buffer[self._at : end])
        self._at = following
        self.number += 1
        self.cut = False
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.removesuffix(b"\r")

    def _last(self) -> bytes | None:
        if self.damage is not None:
            self.rest = bytes(self._buffer[self._at :])
            self._at = len(self._buffer)
            return None
        if self._at == len(self._buffer):
            return None
        return self._take(len(self._buffer), len(self._buffer))

    def _take_long(self) -> bytes:
        """Give the first bytes of a line that is too long, and drop the others."""
        first = bytes(self._buffer[self._at : self._at + LONG_LINE_RAW_BYTES])
        while not self._ended:
            self._at = self._searched = len(self._buffer)
            self._read()
            end = self._buffer.find(b"\n")
            if end >= 0:
                self._at = self._searched = end + 1
                break
        else:
            self._at = len(self._buffer)
        self.number += 1
        self.cut = True
        return first
