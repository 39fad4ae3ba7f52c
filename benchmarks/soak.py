"""A realistic mix for a stated time: does memory, do descriptors or threads grow, and does every report arrive?

    python benchmarks/soak.py --minutes 10                      to a receiver on this machine
    python benchmarks/soak.py --minutes 10 --exporter dead      nobody listens
    python benchmarks/soak.py --seconds 20 --leak 2000          see it fail

Synchronous agents on threads, asynchronous ones on an event loop, streams read whole and left early, errors, cancelled
tasks, cached functions, a pool inside an agent; the exporters are the real ones. The first third is warm-up. The exit
code is 1 when memory grows faster than the limit, when descriptors or threads grow, when an error was swallowed, or
when a report is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import otel_agentperf
from otel_agentperf import _guard, agent, llm, on_report, retrieval, tool
from otel_agentperf.model import Report

SAMPLES = 30
SYNC_THREADS, ASYNC_RUNS = 3, 20
_EXPORT_EVERY_MS = 1_000


class Sample(NamedTuple):
    seconds: float
    memory_mb: float
    descriptors: int
    threads: int
    runs: int
    self_s: float
    runs_s: float
    """how long all runs took together"""


class Mix:
    """The program that is observed, until `stop` is set."""

    def __init__(self, leak: int) -> None:
        self.stop = threading.Event()
        self._leak = leak
        self._leaked: list[bytearray] = []

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._sync, args=(number,)) for number in range(SYNC_THREADS)]
        threads.append(threading.Thread(target=lambda: asyncio.run(self._async())))
        for thread in threads:
            thread.start()
        return threads

    def _sync(self, seed: int) -> None:
        choices = random.Random(seed)
        with ThreadPoolExecutor(4) as pool:
            while not self.stop.is_set():
                with contextlib.suppress(LookupError):
                    planner(choices, pool)
                self._leaked.append(bytearray(self._leak))
                if not self._leak:
                    self._leaked.clear()

    async def _async(self) -> None:
        choices = random.Random(99)

        async def one_after_another() -> None:
            while not self.stop.is_set():
                run = asyncio.ensure_future(writer(choices))
                if choices.random() < 0.1:
                    await asyncio.sleep(0.004)
                    run.cancel()
                with contextlib.suppress(LookupError, asyncio.CancelledError):
                    await run

        await asyncio.gather(*(one_after_another() for _ in range(ASYNC_RUNS)))


@functools.lru_cache(maxsize=50)
def exchange_rate(currency: int) -> float:
    return currency / 7


@tool
def search(query: str) -> dict[str, Any]:
    time.sleep(0.002)
    return {"query": query, "items": [query] * 20}


@tool(name="book")
def fails(number: int) -> None:
    raise LookupError(f"no seat {number}")


@retrieval
def documents(query: str) -> list[str]:
    return [query * 10] * 3


@llm(model="demo-small")
def tokens(count: int) -> Iterator[str]:
    for number in range(count):
        time.sleep(0.0005)
        yield f"token {number}"


@agent
def planner(choices: random.Random, pool: ThreadPoolExecutor) -> None:
    number = choices.randrange(1_000_000)
    for _ in tokens(5):
        if choices.random() < 0.1:
            break
    search(f"hotel {number}")
    documents("sights")
    for currency in range(5):
        exchange_rate(choices.randrange(100) + currency)
    list(pool.map(search, [f"flight {number} {part}" for part in range(3)]))
    if choices.random() < 0.2:
        fails(number)


@llm(model="demo-large")
async def answer(prompt: str) -> AsyncIterator[dict[str, Any]]:
    for number in range(4):
        await asyncio.sleep(0.002)
        yield {"delta": f"{prompt} {number}"}


@tool
async def read(page: int) -> str:
    await asyncio.sleep(0.003)
    return f"page {page}"


@agent
async def writer(choices: random.Random) -> None:
    async with contextlib.aclosing(answer("write")) as stream:
        async for _ in stream:
            if choices.random() < 0.05:
                break
    await asyncio.gather(*(read(choices.randrange(1_000)) for _ in range(4)))
    if choices.random() < 0.1:
        fails(1)
    await asyncio.sleep(0.05)


class Watch:
    """Samples of this process."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self._began = time.perf_counter()
        self.runs = 0
        self.runs_s = 0.0
        self.samples: list[Sample] = []
        on_report(self._count)

    def _count(self, report: Report) -> None:
        with self._lock:
            self.runs += 1
            self.runs_s += report.root.duration_s

    def sample(self) -> None:
        gc.collect()
        self.samples.append(
            Sample(
                time.perf_counter() - self._began,
                self._process.memory_info().rss / 1e6,
                self._process.num_fds(),
                self._process.num_threads(),
                self.runs,
                self.metric("agentperf.self.time"),
                self.runs_s,
            )
        )

    def metric(self, name: str) -> float:
        data = self._reader.get_metrics_data()
        return sum(
            point.value
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        )


