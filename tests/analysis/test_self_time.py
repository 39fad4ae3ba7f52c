from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings

from _random_runs import trees
from _traces import agent, llm, run_of, together, tool, wait
from otel_agentperf.analysis.runs import build_run
from otel_agentperf.analysis.self_time import self_time_ns, self_times

S = 1_000_000_000


def own(run, operation="a"):
    return next(run.self_ns[span.span_id] / S for span in run.spans if span.operation == operation)


def test_without_the_children():
    assert own(run_of(agent("a", wait(1.0), tool("t", 2.0), wait(0.5)))) == 1.5


def test_overlapping_children_count_once():
    assert own(run_of(agent("a", 5.0, tool("t", 2.0, at=1.0), tool("u", 2.0, at=2.0)))) == 2.0


def test_children_at_the_same_time():
    assert own(run_of(agent("a", together(tool("t", 2.0), tool("u", 1.0)), wait(1.0)))) == 1.0


def test_a_child_that_outlives_its_parent_is_clipped():
    assert own(run_of(agent("a", 2.0, tool("t", 5.0, at=1.0)))) == 1.0


def test_a_child_outside_of_its_parent_takes_nothing():
    assert own(run_of(agent("a", 2.0, tool("t", 1.0, at=3.0)))) == 2.0


def test_a_leaf():
    assert self_time_ns(run_of(llm(1.0)).root, ()) == S


def busy_ns(run):
    """By sweeping over all moments: each open span without an open child is at work.

    A span counts as open only within its parents, as its parent's timeline sees it.
    """
    window = {run.root.span_id: (run.root.start_ns, run.root.end_ns)}
    for span in run.walk():
        if span is not run.root:
            first, last = window[span.parent_id]
            window[span.span_id] = max(first, span.start_ns), min(last, span.end_ns)
    moments = sorted({moment for span in window.values() for moment in span})
    total = 0
    for start, end in pairwise(moments):
        open_now = {span_id for span_id, (first, last) in window.items() if first <= start and end <= last}
        parents = {run.by_id[span_id].parent_id for span_id in open_now}
        total += (end - start) * len(open_now - parents)
    return total


def clipped(run):
    """The run with every span cut to its parent, so that nothing hangs over."""
    cut = {run.root.span_id: run.root}
    for span in run.walk():
        if span is not run.root:
            parent = cut[span.parent_id]
            start = min(max(span.start_ns, parent.start_ns), parent.end_ns)
            cut[span.span_id] = replace(span, start_ns=start, end_ns=max(start, min(span.end_ns, parent.end_ns)))
    return build_run(run.root, cut.values())


@settings(max_examples=100, deadline=None)
@given(trees())
def test_self_times_sum_to_the_busy_time(tree):
    run = clipped(run_of(tree))
    assert sum(run.self_ns.values()) == busy_ns(run)


@settings(max_examples=50, deadline=None)
@given(trees())
def test_between_nothing_and_the_duration(tree):
    run = run_of(tree)
    for span in run.spans:
        assert 0 <= run.self_ns[span.span_id] <= span.duration_ns
    assert self_times(run.spans, run.children) == dict(run.self_ns)
