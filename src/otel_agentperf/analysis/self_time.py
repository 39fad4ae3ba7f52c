"""Self time: a span's duration without the time in which any child was open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..model import SpanRecord
from .intervals import clip, uncovered


def self_time_ns(span: SpanRecord, children: Iterable[SpanRecord]) -> int:
    """Nanoseconds of `span` outside the union of its children's intervals, clamped to the span."""
    inside = clip(children, span.start_ns, span.end_ns)
    return sum(end - start for start, end in uncovered(inside, span.start_ns, span.end_ns))


def self_times(spans: Iterable[SpanRecord], children: Mapping[str, Sequence[SpanRecord]]) -> dict[str, int]:
    """Self time in nanoseconds by span id."""
    return {
        span.span_id: self_time_ns(span, children[span.span_id]) if span.span_id in children else span.duration_ns
        for span in spans
    }
