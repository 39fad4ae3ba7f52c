"""The critical path: what the run waited for at each moment, found by walking back from its end.

The rule is the Jaeger UI's (packages/jaeger-ui, CriticalPath): from the end of a span, go to the child that
finished last before that moment, follow it to its start, and go on from there. Children that overflow their
parent are clipped, those wholly outside dropped. Unlike there, siblings that touch exactly are in sequence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..model import PathSegment, SpanRecord
from .intervals import Clipped, by_finish, clip


class _Open:
    """A span whose part of the path is being walked, from `now` back to `start`."""

    __slots__ = ("by_end", "now", "span", "start")

    def __init__(self, clipped: Clipped, children: Iterable[SpanRecord]) -> None:
        self.span, self.start, self.now = clipped
        self.by_end = by_finish(clip(children, self.start, self.now))


def lasting(segments: Iterable[PathSegment]) -> tuple[PathSegment, ...]:
    """Without those of no length; together they cover the root from start to end exactly once."""
    return tuple([segment for segment in segments if segment.start_ns < segment.end_ns])


def walk_back(root: SpanRecord, children: Mapping[str, Sequence[SpanRecord]]) -> Iterator[PathSegment]:
    """The segments from the last to the first, those without length too."""
    stack = [_Open(Clipped(root, root.start_ns, root.end_ns), children.get(root.span_id, ()))]
    while stack:
        top = stack[-1]
        span, now, by_end = top.span, top.now, top.by_end
        while by_end:  # each child is looked at once, so nothing loops
            child = by_end.pop()
            inner, start, end = child
            if end > now:
                continue
            yield PathSegment(span, end, now)
            now = start
            below = children.get(inner.span_id)
            if below:
                top.now = now
                stack.append(_Open(child, below))
                break
            yield PathSegment(inner, start, end)
        else:
            yield PathSegment(span, top.start, now)
            stack.pop()


def critical_times(path: Iterable[PathSegment]) -> dict[str, int]:
    """Nanoseconds on the critical path by span id."""
    times: dict[str, int] = {}
    for segment in path:
        span_id = segment.span.span_id
        times[span_id] = times.get(span_id, 0) + segment.end_ns - segment.start_ns
    return times
