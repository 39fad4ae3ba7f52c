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
    retrieval,
    run_of,
    saving_of,
    span,
    the_finding,
    together,
    tool,
    wait,
)

KIND = "serialized_independent_calls"


def _weather(seconds: float = 1.0, **fields):
    return tool("weather", seconds, args={"city": "Oslo"}, result={"sky": "grey"}, **fields)


def _news(seconds: float = 1.0, **fields):
    return tool("news", seconds, args={"topic": "chess"}, result={"head": "Queen lost"}, **fields)


def _asking(*names: str):
    parts = [{"type": "tool_call", "id": name, "name": name} for name in names]
    return llm(0.5, result=[{"role": "assistant", "parts": parts}])


def workflow(*parts):
    return span("flow", *parts, attributes={"gen_ai.operation.name": "invoke_workflow"})


SILENT = {
    "the second takes the first's result": agent(
        "a",
        llm(0.5),
        tool("find_user", 1.0, args={"name": "Ann"}, result={"id": "user-77"}),
        tool("orders", 1.0, args={"user": {"ids": ["user-77"]}}, result="none"),
        llm(0.5),
    ),
    "a value inside a sentence": agent(
        "a",
        llm(0.5),
        tool("rain", 1.0, args={"city": "Oslo"}, result="Heavy drizzle expected"),
        tool("mail", 1.0, args={"text": "Take care, drizzle ahead"}, result="sent"),
        llm(0.5),
    ),
    "a value inside a url": agent(
        "a",
        llm(0.5),
        tool("search", 1.0, args={"q": "tea"}, result={"links": ["https://x.io/a/tea-9"]}),
        tool("open", 1.0, args={"url": "https://x.io/a/tea-9"}, result="text"),
        llm(0.5),
    ),
    "a value that is spelled in another case": agent(
        "a",
        llm(0.5),
        tool("capital", 1.0, args={"of": "Norway"}, result="OSLO"),
        tool("weather", 1.0, args={"city": "Oslo"}, result="grey"),
        llm(0.5),
    ),
    "a value after a line break": agent(
        "a",
        llm(0.5),
        tool("cities", 1.0, args={"of": "Norway"}, result={"text": "first\nBergen\nOslo"}),
        tool("weather", 1.0, args={"city": "Bergen"}, result="grey"),
        llm(0.5),
    ),
    "told dependent without content": agent(
        "a",
        llm(0.5),
        tool("one", 1.0, args={"a": 1}, hashed=True),
        tool("two", 1.0, args={"b": 2}, hashed=True, depends_on=["0" * 15 + "3"]),
        llm(0.5),
    ),
    "already at the same time": agent("a", llm(0.5), together(_weather(), _news()), llm(0.5)),
    "separated by model turns": agent("a", llm(0.5), _weather(), llm(0.5), _news(), llm(0.5)),
    "separated by a turn in a node": agent(
        "a", node("m", llm(0.5)), _weather(), node("m", llm(0.5)), _news(), node("m", llm(0.5))
    ),
    "hidden arguments, nobody asked": agent("a", tool("one", 1.0), tool("two", 1.0)),
    "the steps of a pipeline, arguments hidden": agent(
        "a",
        llm(0.5),
        span("embed", 1.0, attributes={"gen_ai.operation.name": "embeddings"}),
        retrieval("docs", 1.0),
        llm(0.5),
    ),
    "queries whose results are not shown": agent(
        "a", tool("t", db("SELECT * FROM a WHERE id = 1", 1.0), db("SELECT * FROM b WHERE id = 2", 1.0))
    ),
    "requests whose results are not shown": agent(
        "a", tool("t", http("https://x.io/a", 1.0), http("https://x.io/b/2", 1.0))
    ),
    "work of the processor": agent("a", llm(0.5), _weather(cpu=0.9), _news(cpu=0.95), llm(0.5)),
    "a failure": agent("a", llm(0.5), _weather(error="timeout"), _news(), llm(0.5)),
    "a write that nobody asked for": agent("a", tool("save_a", 1.0, args={"x": 5}, result="fine"), _news()),
    "a look-up before a change of the same": agent(
        "a",
        llm(0.5),
        tool("read_cart", 1.0, args={"user": "ann"}, result="3 items"),
        tool("pay", 1.0, args={"user": "ann"}, result="fine"),
        llm(0.5),
    ),
    "a retrieval with the vector of the embedding before": agent(
        "a",
        llm(0.5),
        span(
            "embed",
            1.0,
            attributes={"gen_ai.operation.name": "embeddings", "input.value": "tea?", "output.value": "[0.5]"},
        ),
        retrieval("docs", 1.0, more={"input.value": "tea?", "output.value": "about tea"}),
        llm(0.5),
    ),
    "by way of a call that changes something": workflow(
        tool("find_customer", 1.0, args={"mail": "x@y.io"}, result={"id": "cust_77aa"}),
        tool("create_invoice", 0.5, args={"customer": "cust_77aa"}, result={"invoice": "inv_88bb"}),
        tool("fetch_pdf", 1.0, args={"invoice": "inv_88bb"}, result={"pdf": "zz"}),
    ),
    "by way of a call that computes": workflow(
        tool("find_customer", 1.0, args={"mail": "x@y.io"}, result={"id": "cust_77aa"}),
        tool("parse", 0.5, args={"customer": "cust_77aa"}, result={"doc": "inv_88bb"}, cpu=0.5),
        tool("fetch_pdf", 1.0, args={"invoice": "inv_88bb"}, result={"pdf": "zz"}),
    ),
    "by way of two calls, told without content": workflow(
        tool("one", 1.0, hashed=True, depends_on=[], span_id="f1"),
        tool("set_x", 0.3, hashed=True, depends_on=["f1"], span_id="f2"),
        tool("set_y", 0.3, hashed=True, depends_on=["f2"], span_id="f3"),
        tool("two", 1.0, hashed=True, depends_on=["f3"]),
    ),
    "by way of a call whose own arguments are hidden": workflow(
        tool("find_customer", 1.0, args={"mail": "x@y.io"}, result={"id": "cust_77aa"}),
        tool("parse", 0.5, result={"doc": "inv_88bb"}, cpu=0.5),
        tool("fetch_pdf", 1.0, args={"invoice": "inv_88bb"}, result={"pdf": "zz"}),
    ),
    "the turn asked for something else, arguments hidden": agent(
        "a", _asking("other"), tool("weather", 1.0), tool("news", 1.0), llm(0.5)
    ),
    "the turn asked for a tool whose name only ends so, arguments hidden": agent(
        "a", _asking("rainweather", "news"), tool("weather", 1.0), tool("news", 1.0), llm(0.5)
    ),
    "the turn asked for one of two, arguments hidden": agent(
        "a", _asking("weather"), tool("weather", 1.0), tool("weather", 1.0), llm(0.5)
    ),
    "a change that the turn did not ask for": agent(
        "a", _asking(), _weather(), tool("delete_row", 1.0, args={"key": "k9"}, result="fine"), llm(0.5)
    ),
    "one with a tool call's id and one without, arguments hidden": agent(
        "a", llm(0.5), tool("weather", 1.0, call_id="1"), tool("news", 1.0), llm(0.5)
    ),
    "agents that a supervisor's program calls": agent(
        "boss", llm(0.5), agent("researcher", llm(2.0)), agent("writer", llm(2.0)), llm(0.5)
    ),
    "steps of a workflow between two turns, arguments hidden": workflow(
        llm(0.5), tool("load_rows", 1.0), tool("clean_rows", 1.0), tool("upload_rows", 1.0), llm(0.5)
    ),
    "tiny": agent("a", llm(5.0), _weather(0.1), _news(0.1), llm(5.0)),
    "pages": agent("a", *[tool("list", 1.0, args={"page": i}, result={"rows": [f"r{i}"]}) for i in (2, 3, 4)]),
    "one call": agent("a", llm(0.5), _weather(), llm(0.5)),
    "the same call again": agent("a", llm(0.5), _weather(), _weather(), llm(0.5)),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


LOUD = {
    "asked by one turn": (
        agent("a", llm(0.5), _weather(), _news(), llm(0.5)),
        agent("a", llm(0.5), together(_weather(), _news()), llm(0.5)),
    ),
    "asked by one turn, arguments hidden": (
        agent("a", llm(0.5), tool("weather", 1.0, call_id="1"), tool("news", 1.0, call_id="2"), llm(0.5)),
        agent("a", llm(0.5), together(_weather(), _news()), llm(0.5)),
    ),
    "asked by one turn, as its answer shows": (
        agent("a", _asking("srv__weather", "news"), tool("weather", 1.0), tool("news", 1.0), llm(0.5)),
        agent("a", llm(0.5), together(_weather(), _news()), llm(0.5)),
    ),
    "asked by the turn of the node before": (
        agent(
            "a",
            node("model", _asking("weather", "news")),
            node("tools", tool("weather", 1.0), tool("news", 1.0)),
            node("model", llm(0.5)),
        ),
        agent("a", node("model", llm(0.5)), node("tools", together(_weather(), _news())), node("model", llm(0.5))),
    ),
    "in one graph node": (
        agent("a", node("model", llm(0.5)), node("tools", _weather(), _news()), node("model", llm(0.5))),
        agent("a", node("model", llm(0.5)), node("tools", together(_weather(), _news())), node("model", llm(0.5))),
    ),
    "in graph nodes of their own": (
        agent("a", node("m", llm(0.5)), node("tools", _weather()), node("tools", _news()), node("m", llm(0.5))),
        agent(
            "a", node("m", llm(0.5)), together(node("tools", _weather()), node("tools", _news())), node("m", llm(0.5))
        ),
    ),
    "in one cycle with the turn": (
        agent("a", node("cycle", llm(0.5), _weather(), _news()), node("cycle", llm(0.5))),
        agent("a", node("cycle", llm(0.5), together(_weather(), _news())), node("cycle", llm(0.5))),
    ),
    "of different lengths with work in between": (
        agent("a", llm(0.5), _weather(2.0), wait(0.1), _news(0.8), llm(0.5)),
        agent("a", llm(0.5), together(_weather(2.0), _news(0.8)), wait(0.1), llm(0.5)),
    ),
    "a call between that nobody needs to wait for": (
        agent("a", llm(0.5), _weather(), _news(), together(node("x", 1.0), node("y", 0.5)), llm(0.5)),
        agent("a", llm(0.5), together(_weather(), _news()), node("x", 1.0), llm(0.5)),
    ),
}


@pytest.mark.parametrize(("broken", "repaired"), LOUD.values(), ids=LOUD.keys())
def test_asked_by_one_turn(broken, repaired):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.severity == "warning"
    assert finding.operation in ("weather", "news")
    assert finding.evidence == calls_of(run, "weather") + calls_of(run, "news")
    assert finding.calls == 2
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert finding.operation in finding.recommendation


def test_two_changes_asked_by_one_turn():
    calls = [tool(f"book_{what}", 1.0, args={"city": "Oslo", "what": what}, result="fine") for what in ("bus", "bed")]
    assert the_finding(run_of(agent("a", llm(0.5), *calls, llm(0.5))), KIND).severity == "warning"


def test_not_asked_by_a_turn_is_only_information():
    broken, repaired = agent("a", _weather(), _news()), agent("a", together(_weather(), _news()))
    finding = the_finding(run_of(broken), KIND)
    assert finding.severity == "info"
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)


