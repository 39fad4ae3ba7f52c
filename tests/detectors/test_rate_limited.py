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

KIND = "rate_limited"
URL = "https://api.x.io/v1/chat"


def _refused(seconds: float = 0.1, error: str = "429", number: int = 1, **fields):
    return tool("search", seconds, args={"q": number}, error=error, **fields)


def _answered(seconds: float = 0.5, number: int = 1, **fields):
    return tool("search", seconds, args={"q": number}, result="r", **fields)


def _post(seconds: float, status: int = 200, **fields):
    return http(URL, seconds, method="POST", status=status, **fields)


SILENT = {
    "answered at once": agent("a", llm(1.0), _answered(), llm(1.0)),
    "let through a moment later": agent("a", llm(1.0), _refused(0.02), wait(0.02), _answered(), llm(1.0)),
    "tried again at once, though the refusals took long": agent("a", llm(0.5), _refused(2.0), _answered(), llm(0.5)),
    "given up": agent("a", llm(1.0), _refused(error="503"), wait(3.0), tool("other", 0.5), llm(1.0)),
    "failures of another kind": agent("a", _refused(error="timeout"), wait(2.0), _answered(), llm(1.0)),
    "another item, paced": agent(
        "a", *[part for i in range(5) for part in (_refused(number=i), wait(1.0), _answered(number=i + 10))]
    ),
    "a loop with hidden arguments that sleeps after each item": agent(
        "a",
        *[
            part
            for i in range(9)
            for part in (tool("get", 0.1, error="429" if i == 4 else None), wait(1.0))
        ],
        llm(0.5),
    ),
    "other work in between": agent("a", llm(0.5), _refused(), tool("other", 3.0), _answered(), llm(0.5)),
    "the model decides to try again": agent("a", llm(1.0), _refused(), llm(2.0), _answered(), llm(1.0)),
    "a model that nobody traced may have decided": agent(
        "a", _refused(call_id="1"), wait(2.0), _answered(call_id="2"), _answered(number=2, call_id="3")
    ),
    "nobody waits for it": agent(
        "a", together(tool("job", 6.0), node("limited", _refused(), wait(2.0), _answered())), llm(1.0)
    ),
    "two agents": agent("b", agent("one", _refused(), wait(0.5)), agent("two", wait(0.5), _answered()), llm(3.0)),
    "another model takes over": agent("a", llm(0.2, model="big", error="RateLimitError"), wait(1.0), llm(1.0)),
    "asked to poll": agent(
        "a",
        http(URL, 0.1, status=202, more={"http.response.header.retry-after": ["2"]}),
        wait(2.0),
        http(URL, 0.1),
        llm(1.0),
    ),
    "mostly failures of another kind": agent(
        "a",
        _refused(error="timeout"), wait(1.0), _refused(error="timeout"), wait(1.0), _refused(), wait(0.5),
        _refused(error="timeout"), wait(1.0), _refused(error="timeout"), wait(1.0), _answered(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "a tool that waits as it was told": (
        agent("a", llm(1.0), _refused(), wait(2.0), _refused(), wait(4.0), _answered(), llm(1.0)),
        agent("a", llm(1.0), _answered(), llm(1.0)),
        "search",
    ),
    "one refusal is enough": (
        agent("a", llm(1.0), _refused(error="ThrottlingException"), wait(2.0), _answered(), llm(1.0)),
        agent("a", llm(1.0), _answered(), llm(1.0)),
        "search",
    ),
    "never let through": (
        agent("a", llm(1.0), _refused(), wait(2.0), _refused(), llm(1.0)),
        agent("a", llm(1.0), _refused(), llm(1.0)),
        "search",
    ),
    "model calls": (
        agent("a", llm(0.3, error="openai.RateLimitError"), wait(3.0), llm(1.0), _answered(), llm(1.0)),
        agent("a", llm(1.0), _answered(), llm(1.0)),
        "gpt",
    ),
    "the model's client tries again by itself": (
        agent("a", llm(_post(0.1, 429), wait(1.0), _post(0.1, 429), wait(2.0), _post(1.0)), _answered(), llm(1.0)),
        agent("a", llm(_post(1.0)), _answered(), llm(1.0)),
        "gpt",
    ),
    "the request is refused, and the model call only says error": (
        agent("a", llm(_post(0.1, 429), error="error"), wait(2.0), llm(_post(1.0)), _answered(), llm(1.0)),
        agent("a", llm(_post(1.0)), _answered(), llm(1.0)),
        "gpt",
    ),
    "a tool's request": (
        agent("a", llm(1.0), tool("t", http(URL, 0.1, status=503), wait(2.0), http(URL, 0.4)), llm(1.0)),
        agent("a", llm(1.0), tool("t", http(URL, 0.4)), llm(1.0)),
        URL,
    ),
    "a query": (
        agent("a", llm(0.5), db("SELECT 1 FROM t", 0.1, error="429"), wait(1.0), db("SELECT 1 FROM t", 0.1)),
        agent("a", llm(0.5), db("SELECT 1 FROM t", 0.1)),
        "SELECT ? FROM t",
    ),
    "in nodes of their own": (
        agent("a", llm(1.0), node("tools", _refused()), wait(2.0), node("tools", _answered()), llm(1.0)),
        agent("a", llm(1.0), node("tools", _answered()), llm(1.0)),
        "search",
    ),
    "steps that do more besides": (
        agent(
            "a",
            llm(1.0),
            node("try", tool("prepare", 0.1), _refused(), wait(1.0)),
            wait(1.0),
            node("try", tool("prepare", 0.1), _answered()),
        ),
        agent("a", llm(1.0), node("try", tool("prepare", 0.1)), node("try", tool("prepare", 0.1), _answered())),
        "search",
    ),
    "a fan-out that waits together": (
        agent(
            "a",
            llm(1.0),
            together(*[_refused(number=i) for i in range(5)]),
            wait(2.0),
            together(*[_answered(number=i) for i in range(5)]),
        ),
        agent("a", llm(1.0), together(*[_answered(number=i) for i in range(5)])),
        "search",
    ),
    "with hidden arguments": (
        agent("a", llm(1.0), tool("get", 0.1, error="429"), wait(2.0), tool("get", 0.4), llm(1.0)),
        agent("a", llm(1.0), tool("get", 0.4), llm(1.0)),
        "get",
    ),
    "with arguments that only a success shows": (
        agent("a", llm(1.0), tool("search", 0.1, error="429"), wait(2.0), _answered(), llm(1.0)),
        agent("a", llm(1.0), _answered(), llm(1.0)),
        "search",
    ),
    "most of the time for the limit, and one failure of another kind": (
        agent("a", llm(1.0), _refused(0.2, error="timeout"), _refused(), wait(4.0), _answered(), llm(1.0)),
        agent("a", llm(1.0), _refused(0.2, error="timeout"), _answered(), llm(1.0)),
        "search",
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert set(calls_of(run, operation)) & set(finding.evidence)
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.02)
    assert operation in finding.recommendation
    assert [other.kind for other in findings(run)] == [KIND], "one call is spoken for once"


def test_the_text_says_how_often_how_long_and_what_the_service_asked_for():
    told = {"http.response.header.retry-after": ["1"]}
    run = run_of(agent("a", llm(1.0), _refused(more=told), wait(4.0), _answered(), llm(1.0)))
    text = the_finding(run, KIND).recommendation
    assert "refused once (429), and 4.0 s went by" in text
    assert "asked for 1.0 s" in text


def test_a_storm_with_one_refusal_is_a_storm():
    run = run_of(SILENT["mostly failures of another kind"])
    assert [finding.kind for finding in findings(run)] == ["retry_storm"]


def test_a_tool_that_waits_inside_is_not_slow_besides():
    run = run_of(agent("a", llm(1.0), tool("t", http(URL, 0.1, status=429), wait(9.0), http(URL, 0.4)), llm(1.0)))
    assert [finding.kind for finding in findings(run)] == [KIND]


def test_the_limit_of_one_agent_is_told_once_though_it_ran_twice():
    team = [agent("worker", llm(0.5), _refused(), wait(1.0), _answered()) for _ in range(2)]
    finding = the_finding(run_of(agent("boss", *team, llm(0.5))), KIND)
    assert finding.calls == 4
    assert finding.saving_s == pytest.approx(2.2)


def test_the_wait_that_counts_can_be_set():
    trace = agent("a", llm(1.0), _refused(), wait(2.0), _answered(), llm(1.0))
    assert findings(run_of(trace, thresholds={"rate_limited.wait_s@search": 3.0}), KIND) == []
    assert findings(run_of(trace, thresholds={"rate_limited.wait_s@other": 3.0}), KIND)


def test_a_thousand_that_wait_at_the_same_time_wait_once():
    items = [part for i in range(1000) for part in (_refused(0.01, number=i), _answered(0.01, number=i))]
    finding = the_finding(run_of(agent("a", together(*items[::2]), wait(1.0), together(*items[1::2]))), KIND)
    assert finding.calls == 2000
    assert finding.wasted_s == pytest.approx(1.01)
    assert finding.saving_s == pytest.approx(1.01)
