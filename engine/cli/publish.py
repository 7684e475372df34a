"""`riskwire publish`: a recorded feed into a running engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from engine.cli.feedoptions import feed_options
from engine.cli.options import engine_options, is_insecure, json_option
from engine.cli.output import print_json, print_pairs
from engine.cli.progress import Progress

if TYPE_CHECKING:
    from engine.publisher import Publisher
    from feeds import Feed


@click.command()
@feed_options
@click.option("--source", metavar="NAME", default="publish", show_default=True, help="Who publishes, for the record.")
@click.option("--frame-records", type=click.IntRange(1, 8192), default=1024, show_default=True, help="Events a frame.")
@engine_options
@json_option
def publish(
    feeds: tuple[str, ...],
    source: str,
    frame_records: int,
    connect: str | None,
    wait: float,
    as_json: bool,
    **reading: Any,
) -> None:
    """Publish recorded trades into a running engine; end when everything is acked.

    Run again, or after a crash of anything, it adds nothing twice: what the engine has is a duplicate.
    """
    from engine.endpoints import check_base, default_base
    from engine.publisher import Publisher
    from feeds import open_feed

    base = check_base(connect or default_base(), is_insecure())
    started = time.perf_counter()
    with open_feed(feeds, **reading) as feed, Publisher(base, source, wait_s=wait) as publisher:
        send(feed, publisher, frame_records)
        stats = publisher.stats
    elapsed_s = time.perf_counter() - started
    result = {
        "published": stats.sent,
        "accepted": stats.sent - stats.duplicates - stats.refused,
        "duplicates": stats.duplicates,
        "dead_letters": stats.refused,
        "elapsed_s": elapsed_s,
        "trades_per_s": stats.sent / elapsed_s,
        "source": source,
        "base": base,
    }
    if as_json:
        print_json(result)
    else:
        print_published(result)


def send(feed: Feed, publisher: Publisher, frame_records: int) -> None:
    """Publish every frame and wait for the last ack."""
    with Progress("publish") as progress:
        while (frame := feed.next_frame(frame_records, sealed=False)) is not None:
            publisher.publish_frame(frame)
            progress.update(feed.bytes_read, feed.bytes_total or 0, feed.records_read)
        publisher.flush()


def print_published(result: dict[str, Any]) -> None:
    """Print what was published, for people."""
    print_pairs(
        [
            ("published", f"{result['published']:,} events to {result['base']}"),
            ("accepted", f"{result['accepted']:,}"),
            ("duplicates", f"{result['duplicates']:,}"),
            (
                "dead letters",
                f"{result['dead_letters']:,}" + (" (riskwire dlq list)" if result["dead_letters"] else ""),
            ),
            ("time", f"{result['elapsed_s']:.3f} s, {result['trades_per_s']:,.0f} events/s"),
        ]
    )
