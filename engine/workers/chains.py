"""What busts and corrections make of the trades they name, worked out from the rows of a blotter in whatever order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

LIVE, CORRECTED, BUSTED = "live", "corrected", "busted"
BUST = "bust"  # a bust that took its trade out
UNKNOWN, AMBIGUOUS = "unknown_trade", "ambiguous_trade"  # a bust or correction that names no trade, or two


class Link(NamedTuple):
    """One event of a chain: all have the same venue, account and symbol."""

    seq: int
    trade_id: str
    side: str
    exec_type: str
    ref_trade_id: str


class Mark(NamedTuple):
    """What became of an event. changed_by: the seq that corrected or busted it; changes: the seq that it changed."""

    status: str
    changed_by: int | None = None
    changes: int | None = None


def marks_of(links: Iterable[Link]) -> dict[int, Mark]:
    """Return the mark of each event of a chain by its seq.

    links: every event that has an id in common with another of them, as trade_id or as ref_trade_id (DESIGN section 5).
    """
    marks: dict[int, Mark] = {}
    live: dict[str, list[Link]] = {}
    sides_seen: set[tuple[str, str]] = set()
    for link in sorted(links):
        if link.exec_type == "new":
            marks[link.seq] = Mark(LIVE)
        else:
            found = _named(link, live, sides_seen)
            if len(found) != 1:
                marks[link.seq] = Mark(AMBIGUOUS if found else UNKNOWN)
                continue
            old = found[0]
            live[link.ref_trade_id].remove(old)
            is_bust = link.exec_type == "bust"
            marks[old.seq] = marks[old.seq]._replace(status=BUSTED if is_bust else CORRECTED, changed_by=link.seq)
            marks[link.seq] = Mark(BUST if is_bust else LIVE, changes=old.seq)
            if is_bust:
                continue
        live.setdefault(link.trade_id, []).append(link)
        sides_seen.add((link.trade_id, link.side))
    return marks


def _named(link: Link, live: dict[str, list[Link]], sides_seen: set[tuple[str, str]]) -> list[Link]:
    """Return the live trades that a bust or correction names."""
    found = live.get(link.ref_trade_id, [])
    if link.exec_type == "bust":
        own = [trade for trade in found if trade.side == link.side]
        if own or (link.ref_trade_id, link.side) in sides_seen:
            return own
    return found
