"""A real program, instrumented from outside, through the real pipeline; every way to its report tells the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from cli._run import environment
from e2e._read_back import attributes, file_spans, jaeger_search, jaeger_trace, prometheus_query
from e2e._stack import ROOT, Stack, wait_until

pytestmark = pytest.mark.e2e

PROGRAM = ROOT / "examples" / "trip_planner.py"
BIN = Path(sys.executable).parent
KINDS = {"retry_storm", "n_plus_one_calls", "serialized_independent_calls", "duplicate_calls", "ineffective_cache"}
SERVICES = {way: f"{way}-{uuid.uuid4().hex[:8]}" for way in ("grpc", "http", "run")}

ROOT_ATTRIBUTES: dict[str, type] = {
    "gen_ai.operation.name": str,
    "gen_ai.agent.name": str,
    "agentperf.score": float,
    "agentperf.score.success": float,
    "agentperf.score.speed": float,
    "agentperf.score.resource": float,
    "agentperf.grade": str,
    "agentperf.efficiency": float,
    "agentperf.bottleneck.count": int,
    "agentperf.bottleneck.kinds": list,
    "agentperf.saving_ms": int,
    "agentperf.critical_path": list,
    "agentperf.llm.calls": int,
    "agentperf.tool.calls": int,
    "agentperf.tool.errors": int,
    "agentperf.cache.hits": int,
    "agentperf.cache.misses": int,
    "agentperf.tokens.input": int,
    "agentperf.tokens.output": int,
    "agentperf.incomplete": bool,
    **{f"agentperf.bottleneck.{kind}": bool for kind in KINDS},
}
EVENT_ATTRIBUTES = {"kind", "severity", "operation", "calls", "wasted_ms", "saving_ms", "threshold", "recommendation",
                    "evidence"}  # fmt: skip


METRICS = {
    "agentperf_run_score_sum",
    "agentperf_run_efficiency_sum",
    "agentperf_bottlenecks_total",
    "agentperf_bottleneck_saving_seconds_sum",
    "agentperf_cache_lookups_total",
    "agentperf_agents_active",
    "agentperf_self_time_seconds_total",
    "gen_ai_invoke_agent_duration_seconds_count",
    "gen_ai_execute_tool_duration_seconds_count",
    "gen_ai_client_operation_duration_seconds_count",
    "gen_ai_client_token_usage_sum",
}


@pytest.fixture(scope="module")
def printed(stack: Stack) -> dict[str, str]:
    """What the program printed when run in three ways, all at once because it waits most of the time."""
    exporting = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_LOGS_EXPORTER": "none"}
    grpc = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_grpc}
    http = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http}
    auto = [BIN / "opentelemetry-instrument", sys.executable, PROGRAM]
    ways = {
        "grpc": (auto, grpc | exporting),
        "http": (auto, http | exporting),
        "run": ([BIN / "agentperf", "run", "--format", "json", PROGRAM], grpc),
    }
    started = {
        way: subprocess.Popen(
            command, env=environment(OTEL_SERVICE_NAME=SERVICES[way], **env), stdout=subprocess.PIPE, text=True
        )
        for way, (command, env) in ways.items()
    }
    out = {way: process.communicate(timeout=60)[0] for way, process in started.items()}
    assert {process.returncode for process in started.values()} == {0}
    return out


@pytest.fixture(scope="module")
def live(printed: dict[str, str]) -> dict[str, Any]:
    """The run as `agentperf run` reported it."""
    (run,) = json.loads(printed["run"].splitlines()[-1])["runs"]
    return dict(run)


@pytest.fixture(scope="module", params=["grpc", "http", "run"])
def trace(request: pytest.FixtureRequest, stack: Stack, printed: dict[str, str]) -> list[dict[str, Any]]:
    """The trace of each way, as Jaeger has it."""
    (found,) = wait_until(lambda: jaeger_search(stack, SERVICES[request.param]), what="the trace in Jaeger")
    return wait_until(lambda: whole(jaeger_trace(stack, found)), what="the whole trace in Jaeger")


def whole(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The spans, once all have arrived: 6 agents, 7 model calls, 21 tool calls, 8 misses of the cache."""
    return spans if len(spans) == 42 else []


