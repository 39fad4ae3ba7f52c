from __future__ import annotations

import pytest

from _traces import (
    agent,
    cache,
    calls_of,
    db,
    findings,
    http,
    llm,
    node,
    retrieval,
    run_of,
    saving_of,
    the_finding,
    together,
    tool,
    wait,
)

KIND = "cold_start"


def _call(seconds: float, number: int = 0, *parts, name: str = "search", **fields):
    return tool(name, *parts, seconds, args={"q": number}, result=f"r{number}", **fields)


def _calls(*times: float, **fields):
    """One call a turn, each about something else."""
    return [part for i, seconds in enumerate(times) for part in (llm(0.3), _call(seconds, i, **fields))]


def _writing(*told: tuple[float, int | None], **fields):
    return [llm(seconds, tokens=(100, output), **fields) for seconds, output in told]


def _streaming(*told: tuple[float, float]):
    return [llm(seconds, more={"gen_ai.response.time_to_first_chunk": first}) for seconds, first in told]


SILENT = {
    "all alike": agent("a", *_calls(2.0, 2.0, 2.0, 2.0)),
    "two later ones do not tell": agent("a", *_calls(3.0, 0.2, 0.2)),
    "twice as long": agent("a", *_calls(2.0, 1.0, 1.0, 1.0, 1.0)),
    "a quarter of a second": agent("a", *_calls(0.35, 0.1, 0.1, 0.1, 0.1)),
    "the slow one comes later": agent("a", *_calls(0.2, 3.0, 0.2, 0.2, 0.2)),
    "later ones are slow at times, too": agent("a", *_calls(3.0, 0.2, 0.2, 3.2, 0.2, 0.2)),
    "another tool": agent("a", *_calls(3.0, name="one"), *_calls(0.2, 0.2, 0.2, 0.2, name="two")),
    "the other agents' calls": agent(
        "team", *[agent(name, *_calls(seconds)) for name, seconds in zip("wxyz", (3.0, 0.2, 0.2, 0.2), strict=True)]
    ),
    "another agent had called it before": agent(
        "team", agent("x", *_calls(0.2)), agent("y", *_calls(3.0, 0.2, 0.2, 0.2))
    ),
    "the first failed": agent("a", _call(3.0, 9, error="timeout"), *_calls(0.2, 0.2, 0.2, 0.2)),
    "later ones failed": agent("a", _call(3.0, 9), *[_call(0.1, i, error="x") for i in range(4)], llm(1.0)),
    "it writes more": agent("a", *_writing((8.0, 800), (1.0, 90), (1.0, 100), (1.2, 110), (0.8, 80))),
    "it writes somewhat more, and nobody knows how fast the rest was": agent(
        "a", *_writing((4.0, 250), (1.0, 100), (1.0, 100), (1.0, 100))
    ),
    "nobody knows how much it wrote": agent("a", *_writing((8.0, None), (1.0, None), (1.0, None), (1.0, None))),
    "nobody knows how much the first wrote": agent("a", *_writing((8.0, None), (1.0, 50), (1.0, 50), (1.0, 50))),
    "a long stream that began as soon as the others": agent(
        "a", *_streaming((9.0, 0.5), (1.0, 0.4), (1.0, 0.5), (1.0, 0.4))
    ),
    "it reads much more": agent(
        "a", llm(6.0, tokens=(60_000, 50)), *[llm(1.0, tokens=(2_000, 50))] * 4
    ),
    "the provider's cache holds the prompt for the later ones": agent(
        "a",
        llm(4.0, tokens=(20_000, 50)),
        *[llm(1.0, tokens=(20_500, 50), more={"gen_ai.usage.cache_read.input_tokens": 20_000})] * 4,
    ),
    "it returns much more": agent(
        "a",
        *[
            tool("load", seconds, args={"q": i}, more={"agentperf.result.size": size})
            for i, (seconds, size) in enumerate(((3.0, 90_000), (0.3, 4_000), (0.3, 4_000), (0.3, 4_000)))
        ],
    ),
    "it is given much more": agent(
        "a", *[tool("load", s, args={"q": "x" * size}) for s, size in ((3.0, 9_000), (0.3, 40), (0.3, 41), (0.3, 42))]
    ),
    "it is given too much to be shown": agent(
        "a", tool("load", 3.0), *[tool("load", 0.3, args={"q": i}) for i in range(4)]
    ),
    "the same again, perhaps from a cache": agent(
        "a", *[part for seconds in (3.0, 0.1, 0.1, 0.1, 0.1) for part in (llm(0.3), _call(seconds, 1))]
    ),
    "it fills a cache": agent(
        "a",
        _call(3.0, 0, cache("prices", 0.01, key="k", hit=False)),
        *[_call(0.1, i, cache("prices", 0.01, key="k", hit=True)) for i in range(1, 6)],
    ),
    "it computes what a cache in the process keeps": agent(
        "a", _call(3.0, 0, cache("model", 2.8, key="k", hit=False, counted=True)), *_calls(0.1, 0.1, 0.1, 0.1)
    ),
    "it makes more calls inside": agent(
        "a",
        tool("report", *[db(f"SELECT * FROM t WHERE id = {i}", 0.3) for i in range(12)], args={"q": 0}),
        *[tool("report", db(f"SELECT * FROM t WHERE id = {i}", 0.3), args={"q": i}) for i in range(50, 54)],
    ),
    "one made at the same time was quick": agent(
        "a", together(_call(3.0, 0), _call(0.2, 1)), *_calls(0.2, 0.2, 0.2, 0.2)
    ),
    "beside something longer": agent("a", together(_call(2.0, 9), tool("other", 4.0)), *_calls(0.2, 0.2, 0.2, 0.2)),
    "a call inside itself": agent("a", _call(3.0, 9, _call(0.2, 8)), *_calls(0.2, 0.2, 0.2, 0.2)),
    "agents": agent("boss", agent("w", llm(3.0)), *[agent("w", llm(0.3)) for _ in range(4)]),
    "steps": agent("a", node("n", 3.0), *[node("n", 0.2)] * 4, llm(0.5)),
}  # fmt: skip


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


