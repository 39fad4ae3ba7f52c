"""What watching the event loop costs a program: many tasks with many short waits, and an idle loop.

    python benchmarks/bench_loop_monitor.py

The program runs in turns with the monitor and without; the median of the pairs' ratios counts. The watching thread's
own CPU time is read from its clock, so the machine's noise does not matter there.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time

from opentelemetry.sdk.trace import TracerProvider

from otel_agentperf import AgentPerfSpanProcessor, agent
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state

TASKS, WAITS, ROUNDS = 200, 1_500, 25


@agent(name="bench")
async def many_waits() -> float:
    """CPU seconds of the process: 200 tasks that wait for next to nothing, so that the loop is always busy."""

    async def work() -> None:
        for number in range(WAITS):
            await asyncio.sleep(0.001 if number % 10 == 0 else 0)

    started = time.process_time()
    await asyncio.gather(*(work() for _ in range(TASKS)))
    return time.process_time() - started


@agent(name="bench")
async def idle(seconds: float = 2.0) -> tuple[float, float]:
    """CPU seconds a second of the process, and of the watching thread alone, while the loop waits."""
    clocks = [
        time.pthread_getcpuclockid(thread.ident)
        for thread in threading.enumerate()
        if thread.name == "agentperf-loop-monitor" and thread.ident
    ][-1:]  # of earlier rounds some linger
    started, began = time.process_time(), [time.clock_gettime(clock) for clock in clocks]
    await asyncio.sleep(seconds)
    watcher = sum(time.clock_gettime(clock) - before for clock, before in zip(clocks, began, strict=True))
    return (time.process_time() - started) / seconds, watcher / seconds


def use(watched: bool) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    config = Config(loop_monitor=watched, resource_monitor=watched, history=False)
    provider.add_span_processor(AgentPerfSpanProcessor(config))
    state.use(provider)


def main() -> None:
    times: dict[bool, list[float]] = {True: [], False: []}
    for watched in (True, False) * (ROUNDS + 1):
        use(watched)
        times[watched].append(asyncio.run(many_waits()))
    pairs = list(zip(times[True][1:], times[False][1:], strict=True))
    ratio = statistics.median(watched / plain for watched, plain in pairs)
    usual = statistics.median(plain for _, plain in pairs)
    print(f"{TASKS} tasks x {WAITS} waits, {usual * 1e3:.0f} ms CPU: {(ratio - 1) * 100:+.2f} % with the monitor")
    for watched in (False, True):
        use(watched)
        process, watcher = asyncio.run(idle())
        print(f"idle loop, {'with' if watched else 'without'}: {process * 1e3:.2f} ms CPU a second", end="")
        print(f", {watcher * 1e3:.2f} ms of it the watching thread" if watched else "")


if __name__ == "__main__":
    main()
