"""joblib's Memory: each call of a cached function a look-up, with what a miss computes below it."""

from __future__ import annotations

import asyncio
import functools
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest
from joblib.memory import MemorizedFunc, Memory

from _recorded import Recorded, counted
from _three_ways import three_ways
from otel_agentperf import agent, uninstrument

pytestmark = pytest.mark.filterwarnings("ignore::joblib.memory.JobLibCollisionWarning")


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "cache", verbose=0)


def caches(recorded: Recorded) -> dict[str, tuple[int, int]]:
    """(look-ups, hits) by name, as the report has them."""
    return {cache.name: (cache.lookups, cache.hits) for cache in recorded.report.caches}


def rate(source: str, target: str = "EUR") -> int:
    """The rate of the day."""
    return len(source) + len(target)


def test_every_call_is_a_lookup(recorded: Recorded, memory: Memory) -> None:
    look_up = memory.cache(rate)
    with agent("planner"):
        for source in ("secret", "secret", "GBP", "GBP"):
            assert look_up(source) == len(source) + 3
        assert look_up.call_and_shelve("GBP").get() == 6
        assert look_up.call_and_shelve("JPY").get() == 6
        assert look_up.check_call_in_cache("JPY")
    assert caches(recorded) == {"rate": (6, 3)}
    assert counted(recorded.report, "cache") == {"rate": 6}
    shown = [dict(span.attributes or {}) for span in recorded.named("cache get rate")]
    assert [one["agentperf.cache.hit"] for one in shown] == [False, True, False, True, True, False]
    hashes = [one["agentperf.cache.key.hash"] for one in shown]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3] == hashes[4] != hashes[5]
    assert {one["agentperf.cache.system"] for one in shown} == {"joblib"}
    assert "secret" not in str(shown)


def test_async_functions(recorded: Recorded, memory: Memory) -> None:
    @memory.cache
    async def fetch(source: str) -> int:
        with recorded.provider.get_tracer("users").start_as_current_span("fetch"):
            await asyncio.sleep(0.01)
        return len(source)

    async def go() -> None:
        assert [await fetch("USD"), await fetch("USD")] == [3, 3]
        assert await asyncio.gather(fetch("a"), fetch("bb")) == [1, 2]

    with agent("planner"):
        asyncio.run(go())
    assert caches(recorded) == {"fetch": (4, 1)}
    assert {recorded.parent(span) for span in recorded.named("fetch")} == {"cache get fetch"}


def test_what_a_miss_computes_is_inside_its_span(recorded: Recorded, memory: Memory) -> None:
    @memory.cache
    def inner(source: str) -> int:
        time.sleep(0.01)
        return len(source)

    @memory.cache
    def outer(source: str) -> int:
        assert outer.check_call_in_cache("USD") is (source != "USD")
        return int(inner(source)) + int(inner(source))

    with agent("planner"):
        assert [outer("USD"), outer("USD"), outer("EURO")] == [6, 6, 8]
    computed = ("cache get outer", ["cache get inner", "cache get inner"])
    assert recorded.tree == [("invoke_agent planner", [computed, "cache get outer", computed])]
    assert caches(recorded) == {"outer": (3, 1), "inner": (4, 2)}
    saved = {cache.name: cache.time_saved_s for cache in recorded.report.caches}
    assert (saved["inner"] or 0) > 0.005


def test_none_failures_and_recursion(recorded: Recorded, memory: Memory) -> None:
    @memory.cache
    def nothing(source: str) -> None:
        return None

    @memory.cache
    def fail(source: str) -> None:
        raise LookupError(source)

    @memory.cache
    def factorial(number: int) -> int:
        return number * int(factorial(number - 1)) if number else 1

    with agent("planner"):
        nothing("a"), nothing("a")
        for _ in range(2):
            with pytest.raises(LookupError, match="USD"):
                fail("USD")
        assert [factorial(4), factorial(5)] == [24, 120]
    assert caches(recorded) == {"nothing": (2, 1), "fail": (2, 0), "factorial": (7, 1)}
    assert dict(recorded.named("cache get fail")[0].attributes or {})["error.type"] == "LookupError"


def test_large_arguments_and_library_functions(recorded: Recorded, memory: Memory) -> None:
    size = memory.cache(functools.partial(rate, target="x" * 1_000))
    with agent("planner"):
        assert size("x" * 2_000_000) == size("x" * 2_000_000) == 2_001_000
    assert caches(recorded) == {"rate": (2, 1)}


def test_results_that_were_cleared_are_no_repeated_misses(recorded: Recorded, memory: Memory) -> None:
    @memory.cache
    def slow(source: str) -> str:
        time.sleep(0.03)
        return source

    with agent("planner"):
        for _ in range(3):
            slow("USD")
            slow.clear(warn=False)
        for _ in range(3):
            slow("USD")
            memory.clear(warn=False)
    assert caches(recorded) == {"slow": (6, 0)}
    assert [finding.kind for finding in recorded.report.findings if finding.operation == "slow"] == []


def test_without_a_place_there_is_no_cache(recorded: Recorded) -> None:
    look_up = Memory(None, verbose=0).cache(rate)
    with agent("planner"):
        assert look_up("USD") == 6
    assert recorded.report.caches == ()


def test_no_spans_when_none_are_wanted(instrumented: Callable[..., Recorded], memory: Memory) -> None:
    recorded = instrumented(cache_spans="none")
    with agent("planner"):
        assert memory.cache(rate)("USD") == 6
    assert [span.name for span in recorded.spans] == ["invoke_agent planner"]


def test_a_cached_function_is_what_it_is_without_us(
    recorded: Recorded, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = memory.cache(rate)
    assert type(look_up) is MemorizedFunc
    assert look_up.func is rate
    assert look_up.__wrapped__ is rate
    monkeypatch.setattr(sys.modules[__name__], "look_up", look_up, raising=False)
    assert pickle.loads(pickle.dumps(look_up))("USD") == 6


def test_in_worker_threads(recorded: Recorded, memory: Memory) -> None:
    look_up = memory.cache(rate)
    look_up("USD")
    recorded.forget()
    with agent("planner"):
        assert joblib.Parallel(2, backend="threading")(joblib.delayed(look_up)("USD") for _ in range(4)) == [6] * 4
    assert len(recorded.named("cache get rate")) == 4


def test_taking_it_back(instrumented: Callable[..., Recorded], memory: Memory) -> None:
    uninstrument()
    before = [vars(MemorizedFunc)[name] for name in ("_cached_call", "_call", "_is_in_cache_and_valid", "clear")]
    recorded = instrumented()
    look_up = memory.cache(rate)
    uninstrument()
    now = [vars(MemorizedFunc)[name] for name in ("_cached_call", "_call", "_is_in_cache_and_valid", "clear")]
    assert now == before
    assert look_up("USD") == 6
    assert recorded.spans == []


PROGRAM = """
import time
from tempfile import mkdtemp
from joblib import Memory
from otel_agentperf import agent, tool

memory = Memory(mkdtemp(), verbose=1)

@memory.cache
def embed(text):
    time.sleep(0.01)
    return [len(text)]

@tool
def search(text):
    return sum(embed(text))

@agent
def planner(texts):
    return [search(text) for text in texts]

print(planner(["Paris", "Rome", "Paris"]))
"""


def test_a_program_in_each_way(tmp_path: Path) -> None:
    told = three_ways(PROGRAM, tmp_path, noise=r"embed - |embed\(")
    assert told.tools == {"search": 3}
    assert told.caches == {"embed": (1, 3)}
