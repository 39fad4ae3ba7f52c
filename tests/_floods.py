"""Programs that ask too much of the plugin, each in a fresh process: `python tests/_floods.py NAME COUNT` prints as
JSON what became of memory, of the spans and of the reports. Small counts are tests (tests/torture/test_bounds.py),
full ones a table (`python benchmarks/bounds.py`)."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
    use_span,
)

from otel_agentperf import AgentPerfSpanProcessor, _config, agent, on_report, tool
from otel_agentperf.capture import counts
from otel_agentperf.capture.tracing import state
from otel_agentperf.model import CacheCounts, Report
from otel_agentperf.resources import most_mb

WARM_UP_RUNS = 300
LONG = "x" * 500_000
MEGABYTE = 2 * LONG


class Roots(SpanProcessor):
    """The largest root as it leaves, in characters of its attributes and events."""

    def __init__(self) -> None:
        self.largest = 0

    def on_end(self, span: ReadableSpan) -> None:
        if "agentperf.score" in (span.attributes or {}):
            told = [span.attributes, *(event.attributes for event in span.events)]
            self.largest = max(self.largest, sum(len(str(dict(attributes or {}))) for attributes in told))


class Made(NamedTuple):
    """What a flood is made with."""

    tracer: Tracer
    provider: TracerProvider


@tool
def look_up(number: int) -> dict[str, int]:
    return {"number": number}


@agent(name="planner")
def short_run(number: int) -> None:
    look_up(number)
    look_up(number + 1)


def short_runs(made: Made, count: int) -> None:
    for number in range(count):
        short_run(number)


def tool_names(made: Made, count: int) -> None:
    for first in range(0, count, 500):
        with agent("planner"):
            for number in range(first, min(first + 500, count)):
                with tool(f"tool {number}"):
                    pass


def agent_names(made: Made, count: int) -> None:
    for number in range(count):
        with agent(f"agent {number}"):
            look_up(number)


def error_types(made: Made, count: int) -> None:
    for number in range(count):
        error = type(f"Error{number}", (Exception,), {})
        try:
            with agent("planner"), tool(f"tool {number % 300}"):
                raise error
        except error:
            pass


def cache_names(made: Made, count: int) -> None:
    """All counted, none a span; every run looks into 1,000 of them."""
    asked: list[CacheCounts] = []
    counts.register(lambda: asked)
    for first in range(0, count, 1_000):
        asked[:] = [CacheCounts(f"cache {number}", 2, 1, 1e-6, 1e-6) for number in range(first, first + 1_000)]
        short_run(first)


def never_ending_roots(made: Made, count: int) -> None:
    for number in range(count):
        made.tracer.start_span(f"call {number}")


def never_ending_children(made: Made, count: int) -> None:
    _never_ending(made, count, "call")


def never_ending_agents(made: Made, count: int) -> None:
    _never_ending(made, count, "invoke_agent")


def _never_ending(made: Made, count: int, name: str) -> None:
    root = made.tracer.start_span("invoke_agent planner")
    context = set_span_in_context(root)
    for number in range(count):
        made.tracer.start_span(f"{name} {number}", context)
    root.end()


def one_long_trace(made: Made, count: int) -> None:
    with made.tracer.start_as_current_span("server"):
        short_runs(made, count)


def one_remote_trace(made: Made, count: int) -> None:
    parent = NonRecordingSpan(SpanContext(123, 456, True, TraceFlags(TraceFlags.SAMPLED)))
    with use_span(parent):
        short_runs(made, count)


def open_runs(made: Made, count: int) -> None:
    """Each with 400 calls, as if all were waiting for something; then all end."""
    roots = []
    for _ in range(count // 400):
        roots.append(made.tracer.start_span("invoke_agent waiting", Context()))
        context = set_span_in_context(roots[-1])
        for _ in range(400):
            made.tracer.start_span("call", context).end()
    for root in roots:
        root.end()


def one_large_run(made: Made, count: int) -> None:
    with agent("planner"):
        for number in range(count):
            look_up(number)


def many_findings(made: Made, count: int) -> None:
    """Each call moves too much data."""
    with agent("planner"):
        for number in range(count):
            with tool(f"tool {number}") as call:
                call.result(LONG)


def large_queries(made: Made, count: int) -> None:
    with agent("planner"):
        for number in range(count):
            told = {"db.system.name": "postgresql", "db.query.text": f"SELECT {MEGABYTE} WHERE id = {number}"}
            made.tracer.start_span("SELECT", attributes=told).end()


def large_attributes(made: Made, count: int) -> None:
    """The program's own, on spans of ours."""
    with agent("planner"):
        for number in range(count):
            with tool("search"):
                get_current_span().set_attribute("answer", f"{number} {MEGABYTE}")


