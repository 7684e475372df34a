"""Every exception riskwire raises on purpose.

Each message is one line that says what was found, where, what was expected and what to do.
"""

from __future__ import annotations

from ext.errors import JournalBusy, JournalError, RiskwireError, UsageError
from ext.records import FrameDecodeError

__all__ = [
    "ConfigError",
    "EndpointError",
    "EngineBehind",
    "EngineBusy",
    "EngineUnreachable",
    "FrameDecodeError",
    "InstrumentsError",
    "InvalidEvent",
    "JournalBusy",
    "JournalError",
    "LimitsError",
    "OutputError",
    "RequestRefused",
    "RiskwireError",
    "SinkError",
    "UsageError",
    "VerifyError",
    "WorkerUnfit",
]


class ConfigError(UsageError):
    """riskwire.toml, or a setting given in its place, cannot be used."""


class LimitsError(UsageError):
    """A limits file or a set of limits cannot be used; the message names the key or the line."""


class InstrumentsError(UsageError):
    """An instruments or opening-positions file cannot be used."""


class OutputError(UsageError):
    """An output path or its format cannot be used."""


class EndpointError(UsageError):
    """An address that cannot be used: malformed, too long for the system, or open to the network without keys."""


class EngineBusy(UsageError):
    """Another engine already owns this address or this journal."""


class EngineUnreachable(RiskwireError):
    """No engine answered at the address within the time given."""


class EngineBehind(RiskwireError):
    """The engine takes no more at the moment; nothing was published. Only with ``when_full="raise"``."""


class RequestRefused(RiskwireError):
    """The engine answered a request with an error."""


class SinkError(RiskwireError):
    """The dead-letter file cannot be opened or written."""


class WorkerUnfit(UsageError):
    """Raised by a handler that can do no job at all (its file cannot be written, say), whichever job it has.

    Its worker gives back what it has, which counts no attempt, and ends; the message says what to do.
    """


class VerifyError(RiskwireError):
    """The core and the reference differ; the message names seq and field."""


class InvalidEvent(RiskwireError, ValueError):
    """An event that the door would refuse. ``reason`` is one of the closed list of reasons."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
