"""Findings that the user knows of."""

from __future__ import annotations

import json

import pytest

from _traces import agent, llm, run_of, tool
from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.enrich import report_attributes

TRACE = agent(
    "planner",
    llm(0.5),
    *[tool("search", 0.5, args={"page_of": number}) for number in range(6)],
    llm(0.5),
    tool("book", 8.0, args={}),
)


def reported(suppress: str = ""):
    return analyze(run_of(TRACE), Config(suppress=suppress))


def kinds(report):
    return {finding.kind for finding in report.findings}


def test_without_a_rule_there_are_two_findings():
    assert kinds(reported()) == {"n_plus_one_calls", "slow_operation"}
    assert reported().suppressed == ()


RULES = {
    "kind": "n_plus_one_calls=paged API",
    "operation alone": "search=paged API",
    "operation": ":search=paged API",
    "kind and operation": "n_plus_one_calls:search=paged API",
    "kind, operation and agent": "n_plus_one_calls:search@planner=paged API",
    "kind and agent": "n_plus_one_calls@planner=paged API",
    "pattern": "n_plus_*:se*=paged API",
    "json": json.dumps([{"kind": "n_plus_one_calls", "operation": "search", "reason": "paged API"}]),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_what_a_rule_matches_is_left_out_with_its_reason(rule):
    report = reported(rule)
    assert kinds(report) == {"slow_operation"}
    (suppressed,) = report.suppressed
    assert (suppressed.finding.kind, suppressed.reason) == ("n_plus_one_calls", "paged API")


def test_by_fingerprint():
    (finding,) = (finding for finding in reported().findings if finding.kind == "n_plus_one_calls")
    assert kinds(reported(f"{finding.fingerprint}=known")) == {"slow_operation"}


@pytest.mark.parametrize(
    "rule", ["n_plus_one_calls:book=x", ":searc=x", "retry_storm:search=x", "n_plus_one_calls@writer=x", "000000000000"]
)
def test_a_rule_that_does_not_match_leaves_all(rule):
    assert kinds(reported(rule)) == {"n_plus_one_calls", "slow_operation"}
    assert reported(rule).suppressed == ()


def test_the_first_rule_that_matches_gives_the_reason():
    report = reported("search=first;n_plus_one_calls=second")
    assert [suppressed.reason for suppressed in report.suppressed] == ["first"]


def test_neither_efficiency_nor_saving_nor_the_root_count_it():
    everything, report = reported(), reported("n_plus_one_calls=x")
    assert report.efficiency > everything.efficiency
    assert report.saving_s < everything.saving_s
    attributes = report_attributes(report)
    assert attributes["agentperf.bottleneck.count"] == 1
    assert attributes["agentperf.bottleneck.kinds"] == ("slow_operation",)
    assert "agentperf.bottleneck.n_plus_one_calls" not in attributes


def test_what_the_suppressed_one_had_replaced_does_not_come_up_instead():
    storm = agent("a", *[tool("book", 6.0, args={"id": 1}, error="timeout")] * 3, tool("book", 6.0, args={"id": 1}))
    assert kinds(analyze(run_of(storm))) == {"retry_storm"}
    assert kinds(analyze(run_of(storm), Config(suppress="retry_storm=x"))) == set()
