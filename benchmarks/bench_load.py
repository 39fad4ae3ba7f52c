"""The throughput of concurrent runs of ten calls: with the plugin, with spans made by hand, and with neither; and with
the plugin where OpenTelemetry's sampler takes one run in a hundred (OTEL_TRACES_SAMPLER=parentbased_traceidratio).

    python benchmarks/bench_load.py

One process, in turns, so that other work on the machine hits all alike: an event loop on which so many agents make one
call after another, each a wait of 20 ms or (as a model's is) of half a second. Both kinds of spans leave by OTLP to a
receiver in a process of its own. One interpreter does all the work, so the throughput is lost that its CPU time has no
room for: calls a second × CPU time of a call. The medians of the turns count; the first is warm-up.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from soak import receiver, set_up

from otel_agentperf import AgentPerfSpanProcessor, agent, tool
from otel_agentperf.capture.tracing import state

LOADS, CALLS = ((200, 0.5), (20, 0.02), (200, 0.02)), 10
"""runs at once, seconds of a call"""
TURNS, WARM_UP, TURN_S = 6, 1, 4.0
_QUEUE = 100_000
Run = Callable[[], Awaitable[Any]]


class Load:
    """What goes on now."""

    call_s = 0.0
    calls = 0


async def call(number: int) -> int:
    await asyncio.sleep(Load.call_s)
    Load.calls += 1
    return number


def run_of(one: Callable[[int], Awaitable[int]]) -> Run:
    async def run() -> int:
        return sum([await one(number) for number in range(CALLS)])

    return run


def by_hand(endpoint: str) -> Run:
    """The same with a bare SDK span for each call and run, of the attributes that ours have."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces"), _QUEUE, 200))
    tracer = provider.get_tracer("by hand")
    told = {f"some.attribute.{number}": "0123456789abcdef" for number in range(8)}

    async def one(number: int) -> int:
        with tracer.start_as_current_span("execute_tool call") as span:
            result = await call(number)
            for key, value in told.items():
                span.set_attribute(key, value)
            return result

    inner = run_of(one)

    async def run() -> None:
        with tracer.start_as_current_span("invoke_agent load"):
            await inner()

    return run


def sampling(endpoint: str) -> TracerProvider:
    provider = TracerProvider(ParentBasedTraceIdRatio(1 / 100), shutdown_on_exit=False)
    provider.add_span_processor(AgentPerfSpanProcessor(tracer_provider=provider))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint}/v1/traces"), _QUEUE, 200))
    return provider


async def throughput(run: Run, runs: int, call_s: float) -> tuple[float, float]:
    """Calls a second, and the CPU time of one in µs, once the runs are under way; they start one after another."""
    Load.call_s, stopped = call_s, asyncio.Event()

    async def again(number: int) -> None:
        await asyncio.sleep(number / runs * call_s)
        while not stopped.is_set():
            await run()

    tasks = [asyncio.ensure_future(again(number)) for number in range(runs)]
    await asyncio.sleep(2 * call_s)
    began, cpu, calls = time.perf_counter(), time.process_time(), Load.calls
    await asyncio.sleep(TURN_S)
    calls, cpu, took = Load.calls - calls, time.process_time() - cpu, time.perf_counter() - began
    stopped.set()
    await asyncio.gather(*tasks)
    return calls / took, cpu / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--turns", type=int, default=TURNS, help=f"of {TURN_S:.0f} s each; at least 2, the first is warm-up"
    )
    turns_asked = parser.parse_args().turns
    if turns_asked <= WARM_UP:
        parser.error(f"--turns {turns_asked}: at least {WARM_UP + 1}")
    with receiver("sink") as (endpoint, received):
        tracers, meters, _ = set_up(endpoint, _QUEUE)
        ours, sampled = agent(name="load")(run_of(tool(call))), sampling(endpoint)
        variants = {
            "neither": (tracers, run_of(call)),
            "by hand": (tracers, by_hand(endpoint)),
            "with us": (tracers, ours),
            "with us, 1 in 100": (sampled, ours),
        }
        print(f"{'runs at once':>12}{'ms a call':>11}  {'variant':18}{'calls/s':>9}{'ratio':>8}{'CPU µs a call':>15}")
        for runs, call_s in LOADS:
            turns: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
            for _ in range(turns_asked):
                for name, (provider, run) in variants.items():
                    state.use(provider)
                    turns[name].append(asyncio.run(throughput(run, runs, call_s)))
            for name, seen in turns.items():
                ratios = (
                    turn[0] / bare[0] for turn, bare in zip(seen[WARM_UP:], turns["neither"][WARM_UP:], strict=True)
                )
                rate, cpu = (statistics.median(turn[place] for turn in seen[WARM_UP:]) for place in (0, 1))
                print(
                    f"{runs:12}{call_s * 1e3:11.0f}  {name:18}{rate:9.0f}{statistics.median(ratios):8.3f}{cpu:15.0f}",
                    flush=True,
                )
        tracers.force_flush()
        sampled.shutdown()
        meters.shutdown()
    print(f"{received['reports']:,} reports arrived")


if __name__ == "__main__":
    main()
