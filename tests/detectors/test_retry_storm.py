from __future__ import annotations

import pytest

from _traces import (
    agent,
    calls_of,
    db,
    findings,
    http,
    llm,
    node,
    run_of,
    saving_of,
    the_finding,
    together,
    tool,
    wait,
)

KIND = "retry_storm"


def _try(seconds: float = 0.3, error: str | None = "timeout", number: int = 1, **fields):
    return tool("book", seconds, args={"id": number}, error=error, **fields)


def _helped(**fields):
    return _try(error=None, **fields)


SILENT = {
    "no failure": agent("a", _helped(), _helped(), _helped()),
    "one quick retry that helped": agent("a", llm(4.0), _try(), wait(0.2), _helped(), llm(1.0)),
    "a slow backoff but little failed time": agent("a", llm(4.0), _try(0.1), wait(1.0), _helped(), llm(1.0)),
    "one failure, never tried again": agent("a", _try(3.0), llm(1.0)),
    "failures of different items": agent("a", *[_try(number=i) for i in range(8)]),
    "failures of different urls": agent("a", *[http(f"https://x.io/u/{i}", 0.4, status=500) for i in range(8)]),
    "items of a loop with hidden arguments": agent(
        "a", *[part for _ in range(4) for part in (tool("get", 0.3, error="x"), tool("get", 0.3))]
    ),
    "a failure, a turn, and another call of the tool": agent(
        "a", tool("get", 1.0, error="x"), llm(0.5), tool("get", 1.0, error="x"), llm(0.5), tool("get", 1.0)
    ),
    "at the same time": agent("a", together(_try(2.0), _try(2.0), _try(2.0)), llm(0.5)),
    "two agents fail at the same": agent("b", agent("one", _try(1.0)), agent("two", _try(1.0)), llm(0.1)),
    "after a success it is a new call": agent("a", llm(9.0), *[x for _ in range(3) for x in (_try(), _helped())]),
    "tiny": agent("a", llm(5.0), *[_try(0.01)] * 5, _helped()),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "with backoff": (
        agent("a", llm(1.0), _try(), wait(0.5), _try(), wait(1.0), _helped(), llm(1.0)),
        agent("a", llm(1.0), _helped(), llm(1.0)),
        "book",
    ),
    "without backoff": (
        agent("a", llm(1.0), _try(), _try(), _try(), _helped(), llm(1.0)),
        agent("a", llm(1.0), _helped(), llm(1.0)),
        "book",
    ),
    "two attempts, but long ones": (
        agent("a", llm(1.0), _try(2.0), wait(0.1), _helped(), llm(1.0)),
        agent("a", llm(1.0), _helped(), llm(1.0)),
        "book",
    ),
    "never helped": (agent("a", llm(1.0), *[_try()] * 4), agent("a", llm(1.0), _try()), "book"),
    "across model turns": (
        agent("a", llm(0.2), _try(), llm(0.2), _try(), llm(0.2), _helped(), llm(0.2)),
        agent("a", llm(0.2), llm(0.2), llm(0.2), _helped(), llm(0.2)),
        "book",
    ),
    "in nodes of their own": (
        agent("a", node("tools", _try(0.5)), wait(0.5), node("tools", _try(0.5)), wait(1.0), node("tools", _helped())),
        agent("a", node("tools", _helped())),
        "book",
    ),
    "with hidden arguments": (
        agent(
            "a",
            llm(0.2),
            *[part for _ in range(3) for part in (tool("book", 0.3, error="x"), wait(0.2))],
            tool("book", 0.3),
        ),
        agent("a", llm(0.2), tool("book", 0.3)),
        "book",
    ),
    "hidden arguments in one of several turns": (
        agent("a", llm(0.2), *[tool("book", 0.3, error="x")] * 3, tool("book", 0.3), llm(0.2), tool("book", 0.3)),
        agent("a", llm(0.2), tool("book", 0.3), llm(0.2), tool("book", 0.3)),
        "book",
    ),
    "requests": (
        agent(
            "a",
            tool(
                "t",
                http("https://x.io/a", 0.4, status=502),
                wait(0.4),
                http("https://x.io/a", 0.4, status=502),
                wait(0.4),
                http("https://x.io/a", 0.4),
            ),
        ),
        agent("a", tool("t", http("https://x.io/a", 0.4))),
        "https://x.io/a",
    ),
    "posts": (
        agent(
            "a",
            tool(
                "t",
                *[http("https://x.io/a", 0.4, method="POST", status=500)] * 3,
                http("https://x.io/a", 0.4, method="POST"),
            ),
        ),
        agent("a", tool("t", http("https://x.io/a", 0.4, method="POST"))),
        "https://x.io/a",
    ),
    "queries": (
        agent("a", *[db("SELECT 1 FROM t", 0.4, error="Deadlock")] * 3, db("SELECT 1 FROM t", 0.4)),
        agent("a", db("SELECT 1 FROM t", 0.4)),
        "SELECT ? FROM t",
    ),
    "model calls": (
        agent(
            "a",
            llm(0.5, error="APITimeoutError"),
            wait(1.0),
            llm(0.5, error="APITimeoutError"),
            wait(2.0),
            llm(1.0),
            _helped(),
            llm(1.0),
        ),
        agent("a", llm(1.0), _helped(), llm(1.0)),
        "gpt",
    ),
    "inside a tool of another instrumentation": (
        agent("a", tool("book", _try(scope="s"), _try(scope="s"), _helped(scope="s"), args={"id": 1}, scope="fw")),
        agent("a", tool("book", _helped(scope="s"), args={"id": 1}, scope="fw")),
        "book",
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert set(finding.evidence) <= set(calls_of(run, operation))
    assert finding.calls == len(finding.evidence) >= 2
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert operation in finding.recommendation


def test_arguments_that_only_the_success_shows_are_not_different_ones():
    attempts = [part for _ in range(3) for part in (llm(2.0, error="InternalServerError"), wait(1.0))]
    run = run_of(agent("a", tool("summarize", *attempts, llm(2.0, messages="a long text")), llm(1.0)))
    assert the_finding(run, KIND).saving_s == pytest.approx(9.0)


def test_a_models_attempts_each_in_a_node_of_its_own():
    attempts = [part for _ in range(3) for part in (node("model", llm(2.0, error="InternalServerError")), wait(0.5))]
    repaired = agent("a", node("model", llm(2.0)), node("tools", tool("t", 0.5)))
    run = run_of(agent("a", *attempts, *repaired.children))
    assert [finding.kind for finding in findings(run)] == [KIND]
    assert the_finding(run, KIND).saving_s == pytest.approx(7.5)


def test_what_ended_between_the_attempts_was_not_waited_for():
    attempts = [_try(0.4, at=0.0), _try(0.4, at=0.9), _try(0.4, at=1.8), _helped(at=2.7)]
    beside = tool("steady", 2.5, at=0.0)
    broken, repaired = agent("a", *attempts, beside), agent("a", _helped(at=0.0), beside)
    assert the_finding(run_of(broken), KIND).saving_s == pytest.approx(saving_of(broken, repaired), rel=0.05)


def test_the_tool_around_the_attempts_is_not_slow_besides():
    attempts = [part for _ in range(4) for part in (db("UPDATE t SET n = $1", 0.2, error="Deadlock"), wait(2.0))]
    found = findings(run_of(agent("a", llm(1.0), tool("reserve", *attempts, db("UPDATE t SET n = $1", 0.2)))))
    assert [finding.kind for finding in found] == [KIND]


def test_the_text_counts_all_failures():
    run = run_of(agent("a", *[_try()] * 4))
    assert "failed 4 times (timeout) in 4 attempts" in the_finding(run, KIND).recommendation


def test_severity_grows_with_the_share():
    assert the_finding(run_of(agent("a", llm(9.0), *[_try()] * 3, _helped())), KIND).severity == "warning"
    assert the_finding(run_of(agent("a", llm(0.1), *[_try()] * 3, _helped())), KIND).severity == "critical"


def test_the_slow_attempts_are_not_slow_operations_besides():
    run = run_of(agent("a", _try(6.0), _try(6.0), _helped(), llm(1.0)))
    assert [finding.kind for finding in findings(run)] == [KIND]


def test_the_user_sets_the_attempts_of_one_operation():
    trace = agent("a", llm(9.0), *[_try()] * 2, _helped(), llm(1.0))
    assert findings(run_of(trace), KIND)
    assert findings(run_of(trace, thresholds={"retry_storm.attempts@book": 4}), KIND) == []
    assert findings(run_of(trace, thresholds={"retry_storm.attempts@other": 4}), KIND)


def test_waiting_out_a_limit_is_not_a_storm_besides():
    run = run_of(agent("a", llm(1.0), _try(error="429"), wait(1.0), _try(error="429"), wait(2.0), _helped()))
    assert [finding.kind for finding in findings(run)] == ["rate_limited"]
