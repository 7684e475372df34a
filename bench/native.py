"""Compile the suite's own C and C++ programs, with the flags of setup.py, into a cache folder; once per content."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from bench.machine import ROOT, build_flags

COMPILERS = {
    ".c": ("CC", ("cc", "gcc", "clang"), "-std=gnu11"),
    ".cpp": ("CXX", ("c++", "g++", "clang++"), "-std=c++20"),
}


class NoCompiler(RuntimeError):
    """A program of the suite cannot be built here; the text says what to install."""


def cache_folder() -> Path:
    """Return the folder where built programs and recorded sessions are kept (RISKWIRE_BENCH_CACHE, else XDG's)."""
    given = os.environ.get("RISKWIRE_BENCH_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(given) if given else base / "riskwire-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compiler_for(source: Path) -> tuple[str, str]:
    """Return (compiler, language flag) for a source file. Raises NoCompiler."""
    variable, names, language = COMPILERS[source.suffix]
    for name in (os.environ.get(variable, ""), *names):
        found = shutil.which(name) if name else None
        if found:
            return found, language
    raise NoCompiler(f"{source.name} needs a compiler ({' or '.join(names)}): apt-get install g++")


def flags() -> list[str]:
    """Return the optimisation flags that the core is built with."""
    return [flag for flag in build_flags().split() if flag.startswith(("-O", "-f", "-m", "-g"))]


def build(name: str, *link: str) -> Path:
    """Return the program made from bench/NAME, compiling it where its content, headers or flags have changed.

    Raises NoCompiler, or RuntimeError with the compiler's words.
    """
    source = ROOT / "bench" / name
    compiler, language = compiler_for(source)
    arguments = [language, *flags(), f"-I{ROOT / 'ext'}"]
    digest = hashlib.sha256(source.read_bytes() + " ".join([compiler, *arguments, *link]).encode())
    for header in sorted((ROOT / "ext").glob("*.h")):
        digest.update(header.read_bytes())
    program = cache_folder() / f"{source.stem}-{digest.hexdigest()[:16]}"
    if not program.exists():
        part = program.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [compiler, *arguments, "-o", str(part), str(source), *link], capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{compiler} could not build {source}:\n{done.stderr}")
        part.rename(program)
    return program
