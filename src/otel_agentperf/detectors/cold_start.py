"""The first call of an operation pays for all: it connects, loads or compiles what the later ones find ready."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, seconds, severity

TITLE = "slow first call"
SAVES_TIME = True
NEEDS_WHOLE_RUN = True
THRESHOLDS = frozenset({"calls", "excess_s", "factor"})
_MODEL_CALLS: frozenset[Kind] = frozenset({"llm", "embedding"})
_KINDS: frozenset[Kind] = _MODEL_CALLS | {"tool", "retrieval", "db", "http", "mcp"}
_LEAST_SIZE = 1000
"""bytes from which more data takes more time"""
_CACHED_SHARE = 0.5

Measure = Callable[[SpanRecord], "float | None"]


class _Cold(NamedTuple):
    calls: Sequence[SpanRecord]
    """the first one, and those made at the same time that are as slow"""
    excess_ns: Mapping[str, int]
    """by span id"""
    usual_ns: float
    later: int


def detect(run: AgentRun) -> Iterable[Finding]:
    """The first call of an operation ≥3 times the median of ≥3 later ones of the same agent, and +500 ms. Silent where
    it wrote, read or took more, where it filled a cache for the later ones, where a call made at the same time was
    quick or later ones are slow at times, too, and for generations that do not tell how much they wrote."""
    inside_model = _inside_model_calls(run)
    groups: dict[tuple[Kind, str, bool], list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.kind in _KINDS and span.span_id not in inside_model:
            groups[span.kind, span.operation, span.mutating].append(span)
    least = int(run.threshold("cold_start.calls", 3))
    lookups = _Lookups(run) if any(len(calls) > least for calls in groups.values()) else None
    for calls in groups.values():
        cold = _cold(run, calls, lookups) if lookups else None
        if cold:
            yield _finding(run, cold)


def _inside_model_calls(run: AgentRun) -> set[str]:
    """The requests that a model's client makes are part of the model call."""
    inside: set[str] = set()
    for span in run.walk() if run.thinking or any(span.kind == "embedding" for span in run.spans) else ():
        parent = run.by_id.get(span.parent_id or "")
        if span is not run.root and parent and (parent.span_id in inside or parent.kind in _MODEL_CALLS):
            inside.add(span.span_id)
    return inside


def _cold(run: AgentRun, calls: Sequence[SpanRecord], lookups: _Lookups) -> _Cold | None:
    """`calls`: all of one operation, by start."""
    first = calls[0]
    least = int(run.threshold("cold_start.calls", 3, first))
    if len(calls) <= least or first.error is not None or not run.callers.isdisjoint(span.span_id for span in calls):
        return None
    if first.duration_s < run.threshold("cold_start.excess_s", 0.5, first):
        return None  # most are, which spares the rest
    beside = [span for span in calls[1:] if span.start_ns < first.end_ns and span.error is None]
    measure = _measure(run, first, calls)
    later = [span for span in _comparable(run, first, beside, calls, lookups) if measure(span) is not None]
    if len(later) < least:
        return None
    usual = _Usual(run, measure, later)
    excess = usual.excess_ns(first)
    if not excess or _reads_cached_prompts(first, later) or usual.is_slow_at_times():
        return None
    if any(span.end_ns < first.start_ns + excess for span in beside):
        return None  # it was quick while the first was still slow
    cold = {span.span_id: usual.excess_ns(span) for span in (first, *beside)}
    slow = [span for span in (first, *beside) if cold[span.span_id]]
    return _Cold(slow, {span.span_id: cold[span.span_id] for span in slow}, usual.time_ns, len(later))


class _Usual:
    """What the later calls took, and how much they did for it."""

    def __init__(self, run: AgentRun, measure: Measure, later: Sequence[SpanRecord]) -> None:
        self._run = run
        self._measure = measure
        self._later = later
        self.time_ns = median(measure(span) or 0.0 for span in later)
        self._amounts = [_median_known(map(amount, later)) for amount in _AMOUNTS]

    def excess_ns(self, span: SpanRecord) -> int:
        """How much longer than usual the call took, for as much as it did; 0 when it is not slow, or unknown."""
        taken = self._measure(span)
        if taken is None:
            return 0
        expected = self.time_ns * self._more_work(span)
        slow = taken >= self._run.threshold("cold_start.factor", 3.0, span) * expected
        excess = taken - expected
        return int(excess) if slow and excess >= self._run.threshold("cold_start.excess_s", 0.5, span) * 1e9 else 0

    def is_slow_at_times(self) -> bool:
        """One that is slow in ten is chance; so may the first one be, if more are."""
        return sum(self.excess_ns(span) > 0 for span in self._later) > len(self._later) // 10

    def _more_work(self, span: SpanRecord) -> float:
        """How many times as much as usual the call wrote, read, took or gave, as far as is known; at least 1."""
        pairs = zip((amount(span) for amount in _AMOUNTS), self._amounts, strict=True)
        return max(1.0, *(amount / usual if amount and usual else 1.0 for amount, usual in pairs))


