"""Replay (what-if): how long would the run have taken with one thing changed?

A parent's timeline is its own stretches and its children. Happens-before is read off the trace: a child that
started after a sibling had ended waited for it, and for the parent's own work in between. Changing something
moves what waited for it, and nothing else. Replaying no change gives the measured duration exactly, and
removing work never lengthens a run.

A child that is still open well after its parent ended was not waited for, so changing it changes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from itertools import accumulate, chain
from operator import itemgetter

from ..model import AgentRun, Change, SpanRecord
from .critical_path import walk_back
from .intervals import Clipped, by_finish, clip, in_sequence, uncovered

_OVERFLOW_NS = 1_000_000
"""A child may end this much after its parent and still have been waited for: ends are recorded in sequence."""


def replay(run: AgentRun, change: Change) -> int:
    """The run's duration in nanoseconds with `change` made."""
    durations = dict.fromkeys(change.drop, 0)
    leaders = {follower: group[0] for group in change.parallel for follower in group[1:]}
    gaps: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for parent, start, end in change.gaps:
        gaps[parent].append((start, end))
    for span in _changed_parents_last(run, change):
        if span.span_id in change.drop:
            continue
        duration = _replayed(span, _waited_for(run, span), gaps.get(span.span_id, ()), change.drop, durations, leaders)
        durations[span.span_id] = min(duration, change.shrink.get(span.span_id, duration))
    return durations.get(run.root.span_id, run.root.duration_ns)


def movable(run: AgentRun) -> frozenset[str]:
    """The spans whose change can shorten the run: those it waited for, and all above them. Looking here first
    spares the replay of the many calls that ran beside the critical path.

    That is the critical path without the children that outlived their parent, but with those of no length.
    """
    by_id = run.by_id
    walked: Iterable[str] = run.critical_ns
    if any(
        max(child.end_ns for child in below) > by_id[parent].end_ns + _OVERFLOW_NS
        for parent, below in run.children.items()
    ):
        in_time = {parent: _in_time(by_id[parent], below) for parent, below in run.children.items()}
        walked = {segment.span.span_id for segment in walk_back(run.root, in_time)}
    found = {run.root.span_id}
    for span_id in walked:
        while span_id in by_id and span_id not in found:
            found.add(span_id)
            span_id = by_id[span_id].parent_id or ""
    return frozenset(found)


def merge(changes: Iterable[Change]) -> Change:
    """All changes at once, for a joint replay."""
    changes = list(changes)
    shrink: dict[str, int] = {}
    for change in changes:
        for span_id, duration in change.shrink.items():
            shrink[span_id] = min(duration, shrink.get(span_id, duration))
    return Change(
        drop=frozenset().union(*(change.drop for change in changes)),
        shrink=shrink,
        parallel=tuple(group for change in changes for group in change.parallel),
        gaps=tuple(gap for change in changes for gap in change.gaps),
    )


def _changed_parents_last(run: AgentRun, change: Change) -> list[SpanRecord]:
    """The spans whose own time or children change and all above them, children before parents: only their timelines
    can differ."""
    changed = {*change.shrink, *(gap[0] for gap in change.gaps)}
    moved = chain(change.drop, *change.parallel)
    changed.update(run.by_id[span_id].parent_id or "" for span_id in moved if span_id in run.by_id)
    depth: dict[str, int] = {}
    for span_id in changed & run.by_id.keys():
        line = []
        span: SpanRecord | None = run.by_id[span_id]
        while span is not None and span.span_id not in depth:
            line.append(span)
            span = run.by_id.get(span.parent_id or "") if span is not run.root else None
        above = depth[span.span_id] if span is not None else -1
        for height, member in enumerate(reversed(line), start=above + 1):
            depth[member.span_id] = height
    return [run.by_id[span_id] for span_id in sorted(depth, key=depth.__getitem__, reverse=True)]


def _waited_for(run: AgentRun, span: SpanRecord) -> list[Clipped]:
    """The children that the span waited for, by start."""
    waited = clip(_in_time(span, run.children.get(span.span_id, ())), span.start_ns, span.end_ns)
    waited.sort(key=itemgetter(1, 2))
    return waited


def _in_time(span: SpanRecord, children: Iterable[SpanRecord]) -> list[SpanRecord]:
    last = span.end_ns + _OVERFLOW_NS
    return [child for child in children if child.end_ns <= last]


