"""`python -m bench hdr RUN.json [--out FILE.hlog]`: a run's latencies as a log that HdrHistogram's tools read.

One line a system, rate and kind, tagged with them (`riskwire_10000/s_alert`), in ns; intervals are shown as one second
each. Format 1.3: https://github.com/HdrHistogram/HdrHistogram, HistogramLogWriter.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ext.histogram import Histogram

MS = 1e6
HEAD = '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"'


def lines(run: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the log."""
    yield f"#[riskwire's latencies, ns, commit {run['commit']}]"
    yield "#[Histogram log format version 1.3]"
    for name in ("StartTime", "BaseTime"):
        yield f"#[{name}: {run['started_at']:.3f} (seconds since epoch)]"
    yield HEAD
    number = 0
    for name, kinds in run["histograms"].items():
        for kind, text in kinds.items():
            highest_ms = Histogram.decode(text).max_ns / MS
            yield f"Tag={name.replace(' ', '_')}_{kind},{number:.3f},1.000,{highest_ms:.3f},{text}"
            number += 1


def main(arguments: list[str]) -> int:
    """Print the log, or write it."""
    parser = argparse.ArgumentParser(prog="python -m bench hdr", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="what `python -m bench latency --json FILE` wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there")
    options = parser.parse_args(arguments)
    text = "\n".join(lines(json.loads(options.run.read_text()))) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text, end="")
    return 0
