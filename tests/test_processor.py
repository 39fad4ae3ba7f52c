"""The processor: whoever made the root and whichever exporter came first, the exported root carries the report."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from _recording import Kept, Recording, attributes
from otel_agentperf import AgentPerfSpanProcessor, agent, off_report, on_report, tool
from otel_agentperf._config import Config
from otel_agentperf.capture.dependence import Siblings
from otel_agentperf.capture.tracing import state
from otel_agentperf.model import Report

START = 1_700_000_000_000_000_000
MS = 1_000_000


@pytest.fixture
def made() -> Iterator[Callable[..., Recording]]:
    """Makes a provider with the given processors in order; `Kept` stands for an exporter."""
    before = {name: getattr(state, name) for name in type(state).__slots__}
    providers = []

    def make(*processors: SpanProcessor | str, limits: SpanLimits | None = None) -> Recording:
        provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
        providers.append(provider)
        kept = Kept()
        for processor in processors or ("simple", AgentPerfSpanProcessor()):
            if processor == "simple":
                processor = SimpleSpanProcessor(kept)
            elif processor == "batch":
                processor = BatchSpanProcessor(kept)
            assert isinstance(processor, SpanProcessor)
            provider.add_span_processor(processor)
        state.use(provider)
        state.configure(Config())
        state.siblings = Siblings()
        return Recording(provider, kept)

    yield make
    for provider in providers:
        provider.shutdown()
    for name, value in before.items():
        setattr(state, name, value)


# --- the exported root ------------------------------------------------------------------------------------


def own_run(recorded: Recording) -> str:
    """Three equal calls of 50 ms by our own decorators."""

    @tool
    def search(q: str) -> str:
        time.sleep(0.05)
        return "found"

    with agent("planner"):
        for _ in range(3):
            search("tea")
    return "invoke_agent planner"


def _foreign(recorded: Recording, root_attributes: dict[str, Any], call_attributes: dict[str, Any]) -> str:
    """The same with the plain SDK, all attributes set after the start."""
    tracer = recorded.provider.get_tracer("somebody.else")
    root = tracer.start_span("planning", start_time=START)
    inside = set_span_in_context(root)
    for number in range(3):
        call = tracer.start_span("calling", inside, start_time=START + number * 50 * MS)
        call.set_attributes(call_attributes)
        call.end(START + (number + 1) * 50 * MS)
    root.set_attributes(root_attributes)
    root.end(START + 150 * MS)
    return "planning"


def genai_run(recorded: Recording) -> str:
    return _foreign(
        recorded,
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"},
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "search",
            "gen_ai.tool.call.arguments": '{"q": "tea"}',
            "gen_ai.tool.call.result": "found",
        },
    )


def openinference_run(recorded: Recording) -> str:
    return _foreign(
        recorded,
        {"openinference.span.kind": "AGENT", "agent.name": "planner"},
        {
            "openinference.span.kind": "TOOL",
            "tool.name": "search",
            "input.value": '{"q": "tea"}',
            "output.value": "found",
        },
    )


@pytest.mark.parametrize("run", [own_run, genai_run, openinference_run])
@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("exporter", ["simple", "batch"])
def test_the_exported_root_carries_the_report(
    made: Callable[..., Recording], exporter: str, order: str, run: Callable[[Recording], str]
) -> None:
    ours = AgentPerfSpanProcessor()
    recorded = made(exporter, ours) if order == "before" else made(ours, exporter)
    name = run(recorded)
    root = recorded.one(name)
    found = attributes(root)
    assert 0 < found["agentperf.score"] <= 1
    assert found["agentperf.score.success"] == 1.0
    assert 0.9 < found["agentperf.score.speed"] < 1.0
    assert 0 <= found["agentperf.score.resource"] <= 1
    assert found["agentperf.grade"] in "ABCDEF"
    assert found["agentperf.efficiency"] == pytest.approx(1 / 3, abs=0.05)
    assert found["agentperf.bottleneck.count"] == 1
    assert found["agentperf.bottleneck.kinds"] == ("duplicate_calls",)
    assert found["agentperf.bottleneck.duplicate_calls"] is True
    assert found["agentperf.saving_ms"] == pytest.approx(100, abs=15)
    assert found["agentperf.critical_path"][0].startswith("search 9") or found["agentperf.critical_path"][0].startswith(
        "search 100%"
    )
    assert found["agentperf.llm.calls"] == 0
    assert found["agentperf.tool.calls"] == 3
    assert found["agentperf.tool.errors"] == 0
    assert found["agentperf.cache.hits"] == found["agentperf.cache.misses"] == 0
    assert found["agentperf.incomplete"] is False
    assert "agentperf.tokens.input" not in found, "not told is not zero"

    (event,) = root.events
    assert event.name == "agentperf.bottleneck"
    details = dict(event.attributes or {})
    calls = [span for span in recorded.spans if span is not root]
    assert details["kind"] == "duplicate_calls"
    assert details["severity"] in ("warning", "critical")
    assert details["operation"] == "search"
    assert details["calls"] == 3
    assert details["saving_ms"] == found["agentperf.saving_ms"]
    assert details["wasted_ms"] >= 100
    assert details["threshold"]
    assert "search" in details["recommendation"]
    assert set(details["evidence"]) == {f"{span.context.span_id:016x}" for span in calls}
    assert {link.context.span_id for link in root.links} == {span.context.span_id for span in calls}
    assert {link.context.trace_id for link in root.links} == {root.context.trace_id}
    assert not any(key.startswith("agentperf.score") for span in calls for key in attributes(span))
    assert recorded.encoded()


def test_what_the_user_put_on_the_root_stays(made: Callable[..., Recording]) -> None:
    limits = SpanLimits(max_span_attributes=4, max_events=2, max_links=1)
    recorded = made("simple", AgentPerfSpanProcessor(), limits=limits)
    tracer = recorded.provider.get_tracer("somebody.else")
    root = tracer.start_span("invoke_agent full", start_time=START)
    for number in range(6):
        root.set_attribute(f"user.{number}", number)
        root.add_event(f"user event {number}")
    inside = set_span_in_context(root)
    for number in range(12):
        call = tracer.start_span("execute_tool search", inside, start_time=START + number * 50 * MS)
        call.set_attributes({"gen_ai.tool.name": "search", "input.value": "same", "output.value": "same"})
        call.end(START + (number + 1) * 50 * MS)
    root.end(START + 600 * MS)
    exported = recorded.one("invoke_agent full")
    found = attributes(exported)
    assert [found[f"user.{number}"] for number in range(2, 6)] == [2, 3, 4, 5]
    assert found["agentperf.grade"]
    assert [event.name for event in exported.events][:2] == ["user event 4", "user event 5"]
    assert exported.events[2].name == "agentperf.bottleneck"
    assert len(exported.links) == 8
    assert (exported.dropped_attributes, exported.dropped_events) == (2, 4)


def test_a_name_with_broken_unicode_does_not_spoil_the_batch_of_the_report(made: Callable[..., Recording]) -> None:
    recorded = made()
    tracer = recorded.provider.get_tracer("somebody.else")
    with tracer.start_as_current_span("invoke_agent a"):
        tracer.start_span("execute_tool \ud800").end()
    recorded.kept.spans[:] = [recorded.one("invoke_agent a")]
    assert recorded.encoded()


def test_two_processors_by_mistake_report_once(made: Callable[..., Recording], reports: list[Report]) -> None:
    recorded = made("simple", AgentPerfSpanProcessor(), AgentPerfSpanProcessor())
    own_run(recorded)
    assert len(recorded.one("invoke_agent planner").events) == 1
    assert len(reports) == 1


# --- the fallback -----------------------------------------------------------------------------------------


class Wrapping(SpanProcessor):
    """Somebody's processor around ours that knows nothing of `_on_ending`."""

    def __init__(self, inner: SpanProcessor) -> None:
        self._inner = inner

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        self._inner.on_end(span)


