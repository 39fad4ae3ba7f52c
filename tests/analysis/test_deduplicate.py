from __future__ import annotations

from _traces import agent, llm, node, records, run_of, span, tool
from otel_agentperf.analysis.deduplicate import deduplicate
from otel_agentperf.analysis.summary import tokens


def kinds(*trees):
    return [span.kind for span in deduplicate(records(*trees))]


def test_of_nested_model_calls_the_innermost_counts_with_its_tokens():
    spans = deduplicate(records(agent("a", llm(llm(1.0, tokens=(10, 5)), tokens=(10, 5)))))
    assert [span.kind for span in spans] == ["agent", "other", "llm"]
    assert (tokens(spans).input, tokens(spans).output) == (10, 5)


def test_tokens_that_only_the_outer_call_tells_go_down_once():
    for inner in ([llm(1.0)], [llm(1.0, error="x"), llm(1.0)]):
        spans = deduplicate(records(agent("a", llm(*inner, tokens=(10, 5)))))
        assert (tokens(spans).input, tokens(spans).output) == (10, 5)


def test_tokens_go_down_through_three_levels():
    spans = deduplicate(records(agent("a", llm(llm(llm(1.0)), tokens=(10, 5)))))
    assert [span.kind for span in spans] == ["agent", "other", "other", "llm"]
    assert spans[-1].tokens.input == 10


def test_tokens_do_not_go_down_where_the_inner_call_tells_its_own():
    spans = deduplicate(records(agent("a", llm(llm(1.0, tokens=(7, 1)), llm(1.0), tokens=(10, 5)))))
    assert tokens(spans).input == 7


def test_a_model_call_told_again_when_it_is_over_counts_once():
    told = llm(1.0, tokens=(10, 5), scope="litellm")
    for own in ([], [llm(1.0, tokens=(10, 5))], [llm(1.0)]):
        spans = deduplicate(records(agent("a", llm(*own, told, tokens=(10, 5)))))
        assert (tokens(spans).input, tokens(spans).output) == (10, 5)
        assert [span.kind for span in spans].count("llm") == 1
    assert kinds(agent("a", told)) == ["agent", "llm"]


def test_a_model_call_inside_a_tool_inside_a_model_call_is_another():
    assert kinds(agent("a", llm(tool("t", llm(1.0))))) == ["agent", "llm", "tool", "llm"]


def test_a_tool_seen_by_two_instrumentations_counts_once_with_the_details_of_both():
    spans = deduplicate(
        records(
            agent("a", tool("t", node("step", tool("t", 1.0, args={"x": 5}, result="r", scope="inner")), scope="outer"))
        )
    )
    assert [span.kind for span in spans] == ["agent", "tool", "other", "other"]
    assert (spans[1].args, spans[1].result) == ('{"x":5}', "r")


def test_a_tool_on_an_mcp_server_in_the_same_process_counts_once():
    request = span("tools/call t", tool("t", 1.0), attributes={"mcp.method.name": "tools/call"})
    assert kinds(agent("a", tool("t", request), tool("t", tool("t", 1.0)))) == [
        "agent", "tool", "mcp", "other", "tool", "tool"
    ]  # fmt: skip


def mcp_call(name, *children, error=None, args=None):
    """A call as the client on this side sees it."""
    return tool(name, *(children or (1.0,)), error=error, args=args).but(name=f"tools/call {name}")


def test_a_tool_on_an_mcp_server_elsewhere_counts_once_with_its_failure():
    spans = deduplicate(records(agent("a", tool("t", mcp_call("t", error="tool_error")))))
    assert [span.kind for span in spans] == ["agent", "tool", "other"]
    assert spans[1].error == "tool_error"


