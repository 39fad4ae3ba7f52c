from __future__ import annotations

import json

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
    run_of,
    saving_of,
    span,
    the_finding,
    together,
    tool,
    wait,
)

KIND = "n_plus_one_calls"


def _fetches(number: int = 8, seconds: float = 0.3, **fields):
    return [
        tool("fetch_user", seconds, args={"id": f"u-{i}"}, result={"name": f"name-{i}"}, **fields)
        for i in range(number)
    ]


def embedding(text: str):
    shown = {"openinference.span.kind": "EMBEDDING", "embedding.embeddings.0.embedding.text": text}
    return span("CreateEmbeddings", 0.2, attributes={**shown, "embedding.model_name": "e"})


def test_embeddings_one_by_one():
    loud = [embedding(f"text {i}") for i in range(8)]
    assert the_finding(run_of(agent("a", *loud)), KIND).operation == "e"
    assert findings(run_of(agent("a", *[part for call in loud for part in (call, llm(0.1))])), KIND) == []


def test_one_call_polled_through_a_frameworks_envelope():
    """OpenLLMetry records each call of LangGraph with the step's number."""
    calls = [
        tool("check", 0.5, args={"inputs": {"id": 7}, "tags": [], "kwargs": {}, "metadata": {"langgraph_step": i}})
        for i in range(8)
    ]
    assert findings(run_of(agent("a", *calls)), KIND) == []


