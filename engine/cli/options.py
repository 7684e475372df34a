"""Options and parameter types that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from engine.client import EngineClient

    SecondsType = click.ParamType[float]
else:
    SecondsType = click.ParamType  # generic in newer versions of click only

Command = TypeVar("Command", bound=Callable[..., Any])

WAIT_DEFAULT = "5s"
SECONDS_NS = 1_000_000_000
INSECURE = "engine.cli.insecure"


class Seconds(SecondsType):
    """A duration such as `500ms`, `2s` or `1m`, or plain seconds (`2`, `0.5`); the command gets seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds, zero or more."""
        from engine.checks import parse_duration

        if isinstance(value, int | float):
            return float(value)
        plain = value.replace(".", "", 1)
        if plain.isascii() and plain.isdigit():
            return float(value)
        try:
            return parse_duration(value) / SECONDS_NS
        except ValueError as problem:
            self.fail(str(problem), param, ctx)


SECONDS = Seconds()


def connect_option(command: Command) -> Command:
    """Add `--connect BASE`: which engine to talk to."""
    return click.option(
        "--connect",
        metavar="BASE",
        envvar="RISKWIRE_CONNECT",
        help="The engine's base endpoint: ipc://FOLDER or tcp://HOST:PORT. "
        "[default: $RISKWIRE_CONNECT, else the folder in your runtime directory]",
    )(command)


def wait_option(command: Command) -> Command:
    """Add `--wait`: how long to look for the engine."""
    return click.option(
        "--wait",
        type=SECONDS,
        default=WAIT_DEFAULT,
        show_default=True,
        help="How long to wait for the engine to answer.",
    )(command)


def remember_insecure(ctx: click.Context, _: click.Parameter, insecure: bool) -> None:
    """Keep `--insecure` for `is_insecure`."""
    ctx.meta[INSECURE] = insecure


def insecure_option(command: Command) -> Command:
    """Add `--insecure`, which `is_insecure()` tells."""
    return click.option(
        "--insecure",
        is_flag=True,
        expose_value=False,
        callback=remember_insecure,
        help="Allow tcp:// beyond loopback, where anybody on the network can read and steer the engine.",
    )(command)


def is_insecure() -> bool:
    """Tell whether the command that runs was given `--insecure`."""
    return bool(click.get_current_context().meta.get(INSECURE, False))


def engine_options(command: Command) -> Command:
    """Add what every command that talks to an engine takes: `connect`, `wait` (seconds), and `--insecure`."""
    return connect_option(wait_option(insecure_option(command)))


def open_client(connect: str | None, wait: float) -> EngineClient:
    """Return a connection to the engine that the options name; close it, or use it in a `with`."""
    from engine.client import EngineClient

    return EngineClient(connect, wait_s=wait, insecure=is_insecure())


def json_option(command: Command) -> Command:
    """Add `--json`: print for programs, not for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def user_name() -> str:
    """Return who steers the engine, for the record: at most 64 bytes."""
    import getpass

    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return name.encode()[:64].decode(errors="ignore")
