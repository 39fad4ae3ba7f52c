"""What a run's end records, and the plugin's own numbers, read back through the SDK's metric reader."""

from __future__ import annotations

import gc
import json
import os
import threading
import timeit
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from _recording import Recording, recording
from otel_agentperf import AgentPerfSpanProcessor, _guard, agent, tool
from otel_agentperf._config import Config
from otel_agentperf.capture import counts
from otel_agentperf.capture.tracing import SCOPE, state
from otel_agentperf.metrics import Labels, Own
from otel_agentperf.model import CacheCounts

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


class Measured:
    """A provider whose runs are recorded by a reader of its own."""

    def __init__(self, recorded: Recording, reader: InMemoryMetricReader) -> None:
        self.recorded = recorded
        self.reader = reader
        self.tracer = recorded.provider.get_tracer(SCOPE)

    def span(
        self, name: str, seconds: float, attributes: dict[str, Any], parent: Any = None, at: float = 0, error: str = ""
    ) -> None:
        span = self.begin(name, attributes, parent, at)
        if error:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(START + int((at + seconds) * SECOND))

    def begin(self, name: str, attributes: dict[str, Any], parent: Any = None, at: float = 0) -> Any:
        context = set_span_in_context(parent) if parent is not None else None
        return self.tracer.start_span(name, context, attributes=attributes, start_time=START + int(at * SECOND))

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """(labels, data point) of a metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            (dict(point.attributes), point)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def only(self, name: str) -> tuple[dict[str, Any], Any]:
        (point,) = self.points(name)
        return point

    def units(self) -> dict[str, str]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: metric.unit
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def measured() -> Iterator[Measured]:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(meter_provider=meters)) as recorded:
        yield Measured(recorded, reader)
    meters.shutdown()


AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}
LLM = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "gpt",
    "gen_ai.usage.input_tokens": 1_000,
    "gen_ai.usage.output_tokens": 50,
    "gen_ai.response.time_to_first_chunk": 0.25,
}


def a_run(measured: Measured) -> None:
    root = measured.begin("invoke_agent planner", AGENT)
    measured.span("chat gpt", 1.0, LLM, root)
    for number in range(3):
        arguments = {"agentperf.args.hash": "a", "agentperf.result.hash": "r"}
        measured.span("execute_tool search", 0.5, {**TOOL, **arguments}, root, at=1 + number / 2)
    measured.span("execute_tool search", 0.5, TOOL, root, at=2.5, error="TimeoutError")
    root.end(START + 3 * SECOND)


def test_the_calls_of_a_run(measured: Measured) -> None:
    a_run(measured)
    labels, agents = measured.only("gen_ai.invoke_agent.duration")
    assert labels == {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
    assert (agents.count, agents.sum) == (1, 3.0)

    tools = {labels.get("error.type"): point for labels, point in measured.points("gen_ai.execute_tool.duration")}
    assert {error: (point.count, point.sum) for error, point in tools.items()} == {
        None: (3, 1.5),
        "TimeoutError": (1, 0.5),
    }
    assert dict(tools[None].attributes) == {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}

    labels, models = measured.only("gen_ai.client.operation.duration")
    assert labels == {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt"}
    assert (models.count, models.sum) == (1, 1.0)
    assert models.explicit_bounds[:3] == (0.01, 0.02, 0.04)

    tokens = {labels["gen_ai.token.type"]: point.sum for labels, point in measured.points("gen_ai.client.token.usage")}
    assert tokens == {"input": 1_000, "output": 50}
    _, first_chunk = measured.only("gen_ai.client.operation.time_to_first_chunk")
    assert first_chunk.sum == 0.25


def test_the_cost_of_a_run() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(Config(prices="gpt=1000/10000"), meters)) as recorded:
        measured = Measured(recorded, reader)
        a_run(measured)
        a_run(measured)
        labels, cost = measured.only("agentperf.cost")
    assert labels == {"gen_ai.agent.name": "planner"}
    assert cost.value == pytest.approx(2 * (1.0 + 0.5))


def test_the_report_of_a_run(measured: Measured) -> None:
    a_run(measured)
    root = measured.recorded.one("invoke_agent planner").attributes or {}
    labels, score = measured.only("agentperf.run.score")
    assert labels == {"gen_ai.agent.name": "planner"}
    assert (score.count, score.sum) == (1, root["agentperf.score"])
    assert measured.only("agentperf.run.efficiency")[1].sum == root["agentperf.efficiency"]
    kinds = {labels["kind"]: (labels, point) for labels, point in measured.points("agentperf.bottlenecks")}
    assert set(kinds) == set(root["agentperf.bottleneck.kinds"])
    labels, duplicates = kinds["duplicate_calls"]
    assert set(labels) == {"kind", "severity"}
    assert duplicates.value == 1
    saving = {labels["kind"]: point for labels, point in measured.points("agentperf.bottleneck.saving")}
    assert saving["duplicate_calls"].sum == pytest.approx(1.0)


def test_caches(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_sources", [])
    given = [[CacheCounts("embeddings", 10, 8, hit_s=0.001, miss_s=0.101)]]
    root = measured.begin("invoke_agent planner", AGENT)
    counts.register(lambda: given.pop() if given else [])
    root.end(START + SECOND)
    lookups = {labels["hit"]: (labels, point.value) for labels, point in measured.points("agentperf.cache.lookups")}
    assert lookups == {
        True: ({"cache": "embeddings", "hit": True}, 8),
        False: ({"cache": "embeddings", "hit": False}, 2),
    }
    labels, saved = measured.only("agentperf.cache.time_saved")
    assert labels == {"cache": "embeddings"}
    assert saved.value == pytest.approx(0.8)


def test_the_calls_of_other_instrumentations_are_theirs_to_record(measured: Measured) -> None:
    foreign = measured.recorded.provider.get_tracer("somebody.else")
    foreign.start_span("invoke_agent x", attributes=AGENT).end()
    assert not measured.points("gen_ai.invoke_agent.duration")
    assert measured.points("agentperf.run.score")


def test_running_agents(measured: Measured) -> None:
    with agent("a"), agent("b"):
        assert measured.only("agentperf.agents.active")[1].value == 2
    assert measured.only("agentperf.agents.active")[1].value == 0
    late = measured.tracer.start_span("late")
    late.set_attribute("gen_ai.operation.name", "invoke_agent")
    late.end()
    assert measured.only("agentperf.agents.active")[1].value == 0


def test_making_spans_is_part_of_the_plugins_own_time(measured: Measured) -> None:
    """Large arguments are hashed before the span's processors see anything of it."""
    numbers = list(range(1_500))
    least = min(timeit.repeat(lambda: state.hasher.parts({"numbers": numbers}), number=50, repeat=5))
    search = tool(name="search")(lambda numbers: None)
    with agent("a"):
        before = measured.only("agentperf.self.time")[1].value
        for _ in range(50):
            search(numbers)
        assert measured.only("agentperf.self.time")[1].value - before > least


