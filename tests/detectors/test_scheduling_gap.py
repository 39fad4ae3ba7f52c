from __future__ import annotations

from dataclasses import replace

import pytest

from _traces import (
    agent,
    db,
    findings,
    http,
    llm,
    node,
    records,
    run_of,
    saving_of,
    span,
    the_finding,
    together,
    tool,
    wait,
)
from otel_agentperf.analysis.runs import build_run
from otel_agentperf.model import ResourceUsage, Stall

KIND = "scheduling_gap"


def _cpu(seconds: float) -> dict[str, float]:
    return {"agentperf.cpu_time": seconds}


def _step(name: str, *parts, **fields):
    return node(name, *parts, **fields)


TURN, CALL, POLL = llm(1.0), tool("search", 0.5, args={"q": 1}), tool("job", 0.1, args={"id": 1})
LAST = tool("finish", 0.5)

SILENT = {
    "no gap": agent("a", TURN, CALL, TURN),
    "many tiny ones": agent("a", *[part for _ in range(20) for part in (wait(0.1), llm(0.1))]),
    "a long one that is a small share": agent("a", llm(20.0), wait(0.5), llm(20.0)),
    "the agent computes": agent("a", TURN, wait(2.0), TURN, more=_cpu(2.1)),
    "the agent computes, beside tools in other threads": agent(
        "a", TURN, tool("t", 3.0, cpu=2.9), wait(2.0), TURN, more=_cpu(2.1)
    ),
    "inside a tool": agent(
        "a", TURN, tool("t", http("https://x.io/a", 0.2), wait(2.0), http("https://x.io/b", 0.2)), TURN
    ),
    "inside a step of a tool": agent(
        "a", TURN, tool("t", _step("parse", db("SELECT 1", 0.2), wait(2.0), db("SELECT 2", 0.2))), TURN
    ),
    "inside a model call": agent("a", llm(2.0, http("https://x.io/a", 0.2)), CALL, TURN),
    "around the client of a framework's model call": agent(
        "a", llm(llm(1.0, scope="client"), wait(2.0), scope="fw"), CALL, TURN
    ),
    "a step without anything inside works": agent("a", TURN, _step("parse", 3.0), TURN),
    "beside a sibling that works": agent(
        "a", TURN, together(_step("listen", tool("x", 0.1), wait(2.0), tool("y", 0.1)), tool("job", 3.0)), TURN
    ),
    "for another branch": agent(
        "a",
        TURN,
        together(tool("job", 3.0), _step("wait_here", tool("x", 0.1), wait(3.5), tool("y", 0.1))),
        TURN,
    ),
    "an agent of which nothing was traced": agent("a", TURN, agent("b", 5.0), TURN),
    "only an agent": agent("a", 5.0),
    "only tools were traced": agent("a", wait(1.5), CALL, wait(1.5), CALL, wait(2.0)),
    "one agent's model was traced, the other's was not": agent(
        "boss", TURN, agent("worker", CALL, wait(1.5), tool("other", 0.5), wait(1.5)), TURN
    ),
    "start-up and clean-up": agent("a", wait(0.9), TURN, CALL, TURN, wait(0.9)),
    "a person": agent("a", TURN, _step("human_review", tool("notify", 0.1), wait(60.0), tool("read", 0.1)), TURN),
    "a person who was just asked": agent("a", TURN, tool("request_approval", 0.1), wait(60.0), tool("pay", 0.5), TURN),
    "a graph that was interrupted": agent("a", TURN, _step("interrupt", 0.0), wait(60.0), CALL, TURN),
    "between the turns of a conversation": span(
        "session",
        *(agent("bot", TURN), wait(30.0), agent("bot", TURN)),
        attributes={"gen_ai.operation.name": "invoke_workflow"},
    ),
    "polling": agent("a", TURN, POLL, wait(2.0), POLL, wait(2.0), POLL, TURN),
    "one quick retry that helped": agent(
        "a", llm(4.0), tool("book", 0.1, args={"id": 1}, error="x"), wait(1.0), tool("book", 0.1, args={"id": 1}), TURN
    ),
    "a backoff across steps": agent(
        "a",
        TURN,
        _step("try", CALL, tool("book", 0.1, error="x"), wait(1.0)),
        _step("try", CALL, tool("book", 0.1)),
        TURN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert [(finding.operation, finding.saving_s) for finding in findings(run_of(trace), KIND)] == []


LOUD = {
    "between a turn and a tool": (
        agent("a", TURN, wait(2.0), CALL, TURN, more=_cpu(0.05)),
        agent("a", TURN, CALL, TURN),
        "a",
    ),
    "in a step": (
        agent("a", TURN, _step("execute", wait(2.0), CALL), TURN),
        agent("a", TURN, _step("execute", CALL), TURN),
        "execute",
    ),
    "before the first turn": (agent("a", wait(3.0), TURN, TURN), agent("a", TURN, TURN), "a"),
    "a short one before the first turn, without CPU time": (
        agent("a", wait(0.5), TURN, TURN, more=_cpu(0.01)),
        agent("a", TURN, TURN),
        "a",
    ),
    "between two agents": (
        agent("team", agent("x", TURN, TURN), wait(3.0), agent("y", TURN, TURN)),
        agent("team", agent("x", TURN, TURN), agent("y", TURN, TURN)),
        "team",
    ),
    "in an agent that is a tool": (
        agent("boss", TURN, tool("ask", agent("helper", TURN, wait(2.0), TURN)), TURN),
        agent("boss", TURN, tool("ask", agent("helper", TURN, TURN)), TURN),
        "helper",
    ),
    "two of them": (
        agent("a", TURN, wait(1.0), CALL, TURN, wait(2.0), tool("other", 0.5), TURN),
        agent("a", TURN, CALL, TURN, tool("other", 0.5), TURN),
        "a",
    ),
    "in the branch that all wait for": (
        agent("a", TURN, together(_step("slow", CALL, wait(3.0), LAST), tool("other", 1.0)), TURN),
        agent("a", TURN, together(_step("slow", CALL, LAST), tool("other", 1.0)), TURN),
        "slow",
    ),
    "what is left when the others have ended": (
        agent("a", TURN, together(_step("slow", CALL, wait(3.0), LAST), tool("other", 2.5)), TURN),
        agent("a", TURN, together(_step("slow", CALL, wait(2.0), LAST), tool("other", 2.5)), TURN),
        "slow",
    ),
    "work in parallel that ends before": (
        agent("a", TURN, together(tool("x", 1.0), tool("y", 0.5)), wait(2.0), TURN),
        agent("a", TURN, together(tool("x", 1.0), tool("y", 0.5)), TURN),
        "a",
    ),
    "after a failure that nobody tried again": (
        agent("a", TURN, tool("book", 0.5, error="x"), wait(2.0), CALL, TURN),
        agent("a", TURN, tool("book", 0.5, error="x"), CALL, TURN),
        "a",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.02)
    assert operation in finding.recommendation
    assert operation in {run.by_id[span_id].operation for span_id in finding.evidence}


def test_without_cpu_time_it_may_be_work_and_is_information():
    finding = the_finding(run_of(agent("a", TURN, wait(5.0), CALL, TURN)), KIND)
    assert finding.severity == "info"
    assert "work that the trace does not show" in finding.recommendation
    assert "between gpt and search" in finding.recommendation


def test_with_next_to_no_cpu_time_it_waits():
    finding = the_finding(run_of(agent("a", TURN, wait(5.0), CALL, TURN, more=_cpu(0.1))), KIND)
    assert finding.severity == "critical"
    assert "no CPU was used" in finding.recommendation


def test_a_busy_machine_makes_work_last_longer_than_its_cpu_time():
    finding = the_finding(run_of(agent("a", TURN, wait(3.3), CALL, TURN, more=_cpu(0.8))), KIND)
    assert finding.severity == "info"


def test_cpu_time_of_the_calls_inside_leaves_it_open_who_used_it():
    trace = agent("a", TURN, tool("crunch", 3.0, cpu=2.9), wait(2.0), TURN, more=_cpu(3.0))
    assert the_finding(run_of(trace), KIND).severity == "info"


def test_a_process_that_did_nothing_waited_whatever_the_span_says():
    run = run_of(agent("a", TURN, wait(5.0), CALL, TURN))
    idle = replace(run.root, usage=ResourceUsage(cpu_percent=2.0))
    busy = replace(run.root, usage=ResourceUsage(cpu_percent=90.0))
    assert the_finding(build_run(idle, [idle, *run.spans[1:]]), KIND).severity == "critical"
    assert the_finding(build_run(busy, [busy, *run.spans[1:]]), KIND).severity == "info"


def test_a_loop_that_was_held_up_is_no_gap():
    run = run_of(agent("a", TURN, wait(5.0), CALL, TURN))
    held = replace(run.root, stalls=(Stall(run.root.start_ns + 1_000_000_000, 5_000_000_000, "app.py:1 f"),))
    assert findings(build_run(held, [held, *run.spans[1:]]), KIND) == []


def test_where_spans_are_missing_nobody_knows():
    spans = records(agent("a", TURN, wait(5.0), CALL, TURN))
    assert findings(build_run(spans[0], spans), KIND)
    assert findings(build_run(spans[0], spans, incomplete=True), KIND) == []


def test_a_call_of_another_process_is_no_gap():
    spans = records(agent("team", agent("x", TURN), agent("remote", wait(5.0), llm(0.1)), TURN))
    remote = next(one for one in spans if one.operation == "remote")
    assert findings(build_run(spans[0], spans, callers=frozenset({remote.span_id})), KIND) == []


def test_the_least_gap_can_be_set_for_an_agent():
    trace = agent("a", TURN, wait(2.0), CALL, TURN)
    assert findings(run_of(trace, thresholds={"scheduling_gap.gap_s@a": 3.0}), KIND) == []
    assert findings(run_of(trace, thresholds={"scheduling_gap.gap_s@b": 3.0}), KIND)


def test_a_wait_for_a_limit_is_told_as_one():
    run = run_of(agent("a", TURN, tool("x", 0.1, error="429"), wait(5.0), tool("x", 0.5), TURN))
    assert [finding.kind for finding in findings(run)] == ["rate_limited"]
