"""One call dominates: slower than its peers of the same name, or than a call of its kind should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from math import inf, nextafter
from statistics import median, median_low
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, seconds, severity
from ._people import waits_for_person

TITLE = "slow call"
SAVES_TIME = True
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
THRESHOLDS = frozenset({"share", "factor", "history_factor", "tokens_per_s", *(f"{kind}_s" for kind in _LIMITS_S)})

_MODEL_CALLS: frozenset[Kind] = frozenset({"llm", "embedding"})
_PEERS = 3


class _Call(NamedTuple):
    span: SpanRecord
    own_s: float
    """without the calls inside it, which are judged by themselves"""
    critical_s: float


class _Target(NamedTuple):
    """What a call should have taken."""

    seconds: float
    basis: str


def detect(run: AgentRun) -> Iterable[Finding]:
    """A call on the critical path: where it has peers, ≥3 times their median and beyond the limit of its kind or
    part of an operation that takes ≥30 % of the run; without enough peers, beyond the limit. Or, whatever the limit,
    beyond the 95th percentile of its own earlier runs and twice their median; but what is usual for a call does not
    excuse it. Silent for a generation whose time its output tokens explain, and for a call that waited for a run in
    another process."""
    # Requests to one URL that read and that write are no peers, though they have one name; nor are two agents' calls.
    peers: dict[tuple[Kind, str, bool, str], list[_Call]] = defaultdict(list)
    agents, by_id = run.agents, run.by_id
    for span in _candidates(run):
        group = span.kind, span.operation, span.mutating, by_id[agents[span.span_id]].operation
        peers[group].append(_call(run, span))
    for (kind, name, _, _), calls in peers.items():
        if waits_for_person(calls[0].span):
            continue
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
        if span.kind in _LIMITS_S and span.parent_id not in inside and not (run.callers and _waits_for_run(run, span)):
            yield span


def _waits_for_run(run: AgentRun, span: SpanRecord) -> bool:
    """For one in another process."""
    return any(part.span_id in run.callers for part in chain([span], _steps(run, span)))


def _call(run: AgentRun, span: SpanRecord) -> _Call:
    own, critical = run.self_ns.get(span.span_id, 0), run.critical_ns.get(span.span_id, 0)
    for inner in _steps(run, span) if span.span_id in run.children else ():
        own += run.self_ns.get(inner.span_id, 0)
        critical += run.critical_ns.get(inner.span_id, 0)
    own = span.duration_ns if span.kind in _MODEL_CALLS else min(own, span.duration_ns)
    return _Call(span, own / 1e9, critical / 1e9)


def _steps(run: AgentRun, span: SpanRecord) -> Iterator[SpanRecord]:
    """What the call does inside that is no call of its own; of a model call, all."""
    stack = list(run.children.get(span.span_id, ()))
    while stack:
        inner = stack.pop()
        if inner.kind == "other" or span.kind in _MODEL_CALLS:
            yield inner
            stack.extend(run.children.get(inner.span_id, ()))


def _slow(run: AgentRun, kind: Kind, calls: Sequence[_Call]) -> Iterator[tuple[str, _Target]]:
    """The calls that are slow, by span id."""
    share = run.threshold("slow_operation.share", 0.3, calls[0].span)
    dominates = sum(call.critical_s for call in calls) >= share * run.root.duration_s
    # A failed attempt may have been refused at once, so it is no peer. The median of all, the lower one of two, is
    # that of a slow call's peers as good as, and costs one sort.
    peers = [call.own_s for call in calls if call.span.error is None]
    usual = median_low(peers) if len(peers) > _PEERS else None
    limit = _limit(run, calls[0].span, usual, dominates)
    past = _past_limit(run, calls[0].span)
    least_s = min(limit[0], past[0]) if past else limit[0]
    rate = _fair_rate(run, calls)
    for call in calls:
        if call.own_s < least_s or call.critical_s <= 0 or _is_explained(call.span, rate):
            continue
        if call.own_s >= limit[0]:
            yield call.span.span_id, limit[1]
        # How long a generation takes depends on what it writes, so that must be known.
        elif past and call.own_s >= past[0] and (call.span.kind != "llm" or call.span.tokens.output is not None):
            yield call.span.span_id, past[1]


def _limit(run: AgentRun, call: SpanRecord, usual: float | None, dominates: bool) -> tuple[float, _Target]:
    """The seconds from which calls like `call` are slow, and what they should have taken."""
    limit = run.threshold(f"slow_operation.{call.kind}_s", _LIMITS_S[call.kind], call)
    if usual is None:
        return _above(limit), _Target(limit, "limit")
    least = run.threshold("slow_operation.factor", 3.0, call) * usual
    return least if dominates else max(least, _above(limit)), _Target(usual, "median of its peers")


def _past_limit(run: AgentRun, call: SpanRecord) -> tuple[float, _Target] | None:
    """Slower than nearly all of its kind and name in earlier runs, and clearly so: one in twenty is beyond the 95th
    percentile on any day."""
    past = run.history.get((call.kind, call.operation))
    if past is None:
        return None
    factor = run.threshold("slow_operation.history_factor", 2.0, call)
    target = _Target(past.p50_s, f"median of {past.calls} earlier calls")
    return max(_above(past.p95_s), factor * past.p50_s), target


def _above(seconds: float) -> float:
    """The next number: what is to be exceeded, not reached."""
    return nextafter(seconds, inf)


def _fair_rate(run: AgentRun, calls: Sequence[_Call]) -> float:
    """Output tokens a second that nobody calls slow: half of what the model usually does, where that is known."""
    usual = run.threshold("slow_operation.tokens_per_s", 20.0, calls[0].span)
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


def _finding(run: AgentRun, kind: Kind, name: str, calls: Sequence[_Call], targets: dict[str, _Target]) -> Finding:
    slow = [call for call in calls if call.span.span_id in targets]
    worst = max(slow, key=lambda call: call.own_s)
    target, basis = targets[worst.span.span_id]
    wasted = sum(call.own_s - targets[call.span.span_id].seconds for call in slow)
    share = worst.own_s / run.root.duration_s if run.root.duration_s else 0.0
    return Finding(
        kind="slow_operation",
        severity=severity(run, wasted, worst.span),
        operation=name,
        calls=len(slow),
        wasted_s=wasted,
        evidence=ids(call.span for call in slow),
        threshold=f"{kind} {seconds(target)} ({basis})",
        recommend=lambda saving: (
            f"{name} took {seconds(worst.own_s)} ({share:.0%} of the run) where {seconds(target)} is expected: make "
            f"it faster, give it a timeout, or take it off the critical path; that saves {seconds(saving)}."
        ),
        change=Change(
            shrink={
                call.span.span_id: int(call.span.duration_ns - (call.own_s - targets[call.span.span_id].seconds) * 1e9)
                for call in slow
            }
        ),
    )
