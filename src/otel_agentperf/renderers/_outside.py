"""Calls that belong to no agent: each is a run of its own, and many of them would hide the runs that matter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..model import RUN_KINDS, Report
from ._text import count, plain, seconds

NO_AGENT = (
    "No agent was seen. Mark the function that is one with @agent of otel_agentperf, or use a framework with an "
    "integration."
)
_MOST_NAMES = 3


def is_outside(report: Report) -> bool:
    """Whether it is a single call of no agent that has nothing to tell."""
    run = report.run
    return run.root.kind not in RUN_KINDS and len(run.spans) == 1 and not report.findings and not run.incomplete


class Outside:
    """What is kept of such calls."""

    def __init__(self) -> None:
        self.failed = 0
        self.total_s = 0.0
        self.names: Counter[str] = Counter()

    def add(self, report: Report) -> None:
        self.names[report.root.operation] += 1
        self.failed += report.root.error is not None
        self.total_s += report.root.duration_s

    def line(self) -> str:
        """`300 calls outside of any agent: redis ×300, 900 ms added up`"""
        told = [f"{plain(name)} ×{calls:,}" for name, calls in self.names.most_common(_MOST_NAMES)]
        told += [count(len(self.names) - _MOST_NAMES, "other name")] if len(self.names) > _MOST_NAMES else []
        failed = f", {self.failed:,} failed" if self.failed else ""
        calls = count(self.names.total(), "call")
        return f"{calls} outside of any agent: {', '.join(told)}{failed}, {seconds(self.total_s)} added up"


def apart(reports: Iterable[Report]) -> tuple[list[Report], list[str]]:
    """The runs to report one by one, and what to say of the rest. Where there are only single calls, they are runs."""
    reports = list(reports)
    runs = [report for report in reports if not is_outside(report)]
    notes = []
    if runs and len(runs) < len(reports):
        outside = Outside()
        for report in filter(is_outside, reports):
            outside.add(report)
        notes.append(outside.line() + ".")
    if reports and not any(report.root.kind in RUN_KINDS for report in reports):
        notes.append(NO_AGENT)
    return runs or reports, notes
