"""`python -m bench [SUITE …] [--trades N] [--rounds N]`: print figures, the machine they were taken on, and ratios."""

from __future__ import annotations

import argparse
import importlib
import sys

# name: (module with `run(options) -> bool`, what it measures); a suite is imported when it is run
SUITES = {
    "startup": ("bench.startup", "how long `riskwire --help` takes"),
    "replay": ("bench.replay", "`riskwire replay` of a CSV beside polars doing the same job"),
}


def main() -> int:
    """Run the suites asked for (default: all); 1 where a result is wrong or a target is missed."""
    listed = "; ".join(f"{name}: {text}" for name, (_, text) in SUITES.items())
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=listed)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"some of {', '.join(SUITES)} (default: all)")
    parser.add_argument("--trades", type=int, default=4_000_000, help="rows of the CSV (default: 4,000,000)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in SUITES]
    if unknown:
        parser.error(f"no suite {unknown[0]!r}; expected some of {', '.join(SUITES)}")

    from bench.machine import describe_machine

    print(describe_machine())
    good = True
    for name in options.suites or SUITES:
        module, text = SUITES[name]
        print(f"\n{name}: {text}")
        good = importlib.import_module(module).run(options) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
