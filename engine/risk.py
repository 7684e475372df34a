"""RiskEngine: the engine as a library, in this thread: the door, positions, limits and alerts, without sockets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from engine.alertframes import decode_alerts
from engine.errors import InvalidEvent, LimitsError
from engine.events import Event, InstrumentDefined, LimitsChanged, PositionUpdated, RiskAlert, TradeExecuted
from engine.journal import open_journal
from engine.limitset import LimitSet, load_limits, parse_limits
from engine.reference import limits_event_id, load_instruments
from ext.direct import Direct
from ext.encoder import EncodeError, EventEncoder
from ext.journal import Journal
from ext.records import EVENT_NAMES, EXEC_TYPES, MAX_FRAME_RECORDS, REASONS, SIDES, Frame
from ext.risk import RiskCore
from ext.sequencer import Sequencer, Source

TEXT_FIELDS = ("trade_id", "account", "venue", "strategy", "ref_trade_id")
NUMBER_KINDS = "iu"


class Refusal(msgspec.Struct, frozen=True):
    """An event that was not taken. place: which of those given, from 0. reason: of DESIGN section 4's closed list."""

    place: int
    reason: str
    error: str


class Applied(msgspec.Struct, frozen=True):
    """What became of many events. accepted: those with a seq that moved something."""

    accepted: int
    duplicates: int
    refused: tuple[Refusal, ...]


