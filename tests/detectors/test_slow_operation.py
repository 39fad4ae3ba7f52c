from __future__ import annotations

from dataclasses import replace

import pytest

from _traces import (
    agent,
    calls_of,
    db,
    findings,
    http,
    llm,
    node,
    records,
    retrieval,
    run_of,
    saving_of,
    the_finding,
    together,
    tool,
    wait,
)
from otel_agentperf.analysis.runs import find_runs
from otel_agentperf.model import PastCalls

KIND = "slow_operation"


def _in_turns(*calls):
    return [part for call in calls for part in (call, llm(0.5))]


SILENT = {
    "a person who answers": agent("a", llm(1.0), tool("ask_human", 240.0), llm(1.0)),
    "a success beside attempts that were refused at once": agent(
        "a", *[tool("search", 0.003, args=i, error="Refused") for i in range(3)], tool("search", 1.0, args=9), llm(1.0)
    ),
    "the longest of the calls that four agents make": agent(
        "a", *[agent(f"agent {i}", tool("fetch", s)) for i, s in enumerate((0.3, 0.3, 0.3, 1.5))]
    ),
    "a long generation that wrote much": agent("a", llm(30.0, tokens=(100, 1500))),
    "a slow model at its usual speed": agent("a", *[llm(s, tokens=(50, int(12 * s))) for s in (12, 20, 6, 25, 15)]),
    "the request inside a model call": agent("a", llm(http("https://api.ai.io/chat", 8.0)), llm(1.0)),
    "a tool whose time is its model calls": agent("a", tool("ask", agent("helper", llm(7.0), llm(4.0))), llm(1.0)),
    "a tool whose time is model calls in nodes": agent(
        "a", tool("ask", node("step", llm(7.0)), node("step", llm(4.0)))
    ),
    "uniform, slightly noisy": agent(
        "a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (1.0, 1.2, 0.9, 1.1, 1.05)])
    ),
    "below the limit, nothing to compare with": agent("a", tool("t", 4.5), llm(0.5)),
    "beside the critical path": agent("a", together(tool("slow", 9.0), llm(9.5, tokens=(1, 900)))),
    "a small share of the run": agent("a", *[llm(9.0)] * 6, tool("t", 5.5)),
    "two calls do not make a median": agent("a", *_in_turns(tool("t", 0.2), tool("t", 1.5))),
    "an outlier that does not dominate": agent(
        "a", *_in_turns(*[tool("t", 0.1, args=i) for i in range(5)], tool("t", 0.8)), wait(8.0)
    ),
    "the agent itself": agent("a", wait(40.0)),
    "uniform, beyond the limit": agent("a", *_in_turns(*[tool("t", 7.0 + s, args=s) for s in (0.1, 0.4, 0.0, 0.3)])),
    "reads among quick writes to their url": agent(
        "a",
        *_in_turns(*[http("https://x.io/carts/7", s) for s in (0.41, 0.58, 0.35)]),
        *_in_turns(*[http("https://x.io/carts/7", 0.06, method="POST")] * 4),
    ),
    "a stream that did not tell its tokens": agent(
        "a", llm(14.0, more={"gen_ai.response.time_to_first_chunk": 0.4}), llm(1.0)
    ),
    "a background call that outlives the run": agent("a", 2.0, tool("log", 20.0, at=0.5)),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "a tool beyond its limit": (agent("a", llm(1.0), tool("t", 12.0)), agent("a", llm(1.0), tool("t", 5.0)), "t"),
    "an outlier among its peers": (
        agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 0.6, 4.0, 0.5, 0.55)])),
        agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 0.6, 0.55, 0.5, 0.55)])),
        "t",
    ),
    "an outlier beyond the limit": (
        agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 0.6, 9.0, 0.5, 0.55)])),
        agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 0.6, 0.55, 0.5, 0.55)])),
        "t",
    ),
    "a query": (
        agent("a", tool("t", db("SELECT * FROM big WHERE x = 5", 3.0)), llm(1.0)),
        agent("a", tool("t", db("SELECT * FROM big WHERE x = 5", 1.0)), llm(1.0)),
        "SELECT * FROM big WHERE x = ?",
    ),
    "a request": (
        agent("a", tool("t", http("https://x.io/a/7", 2.0)), llm(1.0)),
        agent("a", tool("t", http("https://x.io/a/7", 0.5)), llm(1.0)),
        "https://x.io/a/{id}",
    ),
    "a generation that wrote little": (
        agent("a", llm(30.0, tokens=(100, 50)), llm(1.0)),
        agent("a", llm(10.0, tokens=(100, 50)), llm(1.0)),
        "gpt",
    ),
    "half of the calls among their peers": (
        agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 9.0, 0.5, 0.1)])),
        agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 0.5, 0.5, 0.1)])),
        "t",
    ),
    "a stream that wrote little": (
        agent("a", llm(30.0, tokens=(100, 50), more={"gen_ai.response.time_to_first_chunk": 0.4}), llm(1.0)),
        agent("a", llm(10.0, tokens=(100, 50)), llm(1.0)),
        "gpt",
    ),
    "a generation of unknown tokens": (agent("a", llm(25.0)), agent("a", llm(10.0)), "gpt"),
    "a retrieval": (agent("a", retrieval("docs", 9.0), llm(1.0)), agent("a", retrieval("docs", 5.0), llm(1.0)), "docs"),
    "the work of a tool beside its model call": (
        agent("a", tool("ask", llm(2.0), wait(9.0))),
        agent("a", tool("ask", llm(2.0), wait(5.0))),
        "ask",
    ),
    "the steps inside a tool": (
        agent("a", tool("t", node("one", 6.0), node("two", 3.0))),
        agent("a", tool("t", node("one", 3.0), node("two", 2.0))),
        "t",
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert finding.calls == 1
    assert set(finding.evidence) <= set(calls_of(run, operation))
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert operation in finding.recommendation


def _called(*callee):
    """A request that another process answers, and the tool that makes it in a step."""
    server = node("POST /ask", *callee, at=0.1, remote_parent=True, process="two")
    request = http("https://helper.io/ask", 9.0, span_id="c" * 16)
    inside = records(server.but(parent_id="c" * 16), start_s=0.1)
    spans = [*records(agent("a", tool("ask", node("step", request)), llm(1.0))), *map(_elsewhere, inside)]
    return next(run for run in find_runs(spans) if run.root.operation == "a")


def _elsewhere(one):
    parent_id = one.parent_id if one.parent_id == "c" * 16 else f"2{one.parent_id[1:]}"
    return replace(one, process="two", span_id=f"2{one.span_id[1:]}", parent_id=parent_id)


def test_a_request_that_waits_for_an_agent_elsewhere_is_not_slow():
    assert findings(_called(agent("helper", llm(8.0))), KIND) == []
    assert the_finding(_called(wait(8.0)), KIND).operation == "https://helper.io/ask"


def test_a_tool_that_waits_for_an_agent_elsewhere_is_not_slow():
    span_id = "c" * 16
    inside = records(agent("helper", llm(8.0), parent_id=span_id, remote_parent=True), start_s=0.1)
    for call in (tool("ask", 9.0, span_id=span_id), tool("ask", node("step", 9.0, span_id=span_id))):
        spans = [*records(agent("a", call, llm(1.0))), *map(_elsewhere, inside)]
        run = next(run for run in find_runs(spans) if run.root.operation == "a")
        assert findings(run, KIND) == []


def test_the_slow_one_of_several_is_the_evidence():
    run = run_of(agent("a", *_in_turns(*[tool("t", s, args={"s": s}) for s in (0.5, 0.6, 4.0, 0.5, 0.55)])))
    finding = the_finding(run, KIND)
    assert [run.by_id[span_id].duration_s for span_id in finding.evidence] == [4.0]


def test_all_beyond_the_limit_are_one_finding():
    run = run_of(agent("a", *_in_turns(*[tool("t", 8.0, args={"i": i}) for i in range(3)])))
    finding = the_finding(run, KIND)
    assert (finding.calls, finding.saving_s) == (3, pytest.approx(9.0))


def test_severity_grows_with_the_share():
    assert the_finding(run_of(agent("a", tool("t", 30.0))), KIND).severity == "critical"
    assert the_finding(run_of(agent("a", *_in_turns(tool("t", 6.0), tool("u", 3.0)))), KIND).severity == "warning"


def test_the_user_sets_the_limit():
    trace = agent("a", tool("t", 4.5), llm(0.5))
    finding = the_finding(run_of(trace, thresholds={"slow_operation.tool_s": 1.0}), KIND)
    assert finding.saving_s == pytest.approx(3.5)


def test_what_a_more_specific_finding_says_is_not_said_again():
    calls = [tool("one", 7.0, call_id="1"), tool("two", 8.0, call_id="2")]
    run = run_of(agent("a", llm(0.5), *calls, llm(0.5)))
    assert [finding.kind for finding in findings(run)] == ["serialized_independent_calls"]


def test_a_specific_finding_about_a_small_part_does_not_hide_a_slow_call():
    calls = [tool("one", 25.0, call_id="1"), tool("two", 3.0, call_id="2")]
    run = run_of(agent("a", llm(0.5), *calls, llm(0.5)))
    assert [finding.kind for finding in findings(run)] == [KIND, "serialized_independent_calls"]


def test_the_user_sets_the_limit_of_one_operation_or_agent():
    trace = agent("a", *_in_turns(tool("t", 8.0), tool("u", 8.0)))
    slow = {finding.operation for finding in findings(run_of(trace), KIND)}
    assert slow == {"t", "u"}
    for scoped, left in {"t": {"u"}, "a": set(), "b": {"t", "u"}}.items():
        run = run_of(trace, thresholds={f"slow_operation.tool_s@{scoped}": 20.0})
        assert {finding.operation for finding in findings(run, KIND)} == left


def test_the_least_saving_of_one_operation():
    trace = agent("a", *_in_turns(tool("t", 8.0), tool("u", 8.0)))
    run = run_of(trace, thresholds={"min_saving_s@t": 5.0})
    assert {finding.operation for finding in findings(run, KIND)} == {"u"}


# --- its own history --------------------------------------------------------------------------------------


def _with_history(trace, kind="tool", name="t", p50=0.5, p95=0.9, thresholds=None):
    top, *rest = records(trace)
    (run,) = find_runs([replace(top, history=(PastCalls(kind, name, 40, p50, p95),)), *rest], thresholds)
    return run


def _writes(seconds, output):
    return llm(seconds, tokens=(100, output))


SILENT_BY_HISTORY = {
    "as ever": _with_history(agent("a", tool("t", 0.8), llm(1.0))),
    "beyond the percentile but not twice the median": _with_history(agent("a", tool("t", 0.95), llm(1.0))),
    "twice the median but within the percentile": _with_history(agent("a", tool("t", 2.0), llm(1.0)), p95=2.5),
    "of another kind": _with_history(agent("a", tool("t", 2.0), llm(1.0)), kind="http"),
    "of another name": _with_history(agent("a", tool("u", 2.0), llm(1.0))),
    "beside the critical path": _with_history(agent("a", together(tool("t", 2.0), llm(3.0)))),
    "slow by the call inside it": _with_history(agent("a", tool("t", tool("u", 2.0)), llm(1.0))),
    "a generation that wrote much": _with_history(agent("a", _writes(4.0, 400)), "llm", "gpt"),
    "a generation that did not tell how much": _with_history(agent("a", llm(4.0)), "llm", "gpt"),
    "too little to matter": _with_history(agent("a", tool("t", 0.05), llm(1.0)), p50=0.01, p95=0.02),
}


@pytest.mark.parametrize("run", SILENT_BY_HISTORY.values(), ids=SILENT_BY_HISTORY.keys())
def test_silent_by_history(run):
    assert findings(run, KIND) == []


def test_slower_than_in_nearly_all_earlier_runs():
    finding = the_finding(_with_history(agent("a", tool("t", 2.0), llm(1.0))), KIND)
    assert finding.saving_s == pytest.approx(1.5)
    assert finding.threshold == "tool 500 ms (median of 40 earlier calls)"


def test_a_generation_that_wrote_little_for_its_time():
    assert the_finding(_with_history(agent("a", _writes(4.0, 20)), "llm", "gpt"), KIND).saving_s == pytest.approx(3.5)


def test_what_is_usual_does_not_excuse_what_is_beyond_the_limit():
    finding = the_finding(_with_history(agent("a", tool("t", 8.0)), p50=8.0, p95=9.0), KIND)
    assert finding.threshold == "tool 5.0 s (limit)"


def test_the_user_sets_how_much_slower_than_ever_is_slow():
    trace = agent("a", tool("t", 2.0), llm(1.0))
    assert findings(_with_history(trace, thresholds={"slow_operation.history_factor@t": 5.0}), KIND) == []
