"""Nobody works: an agent, workflow or step is open, and nothing that the trace shows goes on inside it."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest
from itertools import chain
from math import inf
from operator import attrgetter
from typing import NamedTuple

from ..model import RUN_KINDS, AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, seconds, severity, unwrapped
from ._idle import Idle, Interval, merged, without
from ._people import waits_for_person
from ._polling import is_meant_to_repeat
from ._writes import words

TITLE = "time in which nothing worked"
SAVES_TIME = True
THRESHOLDS = frozenset({"gap_s", "share"})
REPLACED_BY = frozenset({"rate_limited", "retry_storm", "blocked_event_loop"})

_POLLED: frozenset[Kind] = frozenset({"tool", "db", "http", "mcp", "retrieval", "cache"})
_CONVERSATION = frozenset("session conversation repl".split())
_MOST = 50
"""gaps of one span that are looked at, the longest ones; by default there is room for twenty"""
_LITTLE = 5
"""a gap is so many times longer than all CPU time that may have been used in it; others' work may slow one's own"""
_EDGE_S = 1.0
"""a program's start-up and clean-up, before the first call and after the last, may well take a moment"""


class _Around(NamedTuple):
    before: SpanRecord | None
    after: SpanRecord | None


class _Gap(NamedTuple):
    parent: SpanRecord
    start_ns: int
    end_ns: int
    around: _Around
    sure: bool
    """it is waiting, not work that the trace does not show: there was next to no CPU time"""

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def calls(self) -> list[SpanRecord]:
        return [span for span in self.around if span is not None]


def detect(run: AgentRun) -> Iterable[Finding]:
    """Stretches of ≥200 ms and ≥5 % of the run on the critical path in which an agent, workflow or step with calls
    inside is open, and no call is, anywhere in the run. Information only where the CPU time that would tell work from
    waiting is unknown; silent where it covers the gap, for start-up and clean-up below a second, for agents whose
    model calls are not traced, for waits between attempts and for people, and where spans are missing."""
    if run.incomplete or not run.thinking:
        return
    found: dict[tuple[str, Kind, str], list[_Gap]] = defaultdict(list)
    for gap in _gaps(run):
        found[run.agent_of(gap.parent.span_id), gap.parent.kind, gap.parent.operation].append(gap)
    for gaps in found.values():
        yield _finding(run, gaps)


def _gaps(run: AgentRun) -> Iterator[_Gap]:
    parents, working = _parts(run)
    longest = [span for span in parents if run.critical_ns.get(span.span_id, 0) >= _least_ns(run, span)]
    if not longest:
        return
    busy = merged(chain(working, ((stall.start_ns, stall.start_ns + stall.duration_ns) for stall in run.root.stalls)))
    idle = Idle(run)
    for span in longest:
        pieces = nlargest(_MOST, _unoccupied(idle.stretches(span), busy, _least_ns(run, span)), key=_length)
        if not pieces or _works(run, span, pieces):
            continue
        most_cpu = _most_cpu_ns(run, span)
        for start, end in sorted(pieces):
            gap = _Gap(span, start, end, _around(run, span, start, end), _LITTLE * most_cpu <= end - start)
            between = busy[0][0] < start and end < busy[-1][1]
            if (between or gap.sure or gap.duration_s >= _EDGE_S) and not _is_meant(run, gap):
                yield gap


def _unoccupied(stretches: Iterable[Interval], busy: Sequence[Interval], least_ns: float) -> Iterator[Interval]:
    """The stretches that are long enough; of one in which others work most of the time, for which it may wait, what
    they leave of it."""
    for start, end in stretches:
        if end - start >= least_ns:
            rest = without([(start, end)], busy)
            alone = 2 * sum(map(_length, rest)) >= end - start
            yield from (
                (first, last) for first, last in ([(start, end)] if alone else rest) if last - first >= least_ns
            )


def _length(interval: Interval) -> int:
    return interval[1] - interval[0]


def _least_ns(run: AgentRun, span: SpanRecord) -> float:
    share = run.threshold("scheduling_gap.share", 0.05, span) * run.root.duration_ns
    return max(run.threshold("scheduling_gap.gap_s", 0.2, span) * 1e9, share)


def _parts(run: AgentRun) -> tuple[list[SpanRecord], list[Interval]]:
    """The spans that only hold others (agents, workflows and their steps), where the model's turns are traced; and
    when all others, which do something themselves, were open."""
    holding = {above.span_id for span in run.spans if span.kind in RUN_KINDS for above in run.ancestors(span)}
    holders: list[SpanRecord] = []
    working: list[Interval] = []
    inside_call: dict[str, bool] = {}
    for span in run.walk():
        children = run.children.get(span.span_id, ())
        step = span.kind == "other" and not span.double
        called = span.kind not in RUN_KINDS and (inside_call.get(span.parent_id or "", False) or not step)
        inside_call[span.span_id] = called
        if called and span.span_id in holding:  # a tool that is an agent: only its own time is its work
            around = merged((child.start_ns, child.end_ns) for child in children)
            working.extend(without([(span.start_ns, span.end_ns)], around))
        elif called or (not children and span is not run.root):
            working.append((span.start_ns, span.end_ns))
        elif run.agents[span.span_id] in run.thinking and span.span_id not in run.callers:
            holders.append(span)
    return (holders, working) if working else ([], [])


