"""`riskwire session start NAME`: trading sessions."""

from __future__ import annotations

import click

from engine.cli.groups import CommandGroup
from engine.cli.options import engine_options, json_option, open_client
from engine.cli.output import print_json, print_line


@click.group(cls=CommandGroup)
def session() -> None:
    """Start a trading session."""


@session.command()
@click.argument("name")
@engine_options
@json_option
def start(name: str, connect: str | None, wait: float, as_json: bool) -> None:
    """Start session NAME: P&L, peaks and windows of the limits begin again; kills stay."""
    with open_client(connect, wait) as engine:
        answer = engine.request("session", name=name)
    if as_json:
        print_json({"name": name, **answer})
    else:
        print_line(f"session {name} started at seq {answer['seq']}")
