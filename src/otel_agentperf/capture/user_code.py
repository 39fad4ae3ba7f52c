"""`OTEL_AGENTPERF_WRAP`: spans for code that may not be touched, e.g. `myapp.tools:search=tool`."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

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


def _wrap(patches: Patches, entry: str, module: str, path: str, kind: Kind) -> None:
    # A class that is not there, or a value that is no function.
    try:
        patches.trace(module, path, _describe(kind, module, path))
    except AttributeError as missing:
        _report(entry, str(missing))


def _describe(kind: Kind, module: str, path: str) -> Describe:
    import importlib

    function: Any = importlib.import_module(module)
    for part in path.split("."):
        function = getattr(function, part)
    if not callable(function):
        raise AttributeError(f"{path} is not callable")
    attributes = {"agentperf.cache.operation": "get", "agentperf.cache.system": "custom"} if kind == "cache" else None
    return describing(kind, function, attributes=attributes)


def _report(entry: str, reason: str) -> None:
    _logger.warning("otel-agentperf: OTEL_AGENTPERF_WRAP: %r is left out: %s", entry, reason)