def test_the_plugins_own_numbers(measured: Measured, swallow: None) -> None:
    with agent("a"):
        span = measured.tracer.start_span("open")
    span.end()
    _guard.swallowed("some place", ValueError())
    _guard.swallowed("some place", ValueError())
    assert 0 < measured.only("agentperf.self.time")[1].value < 1
    labels, dropped = measured.only("agentperf.self.dropped")
    assert (labels, dropped.value) == ({"reason": "late"}, 1)
    labels, errors = measured.only("agentperf.self.errors")
    assert (labels, errors.value) == ({"place": "some place", "error.type": "ValueError"}, 2)


def test_units(measured: Measured, swallow: None) -> None:
    a_run(measured)
    units = measured.units()
    assert units["gen_ai.client.token.usage"] == "{token}"
    for name, unit in units.items():
        if name.endswith((".duration", ".time", ".saving", "first_chunk")):
            assert unit == "s", name


# --- labels -----------------------------------------------------------------------------------------------


def test_100_000_tool_names_make_a_bounded_number_of_series() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(AgentPerfSpanProcessor(Config(max_spans=200_000), meters)) as recorded:
        measured = Measured(recorded, reader)
        for run in range(10):
            root = measured.begin(f"invoke_agent {run}", AGENT)
            for number in range(300):
                measured.span("t", 0.1, {**TOOL, "gen_ai.tool.name": f"tool {run} {number}"}, root)
            root.end(START + SECOND)
        points = measured.points("gen_ai.execute_tool.duration")
        assert len(points) == 201
        other = next(point for labels, point in points if labels["gen_ai.tool.name"] == "_OTHER")
        assert other.count == 3_000 - 200
    labels = Labels()
    for number in range(100_000):
        labels.bounded("tool", f"tool {number}")
    assert len(labels._seen["tool"]) == 200
    assert labels.bounded("tool", "tool 5") == "tool 5"
    assert labels.bounded("tool", "tool 5000") == "_OTHER"
    assert labels.bounded("agent", "tool 5000") == "tool 5000"


