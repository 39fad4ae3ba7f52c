from __future__ import annotations

from time import process_time

import pytest
from hypothesis import given, settings

from _random_runs import trees
from _traces import agent, db, findings, llm, node, records, run_of, the_finding, tool
from otel_agentperf.analysis.replay import replay
from otel_agentperf.analysis.settle import settle
from otel_agentperf.model import Change

US = 1e-6


def ends(*siblings):
    """Seconds after the start, by name, below an agent of 100 s."""
    spans = records(agent("a", 100.0, *siblings))
    start = spans[0].start_ns
    return {span.operation: (span.end_ns - start) / 1e9 for span in settle(spans, spans[0])[1:]}


def test_a_hair_is_taken_off_the_earlier():
    assert ends(tool("t", 4.0, at=1.0), tool("u", 4.0, at=5.0 - 3 * US)) == {"t": 4.999997, "u": 8.999997}


def test_all_that_end_when_the_next_starts():
    found = ends(tool("t", 1.0, at=0.0), tool("u", 0.999998, at=0.0), llm(1.0, at=0.999997))
    assert (found["t"], found["u"]) == (0.999997, 0.999997)


@pytest.mark.parametrize(
    ("seconds", "at"),
    [
        (4.0, 4.99),  # 10 ms are no hair
        (0.009, 4.9995),  # neither is a twentieth of a short call
        (0.0005, 4.9993),  # wholly inside
        (4.0, 5.0),
        (4.0, 6.0),
    ],
)
def test_what_overlaps_more_or_not_at_all_stays(seconds, at):
    assert ends(tool("t", 4.0, at=1.0), tool("u", seconds, at=at))["t"] == 5.0


def test_a_fan_out_stays():
    found = ends(*[tool(f"t{i}", 1.0 + i * US, at=i * US) for i in range(50)])
    assert found == {f"t{i}": pytest.approx(1.0 + 2 * i * US, abs=1e-9) for i in range(50)}


def test_spans_of_different_parents_stay():
    spans = records(agent("a", 100.0, node("x", tool("t", 4.0, at=1.0)), node("y", tool("u", 4.0, at=0.0), at=4.9999)))
    assert [span.end_ns for span in settle(spans, spans[0]) if span.operation == "t"] == [
        span.end_ns for span in spans if span.operation == "t"
    ]


def test_the_path_goes_through_both():
    run = run_of(agent("a", 10.0, db("SELECT * FROM t WHERE id = 1", 4.0, at=1.0), tool("b", 4.0, at=5.0 - 3 * US)))
    assert [segment.span.kind for segment in run.path] == ["agent", "db", "tool", "agent"]
    assert the_finding(run, "slow_operation").operation == "SELECT * FROM t WHERE id = ?"


def test_the_later_one_waited_for_the_earlier():
    run = run_of(agent("a", llm(1.0), tool("t", 2.0, at=1.0 - US), tool("u", 1.0, at=3.0 - 2 * US)))
    [call] = [span.span_id for span in run.spans if span.operation == "t"]
    assert replay(run, Change(drop=frozenset({call}))) / 1e9 == pytest.approx(2.0, abs=1e-4)


def test_calls_of_one_turn_that_touch_are_in_sequence():
    calls = [tool(f"t{i}", 1.0, args={"q": f"w{i}"}, result=f"r{i}", at=0.5 + i * (1 - 2 * US)) for i in range(3)]
    run = run_of(agent("a", llm(0.5), *calls, llm(0.5, at=3.6)))
    assert the_finding(run, "serialized_independent_calls").calls == 3


def test_concurrent_calls_stay_concurrent():
    calls = [tool(f"t{i}", 1.0, args={"q": f"w{i}"}, result=f"r{i}", at=0.5 + i * US) for i in range(3)]
    assert findings(run_of(agent("a", llm(0.5), *calls, llm(0.5, at=1.6))), "serialized_independent_calls") == []


@settings(max_examples=50)
@given(trees())
def test_no_span_changes_by_more_than_a_hair(tree):
    spans = records(tree)
    for before, after in zip(spans, settle(spans, spans[0]), strict=True):
        assert before.start_ns == after.start_ns
        assert 0 <= before.end_ns - after.end_ns <= min(1_000_000, before.duration_ns // 20)


def test_many_that_start_together_cost_no_more():
    spans = records(agent("a", 9.0, *[tool("t", 1.0, at=i * US) for i in range(20_000)]))
    start = process_time()
    settle(spans, spans[0])
    assert process_time() - start < 2.0
