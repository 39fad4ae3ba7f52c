"""What a hit of each counted cache costs with the integrations and without them, inside a run.

python benchmarks/bench_caches.py

Each round is two processes of their own, one with us and one without, so that neither warms up the other. CPU time;
the best of many batches counts, because other work on the machine can only add to it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Awaitable, Callable
from typing import Any

ROUNDS, HITS, BATCHES = 5, 300, 100


def sync_ns(call: Callable[[], Any]) -> float:
    call()
    return min(timeit.repeat(call, number=HITS, repeat=BATCHES, timer=time.process_time)) / HITS * 1e9


def async_ns(call: Callable[[], Awaitable[Any]]) -> float:
    async def go() -> float:
        await call()
        best = float("inf")
        for _ in range(BATCHES):
            started = time.process_time()
            for _ in range(HITS):
                await call()
            best = min(best, time.process_time() - started)
        return best / HITS * 1e9

    return asyncio.run(go())


def measure() -> dict[str, float]:
    import aiocache
    import cachetools
    import cashews
    import diskcache
    from langchain_core.caches import InMemoryCache

    def square(number: int) -> int:
        return number * number

    async def asquare(number: int) -> int:
        return number * number

    lru: Any = cachetools.LRUCache(9)
    ttl: Any = cachetools.TTLCache(9, 600)
    decorated = cachetools.cached(cachetools.LRUCache(9))(square)
    disk = diskcache.Cache(tempfile.mkdtemp())
    memoized = disk.memoize()(square)
    memory = aiocache.SimpleMemoryCache()
    acached = aiocache.cached()(asquare)
    wrapped = cashews.Cache()
    wrapped.setup("mem://", check_interval=0)
    ccached = wrapped(ttl="10m")(asquare)
    answers = InMemoryCache()
    lru["a"] = ttl["a"] = disk["a"] = 1
    answers.update("a", "m", [])
    asyncio.run(memory.set("a", 1))
    asyncio.run(wrapped.set("a", 1))
    return {
        "cachetools LRUCache[key]": sync_ns(lambda: lru["a"]),
        "cachetools LRUCache.get": sync_ns(lambda: lru.get("a")),
        "cachetools TTLCache.get": sync_ns(lambda: ttl.get("a")),
        "cachetools @cached": sync_ns(lambda: decorated(7)),
        "langchain InMemoryCache.lookup": sync_ns(lambda: answers.lookup("a", "m")),
        "diskcache Cache.get": sync_ns(lambda: disk.get("a")),
        "diskcache @memoize": sync_ns(lambda: memoized(7)),
        "aiocache SimpleMemoryCache.get": async_ns(lambda: memory.get("a")),
        "aiocache @cached": async_ns(lambda: acached(7)),
        "cashews get": async_ns(lambda: wrapped.get("a")),
        "cashews @cache": async_ns(lambda: ccached(7)),
    }


def run(with_us: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "with" if with_us else "without"]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> None:
    if sys.argv[1:] == ["with"]:
        from opentelemetry.sdk.trace import TracerProvider

        import otel_agentperf

        otel_agentperf.instrument(tracer_provider=TracerProvider())
        print(json.dumps(otel_agentperf.agent(name="bench")(measure)()))
        return
    if sys.argv[1:] == ["without"]:
        print(json.dumps(measure()))
        return
    rounds = [(run(False), run(True)) for _ in range(ROUNDS)]
    print(f"{'a hit':34}{'ns alone':>10}{'ns with us':>12}{'more':>8}")
    for name in rounds[0][0]:
        alone, ours = (min(one[which][name] for one in rounds) for which in (0, 1))
        print(f"{name:34}{alone:10.0f}{ours:12.0f}{ours / alone - 1:8.0%}")


if __name__ == "__main__":
    main()
