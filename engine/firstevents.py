"""What an engine publishes before anything else: instruments, limits, opening positions, in this order.

Their ids are made from their content, so that on a continued journal what has not changed is a duplicate. What has
changed to something that was in force before (A, then B, then A again) needs an id of its own to take effect.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from engine.codec import EventDecoder
from engine.config import LimitSet, limits_event_id, parse_limits
from engine.events import Event, InstrumentDefined, LimitsChanged, PositionAdjusted
from ext.consumer import frames_with
from ext.journal import Journal
from ext.records import EVENT_NAMES, Frame

_TYPES = [number for number, name in EVENT_NAMES.items() if name in ("InstrumentDefined", "LimitsChanged")]


class InForce(msgspec.Struct):
    """What a journal's events so far have put in force, and the ids they used."""

    limits: LimitSet | None = None
    instruments: dict[str, InstrumentDefined] = msgspec.field(default_factory=dict)
    ids: set[str] = msgspec.field(default_factory=set)

    @classmethod
    def of(cls, journal: Journal) -> InForce:
        """Read what is in force at the end of a journal."""
        found = cls()
        decoder = EventDecoder()
        removed = journal.base.frames() if journal.base is not None else []
        kept = (journal.frame_by_index(index) for index in frames_with(journal, _TYPES))
        for data in itertools.chain(removed, kept):
            frame = Frame(data, False)
            decoder.learn(frame)
            for i, kind in enumerate(frame.records["type"].tolist()):
                if kind in _TYPES:
                    found.take(decoder.decode(frame, i))
        if journal.base is not None:
            found.ids.update(data.decode() for data in journal.base.known_ids(set(_TYPES)))
        return found

    def take(self, event: Event) -> None:
        """Note one event."""
        if isinstance(event, LimitsChanged):
            self.limits = parse_limits({"settings": event.settings, "limit": event.limit})
            self.ids.add(event.event_id)
        elif isinstance(event, InstrumentDefined):
            self.instruments[event.symbol] = event
            self.ids.add(event.event_id)

    def fresh_id(self, wanted: str) -> str:
        """Return an id not used yet: the wanted one, or the first of `wanted#2`, `wanted#3`, … that is free."""
        number = 1
        fresh = wanted
        while fresh in self.ids:
            number += 1
            fresh = f"{wanted}#{number}"
        self.ids.add(fresh)
        return fresh


def first_events(
    in_force: InForce,
    *,
    instruments: Iterable[InstrumentDefined] = (),
    limits: LimitSet | None = None,
    opening: Sequence[PositionAdjusted] = (),
    at: int = 0,
) -> list[Event]:
    """Return the events that bring a sequence to what the files say.

    in_force: of the journal that goes on. at: time of a LimitsChanged, ns.
    An instrument or limits that are in force already are left out; opening positions always keep their ids.
    """
    events: list[Event] = []
    for instrument in instruments:
        now = in_force.instruments.get(instrument.symbol)
        if now is None or msgspec.structs.replace(now, event_id=instrument.event_id) != instrument:
            events.append(msgspec.structs.replace(instrument, event_id=in_force.fresh_id(instrument.event_id)))
    if limits is not None and limits != in_force.limits:
        events.append(limits_changed(limits, in_force.fresh_id(limits_event_id(limits)), at))
    events.extend(opening)
    return events


def limits_changed(limits: LimitSet, event_id: str, at: int, who: str = "") -> LimitsChanged:
    """Return the event that puts a set of limits in force."""
    plain = limits.to_dict()
    return LimitsChanged(event_id, at, plain["settings"], plain["limit"], who)
