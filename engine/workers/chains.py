"""What busts and corrections make of the trades they name, worked out from the rows of a blotter in whatever order.

What the sequence refused is known of each event and not decided again here: it moves nothing and names nothing. Of the
others each has found its trade, so that only which one that was is left to be worked out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

LIVE, CORRECTED, BUSTED = "live", "corrected", "busted"
BUST = "bust"  # a bust that took its trade out
REFUSED = ("unknown_trade", "ambiguous_trade", "overflow")  # in the sequence, which are statuses as well


class Link(NamedTuple):
    """One event of a chain: all have the same venue, account and symbol. refused: why it moved nothing, or empty."""

    seq: int
    trade_id: str
    side: str
    exec_type: str
    ref_trade_id: str
    refused: str


class Mark(NamedTuple):
    """What became of an event. changed_by: the seq that corrected or busted it; changes: the seq that it changed."""

    status: str
    changed_by: int | None = None
    changes: int | None = None


def marks_of(links: Iterable[Link]) -> dict[int, Mark]:
    """Return the mark of each event of a chain by its seq.

    links: every event that has an id in common with another of them, as trade_id or as ref_trade_id (DESIGN section 5).
    One whose trade is not among them changes None: it is still to come, or is not for this blotter.
    """
    marks: dict[int, Mark] = {}
    live: dict[str, list[Link]] = {}
    for link in sorted(links):
        if link.refused:
            marks[link.seq] = Mark(link.refused)
            continue
        is_bust = link.exec_type == "bust"
        marks[link.seq] = Mark(BUST if is_bust else LIVE)
        if link.exec_type != "new" and (old := _named(link, live.get(link.ref_trade_id, []))) is not None:
            live[link.ref_trade_id].remove(old)
            marks[old.seq] = marks[old.seq]._replace(status=BUSTED if is_bust else CORRECTED, changed_by=link.seq)
            marks[link.seq] = marks[link.seq]._replace(changes=old.seq)
        if not is_bust:
            live.setdefault(link.trade_id, []).append(link)
    return marks


def _named(link: Link, live: list[Link]) -> Link | None:
    """Return the live trade that a bust or correction names: a bust its own side's, where there is one."""
    own = [trade for trade in live if trade.side == link.side] if link.exec_type == "bust" else []
    return next(iter(own or live), None)
