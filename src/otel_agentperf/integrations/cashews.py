"""cashews: every backend, and the strategies `cache`, `early`, `hit`, `soft` and `failover`.

In memory a look-up takes 4 µs, so it is counted; a slow one, as over a network, gets a span (see `_lookups`), and
those of the backend's own client (redis, diskcache) do not count besides. Decorated functions count under their own
name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from time import perf_counter
from typing import Any

from .. import _guard
from ..capture.patching import Patches, when_imported
from ._cached_functions import is_users_own
from ._lookups import Lookups, Registry, asked_for, reset
from ._memoized import COMPUTED, FOUND, Memoized, MemoizedFunctions, current_call

MODULES = ("cashews",)
DISTRIBUTION = "cashews"
VERSIONS = ">=7,<8"
SOURCE = "counted"
COVERS = ("caches",)
PARTS = ("cashews.backends.diskcache",)
LIMITS = ("Look-ups of under 0.1 ms are counted without a span unless OTEL_AGENTPERF_CACHE_SPANS=all is set.",)

_IN_MEMORY = "cashews.backends.memory"
_MISSING: Any = object()
_registry = Registry("cashews")
_functions = MemoizedFunctions()
_cache: Lookups = _registry.named("cashews")


def patch(patches: Patches) -> None:
    """A middleware of ours next to the backend, in every cache; and the strategies' common ways."""
    from cashews import decorators

    patches.change("cashews.wrapper.wrapper", "Wrapper._with_middlewares_for_backend", _with_ours)
    rules = {
        decorators.cache: COMPUTED,
        decorators.soft: COMPUTED,
        decorators.hit: COMPUTED,
        decorators.failover: COMPUTED,
        decorators.early: FOUND,
    }
    for name in ("_wrap", "_wrap_with_condition"):
        change = functools.partial(_decorating, patches, rules)
        patches.change("cashews.wrapper.decorators", f"DecoratorsWrapper.{name}", change)
    patches.change(_IN_MEMORY, "Memory.get", _getting)
    patches.change(_IN_MEMORY, "Memory._remove_expired", _asided)
    # It asks its diskcache on another thread, which our mark does not reach by itself.
    (module,) = PARTS
    when_imported(PARTS, functools.partial(patches.change, module, "DiskCache._run_in_executor", _running_aside))
    _registry.switch(on=True)
    _functions.switch(on=True)


def unpatch() -> None:
    """Stop counting; what was decorated meanwhile works on."""
    _registry.switch(on=False)
    _functions.switch(on=False)


