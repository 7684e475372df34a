"""`riskwire alerts`: follow the alerts of a running engine."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from engine.cli.options import SECONDS, engine_options, is_insecure, json_option
from engine.cli.output import grouped, paint, print_line, printable

if TYPE_CHECKING:
    from engine.events import RiskAlert


@click.command()
@click.option("--severity", type=click.Choice(["breach", "warn", "clear"]), help="Only this severity.")
@click.option("--account", default="*", metavar="GLOB", help="Only these accounts.")
@click.option("--symbol", default="*", metavar="GLOB", help="Only these symbols.")
@click.option("--since", type=click.IntRange(min=0), metavar="SEQ", help="History from this seq on (inclusive).")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many alerts.")
@click.option("--idle", type=SECONDS, help="End when no alert came for so long, such as 2s.")
@engine_options
@json_option
def alerts(
    severity: str | None,
    account: str,
    symbol: str,
    since: int | None,
    count: int | None,
    idle: float | None,
    connect: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Follow the alerts of a running engine: history from --since on, then live, without a hole.

    STALE on stderr means that nothing at all was heard from the engine for 2 s; --json prints one object a line.
    """
    from engine.subscriber import AlertSubscriber

    with AlertSubscriber(
        connect,
        severity=severity,
        account=account,
        symbol=symbol,
        since=since,
        count=count,
        idle_s=idle,
        on_stale=say_stale,
        wait_s=wait,
        insecure=is_insecure(),
    ) as stream:
        for alert in stream:
            if as_json:
                print_json_line(alert)
            else:
                print_line(alert_text(alert))


def say_stale(stale: bool) -> None:
    """Say on stderr that the engine fell silent, or is back."""
    click.echo("STALE: nothing heard from the engine for 2 s" if stale else "LIVE: the engine is back", err=True)


def print_json_line(alert: RiskAlert) -> None:
    """Print an alert as one line of JSON, at once."""
    from engine.alertframes import alert_line

    sys.stdout.buffer.write(alert_line(alert))
    sys.stdout.buffer.flush()


def alert_text(alert: RiskAlert) -> str:
    """Return an alert as one line for people."""
    from engine.cli.report import percent, time_text

    key = " ".join(
        f"{name}={value}"
        for name in ("account", "symbol", "venue", "strategy")
        if (value := getattr(alert, name)) != "*"
    )
    trade = f", trade {alert.trade_id}" if alert.trade_id else ""
    text = (
        f"{time_text(alert.executed_at)}  {alert.severity:<6}  {alert.limit_id} ({alert.kind})  {key}  "
        f"{grouped(alert.value)} of {grouped(alert.threshold)} ({percent(alert.utilization)})"
        f"  seq {alert.seq}{trade}"
    )
    return paint(printable(text), alert.severity)
