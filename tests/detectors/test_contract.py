"""What every detector keeps to, whatever the run."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from _random_runs import trees
from _traces import agent, llm, node, run_of, span, together, tool
from otel_agentperf._discover import discover
from otel_agentperf.analysis.analyze import analyze, find_bottlenecks
from otel_agentperf.model import AgentRun, Finding

DETECTORS = discover("detectors")
SEVERITIES = ("info", "warning", "critical")

WEIRD = {
    "a single span": agent("a", 1.0),
    "no agent": span("main", tool("t", 1.0), tool("t", 1.0)),
    "zero duration": agent("a", 0.0, *[tool("t", 0.0, args={"i": i}) for i in range(9)]),
    "all at the same time": agent("a", together(*[tool("t", 1.0, args={"i": i}, error="x") for i in range(9)])),
    "all of no length at one moment": agent("a", 3.0, *[tool("t", 0.0, at=1.0, args={"i": 1}) for _ in range(9)]),
    "children longer than the root": agent("a", 0.5, *[tool("t", 3.0, args={"i": i}, error="x") for i in range(9)]),
    "children after the root": agent("a", 0.5, *[tool("t", 3.0, at=9.0 + i, args={"i": i}) for i in range(9)]),
    "no names": agent("", tool("", 6.0, args={"i": 1}), tool("", 6.0, args={"i": 2}), llm(12.0, model="")),
    "only a model call": llm(60.0),
    "empty nodes": agent("a", *[node("x", node("y", node("z", 0.0))) for _ in range(9)]),
}


def check(run: AgentRun, finding: Finding, kind: str) -> None:
    assert finding.kind == kind
    assert finding.severity in SEVERITIES
    assert finding.operation
    assert finding.evidence
    assert set(finding.evidence) <= set(run.by_id)
    assert list(finding.evidence) == sorted(
        finding.evidence, key=lambda i: (run.by_id[i].start_ns, run.by_id[i].end_ns)
    )
    assert finding.wasted_s >= 0
    assert len(finding.recommendation) >= 20
    assert finding.operation in finding.recommendation
    assert finding.threshold


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("trace", WEIRD.values(), ids=WEIRD.keys())
def test_weird_runs_raise_nothing(kind, trace):
    run = run_of(trace)
    for finding in DETECTORS[kind].detect(run):
        check(run, finding, kind)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees(most=500), st.sampled_from(list(DETECTORS)))
def test_random_runs_raise_nothing(tree, kind):
    run = run_of(tree)
    for finding in DETECTORS[kind].detect(run):
        check(run, finding, kind)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees(most=80))
def test_what_is_reported_can_be_saved(tree):
    run = run_of(tree)
    found = find_bottlenecks(run)
    for finding in found:
        check(run, finding, finding.kind)
        assert 0 <= finding.saving_s <= run.root.duration_s
        assert 0 <= finding.saving_pct <= 100
    report = analyze(run)
    assert 0 <= report.efficiency <= 1
    assert report.saving_s >= max((finding.saving_s for finding in found), default=0.0) - 1e-9
