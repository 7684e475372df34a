"""Options of the commands that read recorded feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    SpeedType = click.ParamType[float | None]
else:
    SpeedType = click.ParamType  # generic in newer versions of click only

Command = TypeVar("Command", bound=Callable[..., Any])


class Speed(SpeedType):
    """`max`, or how many times the recorded speed; the command gets None or a number."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return None for `max`."""
        if value == "max" or value is None:
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"expected `max` or a number above 0, found {value!r}", param, ctx)
        return speed


SPEED = Speed()


def feed_options(command: Command) -> Command:
    """Add FEED… and what says how to read it: `feeds`, `format`, `map`, `side`, `account`."""
    for add in reversed(
        [
            click.argument("feeds", metavar="FEED...", nargs=-1, required=True),
            click.option("--format", metavar="F", help="Format of the feeds. [default: guessed from the content]"),
            click.option(
                "--map",
                metavar="FIELD=COLUMN,...",
                help="Which column is which field: price=px,volume=qty; numbers from 1 in a file without a header; "
                "symbol==BTCUSDT is a constant.",
            ),
            click.option("--side", metavar="S", help="buy, sell or tick (rule), for feeds without a side."),
            click.option("--account", metavar="NAME", help="The account of records that name none."),
        ]
    ):
        command = add(command)
    return command
