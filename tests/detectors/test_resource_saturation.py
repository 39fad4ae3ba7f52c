from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from _traces import EPOCH_NS, Node, agent, db, findings, llm, run_of, the_finding, together, tool, wait
from otel_agentperf.analysis.runs import build_run
from otel_agentperf.model import AgentRun, FullCpu, ResourceUsage

KIND = "resource_saturation"


def full(start_s: float, seconds: float, own: float = 0.98, machine: float = 0.99) -> FullCpu:
    return FullCpu(EPOCH_NS + round(start_s * 1e9), round(seconds * 1e9), own, machine)


def used(trace: Node, *stretches: FullCpu, thresholds: dict[str, float] | None = None, **usage: Any) -> AgentRun:
    run = run_of(trace, thresholds=thresholds)
    root = replace(run.root, usage=ResourceUsage(cores=usage.pop("cores", 4.0), full_cpu=stretches, **usage))
    return build_run(root, [root, *run.spans[1:]], run.thresholds)


def queries(count: int, seconds: float = 0.2, **fields: Any) -> Any:
    return together(*[db(f"SELECT name FROM users WHERE id = {number}", seconds, **fields) for number in range(count)])


WORK = agent("a", llm(1.0), tool("train", 2.0))

SILENT = {
    "nothing measured": run_of(WORK),
    "nothing full": used(WORK, cpu_percent=50.0, memory_peak_mb=100.0, memory_limit_mb=1_000.0),
    "one busy thread on many cores": used(WORK, cpu_percent=100.0, cpu_peak_percent=100.0, cores=16.0),
    "a short burst": used(WORK, full(1.5, 0.3)),
    "a small part of a long run": used(agent("a", llm(20.0), tool("train", 2.0)), full(20.0, 2.0)),
    "while a model on another machine was waited for": used(agent("a", llm(3.0), tool("t", 0.2)), full(0.0, 3.0)),
    "beside the critical path": used(agent("a", together(tool("train", 2.0), llm(3.0))), full(0.0, 2.0)),
    "before the run": used(WORK, full(-3.0, 3.0)),
    "the user's own limit": used(WORK, full(1.0, 2.0), thresholds={f"{KIND}.cpu": 0.995}),
    "memory without a known limit": used(WORK, memory_peak_mb=9_000.0),
    "memory below the limit": used(WORK, memory_peak_mb=899.0, memory_limit_mb=1_000.0),
    "9 queries at the same time": run_of(agent("a", queries(9))),
    "many queries one after another": run_of(agent("a", *[queries(1) for _ in range(30)])),
    "10 queries for a moment": run_of(agent("a", queries(10, 0.002))),
    "10 queries of two agents": run_of(agent("a", together(agent("b", queries(5)), agent("c", queries(5))))),
    "10 queries of two libraries": run_of(agent("a", together(tool("x", queries(5, scope="asyncpg")),
                                                              tool("y", queries(5, scope="redis"))))),
    "10 connections inside 5 queries": run_of(
        agent("a", together(*[db("SELECT 1", db("connect", 0.2)) for _ in range(5)]))
    ),
    "10 tools at the same time": run_of(agent("a", together(*[tool("t", 0.5) for _ in range(20)]))),
    "10 queries, and a larger pool": run_of(agent("a", queries(15)), thresholds={f"{KIND}.db_spans@a": 50}),
}  # fmt: skip


@pytest.mark.parametrize("run", SILENT.values(), ids=SILENT.keys())
def test_silent(run: AgentRun) -> None:
    assert findings(run, KIND) == []


@pytest.mark.parametrize(
    ("run", "operation", "severity", "said"),
    [
        (used(WORK, full(1.0, 2.0)), "train", "warning", "4 cores were full, by this process, for 2.0 s"),
        (used(WORK, full(1.0, 0.8), full(2.0, 0.2)), "train", "info", "for 1.0 s"),
        (used(WORK, full(1.0, 2.0, own=0.3)), "train", "info", "all programs of the machine (30% by this process)"),
        (used(WORK, full(1.0, 2.0), cores=0.5), "train", "warning", "The 0.5 cores"),
        (used(agent("a", wait(2.0)), full(0.0, 2.0), cores=1.0), "a", "warning", "The 1 core were"),
        (used(WORK, memory_peak_mb=950.0, memory_limit_mb=1_000.0), "a", "warning", "950 MB of the 1,000 MB"),
        (run_of(agent("a", queries(10))), "SELECT name FROM users WHERE id = ?", "info", "10 database calls"),
        (run_of(agent("a", queries(25))), "SELECT name FROM users WHERE id = ?", "warning", "25 database calls"),
        (
            run_of(agent("a", together(*[tool("t", db("SELECT 1", 0.3)) for _ in range(12)]))),
            "SELECT ?",
            "info",
            "12 database calls",
        ),
    ],
)
def test_loud(run: AgentRun, operation: str, severity: str, said: str) -> None:
    finding = the_finding(run, KIND)
    assert (finding.operation, finding.severity) == (operation, severity)
    assert said in finding.recommendation
    assert finding.change is None
    assert finding.saving_s == finding.wasted_s == 0.0


def test_the_evidence_is_what_was_open_at_the_fullest_moment() -> None:
    run = run_of(agent("a", queries(3), queries(12), queries(3)))
    finding = the_finding(run, KIND)
    assert finding.calls == len(finding.evidence) == 12
    assert len({run.by_id[span_id].start_ns for span_id in finding.evidence}) == 1


def test_cpu_and_memory_are_two_findings() -> None:
    run = used(WORK, full(1.0, 2.0), memory_peak_mb=950.0, memory_limit_mb=1_000.0)
    assert {finding.operation for finding in findings(run, KIND)} == {"train", "a"}
