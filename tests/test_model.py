from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from _traces import agent, llm, node, run_of, tool
from otel_agentperf.model import Finding, SpanRecord, Tokens, total


def span(**given):
    return SpanRecord("t", "s", None, "n", "tool", "n", **{"start_ns": 0, "end_ns": 2_500_000_000, **given})


def test_durations():
    assert span().duration_s == 2.5
    assert span(end_ns=-5).duration_ns == 0


def test_records_do_not_change():
    with pytest.raises(FrozenInstanceError):
        span().name = "other"


def test_tokens_are_true_when_anything_is_told():
    assert not Tokens()
    assert Tokens(input=0)
    assert Tokens(output=0)


def test_total_of_what_is_known():
    assert total([1, None, 2]) == 3
    assert total([None]) is None
    assert total([]) is None


def test_a_recommendation_tells_the_replayed_saving():
    finding = Finding("k", "info", "t", 1, 1.0, ("s",), "always", lambda saving: f"saves {saving}", saving_s=0.5)
    assert finding.recommendation == "saves 0.5"


def run():
    return run_of(
        agent("a", node("n", llm(1.0)), tool("t", agent("b", node("m", llm(1.0)))), node("o", tool("u", llm(1.0))))
    )


def operations(run, span_ids):
    return sorted(run.by_id[span_id].operation for span_id in span_ids)


def test_walk_is_parents_first():
    found = run()
    assert [member.operation for member in found.walk()] == ["a", "n", "gpt", "t", "b", "m", "gpt", "o", "u", "gpt"]
    assert [member.operation for member in found.below(found.by_id[found.children[found.root.span_id][0].span_id])] == [
        "gpt"
    ]
    assert found.spans[0] is found.root


def test_ancestors_end_at_the_root():
    found = run()
    deepest = [member for member in found.walk() if member.operation == "gpt"][1]
    assert [above.operation for above in found.ancestors(deepest)] == ["m", "b", "t", "a"]
    assert list(found.ancestors(found.root)) == []


def test_thinking_is_everything_above_a_model_call():
    found = run()
    assert operations(found, found.thinking) == ["a", "b", "gpt", "gpt", "gpt", "m", "n", "o", "t", "u"]


def test_a_turn_is_a_model_call_and_the_steps_around_it():
    found = run()
    assert operations(found, found.turn_asks) == ["gpt", "gpt", "gpt", "m", "n"]


def test_what_a_turn_asks_for_is_what_its_last_model_call_asks_for():
    def asks(*names):
        parts = [{"type": "tool_call", "name": name} for name in names]
        return llm(1.0, result=[{"role": "assistant", "parts": parts}])

    found = run_of(agent("a", node("n", asks("x"), node("m", asks("y", "z"))), llm(1.0)))
    assert [found.turn_asks[member.span_id] for member in found.spans if member.span_id in found.turn_asks] == [
        ("y", "z"),
        ("x",),
        ("y", "z"),
        ("y", "z"),
        None,
    ]
    assert [turn.operation for turn in found.turns[found.root.span_id]] == ["n", "gpt"]


def test_turn_bounds():
    found = run_of(agent("a", llm(1.0), tool("t", 1.0), node("n", llm(2.0)), tool("t", 1.0)))
    start = found.root.start_ns
    first, last = found.turn_bounds[found.root.span_id]
    assert ((first - start) / 1e9, (last - start) / 1e9) == (1.0, 2.0)


def test_thresholds():
    found = run_of(agent("a", 1.0), thresholds={"x.y": 3.0})
    assert found.threshold("x.y", 5.0) == 3.0
    assert found.threshold("x.z", 5.0) == 5.0
