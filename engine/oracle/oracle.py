"""The exact slow reference: sections 5 and 6 of the design in plain Python, event by event."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from engine.events import (
    Event,
    InstrumentDefined,
    KillSwitch,
    LimitsChanged,
    MarkPrice,
    PositionAdjusted,
    SessionStarted,
    TradeExecuted,
)
from engine.limitset import KILL_LIMIT_ID, LimitSet, parse_limits
from engine.oracle.book import (
    FEE_EXPONENT,
    Fill,
    Instrument,
    Instruments,
    Overflow,
    Pair,
    Symbol,
    add_to_cell,
    after,
    check_cash,
    rebuild_cells,
    rebuilt,
)
from engine.oracle.numbers import VALUE_EXPONENT, VALUE_ONE, rounded_text, text_of, units
from engine.oracle.rules import (
    ANY,
    BREACH,
    MOVED_BY_MARKS,
    OK,
    ONE_TRADE,
    RATES,
    SEVERITY,
    Key,
    KeyState,
    Money,
    Rule,
    TradeFacts,
    Value,
)

TradeName = tuple[str, str, str, str]  # venue, account, symbol, trade_id


class Refused(Exception):
    """An event that is refused in the sequence; the text is the reason."""


@lru_cache(maxsize=100_000)
def bytewise(key: Key) -> tuple[bytes, ...]:
    """Order keys by their names' UTF-8."""
    return tuple(name.encode() for name in key)


