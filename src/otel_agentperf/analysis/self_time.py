"""Self time: a span's duration without the time in which any child was open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter

from ..model import SpanRecord

_start = attrgetter("start_ns")


def self_time_ns(span: SpanRecord, children: Iterable[SpanRecord]) -> int:
    """Nanoseconds of `span` outside the union of its children's intervals, clamped to the span."""
    own, reached, last = 0, span.start_ns, span.end_ns
    for child in sorted(children, key=_start):
        if reached >= last:
            break
        if child.start_ns > reached:
            own += min(child.start_ns, last) - reached
        if child.end_ns > reached:
            reached = child.end_ns
    return own + max(0, last - reached)


def self_times(spans: Iterable[SpanRecord], children: Mapping[str, Sequence[SpanRecord]]) -> dict[str, int]:
    """Self time in nanoseconds by span id."""
    return {
        span.span_id: self_time_ns(span, children[span.span_id]) if span.span_id in children else span.duration_ns
        for span in spans
    }
