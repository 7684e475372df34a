"""Settings that people write: `riskwire.toml`, limits, instruments and opening positions.

Everything is checked whole before it is used; every error is one line that names file, key or line, what was
found and what was expected. What other modules need is imported from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engine.checks import Table, listed, parse_age, parse_duration, parse_size, read_toml, show, suggest
from engine.errors import ConfigError, InstrumentsError, LimitsError
from engine.limitset import (
    DIMENSIONS,
    JUDGE_ONE_TRADE,
    KILL_LIMIT_ID,
    KINDS,
    Limit,
    LimitSet,
    Settings,
    load_limits,
    parse_limits,
)
from engine.reference import (
    check_currencies,
    content_id,
    limits_event_id,
    load_instruments,
    load_opening,
)
from ext.records import EVENT_NAMES

__all__ = [
    "DIMENSIONS",
    "JUDGE_ONE_TRADE",
    "KILL_LIMIT_ID",
    "KINDS",
    "ConfigError",
    "EngineConfig",
    "InstrumentsError",
    "Limit",
    "LimitSet",
    "LimitsError",
    "QueueConfig",
    "Settings",
    "check_currencies",
    "content_id",
    "limits_event_id",
    "load_config",
    "load_instruments",
    "load_limits",
    "load_opening",
    "parse_age",
    "parse_config",
    "parse_duration",
    "parse_limits",
    "parse_size",
]

SYNC_MODES = ("os", "group", "off")
ORDER_BY = ("account", "symbol", "venue", "strategy")
ENDPOINT_SCHEMES = ("ipc://", "tcp://", "inproc://")
SECOND_NS = 1_000_000_000


class QueueConfig(msgspec.Struct, frozen=True):
    """One queue: every job goes to one of its workers.

    lease_ns: how long a worker may keep a job without an ack. max_attempts: after so many the job is a dead
    letter. order_by: jobs of one account (symbol, ...) are done one after another. backoff_min_ns,
    backoff_max_ns: the first and the longest pause before a next attempt. in_hands_max: jobs that one worker
    may hold without an ack. events: the types of events that are its jobs. match: globs on the symbol, account, venue
    and strategy of those it takes.
    """

    name: str
    max_attempts: int = 5
    lease_ns: int = 5 * SECOND_NS
    order_by: str | None = None
    backoff_min_ns: int = SECOND_NS // 10
    backoff_max_ns: int = 30 * SECOND_NS
    in_hands_max: int = 2048
    events: tuple[str, ...] = ("TradeExecuted",)
    match: dict[str, str] = {}


class EngineConfig(msgspec.Struct, frozen=True):
    """A running engine's settings: `[engine]` and `[[queue]]` of riskwire.toml.

    expected_trades: for so many, memory is made at the start, so that no trade pays for its pages; more may come.
    dedup_max_trades: trades remembered to know duplicates. max_names: names of each kind (symbols, accounts,
    venues, strategies). events_hwm, alerts_hwm: frames that wait for one slow subscriber before PUB drops
    them (it fetches them later). publisher_window_frames: frames one publisher may have unacked. sink_hwm:
    frames of dead letters that wait for the sink. heartbeat_every_ns: how often a silent engine says that it
    is alive. snapshot_every_ns: between two snapshots of the risk consumer beside the journal; snapshots_kept: the
    last so many stay. segment_bytes: the largest segment of the journal. retain_bytes, retain_age_ns: whole segments of
    it beyond this size, or numbered longer ago, are removed once nothing needs them; 0: none is.
    """

    base: str | None = None
    journal: str | None = None
    sync: str = "os"
    limits: str | None = None
    instruments: str | None = None
    dead_letters: str | None = None
    expected_trades: int = 0
    dedup_max_trades: int = 50_000_000
    max_names: int = 1_000_000
    events_hwm: int = 1_000
    alerts_hwm: int = 10_000
    publisher_window_frames: int = 64
    sink_hwm: int = 1_000
    heartbeat_every_ns: int = SECOND_NS // 2
    snapshot_every_ns: int = 60 * SECOND_NS
    snapshots_kept: int = 3
    segment_bytes: int = 64 << 20
    retain_bytes: int = 0
    retain_age_ns: int = 0
    queue: tuple[QueueConfig, ...] = ()

    @property
    def retains_all(self) -> bool:
        """Whether no segment of the journal is ever removed."""
        return not (self.retain_bytes or self.retain_age_ns)


# key: (default, lowest, highest) of the whole numbers that bound buffers
ENGINE_BOUNDS = {
    "expected_trades": (0, 0, 10**9),
    "dedup_max_trades": (50_000_000, 1, 10**10),
    "max_names": (1_000_000, 1, 2**31 - 1),
    "events_hwm": (1_000, 1, 1_000_000),
    "alerts_hwm": (10_000, 1, 10_000_000),
    "publisher_window_frames": (64, 1, 65_536),
    "sink_hwm": (1_000, 1, 1_000_000),
    "snapshots_kept": (3, 1, 100),
}
ENGINE_KEYS = (
    "base",
    "journal",
    "sync",
    "limits",
    "instruments",
    "dead_letters",
    *ENGINE_BOUNDS,
    "heartbeat_every",
    "snapshot_every",
    "segment_size",
    "retain_size",
    "retain_age",
)
SEGMENT_BYTES = (64 << 10, 4 << 30)
RETAIN_BYTES = (1, 1 << 60)
QUEUE_KEYS = (
    "name",
    "max_attempts",
    "lease",
    "order_by",
    "backoff_min",
    "backoff_max",
    "in_hands_max",
    "events",
    "match",
)
JOB_EVENTS = tuple(name for name in EVENT_NAMES.values() if name != "Rejected")
GLOB_BYTES_MAX = 256


def load_config(path: str | Path) -> EngineConfig:
    """Read and check a riskwire.toml. Relative paths in it are relative to its folder. Raises ConfigError."""
    return parse_config(read_toml(path, ConfigError), where=str(path), folder=Path(path).parent)


def parse_config(obj: dict[str, Any], where: str = "riskwire.toml", folder: Path | None = None) -> EngineConfig:
    """Check the settings of an engine given as a mapping.

    where: what errors name first. folder: what relative paths are relative to (default: left as they are).
    Raises ConfigError, one line naming the key and what was expected.
    """
    top = Table(obj, where, ("engine", "queue"), ConfigError)
    engine = Table(obj.get("engine", {}), f"{where}: engine", ENGINE_KEYS, ConfigError)
    queues = tuple(_parse_queue(row, f"{where}: queue[{i}]") for i, row in enumerate(top.tables("queue"), 1))
    names = [queue.name for queue in queues]
    for number, name in enumerate(names, 1):
        if name in names[: number - 1]:
            top.fail(f"queue[{number}]", f"name: {show(name)} is already used; queue names are unique")
    numbers = {key: engine.integer(key, *bounds) for key, bounds in ENGINE_BOUNDS.items()}
    return EngineConfig(
        base=_endpoint(engine),
        journal=_path(engine, "journal", folder),
        sync=engine.choice("sync", SYNC_MODES, "os"),
        limits=_path(engine, "limits", folder),
        instruments=_path(engine, "instruments", folder),
        dead_letters=_path(engine, "dead_letters", folder),
        heartbeat_every_ns=engine.duration("heartbeat_every") or EngineConfig().heartbeat_every_ns,
        snapshot_every_ns=engine.duration("snapshot_every") or EngineConfig().snapshot_every_ns,
        segment_bytes=engine.size("segment_size", *SEGMENT_BYTES) or EngineConfig().segment_bytes,
        retain_bytes=engine.size("retain_size", *RETAIN_BYTES) or 0,
        retain_age_ns=engine.age("retain_age") or 0,
        queue=queues,
        **numbers,
    )


def _endpoint(engine: Table) -> str | None:
    if not engine.has("base"):
        return None
    base = engine.text("base", None, 1024, 1)
    if not base.startswith(ENDPOINT_SCHEMES) or base in ENDPOINT_SCHEMES:
        engine.fail("base", f'expected "ipc://FOLDER" or "tcp://HOST:PORT", found {show(base)}')
    return base


def _path(engine: Table, key: str, folder: Path | None) -> str | None:
    if not engine.has(key):
        return None
    path = engine.text(key, None, 4096, 1)
    if "\0" in path:
        engine.fail(key, "expected a path, found a text with a NUL in it")
    return str(folder / path) if folder is not None else path


def _parse_queue(obj: object, where: str) -> QueueConfig:
    table = Table(obj, where, QUEUE_KEYS, ConfigError)
    default = QueueConfig(name="")
    backoff_min_ns = table.duration("backoff_min") or default.backoff_min_ns
    backoff_max_ns = table.duration("backoff_max") or max(default.backoff_max_ns, backoff_min_ns)
    if backoff_max_ns < backoff_min_ns:
        table.fail("backoff_max", "expected at least backoff_min")
    return QueueConfig(
        name=table.text("name", None, 64, 1),
        max_attempts=table.integer("max_attempts", default.max_attempts, 1, 1_000_000),
        lease_ns=table.duration("lease") or default.lease_ns,
        order_by=table.choice("order_by", ORDER_BY) if table.has("order_by") else None,
        backoff_min_ns=backoff_min_ns,
        backoff_max_ns=backoff_max_ns,
        in_hands_max=table.integer("in_hands_max", default.in_hands_max, 1, 1_000_000),
        events=_job_events(table) or default.events,
        match=_job_match(table),
    )


def _job_events(table: Table) -> tuple[str, ...]:
    words = table.obj.get("events")
    if words is None:
        return ()
    if not isinstance(words, list) or not words:
        table.fail("events", f"expected a list of event types, such as [{listed(JOB_EVENTS)}]; found {show(words)}")
    for word in words:
        if word not in JOB_EVENTS:
            near = suggest(str(word), JOB_EVENTS)
            table.fail("events", f"expected some of {listed(JOB_EVENTS)}, found {show(word)}{near}")
    return tuple(dict.fromkeys(words))


def _job_match(table: Table) -> dict[str, str]:
    globs = Table(table.obj.get("match", {}), f"{table.where}: match", DIMENSIONS, ConfigError)
    return {name: globs.text(name, None, GLOB_BYTES_MAX) for name in DIMENSIONS if globs.has(name)}