class RiskEngine:
    """Positions, P&L and limits of the events given to it, exact, in order, each identity once.

    limits: a limits file, a `LimitSet`, or the mapping that a file would hold; None: none yet.
    instruments: an instruments file, or InstrumentDefined events.
    journal: a folder to keep the sequence in (continued where it has one); None: memory only. It removes nothing.
    expected_trades: for so many, memory is made and touched now (some 200 bytes each, 40 with a journal on disk), so
    that no trade pays for its pages. More may come.
    Not for several threads at once. Raises LimitsError, InstrumentsError, JournalError, or ConfigError where the
    machine has not so much memory.

    >>> from decimal import Decimal
    >>> from engine.events import TradeExecuted
    >>> limit = {"id": "big", "kind": "max_position", "per": ["account", "symbol"], "threshold": "10"}
    >>> engine = RiskEngine(limits={"limit": [limit]})
    >>> trade = TradeExecuted("T1", "BTCUSDT", Decimal("9682.19"), Decimal("12.5"), "buy", 1_582_329_602_111_000_000)
    >>> engine.apply(trade)
    2
    >>> [(alert.severity, alert.value, alert.utilization) for alert in engine.new_alerts()]
    [('breach', Decimal('12.5'), Decimal('1.25'))]
    >>> engine.position("default", "BTCUSDT").quantity
    Decimal('12.5')
    """

    def __init__(
        self,
        limits: LimitSet | Mapping[str, Any] | str | Path | None = None,
        instruments: str | Path | Iterable[InstrumentDefined] = (),
        journal: str | Path | None = None,
        expected_trades: int = 0,
    ) -> None:
        if expected_trades < 0:
            raise ValueError(f"expected_trades is {expected_trades}; expected 0 or more")
        self._journal = open_journal(journal, expected_trades=expected_trades)
        self._sequencer = Sequencer(self._journal, dedup_expected=expected_trades, check_limits=_canonical)
        self._source = Source("RiskEngine", self._journal.epoch or 1)
        self._encoder = EventEncoder()
        self._alerts_seen = 0
        self.core = _core_of(self._journal)
        self._direct = Direct(self._encoder, self._sequencer, self._source, self.core)
        for frame in self._journal:
            self.core.apply(frame)
        self._alerts_seen = len(self.core.alerts)
        if expected_trades:
            self._sequencer.dedup.prepare()
            self._journal.touch_room(wait=True)
            self.core.make_room(expected_trades)
        for event in load_instruments(instruments) if isinstance(instruments, str | Path) else instruments:
            self.apply(event)
        if limits is not None:
            self.set_limits(limits)

    def __enter__(self) -> RiskEngine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Seal the journal."""
        self._journal.close()

    # --- what goes in -------------------------------------------------------------------------------------------

    def apply(self, event: Event | Mapping[str, Any]) -> int:
        """Apply one event: a struct of `engine.events`, or a mapping with its fields as JSON has them.

        A mapping's `type` is TradeExecuted where it has none; numbers are text, int or Decimal, never float.
        Returns its seq, or 0 for a duplicate, which changes nothing. Raises InvalidEvent (with `reason`) for what is
        refused, at the door or in the sequence.

        >>> engine = RiskEngine()
        >>> trade = {"trade_id": "T1", "symbol": "ES", "price": "5000.25", "volume": 2, "side": "buy", "executed_at": 1}
        >>> engine.apply(trade), engine.apply(trade)
        (1, 0)
        >>> engine.apply(trade | {"volume": 3})
        Traceback (most recent call last):
        ...
        engine.errors.InvalidEvent: came before with another price or volume ...
        """
        try:
            seq = self._direct.apply(event if type(event) is TradeExecuted else _struct_of(event))
        except EncodeError as problem:
            raise InvalidEvent(problem.reason, str(problem)) from None
        if seq < 0:
            raise self._refusal()
        return seq

    def _refusal(self) -> InvalidEvent:
        """Return why the one event applied last was refused, at the door or in the sequence."""
        refused = self._sequencer.refused_list()
        if refused:
            return InvalidEvent(REASONS[refused[0][1]], refused[0][2])
        seq, reason = self.core.refused()[-1]
        return InvalidEvent(REASONS[reason], f"refused in the sequence at seq {seq}: {REASONS[reason]}")

    def apply_many(self, events: Iterable[Event | Mapping[str, Any]]) -> Applied:
        """Apply events in order, in frames; what is refused is returned, nothing is raised for it.

        >>> rows = [{"trade_id": i, "symbol": "ES", "price": p, "volume": "1", "side": "buy", "executed_at": 1}
        ...         for i, p in (("T1", "10"), ("T1", "10"), ("T2", "NaN"))]
        >>> done = RiskEngine().apply_many(rows)
        >>> done.accepted, done.duplicates, [(refusal.place, refusal.reason) for refusal in done.refused]
        (1, 1, [(2, 'invalid')])
        """
        total = _Totals()
        given: list[_Given] = []
        for place, event in enumerate(events):
            try:
                struct = _struct_of(event)
                self._encoder.add(struct)
            except (EncodeError, InvalidEvent) as problem:
                total.refused.append(Refusal(place, problem.reason, str(problem)))
                continue
            given.append((place, struct))
            if len(given) == MAX_FRAME_RECORDS:
                self._take(given, total)
                given = []
        if given:
            self._take(given, total)
        return total.applied()

    def apply_array(
        self, trades: npt.NDArray[Any], *, price_exponent: int = -9, volume_exponent: int = -8, fee_exponent: int = -9
    ) -> Applied:
        """Apply new trades from a NumPy structured array, one a row.

        trades: shape (n,), fields `symbol`, `trade_id` (S or U), `price`, `volume` (integers, in units of
        10**price_exponent and 10**volume_exponent), `side` (1 buy, 2 sell, or text), `executed_at` (int64, ns), and
        any of `account`, `venue`, `strategy` (S or U), `fee` (integers, units of 10**fee_exponent).
        Returns counts, and refusals by row. Raises ValueError for a missing field or one of another type.

        >>> import numpy as np
        >>> trades = np.array(
        ...     [(b"T1", b"ES", 500025, 2, 1, 1), (b"T2", b"ES", 500050, 3, 2, 2)],
        ...     dtype=[("trade_id", "S8"), ("symbol", "S8"), ("price", "i8"), ("volume", "i8"), ("side", "u1"),
        ...            ("executed_at", "i8")])
        >>> engine = RiskEngine()
        >>> engine.apply_array(trades, price_exponent=-2, volume_exponent=0).accepted
        2
        >>> engine.position("default", "ES").quantity
        Decimal('-1')
        """
        return self.apply_many(_rows(trades, price_exponent, volume_exponent, fee_exponent))

    def set_limits(self, limits: LimitSet | Mapping[str, Any] | str | Path, at: int = 0) -> int:
        """Put a whole new set of limits to work (`at` in ns); returns its seq, or 0 where this set was given before.

        Raises LimitsError, naming the key or line and what was expected.

        >>> engine = RiskEngine()
        >>> engine.set_limits({"limit": [{"id": "fast", "kind": "trade_rate", "threshold": "100", "window": "1s"}]})
        1
        >>> engine.set_limits({"limit": [{"id": "fast", "kind": "trade_rate", "threshold": "100"}]})
        Traceback (most recent call last):
        ...
        engine.errors.LimitsError: ...window...
        """
        if isinstance(limits, str | Path):
            limits = load_limits(limits)
        elif not isinstance(limits, LimitSet):
            limits = parse_limits(limits)
        plain = limits.to_dict()
        return self.apply(
            LimitsChanged(limits_event_id(limits), at, settings=plain["settings"], limit=plain["limit"], who="library")
        )

    # --- what comes out -----------------------------------------------------------------------------------------

    @property
    def seq(self) -> int:
        """The seq of the last accepted event; 0 before the first."""
        return self.core.applied_seq

    def positions(self, account: str | None = None, symbol: str | None = None) -> list[PositionUpdated]:
        """Return positions at the current marks, sorted by account then symbol bytewise; globs choose.

        >>> engine = RiskEngine()
        >>> for account in "ba":
        ...     _ = engine.apply({"trade_id": "T", "symbol": "ES", "price": "10", "volume": "1", "side": "buy",
        ...                       "executed_at": 1, "account": account})
        >>> [row.account for row in engine.positions()], [row.account for row in engine.positions("[!a]")]
        (['a', 'b'], ['b'])
        """
        seq = self.core.applied_seq
        rows = self.core.positions(account, symbol)
        return msgspec.convert([row | {"seq": seq, "type": "PositionUpdated"} for row in rows], list[PositionUpdated])

    def position(self, account: str, symbol: str) -> PositionUpdated | None:
        """Return one position, or None where no event has touched it."""
        for row in self.core.positions(_literal(account), _literal(symbol)):
            return msgspec.convert(row | {"seq": self.core.applied_seq, "type": "PositionUpdated"}, PositionUpdated)
        return None

    def positions_array(self) -> npt.NDArray[Any]:
        """Return positions as a structured array (n,), sorted: exact integers, before multiplier and currency.

        Fields: account, symbol (S64), quantity, last_price (int64, in units of 10**quantity_exponent and
        10**price_exponent), marked (bool), trades (int64), quantity_exponent, price_exponent (int8).

        >>> engine = RiskEngine()
        >>> _ = engine.apply({"trade_id": "T", "symbol": "ES", "price": "10", "volume": "1.5", "side": "sell",
        ...                   "executed_at": 1})
        >>> row = engine.positions_array()[0]
        >>> int(row["quantity"]), int(row["quantity_exponent"])
        (-150000000, -8)
        """
        rows = self.core.position_integers()
        return np.array(rows, dtype=POSITION_DTYPE)

    def alerts(self, from_no: int = 1) -> list[RiskAlert]:
        """Return the alerts from this alert_no on; they are kept, and numbered from 1 without a gap."""
        found: list[RiskAlert] = []
        while from_no + len(found) <= len(self.core.alerts):
            found += decode_alerts(self.core.alerts.frame(from_no + len(found)))
        return found

    def new_alerts(self) -> list[RiskAlert]:
        """Return the alerts since the last call, oldest first.

        >>> engine = RiskEngine(limits={"limit": [{"id": "none", "kind": "restricted", "match": {"symbol": "X*"}}]})
        >>> _ = engine.apply({"trade_id": "T", "symbol": "XY", "price": "1", "volume": "1", "side": "buy",
        ...                   "executed_at": 1})
        >>> [(alert.limit_id, alert.trade_id) for alert in engine.new_alerts()], engine.new_alerts()
        ([('none', 'T')], [])
        """
        found = self.alerts(self._alerts_seen + 1)
        self._alerts_seen = len(self.core.alerts)
        return found

    # --- frames -------------------------------------------------------------------------------------------------

    def _take(self, given: Sequence[_Given], total: _Totals) -> None:
        refused_before = self.core.refused_count
        self._direct.take()
        accepted, duplicates = self._sequencer.accepted, self._sequencer.duplicates
        refused = self._sequencer.refused_list()
        total.refused += [Refusal(given[i][0], REASONS[reason], error) for i, reason, error in refused]
        in_sequence = self.core.refused()[refused_before:] if self.core.refused_count > refused_before else []
        if in_sequence:
            at_door = {i for i, _, _ in refused}
            total.refused += self._placed(in_sequence, [each for i, each in enumerate(given) if i not in at_door])
        total.accepted += accepted - len(in_sequence)
        total.duplicates += duplicates

    def _placed(self, in_sequence: list[tuple[int, int]], given: Sequence[_Given]) -> list[Refusal]:
        """Return refusals in the sequence with the places of their events; duplicates among those given have no seq."""
        sequenced = self._journal.frame(self._sequencer.last_seq)
        assert sequenced is not None, "what was refused in the sequence was accepted"
        frame = Frame(sequenced, False)
        reasons = {seq - frame.first_seq: REASONS[reason] for seq, reason in in_sequence}
        left = iter(given)
        found = []
        for i in range(max(reasons) + 1):
            # Records keep the order of those given, so each is the next one with its names.
            place = next((place for place, event in left if self._is_record(frame, i, event)), -1)
            if i in reasons:
                found.append(Refusal(place, reasons[i], f"refused in the sequence at seq {frame.first_seq + i}"))
        return found

    def _is_record(self, frame: Frame, i: int, event: Event) -> bool:
        record = frame.records[i]
        if EVENT_NAMES[int(record["type"])] != type(event).__name__:
            return False
        if not isinstance(event, TradeExecuted):
            return frame.id(i) == event.event_id.encode()
        names = (event.symbol, event.account, event.venue)
        known = (self.core.name(kind, int(record[field])) for kind, field in enumerate(("symbol", "account", "venue")))
        return (
            frame.id(i) == event.trade_id.encode()
            and all(name.encode() == text for name, text in zip(names, known, strict=True))
            and SIDES[int(record["side"])] == event.side
            and EXEC_TYPES[int(record["exec_type"])] == event.exec_type
        )


_Given = tuple[int, Event]
POSITION_DTYPE = np.dtype(
    [
        ("account", "S64"),
        ("symbol", "S64"),
        ("quantity", "<i8"),
        ("last_price", "<i8"),
        ("marked", "?"),
        ("trades", "<i8"),
        ("quantity_exponent", "i1"),
        ("price_exponent", "i1"),
    ]
)


class _Totals:
    def __init__(self) -> None:
        self.accepted = self.duplicates = 0
        self.refused: list[Refusal] = []

    def applied(self) -> Applied:
        return Applied(self.accepted, self.duplicates, tuple(sorted(self.refused, key=lambda refusal: refusal.place)))


def event_of(fields: Mapping[str, Any]) -> Event:
    """Return the event that a mapping with JSON's fields stands for. Raises InvalidEvent."""
    for name, value in fields.items():
        if isinstance(value, float):
            raise InvalidEvent("invalid", f"{name} is the float {value!r}: expected text, an int or a Decimal")
    try:
        whole = {"type": "TradeExecuted", **fields}
        event: Event = msgspec.convert(whole, Event, strict=False)
    except msgspec.ValidationError as problem:
        raise InvalidEvent("invalid", str(problem)) from None
    return event