def test_a_framework_may_put_the_mcp_servers_name_before_the_tools():
    same, other = mcp_call("t", args={"x": 1}), mcp_call("t", args={"x": 2})
    assert kinds(agent("a", tool("srv__t", same, args={"x": 1}))) == ["agent", "tool", "other"]
    assert kinds(agent("a", tool("my_t", other, args={"x": 1}))) == ["agent", "tool", "tool"]
    assert kinds(agent("a", tool("srvt", same, args={"x": 1}))) == ["agent", "tool", "tool"]


def test_an_mcp_tool_tried_again_by_its_framework_is_two_calls():
    tries = [mcp_call("t", error="x"), mcp_call("t")]
    assert kinds(agent("a", tool("t", *tries))) == ["agent", "other", "tool", "tool"]


def test_a_call_over_mcp_that_asks_the_server_again_is_one():
    rounds = [tool("t", 1.0, scope="server"), tool("t", 1.0, scope="server")]
    assert kinds(agent("a", mcp_call("t", *rounds))) == ["agent", "tool", "other", "other"]


def test_what_the_inner_span_depends_on_says_nothing_about_the_outer_ones_siblings():
    inner = tool("t", 1.0, args={"x": 5}, depends_on=[], scope="inner")
    assert deduplicate(records(agent("a", tool("t", inner, scope="outer"))))[1].depends_on is None


def test_a_tool_seen_three_times_counts_once():
    tree = tool("t", tool("t", tool("t", 1.0, args={"x": 5}, scope="c"), scope="b"), scope="a")
    spans = deduplicate(records(agent("a", tree)))
    assert [span.kind for span in spans] == ["agent", "tool", "other", "other"]
    assert spans[1].args == '{"x":5}'


def test_several_attempts_inside_a_tool_are_the_calls():
    attempts = [tool("t", 1.0, scope="in", error="x"), tool("t", 1.0, scope="in")]
    assert kinds(agent("a", tool("t", *attempts, scope="out"))) == ["agent", "other", "tool", "tool"]


def test_an_agent_seen_twice_counts_once():
    run = run_of(agent("bot", agent("bot", llm(1.0), scope="inner"), scope="outer"))
    assert [span.kind for span in run.spans if span.kind == "agent"] == ["agent"]
    assert run.root.kind == "agent"


def test_recursion_by_the_same_instrumentation_stays():
    assert kinds(agent("a", tool("t", tool("t", 1.0)))) == ["agent", "tool", "tool"]
    assert kinds(agent("a", llm(1.0), agent("a", 1.0))) == ["agent", "llm", "agent"]


def test_an_agent_that_does_nothing_but_run_itself_is_one():
    assert kinds(agent("a", agent("a", llm(1.0)))) == ["agent", "other", "llm"]
    assert kinds(agent("a", agent("b", llm(1.0)))) == ["agent", "agent", "llm"]


def test_other_names_stay():
    assert kinds(agent("a", tool("t", tool("u", 1.0, scope="x")))) == ["agent", "tool", "tool"]


def test_a_very_deep_chain():
    tree = llm(1.0, tokens=(3, 1))
    for _ in range(300):
        tree = llm(node("n", tree))
    spans = deduplicate(records(agent("a", tree)))
    assert sum(span.kind == "llm" for span in spans) == 1


def test_the_size_that_only_the_inner_span_tells():
    inner = tool("search", 0.5, result="leaf", more={"agentperf.result.size": 40_000}, scope="ours")
    run = run_of(agent("a", tool("search", inner, scope="framework")))
    [outer] = [span for span in run.spans if span.kind == "tool"]
    assert (outer.scope, outer.result_size, outer.shown_size) == ("framework", 40_000, len("leaf"))


def test_a_call_seen_twice_is_marked_so_but_an_agent_seen_twice_is_not():
    twice = deduplicate(records(llm(llm(1.0, scope="client"), scope="fw")))
    assert [span.double for span in twice] == [True, False]
    nested = deduplicate(records(agent("a", agent("a", llm(1.0), scope="client"), llm(1.0), scope="fw")))
    assert not any(span.double for span in nested)