def large_names(made: Made, count: int) -> None:
    for number in range(count):
        told = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": f"{number} {MEGABYTE}"}
        with made.tracer.start_as_current_span("invoke_agent", attributes=told):
            made.tracer.start_span(f"execute_tool {number} {MEGABYTE}").end()


def dead_exporter(made: Made, count: int) -> None:
    """Nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    _export_to(made, port)
    short_runs(made, count)


def stalled_exporter(made: Made, count: int) -> None:
    """The connection is accepted (by the kernel) and nothing is ever answered."""
    deaf = socket.create_server(("127.0.0.1", 0))
    _export_to(made, deaf.getsockname()[1])
    short_runs(made, count)
    deaf.close()


def _export_to(made: Made, port: int) -> None:
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", timeout=5)
    made.provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))


FLOODS: dict[str, Callable[[Made, int], None]] = {
    flood.__name__: flood
    for flood in (
        short_runs, tool_names, agent_names, error_types, cache_names, never_ending_roots, never_ending_children,
        never_ending_agents, one_long_trace, one_remote_trace, open_runs, one_large_run, many_findings, large_queries,
        large_attributes, large_names, dead_exporter, stalled_exporter,
    )
}  # fmt: skip


def pour(name: str, count: int) -> dict[str, Any]:
    """Run one flood in this process."""
    reader, reports, roots = InMemoryMetricReader(), [0, 0], Roots()
    provider = TracerProvider(shutdown_on_exit=False)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    processor = AgentPerfSpanProcessor(_config.load(), meters, provider)
    provider.add_span_processor(processor)
    provider.add_span_processor(roots)
    state.use(provider)

    @on_report
    def count_report(report: Report) -> None:
        reports[0] += 1
        reports[1] += report.run.incomplete

    made = Made(provider.get_tracer("program"), provider)
    short_runs(made, WARM_UP_RUNS)
    reader.get_metrics_data()
    gc.collect()
    before, reports[:], began = most_mb() or 0.0, [0, 0], time.perf_counter()
    FLOODS[name](made, count)
    seconds = time.perf_counter() - began
    after = most_mb() or 0.0
    series = _series(reader)
    return {
        "flood": name,
        "count": count,
        "seconds": round(seconds, 2),
        "grown_mb": round(after - before, 1),
        "reports": reports[0],
        "incomplete": reports[1],
        "dropped": {labels["reason"]: value for labels, value in series.pop("agentperf.self.dropped", [])},
        "most_series": max(len(points) for points in series.values()),
        "largest_root": roots.largest,
    }


def _series(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    data = reader.get_metrics_data()
    return {
        metric.name: [(dict(point.attributes), getattr(point, "value", None)) for point in metric.data.data_points]
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def poured(name: str, count: int, **settings: str) -> dict[str, Any]:
    """The same in a fresh process, with `settings` in its environment. Raises `CalledProcessError` where that fails."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), name, str(count)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=3_600, env={**os.environ, **settings},
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


if __name__ == "__main__":
    print(json.dumps(pour(sys.argv[1], int(sys.argv[2]))), flush=True)  # noqa: T201 - for whoever has started us
    os._exit(0)  # an exporter that is stalled would be waited for
