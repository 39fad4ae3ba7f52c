from __future__ import annotations

import pytest

from _traces import agent, cache, calls_of, db, findings, http, llm, node, retrieval, run_of, span, the_finding, tool

KIND = "oversized_payload"
RESULT, GIVEN = "agentperf.result.size", "agentperf.args.size"
MB = 1_000_000


def _call(size: int | None, **fields):
    return llm(0.5, tokens=(size, 50), **fields)


def _tool(size: int | None, name: str = "fetch", key: str = RESULT, **fields):
    return tool(name, 0.2, more={} if size is None else {key: size}, **fields)


def _request(url: str = "https://x.io/items", method: str = "GET", old: bool = False, **sizes: int):
    names = {"response": "http.response_content_length", "request": "http.request_content_length"} if old else {
        "response": "http.response.body.size", "request": "http.request.body.size"}  # fmt: skip
    made = http(url, 0.2, method=method)
    return made.but(attributes={**made.attributes, **{names[which]: size for which, size in sizes.items()}})


SILENT = {
    "300 kB": agent("a", _tool(300_000), llm(0.5)),
    "sizes not told": agent("a", _call(1_000), _tool(None), _call(9_000), db("SELECT * FROM t", 0.5)),
    "a small result in a tiny prompt": agent("a", _call(300), _tool(7_900), _call(2_300)),
    "a fifth of the next prompt": agent("a", _call(18_000), _tool(20_000), _call(25_000)),
    "the answer itself": agent("a", _call(1_000), _tool(40_000)),
    "the next prompt's tokens not told": agent("a", _call(1_000), _tool(40_000), _call(None)),
    "the next prompt is another agent's": agent("boss", agent("a", _call(900), _tool(40_000)), _call(11_000)),
    "a result that did not get into the prompt": agent("a", _call(20_000), _tool(40_000), _call(20_300)),
    "an error of the next call": agent("a", _call(1_000), _tool(40_000), _call(11_000, error="too long")),
    "a request inside a tool": agent("a", _call(900), tool("t", _request(response=40_000)), _call(11_000)),
    "a model call's own request": agent("a", llm(_request(method="POST", request=5 * MB))),
    "the size of what HEAD does not send": agent("a", _request(method="HEAD", response=5 * MB)),
    "a model's answer": agent("a", llm(0.5, result="x" * 400_000)),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "a tool's result": (agent("a", _tool(MB), llm(0.5)), "fetch"),
    "a tool's argument": (agent("a", _tool(MB, key=GIVEN), llm(0.5)), "fetch"),
    "a result that is only shown": (agent("a", tool("fetch", 0.2, result="x" * MB)), "fetch"),
    "a shown result that was cut off": (agent("a", tool("fetch", 0.2, result="x" * MB + "…")), "fetch"),
    "a response": (agent("a", _request(response=MB)), "https://x.io/items"),
    "a response, older spelling": (agent("a", _request(response=MB, old=True)), "https://x.io/items"),
    "an upload": (agent("a", _request(method="POST", request=MB)), "https://x.io/items"),
    "an upload, older spelling": (agent("a", _request(method="POST", request=MB, old=True)), "https://x.io/items"),
    "a response inside a tool": (agent("a", tool("fetch", _request(response=MB))), "https://x.io/items"),
    "a query": (
        agent("a", span("q", 0.2, attributes={"db.query.text": "SELECT * FROM t", "db.system": "x", RESULT: MB})),
        "SELECT * FROM t",
    ),
    "a cache": (
        agent(
            "a",
            cache("pages", 0.1, key="k", hit=True).but(
                attributes={"agentperf.cache.name": "pages", "agentperf.cache.operation": "get", RESULT: MB}
            ),
        ),
        "pages",
    ),
    "documents": (agent("a", retrieval("docs", 0.2, more={"gen_ai.retrieval.documents": "x" * MB})), "docs"),
    "spread documents": (
        agent(
            "a",
            span(
                "docs",
                0.2,
                attributes={
                    "openinference.span.kind": "RETRIEVER",
                    **{f"retrieval.documents.{n}.document.content": "x" * 100_000 for n in range(5)},
                },
            ),
        ),
        "docs",
    ),
    "most of the next prompt": (agent("a", _call(1_000), _tool(40_000), _call(11_000)), "fetch"),
    "most of the first prompt": (agent("a", _tool(40_000), _call(11_000)), "fetch"),
    "most of the next prompt, in nodes of a graph": (
        agent("a", node("model", _call(1_000)), node("tools", _tool(40_000)), node("model", _call(11_000))),
        "fetch",
    ),
    "most of the next prompt, which seems to start just before the tool ended": (
        agent("a", node("model", _call(1_000)), node("t", _tool(40_000)), node("m", _call(11_000), at=0.6995)),
        "fetch",
    ),
    "most of the next prompt, by the shown result": (
        agent("a", _call(1_000), tool("fetch", 0.2, result="x" * 40_000), _call(11_000)),
        "fetch",
    ),
}


@pytest.mark.parametrize(("trace", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(trace, operation):
    run = run_of(trace)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert finding.calls == 1
    assert finding.evidence == calls_of(run, operation)
    assert finding.severity == "warning"
    assert (finding.wasted_s, finding.saving_s, finding.change) == (0.0, 0.0, None)


def test_calls_of_one_operation_are_one_finding():
    run = run_of(agent("a", *[_request(f"https://x.io/items/{n}", response=MB) for n in range(1_000, 1_004)]))
    finding = the_finding(run, KIND)
    assert (finding.operation, finding.calls) == ("https://x.io/items/{id}", 4)
    assert "up to 1,000 kB in one call, 4,000 kB in 4 in all" in finding.recommendation


def test_a_payload_passed_on_is_told_once():
    run = run_of(agent("a", tool("fetch", _request(response=MB), more={RESULT: MB})))
    assert the_finding(run, KIND).operation == "fetch"


def test_a_result_that_is_large_and_fills_the_prompt_is_one_finding():
    run = run_of(agent("a", _call(1_000), _tool(MB), _call(260_000)))
    assert "96% of the next prompt" in the_finding(run, KIND).recommendation


def test_a_third_of_the_prompt_is_only_information():
    run = run_of(agent("a", _call(1_000), _call(19_000), _tool(40_000), _call(29_000)))
    assert the_finding(run, KIND).severity == "info"


def test_the_user_sets_the_limits():
    large, filling = agent("a", _tool(MB)), agent("a", _call(1_000), _tool(40_000), _call(11_000))
    assert findings(run_of(large, thresholds={f"{KIND}.bytes@fetch": 2 * MB}), KIND) == []
    assert findings(run_of(filling, thresholds={f"{KIND}.tokens": 20_000}), KIND) == []
    assert findings(run_of(filling, thresholds={f"{KIND}.share@a": 0.95}), KIND) == []