def test_siblings_between_turns_with_hidden_arguments_are_only_information():
    run = run_of(agent("a", llm(0.5), tool("weather", 1.0), tool("news", 1.0), llm(0.5)))
    finding = the_finding(run, KIND)
    assert finding.severity == "info"
    assert "hidden" in finding.recommendation


def test_a_request_of_the_program_after_a_tool_is_only_information():
    """The model asked for the tool, as its id says."""
    calls = [_weather(call_id="1"), tool("news", 1.0, args={"topic": "chess"}, result="Queen lost")]
    finding = the_finding(run_of(agent("a", llm(0.5), *calls, llm(0.5))), KIND)
    assert finding.severity == "info"
    assert "one model turn" not in finding.recommendation


def test_a_call_in_between_that_needs_nothing():
    between = tool("set_flag", 0.5, args={"x": "flag9"}, result="fine")
    assert the_finding(run_of(workflow(_weather(), between, _news())), KIND).calls == 2


def test_known_independent_without_content():
    calls = [tool(name, 1.0, args={"x": name}, hashed=True, depends_on=[]) for name in ("one", "two", "three")]
    finding = the_finding(run_of(agent("a", llm(0.5), *calls, llm(0.5))), KIND)
    assert (finding.calls, finding.severity) == (3, "critical")
    assert finding.saving_s == pytest.approx(2.0)


