"""Selective monitoring: which runs are exported. All of them are analysed and counted."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from _programs import BIN, auto, run
from _recording import Kept
from otel_agentperf import AgentPerfSampler, AgentPerfSpanProcessor, TailSamplingProcessor, agent, tool
from otel_agentperf._config import Config
from otel_agentperf.capture.tracing import state
from otel_agentperf.sampling import hold, sampler


class Made:
    """A provider that exports by the given rules, and what it exported."""

    def __init__(self, rules: str, by: Sampler | None = None, resource: Resource | None = None, **tail: Any) -> None:
        self.kept = Kept()
        self.reader = InMemoryMetricReader()
        self.provider = TracerProvider(sampler=by, resource=resource, shutdown_on_exit=False)
        self.tail = TailSamplingProcessor(SimpleSpanProcessor(self.kept), **tail)
        self.provider.add_span_processor(self.tail)
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.provider.add_span_processor(AgentPerfSpanProcessor(Config(sampling=rules), meters))
        state.use(self.provider)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.kept.spans]

    @property
    def counted(self) -> int:
        """Runs that were scored."""
        data = self.reader.get_metrics_data()
        metrics = [metric for part in data.resource_metrics[0].scope_metrics for metric in part.metrics] if data else []
        points = [
            point for metric in metrics if metric.name == "agentperf.run.score" for point in metric.data.data_points
        ]
        return sum(point.count for point in points)  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before = {name: getattr(state, name) for name in type(state).__slots__}
    yield
    for name, value in before.items():
        setattr(state, name, value)


def one_run(name: str = "planner", error: type[Exception] | None = None, **settings: Any) -> None:
    with suppress(KeyError), agent(name, **settings):
        tool(name="search")(lambda: "found")()
        if error is not None:
            raise error


# --- decided when the run has ended -------------------------------------------------------------------------


def test_failing_runs_are_exported_whole_and_the_others_not() -> None:
    made = Made("error=1,0")
    one_run()
    one_run(error=KeyError)
    one_run("other")
    assert made.names == ["execute_tool search", "invoke_agent planner"]
    attributes = made.kept.spans[1].attributes or {}
    assert attributes["agentperf.sampled"] is True
    assert attributes["agentperf.sampling.rule"] == "error"
    assert attributes["agentperf.sampling.share"] == 1.0
    assert made.counted == 3, "those that are not exported are scored and counted all the same"


@pytest.mark.parametrize(
    ("rules", "exported"),
    [
        ("agent:plan*=1,0", True),
        ("agent:writer=1,0", False),
        ("env:prod=1,0", True),
        ("env:dev=1,0", False),
        ("complexity:2=1,0", True),
        ("complexity:4=1,0", False),
        ("grade:A=1,0", True),
        ("grade:F=1,0", False),
        ("slow:0=1,0", True),
        ("slow=1,0", False),
        ("findings=1,0", False),
        ("budget=1,0", False),
        ("agent:planner=0,1", False),
        ("rest=1", True),
        ("error=0", True),
    ],
)
def test_what_a_rule_is_about(rules: str, exported: bool) -> None:
    """The last one: what no rule speaks of is exported."""
    made = Made(rules, resource=Resource({"deployment.environment.name": "prod"}))
    with agent("planner"):
        for _ in range(3):
            tool(name="search")(lambda: "found")()
    assert bool(made.names) is exported


def test_a_run_that_is_over_its_budget_or_has_findings() -> None:
    for rules in (
        Config(sampling="budget=1,0", budgets="run.calls=1"),
        Config(sampling="findings=1,0", budgets="run.calls=1"),
        Config(sampling="findings:n_plus_one_calls=1,0"),
    ):
        kept = Kept()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(TailSamplingProcessor(SimpleSpanProcessor(kept)))
        provider.add_span_processor(AgentPerfSpanProcessor(rules))
        state.use(provider)
        with agent("planner"):
            for _ in range(3):
                tool(name="search")(lambda: "found")()
        assert bool(kept.spans) is (rules.budgets != ""), rules


def test_a_word_for_the_task() -> None:
    made = Made("complexity:high=1,0")
    one_run("easy", complexity="low")
    one_run("hard", complexity="high")
    assert made.names == ["execute_tool search", "invoke_agent hard"]


def test_a_share_of_the_rest_is_the_one_that_the_sdk_would_take() -> None:
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    made, by_ratio = Made("0.3"), TraceIdRatioBased(0.3)
    wanted = []
    for number in range(300):
        with agent(f"run {number}") as call:
            trace_id = call.span.get_span_context().trace_id
        if by_ratio.should_sample(None, trace_id, "").decision.is_sampled():
            wanted.append(f"invoke_agent run {number}")
    assert made.names == wanted
    assert 50 < len(wanted) < 130


def test_two_runs_in_one_trace_leave_together() -> None:
    made = Made("error=1,0")
    with state.tracer.start_as_current_span("GET /plan"):
        one_run("first")
        one_run("second", error=KeyError)
        one_run("third")
    assert made.names.count("execute_tool search") == 3
    assert made.names[-1] == "GET /plan"
    with state.tracer.start_as_current_span("GET /again"):
        one_run("first")
    assert "GET /again" not in made.names


def test_single_calls_outside_of_any_run_are_left_alone() -> None:
    made = Made("error=1,0")
    state.tracer.start_span("PUBLISH heartbeat").end()
    assert made.names == ["PUBLISH heartbeat"]
    with state.tracer.start_as_current_span("GET /plan"):  # the run of a trace without agents
        state.tracer.start_span("SELECT 1").end()
    assert made.names == ["PUBLISH heartbeat"]


def test_a_span_that_is_late() -> None:
    made = Made("error=1,0")
    with agent("dropped") as call:
        below = set_span_in_context(call.span)
    state.tracer.start_span("late", below).end()
    assert made.names == []
    with suppress(KeyError), agent("exported") as call:
        below = set_span_in_context(call.span)
        open_still = state.tracer.start_span("outlives its run", below)
        raise KeyError
    assert made.names == ["invoke_agent exported"]
    open_still.end()
    assert made.names == ["invoke_agent exported", "outlives its run"]


def test_a_late_span_of_what_only_the_end_took_is_taken_too() -> None:
    """The sampler left it out, as its trace."""
    rules = "error=1,0"
    made = Made(rules, by=AgentPerfSampler(Config(sampling=rules).sampling_rules()))
    with suppress(KeyError), agent("failed") as call:
        below = set_span_in_context(call.span)
        raise KeyError
    state.tracer.start_span("late", below).end()
    assert made.names == ["invoke_agent failed", "late"]


def test_two_requests_of_one_trace_are_decided_apart() -> None:
    made = Made("error=1,0")
    parent = NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1)))
    for error in (KeyError, None):
        with trace.use_span(parent):
            one_run(error=error)
    assert made.names == ["execute_tool search", "invoke_agent planner"]


def test_what_is_undecided_at_the_end_is_exported() -> None:
    made = Made("error=1,0")
    with agent("dropped"):
        pass
    with agent("going on"):
        tool(name="search")(lambda: "found")()
        assert made.names == []
        made.provider.shutdown()
        assert made.names == ["execute_tool search"]


def test_flushing_exports_what_is_decided() -> None:
    kept = Kept()
    made = Made("error=1,0")
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentPerfSpanProcessor(Config(sampling="error=1,0")))
    provider.add_span_processor(TailSamplingProcessor(BatchSpanProcessor(kept)))
    state.use(provider)
    one_run(error=KeyError)
    with agent("going on"):
        tool(name="search")(lambda: "found")()
        assert provider.force_flush()
        assert [span.name for span in kept.spans] == ["execute_tool search", "invoke_agent planner"]
    provider.shutdown()
    assert made.names == []


# --- bounds -------------------------------------------------------------------------------------------------


def test_the_oldest_trace_leaves_when_too_much_is_held() -> None:
    made = Made("error=1,0", most_spans=10)
    with agent("long"):
        for _ in range(25):
            tool(name="search")(lambda: "found")()
        assert made.tail._spans <= 11
        assert made.names
    assert made.names == ["execute_tool search"] * 25 + ["invoke_agent long"], "all of it, in order"
    one_run("dropped")
    assert "invoke_agent dropped" not in made.names
    assert (made.tail._spans, len(made.tail._traces)) == (0, 0)


def test_spans_with_much_text_on_them_count_as_many() -> None:
    kept = Kept()
    tail = TailSamplingProcessor(SimpleSpanProcessor(kept), most_spans=500)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(tail)
    tracer = provider.get_tracer("other")
    with tracer.start_as_current_span("invoke_agent a"):
        for _ in range(9):
            tracer.start_span("step", attributes={"text": "x" * 100_000}).end()
        assert kept.spans  # nine would not be too many


def test_text_of_events_and_in_lists_counts_as_well() -> None:
    for attributes, event in (({"texts": ["x" * 50_000] * 2}, {}), ({}, {"exception.message": "x" * 100_000})):
        kept = Kept()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(TailSamplingProcessor(SimpleSpanProcessor(kept), most_spans=500))
        tracer = provider.get_tracer("other")
        with tracer.start_as_current_span("invoke_agent a"):
            for _ in range(9):
                step = tracer.start_span("step", attributes=attributes)
                step.add_event("exception", event)
                step.end()
            assert kept.spans


@pytest.mark.parametrize(("bound", "least"), [("_longest_s", 0.0), ("_most_spans", 5)])
@pytest.mark.parametrize("by_sampler", [False, True])
def test_what_goes_on_beyond_the_bounds_stays_decided(bound: str, least: float, by_sampler: bool) -> None:
    """A worker's span that is open for hours: of the runs in it, those that are left out stay so."""
    rules = "error=1,0"
    made = Made(rules, AgentPerfSampler(Config(sampling=rules).sampling_rules()) if by_sampler else None)
    with state.tracer.start_as_current_span("worker"):
        with agent("first"):
            pass
        setattr(made.tail, bound, least)
        for _ in range(20):
            with agent("left out"):
                tool(name="search")(lambda: "found")()
        assert made.names == []
        assert made.tail._spans <= 8
        with suppress(KeyError), agent("failing"):
            raise KeyError
        assert made.names[-1] == "invoke_agent failing"
        taken = len(made.names)
        for _ in range(20):
            with agent("left out, but of a trace that is taken"):
                pass
    assert len(made.names) == taken + 21
    assert made.names[-1] == "worker"
    assert all(span.context.trace_flags.sampled for span in made.kept.spans if span.context)
    assert (made.tail._spans, len(made.tail._traces)) == (0, 0)


