"""riskwire: executed trades in; positions, profit and loss, and limit alerts out.

The names below are imported when they are first used (PEP 562), so that `import engine` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# name: the module it lives in
_EXPORTS: dict[str, str] = {}

__all__ = ["__version__"]

if TYPE_CHECKING:
    __version__: str


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("riskwire")
    except PackageNotFoundError:  # a checkout that was never installed
        return "0+checkout"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _EXPORTS:
        value = getattr(importlib.import_module(_EXPORTS[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