def _running_aside(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def run(self: Any, call: Callable[..., Any], *args: Any) -> Any:
        return await original(self, _aside, call, *args)

    return run


def _aside(call: Callable[..., Any], *args: Any) -> Any:
    token = asked_for.set(True)
    try:
        return call(*args)
    finally:
        reset(token)


def _with_ours(original: Callable[..., Any]) -> Callable[..., Any]:
    """The middleware that comes first in the list is next to the backend: the user's own see what they always do."""

    @functools.wraps(original)
    def with_middlewares_for_backend(self: Any, cmd: Any, backend: Any, middlewares: list[Any]) -> Any:
        ours = _MIDDLEWARES.get(cmd.value)
        if ours is None or (ours is _get and type(backend).__module__ == _IN_MEMORY):
            return original(self, cmd, backend, middlewares)
        return original(self, cmd, backend, [ours, *middlewares])

    return with_middlewares_for_backend


def _note(found: bool) -> None:
    memoized = current_call()
    if found and memoized is not None:
        memoized.found = True


def _getting(original: Callable[..., Any]) -> Callable[..., Any]:
    """In memory a further middleware would cost half as much again."""

    @functools.wraps(original)
    async def get(self: Any, key: Any, default: Any = None) -> Any:
        if asked_for.get():
            value = await original(self, key, default)
            _note(value is not default)
            return value
        started = perf_counter()
        value = await original(self, key, _MISSING)
        if value is _MISSING:
            _cache.looked_up(key, False, started)
            return default
        took = perf_counter() - started
        if took < _cache.slow_s and not _cache.read_back:
            _cache.hits += 1
            _cache.hit_s += took
        else:
            _cache.looked_up(key, True, started)
        return value

    return get


def _asided(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def remove_expired(self: Any) -> Any:
        asked_for.set(True)  # in a task of its own, which looks at every key
        return await original(self)

    return remove_expired


async def _get(call: Any, cmd: Any, backend: Any, /, *args: Any, key: Any, default: Any = None, **kwargs: Any) -> Any:
    if asked_for.get():
        value = await call(*args, key=key, default=default, **kwargs)
        _note(value is not default)
        return value
    started = perf_counter()
    token = asked_for.set(True)
    try:
        value = await call(*args, key=key, default=_MISSING, **kwargs)
    except BaseException as error:
        _cache.failed("get", key, started, error)
        raise
    finally:
        reset(token)
    _cache.looked_up(key, value is not _MISSING, started)
    return default if value is _MISSING else value


async def _get_many(call: Any, cmd: Any, backend: Any, /, *keys: Any, default: Any = None, **kwargs: Any) -> Any:
    if asked_for.get():
        return await call(*keys, default=default, **kwargs)
    started = perf_counter()
    token = asked_for.set(True)
    try:
        values = await call(*keys, default=_MISSING, **kwargs)
    except BaseException as error:
        _cache.failed("get", keys, started, error)
        raise
    finally:
        reset(token)
    _cache.looked_up_all(keys, [value is not _MISSING for value in values], started)
    return tuple(default if value is _MISSING else value for value in values)


def _telling(operation: str, told: Callable[[Any, Any, float], None]) -> Callable[..., Any]:
    async def middleware(call: Any, cmd: Any, backend: Any, /, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return await call(*args, **kwargs)
        given = next((kwargs[name] for name in ("key", "pairs", "pattern") if name in kwargs), args or None)
        started = perf_counter()
        token = asked_for.set(True)
        try:
            result = await call(*args, **kwargs)
        except BaseException as error:
            _cache.failed(operation, given, started, error)
            raise
        finally:
            reset(token)
        with _guard.guard("cashews"):
            told(given, result, started)
        return result

    return middleware


def _exists(key: Any, result: Any, started: float) -> None:
    _cache.asked(key, bool(result), started)


def _stored(key: Any, result: Any, started: float) -> None:
    if result is not False:
        _cache.stored(key, started)


def _all_stored(pairs: Any, result: Any, started: float) -> None:
    for key in pairs:
        _cache.stored(key, started)


def _deleted(key: Any, result: Any, started: float) -> None:
    _functions.something_deleted()
    _cache.deleted(key, started)


def _cleared(key: Any, result: Any, started: float) -> None:
    _functions.something_deleted()
    _cache.deleted(key, started, "clear")


_MIDDLEWARES = {
    "get": _get,
    "get_many": _get_many,
    "exists": _telling("get", _exists),
    "set": _telling("set", _stored),
    "set_many": _telling("set", _all_stored),
    "delete": _telling("delete", _deleted),
    "delete_many": _telling("clear", _cleared),
    "delete_match": _telling("clear", _cleared),
    "clear": _telling("clear", _cleared),
}


def _decorating(patches: Patches, rules: dict[Any, str], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def wrap(self: Any, decorator_fabric: Any, *args: Any, **kwargs: Any) -> Any:
        decorate = original(self, decorator_fabric, *args, **kwargs)
        rule = rules.get(decorator_fabric)
        if rule is None or not patches.active:
            return decorate
        return functools.update_wrapper(lambda function: _decorated(self, decorate, rule, function), decorate)

    return wrap


class _Function(Memoized):
    """A function under a strategy of a cache. When that is switched off, what is computed is no miss."""

    __slots__ = ("_cache",)

    def __init__(self, function: Callable[..., Any], cache: Any) -> None:
        super().__init__(function, "cashews", _functions)
        self._cache = cache

    def looked_up(self, found: bool, started: float) -> None:
        if found or not self._cache.is_full_disable:
            super().looked_up(found, started)


def _decorated(cache: Any, decorate: Callable[[Any], Any], rule: str, function: Any) -> Any:
    watched = None
    with _guard.guard("cashews.decorated"):
        if is_users_own(function) and inspect.iscoroutinefunction(function):
            watched = _Function(function, cache)
            _functions.add(watched)
    if watched is None:
        return decorate(function)
    cached = decorate(watched.plain())

    @functools.wraps(cached)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await (watched.call(rule, cached, *args, **kwargs) if _registry.is_on() else cached(*args, **kwargs))

    call.__wrapped__ = function
    return call
