"""One call dominates: slower than its peers of the same name, or than a call of its kind should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from statistics import median, median_low
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, seconds, severity

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
    """A call on the critical path: where it has peers, ≥3 times their median and beyond the limit of its kind or
    part of an operation that takes ≥30 % of the run; without enough peers, beyond the limit. Silent for a generation
    whose time its output tokens explain, and for a call that waited for a run in another process."""
    # Requests to one URL that read and that write are no peers, though they have one name.
    peers: dict[tuple[Kind, str, bool], list[_Call]] = defaultdict(list)
    for span in _candidates(run):
        peers[span.kind, span.operation, span.mutating].append(_Call(span, *_own_times(run, span)))
    for (kind, name, _), calls in peers.items():
        targets = dict(_slow(run, kind, calls))
        if targets:
            yield _finding(run, kind, name, calls, targets)


def _candidates(run: AgentRun) -> Iterator[SpanRecord]:
    """Calls of a kind that has a limit; what a model call does inside (its http request) is part of it. A call whose
    time another run explains is that run's matter."""
    inside: set[str] = set()
    for span in run.walk():
        if span.parent_id in inside or span.kind in _MODEL_CALLS:
            inside.add(span.span_id)
        if span.kind in _LIMITS_S and span.parent_id not in inside and not _waits_for_run(run, span):
            yield span


def _waits_for_run(run: AgentRun, span: SpanRecord) -> bool:
    return bool(run.callers) and any(part.span_id in run.callers for part in chain([span], _steps(run, span)))


def _own_times(run: AgentRun, span: SpanRecord) -> tuple[float, float]:
    """Seconds of the call, and of it on the critical path, without the calls inside it."""
    own, critical = run.self_ns.get(span.span_id, 0), run.critical_ns.get(span.span_id, 0)
    for inner in _steps(run, span):
        own += run.self_ns.get(inner.span_id, 0)
        critical += run.critical_ns.get(inner.span_id, 0)
    own = span.duration_ns if span.kind in _MODEL_CALLS else min(own, span.duration_ns)
    return own / 1e9, critical / 1e9


def _steps(run: AgentRun, span: SpanRecord) -> Iterator[SpanRecord]:
    """What the call does inside that is no call of its own; of a model call, all."""
    stack = list(run.children.get(span.span_id, ()))
    while stack:
        inner = stack.pop()
        if inner.kind == "other" or span.kind in _MODEL_CALLS:
            yield inner
            stack.extend(run.children.get(inner.span_id, ()))


def _slow(run: AgentRun, kind: Kind, calls: Sequence[_Call]) -> Iterator[tuple[str, float]]:
    """(span id, seconds it should have taken) of the calls that are slow."""
    limit = run.threshold(f"slow_operation.{kind}_s", _LIMITS_S[kind])
    dominates = sum(call.critical_s for call in calls) >= run.threshold("slow_operation.share", 0.3) * (
        run.root.duration_s
    )
    # The median of all, the lower one of two, is that of a slow call's peers as good as, and costs one sort.
    usual = median_low(call.own_s for call in calls) if len(calls) > _PEERS else None
    factor = run.threshold("slow_operation.factor", _FACTOR)
    rate = _fair_rate(run, calls)
    for call in calls:
        if call.critical_s <= 0 or _is_explained(call.span, rate):
            continue
        if usual is None:
            slow = call.own_s > limit
        else:
            slow = call.own_s >= factor * usual and (call.own_s > limit or dominates)
        if slow:
            yield call.span.span_id, limit if usual is None else usual


def _fair_rate(run: AgentRun, calls: Sequence[_Call]) -> float:
    """Output tokens a second that nobody calls slow: half of what the model usually does, where that is known."""
    usual = run.threshold("slow_operation.tokens_per_s", 20.0)
    rates = [call.span.tokens.output / call.own_s for call in calls if call.span.tokens.output and call.own_s > 0]
    return min(usual, median(rates) / 2) if len(rates) > _PEERS else usual


def _is_explained(span: SpanRecord, rate: float) -> bool:
    """A long generation is not a slow one when it wrote as much as its time allows. How much a stream wrote is not
    always told; then nobody knows, and streams are for long answers."""
    if span.kind != "llm":
        return False
    if span.tokens.output is None:
        return span.first_chunk_s is not None
    return span.tokens.output >= rate * span.duration_s


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
