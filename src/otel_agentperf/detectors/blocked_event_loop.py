"""Synchronous work on the event loop: a callback that kept all other tasks from going on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, SpanRecord, Stall
from ._calls import ids, seconds, severity

TITLE = "event loop blocked by synchronous work"
SAVES_TIME = True
THRESHOLDS = frozenset({"block_s"})
_BLUR_NS = 25_000_000
"""a stall's start is known to half a look of the monitor (12 ms) …"""
_END_BLUR_NS = 5_000_000
"""… its end better"""
_PROMPT_NS = 30_000_000
"""what goes on within this time of the loop's release had waited for it"""
_MOST_NAMED = 3


class _Hold(NamedTuple):
    """A stall and what it did to others."""

    stall: Stall
    blocker: SpanRecord | None
    delayed: Sequence[SpanRecord]
    """the spans that went on, or started, later for it"""
    gaps: Sequence[tuple[str, int, int]]
    parallel: Sequence[tuple[str, ...]]
    longest_ns: int


def detect(run: AgentRun) -> Iterable[Finding]:
    """A callback ran ≥100 ms while calls of other tasks stood ready: they started when it was done, or went on right
    after it. Silent where nothing else waited, and for traces without the event loop's stalls."""
    holds: dict[tuple[str, str], list[_Hold]] = defaultdict(list)
    for stall in run.root.stalls:
        hold = _hold(run, stall)
        if hold is not None:
            holds[_name(hold), _function(stall)].append(hold)
    for (name, _), found in holds.items():
        yield _finding(run, name, found)


def _hold(run: AgentRun, stall: Stall) -> _Hold | None:
    end = min(stall.start_ns + stall.duration_ns, run.root.end_ns)
    blocker = _blocker(run, stall)
    scope = blocker or run.root
    if stall.duration_ns < run.threshold("blocked_event_loop.block_s", 0.1, scope) * 1e9 or stall.start_ns > end:
        return None
    gaps = [*_open_delays(run, stall, blocker, end)]
    parallel = []
    late: list[SpanRecord] = []
    for parent, spans in _started_late(run, stall).items():
        first = _beside(run, parent, blocker, stall)
        if first is not None:
            parallel.append((first, *(span.span_id for span in spans if span.span_id != first)))
            late.extend(spans)
        elif blocker is None or parent not in {above.span_id for above in _line(run, blocker)}:
            gaps.append((parent, stall.start_ns, spans[0].start_ns))
            late.extend(spans)
    delays = [until - since for _, since, until in gaps] + [span.start_ns - stall.start_ns for span in late]
    if not delays:
        return None
    waiting = [run.by_id[span_id] for span_id, _, _ in gaps if span_id not in {span.parent_id for span in late}]
    return _Hold(stall, blocker, [*waiting, *late], gaps, parallel, max(delays))


def _blocker(run: AgentRun, stall: Stall) -> SpanRecord | None:
    """The innermost span of the callback's task that was open at the time."""
    span = run.by_id.get(stall.span_id)
    middle = stall.start_ns + stall.duration_ns // 2
    return next((above for above in _line(run, span) if above.start_ns <= middle <= above.end_ns), None)


def _line(run: AgentRun, span: SpanRecord | None) -> Iterator[SpanRecord]:
    """The span and all above it."""
    return chain([span], run.ancestors(span)) if span is not None else iter(())


# --- calls that stood ready and could not start ------------------------------------------------------------


def _started_late(run: AgentRun, stall: Stall) -> dict[str, list[SpanRecord]]:
    """The outermost of them by parent, each by start."""
    spans = [run.by_id[span_id] for span_id in stall.waiting if span_id in run.by_id and span_id != run.root.span_id]
    among = {span.span_id for span in spans}
    late: dict[str, list[SpanRecord]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.start_ns):
        if span.parent_id and span.parent_id not in among and span.start_ns > stall.start_ns:
            late[span.parent_id].append(span)
    return late


def _beside(run: AgentRun, parent: str, blocker: SpanRecord | None, stall: Stall) -> str | None:
    """The child of `parent` that the blocking was in, if the blocking began with it: then the others could have
    started when it did."""
    for above in _line(run, blocker):
        if above.parent_id == parent:
            return above.span_id if above.start_ns >= stall.start_ns - 2 * _BLUR_NS else None
    return None


# --- calls that were open and could not go on --------------------------------------------------------------


def _open_delays(run: AgentRun, stall: Stall, blocker: SpanRecord | None, end: int) -> Iterator[tuple[str, int, int]]:
    """(span, since when it stood ready, until when it was held up)."""
    others = _others(run, stall, blocker, end)
    ready = _seen_ready(run, stall, others, end)
    for span_id, moment in ready.items():
        yield span_id, max(run.by_id[span_id].start_ns, stall.start_ns + moment), end
    waiting = sorted((_next_event(run, span, end), span.span_id, span) for span in others if span.span_id not in ready)
    prompt = [span for event, _, span in waiting if event <= end + _PROMPT_NS]
    rest = [span for event, _, span in waiting if event > end + _PROMPT_NS]
    moments = Counter(stall.due_ns) - Counter(ready.values())
    due = [stall.start_ns + moment for moment in sorted(moments.elements()) if stall.start_ns + moment < end]
    # Of what fell due, the last belongs to those who went on at once, in their order; the claim is the lowest.
    known = due[max(0, len(due) - len(prompt)) :]
    for index, span in enumerate(prompt):
        own = index - (len(prompt) - len(known))
        began = max(stall.start_ns, span.start_ns)
        # Where nobody saw when it was, it was at any moment as likely as at any other.
        yield span.span_id, max(began, known[own]) if own >= 0 else (began + end) // 2, end
    earlier = due[: len(due) - len(known)]
    if earlier and len(rest) <= len(earlier):
        for span in rest:
            yield span.span_id, max(earlier[-1], span.start_ns), end


