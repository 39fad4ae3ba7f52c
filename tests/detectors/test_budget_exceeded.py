from __future__ import annotations

from dataclasses import replace

import pytest

from _traces import agent, calls_of, db, findings, llm, records, run_of, span, the_finding, together, tool
from otel_agentperf._config import Config
from otel_agentperf._entries import budgets
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import ResourceUsage

KIND = "budget_exceeded"


def run_with(trace, budget, *, usage=None, costs=None):
    (run,) = find_runs([replace(one, usage=usage if one.parent_id is None else None) for one in records(trace)])
    return replace(run, budgets=budgets(budget, "BUDGETS"), costs=costs or {})


SILENT = {
    "no budget": (agent("a", tool("t", 9.0)), ""),
    "within": (agent("a", tool("t", 2.0)), "run.duration_s=2,tool.t.duration_s=2,tool.t.calls=1,agent.a.calls=1"),
    "of somebody else": (agent("a", tool("t", 9.0)), "tool.u.duration_s=1,agent.b.duration_s=1"),
    "of a tool that is called like the agent": (agent("t", tool("u", 9.0)), "tool.t.duration_s=1"),
    "each call within, though not their sum": (agent("a", *[tool("t", 1.0)] * 4), "tool.t.duration_s=2"),
    "tokens that nobody told": (agent("a", llm(9.0)), "run.tokens=1"),
    "tokens, where no model was called": (agent("a", tool("t", 9.0)), "run.tokens=1"),
    "a cost that nobody knows": (agent("a", llm(9.0, tokens=(9_000, 9_000))), "run.cost=0.0001"),
    "memory that was not measured": (agent("a", tool("t", 9.0)), "run.memory_mb=1,tool.t.memory_mb=1"),
    "CPU time that was not measured": (agent("a", tool("t", 9.0)), "run.cpu_s=1,tool.t.cpu_s=1"),
    "a failed model call that told no tokens": (agent("a", llm(1.0, error="429")), "run.tokens=1"),
    "an exact name before a pattern": (agent("a", tool("t", 4.0)), "tool.*.duration_s=1,tool.t.duration_s=5"),
    "queries and requests are not counted as calls": (agent("a", tool("t", *[db("SELECT 1", 0.1)] * 5)), "run.calls=1"),
    "a tool and its server's part of it": (
        agent("a", tool("t", span("tools/call t", 1.0, attributes={"mcp.method.name": "tools/call"}))),
        "run.calls=1,tool.t.calls=1",
    ),
}


@pytest.mark.parametrize(("trace", "budget"), SILENT.values(), ids=SILENT.keys())
def test_silent(trace, budget):
    assert findings(run_with(trace, budget), KIND) == []


LOUD = {
    "the run's time": (agent("a", tool("t", 3.0)), "run.duration_s=2", "a", "3.0 s", 1.0),
    "a tool's time": (agent("a", tool("t", 3.0)), "tool.t.duration_s=2", "t", "3.0 s", 1.0),
    "an agent's time": (agent("a", agent("b", llm(3.0))), "agent.b.duration_s=2", "b", "3.0 s", 1.0),
    "the time of any tool": (agent("a", tool("t", 3.0), tool("u", 1.0)), "tool.*.duration_s=2", "t", "3.0 s", 1.0),
    "a name with dots": (agent("a", tool("x.y.z", 3.0)), "tool.x.y.z.duration_s=2", "x.y.z", "3.0 s", 1.0),
    "the run's calls": (agent("a", llm(1.0), tool("t", 1.0), llm(1.0)), "run.calls=2", "a", "3 calls", 0),
    "a tool's calls": (agent("a", *[tool("t", 1.0)] * 3), "tool.t.calls=2", "t", "3 calls", 0),
    "a tool that must not be called": (agent("a", tool("rm", 1.0)), "tool.rm.calls=0", "rm", "1 call ", 0),
    "the calls an agent makes": (agent("a", agent("b", *[tool("t", 1.0)] * 3)), "agent.b.calls=2", "b", "3 calls", 0),
    "the run's tokens": (agent("a", llm(1.0, tokens=(900, 200))), "run.tokens=1000", "a", "1,100 tokens", 0),
    "an agent's tokens": (
        agent("a", llm(1.0, tokens=(900, 0)), agent("b", llm(1.0, tokens=(80, 30)))),
        "agent.b.tokens=100",
        "b",
        "110 tokens",
        0,
    ),
    "tokens an agent tells for its model": (
        agent("a", tool("t", 1.0), more={"gen_ai.usage.input_tokens": 500, "gen_ai.usage.output_tokens": 50}),
        "run.tokens=100",
        "a",
        "550 tokens",
        0,
    ),
    "the part of the tokens that is known": (
        agent("a", llm(1.0, tokens=(900, 200)), llm(1.0)),
        "run.tokens=1000",
        "a",
        "at least 1,100 tokens",
        0,
    ),
    "a tool's CPU time": (agent("a", tool("t", 3.0, cpu=2.5)), "tool.t.cpu_s=1", "t", "2.5 s of CPU", 0),
}


