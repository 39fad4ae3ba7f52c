"""aiocache: every way to look something up, exact, in memory and on a real redis server."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiocache
import pytest
from aiocache.plugins import HitMissRatioPlugin
from aiocache.serializers import JsonSerializer

from _recorded import Recorded, counted
from _redis_server import redis_server
from _three_ways import three_ways
from otel_agentperf import agent, uninstrument


def caches(recorded: Recorded) -> dict[str, tuple[int, int]]:
    """(look-ups, hits) by name, as the report has them."""
    return {cache.name: (cache.lookups, cache.hits) for cache in recorded.report.caches}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    with agent("planner"):
        return asyncio.run(work)


async def rate(source: str, target: str = "EUR") -> int:
    """The rate of the day."""
    await asyncio.sleep(0.002)
    return len(source) + len(target)


def test_every_lookup_is_counted(recorded: Recorded) -> None:
    async def go() -> None:
        cache = aiocache.SimpleMemoryCache()
        assert await cache.get("a") is None
        await cache.set("a", 1)
        assert await cache.get("a") == await cache.get(key="a", default=2) == 1
        assert await cache.get("b", 5) == 5
        assert await cache.multi_get(["a", "b", "c"]) == [1, None, None]
        await cache.multi_set([("b", 2), ("c", 3)])
        assert await cache.multi_get(keys=["b", "c"]) == [2, 3]
        await cache.delete("a")
        assert await cache.get("a") is None
        await cache.clear()
        assert await cache.get("b") is None

    run(go())
    assert caches(recorded) == {"aiocache": (11, 5)}


def test_the_default_may_be_a_value_and_none_is_a_miss(recorded: Recorded) -> None:
    async def go() -> None:
        cache = aiocache.SimpleMemoryCache(serializer=JsonSerializer())
        await cache.set("zero", 0)
        assert await cache.get("zero", default=0) == 0
        assert await cache.get("nothing", default=0) == 0
        await cache.set("none", None)
        assert await cache.get("none") is None

    run(go())
    assert caches(recorded) == {"aiocache": (3, 1)}


def test_plugins_see_what_they_do_without_us(recorded: Recorded) -> None:
    async def go() -> dict[str, Any]:
        cache = aiocache.SimpleMemoryCache(plugins=[HitMissRatioPlugin()])
        await cache.set("a", 1)
        assert [await cache.get("a"), await cache.get("b"), await cache.get("b", default=7)] == [1, None, 7]
        return dict(cache.hit_miss_ratio)

    assert run(go())["total"] == 3
    assert caches(recorded) == {"aiocache": (3, 1)}


def test_asking_first_and_reading_then_is_one_lookup(recorded: Recorded) -> None:
    async def go() -> None:
        cache = aiocache.SimpleMemoryCache()
        for key in ("a", "a", "bb", "a"):
            if not await cache.exists(key):
                await cache.set(key, len(key))
            assert await cache.get(key) == len(key)

    run(go())
    assert caches(recorded) == {"aiocache": (4, 2)}


DECORATORS = pytest.mark.parametrize(
    "decorate",
    [
        lambda: aiocache.cached(),
        lambda: aiocache.cached(ttl=10, key_builder=lambda f, *args, **kwargs: f"{f.__name__}{args}{kwargs}"),
        lambda: aiocache.cached(serializer=JsonSerializer(), namespace="rates"),
        lambda: aiocache.cached_stampede(lease=2),
    ],
)


@DECORATORS
def test_a_decorated_function_counts_under_its_name_only(recorded: Recorded, decorate: Callable[[], Any]) -> None:
    look_up = decorate()(rate)

    async def go() -> None:
        for source in ("USD", "USD", "GBP", "GBP", "GBP", "JPY"):
            assert await look_up(source) == 6

    run(go())
    assert caches(recorded) == {"rate": (6, 3)}
    assert len(recorded.named("cache get rate")) == 3
    saved = recorded.report.caches[0].time_saved_s
    assert saved is not None
    assert saved > 0.003


@DECORATORS
def test_a_decorated_function_looks_like_itself(recorded: Recorded, decorate: Callable[[], Any]) -> None:
    look_up = decorate()(rate)
    assert look_up.__wrapped__ is rate
    assert inspect.signature(look_up) == inspect.signature(rate)
    assert inspect.iscoroutinefunction(look_up)
    assert copy.deepcopy(look_up) is look_up
    assert look_up.cache is not None


def test_it_is_pickled_by_name(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = aiocache.cached()(rate)
    monkeypatch.setattr(sys.modules[__name__], "rate", look_up)
    assert pickle.loads(pickle.dumps(look_up)) is look_up


def test_a_stampede_computes_once(recorded: Recorded) -> None:
    look_up = aiocache.cached_stampede(lease=2)(rate)

    async def go() -> list[int]:
        return await asyncio.gather(*(look_up("USD") for _ in range(5)))

    assert run(go()) == [6] * 5
    assert caches(recorded) == {"rate": (5, 4)}


def test_calls_at_the_same_time_without_protection_all_miss(recorded: Recorded) -> None:
    look_up = aiocache.cached()(rate)

    async def go() -> list[int]:
        return await asyncio.gather(*(look_up("USD") for _ in range(5)))

    assert run(go()) == [6] * 5
    assert caches(recorded) == {"rate": (5, 0)}


def test_of_many_keys_each_is_a_lookup(recorded: Recorded) -> None:
    asked: list[list[str]] = []

    @aiocache.multi_cached("sources")
    async def rates(sources: list[str]) -> dict[str, int]:
        asked.append(sources)
        return {source: len(source) for source in sources}

    async def go() -> None:
        assert await rates(["a", "bb"]) == {"a": 1, "bb": 2}
        assert await rates(sources=["a", "ccc"]) == {"a": 1, "ccc": 3}
        assert await rates(["a", "bb"]) == {"a": 1, "bb": 2}

    run(go())
    assert asked == [["a", "bb"], ["ccc"]]
    assert caches(recorded) == {"rates": (6, 3)}


def test_a_failing_function_is_a_miss_and_a_refused_call_is_nothing(recorded: Recorded) -> None:
    @aiocache.cached()
    async def fail(source: str) -> int:
        raise LookupError(source)

    async def go() -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match="USD"):
                await fail("USD")

    run(go())
    assert caches(recorded) == {"fail": (2, 0)}
    assert dict(recorded.named("cache get fail")[0].attributes or {})["error.type"] == "LookupError"


def test_a_cancelled_computation(recorded: Recorded) -> None:
    @aiocache.cached()
    async def slow(source: str) -> int:
        await asyncio.sleep(10)
        return 1

    async def go() -> None:
        task = asyncio.create_task(slow("USD"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(go())
    assert caches(recorded) == {"slow": (1, 0)}
    assert dict(recorded.one("cache get slow").attributes or {})["error.type"] == "CancelledError"


def test_past_the_cache_is_no_lookup(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = aiocache.cached()(rate)

    async def go() -> None:
        assert await look_up("USD", cache_read=False) == 6
        assert await look_up("USD") == 6
        monkeypatch.setenv("AIOCACHE_DISABLE", "1")
        assert await aiocache.SimpleMemoryCache().get("a", 5) is None

    run(go())
    assert caches(recorded) == {"rate": (1, 1)}


def test_what_a_miss_computes_is_inside_its_span(recorded: Recorded) -> None:
    inner = aiocache.SimpleMemoryCache()

    @aiocache.cached()
    async def fetch(source: str) -> str:
        with recorded.provider.get_tracer("users").start_as_current_span("fetch"):
            await inner.get(source)
            await asyncio.sleep(0.002)
        return source

    async def go() -> None:
        for source in ("USD", "USD", "GBP"):
            await fetch(source)

    run(go())
    assert recorded.parent(recorded.named("fetch")[0]) == "cache get fetch"
    assert caches(recorded) == {"fetch": (3, 1), "aiocache": (2, 0)}


def test_methods_and_a_cache_of_the_users_own(recorded: Recorded) -> None:
    class Rates(aiocache.SimpleMemoryCache):
        async def get(self, key: Any, *args: Any, **kwargs: Any) -> Any:
            return await super().get(f"rate:{key}", *args, **kwargs)

    class Bank:
        @aiocache.cached(noself=True)
        async def rate(self, source: str) -> int:
            return len(source)

    async def go() -> None:
        rates = Rates()
        await rates.set("rate:USD", 1)
        assert [await rates.get("USD"), await rates.get("GBP")] == [1, None]
        assert [await Bank().rate("USD"), await Bank().rate("USD")] == [3, 3]

    run(go())
    assert caches(recorded) == {"Rates": (2, 1), "Bank.rate": (2, 1)}


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
def test_on_a_redis_server_each_lookup_is_one_span(recorded: Recorded) -> None:
    async def go(port: int) -> None:
        cache = aiocache.RedisCache(endpoint="127.0.0.1", port=port)
        look_up = aiocache.cached(cache=aiocache.RedisCache, endpoint="127.0.0.1", port=port)(rate)
        assert await cache.get("a") is None
        await cache.set("a", "1")
        assert await cache.get("a") == "1"
        assert [await look_up("USD"), str(await look_up("USD"))] == [6, "6"]
        await cache.close()
        await look_up.cache.close()

    with redis_server() as port:
        run(go(port))
    assert caches(recorded) == {"aiocache": (2, 1), "rate": (2, 1)}
    assert set(counted(recorded.report, "cache")) == {"aiocache", "rate"}
    assert counted(recorded.report, "db") == {}


def test_a_server_that_is_not_there(recorded: Recorded) -> None:
    async def go() -> None:
        cache = aiocache.RedisCache(endpoint="127.0.0.1", port=1)
        with pytest.raises(Exception, match="onnect"):
            await cache.get("a")

    run(go())
    assert caches(recorded) == {}
    assert "ConnectionError" in str(dict(recorded.one("cache get aiocache").attributes or {})["error.type"])


def test_taking_it_back(instrumented: Callable[..., Recorded]) -> None:
    before = aiocache.base.BaseCache.get, aiocache.cached.decorator
    instrumented()
    look_up: Callable[..., Awaitable[int]] = aiocache.cached()(rate)
    assert asyncio.run(_of(look_up)) == 6
    uninstrument()
    assert (aiocache.base.BaseCache.get, aiocache.cached.decorator) == before
    assert asyncio.run(_of(look_up)) == 6
    recorded = instrumented()
    assert run(_of(look_up)) == 6
    assert caches(recorded) == {"rate": (1, 1)}


async def _of(look_up: Callable[..., Awaitable[int]]) -> int:
    return await look_up("USD")


PROGRAM = """
import asyncio
from aiocache import Cache, cached
from otel_agentperf import agent, tool

memory = Cache(Cache.MEMORY)

@cached(ttl=60)
async def geocode(city):
    await asyncio.sleep(0.01)
    return len(city)

@tool
async def weather(city):
    known = await memory.get(city)
    if known is None:
        known = f"{city}: {await geocode(city)}"
        await memory.set(city, known)
    return known

@agent
async def planner(cities):
    return [await weather(city) for city in cities] + await asyncio.gather(*map(geocode, cities))

print(asyncio.run(planner(["Paris", "Rome", "Paris"])))
"""


def test_a_program_in_each_way(tmp_path: Path) -> None:
    told = three_ways(PROGRAM, tmp_path)
    assert told.tools == {"weather": 3}
    assert told.caches == {"aiocache": (1, 3), "geocode": (3, 5)}
