"""functools caches: exact counts, the real object, no cost on a hit, spans only where a miss is worth one."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from _recorded import Recorded, counted
from otel_agentperf import agent, uninstrument
from otel_agentperf.capture import counts


def caches(recorded: Recorded) -> dict[str, tuple[int, int]]:
    """(look-ups, hits) by name, as the report has them."""
    return {cache.name: (cache.lookups, cache.hits) for cache in recorded.report.caches}


def a_rate(source: str, target: str = "EUR") -> float:
    """The rate of the day."""
    return len(source) + len(target)


@pytest.mark.parametrize("decorate", [
    lambda f: functools.lru_cache(f), lambda f: functools.lru_cache()(f), lambda f: functools.lru_cache(maxsize=7)(f),
    lambda f: functools.lru_cache(None, True)(f), lambda f: functools.cache(f), lambda f: functools.lru_cache(f, True),
    lambda f: functools.lru_cache(maxsize=f),
])  # fmt: skip
def test_lookups_and_hits_are_exact_however_it_is_decorated(recorded: Recorded, decorate: Callable[[Any], Any]) -> None:
    rate = decorate(a_rate)
    rate("USD")
    with agent("planner"):
        for source in ("USD", "USD", "GBP", "GBP", "GBP", "JPY"):
            rate(source)
    assert caches(recorded) == {"a_rate": (6, 4)}


def test_the_object_is_the_one_without_us(recorded: Recorded) -> None:
    plain = inspect.unwrap(functools.lru_cache)(maxsize=16, typed=True)(a_rate)
    rate = functools.lru_cache(maxsize=16, typed=True)(a_rate)
    assert type(rate) is type(plain)
    assert rate.__wrapped__ is a_rate
    assert inspect.signature(rate) == inspect.signature(a_rate)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(rate, name) == getattr(plain, name)
    assert rate.cache_parameters() == plain.cache_parameters() == {"maxsize": 16, "typed": True}
    assert rate("USD") == plain("USD")
    assert rate.cache_info() == plain.cache_info()
    assert copy.copy(rate) is rate
    assert copy.deepcopy(rate) is rate


@functools.lru_cache
def at_module_level(number: int) -> int:
    return number


def test_the_decorator_looks_like_itself(recorded: Recorded) -> None:
    plain = inspect.unwrap(functools.lru_cache)
    assert functools.lru_cache.__name__ == "lru_cache"
    assert inspect.signature(functools.lru_cache) == inspect.signature(plain)
    assert functools.lru_cache(5).__qualname__ == plain(5).__qualname__
    with pytest.raises(TypeError, match="Expected first argument"):
        functools.lru_cache("five")  # type: ignore[call-overload]


def test_a_cached_function_is_pickled_by_name(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    rate = functools.lru_cache(a_rate)
    monkeypatch.setattr(sys.modules[__name__], "a_rate", rate)
    assert pickle.loads(pickle.dumps(rate)) is rate


def test_clearing_a_cache_loses_no_lookups(recorded: Recorded) -> None:
    rate = functools.lru_cache(a_rate)
    with agent("planner"):
        for _ in range(3):
            rate("USD")
            rate("USD")
            rate.cache_clear()
            assert rate.cache_info().hits == 0
    assert caches(recorded) == {"a_rate": (6, 3)}


def test_methods_are_counted_under_their_class(recorded: Recorded) -> None:
    class Rates:
        @functools.lru_cache  # noqa: B019 - what users do
        def of(self, source: str) -> int:
            return len(source)

    rates = Rates()
    with agent("planner"):
        assert [rates.of("USD"), rates.of("USD"), rates.of("GBP")] == [3, 3, 3]
    assert caches(recorded) == {"Rates.of": (3, 1)}


def test_a_slow_miss_is_a_span_and_its_own_work_is_below_it(recorded: Recorded) -> None:
    @functools.lru_cache
    def rate(source: str) -> str:
        with recorded.provider.get_tracer("users").start_as_current_span("fetch"):
            time.sleep(0.02)
        return source

    with agent("planner"):
        for source in ("USD", "USD", "GBP", "USD"):
            rate(source)
    assert recorded.tree == [("invoke_agent planner", [("cache get rate", ["fetch"]), ("cache get rate", ["fetch"])])]
    first, second = recorded.named("cache get rate")
    assert first.attributes is not None
    assert second.attributes is not None
    assert first.attributes["agentperf.cache.hit"] is False
    assert first.attributes["agentperf.cache.system"] == "functools"
    assert first.attributes["agentperf.cache.counted"] is True
    assert first.attributes["agentperf.cache.key.hash"] != second.attributes["agentperf.cache.key.hash"]
    assert not any("USD" in str(value) for value in first.attributes.values())
    assert caches(recorded) == {"rate": (4, 2)}
    assert counted(recorded.report, "cache") == {"rate": 2}
    saved = recorded.report.caches[0].time_saved_s
    assert saved is not None
    assert saved == pytest.approx(0.04, rel=0.8)


def test_cheap_misses_stop_being_spans(recorded: Recorded) -> None:
    rate = functools.lru_cache(a_rate)
    with agent("planner"):
        for number in range(50):
            rate(str(number))
    assert len(recorded.named("cache get a_rate")) == 3
    assert caches(recorded) == {"a_rate": (50, 0)}


@pytest.mark.parametrize(("wanted", "spans"), [("all", 20), ("remote", 3), ("none", 0)])
def test_the_setting_says_which_misses_are_spans(
    instrumented: Callable[..., Recorded], wanted: str, spans: int
) -> None:
    recorded = instrumented(cache_spans=wanted)
    rate = functools.lru_cache(a_rate)
    with agent("planner"):
        for number in range(20):
            rate(str(number))
    assert len(recorded.named("cache get a_rate")) == spans
    assert caches(recorded) == {"a_rate": (20, 0)}


def test_outside_of_a_trace_no_miss_starts_one(recorded: Recorded) -> None:
    rate = functools.lru_cache(a_rate)
    rate("USD")
    assert recorded.spans == []


def test_a_failing_function_fails_as_without_us(recorded: Recorded) -> None:
    @functools.lru_cache
    def rate(source: str) -> int:
        raise LookupError(source)

    with agent("planner"):
        for _ in range(2):
            with pytest.raises(LookupError, match="USD"):
                rate("USD")
    attributes = recorded.named("cache get rate")[0].attributes
    assert attributes is not None
    assert attributes["error.type"] == "LookupError"
    assert caches(recorded) == {"rate": (2, 0)}


def test_an_unhashable_argument_fails_as_without_us(recorded: Recorded) -> None:
    rate = functools.lru_cache(a_rate)
    with pytest.raises(TypeError, match="unhashable"):
        rate([])  # type: ignore[arg-type]


def test_arguments_whose_repr_fails_are_fine(recorded: Recorded) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    @functools.lru_cache
    def name(of: Hostile) -> str:
        return "name"

    with agent("planner"):
        assert name(Hostile()) == "name"
    assert caches(recorded) == {"name": (1, 0)}


def test_recursion_reaches_as_deep_as_without_us(recorded: Recorded) -> None:
    def deepest(decorate: Callable[[Any], Any]) -> int:
        @decorate
        def depth(left: int) -> int:
            return 0 if left == 0 else 1 + int(depth(left - 1))

        reached = 0
        for wanted in range(50, 1_000, 10):
            try:
                depth.cache_clear()
                reached = depth(wanted)
            except RecursionError:
                return reached
        return reached

    plain = inspect.unwrap(functools.lru_cache)
    assert deepest(functools.lru_cache) >= deepest(plain) - 10


def test_recursive_misses_are_counted_once_each_and_timed_as_one(recorded: Recorded) -> None:
    @functools.cache
    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    with agent("planner"):
        assert fibonacci(30) == 832_040
        assert fibonacci(31) == 1_346_269
    assert caches(recorded) == {"fibonacci": (62, 30)}
    assert len(recorded.named("cache get fibonacci")) == 2


def test_threads_lose_no_lookups(recorded: Recorded) -> None:
    @functools.cache
    def square(number: int) -> int:
        return number * number

    def look_up() -> None:
        for number in range(500):
            square(number % 50)

    with agent("planner"):
        threads = [threading.Thread(target=look_up) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lookups, hits = caches(recorded)["square"]
    assert lookups == 4_000
    assert 50 <= lookups - hits <= 400


def test_coroutine_and_generator_functions_are_left_alone(recorded: Recorded) -> None:
    @functools.lru_cache
    async def fetch(source: str) -> str:
        return source

    @functools.lru_cache
    def items(source: str) -> Any:
        yield source

    with agent("planner"):
        assert asyncio.run(fetch("USD")) == "USD"
        assert list(items("USD")) == ["USD"]
    assert recorded.report.caches == ()


def test_caches_of_libraries_are_left_alone(recorded: Recorded) -> None:
    library: dict[str, Any] = {}
    code = "import functools\n@functools.lru_cache\ndef inside(x): return x\n"
    exec(compile(code, json_path(), "exec"), library)
    with agent("planner"):
        library["inside"](1)
    assert recorded.report.caches == ()


def json_path() -> str:
    import json

    return json.__file__


def test_callables_without_code_are_left_alone(recorded: Recorded) -> None:
    size = functools.lru_cache(functools.partial(a_rate, "USD"))
    length = functools.lru_cache(len)
    with agent("planner"):
        assert (size(), length("four")) == (6.0, 4)
    assert recorded.report.caches == ()


def test_a_cache_goes_when_the_user_lets_it_go(recorded: Recorded) -> None:
    def make() -> Callable[[int], int]:
        @functools.lru_cache
        def double(number: int) -> int:
            return 2 * number

        return double

    cached = make()
    gone = weakref.ref(cached)
    cached(1)
    clear = cached.cache_clear  # type: ignore[attr-defined]
    gc.disable()
    try:
        del cached
        assert gone() is None, "kept alive by something"
    finally:
        gc.enable()
    clear()
    counts.drain()


def test_a_recursive_local_cache_is_garbage_too(recorded: Recorded) -> None:
    def make() -> Any:
        @functools.lru_cache
        def count_down(number: int) -> int:
            return 0 if number == 0 else int(count_down(number - 1))

        return count_down

    cached = make()
    gone = weakref.ref(cached)
    cached(5)
    del cached
    gc.collect()
    assert gone() is None


def test_uninstrumented_caches_work_on_and_are_not_counted(instrumented: Callable[..., Recorded]) -> None:
    original = functools.lru_cache
    first = instrumented()
    rate = functools.lru_cache(a_rate)
    rate("USD")
    uninstrument()
    assert functools.lru_cache is original
    assert "cache_clear" not in vars(rate)
    assert rate("USD") == rate("GBP")
    second = instrumented()
    with agent("planner"):
        rate("USD")
    assert {cache.name: cache.lookups for cache in second.report.caches} == {"a_rate": 1}
    assert first.spans == []


def test_lookups_of_runs_in_sequence_are_kept_apart(recorded: Recorded) -> None:
    rate = functools.lru_cache(a_rate)
    for lookups in (1, 3, 2):
        rate("outside")
        with agent("planner"):
            for _ in range(lookups):
                rate("USD")
    assert [report.caches[0].lookups for report in recorded.reports] == [1, 3, 2]
    assert [report.caches[0].hits for report in recorded.reports] == [0, 3, 2]


def test_caches_made_before_are_counted_too(instrumented: Callable[..., Recorded]) -> None:
    uninstrument()
    early = functools.lru_cache(a_rate)
    early("USD")
    recorded = instrumented()
    with agent("planner"):
        for source in ("USD", "GBP", "GBP"):
            early(source)
        early.cache_clear()
        early("USD")
    (cache,) = recorded.report.caches
    assert (cache.name, cache.lookups, cache.hits, cache.time_saved_s) == ("a_rate", 4, 2, None)
    gone = weakref.ref(early)
    del early
    gc.collect()
    assert gone() is None
    uninstrument()


def test_a_name_imported_before_is_ours_until_we_go(
    instrumented: Callable[..., Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "imported_before", functools.lru_cache, raising=False)
    recorded = instrumented()
    rate = vars(module)["imported_before"](a_rate)
    with agent("planner"):
        assert rate("USD") == rate("USD")
    assert caches(recorded) == {"a_rate": (2, 1)}
    uninstrument()
    assert vars(module)["imported_before"] is functools.lru_cache


def test_what_is_computed_after_the_cache_was_cleared_is_no_repeated_miss(recorded: Recorded) -> None:
    @functools.lru_cache
    def rate(source: str) -> str:
        time.sleep(0.03)
        return source

    with agent("planner"):
        for _ in range(6):
            rate("USD")
            rate.cache_clear()
    assert [finding.kind for finding in recorded.report.findings if finding.operation == "rate"] == []
