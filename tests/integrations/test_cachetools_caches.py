"""cachetools: decorated functions under their names, plain caches under their classes, all counts exact."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import cachetools
import cachetools.func
import pytest
from cachetools import LRUCache, TLRUCache, TTLCache

from _recorded import Recorded, counted
from otel_agentperf import agent, uninstrument

CLASSES: dict[str, Callable[[], Any]] = {
    "FIFOCache": lambda: cachetools.FIFOCache(9),
    "LFUCache": lambda: cachetools.LFUCache(9),
    "LRUCache": lambda: LRUCache(9),
    "RRCache": lambda: cachetools.RRCache(9),
    "TTLCache": lambda: TTLCache(9, 60),
    "TLRUCache": lambda: TLRUCache(9, lambda key, value, now: now + 60),
}


def caches(recorded: Recorded) -> dict[str, tuple[int, int]]:
    """(look-ups, hits) by name, as the report has them."""
    return {cache.name: (cache.lookups, cache.hits) for cache in recorded.report.caches}


def rate(source: str, target: str = "EUR") -> int:
    """The rate of the day."""
    return len(source) + len(target)


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_counts_its_lookups(recorded: Recorded, name: str) -> None:
    cache = CLASSES[name]()
    with agent("planner"):
        with pytest.raises(KeyError):
            cache["a"]
        assert cache.get("a") is None
        assert cache.get("a", 5) == 5
        cache["a"] = 1
        assert cache["a"] == cache.get("a") == cache.get("a", default=2) == 1
        assert "a" in cache
        assert len(cache) == 1
    assert caches(recorded) == {name: (6, 3)}


def test_none_is_a_value(recorded: Recorded) -> None:
    cache: Any = LRUCache(2)
    with agent("planner"):
        cache["a"] = None
        assert cache.get("a", 1) is None
    assert caches(recorded) == {"LRUCache": (1, 1)}


@pytest.mark.parametrize("name", CLASSES)
def test_eviction_is_no_lookup(recorded: Recorded, name: str) -> None:
    cache = CLASSES[name]()
    with agent("planner"):
        for number in range(30):
            cache[number] = number
        cache.popitem()
    assert caches(recorded) == {}


def test_what_has_expired_is_a_miss(recorded: Recorded) -> None:
    now = [0.0]
    cache: Any = TTLCache(9, 10, timer=lambda: now[0])
    with agent("planner"):
        cache["a"] = 1
        assert cache["a"] == 1
        now[0] = 20.0
        assert cache.get("a") is None
        with pytest.raises(KeyError):
            cache["a"]
    assert caches(recorded) == {"TTLCache": (3, 1)}


CACHED = pytest.mark.parametrize(
    "decorate",
    [
        lambda f: cachetools.cached(LRUCache(9))(f),
        lambda f: cachetools.cached(cache={})(f),
        lambda f: cachetools.cached(TTLCache(9, 60))(f),
        lambda f: cachetools.cached(LRUCache(9), lock=threading.RLock())(f),
        lambda f: cachetools.cached(LRUCache(9), info=True)(f),
        lambda f: cachetools.cached({}, condition=threading.Condition())(f),
        lambda f: cachetools.cached(LRUCache(9), cachetools.keys.hashkey, threading.RLock(), None, True)(f),
        lambda f: cachetools.func.lru_cache(f),
        lambda f: cachetools.func.ttl_cache(maxsize=9, ttl=5)(f),
        lambda f: cachetools.func.lfu_cache(None)(f),
    ],
)


@CACHED
def test_a_decorated_function_counts_under_its_name_only(recorded: Recorded, decorate: Callable[[Any], Any]) -> None:
    look_up = decorate(rate)
    look_up("USD")
    with agent("planner"):
        for source in ("USD", "USD", "GBP", "GBP", "GBP", "JPY"):
            assert look_up(source) == 6
    assert caches(recorded) == {"rate": (6, 4)}


@CACHED
def test_a_decorated_function_looks_like_itself(recorded: Recorded, decorate: Callable[[Any], Any]) -> None:
    look_up = decorate(rate)
    assert look_up.__wrapped__ is rate
    assert look_up.__name__ == "rate"
    assert look_up.__doc__ == rate.__doc__
    assert inspect.signature(look_up) == inspect.signature(rate)
    assert look_up.cache is not None


def test_it_is_pickled_by_name(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = cachetools.cached(LRUCache(9))(rate)
    monkeypatch.setattr(sys.modules[__name__], "rate", look_up)
    assert pickle.loads(pickle.dumps(look_up)) is look_up


def test_caches_are_pickled_as_before(recorded: Recorded) -> None:
    cache: Any = LRUCache(3)
    cache["a"] = 1
    assert pickle.loads(pickle.dumps(cache))["a"] == 1


def test_clearing_loses_no_lookups(recorded: Recorded) -> None:
    look_up: Any = cachetools.cached(LRUCache(9))(rate)
    with agent("planner"):
        for _ in range(3):
            look_up("USD")
            look_up("USD")
            look_up.cache_clear()
            assert len(look_up.cache) == 0
    assert caches(recorded) == {"rate": (6, 3)}


def test_decorated_and_direct_use_of_a_class_are_told_apart(recorded: Recorded) -> None:
    look_up = cachetools.cached(LRUCache(9))(rate)
    own: Any = LRUCache(9)
    with agent("planner"):
        look_up("USD")
        look_up("USD")
        own["a"] = 1
        assert own["a"] == own.get("a") == 1
        own.get("b")
    assert caches(recorded) == {"rate": (2, 1), "LRUCache": (3, 2)}


def test_methods_count_for_all_objects_together(recorded: Recorded) -> None:
    class Rates:
        def __init__(self) -> None:
            self.cache: Any = LRUCache(9)

        @cachetools.cachedmethod(lambda self: self.cache)
        def of(self, source: str) -> int:
            """The rate."""
            return 0 if not source else 1 + self.of(source[1:])

        @cachetools.cachedmethod(cache=lambda self: self.cache, key=cachetools.keys.typedkey)
        def other(self, source: str) -> int:
            return len(source)

    first, second = Rates(), Rates()
    with agent("planner"):
        assert [first.of("ab"), first.of("ab"), second.of("b"), first.other("x")] == [2, 2, 1, 1]
    name = test_methods_count_for_all_objects_together.__name__
    assert name not in str(caches(recorded))
    assert caches(recorded) == {"Rates.of": (6, 1), "Rates.other": (1, 0)}
    assert first.of.cache is first.cache  # type: ignore[attr-defined]
    assert inspect.signature(first.of) == inspect.signature(lambda source: 0).replace(
        parameters=list(inspect.signature(first.of).parameters.values()), return_annotation="int"
    )


def test_a_slow_miss_is_a_span_and_its_own_work_is_below_it(recorded: Recorded) -> None:
    @cachetools.cached(LRUCache(9))
    def fetch(source: str) -> str:
        with recorded.provider.get_tracer("users").start_as_current_span("fetch"):
            time.sleep(0.002)
        return source

    with agent("planner"):
        for source in ("USD", "USD", "GBP"):
            fetch(source)
    assert recorded.tree == [("invoke_agent planner", [("cache get fetch", ["fetch"]), ("cache get fetch", ["fetch"])])]
    assert caches(recorded) == {"fetch": (3, 1)}
    assert counted(recorded.report, "cache") == {"fetch": 2}
    attributes = dict(recorded.named("cache get fetch")[0].attributes or {})
    assert attributes["agentperf.cache.system"] == "cachetools"


def test_a_failing_function_is_a_miss(recorded: Recorded) -> None:
    @cachetools.cached({})
    def fail(source: str) -> str:
        raise LookupError(source)

    with agent("planner"):
        for _ in range(2):
            with pytest.raises(LookupError, match="USD"):
                fail("USD")
    assert caches(recorded) == {"fail": (2, 0)}


def test_a_class_of_the_users_own_counts_under_its_own_name(recorded: Recorded) -> None:
    class Rates(LRUCache):  # type: ignore[type-arg]
        def __missing__(self, key: str) -> int:
            time.sleep(0.001)
            self[key] = value = len(key)
            return value

    rates = Rates(9)
    plain: Any = LRUCache(9)
    with agent("planner"):
        assert [rates["a"], rates["a"], rates["bb"], rates.get("zz")] == [1, 1, 2, None]
        plain.get("a")
    assert caches(recorded) == {"Rates": (4, 1), "LRUCache": (1, 0)}


def test_a_lookup_of_the_users_own_still_works(recorded: Recorded) -> None:
    class Loud(LRUCache):  # type: ignore[type-arg]
        def __getitem__(self, key: str, cache_getitem: Any = LRUCache.__getitem__) -> Any:
            return cache_getitem(self, key)

    cache = Loud(9)
    cache["a"] = 1
    with agent("planner"):
        assert cache["a"] == 1
    assert caches(recorded) == {"LRUCache": (1, 1)}


def test_wrong_arguments_are_the_librarys_to_refuse(recorded: Recorded) -> None:
    with pytest.raises(TypeError):
        cachetools.cached(None)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        cachetools.cached()  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unhashable"):
        cachetools.cached({})(rate)([])  # type: ignore[arg-type]


def test_functions_of_libraries_are_left_alone(recorded: Recorded) -> None:
    import json

    look_up = cachetools.cached({})(json.dumps)
    with agent("planner"):
        assert look_up("a") == '"a"'
    assert caches(recorded) == {}
    assert not hasattr(look_up, "cache_info")


def test_threads_lose_no_lookups(recorded: Recorded) -> None:
    look_up = cachetools.cached(LRUCache(99), lock=threading.RLock())(rate)

    def read() -> None:
        for number in range(200):
            look_up(str(number % 20))

    with agent("planner"):
        threads = [threading.Thread(target=read) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lookups, hits = caches(recorded)["rate"]
    assert lookups == 1_200
    assert 20 <= lookups - hits <= 120


def test_uninstrumented_caches_work_on(instrumented: Callable[..., Recorded]) -> None:
    before = [vars(getattr(cachetools, name)).get("__getitem__") for name in CLASSES]
    others = cachetools.cached, cachetools.cachedmethod, cachetools.Cache.get, cachetools.func.cached
    instrumented()
    look_up = cachetools.cached(LRUCache(9))(rate)
    assert look_up("USD") == 6
    uninstrument()
    assert [vars(getattr(cachetools, name)).get("__getitem__") for name in CLASSES] == before
    assert (cachetools.cached, cachetools.cachedmethod, cachetools.Cache.get, cachetools.func.cached) == others
    assert look_up("USD") == look_up("GBP") == 6
    recorded = instrumented()
    with agent("planner"):
        look_up("USD")
    assert {cache.name: cache.lookups for cache in recorded.report.caches} == {"rate": 1}


@pytest.mark.parametrize("name", CLASSES)
def test_asking_first_and_reading_then_is_one_lookup(recorded: Recorded, name: str) -> None:
    cache = CLASSES[name]()

    def early_return(key: str) -> int:
        if key in cache:
            return int(cache[key])
        cache[key] = value = len(key)
        return value

    def fill_first(key: str) -> int:
        if key not in cache:
            cache[key] = len(key)
        return int(cache[key])

    with agent("planner"):
        assert [early_return(key) for key in ("a", "a", "bb", "a")] == [1, 1, 2, 1]
        assert [fill_first(key) for key in ("c", "c", "dd", "a")] == [1, 1, 2, 1]
    assert caches(recorded) == {name: (8, 4)}


def test_get_and_store_is_one_lookup_a_call(recorded: Recorded) -> None:
    cache: Any = TTLCache(9, 60)

    def rate_of(source: str) -> int:
        value = cache.get(source)
        if value is None:
            time.sleep(0.002)
            cache[source] = value = len(source)
        return int(value)

    with agent("planner"):
        assert [rate_of(source) for source in ("USD", "USD", "EURO", "USD")] == [3, 3, 4, 3]
        assert cache["USD"] == 3
    assert caches(recorded) == {"TTLCache": (5, 3)}
    saved = recorded.report.caches[0].time_saved_s
    assert saved is not None
    assert 0.005 < saved < 0.1


def test_setdefault_stores(recorded: Recorded) -> None:
    cache: Any = LRUCache(9)
    with agent("planner"):
        assert [cache.setdefault("a", 1), cache.setdefault("a", 2)] == [1, 1]
        assert cache["a"] == cache["a"] == 1
    assert caches(recorded) == {"LRUCache": (2, 2)}


def test_a_locked_function_leaves_nothing_to_its_class(recorded: Recorded) -> None:
    look_up = cachetools.cached(LRUCache(9), lock=threading.RLock())(rate)
    own: Any = LRUCache(9)
    with agent("planner"):
        for source in ("USD", "USD", "GBP", "USD"):
            look_up(source)
        own["a"] = 1
        assert own["a"] == 1
    assert caches(recorded) == {"rate": (4, 2), "LRUCache": (1, 1)}


def test_an_unhashable_key_fails_as_without_us(recorded: Recorded) -> None:
    cache: Any = LRUCache(9)
    for call in (cache.get, cache.__getitem__, cache.__contains__, cache.setdefault):
        with pytest.raises(TypeError, match="unhashable"):
            call([])


def _decorated() -> list[Any]:
    """Decorated in each way that cachetools treats on its own."""
    lock = threading.Condition()
    ways: list[dict[str, Any]] = [
        {},
        {"lock": threading.RLock()},
        {"condition": lock},
        {"lock": lock, "condition": lock},
    ]
    asked = [cachetools.cached(LRUCache(9), **way, info=True)(rate) for way in ways]
    return [*asked, *(cachetools.cached(LRUCache(9), **way)(rate) for way in ways)]


def _looks(cached: Any) -> list[Any]:
    kept = {name for name in vars(cached) if "Mixin__" not in name and name != "cache_clear"}
    return [type(cached).__name__.replace("Info", "").replace("Basic", ""), kept, getattr(cached, "cache_info", 0)]


def test_decorated_functions_look_as_without_us(instrumented: Callable[..., Recorded]) -> None:
    plain = [_looks(cached) for cached in _decorated()]
    recorded = instrumented()
    counted_ones = _decorated()
    with agent("planner"):
        for cached in counted_ones:
            assert cached("USD") == cached("USD") == 6
    assert caches(recorded) == {"rate": (16, 8)}
    for before, cached in zip(plain, counted_ones, strict=True):
        now = _looks(cached)
        assert now[:2] == before[:2]
        assert callable(now[2]) if callable(before[2]) else now[2] == before[2]
        cached.cache_clear()
        assert not cached.cache
    uninstrument()
    assert [cached("USD") for cached in counted_ones] == [6] * 8


def test_without_a_cache_there_is_nothing_to_count(recorded: Recorded) -> None:
    """cachetools 8 refuses it, 7 warns of it, in the line that asked for it."""
    with warnings.catch_warnings(record=True) as told, contextlib.suppress(TypeError):
        warnings.simplefilter("always")
        look_up = cachetools.cached(None, info=True)(rate)  # type: ignore[call-overload]
        assert look_up("USD") == 6
        assert look_up.cache_info().misses == 1
        assert [warning.filename for warning in told] == [__file__]
