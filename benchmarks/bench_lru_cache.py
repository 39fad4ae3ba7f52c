"""What a hit of functools.lru_cache costs with the integration and without it, inside a run and outside.

python benchmarks/bench_lru_cache.py
"""

from __future__ import annotations

import functools
import statistics
import timeit
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

import otel_agentperf

HITS, ROUNDS = 200_000, 25


def square(number: int) -> int:
    return number * number


def nanoseconds(function: Callable[[int], int]) -> float:
    function(7)
    return timeit.timeit("function(7)", globals={"function": function}, number=HITS) / HITS * 1e9


def main() -> None:
    plain = functools.lru_cache(maxsize=None)(square)
    trace.set_tracer_provider(TracerProvider())
    otel_agentperf.instrument()
    watched = functools.lru_cache(maxsize=None)(square)
    inside = otel_agentperf.agent(name="bench")(nanoseconds)
    variants: dict[str, Callable[[], float]] = {
        "lru_cache alone": lambda: nanoseconds(plain),
        "with us, outside a run": lambda: nanoseconds(watched),
        "with us, inside a run": lambda: inside(watched),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, run in variants.items():
            times[name].append(run())
    base = statistics.median(times["lru_cache alone"])
    print(f"{'a hit':28}{'ns':>8}{'× alone':>10}")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:28}{median:8.1f}{median / base:10.2f}")


if __name__ == "__main__":
    main()