def test_labels_of_broken_unicode_can_be_exported(measured: Measured) -> None:
    for name in ("a\ud800", "b\ud800"):
        root = measured.begin("invoke_agent a", {**AGENT, "gen_ai.agent.name": name})
        measured.span("t", 0.1, {**TOOL, "gen_ai.tool.name": name}, root, error=name)
        root.end()
    found = measured.points("agentperf.run.score") + measured.points("gen_ai.execute_tool.duration")
    assert len(found) == 4
    for labels, _ in found:
        assert "?" in "".join(labels.values()).encode().decode()


def test_error_types_are_bounded_too(measured: Measured) -> None:
    root = measured.begin("invoke_agent planner", AGENT)
    for number in range(300):
        measured.span("t", 0.1, TOOL, root, error=f"Error{number}")
    root.end(START + SECOND)
    assert len(measured.points("gen_ai.execute_tool.duration")) == 201


def test_no_label_but_the_allowed_ones(measured: Measured) -> None:
    @tool
    def search(session_id: str) -> str:
        return session_id

    with agent("planner") as run:
        run.set("user.id", "u-1")
        for number in range(4):
            search(f"session-{number}")
    text = (measured.reader.get_metrics_data() or _missing()).to_json()
    labels = {
        key
        for resource in json.loads(text)["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
        for key in point["attributes"]
    }
    assert labels <= {
        "gen_ai.operation.name", "gen_ai.agent.name", "gen_ai.tool.name", "gen_ai.request.model", "gen_ai.token.type",
        "error.type", "kind", "severity", "cache", "hit", "reason", "place",
    }  # fmt: skip
    for value in ("session", "u-1"):
        assert value not in text


def _missing() -> Any:
    raise AssertionError("no metrics")


# --- locks ------------------------------------------------------------------------------------------------


def test_a_report_made_while_recording_on_the_same_thread_is_recorded_afterwards(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a signal handler's would be: the SDK's locks are not re-entrant."""
    from otel_agentperf.metrics import Metrics

    original: Callable[..., None] = Metrics._record_findings
    depth = 0

    def interrupted(self: Metrics, report: Any) -> None:
        nonlocal depth
        depth += 1
        assert depth == 1, "recording inside recording"
        if report.root.operation == "outer":
            with agent("handler"):
                pass
        original(self, report)
        depth -= 1

    monkeypatch.setattr(Metrics, "_record_findings", interrupted)
    with agent("outer"):
        pass
    assert {labels["gen_ai.agent.name"] for labels, _ in measured.points("agentperf.run.score")} == {"outer", "handler"}


def test_an_error_while_recording_is_swallowed_and_the_next_run_is_recorded(
    measured: Measured, monkeypatch: pytest.MonkeyPatch, swallow: None
) -> None:
    from otel_agentperf.metrics import Metrics

    def broken(self: Metrics, report: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Metrics, "_record_caches", broken)
        with agent("a"):
            pass
    with agent("b"):
        pass
    assert {labels["gen_ai.agent.name"] for labels, _ in measured.points("agentperf.run.score")} == {"a", "b"}
    assert _guard.counts == {("metrics.record", "RuntimeError"): 1}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forked_while_another_thread_records_can_record(measured: Measured) -> None:
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            with agent("busy"):
                pass

    worker = threading.Thread(target=busy)
    worker.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                with agent("child"):
                    pass
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        worker.join()


def test_tools_and_error_types_together_are_bounded(measured: Measured) -> None:
    root = measured.begin("invoke_agent planner", AGENT)
    for number in range(2_000):
        told = {**TOOL, "gen_ai.tool.name": f"tool {number % 150}"}
        measured.span("t", 0.1, told, root, error=f"Error{number % 170}")
    root.end(START + SECOND)
    points = measured.points("gen_ai.execute_tool.duration")
    assert len(points) <= 400 + 150
    assert sum(point.count for _, point in points) == 2_000
    assert {labels["gen_ai.tool.name"] for labels, _ in points} == {f"tool {number}" for number in range(150)}


def test_several_processors_of_one_meter_provider_are_told_together() -> None:
    """The SDK keeps the first of several instruments of one name: what the second processor dropped was nowhere."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    first, second = (AgentPerfSpanProcessor(Config(max_spans=10), meters) for _ in range(2))
    gone = weakref.ref(second)
    with recording(first) as one, recording(second) as other:
        both = [Measured(recorded, reader) for recorded in (one, other)]
        roots = [measured.begin("invoke_agent a", AGENT) for measured in both]
        for measured, root, calls in zip(both, roots, (20, 50), strict=True):
            for number in range(calls):
                measured.span(f"execute_tool {number}", 1, TOOL, root)
        [(_, active)] = both[0].points("agentperf.agents.active")
        assert active.value == 2
        for root in roots:
            root.end()
    [(labels, dropped)] = both[0].points("agentperf.self.dropped")
    assert (labels, dropped.value) == ({"reason": "full"}, 11 + 41)
    [(_, spent)] = both[0].points("agentperf.self.time")
    del both[1], measured, other, second, root, roots
    gc.collect()
    assert gone() is None
    [(_, dropped)] = both[0].points("agentperf.self.dropped")
    assert dropped.value == 11 + 41, "a counter may not fall"
    [(_, later)] = both[0].points("agentperf.self.time")
    assert later.value >= spent.value > 0


def test_processors_that_come_and_go_add_up_and_are_not_kept() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    kept = []
    for _ in range(5):
        with recording(AgentPerfSpanProcessor(Config(max_spans=1), meters)) as recorded:
            measured = Measured(recorded, reader)
            root = measured.begin("invoke_agent a", AGENT)
            measured.span("execute_tool t", 1, TOOL, root)
            root.end()
            [(_, dropped)] = measured.points("agentperf.self.dropped")
        del recorded, root, measured
        gc.collect()
        kept.append(len(Own._all))
    assert dropped.value == 5
    assert kept[-1] <= kept[0]


def test_an_agent_that_two_processors_of_one_provider_see_is_one() -> None:
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    with recording(*(AgentPerfSpanProcessor(meter_provider=meters) for _ in range(2))) as recorded:
        measured = Measured(recorded, reader)
        root = measured.begin("invoke_agent a", AGENT)
        [(_, active)] = measured.points("agentperf.agents.active")
        assert active.value == 1
        root.end()


@pytest.mark.parametrize("fails", ["get_meter", "create_counter"])
def test_a_meter_provider_that_fails_costs_no_report(fails: str, swallow: None) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError

    class Failing(MeterProvider):
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            meter: Any = super().get_meter(*args, **kwargs)
            setattr(meter, fails, fail)
            return fail() if fails == "get_meter" else meter

    meters = Failing(shutdown_on_exit=False)
    before = _guard.counts.get(("metrics", "OSError"), 0)
    with recording(AgentPerfSpanProcessor(meter_provider=meters)) as recorded:
        recorded.provider.get_tracer("theirs").start_span("invoke_agent a").end()
        assert "agentperf.score" in (recorded.only().attributes or {})
    assert _guard.counts["metrics", "OSError"] == before + 1
