"""Publish to ack, trade to position and trade to alert at given rates, open loop, beside libzmq passing such messages.

Every trade alerts (a `restricted` limit), so every trade is timed. Each has a planned time; latency is from that time,
however late it was sent, so a stall counts against all trades it delayed. Three processes on both sides: the probe
(which also hears the alerts), the broker or hop, the consumer or relay. A position is there when the consumer has
applied the trade and judged it, which is what its alerts are stamped with.

Then a sweep finds the highest rate at which p99 of trade to alert stays below the bound: it doubles the rate until the
bound is broken, and halves the distance between the last two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from bench import hops
from bench.native import NoCompiler
from bench.report import MORE, Report
from bench.sizes import sized
from engine.endpoints import endpoint
from ext.histogram import Histogram

RATES = (1_000, 10_000, 100_000)
SECONDS, SECONDS_QUICK, SECONDS_SMOKE = 4.0, 0.5, 0.1
P50_RATIO, P99_RATIO = 1.3, 2.0
KINDS = {"ack": "publish to ack", "position": "trade to position", "alert": "trade to alert"}
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
PLOTTED = (50.0, 99.0, 99.9)
SWEEP_BOUND_NS = 1_000_000  # of p99
SWEEP_FIRST, SWEEP_LAST, SWEEP_STEPS = 10_000, 2_560_000, 3
SWEEP_SECONDS, SWEEP_SECONDS_QUICK = 1.0, 0.2
SWEEP_TRIES = 2  # a rate is too high when it breaks the bound so often in a row
LIMITS: list[dict[str, object]] = [{"id": "all", "kind": "restricted", "match": {"account": "PROBE"}}]
WINDOW = 1_024
Result = dict[str, Histogram]
Through = Callable[[int, int], Result]


def probe(base: str, rate: int, trades: int) -> Result:
    """Publish on schedule and return the histograms of acks, positions and alerts."""
    command = hops.raw("probe", endpoint(base, "publish"), endpoint(base, "alerts"), str(rate), str(trades))
    found: dict[str, Any] = hops.outcome(command)
    return {kind: Histogram.of_counts(found[kind]["counts"], found[kind]["max"]) for kind in KINDS}


def through_libzmq(rate: int, trades: int) -> Result:
    """Measure libzmq's hop and relay."""
    with hops.base_folder() as base:
        publish, events, alerts = (endpoint(base, name) for name in ("publish", "events", "alerts"))
        with hops.running(hops.raw("hop", publish, events, str(WINDOW))) as hop:
            hops.wait_ready(hop)
            with hops.running(hops.raw("relay", events, alerts)) as relay:
                hops.wait_ready(relay)
                return probe(base, rate, trades)


def through_riskwire(rate: int, trades: int) -> Result:
    """Measure riskwire's broker and consumer."""
    with hops.base_folder() as base, hops.running(hops.role("broker", base, str(WINDOW), "-")) as broker:
        hops.wait_ready(broker)
        with hops.running(hops.role("consumer", base, str(trades + 1))) as consumer:
            hops.wait_ready(consumer)
            hops.publish_limits(base, LIMITS)
            found = probe(base, rate, trades)
            applied = hops.answer(consumer)
    if applied["alerts"] != trades:
        raise hops.Ended(f"riskwire raised {applied['alerts']:,} alerts for {trades:,} trades that all should")
    return found


