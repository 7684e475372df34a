"""The root of riskwire's exceptions, at the bottom of the import order; engine/errors.py hands them all on."""

from __future__ import annotations


class RiskwireError(Exception):
    """Something riskwire can name. ``exit_code`` is what the command line ends with."""

    exit_code = 1


class UsageError(RiskwireError):
    """What the user gave cannot be used: a file, an option, an endpoint, a setting."""

    exit_code = 2


class JournalError(RiskwireError):
    """A journal is damaged or cannot be written; the message names segment and offset."""


class JournalBusy(UsageError, JournalError):
    """Another engine has this journal open for writing."""
