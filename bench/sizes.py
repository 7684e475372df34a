"""How much a group measures: everything, each thing once and small (--quick), or for a moment (--smoke)."""

from __future__ import annotations

import argparse
from typing import TypeVar

T = TypeVar("T")


def sized(options: argparse.Namespace, full: T, quick: T, smoke: T) -> T:
    """Return what fits the run that was asked for."""
    if options.smoke:
        return smoke
    return quick if options.quick else full


def trades_of(options: argparse.Namespace, full: int, quick: int, smoke: int) -> int:
    """Return how many trades a round has: --trades, else what fits the run."""
    return options.trades or sized(options, full, quick, smoke)
