"""What a profile costs while a run is profiled, by what the run does.

    python benchmarks/bench_profile.py

The sampler is asked at every call and return, so that code which makes many small calls pays most.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable

from opentelemetry.sdk.trace import TracerProvider

from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state

ROUNDS = 15
DATA = [{"number": number, "words": ["one", "two"]} for number in range(1_000)]
TEXT = "the quick brown fox jumps over the lazy dog " * 2_000


def small_calls() -> int:
    def add(number: int) -> int:
        return number + 1

    total = 0
    for _ in range(100_000):
        total = add(total)
    return total


def no_calls() -> int:
    total = 0
    for number in range(300_000):
        total += number * number
    return total


def json_in_python() -> None:
    for _ in range(3):
        json.dumps(DATA, indent=1)


def json_in_c() -> None:
    for _ in range(15):
        json.loads(json.dumps(DATA))


def regular_expressions() -> None:
    for _ in range(8):
        re.findall(r"\b(\w+) (\w+)\b", TEXT)


def waiting() -> None:
    for _ in range(20):
        time.sleep(0.001)


@tool
def traced(city: str) -> str:
    return city


def tool_calls() -> None:
    for _ in range(500):
        traced("Oslo")


WORK = (small_calls, json_in_python, tool_calls, no_calls, regular_expressions, json_in_c, waiting)
VARIANTS = {
    "off": Config(),
    "5 ms": Config(profile="on"),
    "1 ms": Config(profile="on", profile_interval_s=0.001),
}


def seconds_of(work: Callable[[], object], provider: TracerProvider) -> float:
    state.use(provider)
    with agent("bench"):
        started = time.perf_counter()
        work()
        return time.perf_counter() - started


def main() -> None:
    providers = {}
    for name, config in VARIANTS.items():
        providers[name] = TracerProvider(shutdown_on_exit=False)
        providers[name].add_span_processor(AgentPerfSpanProcessor(config))
    print(f"{'':22}{'off, ms':>10}" + "".join(f"{'× at ' + name:>12}" for name in VARIANTS if name != "off"))
    for work in WORK:
        times: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for _ in range(ROUNDS):
            for name, provider in providers.items():
                times[name].append(seconds_of(work, provider))
        medians = {name: statistics.median(values) for name, values in times.items()}
        ratios = "".join(f"{medians[name] / medians['off']:12.2f}" for name in VARIANTS if name != "off")
        print(f"{work.__name__.replace('_', ' '):22}{medians['off'] * 1e3:10.1f}{ratios}")


if __name__ == "__main__":
    main()
