"""Publish to ack and trade to alert at given rates, open loop, beside libzmq passing such messages through such hops.

Every trade alerts (a `restricted` limit), so every trade is timed. Each has a planned time; latency is from that time,
however late it was sent, so a stall counts against all trades it delayed. Three processes on both sides: the probe
(which also hears the alerts), the broker or hop, the consumer or relay.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench import hops
from bench.histogram import PERCENTILES, Histogram
from bench.native import NoCompiler
from bench.report import MORE, Report
from engine.endpoints import endpoint

RATES = (1_000, 10_000, 100_000)
SECONDS, SECONDS_QUICK = 5.0, 1.0
P50_RATIO, P99_RATIO = 1.3, 2.0
SWEEP_BOUND_NS = 1_000_000  # of p99
SWEEP_RATES = (50_000, 100_000, 200_000, 400_000, 800_000, 1_600_000)
LIMITS: list[dict[str, object]] = [{"id": "all", "kind": "restricted", "match": {"account": "PROBE"}}]
WINDOW = 1_024
Result = dict[str, Histogram]


def probe(base: str, rate: int, trades: int) -> Result:
    """Publish on schedule and return the histograms of acks and alerts."""
    command = hops.raw("probe", endpoint(base, "publish"), endpoint(base, "alerts"), str(rate), str(trades))
    found: dict[str, Any] = hops.outcome(command)
    return {"ack": Histogram.of(found["ack"]), "alert": Histogram.of(found["alert"])}


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


def run(options: argparse.Namespace, report: Report) -> None:
    """Measure each rate, interleaved, then find the highest rate with p99 below the bound."""
    seconds = SECONDS_QUICK if options.quick else SECONDS
    try:
        for rate in RATES:
            at_rate(options, report, rate, int(rate * seconds))
        if not options.quick:
            sweep(report)
    except (NoCompiler, hops.NoLibrary) as problem:
        report.missing("libzmq", str(problem))
    except hops.Ended as problem:
        report.fail(str(problem))


def at_rate(options: argparse.Namespace, report: Report, rate: int, trades: int) -> None:
    """Measure both at one rate and report percentiles in µs."""
    ours, peers = [], []
    for _ in range(min(options.rounds, 3)):
        peers.append(through_libzmq(rate, trades))
        ours.append(through_riskwire(rate, trades))
    for kind, text in (("ack", "publish to ack"), ("alert", "trade to alert")):
        for name, results in (("libzmq", peers), ("riskwire", ours)):
            for result in results:
                report.check(f"{name} at {rate:,}/s: {kind}s timed", result[kind].total, trades)
            for percent in PERCENTILES[:-1]:
                values = [result[kind].percentile(percent) / 1_000 for result in results]
                report.add(f"{rate:,}/s {text}: {name} p{percent:g}", "us", values)
            highest = [result[kind].max_ns / 1_000 for result in results]
            report.add(f"{rate:,}/s {text}: {name} max", "us", highest, note="")
        for percent, target in ((50.0, P50_RATIO), (99.0, P99_RATIO)):
            pairs = zip(ours, peers, strict=True)
            values = [a[kind].percentile(percent) / b[kind].percentile(percent) for a, b in pairs]
            goal = target if kind == "alert" else None
            report.add(f"{rate:,}/s {text}: riskwire / libzmq p{percent:g}", "x", values, target=goal)
    report.histograms[f"{rate}/s"] = {kind: ours[-1][kind].encode() for kind in ("ack", "alert")}


def sweep(report: Report) -> None:
    """Find the highest of the rates at which p99 of trade to alert is below the bound, for both."""
    for name, through in (("libzmq", through_libzmq), ("riskwire", through_riskwire)):
        best = 0
        for rate in SWEEP_RATES:
            if through(rate, rate)["alert"].percentile(99) > SWEEP_BOUND_NS:
                break
            best = rate
        bound = f"p99 of trade to alert below {SWEEP_BOUND_NS / 1e6:g} ms"
        report.add(f"highest rate with {bound}: {name}", "trades/s", [best], better=MORE)
