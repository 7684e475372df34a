"""`riskwire serve`: broker, consumers and sink as a daemon."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import insecure_option, is_insecure, json_option
from engine.cli.output import print_json, print_line

if TYPE_CHECKING:
    from engine.config import EngineConfig


@click.command()
@click.option("-c", "--config", metavar="riskwire.toml", help="Settings; options on this line come before them.")
@click.option("--base", metavar="BASE", envvar="RISKWIRE_CONNECT", help="The address to serve.")
@click.option("--journal", metavar="DIR", help="Keep the sequence in DIR. [default: in memory]")
@click.option("--limits", metavar="L.toml", help="The limits to judge by.")
@click.option("--instruments", metavar="FILE", help="Multipliers, currencies and units (.csv or .toml).")
@click.option("--opening", metavar="FILE", help="Opening positions: account,symbol,quantity,price.")
@click.option("--dead-letters", metavar="FILE.db", help="Where what is refused goes.")
@click.option(
    "--sync",
    type=click.Choice(["os", "group", "off"]),
    help="os survives the end of any process, group also the loss of power, off keeps no journal.",
)
@click.option("--retain-size", metavar="SIZE", help="Remove the journal's oldest segments beyond SIZE (10GB).")
@click.option("--retain-age", metavar="AGE", help="Remove segments of the journal that are older than AGE (7d).")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Log lines on stderr; with --json each is a JSON object.",
)
@insecure_option
@json_option
def serve(
    config: str | None,
    opening: str | None,
    retain_size: str | None,
    retain_age: str | None,
    log_level: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run the engine until SIGTERM or Ctrl-C; print `ready BASE` when it accepts."""
    from engine.logs import start_logging
    from engine.runtime import Engine

    start_logging(log_level, as_json)
    settings |= retention(retain_size, retain_age)
    engine = Engine(merged(config, settings), opening=opening, insecure=is_insecure())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: engine.request_stop())
    with engine:
        if as_json:
            print_json({"ready": engine.base})
        else:
            print_line(f"ready {engine.base}")
        engine.wait()


def retention(size: str | None, age: str | None) -> dict[str, int | None]:
    """Return the settings that say what is removed of the journal."""
    from engine.config import parse_age, parse_size
    from engine.errors import UsageError

    settings: dict[str, int | None] = {}
    for key, option, text, parse in (
        ("retain_bytes", "--retain-size", size, parse_size),
        ("retain_age_ns", "--retain-age", age, parse_age),
    ):
        try:
            settings[key] = parse(text) if text is not None else None
        except ValueError as problem:
            raise UsageError(f"{option}: {problem}") from None
    return settings


def merged(config: str | None, settings: dict[str, Any]) -> EngineConfig:
    """Return the settings of the file, with what the command line says instead."""
    import msgspec

    from engine.config import EngineConfig, load_config

    loaded = load_config(config) if config is not None else EngineConfig()
    if config is not None and loaded.base is not None and given_by_environment("base"):
        del settings["base"]  # a file that was asked for comes before the environment
    return msgspec.structs.replace(loaded, **{name: value for name, value in settings.items() if value is not None})


def given_by_environment(name: str) -> bool:
    """Tell whether an option's value came from the environment."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT
