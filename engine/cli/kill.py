"""`riskwire kill|release ACCOUNT`: an account's kill switch."""

from __future__ import annotations

import click

from engine.cli.options import engine_options, json_option, open_client, user_name
from engine.cli.output import print_json, print_line


@click.command()
@click.argument("account")
@engine_options
@json_option
def kill(account: str, connect: str | None, wait: float, as_json: bool) -> None:
    """Stop ACCOUNT (`*`: all): from the next event on, each of its trades raises trade_after_kill.

    The switch is announced to order gateways and lasts over restarts until `riskwire release`.
    """
    switch("kill", account, connect, wait, as_json)


@click.command()
@click.argument("account")
@engine_options
@json_option
def release(account: str, connect: str | None, wait: float, as_json: bool) -> None:
    """Release the kill switch of ACCOUNT (`*`: all)."""
    switch("release", account, connect, wait, as_json)


def switch(verb: str, account: str, connect: str | None, wait: float, as_json: bool) -> None:
    """Send the request and say what came of it."""
    with open_client(connect, wait) as engine:
        answer = engine.request(verb, account=account, who=user_name())
    if as_json:
        print_json({"account": account, "engaged": verb == "kill", **answer})
    else:
        done = "stopped" if verb == "kill" else "released"
        print_line(f"{'every account' if account == '*' else account} {done} at seq {answer['seq']}")