def _seen_ready(run: AgentRun, stall: Stall, others: Sequence[SpanRecord], end: int) -> dict[str, int]:
    """Of the others, those whose tasks were seen in the loop's queue and that went on before it rested again; how
    long after its start they were ready."""
    if not stall.ready:
        return {}
    able = _ready_spans(run, stall)
    free = _busy_until(run, end)
    began = _began_to_block(run, end, free)
    return {
        span.span_id: able[span.span_id]
        for span in others
        if span.span_id in able and (span.span_id in began or _next_event(run, span, end) <= free + _PROMPT_NS)
    }


def _ready_spans(run: AgentRun, stall: Stall) -> dict[str, int]:
    """The innermost open spans of the tasks that were seen to be ready, and how long after the stall's start."""
    able: dict[str, int] = {}
    for span_id, moment in stall.ready:
        lines = _line(run, run.by_id.get(span_id))
        span = next((above for above in lines if above.end_ns > stall.start_ns), None)
        if span is not None and stall.start_ns + moment < stall.start_ns + stall.duration_ns:
            able[span.span_id] = min(moment, able.get(span.span_id, moment))
    return able


def _busy_until(run: AgentRun, end: int) -> int:
    """The end of the stalls that followed each other at once."""
    for later in sorted(run.root.stalls, key=lambda stall: stall.start_ns):
        if end - _END_BLUR_NS <= later.start_ns <= end + _PROMPT_NS:
            end = max(end, later.start_ns + later.duration_ns)
    return end


def _began_to_block(run: AgentRun, since: int, until: int) -> set[str]:
    """The spans in which a stall began then: their tasks had gone on."""
    found = (stall for stall in run.root.stalls if since - _END_BLUR_NS <= stall.start_ns <= until)
    return {span.span_id for stall in found for span in _line(run, _blocker(run, stall))}


def _others(run: AgentRun, stall: Stall, blocker: SpanRecord | None, end: int) -> list[SpanRecord]:
    """The innermost spans of other tasks that were open all the while."""
    is_open = {
        span.span_id: span
        for span in run.spans
        if span.start_ns <= stall.start_ns + _BLUR_NS and span.end_ns >= end - _END_BLUR_NS and span.duration_ns
    }
    around = {span.parent_id for span in is_open.values()}
    held = {span.span_id for span in _line(run, blocker)} | {run.root.span_id}
    innermost = [span for span in is_open.values() if span.span_id not in around and span.span_id not in held]
    certain = stall.elsewhere or (blocker is not None and blocker.span_id not in around)
    able = _ready_spans(run, stall)
    if not certain and (unsure := [span for span in innermost if span.span_id not in able]):
        # The task may have been in one of them: some frameworks start a task's spans on other threads.
        innermost.remove(max(unsure, key=lambda span: _likeness(span, stall)))
    return innermost


def _likeness(span: SpanRecord, stall: Stall) -> float:
    """How much of the time that either takes is common to both."""
    end = stall.start_ns + stall.duration_ns
    common = min(span.end_ns, end) - max(span.start_ns, stall.start_ns)
    return common / (max(span.end_ns, end) - min(span.start_ns, stall.start_ns))


def _next_event(run: AgentRun, span: SpanRecord, end: int) -> int:
    """When the span went on: it ended, or something in it started."""
    starts = (child.start_ns for child in run.children.get(span.span_id, ()) if child.start_ns >= end - _END_BLUR_NS)
    return min(starts, default=span.end_ns)


# --- words ------------------------------------------------------------------------------------------------


def _name(hold: _Hold) -> str:
    return hold.blocker.operation if hold.blocker is not None else _function(hold.stall).rpartition(" ")[2]


def _function(stall: Stall) -> str:
    """The location without its line."""
    place, _, function = stall.frame.rpartition(" ")
    return f"{place.rpartition(':')[0]} {function or 'a callback'}"


def _finding(run: AgentRun, name: str, holds: Sequence[_Hold]) -> Finding:
    longest = max(holds, key=lambda hold: hold.stall.duration_ns).stall
    wasted = sum(hold.longest_ns for hold in holds) / 1e9
    spans = {span.span_id: span for hold in holds for span in hold.delayed}
    others = _names(span.operation for span in spans.values())
    blockers = {hold.blocker.span_id: hold.blocker for hold in holds if hold.blocker is not None}
    times = f"{len(holds)} times, for up to " if len(holds) > 1 else "for "
    least = run.threshold("blocked_event_loop.block_s", 0.1, holds[0].blocker or run.root)
    return Finding(
        kind="blocked_event_loop",
        severity=severity(run, wasted),
        operation=name,
        calls=len(holds),
        wasted_s=wasted,
        evidence=ids({**spans, **blockers}.values()),
        threshold=f"a callback of ≥{seconds(least)} on the event loop while others waited",
        recommend=lambda saving: (
            f"{name} held up the event loop {times}{seconds(longest.duration_ns / 1e9)}, in {longest.frame}, while "
            f"{others} stood ready: run it with asyncio.to_thread, or use an async client; "
            f"that saves {seconds(saving)}."
        ),
        change=Change(
            gaps=tuple(gap for hold in holds for gap in hold.gaps),
            parallel=tuple(group for hold in holds for group in hold.parallel),
        ),
    )


def _names(operations: Iterable[str]) -> str:
    found = sorted(set(operations))
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more
