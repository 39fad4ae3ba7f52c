"""Spans sorted into runs as they start, within bounds that hold whatever the program does."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.run_buffer import Bucket, RunBuffer

TRACE = 7


class Spans:
    """Starts and ends spans in a buffer, whose records are their ids."""

    def __init__(self, buffer: RunBuffer, trace: int = TRACE) -> None:
        self.buffer = buffer
        self.trace = trace

    def start(self, span_id: int, parent_id: int | None = None, agent: bool = False) -> Bucket | None:
        """Its bucket, where it is the root of one."""
        bucket = self.buffer.started(self.trace, span_id, parent_id, f"span {span_id}", agent)
        return bucket if bucket is not None and bucket.root_id == span_id else None

    def end(self, span_id: int) -> Bucket | None:
        bucket = self.buffer.ended(self.trace, span_id, span_id)
        if bucket is not None and bucket.root_id == span_id:
            self.buffer.close(self.trace, bucket)
        return bucket

    def whole(self, span_id: int, parent_id: int | None = None, agent: bool = False) -> Bucket | None:
        self.start(span_id, parent_id, agent)
        return self.end(span_id)


@pytest.fixture
def buffer() -> RunBuffer:
    return RunBuffer(max_runs=10, max_spans=100, max_age_s=60)


@pytest.fixture
def spans(buffer: RunBuffer) -> Spans:
    return Spans(buffer)


def test_a_run_has_its_root_and_all_below(spans: Spans, buffer: RunBuffer) -> None:
    assert spans.start(1) is not None
    assert spans.start(2, 1) is None, "not a root"
    spans.start(3, 2)
    for span_id in (3, 2):
        bucket = spans.end(span_id)
    root = spans.end(1)
    assert root is bucket
    assert root is not None
    assert root.spans() == [3, 2, 1]
    assert root.open_spans == root.dropped == 0
    assert len(buffer) == 0


def test_traces_do_not_mix(buffer: RunBuffer) -> None:
    one, two = Spans(buffer, 1), Spans(buffer, 2)
    one.start(1)
    two.start(2)
    one.whole(3, 1)
    two.whole(4, 2)
    first, second = one.end(1), two.end(2)
    assert first is not None
    assert second is not None
    assert (first.spans(), second.spans()) == ([3, 1], [4, 2])


def test_an_agent_below_a_local_root_is_a_run_of_its_own_and_still_seen_by_the_root(spans: Spans) -> None:
    spans.start(1)
    spans.start(2, 1, agent=True)
    spans.whole(3, 2)
    agent = spans.end(2)
    root = spans.end(1)
    assert agent is not None
    assert agent.is_run
    assert agent.spans() == [3, 2]
    assert root is not None
    assert root.has_runs
    assert root.spans() == [1, 3, 2]


def test_an_agent_inside_an_agent_is_part_of_its_run(spans: Spans) -> None:
    spans.start(1, agent=True)
    assert spans.start(2, 1, agent=True) is None
    spans.end(2)
    root = spans.end(1)
    assert root is not None
    assert root.spans() == [2, 1]


def test_two_agents_beside_each_other(spans: Spans) -> None:
    spans.start(1)
    for agent in (2, 3):
        spans.start(agent, 1, agent=True)
    spans.whole(4, 2)
    spans.whole(5, 3)
    two, three = spans.end(2), spans.end(3)
    assert two is not None
    assert three is not None
    assert (two.spans(), three.spans()) == ([4, 2], [5, 3])


def test_what_is_still_open_when_the_run_ends_is_late(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1, agent=True)
    spans.start(2, 1)
    root = spans.end(1)
    assert root is not None
    assert root.open_spans == 1
    assert spans.end(2) is None
    assert buffer.dropped == {"late": 1}
    assert len(buffer) == 0


def test_what_outlives_a_local_root_may_still_be_an_agent(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1)
    spans.start(2, 1)
    spans.end(1)
    spans.whole(3, 2)
    late = spans.end(2)
    assert late is not None
    assert not late.is_run
    assert late.spans() == [3, 2]
    assert len(buffer) == 0


def test_a_span_below_no_known_span_is_an_orphan(spans: Spans, buffer: RunBuffer) -> None:
    bucket = spans.whole(5, 99)
    assert bucket is not None
    assert bucket.orphan
    assert buffer.dropped == {"orphan": 1}


def test_an_agent_below_no_known_span_is_a_run(spans: Spans, buffer: RunBuffer) -> None:
    bucket = spans.whole(5, 99, agent=True)
    assert bucket is not None
    assert bucket.is_run
    assert buffer.dropped == {}


def test_ending_twice_or_never_started(spans: Spans) -> None:
    assert spans.end(1) is None
    spans.start(1)
    assert spans.end(1) is not None
    assert spans.end(1) is None


def test_open_ancestors_stop_where_the_chain_breaks(buffer: RunBuffer) -> None:
    class Span:
        def __init__(self, span_id: int, parent: Any = None, is_remote: bool = False) -> None:
            self.span_id, self.parent, self.is_remote = span_id, parent, is_remote

    far = Span(9, is_remote=True)
    top = Span(1, far)
    middle = Span(2, top)
    buffer.started(TRACE, 1, None, top, False)
    buffer.started(TRACE, 2, 1, middle, False)
    assert list(buffer.open_ancestors(TRACE, 2)) == [middle, top]
    buffer.ended(TRACE, 2, None)
    assert list(buffer.open_ancestors(TRACE, 2)) == []
    assert list(buffer.open_ancestors(8, 2)) == []
    buffer.started(TRACE, 2, 1, middle, False)
    twice = Span(1, middle)
    buffer.started(TRACE, 1, 2, twice, False)  # an id that is used twice
    assert len(list(islice(buffer.open_ancestors(TRACE, 2), 9))) == 2, "a circle"


# --- bounds -----------------------------------------------------------------------------------------------


def test_no_more_spans_a_run_than_allowed_and_the_rest_is_counted(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1, agent=True)
    for span_id in range(2, 302):
        spans.whole(span_id, 1)
    root = spans.end(1)
    assert root is not None
    assert len(root.spans()) == 100
    assert root.dropped == 201
    assert buffer.dropped == {"full": 201}


def test_children_of_a_span_that_was_not_kept_belong_to_its_run(spans: Spans) -> None:
    spans.start(1, agent=True)
    for span_id in range(2, 102):
        spans.start(span_id, span_id - 1)
    spans.start(200, 101)
    root = spans.end(1)
    assert root is not None
    assert root.dropped == 2


def test_the_oldest_run_gives_way_to_too_many(buffer: RunBuffer) -> None:
    for trace in range(11):
        Spans(buffer, trace).start(1)
    assert len(buffer) == 10
    assert Spans(buffer, 0).end(1) is None
    assert Spans(buffer, 1).end(1) is not None
    assert buffer.dropped == {"full": 1}


def test_the_oldest_run_gives_way_to_too_many_spans_of_all_runs_together() -> None:
    buffer = RunBuffer(max_runs=1_000, max_spans=10)
    roots = {trace: Spans(buffer, trace) for trace in range(1, 101)}
    for spans in roots.values():
        spans.start(1, agent=True)
        for span_id in range(2, 9):
            spans.whole(span_id, 1)
    assert len(buffer) == 25  # of 8 spans each
    assert buffer.dropped == {"full": 75 * 8}
    last = roots[100].end(1)
    assert last is not None
    assert (len(last.spans()), last.dropped) == (8, 0)
    assert roots[1].end(1) is None
    for trace in range(76, 100):
        roots[trace].end(1)
    assert (len(buffer), buffer._size) == (0, 0)


def test_the_only_trace_keeps_what_it_has_and_takes_no_more() -> None:
    buffer = RunBuffer(max_runs=1_000, max_spans=10)
    spans = Spans(buffer)
    spans.start(1)
    for agent in range(100, 10_100, 100):
        spans.start(agent, 1, agent=True)
        for span_id in range(agent + 1, agent + 9):
            spans.whole(span_id, agent)
    assert buffer._size == 200
    first, last = spans.end(100), spans.end(10_000)
    assert first is not None
    assert (len(first.spans()), first.dropped) == (9, 0)
    assert last is None


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 9), st.booleans(), st.booleans())))
def test_what_is_kept_is_counted_right(steps: list[tuple[int, int, int, bool, bool]]) -> None:
    buffer = RunBuffer(max_runs=3, max_spans=6)
    for trace_id, span_id, parent, agent, ends in steps:
        if ends:
            bucket = buffer.ended(trace_id, span_id, span_id)
            if bucket is not None and bucket.root_id == span_id:
                buffer.close(trace_id, bucket)
        elif not buffer.is_open(trace_id, span_id):
            buffer.started(trace_id, span_id, parent or None, None, agent)
        assert buffer._size == sum(trace.size for trace in buffer._traces.values())
        assert all(trace.size >= 0 for trace in buffer._traces.values())
    buffer.drain()
    assert (len(buffer), buffer._size) == (0, 0)


def test_a_run_that_never_ends_is_forgotten_with_age() -> None:
    now = 0.0
    buffer = RunBuffer(max_age_s=60, clock=lambda: now)
    Spans(buffer, 1).start(1)
    now = 50.0
    Spans(buffer, 2).start(1)
    now = 61.0
    Spans(buffer, 3).start(1)
    assert Spans(buffer, 1).end(1) is None
    assert Spans(buffer, 2).end(1) is not None
    assert buffer.dropped == {"old": 1}


def test_a_root_that_stays_open_for_days_does_not_grow(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1)
    for run in range(10, 100_000, 10):
        spans.start(run, 1, agent=True)
        spans.whole(run + 1, run)
        spans.start(run + 2, run)  # never ends
        assert spans.end(run) is not None
    trace = buffer._traces[TRACE]
    assert len(trace.buckets) == len(trace.open_spans) == 1
    root = trace.buckets[1]
    assert root.size <= 100
    assert len(root.nested) <= 34
    assert trace.open_runs == 0


def test_local_roots_that_overlap_for_ever_in_one_trace_do_not_grow(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1)
    for span_id in range(2, 20_000):
        spans.start(span_id)
        spans.whole(span_id + 1_000_000, span_id)
        spans.end(span_id - 1)
    assert len(buffer._traces[TRACE].buckets) == 2


def test_agents_that_never_end_in_one_trace_are_bounded(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1)
    for span_id in range(2, 20_000):
        spans.start(span_id, 1, agent=True)
    trace = buffer._traces[TRACE]
    assert trace.open_runs == 10
    assert len(trace.buckets) <= 110
    assert len(buffer.open_agents()) <= 110


@pytest.mark.parametrize("shape", ["roots", "children", "agents", "chain", "orphans"])
def test_200_000_spans_that_never_end_take_bounded_memory(shape: str) -> None:
    buffer = RunBuffer()
    gc.collect()
    tracemalloc.start()
    try:
        if shape in ("children", "agents", "chain"):
            buffer.started(1, 1, None, None, False)
        for span_id in range(2, 200_002):
            trace, parent = (span_id, None) if shape == "roots" else (1, 1)
            if shape == "chain":
                parent = span_id - 1
            if shape == "orphans":
                trace, parent = span_id, 999_999_999
            buffer.started(trace, span_id, parent, None, shape == "agents")
        assert tracemalloc.get_traced_memory()[0] < 10_000_000
    finally:
        tracemalloc.stop()
    assert sum(buffer.dropped.values()) >= 180_000


def test_draining_gives_every_open_span_once(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1)
    spans.start(2, 1, agent=True)
    spans.start(3, 2)
    spans.whole(4, 2)
    Spans(buffer, 8).start(9)
    drained = {bucket.root_id: sorted(open_spans) for bucket, open_spans in buffer.drain()}
    assert drained == {1: ["span 1"], 2: ["span 2", "span 3"], 9: ["span 9"]}
    assert len(buffer) == 0
    assert buffer.drain() == []


def test_agents_are_counted_while_they_are_open(spans: Spans, buffer: RunBuffer) -> None:
    spans.start(1, agent=True)
    spans.start(2, 1, agent=True)
    assert len(buffer.open_agents()) == 2
    spans.end(2)
    assert len(buffer.open_agents()) == 1
    spans.start(3, 1, agent=True)
    spans.end(1)
    assert len(buffer.open_agents()) == 0


def test_threads(buffer: RunBuffer) -> None:
    big = RunBuffer(max_runs=1_000, max_spans=10_000)
    found: list[int] = []

    def work(trace: int) -> None:
        spans = Spans(big, trace % 5)
        first = trace * 100_000
        spans.start(first, agent=True)
        for span_id in range(first + 1, first + 301):
            spans.whole(span_id, first)
        root = spans.end(first)
        assert root is not None
        found.append(len(root.spans()))

    threads = [threading.Thread(target=work, args=(trace,)) for trace in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [301] * 20
    assert len(big) == 0


def test_a_buffer_that_is_gone_leaves_nothing_for_a_fork_to_find(buffer: RunBuffer) -> None:
    import os

    made = RunBuffer()
    reference = __import__("weakref").ref(made)
    del made
    gc.collect()
    assert reference() is None
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
