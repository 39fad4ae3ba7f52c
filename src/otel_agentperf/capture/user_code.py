"""`OTEL_AGENTPERF_WRAP`: spans for code that may not be touched, e.g. `myapp.tools:search=tool`."""

from __future__ import annotations

import atexit
import logging
import sys
from functools import partial
from importlib.util import find_spec
from typing import Any

from .. import _guard
from ..model import Kind
from .callables import Describe, describing
from .patching import Patches, when_imported
from .tracing import state

MODULES = ()
_KINDS: dict[str, Kind] = {
    "agent": "agent",
    "workflow": "workflow",
    "tool": "tool",
    "llm": "llm",
    "embedding": "embedding",
    "retrieval": "retrieval",
    "cached": "cache",
}
_named: dict[str, str] = {}
"""the modules that the setting's entries name"""
_logger = logging.getLogger("otel_agentperf")


def patch(patches: Patches) -> None:
    """Wrap what the setting names, each when its module is imported; a wrong entry is reported and left out."""
    for entry in filter(None, (part.strip() for part in state.config.wrap.split(","))):
        target, _, kind = entry.partition("=")
        module, _, path = target.partition(":")
        if not module or not path or kind.strip() not in _KINDS:
            _report(
                entry, f"expected module:function=kind or module:Class.method=kind, kind one of {', '.join(_KINDS)}"
            )
            continue
        when_imported((module,), partial(_wrap, patches, entry, module, path, _KINDS[kind.strip()]))
        _named[entry] = module
    if _named:
        atexit.unregister(_check_names)
        atexit.register(_check_names)


def unpatch() -> None:
    """Nothing is expected of the settings any more."""
    _named.clear()


def _wrap(patches: Patches, entry: str, module: str, path: str, kind: Kind) -> None:
    # A class that is not there, or a value that is no function.
    try:
        patches.trace(module, path, _describe(kind, module, path))
    except AttributeError:
        _report(entry, f"{module} has no function {path}")


@_guard.guarded("user_code.check", None)
def _check_names() -> None:
    """At the end: a module that this program had no use for is fine, one that nobody could import is a slip."""
    for entry, module in _named.items():
        package = module.partition(".")[0]
        if package not in sys.modules and find_spec(package) is None:
            _report(entry, f"there is no module {package}")


def _describe(kind: Kind, module: str, path: str) -> Describe:
    import importlib

    function: Any = importlib.import_module(module)
    for part in path.split("."):
        function = getattr(function, part)
    if not callable(function):
        raise AttributeError
    attributes = {"agentperf.cache.operation": "get", "agentperf.cache.system": "custom"} if kind == "cache" else None
    return describing(kind, function, attributes=attributes)


def _report(entry: str, reason: str) -> None:
    _logger.warning("otel-agentperf: OTEL_AGENTPERF_WRAP: %r is left out: %s", entry, reason)
