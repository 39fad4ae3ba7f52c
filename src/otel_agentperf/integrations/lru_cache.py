"""functools.lru_cache and functools.cache: look-ups counted at no cost, misses timed and, where it pays, traced.

The C cache object stays what it is, so a hit costs what it cost. Look-ups and hits are differences of its own
`cache_info()`, read when a run ends; only what it calls on a miss is ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .. import _guard
from ..capture import counts
from ..capture.patching import Patches
from ._cached_functions import CachedFunction, Registry, is_users

MODULES: tuple[str, ...] = ()
DISTRIBUTION = ""
VERSIONS = ""
SOURCE = "counted"
COVERS = ("caches",)

_registry = Registry()


def patch(patches: Patches) -> None:
    """Watch the caches made from now on; `functools.cache` goes through `lru_cache` itself."""
    patches.wrap("functools", "lru_cache", _lru_cache)
    _registry.switch(on=True)
    counts.register(_registry.counts)


def unpatch() -> None:
    """Let the caches that were made meanwhile call their functions directly again."""
    counts.unregister(_registry.counts)
    _registry.switch(on=False)


def _lru_cache(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    function = args[0] if args else kwargs.get("maxsize")
    if not callable(function):
        decorate = wrapped(*args, **kwargs)
        return functools.update_wrapper(lambda function: _cached(decorate, function), decorate, updated=())
    if args:
        return _cached(lambda function: wrapped(function, *args[1:], **kwargs), function)
    return _cached(lambda function: wrapped(**{**kwargs, "maxsize": function}), function)


def _cached(decorate: Callable[[Any], Any], function: Any) -> Any:
    watched = None
    with _guard.guard("lru_cache"):
        watched = CachedFunction(function, "functools") if is_users(function) else None
    if watched is None:
        return decorate(function)
    cached = decorate(watched.inner())
    with _guard.guard("lru_cache"):
        watched.watch(cached)
        _registry.add(watched)
    # The name, the signature and `__wrapped__` are the user's function's, as without us.
    return functools.update_wrapper(cached, function)
