"""diskcache: `Cache` and what is built on it (`FanoutCache`, `Index`, Django's), and `memoize`.

A look-up takes 6 µs, so it is counted; a slow one gets a span (see `_lookups`). Functions under `memoize` count under
their own name, with a span around what a miss computes, as under `functools.lru_cache`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .. import _guard
from ..capture.patching import Patches
from ._cached_functions import is_users
from ._lookups import Registry, asked_for, reset
from ._memoized import Memoized, MemoizedFunctions

MODULES = ("diskcache",)
DISTRIBUTION = "diskcache"
VERSIONS = ">=5.6,<6"
SOURCE = "counted"
COVERS = ("caches",)
LIMITS = ("Look-ups of under 0.1 ms are counted without a span unless OTEL_AGENTPERF_CACHE_SPANS=all is set.",)

_MISSING: Any = object()
"""the default that we ask with: a value that is stored may well be equal to the caller's"""
_registry = Registry("diskcache")
_functions = MemoizedFunctions()


def patch(patches: Patches) -> None:
    """Everything else reaches the data through these methods of `Cache`."""
    import diskcache

    cache = diskcache.Cache
    patches.change(cache, "get", _getting)
    patches.change(cache, "pop", _popping)
    patches.change(cache, "__contains__", _asking)
    for name in ("set", "__setitem__", "add"):
        patches.change(cache, name, _storing)
    for name, operation in (("__delitem__", "delete"), ("clear", "clear"), ("evict", "clear")):
        patches.change(cache, name, functools.partial(_deleting, operation))
    for holder in (cache, diskcache.FanoutCache):
        patches.change(holder, "memoize", functools.partial(_memoize, patches))
    for module in ("diskcache.recipes", "diskcache"):
        patches.wrap(module, "memoize_stampede", functools.partial(_memoize_stampede, patches))
    _patch_recipes(patches, diskcache)
    _registry.switch(on=True)
    _functions.switch(on=True)


def unpatch() -> None:
    """Stop counting; what was decorated meanwhile works on."""
    _registry.switch(on=False)
    _functions.switch(on=False)


def _patch_recipes(patches: Patches, diskcache: Any) -> None:
    """Locks and averages are kept in a cache, and a lock asks it every millisecond: no look-ups of the program's."""
    for kind, methods in (
        (diskcache.Averager, ("add", "get", "pop")),
        (diskcache.RLock, ("acquire", "release")),
        (diskcache.Lock, ("acquire", "release", "locked")),
        (diskcache.BoundedSemaphore, ("acquire", "release")),
    ):
        for name in methods:
            patches.change(kind, name, _aside)


def _getting(original: Callable[..., Any]) -> Callable[..., Any]:
    by_class = _registry.by_class

    @functools.wraps(original)
    def get(
        self: Any,
        key: Any,
        default: Any = None,
        read: bool = False,
        expire_time: bool = False,
        tag: bool = False,
        retry: bool = False,
    ) -> Any:
        if asked_for.get():
            return original(self, key, default, read, expire_time, tag, retry)
        started = perf_counter()
        try:
            value = original(self, key, _MISSING, read, expire_time, tag, retry)
        except BaseException as error:
            _registry.of(self).failed("get", key, started, error)
            raise
        lookups = by_class.get(type(self)) or _registry.of(self)
        if value is _MISSING or (type(value) is tuple and value and value[0] is _MISSING):
            lookups.looked_up(key, False, started)
            return _with(default, value)
        took = perf_counter() - started
        if took < lookups.slow_s and not lookups.read_back:
            lookups.hits += 1
            lookups.hit_s += took
        else:
            lookups.looked_up(key, True, started)
        return value

    return get


def _with(default: Any, value: Any) -> Any:
    """The caller's default in place of ours; it comes with its expire time, its tag, or both, where they were asked."""
    return default if value is _MISSING else (default, *value[1:])


def _popping(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def pop(self: Any, key: Any, default: Any = None, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return original(self, key, default, *args, **kwargs)
        started = perf_counter()
        value = original(self, key, _MISSING, *args, **kwargs)
        found = value is not _MISSING and not (type(value) is tuple and value and value[0] is _MISSING)
        _registry.of(self).looked_up(key, found, started)
        return value if found else _with(default, value)

    return pop


def _asking(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def contains(self: Any, key: Any) -> Any:
        if asked_for.get():
            return original(self, key)
        started = perf_counter()
        found = original(self, key)
        _registry.of(self).asked(key, found, started)
        return found

    return contains


def _storing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def store(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return original(self, key, *args, **kwargs)
        started = perf_counter()
        token = asked_for.set(True)
        try:
            result = original(self, key, *args, **kwargs)
        finally:
            reset(token)
        _registry.of(self).stored(key, started)
        return result

    return store


def _deleting(operation: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def delete(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return original(self, *args, **kwargs)
        started = perf_counter()
        result = original(self, *args, **kwargs)
        key = args[0] if args and operation == "delete" else kwargs.get("key")
        _registry.of(self).deleted(key, started, operation)
        _functions.something_deleted()
        return result

    return delete


def _aside(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def uncounted(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = asked_for.set(True)
        try:
            return original(self, *args, **kwargs)
        finally:
            reset(token)

    return uncounted


class _Watched:
    """The cache as a memoized function's wrapper sees it: its look-ups are the function's."""

    def __init__(self, cache: Any, function: Memoized) -> None:
        self._cache = cache
        self._function = function

    def get(self, key: Any, default: Any = None, **kwargs: Any) -> Any:
        started = perf_counter()
        token = asked_for.set(True)
        try:
            value = self._cache.get(key, default=default, **kwargs)
        finally:
            reset(token)
        self._function.looked_up(value is not default and not _is_without(value, default), started)
        return value

    def set(self, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self._aside(self._cache.set, key, value, *args, **kwargs)

    def add(self, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return self._aside(self._cache.add, key, value, *args, **kwargs)

    def _aside(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        token = asked_for.set(True)
        try:
            return method(*args, **kwargs)
        finally:
            reset(token)

    def __enter__(self) -> Any:
        return self._cache.__enter__()

    def __exit__(self, *exception: Any) -> Any:
        return self._cache.__exit__(*exception)


def _is_without(value: Any, default: Any) -> bool:
    return type(value) is tuple and len(value) == 2 and value[0] is default


def _memoize(patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def memoize(self: Any, *args: Any, **kwargs: Any) -> Any:
        plain = original(self, *args, **kwargs)
        if not patches.active:
            return plain
        return _decorator(plain, lambda watched: original(_Watched(self, watched), *args, **kwargs))

    return memoize


def _memoize_stampede(
    patches: Patches, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    plain = wrapped(*args, **kwargs)
    cache = kwargs.get("cache", args[0] if args else None)

    def watching(watched: Memoized) -> Any:
        if args:
            return wrapped(_Watched(cache, watched), *args[1:], **kwargs)
        return wrapped(**{**kwargs, "cache": _Watched(cache, watched)})

    return _decorator(plain, watching)


def _decorator(plain: Callable[..., Any], watching: Callable[[Memoized], Any]) -> Callable[..., Any]:
    def decorator(function: Any) -> Any:
        watched = None
        with _guard.guard("diskcache.memoize"):
            watched = Memoized(function, "diskcache", _functions) if is_users(function) else None
        if watched is None:
            return plain(function)
        cached = watching(watched)(functools.update_wrapper(watched.inner(), function))
        cached.__wrapped__ = function
        _functions.add(watched)
        return cached

    return functools.update_wrapper(decorator, plain)
