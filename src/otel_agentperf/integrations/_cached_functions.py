"""Functions behind an in-process cache: what they compute on a miss is timed and, where it pays, traced.

The cache calls a `functools.partial` of ours instead of the user's function. It can be pointed at our timing method
or straight at the function, without a Python frame of ours in between. That matters for recursion: a memoised
function that calls itself 400 deep must not hit the recursion limit because of us. So the outermost miss is timed,
and the ones inside it go straight through.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from .. import _semconv as names
from ..capture.invocation import Invocation, attach, detach, start
from ..capture.patching import Patches
from ..capture.tracing import state

if TYPE_CHECKING:
    from ..model import CacheCounts

_WORTH_A_SPAN_S = 1e-3
_SAMPLES = 3
"""misses of a cache that are traced before it is known whether they are worth it"""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES = (os.path.dirname(os.__file__) + os.sep, _PACKAGE + os.sep)
"""the standard library and ourselves"""
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_NOT_TIMED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR | inspect.CO_ITERABLE_COROUTINE
"""functions whose call does no work: what it returns does it later"""


def is_users(function: Any) -> bool:
    """A function of the user's own code: libraries cache a lot that no agent's report should talk about."""
    return is_users_own(function) and not function.__code__.co_flags & _NOT_TIMED


def is_users_own(function: Any) -> bool:
    """The same, whether or not its work is done by the call."""
    if not isinstance(function, (types.FunctionType, types.MethodType)):
        return False
    return _is_users_path(function.__code__.co_filename)


def _is_users_path(path: str) -> bool:
    return not path.startswith((*_LIBRARIES, "<frozen")) and not any(part in path for part in _INSTALLED)


def replace_imported(patches: Patches, original: Any, new: Any) -> None:
    """Put `new` where the program's own modules have imported `original` by its name, before we came."""
    for called, module in list(sys.modules.items()):
        if type(module) is not types.ModuleType:  # a lazy one would be loaded by our look at it
            continue
        path = vars(module).get("__file__")
        if called == "__main__" or (isinstance(path, str) and _is_users_path(path)):
            for name in [name for name, value in list(vars(module).items()) if value is original]:
                patches.replace(module, name, new)


