"""What others have published of systems that cannot be run beside riskwire: quoted, with the source, never compared."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A figure as it was published, on the publisher's own machine and of the publisher's own work."""

    system: str
    figure: str
    what: str
    source: str


EXCHANGE_CORE = "https://github.com/exchange-core/exchange-core, README.md"
DISRUPTOR = "https://github.com/LMAX-Exchange/disruptor, src/docs/asciidoc/en/disruptor.adoc (the paper of 2011)"
FOWLER = "https://martinfowler.com/articles/lmax.html (2011)"
XEON = (
    "orders, moves and cancels in one order book: risk and matching in one process, no network or journal; Xeon X5690"
)

FIGURES = (
    Published("exchange-core", "1M/s: p50 0.5 µs, p99 4 µs, p99.9 22 µs, worst 45 µs", XEON, EXCHANGE_CORE),
    Published("exchange-core", "5M/s: p50 1.5 µs, p99 42 µs, p99.9 150 µs, worst 190 µs", XEON, EXCHANGE_CORE),
    Published("exchange-core", "7M/s: p50 60 µs, p99 1.8 ms, worst 1.9 ms", XEON, EXCHANGE_CORE),
    Published(
        "LMAX Disruptor",
        "22,381,378/s (ArrayBlockingQueue: 4,057,453/s)",
        "one thread to one thread, no work; Core i7-2720QM, best of 3",
        DISRUPTOR,
    ),
    Published(
        "LMAX Disruptor",
        "15,857,913/s (ArrayBlockingQueue: 2,006,903/s)",
        "a pipeline of three stages in threads, no work; Core i7-2720QM, best of 3",
        DISRUPTOR,
    ),
    Published(
        "LMAX Disruptor",
        "mean 52 ns, p99 128 ns, p99.99 8,192 ns, max 175,567 ns",
        "a hop between threads of that pipeline, an event a microsecond; Core i7-2720QM",
        DISRUPTOR,
    ),
    Published("LMAX", "6 million orders/s", "the business logic of the exchange on one thread", FOWLER),
)


def markdown() -> str:
    """Return the figures as a section of the page."""
    lines = [
        "### Published elsewhere, not measured here",
        "",
        "Other work on other machines, as its authors published it: neither ratio nor rank follows from it.",
        "",
        "| system | figure | what was done | source |",
        "|---|---|---|---|",
    ]
    return "\n".join(lines + [f"| {' | '.join(each)} |" for each in FIGURES])


def rows() -> str:
    """Return the figures as rows of the terminal."""
    return "\n".join(f"  {each.system:<16}{each.figure:<58}{each.what}" for each in FIGURES)