def test_a_run_is_held_for_some_time_at_most() -> None:
    made = Made("error=1,0", longest_s=0.0)
    with agent("endless"):
        tool(name="search")(lambda: "found")()
        tool(name="search")(lambda: "found")()
        assert made.names[0] == "execute_tool search"


def test_nothing_is_kept_of_thousands_of_runs() -> None:
    made = Made("error=1,0")
    for number in range(3_000):
        with agent(f"run {number % 7}"):
            pass
    assert (made.names, made.tail._spans, len(made.tail._traces)) == ([], 0, 0)
    assert len(made.tail._decided) <= 10_000


def test_runs_of_many_threads() -> None:
    made = Made("error=1,0")

    def work(number: int) -> None:
        one_run(f"run {number}", error=KeyError if number % 3 == 0 else None)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(300)))
    roots = {name for name in made.names if name.startswith("invoke_agent")}
    assert roots == {f"invoke_agent run {number}" for number in range(0, 300, 3)}
    assert len(made.names) == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on Windows")
def test_a_forked_child_exports_its_own_runs() -> None:
    made = Made("error=1,0")
    with agent("the parent's"):
        tool(name="search")(lambda: "found")()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            made.kept.spans.clear()
            with suppress(KeyError), trace.use_span(NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)), agent("child"):
                raise KeyError
            os.write(write, ",".join(made.names).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(read, 1_000).decode() == "invoke_agent child"
    assert made.names == []


# --- decided when the run starts ----------------------------------------------------------------------------


class Seen(SpanProcessor):
    def __init__(self) -> None:
        self.sampled: dict[str, bool] = {}

    def on_end(self, span: Any) -> None:
        self.sampled[span.name] = span.context.trace_flags.sampled


def head(rules: str) -> tuple[Made, Seen]:
    made = Made("", by=AgentPerfSampler(Config(sampling=rules).sampling_rules()))
    seen = Seen()
    made.provider.add_span_processor(seen)
    return made, seen


def test_the_sampler_takes_what_it_knows_at_the_start() -> None:
    made, seen = head("error=1,agent:planner=1,complexity:3=1,0")
    one_run()
    one_run("other", complexity=4)
    one_run("third", complexity=2)
    assert seen.sampled["invoke_agent planner"]
    assert seen.sampled["invoke_agent other"]
    assert not seen.sampled["invoke_agent third"]
    assert [name for name in made.names if name.startswith("invoke")] == ["invoke_agent planner", "invoke_agent other"]
    assert made.counted == 3


def test_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    made, _ = head("env:staging=0,1")
    one_run()
    assert made.names == []


def test_below_a_parent_its_decision_holds() -> None:
    made, seen = head("0")
    for sampled in (False, True):
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        parent = NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=flags))
        with trace.use_span(parent):
            one_run()
        assert seen.sampled == {"invoke_agent planner": sampled, "execute_tool search": sampled}
    assert made.counted == 2


