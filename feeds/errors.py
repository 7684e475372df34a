"""What can be wrong with a feed as a whole. What is wrong with one record is a record of its own."""

from __future__ import annotations

from ext.errors import UsageError


class FeedError(UsageError):
    """A feed that cannot be read: no such file, an unknown format, a header without what is needed."""


class JournalFeed(FeedError):
    """The path is a journal directory: it replays its own sequence and is not read as a feed.

    ``path``: the directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is a journal: replay it with 'riskwire replay {path}'")
        self.path = path


class InputDamaged(EOFError):
    """A compressed input that breaks off; what came before has been given out."""
