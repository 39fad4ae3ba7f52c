"""The attributes and events that a report becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from _traces import agent, llm, run_of, tool
from otel_agentperf import analyze
from otel_agentperf.enrich import critical_path_entries, enrich, finding_attributes, report_attributes
from otel_agentperf.model import CacheCounts, Finding, FullCpu, ResourceUsage, Stall


def report_of(*parts: Any, **fields: Any) -> Any:
    return analyze(run_of(agent("planner", *parts, **fields)))


def test_totals() -> None:
    found = report_attributes(
        report_of(
            llm(1.0, tokens=(100, 10)), tool("search", 0.5), tool("search", 0.5, error="E"), llm(1.0, tokens=(200, 20))
        )
    )
    assert found["agentperf.llm.calls"] == 2
    assert found["agentperf.tool.calls"] == 2
    assert found["agentperf.tool.errors"] == 1
    assert found["agentperf.tokens.input"] == 300
    assert found["agentperf.tokens.output"] == 30
    assert found["agentperf.incomplete"] is False


def test_what_was_not_measured_is_left_out() -> None:
    found = report_attributes(report_of(llm(1.0)))
    assert not {"agentperf.tokens.input", "agentperf.score.resource", "agentperf.process.memory"} & set(found)
    assert None not in found.values()


def test_what_only_the_process_knows_is_there_for_an_offline_analysis() -> None:
    from dataclasses import replace

    from otel_agentperf.analysis.classify import classify
    from otel_agentperf.analysis.runs import find_runs

    counts = (CacheCounts("embeddings", 10, 8, 0.001, 0.1),)
    run = run_of(agent("planner", llm(1.0)))
    usage = ResourceUsage(120.5, 30.0, 150.0, 512.0, 99.0, 1.5, 80.0, 40.0, (FullCpu(1, 2, 0.9, 0.95),))
    stalls = (Stall(1, 2, "app/tools.py:42 search", "c" * 16, ("d" * 16,), (1, 2)), Stall(3, 4, "x", elsewhere=True))
    measured = replace(run.root, counts=counts, usage=usage, stalls=stalls)
    (live,) = find_runs([measured, *run.spans[1:]])
    found = report_attributes(analyze(live))
    assert json.loads(found["agentperf.caches"])[0]["hits"] == 8

    from otel_agentperf.analysis.classify import RawSpan

    read = classify(RawSpan("a" * 32, "b" * 16, None, "invoke_agent planner", found, 0, 1))
    assert read.counts == counts
    assert read.usage == usage
    assert read.stalls == stalls


def test_the_critical_path_names_the_five_that_took_most() -> None:
    report = report_of(*(tool(f"t{number}", 1.0 + number) for number in range(7)))
    entries = list(critical_path_entries(report))
    assert entries[0] == "t6 25% 7.00s"
    assert len(entries) == 5


def test_a_run_of_no_duration() -> None:
    found = report_attributes(report_of(0.0))
    assert found["agentperf.critical_path"] == ()
    assert found["agentperf.efficiency"] == 1.0


def test_evidence_is_bounded() -> None:
    finding = Finding(
        kind="k",
        severity="info",
        operation="o",
        calls=1_000,
        wasted_s=0.0014,
        evidence=tuple(f"{number:016x}" for number in range(1_000)),
        threshold="t",
        recommend=lambda saving_s: f"save {saving_s}",
        saving_s=0.2,
    )
    found = finding_attributes(finding)
    assert len(found["evidence"]) == 64
    assert (found["wasted_ms"], found["saving_ms"], found["calls"]) == (1, 200, 1_000)
    assert found["recommendation"] == "save 0.2"


def test_broken_unicode_in_names() -> None:
    found = report_attributes(report_of(tool("bad\ud800name", 1.0)))
    assert found["agentperf.critical_path"] == ("bad?name 100% 1.00s",)


@pytest.mark.parametrize("span", [object(), None, type("Span", (), {"_attributes": {}, "_events": [], "_links": []})()])
def test_spans_of_another_make_are_left_alone(span: Any) -> None:
    assert enrich(span, report_of(llm(1.0))) is False


def test_the_history_that_was_used_is_read_back() -> None:
    from dataclasses import replace

    from otel_agentperf.analysis.classify import RawSpan, classify
    from otel_agentperf.analysis.runs import find_runs
    from otel_agentperf.model import PastCalls

    past = (PastCalls("tool", 'sear"ch', 42, 0.5, 0.912345), PastCalls("llm", "gpt", 31, 1.0, 4.0))
    run = run_of(agent("planner", llm(1.0)))
    (live,) = find_runs([replace(run.root, history=past), *run.spans[1:]])
    found = report_attributes(analyze(live))
    assert classify(RawSpan("a" * 32, "b" * 16, None, "invoke_agent planner", found, 0, 1)).history == past


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}", "7", '[["tool"]]', '[["tool", "x", 40, NaN, NaN]]', '[["tool", "x", 40, 2, 1]]', '["abcde"]'],
)
def test_a_history_that_is_not_ours_is_none(text: str) -> None:
    from otel_agentperf.analysis.classify import RawSpan, classify

    read = classify(RawSpan("a" * 32, "b" * 16, None, "invoke_agent a", {"agentperf.history": text}, 0, 1))
    assert read.history == ()
