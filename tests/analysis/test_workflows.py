from __future__ import annotations

from dataclasses import replace

import pytest

from _traces import agent, findings, http, llm, records, retrieval, run_of, span, tool, wait
from otel_agentperf.analysis.runs import find_runs


def chain(name, *parts, **fields):
    return span(name, *parts, attributes={"openinference.span.kind": "CHAIN"}, **fields)


def runs(spans):
    return [(run.root.kind, run.root.operation, len(run.spans)) for run in find_runs(spans)]


def kinds(run):
    return [(member.kind, member.operation) for member in run.spans if member.chain]


@pytest.mark.parametrize("inside", [llm(1.0), tool("t", 1.0), agent("a", 1.0)])
def test_the_outermost_chain_is_a_workflow_and_the_others_are_steps(inside):
    run = run_of(chain("graph", chain("node", inside), chain("empty", 1.0)))
    assert kinds(run) == [("workflow", "graph"), ("other", "node"), ("other", "empty")]


def test_langsmiths_too():
    assert run_of(span("graph", llm(1.0), attributes={"langsmith.span.kind": "chain"})).root.kind == "workflow"


def test_a_crew_is_one_run():
    crew = chain("Crew.kickoff", agent("researcher", llm(1.0)), agent("writer", llm(1.0)))
    assert runs(records(crew)) == [("workflow", "Crew.kickoff", 5)]


def test_two_graphs_below_a_server_span_are_two_runs():
    server = span("POST /chat", chain("bot", chain("m", llm(1.0))), chain("bot", chain("m", llm(1.0))), side="server")
    assert runs(records(server)) == [("workflow", "bot", 3)] * 2


def test_a_chain_without_a_call_is_no_run():
    server = span("POST /", chain("format", 1.0), chain("look up", retrieval("docs", 1.0)), side="server")
    assert runs(records(server)) == [("other", "POST /", 4)]


def test_a_chain_inside_an_agent_is_a_step():
    run = run_of(agent("a", chain("node", llm(1.0))))
    assert kinds(run) == [("other", "node")]


def test_another_convention_knows_better():
    attributes = {"openinference.span.kind": "CHAIN", "gen_ai.operation.name": "execute_task"}
    assert run_of(span("task", llm(1.0), attributes=attributes)).root.kind == "other"


def test_the_server_span_of_a_process_that_a_graph_calls_is_no_run():
    caller = records(chain("bot", llm(1.0), http("https://b", 2.0, span_id="c" * 16)))
    called = records(span("GET /b", wait(1.0), side="server", span_id="d" * 16, parent_id="c" * 16), start_s=1.5)
    spans = [*(replace(one, process="one") for one in caller), *(replace(one, process="two") for one in called)]
    assert runs(spans) == [("workflow", "bot", 3)]


def test_a_span_that_is_its_own_parent():
    first, second = records(chain("bot", llm(1.0)))
    assert runs([replace(first, parent_id=first.span_id), second]) == [("workflow", "bot", 2)]


def test_a_graph_inside_a_graph_is_an_agent_of_its_own():
    """Its calls are not the repeats of another's."""

    def inner(name):
        call = tool("look_up", 0.5, args={"q": "tea"}, result="leaf")
        return chain(name, chain("m", llm(0.2)), chain("tools", call), chain("m", llm(0.2)))

    assert findings(run_of(chain("team", inner("one"), inner("two"), inner("three"))), "duplicate_calls") == []


def test_a_cycle_is_no_agent_of_its_own():
    call = tool("look_up", 0.5, args={"q": "tea"}, result="leaf")
    run = run_of(chain("bot", *[chain("cycle", llm(0.2), call)] * 3))
    assert [finding.kind for finding in findings(run)] == ["agent_loop"]