def _report_span(recorded: Recording, root: str) -> None:
    report = recorded.one("agentperf report")
    assert report.parent.span_id == recorded.one(root).context.span_id
    found = attributes(report)
    assert found["agentperf.tool.calls"] == 3
    assert found["agentperf.bottleneck.duplicate_calls"] is True
    assert "agentperf.score" not in attributes(recorded.one(root))


@pytest.mark.parametrize("run", [own_run, genai_run])
@pytest.mark.parametrize("order", ["before", "after"])
def test_behind_a_processor_that_does_not_pass_the_ending_on(
    made: Callable[..., Recording], run: Callable[[Recording], str], order: str, reports: list[Report]
) -> None:
    ours = Wrapping(AgentPerfSpanProcessor())
    recorded = made("simple", ours) if order == "before" else made(ours, "simple")
    _report_span(recorded, run(recorded))
    assert len(reports) == 1


def test_where_the_private_names_are_gone(made: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch) -> None:
    from otel_agentperf import enrich

    class Other:
        pass

    monkeypatch.setattr(enrich, "BoundedAttributes", Other)
    recorded = made()
    _report_span(recorded, own_run(recorded))


def test_where_spans_keep_their_attributes_elsewhere(
    made: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the fast way of ending a span nor the cheap way of reading one, nor the enrichment, may break."""
    from opentelemetry import attributes as sdk_attributes
    from opentelemetry.sdk import trace as sdk_trace

    class Renamed(sdk_attributes.BoundedAttributes):  # type: ignore[misc]
        @property
        def _dict(self) -> Any:
            raise AttributeError

        @_dict.setter
        def _dict(self, value: Any) -> None:
            self.__dict__["inside"] = value

        def __getitem__(self, key: str) -> Any:
            return self.inside[key]

        def __len__(self) -> int:
            return len(self.inside)

        def __iter__(self) -> Iterator[str]:
            return iter(dict(self.inside))

        def _set_items(self, items: Any) -> None:
            self.inside.update(items)

        def __setitem__(self, key: str, value: Any) -> None:
            self.inside[key] = value

        def copy(self) -> Any:
            return dict(self.inside)

    monkeypatch.setattr(sdk_trace, "BoundedAttributes", Renamed)
    recorded = made()
    _report_span(recorded, own_run(recorded))
    call = attributes(recorded.spans[0])
    assert call["agentperf.result.type"] == "str"


def test_the_fallback_uses_the_provider_it_was_given(made: Callable[..., Recording]) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    kept = Kept()
    processor = AgentPerfSpanProcessor(tracer_provider=provider)
    provider.add_span_processor(Wrapping(processor))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    genai_run(Recording(provider, kept))
    assert "agentperf report" in [span.name for span in kept.spans]
    assert processor.dropped == {}, "the report is no span that was lost"
    assert len(processor._buffer) == 0


# --- which spans are a run --------------------------------------------------------------------------------


@pytest.fixture
def recorded(made: Callable[..., Recording]) -> Recording:
    return made()


@pytest.fixture
def tracer(recorded: Recording) -> Tracer:
    return recorded.provider.get_tracer("somebody.else")


def roots(reports: list[Report]) -> list[str]:
    return [report.root.name for report in reports]


AGENT = {"gen_ai.operation.name": "invoke_agent"}


def test_several_runs_in_one_trace_each_have_a_report(tracer: Tracer, reports: list[Report]) -> None:
    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        with tracer.start_as_current_span("first", attributes=AGENT):
            tracer.start_span("SELECT", attributes={"db.system.name": "sqlite"}).end()
        with tracer.start_as_current_span("second", attributes=AGENT):
            pass
    assert roots(reports) == ["first", "second"]
    assert [len(report.run.spans) for report in reports] == [2, 1]


@pytest.mark.parametrize("known", ["at the start", "late"])
def test_an_agent_inside_an_agent_has_a_score_but_no_report(tracer: Tracer, reports: list[Report], known: str) -> None:
    at_start = AGENT if known == "at the start" else None
    with (
        tracer.start_as_current_span("outer", attributes=AGENT),
        tracer.start_as_current_span("inner", attributes=at_start) as inner,
    ):
        inner.set_attributes({**AGENT, "gen_ai.agent.name": "helper"})
    assert roots(reports) == ["outer"]
    assert [stats.name for stats in reports[0].agents] == ["outer", "helper"]
    assert all(stats.score is not None for stats in reports[0].agents)


def test_agents_that_say_so_late_below_a_server_span(tracer: Tracer, reports: list[Report]) -> None:
    with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER):
        for name in ("first", "second"):
            with tracer.start_as_current_span(name) as span:
                tracer.start_span("call").end()
                span.set_attributes(AGENT)
    assert roots(reports) == ["first", "second"]
    assert [len(report.run.spans) for report in reports] == [2, 2]


def test_chains_that_say_so_when_they_end_are_one_run(
    recorded: Recording, tracer: Tracer, reports: list[Report]
) -> None:
    server = recorded.provider.get_tracer("some.framework")

    def chain(name: str, kind: str, below: Callable[[], None]) -> None:
        with tracer.start_as_current_span(name) as span:
            below()
            span.set_attribute("openinference.span.kind", kind)

    with server.start_as_current_span("POST /chat", kind=SpanKind.SERVER):
        for graph in ("first", "second"):
            chain(graph, "CHAIN", lambda: chain("model", "CHAIN", lambda: chain("gpt", "LLM", lambda: None)))
    assert roots(reports) == ["first", "second"]
    assert [len(report.run.spans) for report in reports] == [3, 3]


def test_many_late_agents_below_one_span_do_not_take_quadratic_time(tracer: Tracer, reports: list[Report]) -> None:
    started = time.perf_counter()
    with tracer.start_as_current_span("batch"):
        for _ in range(300):
            with tracer.start_as_current_span("item") as span:
                for _ in range(9):
                    tracer.start_span("call").end()
                span.set_attributes(AGENT)
    assert len(reports) == 300
    assert time.perf_counter() - started < 10


def test_an_agent_that_outlives_the_request_it_was_started_by(tracer: Tracer, reports: list[Report]) -> None:
    request = tracer.start_span("POST /jobs", kind=SpanKind.SERVER)
    job = tracer.start_span("job", set_span_in_context(request))
    call = tracer.start_span("call", set_span_in_context(job))
    request.end()
    call.end()
    job.set_attributes(AGENT)
    job.end()
    assert "job" in roots(reports)
    assert len(reports[-1].run.spans) == 2


def test_a_remote_parent_does_not_hide_the_root(tracer: Tracer, reports: list[Report]) -> None:
    remote = NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1)))
    with tracer.start_as_current_span("agent", set_span_in_context(remote), attributes=AGENT):
        tracer.start_span("call").end()
    (report,) = reports
    assert report.root.name == "agent"
    assert not report.run.incomplete


def test_a_local_root_that_ends_a_little_before_the_run_below_it_is_none(tracer: Tracer, reports: list[Report]) -> None:
    """Logfire's span around a run of the OpenAI Agents SDK is ended first."""
    around = tracer.start_span("around", start_time=START)
    run = tracer.start_span("invoke_agent a", set_span_in_context(around), start_time=START)
    around.end(START + 99 * MS)
    run.end(START + 100 * MS)
    assert roots(reports) == ["invoke_agent a"]


def test_what_logfire_logs_belongs_to_its_parent_of_this_process(tracer: Tracer, reports: list[Report]) -> None:
    run = tracer.start_span("invoke_agent a", start_time=START)
    told = SpanContext(run.get_span_context().trace_id, run.get_span_context().span_id, True, TraceFlags(1))
    above = set_span_in_context(NonRecordingSpan(told))
    tracer.start_span("said", above, attributes={"logfire.span_type": "log"}, start_time=START).end(START)
    run.end(START + 100 * MS)
    assert roots(reports) == ["invoke_agent a"]
    assert [span.name for span in reports[0].run.spans] == ["invoke_agent a", "said"]


def test_requests_that_share_a_remote_trace(tracer: Tracer, reports: list[Report]) -> None:
    remote = set_span_in_context(NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1))))
    first = tracer.start_span("first", remote, attributes=AGENT)
    second = tracer.start_span("second", remote, attributes=AGENT)
    tracer.start_span("of second", set_span_in_context(second)).end()
    first.end()
    second.end()
    assert roots(reports) == ["first", "second"]
    assert [len(report.run.spans) for report in reports] == [1, 2]