def _struct_of(event: Event | Mapping[str, Any]) -> Event:
    """Return an event as a struct. Who can tell a class asks that first: to tell a Mapping takes longer."""
    return event_of(event) if isinstance(event, Mapping) else event


def _core_of(journal: Journal) -> RiskCore:
    """Return the core to begin with: a new one, or where the journal's beginning was removed, its snapshot's."""
    if journal.first_seq == 1:
        return RiskCore()
    from engine.snapshots import restore_core  # only here: it brings the parts of a running engine with it

    return restore_core(journal)


def _canonical(source: bytes) -> bytes:
    """Return a LimitsChanged's JSON in canonical form; the door asks. Raises LimitsError."""
    fields = msgspec.json.decode(source)
    if not isinstance(fields, dict):
        raise LimitsError("LimitsChanged: expected an object with settings and limit")
    return parse_limits({key: fields[key] for key in ("settings", "limit") if key in fields}).to_json()


def _literal(text: str) -> str:
    """Return a glob that matches this text only."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text)


def _rows(
    trades: npt.NDArray[Any], price_exponent: int, volume_exponent: int, fee_exponent: int
) -> Iterable[Mapping[str, Any] | Event]:
    names = trades.dtype.names or ()
    for name in ("trade_id", "symbol", "price", "volume", "side", "executed_at"):
        if name not in names:
            raise ValueError(f"the array has no field {name!r}; it has {', '.join(names) or 'none'}")
    for name in ("price", "volume", "executed_at", *(("fee",) if "fee" in names else ())):
        if trades.dtype[name].kind not in NUMBER_KINDS:
            raise ValueError(f"field {name!r} is {trades.dtype[name]}: expected integers, in units that you give")
    sides: dict[Any, Any] = {1: "buy", 2: "sell"}
    texts = [name for name in TEXT_FIELDS if name in names]
    columns = {name: trades[name].tolist() for name in names}
    for i in range(len(trades)):
        row = {name: _text(columns[name][i]) for name in (*texts, "symbol")}
        side = columns["side"][i]
        row["side"] = sides.get(side) or _text(side)
        row["executed_at"] = columns["executed_at"][i]
        row["price"] = f"{columns['price'][i]}e{price_exponent}"
        row["volume"] = f"{columns['volume'][i]}e{volume_exponent}"
        if "fee" in names:
            row["fee"] = f"{columns['fee'][i]}e{fee_exponent}"
        yield row


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
