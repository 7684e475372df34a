"""`riskwire worker`: one competing worker on a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.options import engine_options, is_insecure

if TYPE_CHECKING:
    from engine.worker import Worker

PROMPT_STOP = 2  # the second Ctrl-C does not wait for what is in hand


@click.command()
@click.option("--queue", "queue", required=True, metavar="NAME", help="The queue; made where there is none yet.")
@click.option("--handler", required=True, metavar="PACKAGE.MODULE:FUNCTION", help="Called with (event, context).")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=1, show_default=True, help="Handlers at once.")
@click.option("--batch", type=click.IntRange(1, 4096), help="Call the handler with up to so many events at once.")
@click.option("--processed", metavar="FILE.db", help="Where context.once keeps what took effect.")
@engine_options
def worker(
    queue: str,
    handler: str,
    concurrency: int,
    batch: int | None,
    processed: str | None,
    connect: str | None,
    wait: float,
) -> int:
    """Run HANDLER on the jobs of a queue until told to stop.

    The handler is `def handle(event, context)` or `async def`; when it returns, the job is done; when it raises, the
    job comes again later, and after the queue's max_attempts it is a dead letter. With --batch it is
    `def handle(events, context)`, called with what is there, at most N. SIGTERM and Ctrl-C let what is in hand finish.
    """
    from engine.worker import Worker, load_handler

    works = Worker(
        queue,
        load_handler(handler),
        connect,
        concurrency=concurrency,
        batch=batch or 0,
        processed=processed,
        wait_s=wait,
        insecure=is_insecure(),
    )
    return run_until_told(works)


def run_until_told(works: Worker) -> int:
    """Run a worker until SIGTERM or Ctrl-C, and return the exit code; the second Ctrl-C does not wait."""
    import signal

    interrupts = 0

    def interrupt(*_: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts >= PROMPT_STOP:
            raise KeyboardInterrupt
        works.stop()

    signal.signal(signal.SIGTERM, lambda *_: works.stop())
    signal.signal(signal.SIGINT, interrupt)
    works.run()
    return 130 if interrupts else 0