def _most_cpu_ns(run: AgentRun, span: SpanRecord) -> float:
    """The CPU time that may have been used in the span's gaps, at most."""
    usage = run.root.usage
    of_process = None if usage is None or usage.cpu_percent is None else usage.cpu_percent / 100 * run.root.duration_ns
    return min((known for known in (span.cpu_ns, of_process) if known is not None), default=inf)


def _works(run: AgentRun, span: SpanRecord, gaps: Sequence[Interval]) -> bool:
    """Does the CPU time that the span used outside the calls inside it fill its gaps?"""
    if span.cpu_ns is None:
        return False
    # A call on the same thread is part of the span's time, one on another thread is not; nothing tells them apart,
    # unless the calls used more than the span.
    inside = sum(child.cpu_ns or 0 for child in run.children.get(span.span_id, ()))
    own = span.cpu_ns - inside if inside <= span.cpu_ns else span.cpu_ns
    return 2 * own > sum(end - start for start, end in gaps)


def _around(run: AgentRun, parent: SpanRecord, start_ns: int, end_ns: int) -> _Around:
    """The calls that ended last before a gap and start first after it: in the span that has the gap, or else in the
    one around it."""
    before = after = None
    for span in chain([parent], run.ancestors(parent)):
        children = run.children.get(span.span_id, ())
        index = bisect_left(children, end_ns, key=attrgetter("start_ns"))
        ended = (child for child in children[:index] if child.end_ns <= start_ns)
        before = before or max(ended, key=attrgetter("end_ns", "start_ns"), default=None)
        after = after or (children[index] if index < len(children) else None)
        if before and after:
            break
    return _Around(unwrapped(run, before) if before else None, unwrapped(run, after) if after else None)


def _is_meant(run: AgentRun, gap: _Gap) -> bool:
    """Is it known what the program waits for: a person, an answer it polls for, or the next attempt?"""
    parent, (before, after) = gap.parent, gap.around
    owner = run.agents[parent.span_id]
    steps = (span for span in run.ancestors(parent) if run.agents[span.span_id] == owner and span.kind == "other")
    if any(waits_for_person(span) or is_meant_to_repeat(span) for span in chain([parent], steps, gap.calls)):
        return True
    if _CONVERSATION & words(parent.operation) or (before and _is_tried_again(run, before, gap)):
        return True
    again = before and after and before.kind in _POLLED and _call(before) == _call(after)
    return bool(again and before and after and before.args == after.args)


def _is_tried_again(run: AgentRun, before: SpanRecord, gap: _Gap) -> bool:
    """Did one of the calls that ended the part before fail, and is it made again at some time?"""
    failed = {_call(span) for span in _ends_with(run, before) if span.error is not None}
    return bool(failed) and any(_call(span) in failed for span in run.spans if span.start_ns >= gap.end_ns)


def _ends_with(run: AgentRun, span: SpanRecord) -> Iterator[SpanRecord]:
    """The span, and inside it whatever ended last."""
    yield span
    while children := run.children.get(span.span_id):
        span = max(children, key=attrgetter("end_ns"))
        yield span


def _call(span: SpanRecord) -> tuple[Kind, str]:
    return span.kind, span.operation


def _finding(run: AgentRun, gaps: Sequence[_Gap]) -> Finding:
    sure = all(gap.sure for gap in gaps)
    wasted = sum(gap.duration_s for gap in gaps)
    worst = max(gaps, key=lambda gap: gap.duration_s)
    name = worst.parent.operation
    where = " and ".join(span.operation for span in worst.calls)
    place = f" {'between' if len(worst.calls) == 2 else 'beside'} {where}" if where else ""
    doubt = (
        "no call ran and no CPU was used, so it waited: look for a sleep, a lock, a queue or a full pool there"
        if sure
        else "no traced call ran; it waited, or did work that the trace does not show: put a span around that to know"
    )
    evidence = {span.span_id: span for gap in gaps for span in (gap.parent, *gap.calls)}
    return Finding(
        kind="scheduling_gap",
        severity=severity(run, wasted) if sure else "info",
        operation=name,
        calls=len(gaps),
        wasted_s=wasted,
        evidence=ids(evidence.values()),
        threshold=f"a gap of ≥{seconds(_least_ns(run, worst.parent) / 1e9)} without any call",
        recommend=lambda saving: (
            f"{name} was open for {seconds(wasted)} ({_count(gaps)}, the longest{place}) in which {doubt}; without "
            f"that the run saves {seconds(saving)}."
        ),
        change=Change(gaps=tuple((gap.parent.span_id, gap.start_ns, gap.end_ns) for gap in gaps)),
    )


def _count(gaps: Sequence[_Gap]) -> str:
    return "one gap" if len(gaps) == 1 else f"{len(gaps)} gaps"
