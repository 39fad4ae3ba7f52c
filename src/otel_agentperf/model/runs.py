"""A run: its root and everything below it, indexed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from .._entries import Budget
from .._once import once
from .kinds import RUN_KINDS, Kind
from .measured import PastCalls
from .spans import SpanRecord

_CALLS: frozenset[Kind] = frozenset({"tool", "mcp", "retrieval", "llm", "embedding"})
"""what happens inside one is part of it, but an agent"""
_MEMBERS: frozenset[Kind] = frozenset({"tool", "mcp", "retrieval", "agent", "workflow", "llm"})
_when = attrgetter("start_ns", "end_ns")


class PathSegment(NamedTuple):
    """A stretch of the critical path: `span` itself was what the run waited for from start to end."""

    span: SpanRecord
    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class AgentRun:
    """A run: its root and everything below it, indexed. Made by `analysis.runs.build_run`."""

    root: SpanRecord
    spans: tuple[SpanRecord, ...]
    """the root and all below it, by start; of those that start together the longest first"""
    children: Mapping[str, tuple[SpanRecord, ...]]
    """by parent's span id, each by start"""
    path: tuple[PathSegment, ...] = ()
    """the critical path, in time order; tiles the root exactly"""
    critical_ns: Mapping[str, int] = field(default_factory=dict)
    """by span id: its own time on the critical path; 0 for a span there that has no length"""
    self_ns: Mapping[str, int] = field(default_factory=dict)
    incomplete: bool = False
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """the user's, by `kind.name`; a detector states the default where it uses one"""
    callers: frozenset[str] = frozenset()
    """ids of the trace's spans that called another process in which a run happened"""
    budgets: tuple[Budget, ...] = ()
    """the user's"""
    costs: Mapping[str, float] = field(default_factory=dict)
    """USD of the model calls whose price and tokens are known, by span id"""

    @once
    def by_id(self) -> Mapping[str, SpanRecord]:
        return {span.span_id: span for span in self.spans}

    @once
    def parents(self) -> tuple[SpanRecord, ...]:
        """The spans that have children, by start."""
        return tuple(span for span in self.spans if span.span_id in self.children)

    @once
    def agents(self) -> Mapping[str, str]:
        """The span id of the nearest agent (or the root) that each span works for, by span id."""
        owner: dict[str, str] = {}
        for span in self.walk():
            above = owner.get(span.parent_id or "", self.root.span_id)
            owner[span.span_id] = span.span_id if span.kind in RUN_KINDS or self._is_inner_agent(span) else above
        return owner

    def _is_inner_agent(self, span: SpanRecord) -> bool:
        """A chain that takes several turns and, in other steps, calls tools: a graph inside the graph, not a node of
        it, nor one cycle of a loop."""
        if not (span.chain and len(self.turns.get(span.span_id, ())) > 1):
            return False
        others = (step for step in self.children[span.span_id] if step.span_id not in self.turn_asks)
        return any(
            call.kind == "tool" for step in others for call in chain([step], self.children.get(step.span_id, ()))
        )

    @once
    def thinking(self) -> frozenset[str]:
        """The model calls and everything above them, by span id."""
        found: set[str] = set()
        for span in self.spans:
            for member in chain([span], self.ancestors(span)) if span.kind == "llm" else ():
                if member.span_id in found:
                    break
                found.add(member.span_id)
        return frozenset(found)

    @once
    def turn_asks(self) -> Mapping[str, tuple[str, ...] | None]:
        """The model's calls, and the frameworks' steps around them (not the agents and tools), by span id: what the
        last model call inside asked for."""
        found: dict[str, tuple[str, ...] | None] = {}
        for span in reversed(self.spans):
            for step in chain([span], self.ancestors(span)) if span.kind == "llm" else ():
                if step.span_id in found or not (step is span or step.kind == "other"):
                    break
                found[step.span_id] = span.asks
        return found

    @once
    def turns(self) -> Mapping[str, Sequence[SpanRecord]]:
        """The turns (model calls and steps around them) by parent's span id, each by start."""
        found: dict[str, list[SpanRecord]] = defaultdict(list)
        for span in self.spans:
            if span.span_id in self.turn_asks and span is not self.root:
                found[span.parent_id or ""].append(span)
        return found

    @once
    def turn_bounds(self) -> Mapping[str, tuple[int, int]]:
        """By parent's span id: when the first turn below it had ended, and when the last one started."""
        return {
            parent: (min(turn.end_ns for turn in turns), turns[-1].start_ns) for parent, turns in self.turns.items()
        }

    def walk(self, top: SpanRecord | None = None) -> Iterator[SpanRecord]:
        """`top` (or the root) and all below it, parents before children."""
        return iter(self._walked) if top is None else self._walk(top)

    @once
    def _walked(self) -> Sequence[SpanRecord]:
        return tuple(self._walk(self.root))

    def _walk(self, top: SpanRecord) -> Iterator[SpanRecord]:
        stack = [top]
        while stack:
            span = stack.pop()
            yield span
            below = self.children.get(span.span_id)
            if below:
                stack.extend(reversed(below))

    def below(self, span: SpanRecord) -> Iterator[SpanRecord]:
        """All spans below `span`, without it."""
        found = self.walk(span)
        next(found)
        return found

    def ancestors(self, span: SpanRecord) -> Iterator[SpanRecord]:
        """The parents of `span`, nearest first, up to the run's root."""
        while span is not self.root:
            parent = self.by_id.get(span.parent_id or "")
            if parent is None:
                return
            yield parent
            span = parent

    def threshold(self, name: str, default: float, span: SpanRecord | None = None) -> float:
        """The user's value of a threshold such as `n_plus_one_calls.calls`, or the detector's default. One for the
        operation of `span` (`slow_operation.tool_s@search`) or its agent (`…@planner`) wins, in this order."""
        if span is not None and self.thresholds:
            for scope in (span.operation, self.agent_of(span.span_id)):
                told = self.thresholds.get(f"{name}@{scope}")
                if told is not None:
                    return told
        return self.thresholds.get(name, default)

    @once
    def outside_calls(self) -> tuple[SpanRecord, ...]:
        """The spans that are not a part of another call: what an agent, a framework's step or the program itself does;
        parents before children."""
        found: list[SpanRecord] = []
        inside: set[str] = set()
        for span in self.walk():
            within = span.parent_id in inside and span is not self.root
            if span.kind in _CALLS or (within and span.kind not in RUN_KINDS):
                inside.add(span.span_id)
            if not within or span.kind in RUN_KINDS:
                found.append(span)
        return tuple(found)

    @once
    def members(self) -> Mapping[str, Sequence[SpanRecord]]:
        """By the span id of each agent: its own model calls and what it calls, each by start."""
        found: dict[str, list[SpanRecord]] = defaultdict(list)
        for span in self.outside_calls:
            if span.kind in _MEMBERS and span is not self.root:
                caller = (span.parent_id or "") if span.kind in RUN_KINDS else span.span_id
                found[self.agents.get(caller, self.root.span_id)].append(span)
        for spans in found.values():
            spans.sort(key=_when)
        return found

    @once
    def history(self) -> Mapping[tuple[Kind, str], PastCalls]:
        """What is known of earlier runs, by kind and operation."""
        return {(past.kind, past.operation): past for past in self.root.history}

    def agent_of(self, span_id: str) -> str:
        """The name of the agent that a span works for; the root's for an unknown span."""
        return self.by_id.get(self.agents.get(span_id, ""), self.root).operation
