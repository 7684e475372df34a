"""`riskwire doctor`: what is wrong with this installation or endpoint."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from engine.cli.options import engine_options, is_insecure, json_option, open_client
from engine.cli.output import paint, print_json, print_line

PYTHON_MIN = (3, 11)
EXTRAS = {"pyarrow": ".parquet output", "polars": "the bench's peer"}
COMPILER = re.compile(rb"(GCC: \([^)\0]*\) [0-9.]+|(?:Apple |Debian |Ubuntu )?clang version [0-9.]+)")


class Finding(msgspec.Struct, frozen=True):
    """One line of the report. state: `ok`, `info` (may be as it is) or `bad`; advice says what to do where bad."""

    name: str
    state: str
    found: str
    advice: str = ""


@click.command()
@engine_options
@json_option
def doctor(connect: str | None, wait: float, as_json: bool) -> int:
    """Say what is wrong with this installation or endpoint.

    Exit code 1 where something is. An engine that does not run is wrong only if --connect or RISKWIRE_CONNECT names
    it.
    """
    findings = [finding for name, check in CHECKS.items() for finding in guarded(name, check)]
    findings += guarded("engine", lambda: check_endpoint(connect, wait))
    bad = [finding for finding in findings if finding.state == "bad"]
    if as_json:
        print_json({"ok": not bad, "findings": findings})
    else:
        print_findings(findings, len(bad))
    return 1 if bad else 0


def print_findings(findings: list[Finding], bad: int) -> None:
    """Print the report for people."""
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        advice = f": {finding.advice}" if finding.advice else ""
        state = paint(finding.state.ljust(4), finding.state)
        print_line(f"{state}  {finding.name.ljust(width)}  {finding.found}{advice}")
    print_line("riskwire is in good health" if not bad else f"{bad} of {len(findings)} checks failed")


def guarded(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Run one check; one that breaks is a finding itself, and the others still run."""
    from engine.errors import RiskwireError

    try:
        return list(check())
    except Exception as problem:
        text = " ".join(str(problem).split())
        if isinstance(problem, RiskwireError):
            return [Finding(name, "bad", text)]
        return [Finding(name, "bad", f"{type(problem).__name__}: {text}", "report it")]


def check_python() -> Iterator[Finding]:
    """The interpreter and the system."""
    good = sys.version_info >= PYTHON_MIN
    yield Finding(
        "python",
        "ok" if good else "bad",
        f"{platform.python_version()} ({sys.executable})",
        "" if good else "install Python 3.11 or newer",
    )
    known = sys.platform.startswith(("linux", "darwin")) and sys.maxsize > 2**32
    yield Finding(
        "platform",
        "ok" if known else "bad",
        f"{platform.platform()}, {os.cpu_count()} cores",
        "" if known else "riskwire runs on 64-bit Linux and macOS",
    )


def check_core() -> Iterator[Finding]:
    """Every module of the Cython core that was built, or should have been."""
    import ext

    folder = Path(ext.__path__[0])
    sources = {path.stem for path in folder.glob("*.pxd")} | {path.stem for path in folder.glob("*.pyi")}
    built = {path.name.split(".")[0]: path for path in folder.glob("*.so")}
    broken = []
    for name in sorted({*built, *(name for name in sources if (folder / f"{name}.pyx").exists())}):
        try:
            importlib.import_module(f"ext.{name}")
        except Exception as problem:
            broken.append(f"{name} ({' '.join(str(problem).split())})")
    if broken or not built:
        found = f"cannot be imported: {', '.join(broken)}" if broken else "no compiled module"
        yield Finding("core", "bad", found, "build it again: make run, or pip install --force-reinstall riskwire")
        return
    yield Finding("core", "ok", f"{len(built)} modules in {folder}, {compiler_of(next(iter(built.values())))}")


def compiler_of(library: Path) -> str:
    """Return what the compiler wrote about itself into a compiled module."""
    found = COMPILER.search(library.read_bytes())
    return found[1].decode() if found else "compiler unknown"


def check_zeromq() -> Iterator[Finding]:
    """pyzmq, and the functions of its libzmq that the core calls."""
    import zmq

    yield Finding("pyzmq", "ok", f"{zmq.__version__}, libzmq {zmq.zmq_version()}")
    try:
        libzmq = importlib.import_module("ext.libzmq")
        version = ".".join(map(str, libzmq.library_version()))
    except ImportError as problem:
        yield Finding("libzmq", "bad", str(problem), "reinstall pyzmq from its wheel")
        return
    same = version == zmq.zmq_version()
    yield Finding(
        "libzmq",
        "ok" if same else "bad",
        f"functions resolved, version {version}",
        "" if same else "two libzmq are loaded: reinstall pyzmq from its wheel",
    )


def check_libraries() -> Iterator[Finding]:
    """What riskwire needs, and what it can do without."""
    from importlib.metadata import version

    for name in ("uvloop", "msgspec", "numpy", "click"):
        importlib.import_module(name)
        yield Finding(name, "ok", version(name))
    for name, purpose in EXTRAS.items():
        there = importlib.util.find_spec(name) is not None
        yield Finding(name, "ok" if there else "info", version(name) if there else f"not installed ({purpose})")


def check_folders() -> Iterator[Finding]:
    """Where sockets, locks and temporary files go."""
    import tempfile

    from engine.endpoints import check_base, default_base, runtime_directory

    base = check_base(default_base())
    folder = Path(runtime_directory())
    there = folder if folder.exists() else next(path for path in folder.parents if path.exists())
    good = os.access(there, os.W_OK | os.X_OK)
    yield Finding(
        "sockets",
        "ok" if good else "bad",
        base if good else f"{there} cannot be written",
        "" if good else "set XDG_RUNTIME_DIR to a folder of your own, or give --connect and --base",
    )
    with tempfile.TemporaryFile(prefix="riskwire-doctor-") as file:
        file.write(b"0")
    yield Finding("temporary", "ok", tempfile.gettempdir())


def check_endpoint(connect: str | None, wait: float) -> Iterator[Finding]:
    """The engine: the one named, else the default one if it runs."""
    from engine.endpoints import check_base, default_base, is_served
    from engine.errors import EngineUnreachable

    base = check_base(connect or default_base(), is_insecure())
    if connect is None and not is_served(base):
        yield Finding("engine", "info", f"none runs at {base}")
        return
    try:
        with open_client(connect, wait) as engine:
            engine.status()
    except EngineUnreachable as problem:
        yield Finding("engine", "bad", str(problem))
        return
    yield Finding("engine", "ok", f"answers at {base}")


CHECKS = {
    "python": check_python,
    "core": check_core,
    "zeromq": check_zeromq,
    "libraries": check_libraries,
    "folders": check_folders,
}