def test_without_any_agent_the_local_root_is_the_run(tracer: Tracer, reports: list[Report]) -> None:
    with tracer.start_as_current_span("main"):
        tracer.start_span("execute_tool search").end()
    assert roots(reports) == ["main"]


def test_a_lone_quick_span_is_reported_only_to_listeners(
    recorded: Recording, tracer: Tracer, reports: list[Report]
) -> None:
    tracer.start_span("heard").end()
    off_report(reports.append)
    tracer.start_span("unheard").end()
    slow = tracer.start_span("slow", start_time=START)
    slow.end(START + 200 * MS)
    assert roots(reports) == ["heard"]
    assert "agentperf.grade" not in attributes(recorded.one("unheard"))
    assert "agentperf.grade" in attributes(recorded.one("slow"))


def test_a_child_of_a_span_nobody_saw_is_no_run_of_its_own(tracer: Tracer, reports: list[Report]) -> None:
    unseen = NonRecordingSpan(SpanContext(5, 6, is_remote=False, trace_flags=TraceFlags(1)))
    tracer.start_span("orphan", set_span_in_context(unseen)).end()
    assert not reports


def test_spans_still_open_make_the_run_incomplete(recorded: Recording, tracer: Tracer, reports: list[Report]) -> None:
    root = tracer.start_span("agent", attributes=AGENT)
    child = tracer.start_span("background", set_span_in_context(root))
    root.end()
    child.end()
    (report,) = reports
    assert report.run.incomplete
    assert attributes(recorded.one("agent"))["agentperf.incomplete"] is True


