"""A progress bar on stderr: on a terminal only, never in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

BAR_WIDTH = 30
REDRAW_EVERY_S = 0.1
LAG_SHOWN_S = 0.1
ERASE_LINE = "\r\x1b[K"


class Progress:
    """Shows how much of a feed is done; a context manager that leaves no trace when it ends.

    Call `update(done, total, events, lag_s)`: done and total in any one unit (total 0: unknown), events a count, lag_s
    how far a paced feed is behind its schedule (None: it has none).
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.shown = sys.stderr.isatty()
        self.started = time.monotonic()
        self.drawn = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def update(self, done: int, total: int, events: int, lag_s: float | None = None) -> None:
        """Draw the bar, at most ten times a second."""
        now = time.monotonic()
        if not self.shown or now - self.drawn < REDRAW_EVERY_S:
            return
        self.drawn = now
        sys.stderr.write(ERASE_LINE + self.text(done, total, events, now - self.started, lag_s))
        sys.stderr.flush()

    def text(self, done: int, total: int, events: int, elapsed_s: float, lag_s: float | None = None) -> str:
        """Return the bar as text."""
        rate = f"{events:,} events, {events / max(elapsed_s, 1e-9):,.0f}/s"
        if lag_s is not None:
            rate += f", {lag_s:,.1f} s behind" if lag_s >= LAG_SHOWN_S else ", on time"
        if total <= 0:
            return f"{self.label}  {rate}"
        share = min(done / total, 1.0)
        bar = "#" * int(share * BAR_WIDTH)
        left = f", {elapsed_s * (1 - share) / share:,.0f} s left" if 0 < share < 1 else ""
        return f"{self.label}  [{bar:<{BAR_WIDTH}}] {share:4.0%}  {rate}{left}"

    def clear(self) -> None:
        """Take the bar off the terminal."""
        if self.drawn:
            sys.stderr.write(ERASE_LINE)
            sys.stderr.flush()
            self.drawn = 0.0
