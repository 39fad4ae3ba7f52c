"""A trace goes through the Collector and is found again everywhere: whole, and without its secrets."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Span, Status, StatusCode, Tracer, format_span_id, format_trace_id

from e2e._read_back import (
    attributes,
    file_spans,
    get_json,
    jaeger_calls,
    jaeger_search,
    jaeger_trace,
    prometheus_query,
    spans_of,
)
from e2e._stack import Stack, free_ports, jaeger, local, wait_until

pytestmark = pytest.mark.e2e

KEY = "sk-proj-" + "a1B2" * 8
"""Shaped like a model provider's key; nobody's."""

ROOT_ATTRIBUTES = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "planner",
    "gen_ai.usage.input_tokens": 123,
    "gen_ai.usage.cache_read.input_tokens": 45,
    "agentperf.tokens.input": 123,
    "agentperf.tokens.output": 7,
    "agentperf.score": 0.625,
    "agentperf.grade": "D",
    "agentperf.incomplete": False,
    "agentperf.bottleneck.kinds": ["n_plus_one_calls", "slow_operation"],
    "agentperf.bottleneck.n_plus_one_calls": True,
    "agentperf.critical_path": ["execute_tool search 41% 1.23s", "chat 20% 0.61s"],
}
"""What has to arrive exactly as it was sent."""

FINDING = {"kind": "n_plus_one_calls", "calls": 12, "saving_ms": 830, "evidence": ["aa", "bb"]}

SECRETS = {
    "api_key": "hunter2",
    "http.request.header.authorization": ["Basic aHVudGVyMg=="],
    "session_token": "hunter2",
    "note": f"called with {KEY} twice",
    "gen_ai.tool.call.arguments": '{"user": "ada", "password": "hunter2"}',
    "messages": ["hello", f"Bearer {KEY}"],
    "db.url": "postgresql://ada:hunter2@db.example/trips",
    "log": "Authorization: Basic aHVudGVyMg==\nCookie: sid=hunter2; theme=hunter2",
    "environment": "AWS_SECRET_ACCESS_KEY = hunter2/hunter2 SECRET_KEY=hunter2 url=https://h/?token=hunter2&page=2",
}


@dataclass(frozen=True, slots=True)
class Sent:
    service: str
    trace_id: str
    root_id: str
    tool_id: str


@contextlib.contextmanager
def tracer_to(exporter: SpanExporter, **resource: str) -> Iterator[Tracer]:
    """A tracer whose spans have all been handed over when the block ends."""
    provider = TracerProvider(resource=Resource(resource))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("e2e")
    provider.shutdown()


def send_run(tracer: Tracer, service: str) -> Sent:
    """One agent run as the plugin reports it: an enriched root, and the tool call it points to."""
    with tracer.start_as_current_span("execute_tool search", attributes={"gen_ai.tool.name": "search"}) as tool:
        pass
    root = tracer.start_span("invoke_agent planner", attributes=ROOT_ATTRIBUTES | SECRETS)
    root.add_link(tool.get_span_context(), {"agentperf.evidence": "n_plus_one_calls"})
    root.add_event("agentperf.bottleneck", FINDING)
    root.add_event("exception", {"exception.message": f"no access for {KEY}"})
    root.set_status(Status(StatusCode.ERROR, f"AuthenticationError: invalid key {KEY}"))
    root.end()
    return Sent(service, trace_id(root), span_id(root), span_id(tool))


def trace_id(span: Span) -> str:
    return format_trace_id(span.get_span_context().trace_id)


def span_id(span: Span) -> str:
    return format_span_id(span.get_span_context().span_id)


def a_service() -> str:
    """A name of its own for each test, because they share one Jaeger."""
    return f"pipeline-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def sent(stack: Stack) -> Sent:
    service = a_service()
    with tracer_to(GrpcExporter(endpoint=stack.otlp_grpc, insecure=True), **{"service.name": service}) as tracer:
        return send_run(tracer, service)


@pytest.fixture(params=["jaeger", "file"])
def root(request: pytest.FixtureRequest, stack: Stack, sent: Sent) -> dict[str, Any]:
    """The root span as Jaeger, and as the Collector's file, has it."""
    read = {"jaeger": jaeger_trace, "file": file_spans}[request.param]
    (span,) = wait_until(lambda: read(stack, sent.trace_id), what=f"the trace in {request.param}")
    assert span["spanId"] == sent.root_id
    return span


def test_the_root_arrives_with_every_attribute_as_it_was(root: dict[str, Any]) -> None:
    assert root["name"] == "invoke_agent planner"
    arrived = attributes(root)
    assert {name: arrived.get(name) for name in ROOT_ATTRIBUTES} == ROOT_ATTRIBUTES