def test_children_that_start_after_their_parent_has_ended(tracer: Tracer, reports: list[Report]) -> None:
    with tracer.start_as_current_span("agent", attributes=AGENT):
        step = tracer.start_span("step")
        step.end()
        tracer.start_span("late child", set_span_in_context(step)).end()
    assert {span.name for span in reports[0].run.spans} == {"agent", "step", "late child"}


def test_a_span_that_only_looked_like_an_agent(tracer: Tracer, reports: list[Report]) -> None:
    with tracer.start_as_current_span("invoke_agent x") as span:
        span.set_attribute("gen_ai.operation.name", "execute_tool")
    assert [report.root.kind for report in reports] == ["tool"]


def test_a_failed_run(recorded: Recording, tracer: Tracer, reports: list[Report]) -> None:
    with tracer.start_as_current_span("agent", attributes=AGENT) as root:
        root.set_status(Status(StatusCode.ERROR, "no"))
    assert attributes(recorded.one("agent"))["agentperf.score.success"] == 0.0


def test_live_and_offline_agree(recorded: Recording, tracer: Tracer, reports: list[Report]) -> None:
    from otel_agentperf import analyze
    from otel_agentperf.analysis.runs import find_runs
    from otel_agentperf.ended import ended
    from otel_agentperf.reporting import Reporter

    genai_run(recorded)
    (offline,) = [analyze(run) for run in find_runs(Reporter.classified(ended(span)) for span in recorded.spans)]
    (live,) = reports
    assert offline.score == pytest.approx(live.score)
    assert offline.score_parts == live.score_parts
    assert offline.efficiency == live.efficiency
    assert [finding.kind for finding in offline.findings] == [finding.kind for finding in live.findings]
    assert offline.operations == live.operations