class Oracle:
    """Applies accepted events in order of seq; positions, alerts and refusals come out.

    Alerts are dicts of the alert lines of DESIGN section 9, position rows those of its position rows. Events must
    have passed the door (`engine.oracle.Door` is its reference): their numbers fit the instrument's units.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.alerts: list[dict[str, Any]] = []
        self.refusals: list[tuple[int, str]] = []
        self.limits = LimitSet()
        self._instruments = Instruments()
        self._symbols: dict[str, Symbol] = {}
        self._live: dict[TradeName, list[Fill]] = {}
        self._sides_seen: dict[TradeName, set[int]] = {}
        self._stopped: set[str] = set()
        self._rules: list[Rule] = []
        self._money = Money(self.limits.settings)
        self._at = 0  # executed_at of the event in hand
        self._trade_id = ""

    # --- what comes out -----------------------------------------------------------------------------------------

    def positions(self) -> list[dict[str, str | int]]:
        """Return position rows, sorted by account then symbol bytewise, at the current marks."""
        pairs = sorted(self._pairs(), key=lambda pair: (pair.account.encode(), pair.symbol.name.encode()))
        return [pair.row() for pair in pairs]

    def position(self, account: str, symbol: str) -> dict[str, str | int] | None:
        """Return one position row, or None."""
        known = self._symbols.get(symbol)
        pair = None if known is None else known.pairs.get(account)
        return None if pair is None else pair.row()

    @property
    def kills(self) -> set[str]:
        """The accounts whose switch is engaged; `*` is the whole firm."""
        return set(self._stopped)

    def levels(self) -> dict[tuple[str, Key], str]:
        """Return the keys that are not ok: (limit id, (account, symbol, venue, strategy)) to `warn` or `breach`."""
        return {
            (rule.limit.id, key): SEVERITY[state.level]
            for rule in self._rules
            for key, state in rule.keys.items()
            if state.level != OK
        }

    def _pairs(self) -> Iterable[Pair]:
        return (pair for symbol in self._symbols.values() for pair in symbol.pairs.values())

    # --- what goes in -------------------------------------------------------------------------------------------

    def apply(self, seq: int, event: Event) -> None:
        """Apply the event with this seq; seqs rise. What is refused in the sequence is in `refusals`."""
        if seq <= self.seq:
            raise ValueError(f"seq {seq} after {self.seq}: events come in order")
        self.seq = seq
        self._at = event.executed_at if isinstance(event, TradeExecuted) else getattr(event, "at", 0)
        self._trade_id = event.trade_id if isinstance(event, TradeExecuted) else ""
        try:
            self._dispatch(event)
        except Refused as refused:
            self.refusals.append((seq, str(refused)))

    def preset_limits(self, limits: LimitSet) -> None:
        """Put limits in force before the first event, without an event of their own."""
        if self.seq:
            raise ValueError(f"limits can be preset before the first event; seq {self.seq} is applied")
        self._change_limits(limits)

    def _dispatch(self, event: Event) -> None:
        match event:
            case TradeExecuted(exec_type="new"):
                self._apply_new(event)
            case TradeExecuted():
                self._apply_revision(event)
            case MarkPrice():
                self._apply_mark(event)
            case PositionAdjusted():
                self._apply_adjustment(event)
            case SessionStarted():
                self._apply_session()
            case InstrumentDefined():
                self._apply_instrument(event)
            case LimitsChanged():
                self._apply_limits(event)
            case KillSwitch():
                self._apply_kill(event)

    # --- trades -------------------------------------------------------------------------------------------------

    def _apply_new(self, event: TradeExecuted) -> None:
        symbol = self._symbol(event.symbol)
        fill = self._fill(event, symbol)
        facts = self._facts(event, fill, is_new=True)
        self._book(fill)
        symbol.trades.append(fill)
        name = (event.venue, event.account, event.symbol, event.trade_id)
        self._remember(name, fill)
        if not symbol.has_mark_price:
            symbol.mark = fill.price
        revalued = self._ask_clock(symbol)
        self._after_trade(fill.pair, revalued, facts)

    def _apply_revision(self, event: TradeExecuted) -> None:
        """Apply a bust or a correct: the history changes at the old place, and everything follows from it."""
        symbol = self._symbol(event.symbol)
        is_bust = event.exec_type == "bust"
        fill = self._find(event)
        pair = fill.pair
        revised = None if is_bust else self._fill(event, symbol, fill.place)
        fills = [revised if old is fill else old for old in pair.fills]
        history = [kept for kept in fills if kept is not None]
        try:
            position = rebuilt(history)
        except Overflow:
            raise Refused("overflow") from None
        facts = None if revised is None else self._facts(event, revised, is_new=False)
        pair.fills, pair.position = history, position
        self._replace(event, fill, revised)
        rebuild_cells(pair)
        check_cash(pair)
        before = symbol.mark
        if not symbol.has_mark_price:
            symbol.mark = symbol.mark_from_trades()
        revalued = self._revalue(symbol) if symbol.mark != before else []
        self._after_trade(pair, revalued, facts)

    def _fill(self, event: TradeExecuted, symbol: Symbol, place: int | None = None) -> Fill:
        sign = 1 if event.side == "buy" else -1
        return Fill(
            place=self.seq if place is None else place,
            pair=symbol.pairs.get(event.account) or Pair(event.account, symbol),
            venue=event.venue,
            name=event.trade_id,
            is_trade=True,
            strategy=event.strategy,
            quantity=sign * symbol.instrument.quantity(event.volume),
            price=symbol.instrument.price(event.price),
            fee=units(event.fee, FEE_EXPONENT),
        )

    def _facts(self, event: TradeExecuted, fill: Fill, is_new: bool) -> TradeFacts:
        return TradeFacts(
            account=event.account,
            symbol=fill.pair.symbol,
            venue=event.venue,
            strategy=event.strategy,
            quantity=fill.quantity,
            price=fill.price,
            executed_at=event.executed_at,
            mark_before=fill.pair.symbol.mark,
            is_new=is_new,
        )

    def _book(self, fill: Fill) -> None:
        """Append a fill to its pair's history, or refuse it."""
        pair = fill.pair
        try:
            position = after(pair.position, fill)
        except Overflow:
            raise Refused("overflow") from None
        pair.position = position
        pair.fills.append(fill)
        pair.symbol.pairs[pair.account] = pair
        add_to_cell(pair, fill)
        check_cash(pair)
        pair.valued_at = pair.symbol.mark

    def _remember(self, name: TradeName, fill: Fill) -> None:
        self._live.setdefault(name, []).append(fill)
        self._sides_seen.setdefault(name, set()).add(1 if fill.quantity > 0 else -1)

    def _replace(self, event: TradeExecuted, fill: Fill, revised: Fill | None) -> None:
        """Take a fill out of what is live, and put its revision at its place."""
        prefix = (event.venue, event.account, event.symbol)
        self._live[(*prefix, fill.name)].remove(fill)
        fill.live = False
        if revised is not None:
            trades = fill.pair.symbol.trades
            trades[trades.index(fill)] = revised
            self._remember((*prefix, revised.name), revised)

    def _find(self, event: TradeExecuted) -> Fill:
        """Return the live trade that a bust or correct names, or refuse."""
        name = (event.venue, event.account, event.symbol, event.ref_trade_id)
        found = self._live.get(name, [])
        if event.exec_type == "bust":
            side = 1 if event.side == "buy" else -1
            own = [fill for fill in found if fill.quantity * side > 0]
            if own or side in self._sides_seen.get(name, ()):
                found = own
        if not found:
            raise Refused("unknown_trade")
        if len(found) > 1:
            raise Refused("ambiguous_trade")
        return found[0]

    def _after_trade(self, pair: Pair, revalued: list[Pair], facts: TradeFacts | None) -> None:
        pair.valued_at = pair.symbol.mark
        if facts is not None and (pair.account in self._stopped or ANY in self._stopped):
            key = (pair.account, ANY, ANY, ANY)
            self._send(KILL_LIMIT_ID, "trade_after_kill", "breach", key, (VALUE_ONE, 1), None)
        self._judge([pair], revalued, facts)

    # --- marks and sessions -------------------------------------------------------------------------------------

    def _ask_clock(self, symbol: Symbol) -> list[Pair]:
        """Revalue the symbol's holders when trades make its mark and the last time is long enough ago."""
        if symbol.has_mark_price:
            return []
        if symbol.clock_ns is None:
            symbol.clock_ns = self._at
            return []
        if self._at < symbol.clock_ns + self.limits.settings.revalue_every_ns:
            return []
        return self._revalue(symbol)

    def _revalue(self, symbol: Symbol) -> list[Pair]:
        """Value every holder at the mark. Returns those that hold anything."""
        if symbol.clock_ns is not None:
            symbol.clock_ns = max(symbol.clock_ns, self._at)
        for pair in symbol.pairs.values():
            pair.valued_at = symbol.mark
        return [pair for pair in symbol.pairs.values() if not pair.is_flat()]

    def _apply_mark(self, event: MarkPrice) -> None:
        symbol = self._symbol(event.symbol)
        symbol.mark = symbol.instrument.price(event.price)
        symbol.has_mark_price = True
        self._judge([], self._revalue(symbol), None)

    def _apply_adjustment(self, event: PositionAdjusted) -> None:
        symbol = self._symbol(event.symbol)
        fill = Fill(
            place=self.seq,
            pair=symbol.pairs.get(event.account) or Pair(event.account, symbol),
            venue="",
            name="",
            is_trade=False,
            strategy="",
            quantity=symbol.instrument.quantity(event.quantity),
            price=symbol.instrument.price(event.price),
            fee=0,
        )
        self._book(fill)
        self._judge([fill.pair], [], None)

    def _apply_session(self) -> None:
        for symbol in self._symbols.values():
            self._revalue(symbol)
        for pair in self._pairs():
            for name, cell in pair.cells.items():
                cell.money_0, cell.fees_0 = pair.cell_money(name, cell), cell.fees
        for rule in self._rules:
            for state in rule.keys.values():
                state.start_again()
                if rule.kind in RATES:
                    state.total = 0
        self._judge(list(self._pairs()), [], None, all_keys=True)

    # --- instruments, limits, kills -----------------------------------------------------------------------------

    def _apply_instrument(self, event: InstrumentDefined) -> None:
        self._instruments.define(event)
        for symbol in self._symbols.values():
            now = self._instruments.find(symbol.name)
            kept = symbol.instrument
            changed = Instrument(kept.price_exponent, kept.quantity_exponent, now.multiplier, now.currency)
            if changed != kept:
                symbol.instrument = changed
                self._take_in_again(symbol)

    def _take_in_again(self, symbol: Symbol) -> None:
        """Put a symbol's new multiplier and currency into the sums; nobody is judged."""
        self._money.forget(symbol)
        for rule in self._rules:
            for pair in symbol.pairs.values():
                rule.update(pair, self._money)

    def _symbol(self, name: str) -> Symbol:
        """Return a symbol; its exponents are looked up at its first use and stay."""
        found = self._symbols.get(name)
        if found is None:
            found = self._symbols[name] = Symbol(name, self._instruments.find(name))
        return found

    def _apply_limits(self, event: LimitsChanged) -> None:
        self._change_limits(parse_limits({"settings": event.settings, "limit": event.limit}))

    def _change_limits(self, limits: LimitSet) -> None:
        old = self._rules
        self.limits, self._money = limits, Money(limits.settings)
        self._rules = [Rule(limit) for limit in limits.limit]
        self._clear_gone(old)
        for rule in self._rules:
            self._keep_levels(rule, old)
        self._judge(list(self._pairs()), [], None, all_keys=True)

    def _clear_gone(self, old: list[Rule]) -> None:
        staying = {identity_of(rule) for rule in self._rules}
        for rule in old:
            if identity_of(rule) in staying:
                continue
            for key in sorted(rule.keys, key=bytewise):
                if rule.keys[key].level != OK:
                    self._send(rule.limit.id, rule.kind, "clear", key, rule.keys[key].value, rule)

    def _keep_levels(self, rule: Rule, old: list[Rule]) -> None:
        for before in old:
            if identity_of(before) == identity_of(rule):
                for key, state in before.keys.items():
                    if state.level != OK:
                        rule.keys[key] = KeyState(level=state.level)

    def _apply_kill(self, event: KillSwitch) -> None:
        if event.engaged:
            self._stopped.add(event.account)
        elif event.account == ANY:
            self._stopped.clear()
        else:
            self._stopped.discard(event.account)

    # --- judging ------------------------------------------------------------------------------------------------

    def _judge(
        self, touched: list[Pair], revalued: list[Pair], trade: TradeFacts | None, all_keys: bool = False
    ) -> None:
        """Judge the keys that an event touched, once each, limit by limit.

        touched: pairs whose quantities changed. revalued: pairs that only their mark has moved. all_keys: judge every
        key there is, also one without cells.
        """
        engaged: set[str] = set()
        for rule in self._rules:
            if rule.kind in ONE_TRADE:
                if trade is not None:
                    self._judge_trade(rule, trade, engaged)
                continue
            if trade is not None and trade.is_new and rule.kind in RATES:
                rule.enter_window(trade)
            keys: set[Key] = set(rule.keys) if all_keys else set()
            for pair in touched:
                keys.update(rule.update(pair, self._money))
            if rule.kind in MOVED_BY_MARKS:
                for pair in revalued:
                    keys.update(rule.update(pair, self._money))
            for key in sorted(keys, key=bytewise) if len(keys) > 1 else keys:
                self._judge_key(rule, key, engaged)
        self._stopped |= engaged  # from the next event on

    def _judge_key(self, rule: Rule, key: Key, engaged: set[str]) -> None:
        state = rule.state(key)
        value = rule.value(key, state, self._money, self._symbols.get(key[1]))
        level = OK if rule.is_below_floor(key) else rule.next_level(value, state.level)
        state.value = value
        if level == state.level:
            return
        state.level = level
        self._send(rule.limit.id, rule.kind, SEVERITY[level], key, value, rule)
        self._engage(rule, key, level, engaged)

    def _judge_trade(self, rule: Rule, trade: TradeFacts, engaged: set[str]) -> None:
        names = (trade.account, trade.symbol.name, trade.venue, trade.strategy)
        if not rule.matches(names):
            return
        key = rule.key_of(names)
        value = rule.trade_value(trade, rule.state(key), self._money)
        level = OK if value is None else rule.level(value)
        if value is not None and level != OK:
            self._send(rule.limit.id, rule.kind, SEVERITY[level], key, value, rule)
            self._engage(rule, key, level, engaged)

    def _engage(self, rule: Rule, key: Key, level: int, engaged: set[str]) -> None:
        if level == BREACH and rule.limit.action == "kill":
            engaged.add(ANY if rule.limit.kill_scope == "firm" else key[0])

    def _send(self, limit_id: str, kind: str, severity: str, key: Key, value: Value, rule: Rule | None) -> None:
        numerator, denominator = value
        threshold = 0 if rule is None else rule.threshold
        utilization = rounded_text(numerator, denominator * threshold) if threshold else "1"
        account, symbol, venue, strategy = key
        self.alerts.append(
            {
                "alert_no": len(self.alerts) + 1,
                "seq": self.seq,
                "limit_id": limit_id,
                "kind": kind,
                "severity": severity,
                "account": account,
                "symbol": symbol,
                "venue": venue,
                "strategy": strategy,
                "value": rounded_text(numerator, denominator * VALUE_ONE),
                "threshold": text_of(threshold, VALUE_EXPONENT),
                "utilization": utilization,
                "trade_id": self._trade_id,
                "executed_at": self._at,
            }
        )


def identity_of(rule: Rule) -> tuple[str, str, tuple[str, ...]]:
    """Return what makes a limit the same over a LimitsChanged: its levels are kept."""
    return rule.limit.id, rule.kind, rule.limit.per
