"""functools.lru_cache and functools.cache: look-ups counted at no cost, misses timed and, where it pays, traced.

The C cache object stays what it is, so a hit costs what it cost. Look-ups and hits are differences of its own
`cache_info()`, read when a run ends. Only what it calls on a miss is ours: a `functools.partial`, which can be
pointed at our timing method or straight at the user's function without a Python frame of ours in between.

That matters for recursion: a memoised function that calls itself 400 deep must not hit the recursion limit
because of us. So the outermost miss is timed and the ones inside it go straight through.
"""

from __future__ import annotations

import functools
import inspect
import os
import sysconfig
import time
import types
import weakref
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture import counts
from ..capture.invocation import Invocation, attach, detach, start
from ..capture.patching import Patches
from ..capture.tracing import state
from ..model import CacheCounts

MODULES: tuple[str, ...] = ()
DISTRIBUTION = ""
VERSIONS = ""

_WORTH_A_SPAN_S = 1e-3
_SAMPLES = 3
"""misses of a cache that are traced before it is known whether they are worth it"""
_ATTRIBUTES = {
    names.CACHE_OPERATION: "get",
    names.CACHE_SYSTEM: "functools",
    names.CACHE_HIT: False,
    names.CACHE_REPORTED: True,
}
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_LIBRARIES = tuple({
    sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
})  # fmt: skip
_NOT_TIMED = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR | inspect.CO_ITERABLE_COROUTINE
"""functions whose call does no work: what it returns does it later"""

_watched: weakref.WeakSet[_Watched] = weakref.WeakSet()
"""by weak references only, so that a cache made per call goes when its user lets it go"""


def patch(patches: Patches) -> None:
    """Watch the caches made from now on; `functools.cache` goes through `lru_cache` itself."""
    patches.wrap("functools", "lru_cache", _lru_cache)
    for watched in list(_watched):
        watched.switch(on=True)
    counts.register(_counts)


def unpatch() -> None:
    """Let the caches that were made meanwhile call their functions directly again."""
    counts.unregister(_counts)
    for watched in list(_watched):
        watched.switch(on=False)


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
        watched = _Watched(function) if _is_users(function) else None
    if watched is None:
        return decorate(function)
    partial = functools.partial(function)
    cached = decorate(partial)
    with _guard.guard("lru_cache"):
        watched.watch(cached, partial)
    # The name, the signature and `__wrapped__` are the user's function's, as without us.
    return functools.update_wrapper(cached, function)


def _is_users(function: Any) -> bool:
    """A function of the user's own code: libraries cache a lot that no agent's report should talk about."""
    if not isinstance(function, (types.FunctionType, types.MethodType)):
        return False
    code = function.__code__
    path = code.co_filename
    if code.co_flags & _NOT_TIMED or path.startswith((_OWN, "<frozen")):
        return False
    return not path.startswith(_LIBRARIES) and f"{os.sep}site-packages{os.sep}" not in path


class _Watched:
    """What is known of one cache. Held by the cache itself (through the partial), and weakly by everybody else."""

    __slots__ = ("__weakref__", "_base", "_cached", "_function", "_inside", "_misses", "_name", "_partial",
                 "_recursed", "_seconds", "_seen", "_unread_s")  # fmt: skip

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._name = function.__qualname__.rpartition("<locals>.")[2]
        self._inside: set[int] = set()
        self._recursed = False
        self._misses = 0
        self._seconds = 0.0
        self._unread_s = 0.0
        self._base = (0, 0)
        self._seen = (0, 0)

    def watch(self, cached: Any, partial: functools.partial[Any]) -> None:
        """Time what `cached` calls on a miss, which is `partial`, and notice when its statistics start anew."""
        self._cached = weakref.ref(cached)
        self._partial = weakref.ref(partial)
        self.switch(on=True)
        _watched.add(self)

    def switch(self, on: bool) -> None:
        """Watch, or leave the cache as it would be without us."""
        self._point(self.compute if on else self._function)
        cached = self._cached()
        if cached is None:
            return
        if on:
            cached.cache_clear = functools.partial(_clear, weakref.ref(self), self._cached)
            self._seen = self._totals(cached)
        else:
            vars(cached).pop("cache_clear", None)

    def compute(self, /, *args: Any, **kwargs: Any) -> Any:
        """A miss: the user's function, timed, and inside a span where that pays."""
        thread = get_ident()
        if thread in self._inside:
            self._recursed = True
            self._point(self._function)
            return self._function(*args, **kwargs)
        invocation = self._start(args, kwargs)
        self._inside.add(thread)
        started = time.perf_counter()
        try:
            if invocation is None:
                return self._function(*args, **kwargs)
            return _run(invocation, self._function, args, kwargs)
        finally:
            self._ended(thread, time.perf_counter() - started)

    def count(self) -> CacheCounts | None:
        """The look-ups since the last call; None when the cache is gone."""
        cached = self._cached()
        if cached is None:
            return None
        now, before = self._totals(cached), self._seen
        self._seen = now
        hits, misses = now[0] - before[0], now[1] - before[1]
        seconds, self._unread_s = self._unread_s, 0.0
        return CacheCounts(self._name, hits + misses, hits, miss_s=seconds / misses if misses else self._mean())

    def keep_totals(self, cached: Any) -> None:
        """The cache is about to set its statistics to zero."""
        self._base = self._totals(cached)

    def _totals(self, cached: Any) -> tuple[int, int]:
        info = cached.cache_info()
        return self._base[0] + info.hits, self._base[1] + info.misses

    def _mean(self) -> float:
        return self._seconds / self._misses if self._misses else 0.0

    def _start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
        wanted = state.config.cache_spans
        worth = self._misses < _SAMPLES or self._mean() >= _WORTH_A_SPAN_S
        if wanted == "none" or not (worth or wanted == "all") or not get_current_span().get_span_context().is_valid:
            return None
        return start("cache", self._name, _ATTRIBUTES, (args, kwargs) if kwargs else args)

    def _ended(self, thread: int, seconds: float) -> None:
        self._inside.discard(thread)
        self._misses += 1
        self._seconds += seconds
        self._unread_s += seconds
        if self._recursed and not self._inside:
            self._recursed = False
            self._point(self.compute)

    def _point(self, target: Callable[..., Any]) -> None:
        partial: Any = self._partial()
        if partial is not None:
            # Its dictionary keeps us alive while it points elsewhere.
            partial.__setstate__((target, (), {}, {"agentperf": self}))


def _run(invocation: Invocation, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    invocation.measure_cpu()
    token = attach(invocation)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        invocation.fail(error)
        raise
    else:
        invocation.stop()
        return result
    finally:
        detach(invocation, token)


def _clear(watched: weakref.ref[_Watched], cached: weakref.ref[Any]) -> None:
    """`cache_clear` of one cache: its counts so far are kept, then it is the original's turn."""
    cache, watcher = cached(), watched()
    if cache is not None:
        if watcher is not None:
            watcher.keep_totals(cache)
        type(cache).cache_clear(cache)


def _counts() -> Iterator[CacheCounts]:
    for watched in list(_watched):
        count = watched.count()
        if count is not None:
            yield count
