"""One call dominates: slower than its peers of the same name, or than a call of its kind should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import by_operation, ids, seconds, severity

REPLACED_BY = frozenset({"*"})

_LIMITS_S: dict[Kind, float] = {
    "db": 1.0,
    "http": 0.5,
    "tool": 5.0,
    "mcp": 5.0,
    "retrieval": 5.0,
    "llm": 10.0,
    "embedding": 10.0,
}
_MODEL_CALLS: frozenset[Kind] = frozenset({"llm", "embedding"})
_PEERS = 3
_FACTOR = 3.0


class _Call(NamedTuple):
    span: SpanRecord
    own_s: float
    """without the calls inside it, which are judged by themselves"""
    critical_s: float


def detect(run: AgentRun) -> Iterable[Finding]:
    """A call on the critical path beyond the limit of its kind, or (where its operation takes ≥30 % of the run)
    ≥3 times the median of its peers. Silent for a generation whose time its output tokens explain."""
    candidates = {span.span_id: _Call(span, *_own_times(run, span)) for span in _candidates(run)}
    for (kind, name), spans in by_operation(call.span for call in candidates.values()).items():
        calls = [candidates[span.span_id] for span in spans]
        targets = dict(_slow(run, kind, calls))
        if targets:
            yield _finding(run, kind, name, calls, targets)


def _candidates(run: AgentRun) -> Iterator[SpanRecord]:
    """Calls of a kind that has a limit; what a model call does inside (its http request) is part of it."""
    inside: set[str] = set()
    for span in run.walk():
        if span.parent_id in inside or span.kind in _MODEL_CALLS:
            inside.add(span.span_id)
        if span.kind in _LIMITS_S and span.parent_id not in inside:
            yield span


def _own_times(run: AgentRun, span: SpanRecord) -> tuple[float, float]:
    """Seconds of the call, and of it on the critical path, without the calls inside it."""
    own, critical = run.self_ns.get(span.span_id, 0), run.critical_ns.get(span.span_id, 0)
    stack = list(run.children.get(span.span_id, ()))
    while stack:
        inner = stack.pop()
        if inner.kind == "other" or span.kind in _MODEL_CALLS:
            own += run.self_ns.get(inner.span_id, 0)
            critical += run.critical_ns.get(inner.span_id, 0)
            stack.extend(run.children.get(inner.span_id, ()))
    own = span.duration_ns if span.kind in _MODEL_CALLS else min(own, span.duration_ns)
    return own / 1e9, critical / 1e9


def _slow(run: AgentRun, kind: Kind, calls: Sequence[_Call]) -> Iterator[tuple[str, float]]:
    """(span id, seconds it should have taken) of the calls that are slow."""
    limit = run.threshold(f"slow_operation.{kind}_s", _LIMITS_S[kind])
    dominates = sum(call.critical_s for call in calls) >= run.threshold("slow_operation.share", 0.3) * (
        run.root.duration_s
    )
    # The median of all is that of a call's peers as good as, and does not cost a sort a call.
    usual = median(call.own_s for call in calls) if len(calls) > _PEERS else None
    factor = run.threshold("slow_operation.factor", _FACTOR)
    rate = _fair_rate(run, calls)
    for call in calls:
        if call.critical_s <= 0 or _is_explained(call.span, rate):
            continue
        outlier = usual is not None and call.own_s >= factor * usual
        if call.own_s > limit or (outlier and dominates):
            yield call.span.span_id, usual if outlier and usual is not None else limit


def _fair_rate(run: AgentRun, calls: Sequence[_Call]) -> float:
    """Output tokens a second that nobody calls slow: half of what the model usually does, where that is known."""
    usual = run.threshold("slow_operation.tokens_per_s", 20.0)
    rates = [call.span.tokens.output / call.own_s for call in calls if call.span.tokens.output and call.own_s > 0]
    return min(usual, median(rates) / 2) if len(rates) > _PEERS else usual


def _is_explained(span: SpanRecord, rate: float) -> bool:
    """A long generation is not a slow one when it wrote as much as its time allows."""
    return span.kind == "llm" and span.tokens.output is not None and span.tokens.output >= rate * span.duration_s


def _finding(run: AgentRun, kind: Kind, name: str, calls: Sequence[_Call], targets: dict[str, float]) -> Finding:
    slow = [call for call in calls if call.span.span_id in targets]
    worst = max(slow, key=lambda call: call.own_s)
    target = targets[worst.span.span_id]
    wasted = sum(call.own_s - targets[call.span.span_id] for call in slow)
    share = worst.own_s / run.root.duration_s if run.root.duration_s else 0.0
    return Finding(
        kind="slow_operation",
        severity=severity(run, wasted),
        operation=name,
        calls=len(slow),
        wasted_s=wasted,
        evidence=ids(call.span for call in slow),
        threshold=f"{kind} {seconds(target)} ({'limit' if target == _limit(run, kind) else 'median of its peers'})",
        recommend=lambda saving: (
            f"{name} took {seconds(worst.own_s)} ({share:.0%} of the run) where {seconds(target)} is expected: make "
            f"it faster, give it a timeout, or take it off the critical path; that saves {seconds(saving)}."
        ),
        change=Change(
            shrink={
                call.span.span_id: int(call.span.duration_ns - (call.own_s - targets[call.span.span_id]) * 1e9)
                for call in slow
            }
        ),
    )


def _limit(run: AgentRun, kind: Kind) -> float:
    return run.threshold(f"slow_operation.{kind}_s", _LIMITS_S[kind])
