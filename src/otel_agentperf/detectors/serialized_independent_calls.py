"""Calls made one after another although none needs another's result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import Stretch, by_operation, ids, in_sequence, seconds, severity, stretches, total_s
from ._needs import Needs
from ._pages import are_pages
from ._writes import Writes

TITLE = "calls that could run in parallel"
SAVES_TIME = True
NEEDS_WHOLE_RUN = True
REPLACED_BY = frozenset(
    {"n_plus_one_calls", "duplicate_calls", "retry_storm", "ineffective_cache", "agent_loop", "blocked_event_loop"}
)

THRESHOLDS: frozenset[str] = frozenset()

_CALLS: frozenset[Kind] = frozenset({"tool", "agent", "workflow", "retrieval", "http", "db", "mcp", "embedding"})
_ASKED_FOR: frozenset[Kind] = frozenset({"tool", "mcp"})
"""what a model asks for; another kind of call only where it carries the id of a model's tool call"""
_MOST_COMPARED = 50
"""calls of one group; the comparison is of each with each"""


class _Group(NamedTuple):
    calls: Sequence[SpanRecord]
    known: bool
    """the trace shows that they are independent; otherwise only that one model turn asked for them"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """≥2 calls in sequence under one parent, none holding an earlier one's result in its arguments, not even by way
    of a call in between. `warning` when one model turn asked for all of them, otherwise `info`. Silent where
    dependence cannot be told and no model turn asked; loops, repeats and retries are other kinds."""
    writes = Writes(run)
    for parent in run.parents:
        for stretch in stretches(run, parent):
            for group in _groups(run, stretch, writes):
                yield _finding(run, stretch, group)


def _groups(run: AgentRun, stretch: Stretch, writes: Writes) -> Iterator[_Group]:
    candidates = _candidates(run, stretch)
    needs = Needs(stretch.spans, writes) if len(candidates) > 1 else None
    group: list[SpanRecord] = []
    known = True
    for call in candidates:
        relations = [needs.needs(call, earlier) for earlier in group] if needs else []
        unknown = None in relations
        may_assume = unknown and _one_turn_asked(run, stretch, [*group, call])
        if True in relations or (unknown and not may_assume) or len(group) >= _MOST_COMPARED:
            if len(group) > 1:
                yield _Group(group, known)
            group, known = [call], True
        else:
            group.append(call)
            known = known and not unknown
    if len(group) > 1:
        yield _Group(group, known)


def _one_turn_asked(run: AgentRun, stretch: Stretch, calls: Sequence[SpanRecord]) -> bool:
    """Did the model turn before the stretch ask for all of the calls? Its visible answer decides. Without, the id of
    a model's tool call tells: where one call has it, one without was made by the program. Where none has, an agent's
    tools between two turns were asked for; but not a query or request there, which is a step of the program, such as
    the retrieval of a pipeline, and not what a workflow calls, as that decides itself what is next."""
    if not (stretch.after_turn and stretch.before_turn):
        return False
    if stretch.asks is not None:
        return _are_named(calls, stretch.asks)
    with_id = sum(call.asked for call in calls)
    return with_id == len(calls) or (with_id == 0 and all(_is_asked_for(run, call) for call in calls))


def _is_asked_for(run: AgentRun, call: SpanRecord) -> bool:
    owner = run.by_id[run.agents[call.span_id]]
    return call.kind in _ASKED_FOR and (owner.kind != "workflow" or owner.chain)


def _are_named(calls: Iterable[SpanRecord], asks: Iterable[str]) -> bool:
    """Is each call one of those asked for, each of which is made once? Either name may have a server's or plugin's
    name before it."""
    left = list(asks)
    for call in calls:
        name = next((ask for ask in left if _same_name(ask, call.operation)), None)
        if name is None:
            return False
        left.remove(name)
    return True


def _same_name(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.endswith(short) and (one == other or not long[-len(short) - 1].isalnum())


def _candidates(run: AgentRun, stretch: Stretch) -> list[SpanRecord]:
    """Calls in sequence that waiting (not computing) made long, once each; a call that changes something may be
    in its place on purpose, unless a model asked for it together with the others."""
    waiting = [
        span
        for span in stretch.spans
        if span.kind in _CALLS
        and span.error is None
        and not (span.mutating and not _one_turn_asked(run, stretch, [span]))
        and not _computes(span)
    ]
    kept = (calls for calls in by_operation(waiting).values() if not _is_loop(run, calls))
    return in_sequence([span for calls in kept for span in _once(calls)])


def _is_loop(run: AgentRun, calls: Sequence[SpanRecord]) -> bool:
    """A loop over items or pages is judged elsewhere."""
    least = run.threshold("n_plus_one_calls.calls", 5, calls[0])
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
    asked = _one_turn_asked(run, stretch, calls)
    sure = group.known or all(span.asked for span in calls) or (asked and stretch.asks is not None)
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
        severity=severity(run, wasted, longest) if asked and sure else "info",
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
