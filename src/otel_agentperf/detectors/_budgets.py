"""Holds what a run, its agents and its tools took against the user's budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .._entries import Budget, Metric, best_match
from ..model import RUN_KINDS, AgentRun, Kind, SpanRecord, total

_TOOLS: frozenset[Kind] = frozenset({"tool", "mcp"})
_MODEL_CALLS: frozenset[Kind] = frozenset({"llm", "embedding"})


class Use(NamedTuple):
    """What was taken of a budget."""

    budget: Budget
    name: str
    """of the agent, the tool, or the run's root"""
    spans: Sequence[SpanRecord]
    """the calls it is about"""
    amount: float | None
    """None: not measured"""
    complete: bool = True
    """false: at least the amount, as some of it was not measured"""

    @property
    def exceeded(self) -> bool:
        return self.amount is not None and self.amount > self.budget.limit


Measured = tuple[float | None, bool]
"""the amount and whether all of it was measured"""


def uses(run: AgentRun) -> Iterator[Use]:
    """What the run took of each budget; a budget of all agents or tools is one of each, and one that names an agent
    or tool goes before it."""
    if not run.budgets:
        return
    named = {
        "run": {run.root.operation: [run.root]},
        "agent": _outermost(run, RUN_KINDS),
        "tool": _outermost(run, _TOOLS),
    }
    for (scope, _), budgets in _by_scope_and_metric(run.budgets).items():
        for name, spans in named[scope].items():
            key = "" if scope == "run" else best_match(budgets, name)
            if key is not None:
                yield _use(run, budgets[key], name, spans)


def _by_scope_and_metric(budgets: Iterable[Budget]) -> dict[tuple[str, Metric], dict[str, Budget]]:
    groups: dict[tuple[str, Metric], dict[str, Budget]] = {}
    for budget in budgets:
        groups.setdefault((budget.scope, budget.metric), {})[budget.name] = budget
    return groups


def _outermost(run: AgentRun, kinds: frozenset[Kind]) -> dict[str, list[SpanRecord]]:
    """The calls by name; not those inside another of the same name, which are part of it."""
    found: dict[str, list[SpanRecord]] = {}
    for span in run.spans:
        if span.kind in kinds and not any(
            above.kind in kinds and above.operation == span.operation for above in run.ancestors(span)
        ):
            found.setdefault(span.operation, []).append(span)
    return found


def _use(run: AgentRun, budget: Budget, name: str, spans: Sequence[SpanRecord]) -> Use:
    if budget.metric == "duration_s":
        over = [span for span in spans if span.duration_s > budget.limit]
        return Use(budget, name, over or spans, max(span.duration_s for span in spans))
    return Use(budget, name, spans, *_MEASURES[budget.metric](run, budget, spans))


def _calls(run: AgentRun, budget: Budget, spans: Sequence[SpanRecord]) -> Measured:
    if budget.scope == "tool":
        return float(len(spans)), True
    below = [call for span in spans for call in run.below(span)]
    models = sum(call.kind == "llm" for call in below)
    tools = sum(call.kind in _TOOLS and not _is_inside_tool(run, call) for call in below)
    return float(models + tools), True


def _is_inside_tool(run: AgentRun, call: SpanRecord) -> bool:
    """What a tool asks of its server is the tool's call, seen once more."""
    return call.kind == "mcp" and any(above.kind in _TOOLS for above in run.ancestors(call))


def _tokens(run: AgentRun, budget: Budget, spans: Sequence[SpanRecord]) -> Measured:
    # An agent whose model is not traced may tell its total.
    calls = _model_calls(run, spans) or list(_telling(run, spans))
    return _sum([total((call.tokens.input, call.tokens.output)) for call in calls])


def _telling(run: AgentRun, spans: Iterable[SpanRecord]) -> Iterator[SpanRecord]:
    """The outermost that tell tokens."""
    stack = list(spans)
    while stack:
        span = stack.pop()
        if span.tokens:
            yield span
        else:
            stack.extend(run.children.get(span.span_id, ()))


def _cost(run: AgentRun, budget: Budget, spans: Sequence[SpanRecord]) -> Measured:
    return _sum([run.costs.get(call.span_id) for call in _model_calls(run, spans)])


def _model_calls(run: AgentRun, spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Without the failed ones that told no tokens: they were not answered."""
    below = (call for span in spans for call in run.walk(span) if call.kind in _MODEL_CALLS)
    return [call for call in below if call.tokens or call.error is None]


def _memory(run: AgentRun, budget: Budget, spans: Sequence[SpanRecord]) -> Measured:
    """Of the process, so it is known of the run only."""
    usage = run.root.usage if run.root in spans else None
    if usage is None:
        return None, True
    return usage.memory_mb if usage.memory_peak_mb is None else usage.memory_peak_mb, True


def _cpu(run: AgentRun, budget: Budget, spans: Sequence[SpanRecord]) -> Measured:
    usage = run.root.usage
    if run.root in spans and usage is not None and usage.cpu_percent is not None:
        return usage.cpu_percent / 100 * run.root.duration_s, True
    return _sum([None if span.cpu_ns is None else span.cpu_ns / 1e9 for span in spans])


def _sum(amounts: Sequence[float | None]) -> Measured:
    """Where there is nothing to measure, nothing was taken."""
    known = [amount for amount in amounts if amount is not None]
    return (sum(known) if known or not amounts else None), len(known) == len(amounts)


_MEASURES: Mapping[Metric, Callable[[AgentRun, Budget, Sequence[SpanRecord]], Measured]] = {
    "calls": _calls,
    "tokens": _tokens,
    "cost": _cost,
    "memory_mb": _memory,
    "cpu_s": _cpu,
}


def unchecked(run: AgentRun) -> tuple[str, ...]:
    """The budgets of which nobody can say whether the run kept them, with the reason."""
    return tuple(
        f"{use.budget.key} of {use.name}: {_REASONS[use.budget.metric]}"
        for use in uses(run)
        if not use.exceeded and (use.amount is None or not use.complete)
    )


_REASONS: Mapping[Metric, str] = {
    "tokens": "a model call told no tokens",
    "cost": "the price or the tokens of a model call are not known",
    "memory_mb": "memory was not measured, or belongs to the run and not to one of its calls",
    "cpu_s": "CPU time was not measured",
}
