"""What an agent does in turns: its model calls and what it calls, and a run without some of its rounds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from ..model import AgentRun, Change, SpanRecord

JITTER_NS = 1_000_000
"""one call may start this much before the end of the one that it follows: clocks, and ends that are recorded late"""
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_HANDOFF = re.compile(
    r"hand[\W_]*(?:off|over)|(?:^|[\W_])delegat|(?:^|[\W_])(?:transfer|route|switch|escalate|return)[\W_](?:back[\W_])?to(?:[\W_]|$)",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def is_handoff(name: str) -> bool:
    """Does a tool or step of this name hand over to another agent (`transfer_to_refunds`, `handoff a to b`)?"""
    return bool(_HANDOFF.search(_CAPITAL.sub("_", name)))


def without(run: AgentRun, rounds: Iterable[Sequence[SpanRecord]]) -> Change:
    """The change in which these do not happen, nor the frameworks' steps around nothing else, nor, within each of
    `rounds`, the parent's own time from one to the next."""
    rounds = list(rounds)
    dropped = _with_steps_around(run, (span for calls in rounds for span in calls))
    tops: dict[str, SpanRecord] = {}
    gaps: dict[tuple[str, int], int] = {}
    for calls in rounds:
        below: dict[str, list[SpanRecord]] = defaultdict(list)
        for top in {top.span_id: top for top in (_top(run, span, dropped, tops) for span in calls)}.values():
            below[top.parent_id or ""].append(top)
        for parent, siblings in below.items():
            for earlier, later in pairwise(sorted(siblings, key=lambda span: span.end_ns)):
                if later.start_ns > earlier.end_ns:
                    gaps[parent, earlier.end_ns] = later.start_ns
    return Change(drop=frozenset(dropped), gaps=tuple((parent, start, end) for (parent, start), end in gaps.items()))


def _with_steps_around(run: AgentRun, spans: Iterable[SpanRecord]) -> set[str]:
    """The spans' ids, and those of the steps above them in which nothing else of weight is left."""
    dropped: set[str] = set()
    left: dict[str, int] = {}
    stack = list(spans)
    while stack:
        span = stack.pop()
        if span.span_id in dropped:
            continue
        dropped.add(span.span_id)
        parent = run.by_id.get(span.parent_id or "")
        if parent is None or parent.kind != "other" or parent is run.root:
            continue
        if parent.span_id not in left:
            left[parent.span_id] = sum(_has_weight(run, child) for child in run.children[parent.span_id])
        left[parent.span_id] -= 1
        if not left[parent.span_id]:
            stack.append(parent)
    return dropped


def _has_weight(run: AgentRun, span: SpanRecord) -> bool:
    return span.kind != "other" or span.span_id in run.children


def _top(run: AgentRun, span: SpanRecord, dropped: set[str], known: dict[str, SpanRecord]) -> SpanRecord:
    """The outermost dropped span that it is in."""
    line = [span]
    while line[-1].parent_id in dropped and line[-1].span_id not in known:
        line.append(run.by_id[line[-1].parent_id])
    top = known.get(line[-1].span_id, line[-1])
    known.update((member.span_id, top) for member in line)
    return top
