"""cachetools: `@cached`, `@cachedmethod`, `cachetools.func`, and the cache classes used directly.

A look-up takes a tenth of a microsecond, so it is counted in the cheapest way there is: one closure around the
class's `__getitem__` (+40 ns on a hit) and one around its `__contains__`. Decorated functions count under their own
name, by the statistics that cachetools itself can keep (+70 ns), and are subtracted from their cache's class, whose
look-ups they are.
"""

from __future__ import annotations

import functools
import sys
import time
import types
from collections import Counter
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

from .. import _guard
from ..capture import counts
from ..capture.patching import Patches, when_imported
from ..model import CacheCounts
from ._cached_functions import CachedFunction, Registry, is_users, replace_imported

MODULES = ("cachetools",)
DISTRIBUTION = "cachetools"
VERSIONS = ">=7.3,<9"
SOURCE = "counted"
COVERS = ("caches",)
PARTS = ("cachetools.func",)

_CLASSES = ("FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache")


_MOST = 1_000
"""keys of which it is remembered that they were missed"""


class _ClassCounter:
    """The look-ups in all caches of one class."""

    __slots__ = ("_computed", "_computed_s", "_read", "absent", "filled", "hits", "miss_s", "misses", "name", "seen")

    def __init__(self, name: str) -> None:
        self.name = name
        self.hits = 0
        self.misses = 0
        self.miss_s = 0.0
        self.seen = (0, 0, 0.0)
        self._computed = 0
        self._computed_s = 0.0
        self._read = (0, 0.0)
        # By the keys' hashes, so that no key lives longer because of us.
        self.absent: dict[int, tuple[float, bool]] = {}
        """missed keys: since when, and whether `in` was asked"""
        self.filled: set[int] = set()
        """keys that were stored because `in` had said no: reading them back is no look-up"""

    def missed(self, key: Any, asked: bool) -> None:
        """A look-up found nothing; `asked`: by `in`."""
        self.misses += 1
        if len(self.absent) >= _MOST:
            self.absent.clear()
        self.absent[hash(key)] = (time.perf_counter(), asked)

    def stored(self, key: Any) -> None:
        """A value was stored; for a key that was missed it is what the miss cost to compute."""
        since, asked = self.absent.pop(hash(key), (0.0, False))
        if since:
            self._computed += 1
            self._computed_s += time.perf_counter() - since
        if asked:
            if len(self.filled) >= _MOST:
                self.filled.clear()
            self.filled.add(hash(key))

    def is_read_back(self, key: Any) -> bool:
        """Was it stored because `in` had said no, and not read since?"""
        try:
            self.filled.remove(hash(key))
        except KeyError:
            return False
        return True

    def count(self, others: tuple[int, int]) -> CacheCounts:
        """Those since the last call, without the hits and misses that count under another name."""
        now, before = (self.hits, self.misses, self.miss_s), self.seen
        self.seen = now
        hits = max(0, now[0] - before[0] - others[0])
        misses = max(0, now[1] - before[1] - others[1])
        told = (now[2] - before[2]) / misses if misses else 0.0
        return CacheCounts(self.name, hits + misses, hits, miss_s=told or self._mean())

    def _mean(self) -> float:
        """Mean seconds from a miss to the storing of its key: since the last call, or ever where there were none."""
        now, (count, seconds) = (self._computed, self._computed_s), self._read
        self._read = now
        if now[0] > count:
            return (now[1] - seconds) / (now[0] - count)
        return now[1] / now[0] if now[0] else 0.0


class _Function(CachedFunction):
    """A function under `@cached`."""

    __slots__ = ("_info",)

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, "cachetools")
        self._info: Any = None

    def hide_info(self, cached: Any) -> None:
        """The statistics are kept for us: who did not ask for them does not see them."""
        self._info = vars(cached).get("cache_info")
        if self._info is not None:
            cached.cache_info = None  # as cachetools 7 has it
        else:
            kind: Any = type(cached)
            cached.__class__ = _without_info(kind)

    def statistics(self, cached: Any) -> tuple[int, int]:
        """Read past `cache_info()`, which lets a TTLCache drop what has expired: not ours to do, on any thread."""
        kept = {name.rpartition("__")[2]: value for name, value in vars(cached).items() if "Mixin__" in name}
        if not kept:  # cachetools 7 keeps them in a closure
            info = self._info or cached.cache_info
            kept = dict(zip(info.__code__.co_freevars, (cell.cell_contents for cell in info.__closure__), strict=True))
        return kept["hits"], kept["misses"]

    @property
    def cache_class(self) -> str:
        return type(getattr(self._cached(), "cache", None)).__name__


