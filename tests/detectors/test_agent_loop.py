from __future__ import annotations

import pytest

from _traces import (
    agent,
    calls_of,
    db,
    findings,
    llm,
    node,
    retrieval,
    run_of,
    saving_of,
    span,
    the_finding,
    tool,
    wait,
)

KIND = "agent_loop"
WORKFLOW = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "batch"}


def _search(result: object = "no hits", query: str = "flat lamp", seconds: float = 0.5, **fields):
    return tool("search", seconds, args={"q": query}, result=result, **fields)


def _open(**fields):
    return tool("open_page", 0.4, args={"url": "https://x.io/lamps"}, result="404", **fields)


def _loop(*steps, times: int = 4, turn=None):
    return [part for _ in range(times) for part in (turn or llm(0.6), *steps)]


def _chain(name: str, *parts):
    return span(name, *parts, attributes={"openinference.span.kind": "CHAIN"})


SILENT = {
    "twice": agent("a", *_loop(_search(), times=2), llm(1.0)),
    "polling that ends": agent(
        "a",
        *_loop(tool("get_job", 0.5, args={"id": 1}, result="0 of 9")),
        tool("get_job", 0.5, args={"id": 1}, result="9"),
    ),
    "polling that ends, in hashes": agent(
        "a", *_loop(_search(hashed=True)), llm(0.6), _search("a hit", hashed=True), llm(1.0)
    ),
    "polling whose result changed once, then stayed": agent(
        "a", *_loop(_search("queue of 9", hashed=True), times=1), *_loop(_search("queue of 8", hashed=True)), llm(1.0)
    ),
    "polling with a wait": agent(
        "a", *_loop(tool("get_page", 0.3, args={"n": 1}, result="page 1"), tool("wait", 0.5, args={"s": 1}, result="-"))
    ),
    "polling that never ends": agent("a", *_loop(tool("get_job", 0.5, args={"id": 1}, result={"state": "RUNNING"}))),
    "results that differ": agent("a", *[part for n in range(5) for part in _loop(_search(f"hit {n}"), times=1)]),
    "results of different sizes": agent(
        "a",
        *[
            part
            for size in (10, 20, 30, 40)
            for part in (llm(0.6), _search(None, more={"agentperf.result.size": size}))
        ],
    ),
    "arguments that differ": agent("a", *[part for n in range(5) for part in _loop(_search(query=f"q{n}"), times=1)]),
    "one of two calls makes progress": agent(
        "a", *[part for n in range(5) for part in _loop(_search(), _search(query=f"page {n}"), times=1)]
    ),
    "hidden arguments": agent("a", *_loop(tool("search", 0.5))),
    "hidden arguments, equal results": agent("a", *_loop(tool("search", 0.5, result="no hits"))),
    "arguments cut off": agent("a", *_loop(tool("search", 0.5, args="a long te...", result="no hits"))),
    "a loop in the code": agent("a", llm(1.0), *[_search()] * 6, llm(1.0)),
    "what a program decides": span("batch", *_loop(_search()), attributes=WORKFLOW),
    "something else in between": agent(
        "a", *[part for n in range(4) for part in (*_loop(_search(), times=1), *_loop(_search(query=f"q{n}"), times=1))]
    ),
    "different agents": agent("boss", *[agent(f"w{n}", llm(0.6), _search(), llm(0.6)) for n in range(4)]),
    "a new invocation each time": agent("boss", *[agent("w", llm(0.6), _search(), llm(0.6)) for _ in range(4)]),
    "acknowledged": agent("a", *_loop(tool("scroll", 0.5, args={"by": 100}, result="ok"))),
    "writes": agent("a", *_loop(tool("send_mail", 0.5, args={"to": "x"}, hashed=True, result="queued"))),
    "no arguments and hidden results": agent("a", *_loop(tool("next_page", 0.5, args={}))),
    "the same prompt again and no tool": agent("a", *[llm(1.0, messages="a joke", result="ha")] * 6),
    "a retrieval before each turn": agent(
        "a",
        *_loop(retrieval("docs", 0.5, more={"gen_ai.retrieval.query.text": "q", "gen_ai.retrieval.documents": "d"})),
    ),
    "failures only": agent("a", *_loop(_search(None, error="timeout"))),
    "a cycle of nine calls": agent("a", *_loop(*[_search(query=f"q{n}") for n in range(9)])),
    "tiny": agent("a", llm(60.0), *_loop(_search(seconds=0.01), turn=llm(0.01)), llm(1.0)),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "one call": (agent("a", *_loop(_search()), llm(1.0)), agent("a", *_loop(_search(), times=1), llm(1.0)), 4),
    "two calls in a turn": (
        agent("a", *_loop(_search(), _open()), llm(1.0)),
        agent("a", *_loop(_search(), _open(), times=1), llm(1.0)),
        8,
    ),
    "two turns with a call each": (
        agent("a", *_loop(_search(), llm(0.3), _open()), llm(1.0)),
        agent("a", *_loop(_search(), llm(0.3), _open(), times=1), llm(1.0)),
        8,
    ),
    "two calls whose order changes": (
        agent("a", *_loop(_search(), _open(), times=2), *_loop(_open(), _search(), times=2), llm(1.0)),
        agent("a", *_loop(_search(), _open(), times=1), llm(1.0)),
        8,
    ),
    "before and after other work": (
        agent("a", *_loop(_open(), times=1), *_loop(_search()), llm(1.0), tool("save", 0.2, args={"n": 1})),
        agent("a", *_loop(_open(), times=1), *_loop(_search(), times=1), llm(1.0), tool("save", 0.2, args={"n": 1})),
        4,
    ),
    "the last time cut short": (
        agent("a", *_loop(_search(), llm(0.3), _open(), times=3), *_loop(_search(), times=1), llm(1.0)),
        agent("a", *_loop(_search(), llm(0.3), _open(), times=1), llm(1.0)),
        7,
    ),
    "in nodes of a graph": (
        agent("a", *_loop(node("tools", _search()), turn=node("model", llm(0.6))), node("model", llm(1.0))),
        agent("a", *_loop(node("tools", _search()), turn=node("model", llm(0.6)), times=1), node("model", llm(1.0))),
        4,
    ),
    "in the chains of a traced graph": (
        _chain("graph", *[_chain("turn", llm(0.6), _search(), wait(0.05))] * 4, _chain("turn", llm(1.0))),
        _chain("graph", _chain("turn", llm(0.6), _search(), wait(0.05)), _chain("turn", llm(1.0))),
        4,
    ),
    "in a step around a whole turn": (
        agent("a", *[node("turn", llm(0.6), wait(0.3), _search(), wait(0.3))] * 4, node("turn", llm(1.0))),
        agent("a", node("turn", llm(0.6), wait(0.3), _search(), wait(0.3)), node("turn", llm(1.0))),
        4,
    ),
    "hashes": (
        agent("a", *_loop(_search(hashed=True)), llm(1.0)),
        agent("a", *_loop(_search(), times=1), llm(1.0)),
        4,
    ),
    "a failed and tried again model call": (
        agent("a", *_loop(_search()), llm(0.1, error="overloaded"), *_loop(_search()), llm(1.0)),
        agent("a", *_loop(_search(), times=1), llm(1.0)),
        8,
    ),
    "the tool fails, but another answers": (
        agent("a", *_loop(_search(), tool("get", 0.2, args={"i": 1}, error="x")), llm(1.0)),
        agent("a", *_loop(_search(), tool("get", 0.2, args={"i": 1}), times=1), llm(1.0)),
        8,
    ),
    "own time of the agent between the calls": (
        agent("a", *_loop(wait(0.2), _search(), wait(0.2)), llm(1.0)),
        agent("a", *_loop(wait(0.2), _search(), wait(0.2), times=1), llm(1.0)),
        4,
    ),
    "what the framework saves in between": (
        agent("a", *_loop(_search(), db("INSERT INTO steps VALUES (1)", 0.01)), llm(1.0)),
        agent("a", *_loop(_search(), times=1), llm(1.0)),
        4,
    ),
    "asked for below a workflow": (
        span("batch", *_loop(_search(call_id="c1")), llm(1.0), attributes=WORKFLOW),
        span("batch", *_loop(_search(), times=1), llm(1.0), attributes=WORKFLOW),
        4,
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "calls"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, calls):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation in ("search", "open_page")
    assert finding.calls == calls
    assert set(calls_of(run, finding.operation)) <= set(finding.evidence)
    assert finding.severity in ("warning", "critical")
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)


