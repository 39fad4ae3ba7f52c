"""What several detectors ask of a run: calls between model turns, dependence, words for the report."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from .._visible import holds_result
from ..model import RUN_KINDS, AgentRun, Kind, Severity, SpanRecord

_MOST_STEPS = 4
"""framework's steps around each other that are looked through"""
_SHORTEST_TURN_NS = 200_000_000


class Stretch(NamedTuple):
    """Calls below one parent between two model turns, by start."""

    spans: Sequence[SpanRecord]
    steps: Mapping[str, SpanRecord]
    """by a call's span id: the parent's own child that it is, or that is a framework's step around it alone"""
    after_turn: bool
    before_turn: bool
    asks: tuple[str, ...] | None
    """the tools that the turn before asked for; None: not visible"""


def stretches(run: AgentRun, parent: SpanRecord) -> Iterator[Stretch]:
    """The calls below `parent`, cut where a model turn (a model call, or a step around one) was taken: what a
    model decides after a turn is not a loop in the code."""
    children = run.children.get(parent.span_id, ())
    if not children:
        return
    untraced = _turns_are_untraced(run, parent)
    steps: dict[str, SpanRecord] = {}
    spans: list[SpanRecord] = []
    after_turn = _follows_turn(run, parent)
    asks = _asks_before(run, parent) if after_turn else None
    for child in children:
        call = unwrapped(run, child)
        turn = is_turn(run, child)
        if turn or (untraced and spans and _could_hide_turn(spans[-1], call)):
            yield Stretch(spans, steps, after_turn, turn, asks)
            spans, after_turn, asks = [], turn, run.turn_asks.get(child.span_id)
        if not turn:
            spans.append(call)
            steps[call.span_id] = child
    yield Stretch(spans, steps, after_turn, _precedes_turn(run, parent), asks)


def unwrapped(run: AgentRun, span: SpanRecord) -> SpanRecord:
    """The call inside a framework's step that holds nothing else (LangGraph runs each tool in a node of its own)."""
    inner = span
    for _ in range(_MOST_STEPS):
        if inner.kind != "other" or is_turn(run, inner):
            return inner
        below = run.children.get(inner.span_id, ())
        if len(below) != 1:
            return span
        inner = below[0]
    return span


def is_turn(run: AgentRun, span: SpanRecord) -> bool:
    """Is the span a model call, or a framework's step around one (not an agent or tool that calls a model)?"""
    return span.span_id in run.turn_asks


def _turns_are_untraced(run: AgentRun, parent: SpanRecord) -> bool:
    """Does an agent's trace show what its model asked for, but not the model (AutoGen's own spans are so)?"""
    return parent.kind in RUN_KINDS and parent.span_id not in run.thinking


def _could_hide_turn(earlier: SpanRecord, later: SpanRecord) -> bool:
    return later.asked and later.start_ns - earlier.end_ns >= _SHORTEST_TURN_NS


def _follows_turn(run: AgentRun, parent: SpanRecord) -> bool:
    """A framework's step (a graph node) that runs the tools the step before it asked for."""
    bounds = run.turn_bounds.get(parent.parent_id or "")
    return parent.kind == "other" and bounds is not None and bounds[0] <= parent.start_ns


def _precedes_turn(run: AgentRun, parent: SpanRecord) -> bool:
    bounds = run.turn_bounds.get(parent.parent_id or "")
    return parent.kind == "other" and bounds is not None and bounds[1] >= parent.end_ns


def _asks_before(run: AgentRun, parent: SpanRecord) -> tuple[str, ...] | None:
    turns = run.turns.get(parent.parent_id or "", ())
    index = bisect_left(turns, parent.start_ns, key=attrgetter("start_ns"))
    return run.turn_asks[turns[index - 1].span_id] if index else None


def by_operation(spans: Iterable[SpanRecord]) -> dict[tuple[Kind, str], list[SpanRecord]]:
    """The spans by kind and operation, in their order."""
    groups: dict[tuple[Kind, str], list[SpanRecord]] = defaultdict(list)
    for span in spans:
        groups[span.kind, span.operation].append(span)
    return groups


def depends(later: SpanRecord, earlier: SpanRecord) -> bool | None:
    """Do the later call's arguments hold a value of the earlier one's result? None: the trace cannot tell."""
    if later.depends_on is not None:
        return earlier.span_id in later.depends_on
    if later.args_text is None or earlier.result_text is None:
        return None
    return holds_result(later.args_text, earlier.result_text, earlier.args_text)


def named(run: AgentRun, call: SpanRecord) -> SpanRecord:
    """What a person would search for: the model whose client made the request, or the call itself."""
    for above in run.ancestors(call):
        if above.kind in ("llm", "embedding"):
            return above
        if above.kind != "other":
            break
    return call


def in_sequence(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """The longest chain of spans that do not overlap (earliest end first)."""
    chain: list[SpanRecord] = []
    for span in sorted(spans, key=lambda span: (span.end_ns, span.start_ns)):
        if not chain or span.start_ns >= chain[-1].end_ns:
            chain.append(span)
    return chain


def total_s(spans: Iterable[SpanRecord]) -> float:
    return sum(span.duration_ns for span in spans) / 1e9


def ids(spans: Iterable[SpanRecord]) -> tuple[str, ...]:
    """The spans' ids in time order."""
    return tuple(span.span_id for span in sorted(spans, key=lambda span: (span.start_ns, span.end_ns)))


def severity(run: AgentRun, wasted_s: float, call: SpanRecord | None = None) -> Severity:
    """`critical` for what wastes half of the run. `call`: one of those it is about."""
    return "critical" if wasted_s >= run.threshold("critical_share", 0.5, call) * run.root.duration_s else "warning"


def seconds(value: float) -> str:
    """`850 ms`, `3.4 s`, `240 s`."""
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms"
    return f"{value:.1f} s" if value < 99.95 else f"{value:.0f} s"
