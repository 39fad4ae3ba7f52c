"""functools.lru_cache and functools.cache: look-ups counted at no cost, misses timed and, where it pays, traced.

The C cache object stays what it is, so a hit costs what it cost. Look-ups and hits are differences of its own
`cache_info()`, read when a run ends; only what it calls on a miss is ours. Of a cache that was made before us all is
counted, too, but what its misses cost is not known.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard
from ..capture import counts
from ..capture.patching import Patches
from ._cached_functions import CachedFunction, Registry, is_users, replace_imported

MODULES: tuple[str, ...] = ()
DISTRIBUTION = ""
VERSIONS = ""
SOURCE = "counted"
COVERS = ("caches",)

_registry = Registry()


def patch(patches: Patches) -> None:
    """Watch the caches made from now on, and those that the program has made already; `functools.cache` goes through
    `lru_cache` itself."""
    original = functools.lru_cache
    patches.change("functools", "lru_cache", partial(_watching, patches))
    _registry.switch(on=True)
    with _guard.guard("lru_cache.before"):
        replace_imported(patches, original, functools.lru_cache)
        _watch_living()
    counts.register(_registry.counts)


def unpatch() -> None:
    """Let the caches that were made meanwhile call their functions directly again."""
    counts.unregister(_registry.counts)
    _registry.switch(on=False)


def _watch_living() -> None:
    """Caches made before us, found by one walk through the objects (3 ms where a program is about to start)."""
    made_with_us = _registry.members()
    for found in [found for found in gc.get_objects() if type(found) is functools._lru_cache_wrapper]:
        function: Any = getattr(found, "__wrapped__", None)
        if is_users(function) and not any(member.is_of(found) for member in made_with_us):
            watched = CachedFunction(function, "functools")
            watched.watch_only(found)
            _registry.add(watched)


def _watching(patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def lru_cache(*args: Any, **kwargs: Any) -> Any:
        function = args[0] if args else kwargs.get("maxsize")
        if not patches.active:
            return original(*args, **kwargs)
        if not callable(function):
            decorate = original(*args, **kwargs)
            # With the name that Python's own has for the argument, in case it is missing.
            return functools.update_wrapper(
                lambda user_function: _cached(decorate, user_function), decorate, updated=()
            )
        if args:
            return _cached(lambda function: original(function, *args[1:], **kwargs), function)
        return _cached(lambda function: original(**{**kwargs, "maxsize": function}), function)

    return lru_cache


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
    vars(cached).pop("agentperf", None)  # copied from our partial
    return functools.update_wrapper(cached, function)
