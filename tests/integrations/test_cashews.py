"""cashews: every way to look something up, exact, in memory, on disk and on a real redis server."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import sys
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from cashews import Cache
from cashews.commands import Command

from _recorded import Recorded, counted
from _redis_server import redis_server
from _three_ways import three_ways
from otel_agentperf import agent, uninstrument


@pytest.fixture
def cache() -> Cache:
    made = Cache()
    made.setup("mem://", check_interval=0)
    return made


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


def test_every_lookup_is_counted(recorded: Recorded, cache: Cache) -> None:
    async def go() -> None:
        assert await cache.get("a") is None
        await cache.set("a", 1)
        assert await cache.get("a") == await cache.get(key="a", default=2) == 1
        assert await cache.get("b", 5) == 5
        assert await cache.get_many("a", "b", "c", default=0) == (1, 0, 0)
        await cache.set_many({"b": 2, "c": 3})
        assert await cache.get_many("b", "c") == (2, 3)
        assert await cache.get_or_set("d", lambda: 4) == await cache.get_or_set("d", 5) == 4
        await cache.delete("a")
        assert await cache.get("a") is None
        await cache.clear()
        assert await cache.get("b") is None

    run(go())
    assert caches(recorded) == {"cashews": (13, 6)}


def test_none_and_the_default_are_values(recorded: Recorded, cache: Cache) -> None:
    async def go() -> None:
        await cache.set("none", None)
        await cache.set("zero", 0)
        assert await cache.get("none", default=1) is None
        assert [await cache.get("zero", 0), await cache.get("nothing", 0)] == [0, 0]

    run(go())
    assert caches(recorded) == {"cashews": (3, 2)}


def test_asking_first_and_reading_then_is_one_lookup(recorded: Recorded, cache: Cache) -> None:
    async def go() -> None:
        for key in ("a", "a", "bb", "a"):
            if not await cache.exists(key):
                await cache.set(key, len(key))
            assert await cache.get(key) == len(key)

    run(go())
    assert caches(recorded) == {"cashews": (4, 2)}


def test_callbacks_and_middlewares_see_what_they_do_without_us(recorded: Recorded) -> None:
    seen: list[Any] = []

    async def middleware(call: Any, cmd: Command, backend: Any, *args: Any, **kwargs: Any) -> Any:
        result = await call(*args, **kwargs)
        seen.append((cmd, kwargs.get("default"), result))
        return result

    async def go() -> None:
        cache = Cache()
        cache.setup("mem://", middlewares=(middleware,), check_interval=0)
        with cache.callback(lambda key, result: seen.append(result), cmd=Command.GET):
            assert await cache.get("a") is None
            await cache.set("a", 1)
            assert await cache.get("a", 5) == 1

    run(go())
    assert [item for item in seen if item not in (1, True)] == [
        (Command.GET, None, None), (Command.SET, None, True), (Command.GET, 5, 1),
    ]  # fmt: skip
    assert caches(recorded) == {"cashews": (2, 1)}


def test_what_expires_in_the_background_is_no_lookup(recorded: Recorded) -> None:
    async def go() -> None:
        cache = Cache()
        cache.setup("mem://", check_interval=0.01)
        await cache.set("a", 1, expire=0.02)
        await asyncio.sleep(0.1)
        await cache.close()

    run(go())
    assert caches(recorded) == {}


STRATEGIES = pytest.mark.parametrize(
    "decorate",
    [
        lambda cache: cache(ttl="1m"),
        lambda cache: cache(ttl="1m", key="rate:{source}", lock=True),
        lambda cache: cache(ttl="1m", upper=True),
        lambda cache: cache.early(ttl="1m"),
        lambda cache: cache.hit(ttl="1m", cache_hits=100),
        lambda cache: cache.soft(ttl="1m", soft_ttl="30s"),
        lambda cache: cache.cache(ttl="1m", protected=False),
    ],
)


@STRATEGIES
def test_a_decorated_function_counts_under_its_name_only(
    recorded: Recorded, cache: Cache, decorate: Callable[[Cache], Any]
) -> None:
    look_up = decorate(cache)(rate)

    async def go() -> None:
        for source in ("USD", "USD", "GBP", "GBP", "GBP", "JPY"):
            assert await look_up(source) == 6

    run(go())
    assert caches(recorded) == {"rate": (6, 3)}
    assert len(recorded.named("cache get rate")) == 3
    saved = recorded.report.caches[0].time_saved_s
    assert saved is not None
    assert saved > 0.003


@STRATEGIES
def test_a_decorated_function_looks_like_itself(
    recorded: Recorded, cache: Cache, decorate: Callable[[Cache], Any]
) -> None:
    look_up = decorate(cache)(rate)
    assert look_up.__wrapped__ is rate
    assert (look_up.__name__, look_up.__doc__) == ("rate", rate.__doc__)
    assert inspect.signature(look_up) == inspect.signature(rate)
    assert inspect.iscoroutinefunction(look_up)
    assert copy.deepcopy(look_up) is look_up


def test_it_is_pickled_by_name(recorded: Recorded, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = cache(ttl="1m")(rate)
    monkeypatch.setattr(sys.modules[__name__], "rate", look_up)
    assert pickle.loads(pickle.dumps(look_up)) is look_up


def test_a_value_that_is_renewed_early_is_a_hit(recorded: Recorded, cache: Cache) -> None:
    @cache.early(ttl="10s", early_ttl=0.01)
    async def early(source: str) -> int:
        return len(source)

    async def go() -> None:
        for _ in range(3):
            assert await early("USD") == 3
            await asyncio.sleep(0.03)

    run(go())
    assert caches(recorded) == {"early": (3, 2)}


def test_a_stampede_computes_once(recorded: Recorded, cache: Cache) -> None:
    look_up = cache(ttl="1m")(rate)

    async def go() -> list[int]:
        return await asyncio.gather(*(look_up("USD") for _ in range(5)))

    assert run(go()) == [6] * 5
    assert caches(recorded) == {"rate": (5, 4)}


def test_a_failing_function_is_a_miss(recorded: Recorded, cache: Cache) -> None:
    @cache(ttl="1m")
    async def fail(source: str) -> int:
        raise LookupError(source)

    async def go() -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match="USD"):
                await fail("USD")

    run(go())
    assert caches(recorded) == {"fail": (2, 0)}
    assert dict(recorded.named("cache get fail")[0].attributes or {})["error.type"] == "LookupError"


def test_a_cache_that_is_switched_off_looks_nothing_up(recorded: Recorded, cache: Cache) -> None:
    look_up = cache(ttl="1m")(rate)

    async def go() -> None:
        with cache.disabling():
            assert await look_up("USD") == 6
            assert await cache.get("a", 5) == 5

    run(go())
    assert caches(recorded) == {}


def test_in_a_transaction(recorded: Recorded, cache: Cache) -> None:
    async def go() -> None:
        async with cache.transaction():
            assert await cache.get("a") is None
            await cache.set("a", 1)
            assert await cache.get("a") == 1
        assert await cache.get("a") == 1

    run(go())
    assert caches(recorded) == {"cashews": (3, 2)}


def test_what_a_miss_computes_is_inside_its_span(recorded: Recorded, cache: Cache) -> None:
    @cache(ttl="1m")
    async def fetch(source: str) -> str:
        with recorded.provider.get_tracer("users").start_as_current_span("fetch"):
            await cache.get(source)
            await asyncio.sleep(0.002)
        return source

    async def go() -> None:
        for source in ("USD", "USD", "GBP"):
            await fetch(source)

    run(go())
    assert recorded.parent(recorded.named("fetch")[0]) == "cache get fetch"
    assert caches(recorded) == {"fetch": (3, 1), "cashews": (2, 0)}


@pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning")
@pytest.mark.parametrize("where", ["disk://?directory={folder}&shards=1", "disk://?directory={folder}", "redis"])
def test_the_backends_own_lookups_do_not_count_besides(recorded: Recorded, tmp_path: Path, where: str) -> None:
    async def go(url: str) -> None:
        cache = Cache()
        cache.setup(url, secret="x")
        look_up = cache(ttl="1m")(rate)
        assert await cache.get("a") is None
        await cache.set("a", "1", expire=60)
        assert await cache.get("a") == "1"
        assert [await look_up("USD"), await look_up("USD")] == [6, 6]
        await cache.close()

    if where == "redis":
        with redis_server() as port:
            run(go(f"redis://127.0.0.1:{port}"))
    else:
        run(go(where.format(folder=tmp_path)))
    assert caches(recorded) == {"cashews": (2, 1), "rate": (2, 1)}
    assert set(counted(recorded.report, "cache")) <= {"cashews", "rate"}
    assert "GET" not in counted(recorded.report, "db")


def test_taking_it_back(instrumented: Callable[..., Recorded], cache: Cache) -> None:
    uninstrument()
    places = [(Cache, "_with_middlewares_for_backend"), (Cache, "_wrap"), (Cache, "_wrap_with_condition")]
    before = [getattr(holder, name) for holder, name in places]
    instrumented()
    look_up: Callable[[str], Awaitable[int]] = cache(ttl="1m")(rate)

    async def go() -> int:
        return await look_up("USD")

    assert asyncio.run(go()) == 6
    uninstrument()
    assert [getattr(holder, name) for holder, name in places] == before
    assert asyncio.run(go()) == 6
    recorded = instrumented()
    assert run(go()) == 6
    assert caches(recorded) == {"rate": (1, 1)}


PROGRAM = """
import asyncio
from cashews import cache
from otel_agentperf import agent, tool

cache.setup("mem://")

@cache(ttl="1m", key="geo:{city}")
async def geocode(city):
    await asyncio.sleep(0.01)
    return len(city)

@tool
async def weather(city):
    known = await cache.get(city)
    if known is None:
        known = f"{city}: {await geocode(city)}"
        await cache.set(city, known, expire="10s")
    return known

@agent
async def planner(cities):
    return [await weather(city) for city in cities] + await asyncio.gather(*map(geocode, cities))

print(asyncio.run(planner(["Paris", "Rome", "Paris"])))
"""


def test_a_program_in_each_way(tmp_path: Path) -> None:
    told = three_ways(PROGRAM, tmp_path)
    assert told.tools == {"weather": 3}
    assert told.caches == {"cashews": (1, 3), "geocode": (3, 5)}
