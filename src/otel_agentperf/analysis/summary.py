"""The numbers of a report besides the findings: operations, agents, caches, tokens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from .._config import Config
from ..detectors._caches import cache_spans, lookup_cost_s, lookups_and_hits, miss_cost_s
from ..model import (
    RUN_KINDS,
    AgentRun,
    AgentStats,
    CacheStats,
    Kind,
    OperationStats,
    ScoreParts,
    SpanRecord,
    Tokens,
    total,
)
from . import score


def operations(run: AgentRun) -> tuple[OperationStats, ...]:
    """Calls, errors and times by kind and name, most time on the critical path first."""
    groups: dict[tuple[Kind, str], list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        groups[span.kind, span.operation].append(span)
    stats = [_operation(run, kind, name, spans) for (kind, name), spans in groups.items()]
    return tuple(sorted(stats, key=lambda stat: (-stat.critical_s, -stat.total_s, stat.name)))


def _operation(run: AgentRun, kind: Kind, name: str, spans: Sequence[SpanRecord]) -> OperationStats:
    durations = sorted(span.duration_s for span in spans)
    return OperationStats(
        kind=kind,
        name=name,
        calls=len(spans),
        errors=sum(span.error is not None for span in spans),
        total_s=sum(durations),
        self_s=sum(run.self_ns.get(span.span_id, 0) for span in spans) / 1e9,
        critical_s=sum(run.critical_ns.get(span.span_id, 0) for span in spans) / 1e9,
        p50_s=percentile(durations, 0.50),
        p95_s=percentile(durations, 0.95),
        p99_s=percentile(durations, 0.99),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the ordered values lie, interpolated between neighbours."""
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def agents(run: AgentRun, config: Config) -> tuple[AgentStats, ...]:
    """Each agent's calls and score: the run's formula over its calls, without resource use (not known per agent)."""
    groups: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.kind == "agent":
            groups[span.operation].append(span)
    stats = []
    for name, spans in groups.items():
        errors = sum(span.error is not None for span in spans)
        mean = sum(span.duration_s for span in spans) / len(spans)
        speed = score.speed_share(mean, config.baseline(name))
        parts = ScoreParts(1 - errors / len(spans), speed, None)
        stats.append(AgentStats(name, len(spans), errors, score.weigh(parts, config.weight_triple())))
    return tuple(stats)


def caches(run: AgentRun) -> tuple[CacheStats, ...]:
    """Look-ups and hits by cache, from its spans and from the counts of in-process caches on the root."""
    stats = {}
    for name, spans in cache_spans(run).items():
        hits = [span for span in spans if span.cache and span.cache.hit]
        misses = [span for span in spans if span.cache and span.cache.hit is False]
        costs = [miss_cost_s(run, span) for span in misses]
        saved = None
        if hits and costs:
            saved = max(0.0, len(hits) * (sum(costs) / len(costs) - lookup_cost_s(hits)))
        stats[name] = CacheStats(name, *lookups_and_hits(spans), 0.0 if not hits else saved)
    for count in run.root.counts:
        saved = max(0.0, count.hits * (count.miss_s - count.hit_s)) if count.miss_s or not count.hits else None
        stats[count.name] = CacheStats(count.name, count.lookups, count.hits, saved)
    return tuple(sorted(stats.values(), key=lambda stat: (-stat.lookups, stat.name)))


def tokens(spans: Iterable[SpanRecord]) -> Tokens:
    """The sum over the innermost model calls; agents' totals repeat it, so they serve only without such calls."""
    spans = list(spans)
    calls = [span.tokens for span in spans if span.kind in ("llm", "embedding") and span.tokens]
    if not calls:
        calls = [span.tokens for span in _outermost([span for span in spans if span.kind in RUN_KINDS], spans)]
    return Tokens(
        total(call.input for call in calls),
        total(call.output for call in calls),
        total(call.cache_read for call in calls),
    )


def _outermost(agents: Iterable[SpanRecord], spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """The agents with totals that no other agent's totals hold."""
    telling = {span.span_id: span for span in agents if span.tokens}
    parents = {span.span_id: span.parent_id for span in spans}
    outermost = []
    for span in telling.values():
        seen = {span.span_id}
        above = parents.get(span.span_id)
        while above is not None and above not in telling and above not in seen:
            seen.add(above)
            above = parents.get(above)
        if above not in telling or above == span.span_id:
            outermost.append(span)
    return outermost


def score_parts(run: AgentRun, stats: Iterable[OperationStats], config: Config) -> ScoreParts:
    """The run's success, speed and resource shares."""
    counted = [stat for stat in stats if stat.kind in ("agent", "workflow", "tool")]
    calls = sum(stat.calls for stat in counted)
    errors = sum(stat.errors for stat in counted)
    return ScoreParts(
        score.success_share(calls, errors, run.root.error is not None),
        score.speed_share(run.root.duration_s, config.baseline(run.root.operation)),
        score.resource_share(run.root.usage),
    )
