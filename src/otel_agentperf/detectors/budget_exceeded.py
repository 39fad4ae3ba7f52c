"""A run, an agent or a tool took more than its user allows."""

from __future__ import annotations

from collections.abc import Iterable

from .._entries import Metric
from ..model import AgentRun, Finding
from ._budgets import Use, uses
from ._calls import ids, seconds

TITLE = "over your budget"
THRESHOLDS = frozenset({"critical_factor"})
SPEAKS_BESIDES = True
"""that a limit was passed does not explain why: other findings about the same calls stay"""


def detect(run: AgentRun) -> Iterable[Finding]:
    """One finding for each budget that is exceeded; `critical` from twice the budget. It claims no saving. What was
    not measured exceeds nothing, and `analysis.analyze` says which budgets could not be checked."""
    for use in uses(run):
        if use.exceeded:
            yield _finding(run, use)


def _finding(run: AgentRun, use: Use) -> Finding:
    budget = use.budget
    used, limit = use.amount or 0.0, budget.limit
    twice = used >= run.threshold("budget_exceeded.critical_factor", 2.0, use.spans[0]) * limit
    over = sum(span.duration_s - limit for span in use.spans) if budget.metric == "duration_s" else 0.0
    amount = ("" if use.complete else "at least ") + _shown(budget.metric, used)
    return Finding(
        kind="budget_exceeded",
        severity="critical" if twice else "warning",
        operation=use.name,
        calls=len(use.spans),
        wasted_s=over,
        evidence=ids(use.spans),
        threshold=f"{budget.key} = {limit:g}" + (f" ({budget.source})" if budget.source else ""),
        recommend=lambda _: (
            f"{use.name} took {amount} where its budget {budget.key} allows {_shown(budget.metric, limit)}: "
            f"{_ADVICE[budget.metric]}, or raise the budget."
        ),
        fingerprint=budget.key,
    )


def _shown(metric: Metric, amount: float) -> str:
    if metric in ("duration_s", "cpu_s"):
        return seconds(amount) + (" of CPU" if metric == "cpu_s" else "")
    if metric == "cost":
        return f"{amount:.4g} USD"
    if metric == "memory_mb":
        return f"{amount:,.0f} MB of memory"
    return f"{amount:,.0f} {metric if amount != 1 else metric[:-1]}"


_ADVICE: dict[Metric, str] = {
    "duration_s": "see the other findings for where the time goes",
    "tokens": "shorten prompts and answers, or cut turns",
    "cost": "shorten prompts, use the provider's prompt cache, or a cheaper model",
    "calls": "cut repeated calls, or stop sooner",
    "memory_mb": "keep less in memory, or process in parts",
    "cpu_s": "compute less, or elsewhere",
}