def _replayed(
    span: SpanRecord,
    children: Sequence[Clipped],
    gaps: Sequence[tuple[int, int]],
    dropped: Container[str],
    durations: dict[str, int],
    leaders: dict[str, str],
) -> int:
    """How long the span takes with its children's new `durations`. `children`: by start."""
    if gaps or not in_sequence(children) or any(child.span.span_id in leaders for child in children):
        return _Timeline(span, children, gaps, dropped).replay(durations, leaders)
    # One after another, as in most runs: whatever a child takes less, the span takes less.
    changed = (child for child in children if child.span.span_id in durations)
    return span.duration_ns - sum(max(0, child.end - child.start - durations[child.span.span_id]) for child in changed)


class _Timeline:
    """One span's own stretches and children; all times in nanoseconds, replayed ones from the span's start."""

    def __init__(
        self, span: SpanRecord, children: Sequence[Clipped], gaps: Sequence[tuple[int, int]], dropped: Container[str]
    ) -> None:
        self._span = span
        self._children = children
        own = uncovered(children, span.start_ns, span.end_ns)
        self._own = _Cumulative(own)
        self._removed = _Cumulative(_common(own, gaps))
        self._dropped = dropped
        kept = [child for child in children if child.span.span_id not in dropped]
        self._without_dropped = self._own
        if len(kept) < len(children):
            self._without_dropped = _Cumulative(uncovered(kept, span.start_ns, span.end_ns))

    def replay(self, durations: dict[str, int], leaders: dict[str, str]) -> int:
        """The span's duration. `leaders`: span id → the first of its parallel group, at whose start it starts."""
        starts: dict[str, int] = {}
        ends: dict[str, int] = {}
        by_end = by_finish(self._children)
        waited = 0
        earliest = 0  # the latest replayed end so far, less the parent's own time up to the measured end
        last: Clipped | None = None
        for child in self._children:
            while waited < len(by_end) and by_end[waited].end <= child.start and by_end[waited].span.span_id in ends:
                last = by_end[waited]
                earliest = max(earliest, ends[last.span.span_id] - self._work(last.end))
                waited += 1
            span_id = child.span.span_id
            first = leaders.get(span_id)
            begin = self._resume(child.start, last, ends, earliest)
            if span_id in self._dropped:
                begin -= self._vanished(child.start, last)
            if first in starts:
                begin = min(begin, starts[first])
            measured = child.end - child.start
            starts[span_id] = begin
            ends[span_id] = begin + min(measured, durations.get(span_id, measured))
        for child in by_end[waited:]:
            last = child
            earliest = max(earliest, ends[child.span.span_id] - self._work(child.end))
        return max(self._resume(self._span.end_ns, last, ends, earliest), *ends.values(), 0)

    def _resume(self, moment: int, last: Clipped | None, ends: dict[str, int], earliest: int) -> int:
        """When the parent gets to what it did at the measured `moment`: after the sibling that ended last
        before it and the same delay as measured, and after all earlier ones and its own work since."""
        since, reached = (last.end, ends[last.span.span_id]) if last else (self._span.start_ns, 0)
        delay = moment - since - self._removed.between(since, moment)
        return max(reached + delay, earliest + self._work(moment))

    def _vanished(self, moment: int, last: Clipped | None) -> int:
        """How much of a dropped child's delay was time in which only dropped ones were open: a loop that started
        its calls one after another, each before the last had ended, does not start them any more."""
        since = last.end if last else self._span.start_ns
        return self._without_dropped.between(since, moment) - self._own.between(since, moment)

    def _work(self, end: int) -> int:
        """The span's own time up to `end`."""
        return self._own.until(end) - self._removed.until(end)


class _Cumulative:
    """How much of a stretch some disjoint intervals cover."""

    def __init__(self, intervals: Sequence[tuple[int, int]]) -> None:
        self._intervals = intervals
        self._starts = [start for start, _ in intervals]
        self._sums = [0, *accumulate(end - start for start, end in intervals)]

    def between(self, start: int, end: int) -> int:
        return self.until(end) - self.until(start)

    def until(self, moment: int) -> int:
        index = bisect_right(self._starts, moment) if self._starts else 0
        if not index:
            return 0
        first, last = self._intervals[index - 1]
        return self._sums[index - 1] + min(moment, last) - first


def _common(own: Sequence[tuple[int, int]], gaps: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of `own` that lie in a gap; only the parent's own time can be closed."""
    common: list[tuple[int, int]] = []
    for start, end in sorted(gaps):
        reached = common[-1][1] if common else start
        index = max(0, bisect_right(own, (max(start, reached), 0)) - 1)
        for first, last in own[index:]:
            if first >= end:
                break
            piece = (max(first, start, reached), min(last, end))
            if piece[0] < piece[1]:
                common.append(piece)
    return common
