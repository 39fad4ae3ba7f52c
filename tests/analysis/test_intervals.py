from __future__ import annotations

from _traces import agent, run_of, tool
from otel_agentperf.analysis.intervals import Clipped, by_finish, clip, uncovered


def children(*edges):
    parts = [tool(f"{start}-{end}", end - start, at=start) for start, end in edges]
    run = run_of(agent("a", 10.0, *parts))
    return run, [span for span in run.spans if span is not run.root]


def cut(edges, start, end):
    run, spans = children(*edges)
    zero = run.root.start_ns
    found = clip(spans, zero + start * 10**9, zero + end * 10**9)
    return [((one.start - zero) / 1e9, (one.end - zero) / 1e9) for one in found], found, zero


def test_clip():
    assert cut([(0, 1), (1, 4), (3, 9), (6, 7), (2, 3)], 2, 5)[0] == [(2, 4), (2, 3), (3, 5)]


def test_clip_keeps_what_touches_an_edge_as_a_moment():
    assert cut([(0, 2), (5, 6)], 2, 5)[0] == [(2, 2), (5, 5)]


def test_uncovered():
    _, found, zero = cut([(1, 2), (3, 6), (4, 5)], 0, 8)
    gaps = uncovered(found, zero, zero + 8 * 10**9)
    assert [((start - zero) / 1e9, (end - zero) / 1e9) for start, end in gaps] == [(0, 1), (2, 3), (6, 8)]
    assert uncovered([], 3, 5) == [(3, 5)]
    assert uncovered([], 3, 3) == []


def test_by_finish():
    span = run_of(agent("a", 1.0)).root
    order = [Clipped(span, *edges) for edges in ((5, 5), (0, 5), (3, 5), (0, 4))]
    assert [(one.start, one.end) for one in by_finish(order)] == [(0, 4), (3, 5), (0, 5), (5, 5)]
