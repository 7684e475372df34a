"""Limits as people write them (DESIGN section 6): read strictly, every default filled in."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from engine.checks import Table, listed, plain_text, read_toml, show, suggest
from engine.errors import LimitsError

DIMENSIONS = ("account", "symbol", "venue", "strategy")
KINDS = (
    "max_position",
    "max_notional",
    "gross_notional",
    "net_notional",
    "max_trade_volume",
    "max_trade_notional",
    "max_loss",
    "max_drawdown",
    "trade_rate",
    "volume_rate",
    "price_collar",
    "restricted",
    "concentration",
    "repeated_trade",
)
NEED_SYMBOL = frozenset({"max_position", "max_notional", "price_collar"})
NEED_ACCOUNT_AND_SYMBOL = frozenset({"concentration", "repeated_trade"})
NEED_WINDOW = frozenset({"trade_rate", "volume_rate", "repeated_trade"})
JUDGE_ONE_TRADE = frozenset({"max_trade_volume", "max_trade_notional", "price_collar", "restricted", "repeated_trade"})
ACTIONS = ("alert", "kill")
KILL_SCOPES = ("account", "firm")
KILL_LIMIT_ID = "kill"  # the limit_id of a trade_after_kill alert

LIMIT_KEYS = (
    "id",
    "kind",
    "per",
    "match",
    "threshold",
    "warn_at",
    "clear_at",
    "window",
    "window_ns",
    "floor",
    "action",
    "kill_scope",
)
SETTINGS_KEYS = ("base_currency", "revalue_every", "revalue_every_ns", "fx")
REVALUE_EVERY_NS = 100_000_000
TEXT_BYTES_MAX = 64
GLOB_BYTES_MAX = 256
LIMITS_MAX = 10_000


class Settings(msgspec.Struct, frozen=True):
    """What holds for all limits.

    base_currency: the currency of every money value in limits. revalue_every_ns: how often, in executed_at,
    other holders of a symbol are revalued where its mark comes from trades. fx: decimal text of one unit of
    a currency in the base currency.
    """

    base_currency: str = "USD"
    revalue_every_ns: int = REVALUE_EVERY_NS
    fx: dict[str, str] = {}


class Limit(msgspec.Struct, frozen=True):
    """One limit with every default filled in; numbers are plain decimal text, windows nanoseconds."""

    id: str
    kind: str
    per: tuple[str, ...]
    match: dict[str, str]
    threshold: str
    warn_at: str
    clear_at: str | None
    window_ns: int | None
    floor: str
    action: str
    kill_scope: str


class LimitSet(msgspec.Struct, frozen=True):
    """A whole set of limits, in the order of its file."""

    settings: Settings = Settings()
    limit: tuple[Limit, ...] = ()

    def to_json(self) -> bytes:
        """Return the canonical JSON: one form per meaning, every default filled in, order of limits kept."""
        return _encoder.encode(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the canonical form as plain dicts and lists, as `parse_limits` takes it."""
        plain: dict[str, Any] = msgspec.json.decode(self.to_json())
        return plain


_encoder = msgspec.json.Encoder()


def load_limits(path: str | Path) -> LimitSet:
    """Read and check a limits file.

    path: a TOML file as in docs/limits.md.
    Raises LimitsError, one line naming file, key or line, and what was expected.
    """
    return parse_limits(read_toml(path, LimitsError), where=str(path))


def parse_limits(obj: Mapping[str, Any], where: str = "limits") -> LimitSet:
    """Check limits given as a mapping: a limits file, the fields of a LimitsChanged, or `LimitSet.to_dict()`.

    where: what errors name first. Raises LimitsError.
    """
    top = Table(obj, where, ("settings", "limit"), LimitsError)
    settings = _parse_settings(obj.get("settings"), f"{where}: settings")
    rows = top.tables("limit")
    if len(rows) > LIMITS_MAX:
        top.fail("limit", f"expected at most {LIMITS_MAX} limits, found {len(rows)}")
    limits = tuple(_parse_limit(row, _place(where, i, row)) for i, row in enumerate(rows, 1))
    _check_unique(limits, where)
    return LimitSet(settings, limits)


def _place(where: str, number: int, row: object) -> str:
    """Name the n-th limit in an error: by number, and by id where it has one."""
    identity = row.get("id") if isinstance(row, Mapping) else None
    return f"{where}: limit[{number}]" + (f" {show(identity)}" if isinstance(identity, str) else "")


def _check_unique(limits: tuple[Limit, ...], where: str) -> None:
    first: dict[str, int] = {}
    for number, limit in enumerate(limits, 1):
        if limit.id in first:
            raise LimitsError(
                f"{where}: limit[{number}] {show(limit.id)}: id: already used by limit[{first[limit.id]}]; "
                "ids are unique, choose another"
            )
        first[limit.id] = number


def _parse_settings(obj: object, where: str) -> Settings:
    table = Table({} if obj is None else obj, where, SETTINGS_KEYS, LimitsError)
    base = table.text("base_currency", "USD", TEXT_BYTES_MAX, 1)
    every_ns = table.duration("revalue_every", "revalue_every_ns")
    return Settings(base, every_ns or REVALUE_EVERY_NS, _parse_fx(table.obj.get("fx"), base, f"{where}.fx"))


