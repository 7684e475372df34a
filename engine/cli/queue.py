"""`riskwire queue`: how the queues of a running engine are: depth, what is in flight, ages, attempts, workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from engine.cli.options import engine_options, is_insecure, json_option
from engine.cli.output import Table, print_json, print_line

if TYPE_CHECKING:
    from engine.jobwire import QueueStatus


@click.command()
@click.argument("name", required=False)
@engine_options
@json_option
def queue(name: str | None, connect: str | None, wait: float, as_json: bool) -> None:
    """Show the queues of a running engine, or the one called NAME, and who works on them.

    depth is how many jobs are not done yet: waiting, in flight, between attempts or parked behind a dead job. For a
    moment after a start it is an upper bound, marked ≤: events that were not looked at yet count as jobs.
    """
    import msgspec

    queues = ask(connect, wait)
    if name is not None:
        queues = [each for each in queues if each.name == name]
        if not queues:
            raise click.UsageError(f"there is no queue {name!r}; `riskwire queue` shows which there are")
    if as_json:
        print_json([msgspec.to_builtins(each) for each in queues])
    elif not queues:
        print_line("no queues; one is made when a worker asks for it: riskwire worker --queue NAME --handler …")
    else:
        print_queues(queues)


def ask(connect: str | None, wait: float) -> list[QueueStatus]:
    """Return how the queues are."""
    import zmq

    from engine.endpoints import check_base, default_base
    from engine.jobwire import Status, StatusRequest
    from engine.requeue import ask_queue

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        answer = ask_queue(context, check_base(connect or default_base(), is_insecure()), StatusRequest(), wait)
    finally:
        context.term()
    assert isinstance(answer, Status)
    return answer.queues


def print_queues(queues: list[QueueStatus]) -> None:
    """Print a table of queues, and one of workers where there are any."""
    numbers = (">depth", ">in flight", ">oldest", ">retrying", ">parked", ">dead", ">done", ">failed")
    table = Table("queue", *numbers, "attempts")
    for each in queues:
        depth = f"≤{each.depth}" if each.uncounted else each.depth
        counts = (depth, each.in_flight, age(each.oldest_s), each.retrying, each.parked, each.dead, each.done)
        table.add(each.name, *counts, each.failed, attempts(each.attempts))
    table.print()
    workers = [(each.name, worker) for each in queues for worker in each.workers]
    print_line()
    if not workers:
        print_line("no workers")
        return
    table = Table("worker", "queue", ">pid", ">in flight", ">credit", ">done", ">failed", ">heard", "attempts")
    for name, worker in workers:
        numbers_of = (worker.pid, worker.in_flight, worker.credit, worker.done, worker.failed)
        table.add(worker.worker, name, *numbers_of, age(worker.silent_s), attempts(worker.attempts))
    table.print()


def age(seconds: float) -> str:
    """Return a duration in the unit that suits it.

    >>> [age(0), age(0.0123), age(5.04), age(400), age(90_000)]
    ['-', '12 ms', '5.0 s', '6.7 min', '25.0 h']
    """
    if not seconds:
        return "-"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def attempts(counts: Mapping[str, int]) -> str:
    """Return how many jobs are at which attempt, the first left out.

    >>> attempts({"1": 12, "2": 3, "4": 1})
    '3 at 2, 1 at 4'
    """
    return ", ".join(f"{count} at {attempt}" for attempt, count in counts.items() if attempt != "1") or "-"