class _Method(CachedFunction):
    """A method under `@cachedmethod`: the cache is asked for once a call, and the method called once a miss."""

    __slots__ = ("_asked", "_cache_of", "_computed", "_read", "cache_class")

    def __init__(self, function: Callable[..., Any], cache_of: Callable[[Any], Any]) -> None:
        super().__init__(function, "cachetools")
        self._cache_of = cache_of
        self._asked = 0
        self._computed = 0
        self._read = (0, 0)
        self.cache_class = ""

    def counted_cache(self) -> Callable[[Any], Any]:
        """In place of the user's own function that finds an object's cache."""
        cache_of = self._cache_of

        def counted(owner: Any) -> Any:
            self._asked += 1
            return cache_of(owner)

        return counted

    def compute(self, /, *args: Any, **kwargs: Any) -> Any:
        """As for a function, but each miss is counted here: no cache keeps statistics of all the objects."""
        self._computed += 1
        if not self.cache_class:
            self.cache_class = type(self._cache_of(args[0])).__name__
        if get_ident() in self._inside:
            return self.function(*args, **kwargs)
        return super().compute(*args, **kwargs)

    def count(self) -> CacheCounts | None:
        asked, misses = self._asked - self._read[0], self._computed - self._read[1]
        self._read = (self._asked, self._computed)
        return self.counted(max(0, asked - misses), misses)
        return self.counted(max(0, asked - misses), misses)


_registry = Registry()
_class_counters: dict[str, _ClassCounter] = {}


def patch(patches: Patches) -> None:
    """Count in every cache class, and in the subclasses still to be defined."""
    import cachetools  # type: ignore[import-untyped,unused-ignore]

    for name in _CLASSES:
        _count_class(patches, getattr(cachetools, name))
    patches.change(cachetools.Cache, "get", _counted_get)
    patches.change(cachetools.Cache, "setdefault", _uncounted_setdefault)
    patches.replace(cachetools.Cache, "__init_subclass__", classmethod(_subclass_hook(patches, cachetools.Cache)))
    for name, wrapper in (("cached", _cached), ("cachedmethod", _cachedmethod)):
        original = getattr(cachetools, name)
        patches.wrap("cachetools", name, wrapper)
        replace_imported(patches, original, getattr(cachetools, name))
    when_imported(("cachetools.func",), functools.partial(_patch_func, patches))
    _registry.switch(on=True)
    _counts_since_last_time()  # what was looked up without us is nobody's
    counts.register(_counts_since_last_time)


def unpatch() -> None:
    """Stop counting; what was decorated meanwhile works on."""
    counts.unregister(_counts_since_last_time)
    _registry.switch(on=False)


def aside(cache: Any, look_up: Callable[[], Any]) -> Any:
    """Call `look_up`, which asks `cache` on behalf of another library: what is counted there is nobody's look-up."""
    counter = _class_counters.get(type(cache).__name__)
    if counter is None:
        return look_up()
    hits, misses = counter.hits, counter.misses
    try:
        return look_up()
    finally:
        before, missed, cost = counter.seen
        counter.seen = (before + counter.hits - hits, missed + counter.misses - misses, cost)


def _patch_func(patches: Patches) -> None:
    # It may have imported our wrapper of `cached`, which would stay there.
    func: Any = sys.modules["cachetools.func"]
    func.cached = getattr(func.cached, "__wrapped__", func.cached)
    patches.wrap("cachetools.func", "cached", _cached)


def _count_class(patches: Patches, cls: Any) -> None:
    counter = _class_counters.setdefault(cls.__name__, _ClassCounter(cls.__name__))
    for name, counted in (
        ("__getitem__", _counted_getitem),
        ("__contains__", _counted_contains),
        ("__setitem__", _counted_setitem),
    ):
        original = vars(cls).get(name) or _uncounted(cls, name)
        patches.replace(cls, name, counted(original, counter))


def _uncounted(cls: Any, name: str) -> Any:
    inherited = getattr(cls, name)
    return getattr(inherited, "__wrapped__", inherited)


def _counted_getitem(original: Callable[..., Any], counter: _ClassCounter) -> Callable[..., Any]:
    # Exactly two parameters: only then does the interpreter call it from `cache[key]` without a detour (50 ns).
    @functools.wraps(original)
    def getitem(self: Any, key: Any) -> Any:
        try:
            value = original(self, key)
        except KeyError:
            counter.missed(key, False)
            raise
        if counter.filled and counter.is_read_back(key):
            return value
        counter.hits += 1
        return value

    return getitem


def _counted_contains(original: Callable[..., Any], counter: _ClassCounter) -> Callable[..., Any]:
    """A yes is no look-up: the one that follows is. A no is a miss."""

    @functools.wraps(original)
    def contains(self: Any, key: Any) -> Any:
        if original(self, key):
            if counter.filled:
                counter.is_read_back(key)
            return True
        counter.missed(key, True)
        return False

    return contains


def _counted_setitem(original: Callable[..., Any], counter: _ClassCounter) -> Callable[..., Any]:
    @functools.wraps(original)
    def setitem(self: Any, key: Any, value: Any, *more: Any) -> None:
        original(self, key, value, *more)
        if counter.absent:
            counter.stored(key)

    return setitem