def root_of(spans: list[dict[str, Any]]) -> dict[str, Any]:
    (root,) = (span for span in spans if not span.get("parentSpanId"))
    return root


def test_the_program_prints_what_it_always_does(printed: dict[str, str]) -> None:
    for text in printed.values():
        assert text.startswith("Fly NH204, see 12 sights, spend 2107 euros.\nThe first evening: table at Sushi Dai")


def test_the_whole_trace_arrives(trace: list[dict[str, Any]]) -> None:
    assert root_of(trace)["name"] == "invoke_agent trip_planner"
    names = [span["name"] for span in trace]
    assert names.count("execute_tool opening_hours") == 12
    assert names.count("execute_tool reserve_table") == 3
    assert names.count("chat demo-small") == 7
    ids = {span["spanId"] for span in trace}
    assert all(span["parentSpanId"] in ids for span in trace if span.get("parentSpanId"))


def test_the_root_carries_the_report(trace: list[dict[str, Any]]) -> None:
    arrived = attributes(root_of(trace))
    assert {name: type(arrived.get(name)) for name in ROOT_ATTRIBUTES} == ROOT_ATTRIBUTES
    assert set(arrived["agentperf.bottleneck.kinds"]) == KINDS
    assert arrived["agentperf.bottleneck.count"] == 5
    assert (arrived["agentperf.llm.calls"], arrived["agentperf.tool.calls"], arrived["agentperf.tool.errors"]) == (
        7, 21, 2)  # fmt: skip
    assert (arrived["agentperf.cache.hits"], arrived["agentperf.cache.misses"]) == (0, 8)
    assert arrived["agentperf.tokens.output"] == 84
    assert arrived["agentperf.incomplete"] is False
    assert 2_500 < arrived["agentperf.saving_ms"] < 4_500
    assert 0 < len(arrived["agentperf.critical_path"]) <= 5


def test_each_finding_is_an_event_and_its_evidence_is_linked(trace: list[dict[str, Any]]) -> None:
    root = root_of(trace)
    events = [attributes(event) for event in root["events"] if event["name"] == "agentperf.bottleneck"]
    assert {event["kind"] for event in events} == KINDS
    assert len(events) == 5
    assert all(set(event) >= EVENT_ATTRIBUTES for event in events)
    ids = {span["spanId"] for span in trace}
    assert {span_id for event in events for span_id in event["evidence"]} <= ids
    assert 0 < len(root["links"]) <= 8
    assert {link["spanId"] for link in root["links"]} <= ids


def test_no_content_leaves_by_default(trace: list[dict[str, Any]]) -> None:
    text = json.dumps(trace)
    assert "Senso-ji" not in text
    assert "the restaurant did not answer" not in text


@pytest.mark.parametrize("way", ["grpc", "http", "run"])
def test_jaeger_finds_the_run_by_its_bottlenecks_and_not_by_another_grade(
    stack: Stack, printed: dict[str, str], way: str
) -> None:
    flag = {"agentperf.bottleneck.n_plus_one_calls": "true"}
    found = wait_until(lambda: jaeger_search(stack, SERVICES[way], **flag), what="the search to find the run")
    assert len(found) == 1
    assert jaeger_search(stack, SERVICES[way], **{"agentperf.grade": "A"}) == []


