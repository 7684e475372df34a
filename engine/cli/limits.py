"""`riskwire limits show|check|set`: the limits of a file or of a running engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.groups import CommandGroup
from engine.cli.options import engine_options, json_option, open_client, user_name
from engine.cli.output import Table, count_of, print_json, print_line

if TYPE_CHECKING:
    from engine.config import LimitSet


@click.group(cls=CommandGroup)
def limits() -> None:
    """Show, check or set limits."""


@limits.command()
@engine_options
@json_option
def show(connect: str | None, wait: float, as_json: bool) -> None:
    """Show the limits of a running engine."""
    from engine.config import parse_limits

    with open_client(connect, wait) as engine:
        answer = engine.request("limits")["limits"]
    if as_json:
        print_json(answer)
        return
    limit_set = parse_limits(answer, where="the engine's limits")
    print_limits(limit_set)
    print_line(f"{count_of(len(limit_set.limit), 'limit')}, money in {limit_set.settings.base_currency}")


@limits.command()
@click.argument("file", type=str)
@click.option("--instruments", type=str, metavar="FILE", help="Also check that every currency has a rate.")
@json_option
def check(file: str, instruments: str | None, as_json: bool) -> None:
    """Check a limits file without using it.

    Ends with exit code 2 and one line naming the key or line where the file cannot be used.
    """
    from engine.config import check_currencies, load_instruments, load_limits

    limit_set = load_limits(file)
    if instruments is not None:
        check_currencies(limit_set, load_instruments(instruments))
    if as_json:
        print_json({"ok": True, "limits": len(limit_set.limit), **limit_set.to_dict()})
        return
    print_limits(limit_set)
    print_line(f"{file}: {count_of(len(limit_set.limit), 'limit')}, all well")


@limits.command(name="set")
@click.argument("file", type=str)
@engine_options
@json_option
def set_limits(file: str, connect: str | None, wait: float, as_json: bool) -> None:
    """Give a running engine the limits of FILE instead of those it has.

    A limit that keeps its id and kind keeps its level; one that is gone sends `clear` where it was not ok.
    """
    from engine.config import load_limits

    limit_set = load_limits(file)
    with open_client(connect, wait) as engine:
        answer = engine.request("limits_set", limits=limit_set.to_dict(), who=user_name())
    if as_json:
        print_json({"limits": len(limit_set.limit), **answer})
    else:
        print_line(f"{file}: {count_of(len(limit_set.limit), 'limit')} in force from seq {answer['seq']}")


def print_limits(limit_set: LimitSet) -> None:
    """Print a set of limits as a table."""
    table = Table("id", "kind", "per", "match", ">threshold", ">warn at", ">clear at", ">window", "action")
    for limit in limit_set.limit:
        table.add(
            limit.id,
            limit.kind,
            ", ".join(limit.per) or "firm",
            " ".join(f"{name}={glob}" for name, glob in limit.match.items()) or "all",
            limit.threshold,
            limit.warn_at,
            limit.clear_at or "-",
            duration_text(limit.window_ns),
            limit.action,
        )
    table.print()


def duration_text(duration_ns: int | None) -> str:
    """Return a duration in its largest whole unit; `-` for none."""
    from engine.checks import DURATION_NS

    if duration_ns is None:
        return "-"
    unit, unit_ns = next(
        (unit, unit_ns) for unit, unit_ns in reversed(DURATION_NS.items()) if duration_ns % unit_ns == 0
    )
    return f"{duration_ns // unit_ns}{unit}"
