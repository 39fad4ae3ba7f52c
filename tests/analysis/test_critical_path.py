from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from _random_runs import trees
from _traces import agent, llm, node, records, run_of, together, tool, wait
from otel_agentperf.analysis.critical_path import critical_times, lasting, walk_back
from otel_agentperf.analysis.runs import build_run
from otel_agentperf.model import SpanRecord

CASES = json.loads((Path(__file__).parent / "data" / "jaeger_critical_path.json").read_text())


def named(run):
    start = run.root.start_ns
    return [
        (part.span.operation, round((part.start_ns - start) / 1e9, 3), round((part.end_ns - start) / 1e9, 3))
        for part in run.path
    ]


def from_jaeger(trace):
    spans = []
    for told in trace["spans"]:
        parents = [reference["spanID"] for reference in told["references"] if reference["refType"] == "CHILD_OF"]
        follows = [reference["spanID"] for reference in told["references"] if reference["refType"] != "CHILD_OF"]
        start = told["startTime"] * 1000
        spans.append(
            SpanRecord(
                trace_id="t",
                span_id=told["spanID"],
                # What follows from a span is not below it.
                parent_id=parents[0] if parents else f"not {follows[0]}" if follows else None,
                name=told["operationName"],
                kind="other",
                operation=told["operationName"],
                start_ns=start,
                end_ns=start + told["duration"] * 1000,
            )
        )
    return spans


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_jaegers_cases(case):
    spans = from_jaeger(case["trace"])
    [root] = [span for span in spans if span.parent_id is None]
    path = build_run(root, spans).path
    found = [(part.span.span_id, part.start_ns // 1000, part.end_ns // 1000) for part in reversed(path)]
    assert found == [(part["spanID"], part["sectionStart"], part["sectionEnd"]) for part in case["expected"]]


def test_a_leaf_is_its_own_path():
    assert named(run_of(agent("a", 2.0))) == [("a", 0, 2)]


def test_siblings_that_touch_are_in_sequence():
    run = run_of(agent("a", llm(1.0), tool("t", 1.0), llm(1.0)))
    assert named(run) == [("gpt", 0, 1), ("t", 1, 2), ("gpt", 2, 3)]


def test_the_longer_of_two_at_the_same_time():
    assert named(run_of(agent("a", together(tool("t", 1.0), tool("u", 3.0)), wait(1.0)))) == [("u", 0, 3), ("a", 3, 4)]


def test_of_two_that_end_together_the_longer_explains_more():
    for first in (True, False):
        pair = [tool("long", 3.0, at=0.0), tool("short", 1.0, at=2.0)]
        assert named(run_of(agent("a", *(pair if first else pair[::-1])))) == [("long", 0, 3)]


def test_a_span_of_no_length_between_siblings():
    run = run_of(agent("a", tool("t", 1.0), tool("z", 0.0), tool("u", 1.0)))
    assert named(run) == [("t", 0, 1), ("u", 1, 2)]


def test_down_to_the_grandchildren():
    run = run_of(agent("a", tool("t", wait(0.5), llm(1.0)), wait(0.5)))
    assert named(run) == [("t", 0, 0.5), ("gpt", 0.5, 1.5), ("a", 1.5, 2)]


def test_times_by_span():
    run = run_of(agent("a", wait(1.0), tool("t", 1.0), wait(1.0)))
    assert critical_times(run.path) == {run.root.span_id: 2_000_000_000, run.spans[1].span_id: 1_000_000_000}


def test_no_length_at_all():
    run = run_of(agent("a", 0.0, tool("t", 0.0)))
    assert lasting(walk_back(run.root, run.children)) == ()


@settings(max_examples=150, deadline=None)
@given(trees())
def test_the_path_tiles_the_root_exactly(tree):
    run = run_of(tree)
    edges = [edge for part in run.path for edge in (part.start_ns, part.end_ns)]
    if not run.root.duration_ns:
        assert not run.path
        return
    assert edges[0] == run.root.start_ns
    assert edges[-1] == run.root.end_ns
    assert edges[1:-1:2] == edges[2::2]
    for part in run.path:
        assert part.start_ns < part.end_ns
        assert part.span.start_ns <= part.start_ns
        assert part.end_ns <= part.span.end_ns
    assert sum(run.critical_ns.values()) == run.root.duration_ns


def test_two_thousand_levels():
    spans = records(agent("a", 2.0))
    for level in range(2_000):
        [inner] = records(node("n", 2.0, span_id=f"{level + 2:016x}", parent_id=spans[-1].span_id))
        spans.append(inner)
    run = build_run(spans[0], spans)
    assert [(part.span.span_id, part.end_ns - part.start_ns) for part in run.path] == [
        (spans[-1].span_id, 2_000_000_000)
    ]