def slope_mb_h(samples: list[Sample]) -> float:
    """From the medians of the first and the last half: one sample in the middle of an export does not count."""
    half = len(samples) // 2
    first, last = samples[:half], samples[-half:]
    grown, took = (
        statistics.median(getattr(sample, what) for sample in last)
        - statistics.median(getattr(sample, what) for sample in first)
        for what in ("memory_mb", "seconds")
    )
    return grown / took * 3_600


@contextlib.contextmanager
def receiver(kind: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Where to export to, and what has arrived once this is left; nothing where nobody listens."""
    received: dict[str, int] = {}
    if kind == "dead":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        yield f"http://127.0.0.1:{port}", received
        return
    sink = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("_sink.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert sink.stdout is not None
    yield f"http://127.0.0.1:{sink.stdout.readline().strip()}", received
    received.update(json.loads(sink.communicate()[0].splitlines()[-1]))


def set_up(endpoint: str, queue: int) -> tuple[TracerProvider, MeterProvider, InMemoryMetricReader]:
    tracers = TracerProvider(shutdown_on_exit=False)
    # Where somebody listens, a queue that holds what is made between two exports, so that a loss is ours.
    exporter = OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=5)
    tracers.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=queue, schedule_delay_millis=200))
    reader = InMemoryMetricReader()
    exported = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=5), _EXPORT_EVERY_MS)
    meters = MeterProvider([reader, exported], shutdown_on_exit=False)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    otel_agentperf.instrument(tracer_provider=tracers, meter_provider=meters)
    return tracers, meters, reader


def print_table(samples: list[Sample]) -> None:
    """`self`: `agentperf.self.time` as a share of what all runs took; it counts waits for the interpreter lock, too."""
    print(f"{'s':>8}{'MB':>9}{'files':>7}{'threads':>9}{'runs':>10}{'runs/s':>9}{'self':>8}")
    step = max(1, len(samples) // 12)
    for before, sample in zip([samples[0], *samples], samples, strict=False):
        if sample is samples[-1] or samples.index(sample) % step == 0:
            took, runs_s = sample.seconds - before.seconds, sample.runs_s - before.runs_s
            rate = (sample.runs - before.runs) / took if took else 0.0
            share = (sample.self_s - before.self_s) / runs_s if runs_s else 0.0
            print(
                f"{sample.seconds:8.0f}{sample.memory_mb:9.1f}{sample.descriptors:7}{sample.threads:9}"
                f"{sample.runs:10,}{rate:9.0f}{share:8.2%}"
            )


def soak(seconds: float, exporter: str, limit: float, leak: int) -> list[str]:
    """What is wrong, in words."""
    with receiver(exporter) as (endpoint, received):
        tracers, meters, reader = set_up(endpoint, 2_048 if exporter == "dead" else 20_000)
        watch, mix = Watch(reader), Mix(leak)
        threads = mix.start()
        for _ in range(SAMPLES):
            time.sleep(seconds / SAMPLES)
            watch.sample()
        dropped = watch.metric("agentperf.self.dropped")
        mix.stop.set()
        for thread in threads:
            thread.join()
        if exporter != "dead":
            tracers.force_flush()
            meters.shutdown()
    print_table(watch.samples)
    settled = watch.samples[SAMPLES // 3 :]
    slope = slope_mb_h(settled)
    print(
        f"\nexporter {exporter}, {watch.runs:,} runs: {slope:+.1f} MB/h (limit {limit:g}), "
        f"{dropped:,.0f} spans not analysed, {sum(_guard.counts.values())} errors swallowed"
        + (f", {received['reports']:,} reports and {received['spans']:,} spans arrived" if received else "")
    )
    return list(faults(settled, slope, limit, watch.runs, received))


def faults(settled: list[Sample], slope: float, limit: float, runs: int, received: dict[str, int]) -> Iterator[str]:
    if slope > limit:
        yield f"memory grows by {slope:.1f} MB/h"
    for what in ("descriptors", "threads"):
        before, after = (min(getattr(sample, what) for sample in part) for part in (settled[:10], settled[-10:]))
        if after > before:
            yield f"{what} grew from {before} to {after}"
    if _guard.counts:
        yield f"errors were swallowed: {_guard.counts}"
    if received and received["reports"] != runs:
        yield f"{runs - received['reports']:,} reports are missing"


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < inf:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=_positive, default=10)
    parser.add_argument("--seconds", type=_positive, help="instead of minutes")
    parser.add_argument("--exporter", choices=("sink", "dead"), default="sink")
    parser.add_argument(
        "--limit", type=float, help="MB an hour that memory may grow by (20; in less than 9 minutes 3 MB are noise)"
    )
    parser.add_argument("--leak", type=int, default=0, help="bytes to leak with each synchronous run")
    told = parser.parse_args()
    seconds = told.seconds or 60 * told.minutes
    limit = max(20, 3 * 3600 / seconds) if told.limit is None else told.limit
    found = soak(seconds, told.exporter, limit, told.leak)
    for fault in found:
        print(f"FAILED: {fault}")
    return 1 if found else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # an exporter that nobody answers would be waited for
