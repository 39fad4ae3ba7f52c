"""joblib's `Memory`: each call of a cached function as a look-up, with what a miss computes inside its span.

Finding a result on disk takes 0.1 ms and more, so every look-up has a span. Its key is joblib's own hash of the
arguments, hashed again: nothing is hashed twice that may be large.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from opentelemetry.trace import Span, get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.tracing import state
from ._spans import own_attributes

MODULES = ("joblib.memory",)
DISTRIBUTION = "joblib"
VERSIONS = ">=1.4,<2"
SOURCE = "wrapped"
COVERS = ("caches",)
LIMITS = ("Calls in joblib's worker processes are traced only where those are instrumented, too.",)

_SYSTEM = "joblib"
_cleared = [0]
"""how often a memory was emptied: what is computed anew then is missed for the first time"""


def patch(patches: Patches) -> None:
    """`__call__` and `call_and_shelve`, sync and async, go through `_cached_call`; only a miss goes on to `_call`."""
    module = "joblib.memory"
    patches.trace(module, "MemorizedFunc._cached_call", _lookup, _ended)
    patches.wrap(module, "MemorizedFunc._is_in_cache_and_valid", _looked)
    patches.wrap(module, "MemorizedFunc._call", _missed)
    patches.wrap(module, "AsyncMemorizedFunc._call", _missed)
    for path in ("MemorizedFunc.clear", "Memory.clear"):
        patches.wrap(module, path, _clear)


def _lookup(cached: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if state.config.cache_spans == "none":
        return None
    return "cache", _name(cached), {names.CACHE_OPERATION: "get", names.CACHE_SYSTEM: _SYSTEM}, None


def _name(cached: Any) -> str:
    function = cached.func
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None) or type(function).__name__
    return str(name).rpartition("<locals>.")[2]


def _own_span(cached: Any) -> Span | None:
    """The span of the look-up that is going on, if it is one of this function."""
    span = get_current_span()
    attributes = own_attributes(span)
    is_own = attributes.get(names.CACHE_SYSTEM) == _SYSTEM and attributes.get(names.CACHE_NAME) == _name(cached)
    return span if is_own else None


def _looked(wrapped: Callable[..., Any], cached: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = wrapped(*args, **kwargs)
    with _guard.guard("joblib.looked"):
        span = _own_span(cached)
        # Only the first answer is the look-up's own: the function itself may ask `check_call_in_cache`.
        if span is not None and names.CACHE_HIT not in own_attributes(span):
            call_id = args[0] if args else kwargs.get("call_id")
            hashed = state.hasher.parts((_cleared[0], call_id))[0]
            span.set_attributes({names.CACHE_HIT: bool(found), **({names.CACHE_KEY_HASH: hashed} if hashed else {})})
    return found


def _missed(wrapped: Callable[..., Any], cached: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("joblib.missed"):
        span = _own_span(cached)
        if span is not None:
            span.set_attribute(names.CACHE_HIT, False)
    return wrapped(*args, **kwargs)


def _ended(invocation: Invocation, result: Any) -> Any:
    """The result comes with joblib's own notes about the call."""
    invocation.stop()
    return result


def _clear(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _cleared[0] += 1
    return wrapped(*args, **kwargs)
