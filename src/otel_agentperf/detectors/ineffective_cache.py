"""A cache that does not pay: keys it held already are computed again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

from ..model import AgentRun, Change, Finding, SpanRecord
from ._caches import computation, lookup_cost_s, lookups_and_hits, miss_cost_s
from ._calls import ids, seconds, severity

TITLE = "cache that does not pay"
SAVES_TIME = True
THRESHOLDS: frozenset[str] = frozenset()


def detect(run: AgentRun) -> Iterable[Finding]:
    """The same key missed again within its lifetime: ≥5 look-ups with <50 % hits after each key's first touch, or
    one key missed twice. Warm-up misses are silent; delete and clear end a key's life."""
    caches: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.cache is not None:
            caches[span.operation].append(span)
    for name, spans in caches.items():
        repeated = _repeated_misses(run, spans)
        if repeated:
            yield _finding(run, name, spans, repeated)


def _repeated_misses(run: AgentRun, spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """Misses of keys that had been looked up and computed before, and not been deleted since."""
    known_from: dict[str | None, int] = {}
    repeated = []
    for span in spans:
        assert span.cache is not None
        operation, key = span.cache.operation, span.cache.key
        if operation == "clear":
            known_from.clear()
        elif operation == "delete":
            known_from.pop(key, None)
        elif operation == "get" and key is not None and span.cache.hit is not None:
            # A second look-up while the first miss is still being computed is no fault of the cache.
            if span.cache.hit is False and known_from.get(key, span.start_ns + 1) <= span.start_ns:
                repeated.append(span)
            computed = (computation(run, span) if not span.cache.hit else None) or span
            if computed.error is None and not _failed_inside(run, span):  # a failure has nothing to hold
                known_from.setdefault(key, computed.end_ns)
    return repeated


def _failed_inside(run: AgentRun, miss: SpanRecord) -> bool:
    """Was the last thing computed inside the look-up a failure, whether or not somebody caught it?"""
    inside = run.children.get(miss.span_id, ())
    return bool(inside) and max(inside, key=attrgetter("end_ns")).error is not None


def _finding(run: AgentRun, name: str, spans: Sequence[SpanRecord], repeated: Sequence[SpanRecord]) -> Finding:
    lookups = [span for span in spans if span.cache and span.cache.hit is not None]
    counted = next((count for count in run.root.counts if count.name == name), None)
    calls, hits = (counted.lookups, counted.hits) if counted else lookups_and_hits(lookups)
    hit_cost = counted.hit_s if counted else lookup_cost_s([span for span in lookups if span.cache and span.cache.hit])
    wasted = sum(max(0.0, miss_cost_s(run, span) - hit_cost) for span in repeated)
    keys = {span.cache.key for span in repeated if span.cache}
    evidence = [span for span in lookups if span.cache and span.cache.hit is False and span.cache.key in keys]
    computed = {span.span_id: computation(run, span) for span in repeated}
    return Finding(
        kind="ineffective_cache",
        severity=severity(run, wasted, repeated[0]),
        operation=name,
        calls=calls,
        wasted_s=wasted,
        evidence=ids(_with_computations(run, evidence)),
        threshold="a key missed again within its lifetime",
        recommend=lambda saving: (
            f"cache {name} answered {hits} of {calls} look-ups; {len(repeated)} misses were of keys it had held "
            f"before: give it more room, a longer lifetime or a stable key; that saves {seconds(saving)}."
        ),
        change=Change(
            drop=frozenset(span.span_id for span in computed.values() if span),
            shrink={span_id: int(hit_cost * 1e9) for span_id, span in computed.items() if span is None},
        ),
    )


def _with_computations(run: AgentRun, misses: Iterable[SpanRecord]) -> list[SpanRecord]:
    """The misses and what was computed for them: those calls are not duplicates besides."""
    spans: dict[str, SpanRecord] = {}
    for miss in misses:
        computed = computation(run, miss)
        for top in (miss, computed) if computed else (miss,):
            spans.update((span.span_id, span) for span in run.walk(top))
    return list(spans.values())