def _in_tools(make):
    """Each call in a tool of its own, as different parts of a program use one service."""
    return lambda *times: [tool(f"t{'abcdef'[i]}", make(i, seconds), args={"n": i}) for i, seconds in enumerate(times)]


QUERIES = _in_tools(lambda i, seconds: db(f"SELECT score FROM risk WHERE id = {500 + i}", seconds))
REQUESTS = _in_tools(lambda i, seconds: http(f"https://fn.x.io/score/{500 + i}", seconds))
SEARCHES = _in_tools(lambda i, seconds: retrieval("handbook", seconds))

LOUD = {
    "a tool": (
        agent("a", *_calls(4.0, 0.4, 0.5, 0.6, 0.5)),
        agent("a", *_calls(0.5, 0.4, 0.5, 0.6, 0.5)),
        "search",
    ),
    "a tool in parallel later on": (
        agent("a", *_calls(4.0), together(*[_call(0.5, i) for i in range(1, 6)])),
        agent("a", *_calls(0.5), together(*[_call(0.5, i) for i in range(1, 6)])),
        "search",
    ),
    "the first ones at the same time": (
        agent("a", together(*[_call(3.0, 10 + i) for i in range(3)]), *_calls(0.3, 0.3, 0.3, 0.3)),
        agent("a", together(*[_call(0.3, 10 + i) for i in range(3)]), *_calls(0.3, 0.3, 0.3, 0.3)),
        "search",
    ),
    "queries of several tools": (
        agent("a", *QUERIES(2.0, 0.1, 0.1, 0.1, 0.1), llm(0.5)),
        agent("a", *QUERIES(0.1, 0.1, 0.1, 0.1, 0.1), llm(0.5)),
        "SELECT score FROM risk WHERE id = ?",
    ),
    "requests of several tools": (
        agent("a", *REQUESTS(2.0, 0.1, 0.1, 0.1, 0.1), llm(0.5)),
        agent("a", *REQUESTS(0.1, 0.1, 0.1, 0.1, 0.1), llm(0.5)),
        "https://fn.x.io/score/{id}",
    ),
    "searches": (
        agent("a", *SEARCHES(2.0, 0.2, 0.2, 0.2), llm(0.5)),
        agent("a", *SEARCHES(0.2, 0.2, 0.2, 0.2), llm(0.5)),
        "handbook",
    ),
    "generations of one length": (
        agent("a", *_writing((9.0, 50), (1.0, 50), (1.0, 52), (1.0, 48))),
        agent("a", *_writing((1.0, 50), (1.0, 50), (1.0, 52), (1.0, 48))),
        "gpt",
    ),
    "streams that began late": (
        agent("a", *_streaming((6.0, 4.4), (2.0, 0.4), (2.0, 0.4), (2.0, 0.4))),
        agent("a", *_streaming((2.0, 0.4), (2.0, 0.4), (2.0, 0.4), (2.0, 0.4))),
        "gpt",
    ),
    "with the same cache look-ups": (
        agent("a", *[_call(3.0 if i == 0 else 0.2, i, cache("c", 0.01, key=f"{i}", hit=False)) for i in range(5)]),
        agent("a", *[_call(0.2, i, cache("c", 0.01, key=f"{i}", hit=False)) for i in range(5)]),
        "search",
    ),
    "one agent that is called again and again": (
        agent("boss", *[agent("w", llm(0.3), _call(3.0 if i == 0 else 0.3, i)) for i in range(4)]),
        agent("boss", *[agent("w", llm(0.3), _call(0.3, i)) for i in range(4)]),
        "search",
    ),
    "with hidden arguments": (
        agent("a", *[part for s in (3.0, 0.3, 0.3, 0.3) for part in (llm(0.5), tool("get", s))]),
        agent("a", *[part for s in (0.3, 0.3, 0.3, 0.3) for part in (llm(0.5), tool("get", s))]),
        "get",
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert set(finding.evidence) <= set(calls_of(run, operation))
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.02)
    assert operation in finding.recommendation


def test_the_first_call_is_not_a_slow_operation_besides():
    run = run_of(agent("a", *_calls(9.0, 0.4, 0.5, 0.6, 0.5)))
    assert [finding.kind for finding in findings(run)] == [KIND]


def test_the_request_inside_a_cold_model_call_is_not_told_besides():
    calls = [llm(http("https://llm.x.io/v1", s, method="POST"), tokens=(9, 50)) for s in (5.0, 0.5, 0.5, 0.5)]
    assert [finding.operation for finding in findings(run_of(agent("a", *calls)), KIND)] == ["gpt"]


def test_the_text_compares_the_first_with_the_later_ones():
    finding = the_finding(run_of(agent("a", *_calls(4.0, 0.4, 0.5, 0.6, 0.5))), KIND)
    assert "the first call of search took 4.0 s, later ones 500 ms" in finding.recommendation
    assert finding.calls == 1


def test_the_factor_can_be_set_for_an_operation():
    trace = agent("a", *_calls(4.0, 0.5, 0.5, 0.5), wait(0.1))
    assert findings(run_of(trace, thresholds={"cold_start.factor@search": 9.0}), KIND) == []
    assert findings(run_of(trace, thresholds={"cold_start.excess_s@search": 4.0}), KIND) == []
    assert findings(run_of(trace, thresholds={"cold_start.calls@search": 4}), KIND) == []
    assert findings(run_of(trace, thresholds={"cold_start.factor@other": 9.0}), KIND)
