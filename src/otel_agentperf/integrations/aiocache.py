"""aiocache: every cache class and backend, `cached`, `cached_stampede` and `multi_cached`.

In memory a look-up takes 15 µs, so it is counted; a slow one, as over a network, gets a span (see `_lookups`), and
the client's own (redis) is none besides. Decorated functions count under their own name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from .. import _guard
from ..capture.patching import Patches
from ._cached_functions import is_users_own
from ._lookups import Registry, asked_for, reset
from ._memoized import COMPUTED, EACH_KEY, Memoized, MemoizedFunctions, current_call

MODULES = ("aiocache",)
DISTRIBUTION = "aiocache"
VERSIONS = ">=0.12,<0.13"
SOURCE = "counted"
COVERS = ("caches",)
LIMITS = (
    "Look-ups of under 0.1 ms are counted without a span unless OTEL_AGENTPERF_CACHE_SPANS=all is set.",
    "A stored None counts as a miss, as it does for aiocache, unless another default is asked for.",
)

_MISSING: Any = object()
_WATCHED = "_agentperf_watched"
_REMOTE = "redis"
"""the backend whose client is traced, too"""
_registry = Registry("aiocache")
_functions = MemoizedFunctions()

Told = Callable[[Any, Any, Any, float], None]
"""(cache, key or keys, result, started) → nothing"""


def patch(patches: Patches) -> None:
    """The backends define what is below these methods of the base class, and users what is above."""
    base, decorators = "aiocache.base", "aiocache.decorators"
    patches.change(base, "BaseCache.get", _getting)
    for name, operation, told in (
        ("multi_get", "get", _many),
        ("exists", "get", _exists),
        ("set", "set", _stored),
        ("add", "set", _stored),
        ("multi_set", "set", _all_stored),
        ("delete", "delete", _deleted),
        ("clear", "clear", _deleted),
    ):
        patches.change(base, f"BaseCache.{name}", partial(_timed, operation, told))
    for kind, rule in (
        ("cached", COMPUTED),
        ("cached_stampede", COMPUTED),
        ("multi_cached", EACH_KEY),
    ):
        patches.change(decorators, f"{kind}.decorator", partial(_calling, rule))
    patches.change(decorators, "multi_cached.get_from_cache", _getting_all)
    _registry.switch(on=True)
    _functions.switch(on=True)


def unpatch() -> None:
    """Stop counting."""
    _registry.switch(on=False)
    _functions.switch(on=False)


def _getting(original: Callable[..., Any]) -> Callable[..., Any]:
    by_class = _registry.by_class

    @functools.wraps(original)
    async def get(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return await original(self, *args, **kwargs)
        key, probe = args[0] if args else kwargs.get("key"), _MISSING
        default = args[1] if len(args) > 1 else kwargs.get("default")
        if self.plugins:  # they see what they are called with
            probe = default
        elif args and "default" not in kwargs:
            args = (key, _MISSING, *args[2:])
        else:
            kwargs["default"] = _MISSING
        started = perf_counter()
        token = asked_for.set(True) if self.NAME == _REMOTE else None
        try:
            value = await original(self, *args, **kwargs)
        except BaseException as error:
            _registry.of(self).failed("get", key, started, error)
            raise
        finally:
            if token is not None:
                reset(token)
        if value is None and probe is _MISSING:
            return None  # AIOCACHE_DISABLE
        lookups = by_class.get(type(self)) or _registry.of(self)
        if value is probe or value is None:
            lookups.looked_up(key, False, started)
            return default
        took = perf_counter() - started
        if took < lookups.slow_s and not lookups.read_back:
            lookups.hits += 1
            lookups.hit_s += took
        else:
            lookups.looked_up(key, True, started)
        return value

    return get


def _timed(operation: str, told: Told, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return await original(self, *args, **kwargs)
        given = args[0] if args else next((kwargs[name] for name in ("key", "keys", "pairs") if name in kwargs), None)
        started = perf_counter()
        token = asked_for.set(True)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            _registry.of(self).failed(operation, given, started, error)
            raise
        finally:
            reset(token)
        with _guard.guard("aiocache"):
            told(self, given, result, started)
        return result

    return timed


def _many(cache: Any, keys: Any, values: Any, started: float) -> None:
    _registry.of(cache).looked_up_all(list(keys), [value is not None for value in values], started)


def _exists(cache: Any, key: Any, found: Any, started: float) -> None:
    _registry.of(cache).asked(key, bool(found), started)


def _stored(cache: Any, key: Any, result: Any, started: float) -> None:
    _registry.of(cache).stored(key, started)


def _all_stored(cache: Any, pairs: Any, result: Any, started: float) -> None:
    for key, _ in pairs:
        _registry.of(cache).stored(key, started)


def _deleted(cache: Any, key: Any, result: Any, started: float) -> None:
    _functions.something_deleted()
    _registry.of(cache).deleted(key, started, "clear" if key is None else "delete")


def _calling(rule: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def decorator(self: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        # Kept with the decorator that the function is under, and so for as long as the function.
        watched = self.__dict__.get(_WATCHED)
        if watched is None or watched.function is not f:
            watched = _watched(self, f)
        if watched is None or not _registry.is_on() or not kwargs.get("cache_read", True):
            return original(self, f, *args, **kwargs)
        return watched.call(rule, original, self, watched.proxy, *args, **kwargs)

    return decorator


@_guard.guarded("aiocache.cached", None)
def _watched(decorator: Any, function: Any) -> Memoized | None:
    if not is_users_own(function):
        return None
    watched = decorator.__dict__[_WATCHED] = Memoized(function, "aiocache", _functions)
    _functions.add(watched)
    return watched


def _getting_all(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of the keys that `multi_cached` asks for some may be missing: each is a look-up."""

    @functools.wraps(original)
    async def get_from_cache(self: Any, *keys: Any) -> Any:
        call, started = current_call(), perf_counter()
        values = await original(self, *keys)
        if call is not None:
            for value in values:
                call.function.looked_up(value is not None, started)
        return values

    return get_from_cache