def _counted_get(original: Callable[..., Any]) -> Callable[..., Any]:
    # The same steps as the original's: around it, this would cost as much again as all the rest.
    @functools.wraps(original)
    def get(self: Any, key: Any, default: Any = None) -> Any:
        if key in self:
            return self[key]
        counter = _class_counters.get(type(self).__name__)
        if counter is not None and counter.absent:
            since, _ = counter.absent.get(hash(key), (0.0, False))
            if since:  # `in` was asked by us
                counter.absent[hash(key)] = (since, False)
        return default

    return get


def _uncounted_setdefault(original: Callable[..., Any]) -> Callable[..., Any]:
    """It stores: `@cached` calls it with what it has just computed. The same steps as the original's."""

    def steps(self: Any, key: Any, default: Any) -> Any:
        counter = _class_counters.get(type(self).__name__)
        missed = counter.absent.pop(hash(key), None) if counter is not None else None
        if key in self:
            return self[key]
        if counter is not None:
            counter.absent.pop(hash(key), None)
            if missed is not None:
                counter.absent[hash(key)] = missed
        self[key] = default
        return default

    @functools.wraps(original)
    def setdefault(self: Any, key: Any, default: Any = None) -> Any:
        return aside(self, lambda: steps(self, key, default))

    return setdefault


def _subclass_hook(patches: Patches, cache: Any) -> Callable[..., None]:
    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        super(cache, cls).__init_subclass__(**kwargs)
        if patches.active:
            with _guard.guard("cachetools.subclass"):
                _count_subclass(patches, cls)

    return init_subclass


def _count_subclass(patches: Patches, cls: Any) -> None:
    """Under its own name, unless it looks things up in a way of its own. Its `__missing__` makes misses look like
    hits, because it gives a value."""
    if "__getitem__" not in vars(cls):
        _count_class(patches, cls)
    counter = _class_counters.get(cls.__name__)
    if "__missing__" in vars(cls) and counter is not None:
        patches.replace(cls, "__missing__", _counted_missing(vars(cls)["__missing__"], counter))


def _counted_missing(original: Callable[..., Any], counter: _ClassCounter) -> Callable[..., Any]:
    @functools.wraps(original)
    def missing(self: Any, key: Any) -> Any:
        started = time.perf_counter()
        value = original(self, key)
        counter.miss_s += time.perf_counter() - started
        counter.hits -= 1
        counter.misses += 1
        return value

    return missing


@functools.cache
def _without_info(cls: type) -> type:
    """The same class, without the method that `cached(…, info=True)` adds."""

    def missing(self: Any) -> Any:
        raise AttributeError("cache_info")

    return type(cls.__name__, (cls,), {"__module__": cls.__module__, "cache_info": property(missing)})


def _cached(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    plain = wrapped(*args, **kwargs)
    if (args[0] if args else kwargs.get("cache")) is None:
        return plain  # cachetools 7: a function without a cache
    counting = wrapped(*args[:4], **{**kwargs, "info": True})
    asked = args[4] if len(args) > 4 else kwargs.get("info", False)

    def decorator(function: Any) -> Any:
        if not is_users(function):
            return plain(function)
        watched = _Function(function)
        cached = _decorated(watched, counting)
        if not asked:
            with _guard.guard("cachetools.info"):
                watched.hide_info(cached)
        return cached

    return functools.update_wrapper(decorator, plain, updated=())


def _cachedmethod(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    plain = wrapped(*args, **kwargs)
    cache_of = args[0] if args else kwargs.get("cache")

    def decorator(method: Any) -> Any:
        if not is_users(method) or not callable(cache_of):
            return plain(method)
        watched = _Method(method, cache_of)
        if args:
            return _decorated(watched, wrapped(watched.counted_cache(), *args[1:], **kwargs))
        return _decorated(watched, wrapped(**{**kwargs, "cache": watched.counted_cache()}))

    return functools.update_wrapper(decorator, plain, updated=())


def _decorated(watched: _Function | _Method, decorate: Callable[[Any], Any]) -> Any:
    inner = functools.update_wrapper(watched.inner(), watched.function)
    cached = decorate(inner)
    cached.__wrapped__ = watched.function
    _tidy(cached)
    with _guard.guard("cachetools"):
        if isinstance(watched, _Function):
            watched.watch(cached)
        _registry.add(watched)
    return cached


def _tidy(cached: Any) -> None:
    """Take away what cachetools copied from our partial: its note, and names that a function has outside of this."""
    attributes = vars(cached)
    attributes.pop("agentperf", None)
    if isinstance(cached, types.FunctionType):
        for name in functools.WRAPPER_ASSIGNMENTS:
            attributes.pop(name, None)


def _counts_since_last_time() -> Iterator[CacheCounts]:
    others: dict[str, Counter[str]] = {}
    found: list[CacheCounts] = []
    for member in _registry.members():
        count = member.count()
        if count is not None:
            found.append(count)
            counter = others.setdefault(getattr(member, "cache_class", ""), Counter())
            counter.update(hits=count.hits, misses=count.lookups - count.hits)
    for name, class_counter in list(_class_counters.items()):
        known = others.get(name, Counter())
        found.append(class_counter.count((known["hits"], known["misses"])))
    return iter(found)
