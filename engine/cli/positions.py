"""`riskwire positions`: the positions of a running engine."""

from __future__ import annotations

import click

from engine.cli.options import engine_options, json_option, open_client
from engine.cli.output import print_json, print_line


@click.command()
@click.option("--account", default="*", metavar="GLOB", help="Only these accounts.")
@click.option("--symbol", default="*", metavar="GLOB", help="Only these symbols.")
@engine_options
@json_option
def positions(account: str, symbol: str, connect: str | None, wait: float, as_json: bool) -> None:
    """Show the positions of a running engine, valued at the current marks."""
    with open_client(connect, wait) as engine:
        rows = engine.positions(account=account, symbol=symbol)
    if as_json:
        print_json(rows)
    elif not rows:
        print_line("no positions")
    else:
        from engine.cli.report import print_positions

        print_positions(rows)
