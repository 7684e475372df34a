"""riskwire: executed trades in; positions, profit and loss, and limit alerts out.

The names below are imported when they are first used (PEP 562), so that `import engine` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "engine.client": ("EngineClient",),
    "engine.config": ("EngineConfig", "LimitSet", "QueueConfig", "load_config", "load_limits", "parse_limits"),
    "engine.endpoints": ("default_base",),
    "engine.errors": (
        "EngineBehind",
        "EngineUnreachable",
        "InvalidEvent",
        "RequestRefused",
        "RiskwireError",
        "UsageError",
        "WorkerUnfit",
    ),
    "engine.events": (
        "DeadLetter",
        "Event",
        "InstrumentDefined",
        "KillSwitch",
        "LimitsChanged",
        "MarkPrice",
        "PositionAdjusted",
        "PositionUpdated",
        "RiskAlert",
        "SessionStarted",
        "TradeExecuted",
    ),
    "engine.publisher": ("Publisher",),
    "engine.replay": ("ReplayOptions", "Summary", "run_replay"),
    "engine.risk": ("Applied", "RiskEngine"),
    "engine.runtime": ("Engine",),
    "engine.subscriber": ("AlertSubscriber", "EventStream"),
    "engine.worker": ("BatchContext", "JobContext", "Worker"),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [
    "AlertSubscriber",
    "Applied",
    "BatchContext",
    "DeadLetter",
    "Engine",
    "EngineBehind",
    "EngineClient",
    "EngineConfig",
    "EngineUnreachable",
    "Event",
    "EventStream",
    "InstrumentDefined",
    "InvalidEvent",
    "JobContext",
    "KillSwitch",
    "LimitSet",
    "LimitsChanged",
    "MarkPrice",
    "PositionAdjusted",
    "PositionUpdated",
    "Publisher",
    "QueueConfig",
    "ReplayOptions",
    "RequestRefused",
    "RiskAlert",
    "RiskEngine",
    "RiskwireError",
    "SessionStarted",
    "Summary",
    "TradeExecuted",
    "UsageError",
    "Worker",
    "WorkerUnfit",
    "__version__",
    "default_base",
    "load_config",
    "load_limits",
    "parse_limits",
    "run_replay",
]

if TYPE_CHECKING:
    from engine.client import EngineClient
    from engine.config import EngineConfig, LimitSet, QueueConfig, load_config, load_limits, parse_limits
    from engine.endpoints import default_base
    from engine.errors import (
        EngineBehind,
        EngineUnreachable,
        InvalidEvent,
        RequestRefused,
        RiskwireError,
        UsageError,
        WorkerUnfit,
    )
    from engine.events import (
        DeadLetter,
        Event,
        InstrumentDefined,
        KillSwitch,
        LimitsChanged,
        MarkPrice,
        PositionAdjusted,
        PositionUpdated,
        RiskAlert,
        SessionStarted,
        TradeExecuted,
    )
    from engine.publisher import Publisher
    from engine.replay import ReplayOptions, Summary, run_replay
    from engine.risk import Applied, RiskEngine
    from engine.runtime import Engine
    from engine.subscriber import AlertSubscriber, EventStream
    from engine.worker import BatchContext, JobContext, Worker

    __version__: str


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("riskwire")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+checkout"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _MODULE_OF:
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