SILENT = {
    "commands in a shell": agent("a", *[tool("run_shell", 0.3, args={"cmd": f"step {i}"}) for i in range(6)]),
    "batches already": agent(
        "a",
        *[db(f"SELECT * FROM t WHERE id IN ({', '.join(str(9 * i + j) for j in range(9))})", 0.2) for i in range(6)],
    ),
    "a tool that takes many at once": agent(
        "a", *[tool("fetch", 0.5, args={"ids": list(range(9 * i, 9 * i + 9))}) for i in range(6)]
    ),
    "separated by model turns": agent("a", llm(0.5), *[part for call in _fetches() for part in (call, llm(0.5))]),
    "separated by graph nodes around model turns": agent(
        "a", *[part for call in _fetches() for part in (node("model", llm(0.5)), node("tools", call))]
    ),
    "untraced model turns between calls that a model asked for": agent(
        "a",
        *[part for i in range(6) for part in (wait(0.8), tool("look", 0.3, args={"i": i}, call_id=f"c{i}"))],
    ),
    "already fanned out": agent("a", llm(0.5), together(*_fetches()), llm(0.5)),
    "four calls": agent("a", llm(0.5), *_fetches(4), llm(0.5)),
    "four distinct arguments": agent("a", *_fetches(4), *_fetches(4)),
    "hidden arguments, of calls that failed": agent("a", *[tool("fetch_user", 0.3, error="X") for _ in range(8)]),
    "hidden arguments, at the same time": agent("a", together(*[tool("fetch_user", 0.3) for _ in range(8)])),
    "hidden arguments, each asked for by a turn": agent(
        "a", *[part for _ in range(8) for part in (llm(0.5), tool("x", 0.3))]
    ),
    "tiny total": agent("a", llm(9.0), *_fetches(8, 0.01), llm(1.0)),
    "under 1 % of the run": agent("a", tool("crunch", 60.0), *_fetches(8, 0.05)),
    "a cursor from the result before": agent(
        "a",
        *[
            tool("list_orders", 0.3, args={"from": f"cur{i}x"}, result={"rows": [1, 2], "more": f"cur{i + 1}x"})
            for i in range(8)
        ],
    ),
    "a linked list by small numbers": agent(
        "a", *[tool("follow", 0.3, args={"id": i * 3 + 2}, result={"next": (i + 1) * 3 + 2}) for i in range(8)]
    ),
    "dependence told without content": agent(
        "a",
        *[tool("step", 0.3, args={"i": i}, hashed=True, depends_on=[f"{i + 1:016x}"] if i else []) for i in range(8)],
    ),
    "pages by number": agent("a", *[http(f"https://api.x.io/v2/orders?page={i}&per=50", 0.3) for i in range(8)]),
    "pages by cursor, the first without": agent(
        "a",
        http("https://api.x.io/orders", 0.3),
        *[http(f"https://api.x.io/orders?cursor=k{i}", 0.3) for i in range(8)],
    ),
    "pages of a tool, results hidden": agent(
        "a", *[tool("list_files", 0.3, args={"dir": "/x", "pageToken": f"t{i}"}) for i in range(8)]
    ),
    "pages by offset": agent(
        "a", *[db(f"SELECT * FROM t ORDER BY id LIMIT 50 OFFSET {i * 50}", 0.1) for i in range(8)]
    ),
    "pages by the last key": agent(
        "a", *[db(f"SELECT * FROM t WHERE id > {i * 50} ORDER BY id LIMIT 50", 0.1) for i in range(8)]
    ),
    "two agents, three calls each": agent(
        "boss",
        agent("one", *_fetches(3)),
        agent("two", *[tool("fetch_user", 0.3, args={"id": f"w-{i}"}) for i in range(3)]),
    ),
    "different requests of one api": agent(
        "a", *[http(f"https://api.x.io/v1/{what}", 0.3) for what in ("users", "news", "stocks", "rain", "maps")]
    ),
    "several model calls": agent("a", *[llm(0.5, messages=f"question {i}") for i in range(8)]),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


HIDDEN = {
    "a tool": agent("a", *[tool("fetch_user", 0.3) for _ in range(8)]),
    "a prepared query": agent("a", *[db("SELECT * FROM book WHERE id = %s LIMIT 21", 0.05) for _ in range(9)]),
    "commands whose keys are hidden": agent("a", *[db("GET ?", 0.1, system="redis") for _ in range(9)]),
}


@pytest.mark.parametrize("trace", HIDDEN.values(), ids=HIDDEN.keys())
def test_with_hidden_arguments_it_is_said_and_no_warning(trace):
    (finding,) = findings(run_of(trace), KIND)
    assert finding.severity == "info"
    assert "does not show its arguments" in finding.recommendation


LOUD = {
    "plain": (agent("a", llm(0.5), *_fetches(), llm(0.5)), agent("a", llm(0.5), *_fetches(1), llm(0.5)), "fetch_user"),
    "below a graph node": (
        agent("a", node("model", llm(0.5)), node("tools", *_fetches()), node("model", llm(0.5))),
        agent("a", node("model", llm(0.5)), node("tools", *_fetches(1)), node("model", llm(0.5))),
        "fetch_user",
    ),
    "each in a graph node of its own": (
        agent("a", node("model", llm(0.5)), *[node("tools", call) for call in _fetches()], node("model", llm(0.5))),
        agent("a", node("model", llm(0.5)), node("tools", *_fetches(1)), node("model", llm(0.5))),
        "fetch_user",
    ),
    "with the program's own work in between": (
        agent("a", *[part for call in _fetches() for part in (call, wait(0.01))]),
        agent("a", *_fetches(1), wait(0.08)),
        "fetch_user",
    ),
    "arguments as hashes": (
        agent("a", *[tool("fetch", 0.3, args={"i": i}, hashed=True) for i in range(6)]),
        agent("a", tool("fetch", 0.3, args={"i": 1}, hashed=True)),
        "fetch",
    ),
    "numbers that occur in results by chance": (
        agent("a", *[tool("price", 0.3, args={"id": i}, result={"id": i, "eur": 1234.5 + i}) for i in range(1, 9)]),
        agent("a", tool("price", 0.3, args={"id": 1})),
        "price",
    ),
    "a query with literals in a tool": (
        agent("a", llm(0.5), tool("report", *[db(f"SELECT * FROM users WHERE id = {i}", 0.05) for i in range(20)])),
        agent("a", llm(0.5), tool("report", db("SELECT * FROM users WHERE id IN (1, 2)", 0.05))),
        "SELECT * FROM users WHERE id = ?",
    ),
    "one row each, with a limit": (
        agent("a", *[db(f"SELECT n FROM users WHERE id = {i} LIMIT 1", 0.05) for i in range(20)]),
        agent("a", db("SELECT n FROM users WHERE id IN (1, 2)", 0.05)),
        "SELECT n FROM users WHERE id = ? LIMIT ?",
    ),
    "a query with bound parameters": (
        agent("a", tool("t", *[db("SELECT * FROM u WHERE id = $1", 0.05, parameters={"0": i}) for i in range(20)])),
        agent("a", tool("t", db("SELECT * FROM u WHERE id = $1", 0.05, parameters={"0": 1}))),
        "SELECT * FROM u WHERE id = $1",
    ),
    "queries that differ in a comment's trace id too": (
        agent("a", *[db(f"SELECT * FROM u WHERE id = {i} /*traceparent='00-{i}'*/", 0.05) for i in range(20)]),
        agent("a", db("SELECT * FROM u WHERE id = 1", 0.05)),
        "SELECT * FROM u WHERE id = ?",
    ),
    "rows inserted one by one": (
        agent("a", *[db(f"INSERT INTO log VALUES ({i}, 'x')", 0.05) for i in range(20)]),
        agent("a", db("INSERT INTO log VALUES (1, 'x')", 0.05)),
        "INSERT INTO log VALUES (?)",
    ),
    "urls by id": (
        agent("a", tool("t", *[http(f"https://api.x.io/users/{i}/posts", 0.3) for i in range(8)])),
        agent("a", tool("t", http("https://api.x.io/users/1/posts", 0.3))),
        "https://api.x.io/users/{id}/posts",
    ),
    "urls by a short key": (
        agent("a", *[http(f"https://api.x.io/v2/items/sku-{i}", 0.3) for i in range(8)]),
        agent("a", http("https://api.x.io/v2/items/sku-1", 0.3)),
        "https://api.x.io/v2/items/{id}",
    ),
    "urls that differ in the query only": (
        agent("a", *[http(f"https://api.x.io/weather?city=c{i}", 0.3) for i in range(8)]),
        agent("a", http("https://api.x.io/weather?city=c1", 0.3)),
        "https://api.x.io/weather",
    ),
    "redis keys": (
        agent("a", *[db(f"GET user:{i}", 0.03, system="redis") for i in range(30)]),
        agent("a", db("GET user:1", 0.03, system="redis")),
        "GET",
    ),
    "cache gets": (
        agent("a", *[cache("redis", 0.05, key=f"k{i}", hit=True) for i in range(20)]),
        agent("a", cache("redis", 0.05, key="k", hit=True)),
        "redis",
    ),
    "overlapping in part": (
        agent("a", *[tool("fetch", 0.4, args={"i": f"i{i}"}, at=0.3 * i) for i in range(8)], wait(0.0)),
        agent("a", tool("fetch", 0.4, args={"i": "i1"})),
        "fetch",
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "operation"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, operation):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == operation
    assert finding.evidence == calls_of(run, operation)
    assert finding.calls == len(finding.evidence)
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert operation in finding.recommendation


def test_half_of_the_run_is_critical():
    run = run_of(agent("a", llm(1.0), *_fetches(), llm(6.0)))
    assert the_finding(run, KIND).severity == "warning"
    assert the_finding(run_of(agent("a", *_fetches())), KIND).severity == "critical"


def test_arguments_that_are_no_names_are_no_pages():
    run = run_of(agent("a", *[tool("fetch", 0.3, args=f"page {i}") for i in range(8)]))
    assert the_finding(run, KIND).calls == 8
    run = run_of(agent("a", *[http(f"http://[broken/{i}", 0.3) for i in range(8)]))
    assert findings(run, "slow_operation") == []


def test_the_user_decides_how_many_calls_are_a_loop():
    trace = agent("a", *_fetches(4))
    assert findings(run_of(trace, thresholds={"n_plus_one_calls.calls": 4}), KIND)
    assert not findings(run_of(agent("a", *_fetches(8)), thresholds={"n_plus_one_calls.calls": 9}), KIND)


def test_each_loop_between_two_turns_is_a_finding():
    other = [tool("fetch_order", 0.3, args={"id": f"o-{i}"}) for i in range(8)]
    run = run_of(agent("a", llm(0.5), *_fetches(), llm(0.5), *other, llm(0.5)))
    assert {finding.operation for finding in findings(run, KIND)} == {"fetch_user", "fetch_order"}


def test_json_arguments_spelled_differently_are_the_same():
    same = [json.dumps({"a": 1, "b": 2}), '{"b":2,"a":1}', '{ "a" : 1, "b" : 2 }', '{"b": 2, "a": 1}', '{"a":1,"b":2}']
    run = run_of(agent("a", *[tool("fetch", 0.3, args=text) for text in same]))
    assert findings(run, KIND) == []


def test_the_user_sets_the_number_of_calls_for_one_operation_or_agent():
    trace = agent("a", *_fetches(8))
    name = the_finding(run_of(trace), KIND).operation
    assert not findings(run_of(trace, thresholds={f"n_plus_one_calls.calls@{name}": 9}), KIND)
    assert not findings(run_of(trace, thresholds={"n_plus_one_calls.calls@a": 9}), KIND)
    assert findings(run_of(trace, thresholds={"n_plus_one_calls.calls@b": 9}), KIND)