class CachedFunction:
    """What is known of one cached function. Held by its cache (through the partial), and weakly by everybody else."""

    __slots__ = ("__weakref__", "_attributes", "_base", "_cached", "_cleared", "_inside", "_misses", "_partial",
                 "_recursed", "_seconds", "_seen", "_unread_s", "function", "name")  # fmt: skip

    def __init__(self, function: Callable[..., Any], system: str) -> None:
        self.function = function
        self.name = function.__qualname__.rpartition("<locals>.")[2]
        self._attributes = {
            names.CACHE_OPERATION: "get",
            names.CACHE_SYSTEM: system,
            names.CACHE_HIT: False,
            names.CACHE_REPORTED: True,
        }
        self._cached: Callable[[], Any] = lambda: None
        self._partial: Callable[[], Any] = lambda: None
        self._inside: set[int] = set()
        self._recursed = False
        self._misses = 0
        self._seconds = 0.0
        self._unread_s = 0.0
        self._base = (0, 0)
        self._cleared = 0
        self._seen = (0, 0)

    def inner(self) -> functools.partial[Any]:
        """What the cache shall call on a miss."""
        partial = functools.partial(self.function)
        self._partial = weakref.ref(partial)
        self._point(self.compute)
        return partial

    def watch(self, cached: Any) -> None:
        """Count the look-ups of `cached`, and notice when its statistics start anew."""
        self._cached = weakref.ref(cached)
        self.switch(on=True)

    def watch_only(self, cached: Any) -> None:
        """Count the look-ups of a cache that was made without us: what its misses compute stays unknown."""
        self.watch(cached)
        cached.cache_clear.agentperf = self  # keeps us alive as long as the cache

    def is_of(self, cached: Any) -> bool:
        """Is that our cache?"""
        return self._cached() is cached

    def switch(self, on: bool) -> None:
        """Watch, or leave the cache as it would be without us."""
        self._point(self.compute if on else self.function)
        cached = self._cached()
        if cached is None:
            return
        if on:
            # cachetools 7 gives each function a `cache_clear` of its own; otherwise it is its class's.
            own = vars(cached).get("cache_clear")
            own = own.args[2] if _is_ours(own) else own
            cached.cache_clear = functools.partial(_clear, weakref.ref(self), self._cached, own)
            self._seen = self._totals(cached)
        else:
            ours: Any = vars(cached).pop("cache_clear", None)
            if _is_ours(ours) and ours.args[2] is not None:
                cached.cache_clear = ours.args[2]

    def statistics(self, cached: Any) -> tuple[int, int]:
        """Hits and misses, as the cache itself counts them."""
        info = cached.cache_info()
        return info.hits, info.misses

    def compute(self, /, *args: Any, **kwargs: Any) -> Any:
        """A miss: the user's function, timed, and inside a span where that pays."""
        thread = get_ident()
        if thread in self._inside:
            self._recursed = True
            self._point(self.function)
            return self.function(*args, **kwargs)
        invocation = self._start(args, kwargs)
        self._inside.add(thread)
        started = time.perf_counter()
        try:
            if invocation is None:
                return self.function(*args, **kwargs)
            return _run(invocation, self.function, args, kwargs)
        finally:
            self._ended(thread, time.perf_counter() - started)

    def count(self) -> CacheCounts | None:
        """The look-ups since the last call; None when the cache is gone."""
        cached = self._cached()
        if cached is None:
            return None
        now, before = self._totals(cached), self._seen
        self._seen = now
        return self.counted(now[0] - before[0], now[1] - before[1])

    def counted(self, hits: int, misses: int, hit_s: float = 0.0) -> CacheCounts:
        """The counts, with the mean time of the misses since the last call."""
        seconds, self._unread_s = self._unread_s, 0.0
        from ..model import CacheCounts  # see capture.counts

        return CacheCounts(self.name, hits + misses, hits, hit_s, seconds / misses if misses else self._mean())

    def keep_totals(self, cached: Any) -> None:
        """The cache is about to be emptied, and to set its statistics to zero."""
        self._base = self._totals(cached)
        self._cleared += 1

    def _totals(self, cached: Any) -> tuple[int, int]:
        hits, misses = self.statistics(cached)
        return self._base[0] + hits, self._base[1] + misses

    def _mean(self) -> float:
        return self._seconds / self._misses if self._misses else 0.0

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
        wanted = state.config.cache_spans
        worth = self._misses < _SAMPLES or self._mean() >= _WORTH_A_SPAN_S
        if wanted == "none" or not (worth or wanted == "all") or not get_current_span().get_span_context().is_valid:
            return None
        return start("cache", self.name, self._attributes, self._key(args, kwargs))

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the look-up is for. After the cache was cleared a key is a new one: its miss is no repeated one."""
        return (args, kwargs, self._cleared) if kwargs or self._cleared else args

    def _ended(self, thread: int, seconds: float) -> None:
        self._inside.discard(thread)
        self._took(seconds)
        if self._recursed and not self._inside:
            self._recursed = False
            self._point(self.compute)

    def _took(self, seconds: float) -> None:
        self._misses += 1
        self._seconds += seconds
        self._unread_s += seconds

    def _point(self, target: Callable[..., Any]) -> None:
        partial = self._partial()
        if partial is not None:
            # Its dictionary keeps us alive while it points elsewhere.
            partial.__setstate__((target, (), {}, {"agentperf": self}))


class Registry:
    """The cached functions of one integration."""

    def __init__(self) -> None:
        # By weak references only, so that a cache made per call goes when its user lets it go.
        self._members: weakref.WeakSet[CachedFunction] = weakref.WeakSet()

    def add(self, member: CachedFunction) -> None:
        self._members.add(member)

    def members(self) -> list[CachedFunction]:
        return list(self._members)

    def switch(self, on: bool) -> None:
        """Watch all of them, or none."""
        for member in self.members():
            member.switch(on)

    def counts(self) -> Iterator[CacheCounts]:
        """What they did since this was last asked."""
        for member in self.members():
            count = member.count()
            if count is not None:
                yield count


def _run(invocation: Invocation, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = attach(invocation)
    try:
        invocation.measure_cpu()
        result = function(*args, **kwargs)
    except BaseException as error:
        detach(invocation, token)
        invocation.fail(error)
        raise
    detach(invocation, token)
    invocation.stop()
    return result


def _is_ours(clear: Any) -> bool:
    return isinstance(clear, functools.partial) and clear.func is _clear


def _clear(watched: weakref.ref[CachedFunction], cached: Callable[[], Any], own: Callable[[], None] | None) -> None:
    """`cache_clear` of one cache: its counts so far are kept, then it is the original's turn."""
    cache, watcher = cached(), watched()
    if cache is not None:
        if watcher is not None:
            watcher.keep_totals(cache)
        own() if own is not None else type(cache).cache_clear(cache)