def test_the_last_answer_stays():
    run = run_of(agent("a", *_loop(_search()), llm(1.0)))
    answer = run.spans[-1]
    finding = the_finding(run, KIND)
    assert answer.span_id not in finding.evidence
    assert answer.span_id not in finding.change.drop


def test_with_hidden_results_it_is_only_information():
    finding = the_finding(run_of(agent("a", *_loop(_search(None)), llm(1.0))), KIND)
    assert finding.severity == "info"
    assert "the results are hidden" in finding.recommendation


def test_it_speaks_instead_of_the_kinds_for_single_calls():
    run = run_of(agent("a", *_loop(_search(seconds=6.0), _open()), llm(1.0)))
    assert [finding.kind for finding in findings(run)] == [KIND]


def test_the_same_loop_in_two_invocations_is_one_finding():
    worker = agent("w", *_loop(_search()), llm(0.5))
    assert the_finding(run_of(agent("boss", worker, llm(0.1), worker)), KIND).calls == 8


def test_the_user_sets_how_often():
    trace = agent("a", *_loop(_search()), llm(1.0))
    assert findings(run_of(trace, thresholds={"agent_loop.repeats@search": 5}), KIND) == []
    assert findings(run_of(trace, thresholds={"agent_loop.repeats@other": 5}), KIND) != []
    assert findings(run_of(trace, thresholds={"agent_loop.steps": 0}), KIND) == []


def test_the_recommendation_names_the_calls():
    text = the_finding(run_of(agent("a", *_loop(_search(), _open()), llm(1.0))), KIND).recommendation
    assert "search, open_page 4 times in a row" in text
