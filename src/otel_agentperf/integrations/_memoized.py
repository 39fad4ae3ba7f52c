"""Functions, sync and async, behind the decorators of caches that keep no statistics of their own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any

from ..capture import counts
from ..capture.callables import TracedCallable
from ..capture.invocation import Invocation
from ..capture.streams import drive_coroutine
from ..model import CacheCounts
from ._cached_functions import CachedFunction, Registry
from ._lookups import asked_for, reset


class MemoizedFunctions(Registry):
    """Those of one integration."""

    def __init__(self) -> None:
        super().__init__()
        self.deletions = 0

    def something_deleted(self) -> None:
        """A key or more was deleted from one of the caches: what was computed before may rightly be computed anew."""
        self.deletions += 1

    def switch(self, on: bool) -> None:
        """Watch all of them, or none."""
        super().switch(on)
        if on:
            list(self.counts())  # what was looked up without us is nobody's
            counts.register(self.counts)
        else:
            counts.unregister(self.counts)


COMPUTED, FOUND, EACH_KEY = "computed", "found", "each key"
"""What a call of a memoized function is. A miss when it computes, otherwise a hit; a hit when something was found,
though it may be computed anew all the same, before it is needed; several look-ups, which are told one by one. (Plain
text: to read a member of an enumeration takes longer than to look something up.)"""


class Call:
    """One call of a memoized coroutine function that is going on."""

    __slots__ = ("computed", "found", "function")

    def __init__(self, function: Memoized) -> None:
        self.function = function
        self.computed = False
        self.found = False
        """the value was in the cache, whether or not it is computed anew besides"""


def current_call() -> Call | None:
    """The call that a cache is asked for just now."""
    asking = asked_for.get()
    return asking if type(asking) is Call else None


class Memoized(CachedFunction):
    """A function whose look-ups are told to us one by one, and whose computations we make."""

    __slots__ = ("_functions", "_hit_s", "_hits", "_missed", "_read", "proxy")

    def __init__(self, function: Callable[..., Any], system: str, functions: MemoizedFunctions) -> None:
        super().__init__(function, system)
        self._functions = functions
        self._hits = 0
        self._hit_s = 0.0
        self._missed = 0
        self._read = (0, 0.0, 0)
        self.proxy: Any = TracedCallable(function, self._compute_instead)
        """what a cache that looks closely at the function may call on a miss of a coroutine function"""

    def plain(self) -> Any:
        """The same as a plain function, which is looked at faster than a proxy."""

        @functools.wraps(self.function)
        async def compute(*args: Any, **kwargs: Any) -> Any:
            return await self.acompute(*args, **kwargs)

        return compute

    def looked_up(self, found: bool, started: float) -> None:
        """One look-up, begun at `started` of `perf_counter`."""
        if found:
            self._hits += 1
            self._hit_s += perf_counter() - started
        else:
            self._missed += 1

    async def call(self, rule: str, cached: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        """A call of the memoized coroutine function, in which its cache is not to count what it looks up."""
        call, started = Call(self), perf_counter()
        token = asked_for.set(call)
        returned = False
        try:
            result = await cached(*args, **kwargs)
            returned = True
            return result
        finally:
            reset(token)
            if rule is not EACH_KEY and (returned or call.computed):
                self.looked_up(call.found if rule is FOUND else not call.computed, started)

    async def acompute(self, /, *args: Any, **kwargs: Any) -> Any:
        """A miss of a coroutine function."""
        call = current_call()
        if call is None:  # asked past the cache
            return await self.function(*args, **kwargs)
        call.computed = True
        invocation = self._start(args, kwargs)
        token = asked_for.set(None)
        started = perf_counter()
        try:
            work = self.function(*args, **kwargs)
            return await (work if invocation is None else _inside(invocation, work))
        finally:
            reset(token)
            self._took(perf_counter() - started)

    def count(self) -> CacheCounts | None:
        now, before = (self._hits, self._hit_s, self._missed), self._read
        self._read = now
        hits, hit_s, misses = now[0] - before[0], now[1] - before[1], now[2] - before[2]
        return self.counted(hits, misses, hit_s / hits if hits else 0.0)

    def _key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return super()._key(args, kwargs), self._functions.deletions

    def _compute_instead(self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.acompute(*args, **kwargs)


def _inside(invocation: Invocation, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
    return drive_coroutine(lambda: invocation, work)
