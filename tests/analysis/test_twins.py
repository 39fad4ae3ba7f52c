from __future__ import annotations

from _traces import agent, llm, node, records, run_of, together, tool, wait
from otel_agentperf.analysis.deduplicate import deduplicate
from otel_agentperf.analysis.summary import tokens
from otel_agentperf.analysis.twins import nest_twins


def counts(*trees):
    found = {}
    for span in deduplicate(records(*trees)):
        if span.kind in ("agent", "tool", "llm"):
            found[span.operation] = found.get(span.operation, 0) + 1
    return found


def test_a_call_told_side_by_side_counts_once():
    ours, theirs = tool("t", 1.0, scope="ours", at=0.0), tool("t", 0.99, scope="theirs", at=0.005)
    assert counts(agent("a", ours, theirs)) == {"a": 1, "t": 1}


def test_it_is_the_longer_one_with_the_other_below():
    ours, theirs = tool("t", 1.0, scope="ours", at=0.0), tool("t", 0.99, scope="theirs", at=0.005)
    spans = nest_twins(records(agent("a", ours, theirs)))
    longer = next(span for span in spans if span.scope == "ours")
    shorter = next(span for span in spans if span.scope == "theirs")
    assert shorter.parent_id == longer.span_id


def test_two_trees_of_one_run_are_one():
    ours = agent("b", llm(1.0, scope="ours", tokens=(5, 1)), tool("t", 1.0, scope="ours"), scope="ours", at=0.0)
    theirs = agent(
        "b", llm(1.0, scope="theirs", tokens=(5, 1)), tool("t", 1.0, scope="theirs"), scope="theirs", at=0.001
    )
    tree = agent("a", ours, node("chain", theirs))
    assert counts(tree) == {"a": 1, "b": 1, "gpt": 1, "t": 1}
    assert tokens(run_of(tree).spans).input == 5


def test_calls_at_once_find_each_its_own_twin():
    pairs = [
        (tool("t", 1.0 + number / 10, scope="ours", at=number / 100),
         tool("t", 0.995 + number / 10, scope="theirs", at=0.003 + number / 100))
        for number in range(4)
    ]  # fmt: skip
    assert counts(agent("a", *(span for pair in pairs for span in pair))) == {"a": 1, "t": 4}


def test_a_client_below_only_one_of_them_is_the_call_of_both():
    theirs = llm(llm(0.9, scope="client", tokens=(5, 1)), scope="theirs", tokens=(5, 1), at=0.001)
    spans = deduplicate(records(agent("a", llm(0.902, scope="ours", tokens=(5, 1), at=0.0), theirs)))
    assert [span.scope for span in spans if span.kind == "llm"] == ["client"]
    assert tokens(spans).input == 5


def test_what_is_below_either_is_below_both():
    ours = tool("t", llm(0.5, scope="ours"), wait(0.5), scope="ours", at=0.0)
    theirs = tool("t", wait(0.5), tool("u", 0.4, scope="theirs"), scope="theirs", at=0.001)
    run = run_of(agent("a", ours, theirs))
    outer = next(span for span in run.spans if span.kind == "tool" and span.operation == "t")
    assert {"gpt", "u"} <= {span.operation for span in run.below(outer)}


def test_one_instrumentations_calls_at_once_are_several():
    assert counts(agent("a", together(tool("t", 1.0), tool("t", 1.0)))) == {"a": 1, "t": 2}


def test_calls_of_two_instrumentations_one_after_the_other_are_two():
    assert counts(agent("a", tool("t", 1.0, scope="ours"), tool("t", 1.0, scope="theirs"))) == {"a": 1, "t": 2}


def test_a_short_call_during_a_long_one_is_another():
    long, short = llm(5.0, scope="ours", at=0.0), llm(1.0, scope="theirs", at=1.0)
    assert counts(agent("a", long, short)) == {"a": 1, "gpt": 2}


def test_calls_that_cost_differently_are_two():
    one, other = llm(1.0, scope="ours", tokens=(5, 1), at=0.0), llm(0.99, scope="theirs", tokens=(9, 2), at=0.005)
    assert counts(agent("a", one, other)) == {"a": 1, "gpt": 2}


def test_calls_with_other_arguments_are_two():
    one = tool("t", 1.0, scope="ours", args={"x": 1}, at=0.0)
    other = tool("t", 0.99, scope="theirs", args={"x": 2}, at=0.005)
    assert counts(agent("a", one, other)) == {"a": 1, "t": 2}


def test_calls_that_both_instrumentations_nest_are_not_paired_across():
    first = llm(llm(1.0, scope="client"), scope="framework", at=0.0)
    second = llm(llm(0.97, scope="client"), scope="framework", at=0.01)
    assert counts(agent("a", first, second)) == {"a": 1, "gpt": 2}


def test_what_logfire_says_after_a_streamed_answer_is_no_call():
    said = llm(0.0, scope="logfire.openai", tokens=(5, 1), at=1.2)
    spans = deduplicate(records(agent("a", llm(1.0, scope="logfire.openai", at=0.0), said)))
    assert [span.kind for span in spans] == ["agent", "llm", "other"]
    assert tokens(spans).input == 5