@pytest.mark.parametrize(("trace", "budget", "operation", "amount", "wasted"), LOUD.values(), ids=LOUD.keys())
def test_loud(trace, budget, operation, amount, wasted):
    finding = the_finding(run_with(trace, budget), KIND)
    assert finding.operation == operation
    assert amount in finding.recommendation
    assert finding.wasted_s == pytest.approx(wasted)
    assert (finding.saving_s, finding.change) == (0.0, None)
    assert finding.threshold == f"{budget.replace('=', ' = ')} (BUDGETS)"


def test_memory_and_cpu_of_the_run():
    usage = ResourceUsage(memory_mb=900.0, cpu_percent=50.0)
    run = run_with(agent("a", tool("t", 4.0)), "run.memory_mb=800,run.cpu_s=1.5,agent.a.memory_mb=800", usage=usage)
    told = {finding.threshold.split(" ")[0]: finding.recommendation for finding in findings(run, KIND)}
    assert set(told) == {"run.memory_mb", "run.cpu_s", "agent.a.memory_mb"}
    assert "900 MB" in told["run.memory_mb"]
    assert "2.0 s of CPU" in told["run.cpu_s"]


def test_the_cost_of_the_run_and_of_an_agent():
    trace = agent("a", llm(1.0, tokens=(1, 1)), agent("b", llm(1.0, tokens=(1, 1))))
    run = run_of(trace)
    costs = dict.fromkeys(calls_of(run, "gpt"), 0.25)
    found = findings(replace(run, budgets=budgets("run.cost=0.3,agent.b.cost=0.1"), costs=costs), KIND)
    assert {(finding.operation, finding.severity) for finding in found} == {("a", "warning"), ("b", "critical")}


def test_the_evidence_of_a_time_budget_are_the_calls_beyond_it():
    run = run_with(agent("a", tool("t", 1.0), tool("t", 3.0), tool("t", 4.0)), "tool.t.duration_s=2")
    finding = the_finding(run, KIND)
    assert finding.evidence == calls_of(run, "t")[1:]
    assert (finding.calls, finding.wasted_s) == (2, pytest.approx(3.0))


def test_an_agent_inside_itself_is_counted_once():
    run = run_with(agent("a", agent("a", llm(1.0, tokens=(60, 0)))), "agent.a.tokens=100")
    assert findings(run, KIND) == []


@pytest.mark.parametrize(("limit", "severity"), [(1.6, "warning"), (1.5, "critical"), (1.0, "critical")])
def test_critical_from_twice_the_budget(limit, severity):
    run = run_with(agent("a", tool("t", 3.0)), f"run.duration_s={limit}")
    assert the_finding(run, KIND).severity == severity


def test_what_is_slow_stays_slow_beside_a_budget():
    run = run_with(agent("a", tool("t", 9.0)), "tool.t.duration_s=2,run.duration_s=2")
    assert [finding.kind for finding in findings(run)].count("slow_operation") == 1


def test_it_does_not_touch_efficiency_and_saving():
    report = analyze(run_of(agent("a", together(tool("t", 3.0), tool("u", 3.0)))), Config(budgets="run.duration_s=1"))
    assert [finding.kind for finding in report.findings] == [KIND]
    assert (report.efficiency, report.saving_s) == (1.0, 0.0)


def test_two_budgets_of_one_run_are_told_apart():
    run = run_with(agent("a", tool("t", 3.0), tool("t", 3.0)), "run.duration_s=1,run.calls=1")
    assert len({finding.fingerprint for finding in findings(run, KIND)}) == 2


UNCHECKED = {
    "tokens that nobody told": ("run.tokens=1", agent("a", llm(1.0)), "told no tokens"),
    "tokens of which a part is known": (
        "run.tokens=99",
        agent("a", llm(1.0, tokens=(1, 1)), llm(1.0)),
        "told no tokens",
    ),
    "an unknown price": ("run.cost=1", agent("a", llm(1.0, tokens=(1, 1))), "price"),
    "no memory": ("run.memory_mb=1", agent("a", llm(1.0)), "memory"),
}


@pytest.mark.parametrize(("budget", "trace", "reason"), UNCHECKED.values(), ids=UNCHECKED.keys())
def test_the_report_says_which_budgets_could_not_be_checked(budget, trace, reason):
    report = analyze(run_of(trace), Config(budgets=budget))
    (unchecked,) = report.unchecked_budgets
    assert budget.partition("=")[0] in unchecked
    assert reason in unchecked


@pytest.mark.parametrize("budget", ["run.duration_s=9", "run.tokens=9", "run.tokens=1", "tool.x.tokens=5", ""])
def test_what_was_checked_is_not_among_the_unchecked(budget):
    report = analyze(run_of(agent("a", llm(1.0, tokens=(1, 1)))), Config(budgets=budget))
    assert report.unchecked_budgets == ()
