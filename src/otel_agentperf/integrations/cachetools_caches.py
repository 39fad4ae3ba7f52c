"""cachetools: `@cached`, `@cachedmethod`, `cachetools.func`, and the cache classes used directly.

A look-up takes a tenth of a microsecond, so it is counted in the cheapest way there is: one closure around the
class's `__getitem__` (+30 ns on a hit). Decorated functions count under their own name, by the statistics that
cachetools itself can keep (+70 ns), and are subtracted from their cache's class, whose look-ups they are.
"""

from __future__ import annotations

import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

from .. import _guard
from ..capture import counts
from ..capture.patching import Patches, when_imported
from ..model import CacheCounts
from ._cached_functions import CachedFunction, Registry, is_users

MODULES = ("cachetools",)
DISTRIBUTION = "cachetools"
VERSIONS = ">=8,<9"
SOURCE = "counted"
COVERS = ("caches",)
PARTS = ("cachetools.func",)

_CLASSES = ("FIFOCache", "LFUCache", "LRUCache", "RRCache", "TTLCache", "TLRUCache")


class _ClassCounter:
    """The look-ups in all caches of one class."""

    __slots__ = ("hits", "miss_s", "misses", "name", "seen")

    def __init__(self, name: str) -> None:
        self.name = name
        self.hits = 0
        self.misses = 0
        self.miss_s = 0.0
        self.seen = (0, 0, 0.0)

    def count(self, others: tuple[int, int]) -> CacheCounts:
        """Those since the last call, without the hits and misses that count under another name."""
        now, before = (self.hits, self.misses, self.miss_s), self.seen
        self.seen = now
        hits = max(0, now[0] - before[0] - others[0])
        misses = max(0, now[1] - before[1] - others[1])
        return CacheCounts(self.name, hits + misses, hits, miss_s=(now[2] - before[2]) / misses if misses else 0.0)


class _Function(CachedFunction):
    """A function under `@cached`."""

    __slots__ = ()

    def statistics(self, cached: Any) -> tuple[int, int]:
        """Read past `cache_info()`, which lets a TTLCache drop what has expired: not ours to do, on any thread."""
        kept = {name.rpartition("__")[2]: value for name, value in vars(cached).items() if "Mixin__" in name}
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
    patches.replace(cachetools.Cache, "get", _counted_get(cachetools.Cache.get))
    patches.replace(cachetools.Cache, "__init_subclass__", classmethod(_subclass_hook(patches, cachetools.Cache)))
    patches.wrap("cachetools", "cached", _cached)
    patches.wrap("cachetools", "cachedmethod", _cachedmethod)
    when_imported(("cachetools.func",), functools.partial(_patch_func, patches))
    _registry.switch(on=True)
    _counts_since_last_time()  # what was looked up without us is nobody's
    counts.register(_counts_since_last_time)


def unpatch() -> None:
    """Stop counting; what was decorated meanwhile works on."""
    counts.unregister(_counts_since_last_time)
    _registry.switch(on=False)


def _patch_func(patches: Patches) -> None:
    # It may have imported our wrapper of `cached`, which would stay there.
    func: Any = sys.modules["cachetools.func"]
    func.cached = getattr(func.cached, "__wrapped__", func.cached)
    patches.wrap("cachetools.func", "cached", _cached)


def _count_class(patches: Patches, cls: Any) -> None:
    counter = _class_counters.setdefault(cls.__name__, _ClassCounter(cls.__name__))
    original = vars(cls).get("__getitem__") or _uncounted(cls)
    patches.replace(cls, "__getitem__", _counted_getitem(original, counter))


def _uncounted(cls: Any) -> Any:
    inherited = cls.__getitem__
    return getattr(inherited, "__wrapped__", inherited)


def _counted_getitem(original: Callable[..., Any], counter: _ClassCounter) -> Callable[..., Any]:
    # Exactly two parameters: only then does the interpreter call it from `cache[key]` without a detour (50 ns).
    @functools.wraps(original)
    def getitem(self: Any, key: Any) -> Any:
        try:
            value = original(self, key)
        except KeyError:
            counter.misses += 1
            raise
        counter.hits += 1
        return value

    return getitem


def _counted_get(original: Callable[..., Any]) -> Callable[..., Any]:
    # The same steps as the original's: around it, this would cost as much again as all the rest.
    @functools.wraps(original)
    def get(self: Any, key: Any, default: Any = None) -> Any:
        if key in self:
            return self[key]
        counter = _class_counters.get(type(self).__name__)
        if counter is not None:
            counter.misses += 1
        return default

    return get


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


def _cached(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    plain = wrapped(*args, **kwargs)
    counting = plain if len(args) > 4 else wrapped(*args, **{**kwargs, "info": True})

    def decorator(function: Any) -> Any:
        return _decorated(_Function(function, "cachetools"), counting) if is_users(function) else plain(function)

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
    with _guard.guard("cachetools"):
        if isinstance(watched, _Function):
            watched.watch(cached)
        _registry.add(watched)
    return cached


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