def _comparable(
    run: AgentRun, first: SpanRecord, beside: Sequence[SpanRecord], calls: Sequence[SpanRecord], lookups: _Lookups
) -> Iterable[SpanRecord]:
    """The successful later calls of the same agent that did what the first did: with other arguments (the same ones
    may be answered from a cache), and as many hits and misses of the caches that the trace shows."""
    agent, seen = run.agent_of(first.span_id), {span.args: span.result for span in (first, *beside)}
    for span in calls[1:]:
        if span.start_ns < first.end_ns or span.error is not None or run.agent_of(span.span_id) != agent:
            continue
        repeated = span.args is not None and span.args in seen and seen[span.args] == span.result
        seen[span.args] = span.result
        # Arguments that only some of them show were too large to be shown whole.
        shown = (span.args is None) == (first.args is None)
        if shown and not repeated and lookups.of(span) == lookups.of(first):
            yield span


class _Lookups:
    """Whether there was a hit, and a miss, of a cache inside a call."""

    def __init__(self, run: AgentRun) -> None:
        self._inside: dict[bool, set[str]] = {True: set(), False: set()}
        for span in run.spans:
            if span.cache is not None and span.cache.hit is not None:
                found = self._inside[span.cache.hit]
                for above in run.ancestors(span):
                    if above.span_id in found:
                        break
                    found.add(above.span_id)

    def of(self, span: SpanRecord) -> tuple[bool, bool]:
        return span.span_id in self._inside[True], span.span_id in self._inside[False]


def _measure(run: AgentRun, first: SpanRecord, calls: Sequence[SpanRecord]) -> Measure:
    """What is compared, in nanoseconds: of a call its own time, without the calls inside it, which are judged by
    themselves; of a model's stream the time to the first chunk, of its other generations the whole if it is known
    how much they wrote."""
    if first.kind == "embedding":
        return lambda span: span.duration_ns
    if first.kind != "llm":
        return lambda span: _own_ns(run, span)
    if first.first_chunk_s is not None and any(span.first_chunk_s is not None for span in calls[1:]):
        return lambda span: None if span.first_chunk_s is None else span.first_chunk_s * 1e9
    return lambda span: span.duration_ns if span.tokens.output is not None else None


def _own_ns(run: AgentRun, span: SpanRecord) -> int:
    own = 0
    stack = [span]
    while stack:
        part = stack.pop()
        own += run.self_ns.get(part.span_id, 0)
        stack.extend(inner for inner in run.children.get(part.span_id, ()) if inner.kind == "other")
    return min(own, span.duration_ns)


_AMOUNTS: Sequence[Callable[[SpanRecord], int | None]] = (
    lambda span: span.tokens.output,
    lambda span: span.tokens.input,
    lambda span: _large(span.result_size),
    lambda span: _large(span.args_size if span.args_text is None else len(span.args_text)),
)


def _large(size: int | None) -> int | None:
    return None if size is None else max(size, _LEAST_SIZE)


def _median_known(amounts: Iterable[int | None]) -> float:
    known = [amount for amount in amounts if amount is not None]
    return median(known) if known else 0.0


def _reads_cached_prompts(first: SpanRecord, later: Sequence[SpanRecord]) -> bool:
    """Did the provider read the first call's prompt anew, and most of the later ones' from its cache?"""
    shares = [(span.tokens.cache_read or 0) / span.tokens.input for span in later if span.tokens.input]
    return bool(shares) and median(shares) >= _CACHED_SHARE and not first.tokens.cache_read


def _finding(run: AgentRun, cold: _Cold) -> Finding:
    first, name = cold.calls[0], cold.calls[0].operation
    factor = run.threshold("cold_start.factor", 3.0, first)
    wasted = sum(cold.excess_ns.values()) / 1e9
    taken, usual = seconds(cold.usual_ns / 1e9 + cold.excess_ns[first.span_id] / 1e9), seconds(cold.usual_ns / 1e9)
    return Finding(
        kind="cold_start",
        severity=severity(run, wasted),
        operation=name,
        calls=len(cold.calls),
        wasted_s=wasted,
        evidence=ids(cold.calls),
        threshold=f"the first call ≥{factor:g} times the median of {cold.later} later ones ({usual})",
        recommend=lambda saving: (
            f"the first call of {name} took {taken}, later ones {usual}: open connections, load models and fill pools "
            f"before the run or keep them from run to run; that saves {seconds(saving)}."
        ),
        change=Change(
            shrink={span.span_id: max(0, span.duration_ns - cold.excess_ns[span.span_id]) for span in cold.calls}
        ),
    )
