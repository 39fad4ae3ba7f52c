"""What a traced call costs beside a bare SDK span with as many attributes, and what the analysis at a run's end costs.

    python benchmarks/bench_spans.py

Times of a shared machine are noisy, so the variants are measured in turns and the ratio of their medians counts.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.capture.tracing import state

CALLS, ROUNDS = 400, 60
RESULT = {"city": "Oslo", "celsius": 4}


def provider(*processors: SpanProcessor, sampled: bool = True) -> TracerProvider:
    made = TracerProvider(shutdown_on_exit=False) if sampled else TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    for processor in processors:
        made.add_span_processor(processor)
    return made


def weather(city: str, days: int) -> dict[str, Any]:
    return RESULT


async def weather_async(city: str, days: int) -> dict[str, Any]:
    return RESULT


traced, traced_async = tool(weather), tool(weather_async)


def bare(tracer: Any) -> Callable[[], None]:
    """What one would write by hand: a span with the same eight attributes."""

    def call() -> None:
        with tracer.start_as_current_span("execute_tool weather") as span:
            result = weather("Oslo", 3)
            span.set_attribute("gen_ai.tool.name", "weather")
            span.set_attribute("gen_ai.operation.name", "execute_tool")
            span.set_attribute("agentperf.args.size", 26)
            span.set_attribute("agentperf.args.hash", "0123456789abcdef")
            span.set_attribute("agentperf.cpu_time", 1e-6)
            span.set_attribute("agentperf.result.hash", "0123456789abcdef")
            span.set_attribute("agentperf.result.size", 26)
            span.set_attribute("agentperf.result.type", type(result).__name__)

    return call


def batch(call: Callable[[], object], made: TracerProvider, calls: int = CALLS) -> Callable[[], float]:
    """Seconds a call, inside runs of so many calls whose own ends are not counted."""

    @agent(name="bench")
    def inside() -> float:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - started

    def run() -> float:
        state.use(made)
        return sum(inside() for _ in range(CALLS // calls)) / CALLS

    return run


def batch_async(made: TracerProvider, traces: bool, tracer: Any) -> Callable[[], float]:
    async def bare_call() -> None:
        with tracer.start_as_current_span("execute_tool weather") as span:
            result = await weather_async("Oslo", 3)
            for key in ("gen_ai.tool.name", "gen_ai.operation.name", "agentperf.args.hash", "agentperf.result.hash"):
                span.set_attribute(key, "0123456789abcdef")
            for key in ("agentperf.args.size", "agentperf.result.size"):
                span.set_attribute(key, 26)
            span.set_attribute("agentperf.result.type", type(result).__name__)

    async def traced_call() -> None:
        await traced_async("Oslo", days=3)

    @agent(name="bench")
    async def inside() -> float:
        call = traced_call if traces else bare_call
        started = time.perf_counter()
        for _ in range(CALLS):
            await call()
        return (time.perf_counter() - started) / CALLS

    def run() -> float:
        state.use(made)
        return asyncio.run(inside())

    return run


def measure(variants: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds by variant, measured in turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    for _ in range(rounds):
        for name, run in variants.items():
            gc.collect()
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}


def print_calls() -> None:
    plain, watched = provider(), provider(AgentPerfSpanProcessor())
    off = provider(AgentPerfSpanProcessor(), sampled=False)
    tracer, off_tracer = plain.get_tracer("bench"), off.get_tracer("bench")

    days = count()

    def call() -> None:
        traced("Oslo", days=3)

    def other_call() -> None:
        traced("Bergen", days=next(days))

    medians = measure(
        {
            "bare SDK span": batch(bare(tracer), plain),
            "@tool, no processor": batch(call, plain),
            "@tool, with the processor": batch(call, watched),
            "@tool, the first ten of a run": batch(other_call, watched, 10),
            "bare SDK span, async": batch_async(plain, False, tracer),
            "@tool, async, with the processor": batch_async(watched, True, tracer),
            "bare SDK span, unsampled": batch(bare(off_tracer), off),
            "@tool, unsampled": batch(call, off),
        }
    )
    print(f"{'a call':36}{'µs':>8}{'× bare':>8}")
    base = 0.0
    for name, median in medians.items():
        if name.startswith("bare"):
            base = median
        print(f"{name:36}{median * 1e6:8.1f}{median / base:8.2f}")


def timed(function: Callable[..., Any], seconds: list[float], results: list[Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        started = time.perf_counter()
        results.append(function(*args))
        seconds.append(time.perf_counter() - started)
        return results[-1]

    return call


def waited(spans: int) -> float:
    """Seconds that the thread which ends a run waits for its end, where spans are exported in batches."""
    processor = AgentPerfSpanProcessor(Config(max_spans=20_000))
    made = provider(BatchSpanProcessor(InMemorySpanExporter(), 50_000, 100_000), processor)
    state.use(made)

    @agent(name="bench")
    def run() -> float:
        for number in range(spans - 1):
            traced("Oslo", number)
        return time.perf_counter()

    last = run()
    waits = time.perf_counter() - last
    made.shutdown()
    return waits


def print_analysis() -> None:
    """The end of a run, by its number of spans: everything between the root's end and its export."""
    print(f"\n{'spans of the run':>16}{'ms':>10}{'µs a span':>12}{'of it analyze()':>18}{'the program waits, ms':>24}")
    for spans in (10, 100, 1_000, 10_000):
        rounds = 3 if spans == 10_000 else 15
        reports: list[Any] = []
        seconds: list[float] = []
        analyzing: list[float] = []
        for _ in range(rounds):
            processor = AgentPerfSpanProcessor(Config(max_spans=20_000))
            state.use(provider(processor))

            @agent(name="bench")
            def run(calls: int = spans - 1) -> None:
                for number in range(calls):
                    traced("Oslo", number)

            reporter = processor.load()
            reporter.report = timed(reporter.report, seconds, reports)  # type: ignore[method-assign]
            run()
            started = time.perf_counter()
            analyze(find_runs(reports[-1].run.spans)[0])
            analyzing.append(time.perf_counter() - started)
        whole, part = statistics.median(seconds), statistics.median(analyzing)
        waits = statistics.median(waited(spans) for _ in range(rounds))
        print(f"{spans:16}{whole * 1e3:10.2f}{whole / spans * 1e6:12.1f}{part / spans * 1e6:18.1f}{waits * 1e3:24.2f}")


if __name__ == "__main__":
    print_calls()
    print_analysis()
