"""diskcache: every way to look something up, exact; slow look-ups and misses that cost something are spans."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest

from _recorded import Recorded, counted
from _three_ways import three_ways
from otel_agentperf import agent, tool, uninstrument


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Any]:
    with diskcache.Cache(tmp_path / "cache") as opened:
        yield opened


def caches(recorded: Recorded) -> dict[str, tuple[int, int]]:
    """(look-ups, hits) by name, as the report has them."""
    return {cache.name: (cache.lookups, cache.hits) for cache in recorded.report.caches}


def rate(source: str, target: str = "EUR") -> int:
    """The rate of the day."""
    return len(source) + len(target)


def test_every_lookup_is_counted(recorded: Recorded, cache: Any) -> None:
    with agent("planner"):
        assert cache.get("a") is None
        cache["a"] = 1
        assert cache["a"] == cache.get("a") == 1
        with pytest.raises(KeyError):
            cache["b"]
        cache.set("c", 2, expire=60, tag="x")
        assert cache.get("c", expire_time=True, tag=True)[2] == "x"
        assert cache.get("d", 5, False, True) == (5, None)
        assert cache.get("d", default=5, expire_time=True, tag=True) == (5, None, None)
        assert cache.pop("a") == 1
        assert cache.pop("a", default=0) == 0
    assert caches(recorded) == {"diskcache": (9, 4)}


def test_none_and_the_default_are_values(recorded: Recorded, cache: Any) -> None:
    with agent("planner"):
        cache["none"] = None
        cache["zero"] = 0
        assert cache.get("none") is None
        assert cache.get("zero", 0) == 0
        assert cache.get("nothing", 0) == 0
    assert caches(recorded) == {"diskcache": (3, 2)}


def test_asking_first_and_reading_then_is_one_lookup(recorded: Recorded, cache: Any) -> None:
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
    assert caches(recorded) == {"diskcache": (8, 4)}


@pytest.mark.parametrize("make", [diskcache.FanoutCache, diskcache.Index])
def test_what_is_built_on_it(recorded: Recorded, tmp_path: Path, make: Callable[..., Any]) -> None:
    built = make(str(tmp_path))
    with agent("planner"):
        built["a"] = 1
        assert built["a"] == built.get("a") == 1
        assert built.get("b") is None
    assert caches(recorded) == {"diskcache": (3, 2)}
    getattr(built, "close", lambda: None)()


def test_a_class_of_the_users_own_counts_under_its_own_name(recorded: Recorded, tmp_path: Path) -> None:
    class Rates(diskcache.Cache):
        def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            return super().get(("rate", key), *args, **kwargs)

    with Rates(tmp_path) as rates, agent("planner"):
        rates.set(("rate", "USD"), 1)
        assert [rates.get("USD"), rates.get("GBP")] == [1, None]
    assert caches(recorded) == {"Rates": (2, 1)}


def test_keys_that_cannot_be_hashed_and_values_in_files(recorded: Recorded, cache: Any) -> None:
    large = b"x" * 2_000_000
    with agent("planner"):
        cache[[1, "two"]] = large
        assert cache[[1, "two"]] == large
        with cache.read([1, "two"]) as file:
            assert file.read() == large
    assert caches(recorded) == {"diskcache": (2, 2)}


def test_locks_and_averages_are_no_lookups(recorded: Recorded, cache: Any) -> None:
    with agent("planner"):
        with diskcache.Lock(cache, "lock"), diskcache.RLock(cache, "rlock"):
            diskcache.Averager(cache, "average").add(1.0)
        assert diskcache.Averager(cache, "average").get() == 1.0
    assert caches(recorded) == {}


def test_what_misses_cost_is_the_time_until_they_are_stored(recorded: Recorded, cache: Any) -> None:
    with agent("planner"):
        for source in ("USD", "GBP", "USD", "USD"):
            if cache.get(source) is None:
                time.sleep(0.02)
                cache[source] = 1
    (stats,) = recorded.report.caches
    assert (stats.lookups, stats.hits) == (4, 2)
    assert stats.time_saved_s == pytest.approx(0.04, rel=0.5)


def test_misses_that_cost_something_are_spans_and_hits_are_not(recorded: Recorded, cache: Any) -> None:
    cache.get("warm")
    recorded.forget()
    with agent("planner"):
        for _ in range(2):
            if cache.get("secret-key") is None:
                time.sleep(0.01)
                cache["secret-key"] = "secret-value"
    shown = [dict(span.attributes or {}) for span in recorded.named("cache get diskcache")]
    assert [one["agentperf.cache.hit"] for one in shown][:1] == [False]
    assert "secret" not in str(shown)
    assert recorded.parent(recorded.named("cache get diskcache")[0]) == "invoke_agent planner"
    assert recorded.traces == 1


@pytest.mark.parametrize(("wanted", "spans"), [("all", ["get", "set", "get"]), ("none", [])])
def test_the_setting_says_whether_lookups_are_spans(
    instrumented: Callable[..., Recorded], cache: Any, wanted: str, spans: list[str]
) -> None:
    recorded = instrumented(cache_spans=wanted)
    with agent("planner"):
        cache.get("a")
        cache.set("a", 1)
        cache.get("a")
    assert [span.name.split()[1] for span in recorded.spans if span.name.startswith("cache")] == spans
    assert caches(recorded) == {"diskcache": (2, 1)}


def test_keys_missed_again_are_found(recorded: Recorded, cache: Any) -> None:
    with agent("planner"):
        for _ in range(6):
            if cache.get("USD") is None:
                with tool("fetch"):
                    time.sleep(0.05)
                cache.set("USD", 1, expire=0.001)
            time.sleep(0.005)
    assert [finding.kind for finding in recorded.report.findings if finding.operation == "diskcache"] == [
        "ineffective_cache"
    ]


def test_keys_deleted_in_between_are_not(recorded: Recorded, cache: Any) -> None:
    with agent("planner"):
        for _ in range(6):
            if cache.get("USD") is None:
                with tool("fetch"):
                    time.sleep(0.05)
                cache["USD"] = 1
            cache.delete("USD")
    assert "ineffective_cache" not in [finding.kind for finding in recorded.report.findings]


@pytest.mark.parametrize(("deleting", "found"), [(True, []), (False, ["ineffective_cache"])])
def test_what_is_computed_after_a_deletion_is_no_repeated_miss(
    recorded: Recorded, cache: Any, deleting: bool, found: list[str]
) -> None:
    @cache.memoize(expire=0.05)
    def slow(source: str) -> str:
        time.sleep(0.05)
        return source

    with agent("planner"):
        for _ in range(6):
            slow("USD")
            if deleting:
                cache.delete(slow.__cache_key__("USD"))
            time.sleep(0.06)
    assert caches(recorded)["slow"] == (6, 0)
    assert [finding.kind for finding in recorded.report.findings if finding.operation == "slow"] == found


MEMOIZED = pytest.mark.parametrize(
    "memoize",
    [
        lambda cache: cache.memoize(),
        lambda cache: cache.memoize(typed=True, expire=60, tag="rates"),
        lambda cache: cache.memoize(name="rates"),
        lambda cache: diskcache.memoize_stampede(cache, 3600),
        lambda cache: diskcache.memoize_stampede(cache=cache, expire=3600),
        lambda cache: diskcache.FanoutCache(cache.directory + "/fan").memoize(),
    ],
)


@MEMOIZED
def test_a_memoized_function_counts_under_its_name_only(
    recorded: Recorded, cache: Any, memoize: Callable[[Any], Any]
) -> None:
    look_up = memoize(cache)(rate)
    look_up("USD")
    with agent("planner"):
        for source in ("USD", "USD", "GBP", "GBP", "GBP", "JPY"):
            assert look_up(source) == 6
    assert caches(recorded) == {"rate": (6, 4)}


@MEMOIZED
def test_a_memoized_function_looks_like_itself(recorded: Recorded, cache: Any, memoize: Callable[[Any], Any]) -> None:
    look_up = memoize(cache)(rate)
    assert look_up.__wrapped__ is rate
    assert (look_up.__name__, look_up.__module__, look_up.__doc__) == ("rate", __name__, rate.__doc__)
    assert inspect.signature(look_up) == inspect.signature(rate)
    assert copy.deepcopy(look_up) is look_up


def test_keys_on_disk_are_those_without_us(instrumented: Callable[..., Recorded], cache: Any) -> None:
    before = cache.memoize()(rate)
    before("USD")
    recorded = instrumented()
    look_up = cache.memoize()(rate)
    assert look_up.__cache_key__("USD") == before.__cache_key__("USD") in cache
    with agent("planner"):
        look_up("USD")
    assert caches(recorded) == {"rate": (1, 1)}


def test_a_memoized_none_a_failure_and_recursion(recorded: Recorded, cache: Any) -> None:
    @cache.memoize()
    def nothing(source: str) -> None:
        pass

    @cache.memoize()
    def fail(source: str) -> None:
        raise LookupError(source)

    @cache.memoize()
    def fibonacci(number: int) -> int:
        return number if number < 2 else int(fibonacci(number - 1) + fibonacci(number - 2))

    with agent("planner"):
        nothing("a"), nothing("a")
        for _ in range(2):
            with pytest.raises(LookupError, match="USD"):
                fail("USD")
        assert fibonacci(20) == 6765
    assert caches(recorded) == {"nothing": (2, 1), "fail": (2, 0), "fibonacci": (39, 18)}
    failed = dict(recorded.named("cache get fail")[0].attributes or {})
    assert failed["error.type"] == "LookupError"


def test_a_slow_miss_is_a_span_and_its_own_work_is_below_it(recorded: Recorded, cache: Any) -> None:
    other = diskcache.Cache(cache.directory + "/other")

    @cache.memoize()
    def fetch(source: str) -> str:
        with recorded.provider.get_tracer("users").start_as_current_span("fetch"):
            other.get(source)
        return source

    with agent("planner"):
        for source in ("USD", "USD", "GBP"):
            fetch(source)
    assert recorded.parent(recorded.named("fetch")[0]) == "cache get fetch"
    assert counted(recorded.report, "cache")["fetch"] == 2
    assert caches(recorded) == {"fetch": (3, 1), "diskcache": (2, 0)}
    other.close()


def test_threads_lose_no_lookups(recorded: Recorded, cache: Any) -> None:
    cache["a"] = 1

    def read() -> None:
        for number in range(100):
            cache.get("a" if number % 2 else "b")

    with agent("planner"):
        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert caches(recorded) == {"diskcache": (400, 200)}


def test_a_cache_that_cannot_answer_is_neither_hit_nor_miss(recorded: Recorded, cache: Any) -> None:
    with agent("planner"), pytest.raises(Exception, match=r"pickle|Can't get|local"):
        cache.get(lambda: None)
    assert caches(recorded) == {}
    failed = dict(recorded.one("cache get diskcache").attributes or {})
    assert "agentperf.cache.hit" not in failed
    assert failed["error.type"]


def test_caches_and_functions_are_pickled_as_before(
    recorded: Recorded, cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache["a"] = 1
    assert pickle.loads(pickle.dumps(cache))["a"] == 1
    look_up = cache.memoize()(rate)
    monkeypatch.setattr(sys.modules[__name__], "rate", look_up)
    assert pickle.loads(pickle.dumps(look_up)) is look_up


def test_wrong_use_is_the_librarys_to_refuse(recorded: Recorded, cache: Any) -> None:
    with pytest.raises(TypeError, match="name cannot be callable"):
        cache.memoize(rate)
    with pytest.raises(TypeError):
        cache.get()


def test_taking_it_back(instrumented: Callable[..., Recorded], cache: Any) -> None:
    names = ("get", "pop", "set", "add", "clear", "evict", "memoize", "__contains__", "__setitem__", "__delitem__")
    uninstrument()
    before = [vars(diskcache.Cache)[name] for name in names]
    instrumented()
    look_up = cache.memoize()(rate)
    look_up("USD")
    uninstrument()
    assert [vars(diskcache.Cache)[name] for name in names] == before
    assert look_up("USD") == look_up("GBP") == 6
    recorded = instrumented()
    with agent("planner"):
        look_up("USD")
    assert caches(recorded) == {"rate": (1, 1)}


PROGRAM = """
import time
from pathlib import Path
from tempfile import mkdtemp
import diskcache
from otel_agentperf import agent, tool

cache = diskcache.Cache(mkdtemp())

@cache.memoize(expire=60)
def geocode(city):
    time.sleep(0.01)
    return len(city)

@tool
def weather(city):
    key = ("weather", city)
    if key in cache:
        return cache[key]
    time.sleep(0.01)
    cache.set(key, f"{city}: {geocode(city)}", expire=60)
    return cache[key]

@agent
def planner(cities):
    return [weather(city) for city in cities]

print(planner(["Paris", "Rome", "Paris", "Paris"]))
try:
    cache["nothing"]
except KeyError as error:
    print("no", error)
cache.close()
"""


def test_a_program_in_each_way(tmp_path: Path) -> None:
    told = three_ways(PROGRAM, tmp_path)
    assert told.tools == {"weather": 4}
    assert told.caches == {"diskcache": (2, 4), "geocode": (0, 2)}