def test_only_the_independent_ones_are_named():
    third = tool("summary", 1.0, args={"of": "Queen lost"}, result="a sad day")
    run = run_of(agent("a", llm(0.5), _weather(), _news(), third, llm(0.5)))
    assert the_finding(run, KIND).evidence == calls_of(run, "weather") + calls_of(run, "news")


def test_sub_agents_asked_by_one_turn():
    helpers = [tool(f"ask_{name}", agent(name, llm(2.0)), call_id=name) for name in ("one", "two")]
    run = run_of(agent("boss", llm(0.5), *helpers, llm(0.5)))
    finding = the_finding(run, KIND)
    assert (finding.severity, finding.saving_s) == ("warning", pytest.approx(2.0))


def test_two_lanes_of_one_semaphore():
    lanes = [_weather(at=0.5), _news(at=0.6), tool("rates", 1.0, args={"of": "EUR"}, result="7", at=1.6)]
    run = run_of(agent("a", llm(0.5), *lanes, llm(0.5, at=2.6)))
    assert the_finding(run, KIND).calls == 2


def test_many_of_one_operation_are_a_loop_instead():
    calls = [tool("fetch", 0.5, args={"id": f"i{i}"}, result=f"r{i}") for i in range(6)]
    assert {finding.kind for finding in findings(run_of(agent("a", llm(0.5), *calls, llm(0.5))))} == {
        "n_plus_one_calls"
    }


def test_many_of_one_operation_with_hidden_arguments():
    calls = [tool("fetch", 0.5, call_id=str(i)) for i in range(6)]
    assert the_finding(run_of(agent("a", llm(0.5), *calls, llm(0.5))), KIND).calls == 6


def test_severity_by_the_share_the_user_sets_for_the_operation():
    calls = [tool("one", 3.0, call_id="1"), tool("two", 3.0, call_id="2")]
    trace = agent("a", llm(2.0), *calls, llm(2.0))
    assert the_finding(run_of(trace), KIND).severity == "warning"
    assert the_finding(run_of(trace, thresholds={"critical_share@one": 0.2}), KIND).severity == "critical"