def test_what_the_sampler_left_out_and_then_failed_is_exported_all_the_same() -> None:
    rules = "error=1,0"
    made = Made(rules, by=AgentPerfSampler(Config(sampling=rules).sampling_rules()))
    one_run()
    one_run(error=KeyError)
    assert made.names == ["execute_tool search", "invoke_agent planner"]
    assert all(span.context.trace_flags.sampled for span in made.kept.spans if span.context)


def test_a_sampler_that_cannot_tell_takes_the_run(swallow: None) -> None:
    class Broken(dict[str, Any]):
        def get(self, *args: Any) -> Any:
            raise RuntimeError

    result = AgentPerfSampler(Config(sampling="0").sampling_rules()).should_sample(None, 1, "x", attributes=Broken(a=1))
    assert result.decision.is_sampled()


def test_the_sampler_by_its_standard_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_AGENTPERF_SAMPLING", "0.5")
    assert sampler(None).get_description() == "AgentPerfSampler{rest=0.5}"
    assert sampler("agent:a=1,0.1").get_description() == "AgentPerfSampler{agent:a=1,rest=0.1}"


# --- the ways in --------------------------------------------------------------------------------------------

PROGRAM = """
from contextlib import suppress
from otel_agentperf import agent, tool

for name in ("good", "bad"):
    with suppress(KeyError), agent(name):
        tool(name=f"{name} tool")(lambda: 1)()
        if name == "bad":
            raise KeyError
"""
BAD = {"invoke_agent bad", "execute_tool bad tool"}


