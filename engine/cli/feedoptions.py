"""Options of the commands that read recorded feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    SpeedType = click.ParamType[float | None]
    TimeType = click.ParamType[int | None]
else:
    SpeedType = TimeType = click.ParamType  # generic in newer versions of click only

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


class FeedTime(TimeType):
    """A time as feeds write them: an integer since 1970, or ISO 8601; the command gets ns."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return ns since 1970 UTC."""
        from ext.decimals import parse_timestamp

        if value is None or isinstance(value, int):
            return value
        reason, time_ns = parse_timestamp(str(value).encode())
        if reason:
            self.fail(f"expected a time such as 2024-01-02T09:30:00Z, found {value!r}", param, ctx)
        return time_ns


TIME = FeedTime()

# What open_feed takes besides format, map, side and account, by its names.
READING = (
    "accounts", "seed", "marks", "time_from", "time_to", "only_symbols", "only_accounts", "max_records", "lenient",
)  # fmt: skip


def reading_of(options: dict[str, Any]) -> dict[str, Any]:
    """Take what is for open_feed alone out of a command's options."""
    return {name: options.pop(name) for name in READING}


def feed_paths(ctx: click.Context, param: click.Parameter, feeds: tuple[str, ...]) -> tuple[str, ...]:
    """Return the feeds as paths: `-` is standard input, as it is to other programs (a file of that name: `./-`)."""
    return tuple("/dev/stdin" if feed == "-" else feed for feed in feeds)


def feed_options(command: Command) -> Command:
    """Add FEED… and what says how to read it: `feeds`, `format`, `map`, `side`, `account`, and READING."""
    for add in reversed(
        [
            click.argument("feeds", metavar="FEED...", nargs=-1, required=True, callback=feed_paths),
            click.option("--format", metavar="F", help="Format of the feeds. [default: guessed from the content]"),
            click.option(
                "--map",
                metavar="FIELD=COLUMN,...",
                help="Which column is which field: price=px,volume=qty; numbers from 1 in a file without a header; "
                "symbol==BTCUSDT is a constant. Or FILE.toml: a preset of your own.",
            ),
            click.option("--side", metavar="S", help="buy, sell or tick (rule), for feeds without a side."),
            click.option("--account", metavar="NAME", help="The account of records that name none."),
            click.option(
                "--accounts",
                metavar="N",
                type=click.IntRange(1, 1_000_000),
                help="So many accounts for records that name none, by a hash of symbol and trade id.",
            ),
            click.option("--seed", type=click.IntRange(0), default=0, metavar="N", help="Another hash for --accounts."),
            click.option(
                "--marks",
                metavar="FILE",
                multiple=True,
                help="Trades or quotes that come as marks, merged by time. May be given again.",
            ),
            click.option("--from", "time_from", type=TIME, metavar="TIME", help="Leave out what is before TIME."),
            click.option("--to", "time_to", type=TIME, metavar="TIME", help="Leave out what is at TIME or later."),
            click.option(
                "--only-symbol",
                "only_symbols",
                multiple=True,
                metavar="GLOB",
                help="Symbols to read. May be given again.",
            ),
            click.option(
                "--only-account",
                "only_accounts",
                multiple=True,
                metavar="GLOB",
                help="Accounts to read. May be given again.",
            ),
            click.option("--max-records", type=click.IntRange(1), metavar="N", help="Stop after N records."),
            click.option("--lenient", is_flag=True, help="Take FIX messages whose checksum or length is wrong."),
        ]
    ):
        command = add(command)
    return command
