"""`python -m bench [GROUP …]`: figures beside their peers' of the same run.

`python -m bench TOOL`: `compare OLD NEW`, `table FILE`, `plot FILE`, `hdr FILE`, `gate`.

Results are compared before times are: a peer that computed something else fails the run (exit code 1). Missed targets
are shown, and fail the run only with --strict.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from pathlib import Path

from bench.machine import describe_machine, machine_facts
from bench.report import Report

# name: (module with `run(options, report)`, what it measures); a group is imported when it is run
GROUPS = {
    "core": (
        "bench.core",
        "duplicates, positions, limits: ns a trade, beside C++, dicts, NautilusTrader, openpit",
    ),
    "instructions": (
        "bench.instructions",
        "instructions a trade costs in door and core, by module, counted by callgrind",
    ),
    "pipeline": ("bench.pipeline", "publisher, broker and consumer as processes, beside libzmq moving the same bytes"),
    "latency": ("bench.latency", "publish to ack and trade to alert at a given rate, beside libzmq's round trip"),
    "budget": ("bench.budget", "where a trade spends its time from socket to alert: legs that add up"),
    "journal": ("bench.journal", "appending and reading back the sequence, beside write and fdatasync"),
    "recovery": ("bench.recovery", "how long a restart takes, by length of the journal"),
    "feeds": ("bench.feeds", "CSV into frames, beside polars reading the file"),
    "codec": ("bench.codec", "events into frames and back, beside msgspec and json"),
    "queue": ("bench.queue", "jobs through the queue, beside Redis Streams and NATS JetStream"),
    "replay": ("bench.replay", "`riskwire replay` of a CSV beside polars doing the same job"),
    "startup": ("bench.startup", "how long `riskwire --help` takes"),
}
TOOLS = {
    "compare": "bench.compare",
    "table": "bench.table",
    "gate": "bench.gate",
    "hdr": "bench.hdr",
    "plot": "bench.plots",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    listed = "; ".join(f"{name}: {text}" for name, (_, text) in GROUPS.items())
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=listed)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(GROUPS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="each group and peer once, small")
    parser.add_argument("--smoke", action="store_true", help="each for a moment: what matters is that results agree")
    parser.add_argument("--trades", type=int, help="trades in one round (default: what the group thinks right)")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default: 5, quick: 1)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures and what they were measured on")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a target is missed")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no group {unknown[0]!r}; expected some of {', '.join(GROUPS)}, or one of {', '.join(TOOLS)}")
    options.quick = options.quick or options.smoke
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def main(arguments: list[str]) -> int:
    """Run the groups asked for; 1 where a result is wrong (or with --strict a target missed)."""
    if arguments and arguments[0] in TOOLS:
        return int(importlib.import_module(TOOLS[arguments[0]]).main(arguments[1:]))
    options = parse(arguments)
    print(describe_machine())
    report = Report()
    started = time.time()
    facts = {"started_at": started, "arguments": arguments, **machine_facts()}
    for name in options.groups or GROUPS:
        module, text = GROUPS[name]
        report.group = name
        print(f"\n{name}: {text}", flush=True)
        began = time.time()
        importlib.import_module(module).run(options, report)
        report.seconds[name] = round(time.time() - began, 1)
        print(f"  ({report.seconds[name]:.0f} s)", flush=True)
        if options.json:  # after each group: what is interrupted later is not lost
            kept = {**facts, "load_average_after": os.getloadavg(), **report.to_dict()}
            options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    missed = [figure.key for figure in report.figures if figure.reached is False]
    print(f"\n{len(report.figures)} figures in {time.time() - started:.0f} s", end="")
    print(f", {len(missed)} beside their target, {len(report.wrong)} results wrong")
    return 1 if report.wrong or (options.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
