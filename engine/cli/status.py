"""`riskwire status`: what a running engine says about itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from engine.cli.options import engine_options, json_option, open_client
from engine.cli.output import print_json, print_pairs


@click.command()
@engine_options
@json_option
def status(connect: str | None, wait: float, as_json: bool) -> None:
    """Show what a running engine is doing: counts, sequence, journal, queues."""
    with open_client(connect, wait) as engine:
        answer = engine.status()
    if as_json:
        print_json(answer)
    else:
        print_pairs(flattened(answer))


def flattened(answer: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values for people; what is nested gets a dotted name."""
    for name, value in answer.items():
        label = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from flattened(value, f"{label}.")
        elif isinstance(value, list | tuple):
            for number, item in enumerate(value, 1):
                yield from flattened(item if isinstance(item, Mapping) else {"": item}, f"{label}[{number}].")
        else:
            yield label.removesuffix("."), shown(value)


def shown(value: object) -> str:
    """Return one value for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
