"""The same call in a loop, one item each, where one batched call would do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from ..model import AgentRun, Change, Finding, Kind, SpanRecord
from ._calls import Stretch, by_operation, depends, ids, seconds, severity, stretches, total_s
from ._pages import are_batches, are_pages
from ._writes import runs_commands

TITLE = "calls in a loop, one item each"
SAVES_TIME = True
THRESHOLDS = frozenset({"calls", "db_total_s", "total_s"})

_BATCHABLE: frozenset[Kind] = frozenset({"tool", "db", "http", "retrieval", "embedding", "cache", "mcp"})


def detect(run: AgentRun) -> Iterable[Finding]:
    """≥5 calls of one operation under one parent between two model turns, with ≥5 distinct arguments; `info` where
    the arguments are hidden, as those of a prepared query are. Silent where each call needs the result of the one
    before (a cursor), is the next page, asks for many items at once, or is a
    command.
    """
    for parent in run.parents:
        for stretch in stretches(run, parent):
            for calls in _loops(stretch.spans):
                finding = _finding(run, stretch, calls)
                if finding:
                    yield finding


def _loops(spans: Sequence[SpanRecord]) -> Iterator[list[SpanRecord]]:
    candidates = [span for span in spans if span.kind in _BATCHABLE and not (span.cache and span.cache.counted)]
    for calls in by_operation(candidates).values():
        if calls[0].kind != "cache":
            yield calls
        else:
            yield [span for span in calls if span.cache and span.cache.operation == "get"]


def _finding(run: AgentRun, stretch: Stretch, calls: Sequence[SpanRecord]) -> Finding | None:
    if not calls:
        return None
    least = int(run.threshold("n_plus_one_calls.calls", 5, calls[0]))
    known = {span.args for span in calls if span.args is not None}
    # What a model asked for in one turn is no loop in the code, as far as one can see.
    hidden = [span for span in calls if span.args is None and span.error is None and not span.asked]
    if max(len(known), len(hidden)) < least or total_s(calls) < _least_total_s(run, calls[0]):
        return None
    if runs_commands(calls[0]) or are_pages(calls) or are_batches(calls) or _is_chain(calls):
        return None
    told = len(known) >= least
    longest = max(calls, key=lambda span: span.duration_ns)
    wasted = total_s(calls) - longest.duration_s
    name, count, duration = calls[0].operation, len(calls), run.root.duration_s
    looped = f"{name} ran {count} times in a loop"
    return Finding(
        kind="n_plus_one_calls",
        severity=severity(run, wasted, longest) if told else "info",
        operation=name,
        calls=count,
        wasted_s=wasted,
        evidence=ids(calls),
        threshold=f"≥{least} calls of one operation with distinct arguments under one parent",
        recommend=lambda saving: (
            f"{looped} with {len(known)} different arguments: one batched call saves about {seconds(saving)} of "
            f"{seconds(duration)}."
            if told
            else f"{looped}; the trace does not show its arguments: where they differ, one batched call saves about "
            f"{seconds(saving)} of {seconds(duration)}, where they do not, remembering the result does."
        ),
        change=Change(drop=frozenset(stretch.steps[span.span_id].span_id for span in calls if span is not longest)),
    )


def _least_total_s(run: AgentRun, call: SpanRecord) -> float:
    if call.kind == "db":
        return run.threshold("n_plus_one_calls.db_total_s", 0.05, call)
    return run.threshold("n_plus_one_calls.total_s", 0.3, call)


def _is_chain(calls: Sequence[SpanRecord]) -> bool:
    """Do most calls take something from the result of the one before? Then no batch can ask for all at once."""
    dependent = sum(depends(later, earlier) is True for earlier, later in pairwise(calls))
    return 2 * dependent >= len(calls) - 1
