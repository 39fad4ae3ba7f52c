"""Calls made one after another although none needs another's result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import Stretch, by_operation, depends, ids, in_sequence, seconds, severity, stretches, total_s
from ._pages import are_pages
from ._writes import Writes

REPLACED_BY = frozenset({"n_plus_one_calls", "duplicate_calls", "retry_storm", "ineffective_cache"})

_CALLS: frozenset[Kind] = frozenset({"tool", "agent", "workflow", "retrieval", "http", "db", "mcp", "embedding"})
_ASKED_FOR: frozenset[Kind] = frozenset({"tool", "agent", "mcp"})
_MOST_COMPARED = 50
"""calls of one group; the comparison is of each with each"""


class _Group(NamedTuple):
    calls: Sequence[SpanRecord]
    known: bool
    """the trace shows that they are independent; otherwise only that one model turn asked for them"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """≥2 calls in sequence under one parent, none holding an earlier one's result in its arguments. `warning` when
    one model turn asked for all of them, otherwise `info`. Silent where dependence cannot be told and no
    model turn asked; loops, repeats and retries are other kinds."""
    writes = Writes(run)
    for parent in run.spans:
        for stretch in stretches(run, parent):
            for group in _groups(run, stretch, writes):
                yield _finding(run, stretch, group)


def _groups(run: AgentRun, stretch: Stretch, writes: Writes) -> Iterator[_Group]:
    between_turns = stretch.after_turn and stretch.before_turn
    group: list[SpanRecord] = []
    known = True
    for call in _candidates(run, stretch):
        relations = [_relation(call, earlier, writes) for earlier in group]
        unknown = None in relations
        # A model asks for tools. A retrieval, query or request between its turns is a program's step, such as
        # the embedding, the retrieval and the ranking of a pipeline, each of which needs the one before.
        may_assume = between_turns and call.kind in _ASKED_FOR and all(one.kind in _ASKED_FOR for one in group)
        if True in relations or (unknown and not may_assume) or len(group) >= _MOST_COMPARED:
            if len(group) > 1:
                yield _Group(group, known)
            group, known = [call], True
        else:
            group.append(call)
            known = known and not unknown
    if len(group) > 1:
        yield _Group(group, known)


def _relation(later: SpanRecord, earlier: SpanRecord, writes: Writes) -> bool | None:
    """Does the later call need the earlier one? None: the trace cannot tell."""
    if earlier.kind == "embedding" and later.kind != "embedding":
        return True  # the vector goes into what follows, though its span shows the question's text
    read, write = (earlier, later) if later.mutating else (later, earlier)
    if write.mutating and not read.mutating and not later.asked and writes.may_change(write, read):
        return True  # what is looked up before or after it is changed is in its place on purpose
    return depends(later, earlier)


def _candidates(run: AgentRun, stretch: Stretch) -> list[SpanRecord]:
    """Calls in sequence that waiting (not computing) made long, once each; a call that changes something may be
    in its place on purpose, unless a model asked for it together with the others."""
    loop = int(run.threshold("n_plus_one_calls.calls", 5))
    asked = stretch.after_turn and stretch.before_turn
    waiting = [
        span
        for span in stretch.spans
        if span.kind in _CALLS and span.error is None and (asked or not span.mutating) and not _computes(span)
    ]
    kept = (calls for calls in by_operation(waiting).values() if not _is_loop(calls, loop))
    return in_sequence([span for calls in kept for span in _once(calls)])


def _is_loop(calls: Sequence[SpanRecord], least: int) -> bool:
    """A loop over items or pages is judged elsewhere."""
    distinct = len({span.args for span in calls if span.args is not None})
    return distinct >= least or (len(calls) > 1 and are_pages(calls))


def _once(calls: Sequence[SpanRecord]) -> list[SpanRecord]:
    seen: set[str] = set()
    kept = []
    for span in calls:
        if span.args is None or span.args not in seen:
            kept.append(span)
        seen.add(span.args or "")
    return kept


def _computes(span: SpanRecord) -> bool:
    return span.cpu_ns is not None and 2 * span.cpu_ns > span.duration_ns


def _finding(run: AgentRun, stretch: Stretch, group: _Group) -> Finding:
    calls = group.calls
    asked = stretch.after_turn and stretch.before_turn
    sure = group.known or all(span.asked for span in calls)
    longest = max(calls, key=lambda span: span.duration_ns)
    wasted = total_s(calls) - longest.duration_s
    names = list(dict.fromkeys(span.operation for span in calls))
    listed = ", ".join(names[:4]) + (" …" if len(names) > 4 else "")
    reason = (
        "one model turn asked for all of them" if asked and sure
        else "none takes another's result" if sure
        else "they follow one model turn; their arguments are hidden, so check that none needs another's result"
    )  # fmt: skip
    return Finding(
        kind="serialized_independent_calls",
        severity=severity(run, wasted) if asked and sure else "info",
        operation=longest.operation,
        calls=len(calls),
        wasted_s=wasted,
        evidence=ids(calls),
        threshold="≥2 calls in sequence that do not depend on each other",
        recommend=lambda saving: (
            f"{listed} ran one after another ({len(calls)} calls, {reason}): "
            f"run them at the same time; that saves {seconds(saving)}."
        ),
        change=Change(parallel=(ids(stretch.steps[span.span_id] for span in calls),)),
    )
