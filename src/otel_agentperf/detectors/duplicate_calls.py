"""The same call with the same arguments and the same result, made again."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import ids, seconds, severity, total_s
from ._polling import is_meant_to_repeat, says_ask_again
from ._writes import Writes

TITLE = "same call made again"
SAVES_TIME = True
REPLACED_BY = frozenset({"agent_loop", "ineffective_cache"})
THRESHOLDS = frozenset({"warning"})

_REPEATABLE: frozenset[Kind] = frozenset({"tool", "db", "http", "retrieval", "embedding", "mcp", "llm"})
_EMPTY = frozenset({"{}", "[]", '""'})
_LEAST_SLEEP_NS = 200_000_000
_REGULAR = 1.25

Key = tuple[str, Kind, str, str]


def detect(run: AgentRun) -> Iterable[Finding]:
    """Successful calls of one agent with equal arguments, and equal results where they are known. Silent when any
    result or its size differs, when the calls are spaced like polling or something of the same resource was written
    in between, and where arguments are hidden."""
    repeats: dict[Key, list[Sequence[SpanRecord]]] = defaultdict(list)
    writes = Writes(run)
    for (agent, kind, operation, _), calls in _same_calls(run).items():
        for group in writes.split(calls):
            if len(group) > 1:
                repeats[agent, kind, operation, ""].append(group)
    for groups in repeats.values():
        yield _finding(run, groups)


def _same_calls(run: AgentRun) -> dict[Key, list[SpanRecord]]:
    """Calls by agent, operation and arguments; only groups that could be duplicates worth a closer look."""
    groups: dict[Key, list[SpanRecord]] = defaultdict(list)
    for span in run.spans:
        if span.kind in _REPEATABLE and span.args is not None and span.error is None and not span.mutating:
            groups[run.agents[span.span_id], span.kind, span.operation, span.args].append(span)
    return {
        key: calls
        for key, calls in groups.items()
        if len(calls) > 1 and _are_repeats(calls) and not _is_spaced(run, calls)
    }


def _are_repeats(calls: Sequence[SpanRecord]) -> bool:
    known = {span.result for span in calls if span.result is not None}
    sizes = {span.result_size for span in calls if span.result_size is not None}
    if len(known) > 1 or len(sizes) > 1 or is_meant_to_repeat(calls[0]):
        return False
    if any(says_ask_again(span) for span in calls):
        return False
    # A sampled generation, or a call that takes nothing, may well answer differently each time.
    return bool(known) or (calls[0].kind != "llm" and calls[0].args not in _EMPTY)


def _is_spaced(run: AgentRun, calls: Sequence[SpanRecord]) -> bool:
    """Does the program sleep the same time before each call? Then it asks whether something has changed."""
    waits = [_idle_between(run, earlier, later) for earlier, later in pairwise(calls)]
    least = max(_LEAST_SLEEP_NS, *(call.duration_ns for call in calls))
    return len(waits) > 1 and min(waits) >= least and max(waits) <= _REGULAR * min(waits)


def _idle_between(run: AgentRun, earlier: SpanRecord, later: SpanRecord) -> int:
    """Nanoseconds from call to call, 0 where something else ran in between."""
    siblings = run.children.get(later.parent_id or "", ())
    index = bisect_left(siblings, later.start_ns, key=attrgetter("start_ns"))
    before = siblings[index - 1] if index else None
    return later.start_ns - earlier.end_ns if before is earlier else 0


def _finding(run: AgentRun, groups: Sequence[Sequence[SpanRecord]]) -> Finding:
    calls = [span for group in groups for span in group]
    repeats = [span for group in groups for span in group[1:]]
    longest = max(len(group) for group in groups)
    warn_at = run.threshold("duplicate_calls.warning", 3, calls[0])
    wasted = total_s(repeats)
    name, kind = calls[0].operation, calls[0].kind
    same = "arguments and result" if all(span.result is not None for span in calls) else "arguments"
    return Finding(
        kind="duplicate_calls",
        severity=severity(run, wasted, calls[0]) if longest >= warn_at else "info",
        operation=name,
        calls=len(calls),
        wasted_s=wasted,
        evidence=ids(calls),
        threshold=f"≥2 calls with the same {same}, nothing written in between",
        recommend=lambda saving: (
            f"{name} was called {len(calls)} times where {len(calls) - len(repeats)} would do (same {same}): keep the "
            f"first result, or cache this {kind} call; that saves {seconds(saving)}."
        ),
        change=Change(drop=frozenset(span.span_id for span in repeats)),
    )
