"""The memory that a long replay begins in, touched by a thread while the rest of the program is still being imported.

Imports keep one core busy for a tenth of a second. The first touch of what a large feed fills costs the kernel as long
(docs/decisions/0006), and an idle core can do it meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from ext.dedup import Dedup
from ext.journal import Journal

RECORD_TEXT_BYTES: Final = 56  # of a feed's record, roughly; no more than a guess at how many there are
RECORD_BYTES: Final = 76  # of the same in the journal
LEAST_BYTES: Final = 16 << 20  # of feeds: what is shorter is read before this would have helped
ROOM_BYTES_MAX: Final = 256 << 20


class EarlyMemory(NamedTuple):
    """A journal in memory, and what knows its duplicates."""

    journal: Journal
    dedup: Dedup


def early_memory(feeds: Sequence[str | Path], least_bytes: int = LEAST_BYTES) -> EarlyMemory | None:
    """Make the memory for feeds of text, or return None where they are short or of another kind."""
    size = sum(os.path.getsize(feed) for feed in feeds if str(feed).endswith(".csv") and os.path.isfile(feed))
    if size < least_bytes:
        return None
    expected = size // RECORD_TEXT_BYTES
    journal = Journal(None, "off", room=min(expected * RECORD_BYTES, ROOM_BYTES_MAX))
    dedup = Dedup(journal, expected=expected)  # first: all of it is needed from the start
    journal.touch_room()
    return EarlyMemory(journal, dedup)
