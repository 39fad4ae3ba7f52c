"""Long runs are analysed on a thread of ours, where the exporters queue their spans."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from threading import Event, current_thread

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_agentperf import AgentPerfSpanProcessor, _guard, agent, on_report, postponing, tool
from otel_agentperf import _semconv as names
from otel_agentperf.capture.tracing import state
from otel_agentperf.processor import off_report

pytestmark = pytest.mark.usefixtures("state_restored")
CALLS = postponing.LONG


@pytest.fixture
def state_restored():
    tracer = state.tracer
    yield
    state.tracer = tracer


@pytest.fixture
def held():
    """Holds the analysis of each run up until it is set; tells the thread of each."""
    free, threads = Event(), []

    def hold(report):
        threads.append(current_thread())
        assert free.wait(20)

    free.threads = threads
    on_report(hold)
    yield free
    free.set()
    off_report(hold)


@tool
def search(number: int) -> int:
    return number


@agent(name="planner")
def run(calls: int) -> None:
    for number in range(calls):
        search(number)


def provider_of(*processors):
    provider = TracerProvider(shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    state.use(provider)
    return provider


def batch(exporter):
    return BatchSpanProcessor(exporter, max_queue_size=20_000, schedule_delay_millis=100_000)


def roots(exporter):
    return [span for span in exporter.get_finished_spans() if span.parent is None]


@pytest.mark.parametrize("first", [True, False])
def test_the_program_goes_on_and_a_flush_brings_the_root_with_its_report(held, first):
    exporter, processor = InMemorySpanExporter(), AgentPerfSpanProcessor()
    chain = [processor, batch(exporter)] if first else [batch(exporter), processor]
    provider = provider_of(*chain)
    run(CALLS)  # would wait for `held`
    assert provider.force_flush(200) is False
    assert roots(exporter) == []
    held.set()
    assert provider.force_flush()
    (root,) = roots(exporter)
    assert root.attributes[names.TOOL_CALLS] == CALLS
    assert root.attributes[names.INCOMPLETE] is False
    assert len(exporter.get_finished_spans()) == CALLS + 1
    assert held.threads != [current_thread()]
    provider.shutdown()


def test_a_shutdown_loses_nothing(held):
    exporter = InMemorySpanExporter()
    provider = provider_of(batch(exporter), AgentPerfSpanProcessor())
    for _ in range(3):
        run(CALLS)
    threading.Timer(0.1, held.set).start()
    provider.shutdown()
    assert [names.SCORE in root.attributes for root in roots(exporter)] == [True] * 3


@pytest.mark.parametrize(
    "others", [lambda exporter: [], lambda exporter: [SimpleSpanProcessor(exporter), batch(InMemorySpanExporter())]]
)
def test_where_somebody_wants_spans_at_once_the_root_comes_at_once(held, others):
    exporter = InMemorySpanExporter()
    provider_of(*others(exporter), AgentPerfSpanProcessor())
    held.set()
    run(CALLS)
    assert held.threads == [current_thread()]
    assert all(names.SCORE in root.attributes for root in roots(exporter))


def test_a_short_run_is_analysed_where_it_ends(held):
    provider_of(batch(InMemorySpanExporter()), AgentPerfSpanProcessor())
    held.set()
    run(10)
    assert held.threads == [current_thread()]


def test_a_short_run_inside_a_long_trace_is_analysed_where_it_ends(held):
    """An agent that says so only when it ends: the spans around it are not its own, and more of them may come."""
    provider = provider_of(batch(InMemorySpanExporter()), AgentPerfSpanProcessor())
    held.set()
    with provider.get_tracer("server").start_as_current_span("request"):
        for number in range(CALLS):
            search(number)
        with provider.get_tracer("openinference").start_as_current_span("late") as span:
            span.set_attribute("openinference.span.kind", "AGENT")
    assert held.threads == [current_thread()]


def test_what_is_too_much_to_wait_is_analysed_where_it_ends(held, monkeypatch):
    monkeypatch.setattr(postponing, "_MOST_WAITING", 2 * CALLS + 10)
    provider = provider_of(batch(InMemorySpanExporter()), AgentPerfSpanProcessor())
    run(CALLS)
    run(CALLS)
    held.set()  # or the third would wait for it here
    run(CALLS)
    assert provider.force_flush()
    assert held.threads.count(current_thread()) <= 1
    assert len(held.threads) == 3


def test_an_analysis_that_fails_costs_the_report_and_not_the_root(swallow, monkeypatch):
    def fails(bucket, root, measured):
        raise ValueError

    exporter, processor = InMemorySpanExporter(), AgentPerfSpanProcessor()
    provider = provider_of(batch(exporter), processor)
    monkeypatch.setattr(processor.load(), "report", fails)
    run(CALLS)
    assert provider.force_flush()
    (root,) = roots(exporter)
    assert names.SCORE not in root.attributes
    assert _guard.counts == {("postponing.finish", "ValueError"): 1}


def test_a_listener_may_flush_and_exit():
    exporter = InMemorySpanExporter()
    provider = provider_of(batch(exporter), AgentPerfSpanProcessor())

    def listener(report):
        provider.force_flush()
        raise SystemExit(3)

    on_report(listener)
    try:
        run(CALLS)
        run(CALLS)
        assert provider.force_flush()
    finally:
        off_report(listener)
    assert len(roots(exporter)) == 2


def test_no_thread_to_be_had(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    exporter = InMemorySpanExporter()
    provider = provider_of(batch(exporter), AgentPerfSpanProcessor())
    monkeypatch.setattr(threading.Thread, "start", start)
    run(CALLS)
    monkeypatch.undo()
    assert provider.force_flush()
    assert names.SCORE in roots(exporter)[0].attributes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_meanwhile_has_runs_of_its_own_and_the_parent_keeps_its(held):
    exporter = InMemorySpanExporter()
    provider = provider_of(batch(exporter), AgentPerfSpanProcessor())
    run(CALLS)
    child = os.fork()
    if child == 0:
        held.set()
        exporter.clear()
        run(CALLS)
        provider.force_flush()
        os._exit(len(roots(exporter)))
    held.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert provider.force_flush()
    assert len(roots(exporter)) == 1


PROGRAM = """
import sys, time
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from otel_agentperf import AgentPerfSpanProcessor, agent, on_report, tool
from otel_agentperf.capture.tracing import state

class Out(SpanExporter):
    def export(self, spans):
        for span in spans:
            if span.parent is None:
                print(span.attributes["agentperf.tool.calls"], flush=True)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Out(), max_queue_size=20_000))
provider.add_span_processor(AgentPerfSpanProcessor())
state.use(provider)
on_report(lambda report: time.sleep(0.3))
search = tool(name="search")(lambda number: number)
with agent("planner"):
    for number in range(2_000):
        search(number)
print("end", flush=True)
"""


def test_the_interpreter_waits_for_what_is_postponed():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["end", "2000"]
    assert done.stderr == ""
