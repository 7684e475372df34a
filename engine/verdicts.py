"""What the sequence refused, as the risk consumer finds it: who works on an event can know that it moved nothing."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

__all__ = ["Verdicts"]


class Verdicts:
    """The events that were refused in the sequence, by seq. One thread notes them, any thread may ask.

    through: tells up to which seq every event is judged and what was refused of them noted.
    refused: (seq, number of the reason as in `ext.records.REASONS`) of what is known already, ascending.
    """

    def __init__(self, through: Callable[[], int], refused: Sequence[tuple[int, int]] = ()) -> None:
        self._through = through
        self._seqs = array("Q")
        self._reasons = bytearray()
        self.note(refused)

    @property
    def through(self) -> int:
        """Return the seq up to which `of` tells all there is to tell."""
        return self._through()

    def note(self, refused: Sequence[tuple[int, int]]) -> None:
        """Take refusals, all above those before."""
        self._reasons.extend(reason for _, reason in refused)  # first: who finds a seq finds its reason
        self._seqs.extend(seq for seq, _ in refused)

    def of(self, first: int, last: int) -> list[tuple[int, int]]:
        """Return (seq, reason number) of what was refused from a seq to another one, inclusive."""
        start, end = bisect_left(self._seqs, first), bisect_right(self._seqs, last)
        return list(zip(self._seqs[start:end], self._reasons[start:end], strict=True))

    def clear(self) -> None:
        """Forget everything: the sequence has begun again."""
        self._seqs, self._reasons = array("Q"), bytearray()