@pytest.mark.parametrize("by", [{}, {"OTEL_TRACES_SAMPLER": "agentperf"}])
def test_nothing_but_the_environment(tmp_path: Path, by: dict[str, str]) -> None:
    ran = auto(tmp_path, PROGRAM, OTEL_AGENTPERF_SAMPLING="error=1,0", **by)
    assert (ran.code, ran.errors) == (0, "")
    assert ran.spans.keys() == BAD


def test_under_agentperf_run_all_runs_are_reported(tmp_path: Path) -> None:

    report = tmp_path / "report.md"
    command = (str(BIN / "agentperf"), "run", "--format", "markdown", "--output", str(report))
    ran = run(tmp_path, PROGRAM, *command, OTEL_TRACES_EXPORTER="console", OTEL_AGENTPERF_SAMPLING="error=1,0")
    assert ran.code == 0
    assert ran.spans.keys() == BAD
    assert "good" in report.read_text()


def test_a_program_that_sets_up_its_own_provider(tmp_path: Path) -> None:
    program = """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    from opentelemetry.trace import set_tracer_provider

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter()))
    set_tracer_provider(provider)
    """
    rules = {"OTEL_AGENTPERF_SAMPLING": "error=1,0"}
    program = textwrap.dedent(program) + PROGRAM
    command = (str(BIN / "agentperf"), "run", "--output", str(tmp_path / "report.txt"))
    assert run(tmp_path, program, *command, **rules).spans.keys() == BAD
    in_code = "from otel_agentperf import instrument\ninstrument()\n" + program
    assert run(tmp_path, in_code, **rules).spans.keys() == BAD


def test_processors_of_others_are_not_touched() -> None:
    provider, seen = TracerProvider(shutdown_on_exit=False), Seen()
    provider.add_span_processor(seen)
    provider.add_span_processor(SimpleSpanProcessor(Kept()))
    hold(provider)
    hold(provider)
    kinds = [type(member) for member in provider._active_span_processor._span_processors]
    assert kinds == [Seen, TailSamplingProcessor]
