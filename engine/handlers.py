"""A handler by its name: found, imported and looked at before it gets a job."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

from engine.errors import UsageError

Handler = Callable[[Any, Any], Any]


def load_handler(name: str) -> Handler:
    """Return the function that `package.module:function` names; the current directory is looked in first.

    Raises UsageError with the import's own error where there is none.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise UsageError(f"{name!r} names no handler; expected package.module:function")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
        for part in function_name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as problem:  # whatever the module's own code raises
        text = " ".join(str(problem).split())
        raise UsageError(f"handler {name} cannot be imported: {type(problem).__name__}: {text}") from None
    return check_handler(name, found)


def check_handler(name: str, found: Any) -> Handler:
    """Return what was found under a name if it can be called with (event, context); raises UsageError."""
    if not callable(found):
        raise UsageError(f"handler {name} is a {type(found).__name__}; expected a function of (event, context)")
    try:
        inspect.signature(found).bind(None, None)
    except TypeError as problem:
        raise UsageError(f"handler {name} does not take (event, context): {problem}") from None
    except ValueError:  # a builtin without a signature: it is called and we shall see
        pass
    handler: Handler = found
    return handler


def is_async(handler: Handler) -> bool:
    """Tell whether a handler is `async def` (or an object whose `__call__` is)."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - it is looked at, not called
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
