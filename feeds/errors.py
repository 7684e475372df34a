"""What can be wrong with a feed as a whole. What is wrong with one record is a record of its own."""

from __future__ import annotations

from ext.errors import UsageError


def on_one_line(message: str) -> str:
    """A message that names what it found, be that a line end or a control character."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


class FeedError(UsageError):
    """A feed that cannot be read: no such file, an unknown format, a header without what is needed."""

    def __init__(self, message: str) -> None:
        super().__init__(on_one_line(message))


class JournalFeed(FeedError):
    """The path is a journal directory: it replays its own sequence and is not read as a feed.

    ``path``: the directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is a journal: replay it with 'riskwire replay {path}'")
        self.path = path


class InputDamaged(EOFError):
    """A compressed input that breaks off; what came before has been given out."""

    def __init__(self, message: str) -> None:
        super().__init__(on_one_line(message))