def _parse_fx(obj: object, base: str, where: str) -> dict[str, str]:
    if obj is None:
        return {}
    if not isinstance(obj, Mapping):
        raise LimitsError(f'{where}: expected a table of rates such as EUR = "1.08", found {show(obj)}')
    table = Table(obj, where, map(str, obj), LimitsError)
    rates = {}
    for currency in sorted(obj):
        table.check_text(currency, currency, TEXT_BYTES_MAX, 1)
        rate = table.decimal(currency, None, 18, -18, 18)
        if rate <= 0:
            table.fail(currency, f"expected a rate above 0, found {show(obj[currency])}")
        if currency == base and rate != 1:
            table.fail(currency, f"the base currency's rate is 1, found {show(obj[currency])}; leave it out")
        if currency != base:
            rates[currency] = plain_text(rate)
    return rates


def _parse_limit(obj: object, where: str) -> Limit:
    table = Table(obj, where, LIMIT_KEYS, LimitsError)
    identity = table.text("id", None, TEXT_BYTES_MAX, 1)
    if identity == KILL_LIMIT_ID:
        table.fail("id", f'"{KILL_LIMIT_ID}" is reserved for trades after a kill; choose another id')
    kind = table.choice("kind", KINDS)
    per = _parse_per(table, kind)
    warn_at, clear_at = _parse_levels(table)
    action = table.choice("action", ACTIONS, "alert")
    kill_scope = table.choice("kill_scope", KILL_SCOPES, "account")
    if action == "kill" and kill_scope == "account" and "account" not in per:
        table.fail("action", '"kill" needs "account" in per, or kill_scope = "firm"')
    return Limit(
        id=identity,
        kind=kind,
        per=per,
        match=_parse_match(table),
        threshold=plain_text(_parse_threshold(table, kind)),
        warn_at=plain_text(warn_at),
        clear_at=None if clear_at is None else plain_text(clear_at),
        window_ns=_parse_window(table, kind),
        floor=plain_text(_parse_floor(table, kind)),
        action=action,
        kill_scope=kill_scope,
    )


def _parse_per(table: Table, kind: str) -> tuple[str, ...]:
    default = ("account", "symbol") if kind in NEED_ACCOUNT_AND_SYMBOL else ()
    value = table.obj.get("per")
    if value is None:
        value = default
    if not isinstance(value, list | tuple):
        table.fail("per", f'expected a list such as ["account", "symbol"], found {show(value)}')
    for name in value:
        if not isinstance(name, str) or name not in DIMENSIONS:
            near = suggest(name, DIMENSIONS) if isinstance(name, str) else ""
            table.fail("per", f"expected some of {listed(DIMENSIONS)}, found {show(name)}{near}")
    if len(set(value)) != len(value):
        table.fail("per", f"expected each name once, found {listed(value)}")
    if kind in NEED_SYMBOL and "symbol" not in value:
        table.fail("per", f'{kind} is kept per symbol: expected "symbol" in per, found {show(list(value))}')
    if kind in NEED_ACCOUNT_AND_SYMBOL and set(value) != set(default):
        table.fail("per", f'{kind} is kept exactly per "account" and "symbol", found {show(list(value))}')
    return tuple(name for name in DIMENSIONS if name in value)


def _parse_match(table: Table) -> dict[str, str]:
    obj = table.obj.get("match")
    globs = Table({} if obj is None else obj, f"{table.where}: match", DIMENSIONS, LimitsError)
    return {name: globs.text(name, None, GLOB_BYTES_MAX) for name in DIMENSIONS if globs.has(name)}


def _parse_threshold(table: Table, kind: str) -> Decimal:
    if kind == "restricted":
        # Absent in a file; "0" in the canonical form, which says what the alert says.
        if table.has("threshold") and table.obj["threshold"] != "0":
            table.fail("threshold", "restricted takes no threshold: every trade that matches is a breach")
        return Decimal(0)
    threshold = table.decimal("threshold", None)
    if threshold <= 0:
        table.fail("threshold", f"expected a number above 0, found {show(table.obj['threshold'])}")
    return threshold


def _parse_levels(table: Table) -> tuple[Decimal, Decimal | None]:
    warn_at = table.ratio("warn_at") or Decimal("0.8")
    clear_at = table.ratio("clear_at")
    if clear_at is not None and clear_at > warn_at:
        table.fail("clear_at", f"expected at most warn_at ({plain_text(warn_at)}), found {plain_text(clear_at)}")
    return warn_at, clear_at


def _parse_window(table: Table, kind: str) -> int | None:
    window_ns = table.duration("window", "window_ns")
    if kind in NEED_WINDOW and window_ns is None:
        table.fail("window", f'missing; {kind} needs a window such as "1s"')
    if kind not in NEED_WINDOW and window_ns is not None:
        table.fail("window", f"{kind} has no window; only {listed(sorted(NEED_WINDOW))} have one")
    return window_ns


def _parse_floor(table: Table, kind: str) -> Decimal:
    floor = table.decimal("floor", "0")
    if floor < 0:
        table.fail("floor", f"expected 0 or more, found {show(table.obj['floor'])}")
    if kind != "concentration" and floor != 0:
        table.fail("floor", f"only concentration has a floor; {kind} has none")
    return floor