# --- the process's end, listeners, bounds -----------------------------------------------------------------


def test_runs_still_open_at_shutdown_are_reported_as_incomplete(made: Callable[..., Recording],
                                                                reports: list[Report]) -> None:  # fmt: skip
    recorded = made()
    tracer = recorded.provider.get_tracer("x")
    root = tracer.start_span("agent", attributes=AGENT)
    inside = set_span_in_context(root)
    tracer.start_span("done", inside).end()
    still = tracer.start_span("open", inside)
    recorded.provider.shutdown()
    (report,) = reports
    assert report.run.incomplete
    assert {span.name for span in report.run.spans} == {"agent", "done", "open"}
    root.end()
    still.end()
    assert len(reports) == 1


def test_spans_that_the_program_lost_are_not_kept(recorded: Recording, tracer: Tracer, reports: list[Report]) -> None:
    """They never end, and may hold megabytes. A run that lost its root is reported at the end all the same."""
    root = tracer.start_span("agent", attributes=AGENT)
    inside, gone = set_span_in_context(root), []
    for _ in range(3):
        span = tracer.start_span("open", inside)
        span.set_attribute("text", "x" * 1_000_000)
        gone.append(weakref.ref(span))
    del span, root, inside
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
    recorded.provider.shutdown()
    (report,) = reports
    assert report.run.incomplete
    assert [span.name for span in report.run.spans] == ["agent"]


