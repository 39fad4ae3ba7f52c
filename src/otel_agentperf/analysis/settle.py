"""Siblings that overlap by a hair ran one after another: the earlier one ends where the later one starts.

Exporters round to microseconds, start and end are often read from different clocks, and a framework's callback
records the end of a step when the next one has begun. Critical path, replay and detectors tell a sequence from
concurrency by comparing an end with a start, so such a hair would take a call off the path and its time with it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from ..model import SpanRecord

_MOST_NS = 1_000_000
"""Longest overlap taken for a hair: ends are recorded that late at most (see `replay`)."""
_SHARE = 20
"""… and at most this part, one in twenty, of the shorter span: what overlaps more is concurrent"""
_MOST_COMPARED = 8
"""later siblings looked at; more that start within a millisecond are a fan-out"""


def settle(spans: Sequence[SpanRecord], root: SpanRecord) -> list[SpanRecord]:
    """The same spans in the same order, siblings below `root` without hair-thin overlaps."""
    siblings: dict[str | None, list[SpanRecord]] = defaultdict(list)
    for span in spans:
        if span is not root:
            siblings[span.parent_id].append(span)
    ends = {}
    for below in siblings.values():
        if len(below) > 1:
            ends.update(_settled_ends(below))
    return [replace(span, end_ns=ends[span.span_id]) if span.span_id in ends else span for span in spans]


def _settled_ends(siblings: Iterable[SpanRecord]) -> dict[str, int]:
    """By span id, of those that end a little earlier than recorded."""
    ordered = sorted(siblings, key=attrgetter("start_ns"))
    if all(span.end_ns <= later.start_ns for span, later in pairwise(ordered)):
        return {}
    starts = [span.start_ns for span in ordered]
    ends = {}
    for span in ordered:
        hair = min(_MOST_NS, span.duration_ns // _SHARE)
        index = bisect_left(starts, span.end_ns - hair) if hair else len(ordered)
        for later in ordered[index : index + _MOST_COMPARED]:
            overlap = span.end_ns - later.start_ns
            if overlap <= 0:
                break
            if later.end_ns > span.end_ns and _SHARE * overlap <= later.duration_ns:
                ends[span.span_id] = later.start_ns
                break
    return ends