def report(*args: object) -> tuple[dict[str, dict[str, Any]], str]:
    """The runs that `agentperf report` finds, by trace id, and what it complains about."""
    done = subprocess.run(
        [BIN / "agentperf", "report", "--format", "json", *map(str, args)],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {run["trace_id"]: run for run in json.loads(done.stdout)["runs"]}, done.stderr


def test_the_file_jaeger_and_the_live_report_tell_the_same(stack: Stack, live: dict[str, Any]) -> None:
    trace_id = live["trace_id"]
    wait_until(lambda: whole(file_spans(stack, trace_id)), what="the whole trace in the file")
    wait_until(lambda: whole(jaeger_trace(stack, trace_id)), what="the whole trace in Jaeger")
    of_file, said = report(stack.traces_file)
    assert said == ""
    of_service, said = report(stack.jaeger, "--service", SERVICES["run"], "--lookback", "10m", "--limit", 5)
    assert said == ""
    of_page, said = report(f"{stack.jaeger}/trace/{trace_id}")
    assert said == ""
    assert list(of_service) == list(of_page) == [trace_id]
    for found in (of_file, of_service, of_page):
        assert_same(found[trace_id], live)


def assert_same(found: Any, expected: Any, where: str = "run") -> None:
    """Equal, numbers to the microsecond."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=2e-6), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key, value in expected.items():
            assert_same(found[key], value, f"{where}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{number}]")
    else:
        assert found == expected, where


def test_options_choose_among_jaegers_traces(stack: Stack, live: dict[str, Any]) -> None:
    found, said = report(stack.jaeger, "--service", "nobody", "--lookback", "2h")
    assert found == {}
    assert said == f"agentperf: {stack.jaeger}: no traces of nobody in the last 2 h (see --lookback)\n"
    found, said = report(f"{stack.jaeger}/trace/{'d' * 32}")
    assert found == {}
    assert said.endswith(f"has no trace {'d' * 32} (any more)\n")
    both, _ = report(stack.jaeger, "--service", SERVICES["run"], "--service", SERVICES["grpc"])
    assert {run["service"] for run in both.values()} == {SERVICES["run"], SERVICES["grpc"]}


@pytest.mark.parametrize("way", ["grpc", "http", "run"])
def test_metrics_and_span_metrics_are_in_prometheus(stack: Stack, printed: dict[str, str], way: str) -> None:
    ours = f'{{__name__=~"(agentperf|gen_ai)_.*", job="{SERVICES[way]}"}}'

    def scraped() -> list[tuple[dict[str, str], float]]:
        found = prometheus_query(stack, ours)
        return found if {labels["__name__"] for labels, _ in found} >= METRICS else []

    # A scrape may fall between the traces' and the metrics' way through the Collector: all have to arrive.
    series = wait_until(scraped, what="all our metrics in Prometheus")
    values = {labels["__name__"]: value for labels, value in series}
    assert values["agentperf_run_score_count"] == 1
    labels = {name for found, _ in series for name in found}
    assert not {name for name in labels if re.search("(trace|span|run|session|user)_id|argument", name)}
    calls = f'traces_span_metrics_calls_total{{service_name="{SERVICES[way]}", span_name="execute_tool opening_hours"}}'
    ((_, count),) = wait_until(
        lambda: [found for found in prometheus_query(stack, calls) if found[1] >= 12], what="span metrics in Prometheus"
    )
    assert count == 12


def test_the_metrics_hold_what_the_report_says(stack: Stack, live: dict[str, Any]) -> None:
    def sums(expression: str) -> dict[str, float]:
        found = prometheus_query(stack, expression % f'job="{SERVICES["run"]}"')
        return {next(iter(labels.values()), ""): value for labels, value in found}

    (score,) = wait_until(lambda: sums("agentperf_run_score_sum{%s}").values(), what="the score in Prometheus")
    assert score == pytest.approx(live["score"])
    assert sums("sum by (gen_ai_tool_name) (gen_ai_execute_tool_duration_seconds_count{%s})")["opening_hours"] == 12
    tokens = sums("sum by (gen_ai_token_type) (gen_ai_client_token_usage_sum{%s})")
    assert tokens == {"input": live["tokens"]["input"], "output": live["tokens"]["output"]}
    assert sum(sums("sum(agentperf_bottlenecks_total{%s})").values()) == 5
    saving = sums("sum(agentperf_bottleneck_saving_seconds_sum{%s})")[""]
    assert saving == pytest.approx(sum(finding["saving_s"] for finding in live["findings"]))
    assert sums("sum(agentperf_cache_lookups_total{%s})")[""] == 8