SYSTEMS: dict[str, Through] = {"libzmq": through_libzmq, "riskwire": through_riskwire}


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure each rate, interleaved, then find the highest rate with p99 below the bound."""
    seconds = sized(options, SECONDS, SECONDS_QUICK, SECONDS_SMOKE)
    try:
        for rate in RATES[:2] if options.smoke else RATES:
            trades = min(options.trades or 1 << 62, int(rate * seconds))
            at_rate(report, rate, trades, min(options.rounds, 3))
        if not options.smoke:
            sweep(options, report)
    except (NoCompiler, hops.NoLibrary) as problem:
        report.missing("libzmq", str(problem))
    except hops.Ended as problem:
        report.fail(str(problem))


def at_rate(report: Report, rate: int, trades: int, rounds: int) -> None:
    """Measure all at one rate and report percentiles in µs."""
    found: dict[str, list[Result]] = {name: [] for name in SYSTEMS}
    for _ in range(rounds):
        for name, through in SYSTEMS.items():
            found[name].append(through(rate, trades))
    for kind, text in KINDS.items():
        for name, results in found.items():
            tell(report, f"{rate:,}/s {text}: {name}", [result[kind] for result in results], trades)
        for percent, target in ((50.0, P50_RATIO), (99.0, P99_RATIO)):
            pairs = zip(found["riskwire"], found["libzmq"], strict=True)
            values = [a[kind].percentile(percent) / b[kind].percentile(percent) for a, b in pairs]
            goal = target if kind == "alert" else None
            report.add(f"{rate:,}/s {text}: riskwire / libzmq p{percent:g}", "x", values, target=goal)
    for name, results in found.items():
        plot(report, name, rate, results)
        report.histograms[f"{name} {rate}/s"] = {kind: merged(results, kind).encode() for kind in KINDS}


def tell(report: Report, what: str, results: list[Histogram], trades: int) -> None:
    """Report the percentiles and the highest latency of one kind; every trade must have been timed."""
    for result in results:
        report.check(f"{what}: trades timed", result.total, trades)
    for percent in PERCENTILES:
        report.add(f"{what} p{percent:g}", "us", [result.percentile(percent) / 1_000 for result in results])
    report.add(f"{what} max", "us", [result.max_ns / 1_000 for result in results])


def plot(report: Report, name: str, rate: int, results: list[Result]) -> None:
    """Keep the percentiles of trade to alert for the plot."""
    for percent in PLOTTED:
        values = [result["alert"].percentile(percent) / 1_000 for result in results]
        report.point("latency", f"{name} p{percent:g}", rate, values)


def merged(results: list[Result], kind: str) -> Histogram:
    """Return all rounds in one histogram."""
    together = Histogram()
    for result in results:
        together.merge(result[kind])
    return together


# --- the sweep ----------------------------------------------------------------------------------------------------


def sweep(options: argparse.Namespace, report: Report) -> None:
    """Find the highest rate at which p99 of trade to alert is below the bound, for each."""
    seconds = SWEEP_SECONDS_QUICK if options.quick else SWEEP_SECONDS
    bound = f"p99 of trade to alert below {SWEEP_BOUND_NS / 1e6:g} ms"
    for name, through in SYSTEMS.items():

        def holds(rate: int, name: str = name, through: Through = through) -> bool:
            for _ in range(1 if options.quick else SWEEP_TRIES):
                found = through(rate, min(options.trades or 1 << 62, int(rate * seconds)))
                if rate not in RATES:
                    plot(report, name, rate, [found])
                if found["alert"].percentile(99) <= SWEEP_BOUND_NS:
                    return True
            return False

        best = highest(holds, 0 if options.quick else SWEEP_STEPS)
        note = "" if best < SWEEP_LAST else "the highest that was tried"
        report.add(f"highest rate with {bound}: {name}", "trades/s", [best], better=MORE, note=note)


def highest(holds: Callable[[int], bool], steps: int) -> int:
    """Return the highest rate that holds: doubled until one does not, then between the last two; 0 where none does.

    >>> highest(lambda rate: rate <= 130_000, 3)
    130000
    """
    best = 0
    for rate in doubled():
        if not holds(rate):
            break
        best = rate
    else:
        return best
    distance = best // 2
    for _ in range(steps if best else 0):
        if holds(best + distance):
            best += distance
        distance //= 2
    return best


def doubled() -> Iterator[int]:
    """Yield the rates of the sweep."""
    rate = SWEEP_FIRST
    while rate <= SWEEP_LAST:
        yield rate
        rate *= 2
