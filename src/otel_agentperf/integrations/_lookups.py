"""Look-ups that cost microseconds: all are counted, and those that are worth it get a span beside.

A span costs about 20 µs. So a look-up has one when it took at least 100 µs, or when it is a miss of a cache whose
misses cost a millisecond and more to compute; `cache_spans=all` gives one to each, `none` to none. The span is made
when the look-up is over, with the times that it had, so that a quick one pays for two clock readings only.

What a miss costs is the time from the look-up to the moment when the same key is stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture import counts
from ..capture.invocation import _NONE, Invocation, start
from ..capture.tracing import state
from ..model import CacheCounts

asked_for: ContextVar[Any] = ContextVar("agentperf_asked_for", default=None)
"""what is true while a cache is asked on behalf of another one, whose look-up is counted (aiocache's of its redis
server): True, or the call of a memoized function"""

_SLOW_S = 1e-4
_WORTH_A_SPAN_S = 1e-3
_SAMPLES = 3
"""misses that get a span before it is known what they cost to compute"""
_MOST = 1_000
"""keys of which it is remembered that they were missed; and names of caches"""


def reset(token: Token[Any]) -> None:
    """Undo `asked_for.set`; a coroutine that is closed from elsewhere has nothing to undo there."""
    try:
        asked_for.reset(token)
    except ValueError:  # a `suppress` would take as long as all the rest
        return


class Lookups:
    """What is known of one cache, by its name. Its methods raise nothing and take nanoseconds, unless there is a
    span to make. `started` is a reading of `perf_counter` from before the operation.

    Where a hit takes a few microseconds the call of `looked_up` is worth sparing:

        took = perf_counter() - started
        if took < lookups.slow_s and not lookups.read_back:
            lookups.hits += 1
            lookups.hit_s += took
        else:
            lookups.looked_up(key, True, started)
    """

    __slots__ = ("_attributes", "_computed", "_computed_s", "_is_on", "_miss_s", "_missing", "_seen", "hit_s",
                 "hits", "misses", "name", "read_back", "slow_s")  # fmt: skip

    def __init__(self, name: str, system: str, is_on: Callable[[], bool]) -> None:
        self.name = name
        self.hits = 0
        self.misses = 0
        self.hit_s = 0.0
        self.slow_s = _SLOW_S
        self._miss_s = 0.0
        self._computed = 0
        self._computed_s = 0.0
        self._seen = (0, 0, 0.0, 0.0, 0, 0.0)
        self._is_on = is_on
        self._attributes = {names.CACHE_SYSTEM: system, names.CACHE_REPORTED: True, names.CACHE_COMPUTED_AFTER: True}
        # By the keys' hashes, so that no key lives longer because of us.
        self._missing: dict[int, tuple[float, bool]] = {}
        self.read_back: set[int] = set()

    def looked_up(self, key: Any, found: bool, started: float) -> None:
        """A look-up has ended well."""
        took = perf_counter() - started
        if not found:
            self._missed(key, took, asked=False)
            return
        if self.read_back and self._is_read_back(key):
            return
        self.hits += 1
        self.hit_s += took
        if took >= self.slow_s:
            self._span("get", key, took, True)

    def looked_up_all(self, keys: Sequence[Any], found: Sequence[bool], started: float) -> None:
        """Several keys at once: each is a look-up, and a span tells them all."""
        if not keys:
            return
        took = perf_counter() - started
        hits = sum(found)
        self.hits += hits
        self.misses += len(keys) - hits
        self.hit_s += took / len(keys) * hits
        self._miss_s += took / len(keys) * (len(keys) - hits)
        with _guard.guard("lookups.all"):
            for key, is_hit in zip(keys, found, strict=False):
                if not is_hit:
                    self._remember(key, asked=False)
            if took >= self.slow_s:
                counted = {names.CACHE_LOOKUPS: len(keys), names.CACHE_FOUND: hits}
                self._span("get", list(keys), took, hits == len(keys), more=counted)

    def asked(self, key: Any, found: bool, started: float) -> None:
        """`key in cache` was asked. A yes is no look-up: the one that follows is. A no is a miss, and when the key is
        stored then and read back, that is no look-up either."""
        if found:
            if self.read_back:
                self._is_read_back(key)
            return
        self._missed(key, perf_counter() - started, asked=True)

    def stored(self, key: Any, started: float) -> None:
        """The cache was given a value."""
        took = perf_counter() - started
        if self._missing:
            self._computed_for(key, started)
        if took >= self.slow_s:
            self._span("set", key, took)

    def deleted(self, key: Any, started: float, operation: str = "delete") -> None:
        """`operation` ("delete" or "clear") has ended. It tells why a key is missed again, so it has a span where the
        misses have."""
        took = perf_counter() - started
        if took >= self.slow_s or self._are_misses_told():
            self._span(operation, key, took)

    def failed(self, operation: str, key: Any, started: float, error: BaseException) -> None:
        """The cache raised, or the look-up was cancelled: neither hit nor miss."""
        self._span(operation, key, perf_counter() - started, error=error)

    def count(self) -> CacheCounts:
        """The look-ups since the last call, with their mean times."""
        before = self._seen
        now = (self.hits, self.misses, self.hit_s, self._miss_s, self._computed, self._computed_s)
        self._seen = now
        hits, misses, hit_s, miss_s, computed, computed_s = (new - old for new, old in zip(now, before, strict=True))
        if not computed:
            computed, computed_s = self._computed, self._computed_s
        full_miss_s = _mean(miss_s, misses) + _mean(computed_s, computed) if computed else 0.0
        return CacheCounts(self.name, int(hits + misses), int(hits), _mean(hit_s, hits), full_miss_s)

    def _missed(self, key: Any, took: float, asked: bool) -> None:
        self.misses += 1
        self._miss_s += took
        with _guard.guard("lookups.missed"):
            self._remember(key, asked)
            if took >= self.slow_s or self._are_misses_told():
                self._span("get", key, took, False)

    def _remember(self, key: Any, asked: bool) -> None:
        if len(self._missing) >= _MOST:
            self._missing.clear()
        self._missing[_hash(key)] = (perf_counter(), asked)

    def _computed_for(self, key: Any, started: float) -> None:
        with _guard.guard("lookups.stored"):
            hashed = _hash(key)
            missed_at, asked = self._missing.pop(hashed, (0.0, False))
            if missed_at:
                self._computed += 1
                self._computed_s += max(0.0, started - missed_at)
            if asked:
                if len(self.read_back) >= _MOST:
                    self.read_back.clear()
                self.read_back.add(hashed)

    def _is_read_back(self, key: Any) -> bool:
        with _guard.guard("lookups.read_back"):
            hashed = _hash(key)
            if hashed in self.read_back:
                self.read_back.discard(hashed)
                return True
        return False

    def _are_misses_told(self) -> bool:
        if state.config.cache_spans != "remote":
            return state.config.cache_spans == "all"
        return self.misses <= _SAMPLES or _mean(self._computed_s, self._computed) >= _WORTH_A_SPAN_S

    def _span(
        self,
        operation: str,
        key: Any,
        took: float,
        hit: bool | None = None,
        *,
        error: BaseException | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        if state.config.cache_spans == "none" or not self._is_on():
            return
        with _guard.guard("lookups.span"):
            if not get_current_span().get_span_context().is_valid:
                return
            end = time.time_ns()
            attributes = {names.CACHE_OPERATION: operation, **self._attributes, **(more or {})}
            began = end - int(took * 1e9)
            invocation = start("cache", self.name, attributes, key, start_time=began)
            if invocation is not None:
                if hit is not None:
                    invocation.hit(hit)
                invocation.__class__ = _Over
                invocation.over(error, end)  # type: ignore[attr-defined]


class _Over(Invocation):
    """An operation that is over when its span is made."""

    __slots__ = ()

    def over(self, error: BaseException | None, end: int) -> None:
        """End the span as it ended, at `end`."""
        if self._recording:
            self._describe(error, _NONE)
        self._ended = True
        self.span.end(end)


class Registry:
    """The caches of one integration, by name."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._caches: dict[str, Lookups] = {}
        self.by_class: dict[type, Lookups] = {}
        """those that `of` has found; where nanoseconds count it is asked first"""
        self._on = False

    def named(self, name: str) -> Lookups:
        """The cache of that name."""
        found = self._caches.get(name)
        if found is None:
            if len(self._caches) >= _MOST:
                name = counts.OTHER
            found = self._caches.setdefault(name, Lookups(name, self._system, self.is_on))
            found.slow_s = self._slow_s()
        return found

    def _slow_s(self) -> float:
        """From how many seconds on a look-up has a span."""
        return 0.0 if state.config.cache_spans == "all" else _SLOW_S

    def of(self, cache: Any) -> Lookups:
        """The cache's: under the library's name, or under that of the user's own class."""
        kind = type(cache)
        found = self.by_class.get(kind)
        if found is None:
            own = kind.__module__.partition(".")[0] != self._system
            found = self.named(kind.__qualname__.rpartition("<locals>.")[2] if own else self._system)
            if len(self.by_class) < _MOST:
                self.by_class[kind] = found
        return found

    def is_on(self) -> bool:
        return self._on

    def switch(self, on: bool) -> None:
        """Report the look-ups to the runs from now on, or not any more."""
        self._on = on
        for lookups in self._caches.values():
            lookups.slow_s = self._slow_s()
        if on:
            list(self.counts())  # what was looked up without us is nobody's
            counts.register(self.counts)
        else:
            counts.unregister(self.counts)
            self.by_class.clear()

    def counts(self) -> Iterator[CacheCounts]:
        """What they did since this was last asked."""
        for lookups in list(self._caches.values()):
            yield lookups.count()


def _mean(total: float, count: float) -> float:
    return total / count if count else 0.0


def _hash(key: Any) -> int:
    """Unhashable keys (diskcache takes lists) are told apart by type only: good enough for a mean time."""
    try:
        return hash(key)
    except TypeError:
        return hash(type(key))
