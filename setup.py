"""Build the Cython core: one extension module per ``.pyx`` in ``ext``.

Environment:
    RISKWIRE_ONLY   comma-separated module names (``records,csvrows``): build just those, in place.
    RISKWIRE_DEBUG  ``1``: bounds checks and assertions; ``asan``: AddressSanitizer and UBSan as well.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("RISKWIRE_DEBUG", "")
ONLY = {name for name in os.environ.get("RISKWIRE_ONLY", "").split(",") if name}

# -fwrapv: integer wrap-around is defined, so that overflow checks cannot be optimised away.
# -g0: Python's own flags often ask for debug information, which is a quarter of the compiler's time; lines alone (-g1)
# are all that a sanitizer's report needs.
COMPILE_ARGS = ["-O3", "-g0", "-fwrapv", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-sign-compare"]
LINK_ARGS: list[str] = []
if DEBUG:
    COMPILE_ARGS = ["-O1", "-g1", "-fwrapv", "-fno-strict-aliasing", "-UNDEBUG", "-DRISKWIRE_DEBUG=1"]
if DEBUG == "asan":
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
    # memset and memcpy of no bytes may be given NULL (C2y says so too); with any bytes AddressSanitizer reports it.
    COMPILE_ARGS += [*sanitize, "-fno-sanitize=alignment,nonnull-attribute"]
    LINK_ARGS += sanitize

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": bool(DEBUG),
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    "embedsignature": True,
}

extensions = [
    Extension(
        f"ext.{path.stem}",
        [str(path)],
        include_dirs=["ext"],
        extra_compile_args=COMPILE_ARGS,
        extra_link_args=LINK_ARGS,
        depends=[str(header) for header in sorted(Path("ext").glob("*.h"))],
    )
    for path in sorted(Path("ext").glob("*.pyx"))
    if not ONLY or path.stem in ONLY
]

# What Cython would otherwise compile into every module that takes a buffer (20,000 lines of C each).
SHARED = "ext._cyutility"
if extensions:
    extensions.append(
        Extension(SHARED, ["ext/_cyutility.c"], extra_compile_args=COMPILE_ARGS, extra_link_args=LINK_ARGS)
    )

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        nthreads=0 if ONLY else (os.cpu_count() or 1),
        build_dir=None,
    ),
    options={"build_ext": {"parallel": 1 if ONLY else (os.cpu_count() or 1)}},
)