def test_findings_arrive_as_events_with_links_to_their_evidence(root: dict[str, Any], sent: Sent) -> None:
    finding = next(event for event in root["events"] if event["name"] == "agentperf.bottleneck")
    assert attributes(finding) == FINDING
    (link,) = root["links"]
    assert link["spanId"] == sent.tool_id
    assert attributes(link) == {"agentperf.evidence": "n_plus_one_calls"}


def test_no_secret_leaves_the_collector(root: dict[str, Any]) -> None:
    assert KEY not in str(root)
    assert "hunter2" not in str(root)
    assert "aHVudGVyMg" not in str(root)


def test_what_surrounds_a_secret_stays_readable(root: dict[str, Any]) -> None:
    arrived = attributes(root)
    assert arrived["api_key"] == "****"
    assert arrived["note"] == "called with **** twice"
    assert arrived["gen_ai.tool.call.arguments"].startswith('{"user": "ada", "')
    assert root["status"]["message"] == "AuthenticationError: invalid key ****"


def test_jaeger_finds_a_run_by_its_bottleneck_and_its_grade(stack: Stack, sent: Sent) -> None:
    flag = {"agentperf.bottleneck.n_plus_one_calls": "true"}
    found = wait_until(lambda: jaeger_search(stack, sent.service, **flag), what="the search to find the run")
    assert found == [sent.trace_id]
    assert jaeger_search(stack, sent.service, **{"agentperf.grade": "D"}) == [sent.trace_id]
    assert jaeger_search(stack, sent.service, **{"agentperf.grade": "A"}) == []


def test_the_monitor_tab_has_the_agents_operations(stack: Stack, sent: Sent) -> None:
    series = wait_until(lambda: jaeger_calls(stack, sent.service), what="call rates in Jaeger")
    labels = [{label["name"]: label["value"] for label in each["labels"]} for each in series]
    assert {each["operation"] for each in labels} == {"invoke_agent planner", "execute_tool search"}


def test_spans_are_counted_and_timed_in_prometheus(stack: Stack, sent: Sent) -> None:
    calls = f'traces_span_metrics_calls_total{{service_name="{sent.service}", agentperf_grade="D"}}'
    ((labels, count),) = wait_until(lambda: prometheus_query(stack, calls), what="the calls in Prometheus")
    assert count == 1
    assert labels["gen_ai_operation_name"] == "invoke_agent"
    assert labels["gen_ai_agent_name"] == "planner"
    buckets = f'traces_span_metrics_duration_seconds_bucket{{service_name="{sent.service}", le="600"}}'
    assert len(prometheus_query(stack, buckets)) == 2


def test_restarts_of_a_service_add_up_in_one_series(stack: Stack) -> None:
    service = a_service()
    for instance in ("first", "second"):
        resource = {"service.name": service, "service.instance.id": instance}
        with tracer_to(GrpcExporter(endpoint=stack.otlp_grpc, insecure=True), **resource) as tracer:
            tracer.start_span("invoke_agent planner").end()
    calls = f'traces_span_metrics_calls_total{{service_name="{service}"}}'

    def series() -> list[dict[str, str]]:
        return [labels for labels, count in prometheus_query(stack, calls) if count == 2]

    (labels,) = wait_until(series, what="two calls in one series")
    assert not {"first", "second"} & set(labels.values())
    assert "collector_instance_id" not in labels


def test_the_collector_takes_http_as_well(stack: Stack) -> None:
    exporter = HttpExporter(endpoint=f"{stack.otlp_http}/v1/traces")
    with tracer_to(exporter, **{"service.name": a_service()}) as tracer:
        span = tracer.start_span("invoke_agent planner")
        span.end()
    assert wait_until(lambda: jaeger_trace(stack, trace_id(span)), what="the trace in Jaeger")


def test_prometheus_reaches_every_target(stack: Stack) -> None:
    assert wait_until(
        lambda: [value for _, value in prometheus_query(stack, "up")] == [1, 1], what="both targets to be up"
    )


@pytest.mark.usefixtures("stack")  # for its skip where Jaeger is missing
def test_badger_keeps_traces_over_a_restart(tmp_path: Path) -> None:
    ports = free_ports()
    exporter = GrpcExporter(endpoint=local(ports.jaeger_otlp_grpc), insecure=True)
    address = local(ports.jaeger_http, "/api/v3/traces/")
    with jaeger(tmp_path, ports, "badger"), tracer_to(exporter, **{"service.name": a_service()}) as tracer:
        span = tracer.start_span("invoke_agent planner")
        span.end()
    with jaeger(tmp_path, ports, "badger"):
        kept = wait_until(lambda: get_json(address + trace_id(span)), what="the trace after the restart")
    assert len(spans_of(kept["result"])) == 1


def test_nobody_complains_about_the_configuration(stack: Stack, sent: Sent) -> None:
    said = [line for log in stack.logs for line in log.read_text().splitlines()]
    assert [line for line in said if "deprecated" in line.lower() or "\terror\t" in line] == []