def test_at_the_end_of_a_program() -> None:
    code = """
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider
        from otel_agentperf import AgentPerfSpanProcessor, agent, on_report
        provider = TracerProvider()
        provider.add_span_processor(AgentPerfSpanProcessor())
        trace.set_tracer_provider(provider)
        on_report(lambda report: print(report.root.name, report.run.incomplete))
        call = agent("unfinished")
        call.__enter__()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "invoke_agent unfinished True\n", "")


def test_a_listener_that_raises_harms_neither_the_program_nor_the_others(
    recorded: Recording, reports: list[Report], swallow: None, caplog: pytest.LogCaptureFixture
) -> None:
    @on_report
    def broken(report: Report) -> None:
        raise RuntimeError("secret")

    try:
        own_run(recorded)
    finally:
        off_report(broken)
        off_report(broken)
    assert len(reports) == 1
    assert attributes(recorded.one("invoke_agent planner"))["agentperf.grade"]
    assert "on_report" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_a_listener_ends_the_program_with_costs_no_span(recorded: Recording, kind: type[BaseException]) -> None:
    @on_report
    def leave(report: Report) -> None:
        raise kind(3)

    try:
        with pytest.raises(kind):
            agent(name="planner")(lambda: None)()
    finally:
        off_report(leave)
    assert "agentperf.grade" in attributes(recorded.only())


def test_a_listener_may_trace_itself(recorded: Recording, reports: list[Report]) -> None:
    @on_report
    def tracing(report: Report) -> None:
        if report.root.name == "invoke_agent planner":
            with agent("listener"):
                pass

    try:
        own_run(recorded)
    finally:
        off_report(tracing)
    assert sorted(roots(reports)) == ["invoke_agent listener", "invoke_agent planner"]


def test_an_error_of_ours_never_reaches_the_program(
    recorded: Recording, swallow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError

    for place in (
        "processor.looks_like_agent",
        *(f"reporting.{name}" for name in ("classify", "find_runs", "analyze", "enrich")),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"otel_agentperf.{place}", broken)
            assert own_run(recorded)
            assert genai_run(recorded)
    assert len([name for name in recorded.names if name == "invoke_agent planner"]) == 5


def test_more_spans_than_allowed(made: Callable[..., Recording], reports: list[Report]) -> None:
    made("simple", AgentPerfSpanProcessor(Config(max_spans=20)))
    with agent("large"):
        for _ in range(50):
            tool(name="t")(lambda: None)()
    (report,) = reports
    assert len(report.run.spans) == 20
    assert report.run.incomplete


@pytest.mark.parametrize("shape", ["roots", "children", "agents"])
def test_spans_that_never_end_leave_no_more_than_the_bounds(shape: str) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    processor = AgentPerfSpanProcessor(Config(max_runs=100, max_spans=1_000))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("x")
    context = set_span_in_context(tracer.start_span("root")) if shape != "roots" else None
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(40_000):
            tracer.start_span(f"{'invoke_agent' if shape == 'agents' else 'call'} {number}", context)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 8_000_000
    finally:
        tracemalloc.stop()


def test_500_runs_at_once(recorded: Recording, reports: list[Report]) -> None:
    @tool
    async def step() -> None:
        await asyncio.sleep(0)

    @agent
    async def run() -> None:
        await asyncio.gather(*(step() for _ in range(5)))

    async def main() -> None:
        await asyncio.gather(*(run() for _ in range(500)))

    asyncio.run(main())
    assert [report.calls("tool") for report in reports] == [5] * 500
    assert not any(report.run.incomplete for report in reports)


def test_nothing_is_kept_when_all_runs_have_ended(made: Callable[..., Recording]) -> None:
    processor = AgentPerfSpanProcessor()
    made(processor)
    for _ in range(20):
        with agent("a"):
            tool(name="t")(lambda x: x)(1)
    gc.collect()
    assert len(processor._buffer) == 0
    assert not state.siblings._calls
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Span) and thing.name == "execute_tool t"]


def test_below_a_foreign_parent_nothing_is_kept_either(recorded: Recording, tracer: Tracer) -> None:
    with tracer.start_as_current_span("GET /"):
        tool(name="t")(lambda x: x)(1)
    assert not state.siblings._calls


def test_the_concurrent_processor_of_the_sdk(reports: list[Report]) -> None:
    from opentelemetry.sdk.trace import ConcurrentMultiSpanProcessor

    kept = Kept()
    provider = TracerProvider(active_span_processor=ConcurrentMultiSpanProcessor(2), shutdown_on_exit=False)
    provider.add_span_processor(AgentPerfSpanProcessor())
    provider.add_span_processor(SimpleSpanProcessor(kept))
    name = genai_run(Recording(provider, kept))
    assert attributes(Recording(provider, kept).one(name))["agentperf.tool.calls"] == 3
    provider.shutdown()


def test_trace_api_is_not_needed_to_be_global() -> None:
    assert isinstance(trace.get_tracer_provider(), (trace.ProxyTracerProvider, TracerProvider))


def test_a_recorded_exception_names_the_error_of_a_span_that_does_not(
    made: Callable[..., Recording], reports: list[Report]
) -> None:
    tracer = made().provider.get_tracer("openinference")
    kinds = [{"openinference.span.kind": kind} for kind in ("AGENT", "TOOL")]
    with (
        tracer.start_as_current_span("bot", attributes=kinds[0]),
        pytest.raises(TimeoutError),
        tracer.start_as_current_span("t", attributes=kinds[1]),
    ):
        raise TimeoutError("content that stays where it is")
    assert [span.error for span in reports[0].run.spans] == [None, "TimeoutError"]
