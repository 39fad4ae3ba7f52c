"""What cache spans tell: look-ups by cache, and what a miss cost."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter

from ..model import AgentRun, SpanRecord


def cache_spans(run: AgentRun) -> dict[str, list[SpanRecord]]:
    """The look-ups whose outcome is known by cache name, by start, without those that the run's counts hold."""
    caches: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.cache and span.cache.hit is not None and not span.cache.counted:
            caches[span.operation].append(span)
    return caches


def lookups_and_hits(spans: Sequence[SpanRecord]) -> tuple[int, int]:
    """How many things were looked up, and how many of them found."""
    told = [span.cache for span in spans if span.cache]
    return sum(lookup.lookups for lookup in told), sum(lookup.found for lookup in told)


def lookup_cost_s(lookups: Sequence[SpanRecord]) -> float:
    """Mean seconds of the look-ups themselves."""
    return sum(span.duration_s for span in lookups) / len(lookups) if lookups else 0.0


def computation(run: AgentRun, miss: SpanRecord) -> SpanRecord | None:
    """What was computed because of a miss, where it is a span of its own: the next sibling.

    None where the computation happened inside the look-up, or where nothing followed.
    """
    cache = miss.cache
    if cache is None or (cache.counted and not cache.computed_after) or run.children.get(miss.span_id):
        return None
    siblings = run.children.get(miss.parent_id or "", ())
    for index in range(bisect_left(siblings, miss.end_ns, key=attrgetter("start_ns")), len(siblings)):
        following = siblings[index]
        if following is not miss:
            return None if following.kind == "cache" else following
    return None


def miss_cost_s(run: AgentRun, miss: SpanRecord) -> float:
    """Seconds of a miss with its computation."""
    computed = computation(run, miss)
    return miss.duration_s + (computed.duration_s if computed else 0.0)
