"""When the run waited for a span itself: its own time on the critical path, with no child open."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from ..model import AgentRun, SpanRecord

Interval = tuple[int, int]
"""start and end, nanoseconds"""


class Idle:
    """The idle stretches of a run's spans, each looked for once."""

    def __init__(self, run: AgentRun) -> None:
        self._run = run
        self._path: dict[str, list[Interval]] = defaultdict(list)
        for segment in run.path:
            self._path[segment.span.span_id].append((segment.start_ns, segment.end_ns))
        self._known: dict[str, tuple[list[Interval], list[int], list[int]]] = {}

    def stretches(self, span: SpanRecord) -> list[Interval]:
        return self._of(span)[0]

    def between(self, span: SpanRecord, start_ns: int, end_ns: int) -> int:
        """Nanoseconds of the span's idle stretches inside a stretch of time."""
        intervals, starts, sums = self._of(span)
        return max(0, _until(end_ns, intervals, starts, sums) - _until(start_ns, intervals, starts, sums))

    def _of(self, span: SpanRecord) -> tuple[list[Interval], list[int], list[int]]:
        if span.span_id not in self._known:
            children = self._run.children.get(span.span_id, ())
            covered = merged((child.start_ns, child.end_ns) for child in children)
            idle = without(self._path.get(span.span_id, ()), covered)
            sums = [0, *accumulate(end - start for start, end in idle)]
            self._known[span.span_id] = idle, [start for start, _ in idle], sums
        return self._known[span.span_id]


def merged(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time as disjoint intervals, in order."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def without(intervals: Sequence[Interval], covered: Sequence[Interval]) -> list[Interval]:
    """The parts of disjoint intervals that others, disjoint and in order as well, do not cover."""
    starts = [start for start, _ in covered]
    found: list[Interval] = []
    for start, end in intervals:
        reached = start
        for index in range(max(0, bisect_right(starts, start) - 1), len(covered)):
            first, last = covered[index]
            if first >= end:
                break
            if first > reached:
                found.append((reached, first))
            reached = max(reached, last)
        if reached < end:
            found.append((reached, end))
    return found


def total_ns(intervals: Iterable[Interval]) -> int:
    """Nanoseconds that the intervals cover, once where they overlap."""
    return sum(end - start for start, end in merged(intervals))


def _until(moment: int, intervals: Sequence[Interval], starts: Sequence[int], sums: Sequence[int]) -> int:
    index = bisect_right(starts, moment)
    if not index:
        return 0
    start, end = intervals[index - 1]
    return sums[index - 1] + min(moment, end) - start
