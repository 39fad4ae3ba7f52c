"""The result in plain words: one sentence about a run, one about many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..model import AgentRun, Finding, Report
from ._text import count, plain, seconds

SEVERITIES = ("critical", "warning", "info")
"""worst first"""
_LEAST_OVERLAPPING = 0.99
"""of the summed time; runs that follow each other closely may overlap by a rounding"""
_MOST_NAMES = 4


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The same finding (by its fingerprint) in one run or several."""

    worst: Finding
    worst_run: int
    """index of the run in which it costs most"""
    runs: int
    saving_s: float
    """over all these runs"""


def verdict(report: Report) -> str:
    """`This run took 5.36 s; 3.28 s of it (61%) can be saved.`"""
    took = seconds(report.root.duration_s)
    error = report.root.error
    head = f"This run took {took}" if error is None else f"This run failed after {took} ({plain(error)})"
    if report.saving_s > 0:
        return f"{head}; {_saved(report.saving_s, report.root.duration_s)}"
    if report.findings:
        return f"{head}; {count(len(report.findings), 'finding')} that would save no time."
    return f"{head}; nothing to save was found." if error is None else f"{head}; no bottleneck was found."


def verdict_of_all(reports: Sequence[Report]) -> str:
    """The same over many runs, whose times are added up: those at the same time took less by the clock."""
    if not reports:
        return "No agent runs."
    if len(reports) == 1:
        return verdict(reports[0])
    took, saving = sum(report.root.duration_s for report in reports), sum(report.saving_s for report in reports)
    clock = _by_the_clock(reports)
    overlap = clock < _LEAST_OVERLAPPING * took
    how = f"added up, {seconds(clock)} by the clock (they overlapped)" if overlap else "in total"
    head = f"{len(reports):,} runs took {seconds(took)} {how}"
    failed = sum(report.root.error is not None for report in reports)
    if failed:
        head += f", {failed:,} failed"
    if saving > 0:
        return f"{head}; {_saved(saving, took, 'the sum' if overlap else 'it')}"
    if any(report.findings for report in reports):
        return f"{head}; the findings would save no time."
    return f"{head}; nothing to save was found."


def _by_the_clock(reports: Sequence[Report]) -> float:
    """Seconds in which any of the runs was going on."""
    taken, until = 0, 0
    for root in sorted((report.root for report in reports), key=lambda root: root.start_ns):
        taken += max(0, root.end_ns - max(until, root.start_ns))
        until = max(until, root.end_ns)
    return taken / 1e9


def typical_s(reports: Sequence[Report]) -> float:
    return median([report.root.duration_s for report in reports] or [0.0])


def bottlenecks(found_in: Iterable[Iterable[Finding]]) -> list[Bottleneck]:
    """What the runs' findings have in common: worst severity first, then by what it costs all of them."""
    groups: dict[str, list[tuple[int, Finding]]] = defaultdict(list)
    for number, findings in enumerate(found_in):
        for finding in findings:
            groups[finding.fingerprint].append((number, finding))
    found = [_bottleneck(members) for members in groups.values()]
    return sorted(found, key=lambda one: (SEVERITIES.index(one.worst.severity), -one.saving_s, -one.runs))


def _bottleneck(members: Sequence[tuple[int, Finding]]) -> Bottleneck:
    number, worst = min(members, key=lambda member: (SEVERITIES.index(member[1].severity), -member[1].saving_s))
    saving = sum(finding.saving_s for _, finding in members)
    return Bottleneck(worst, number, len({run for run, _ in members}), saving)


def subject(finding: Finding, run: AgentRun) -> str:
    """What it is about: its operation, or all of them where the recommendation lists those of the evidence."""
    spans = (run.by_id.get(span_id) for span_id in finding.evidence)
    names = list(dict.fromkeys(span.operation for span in spans if span))[: _MOST_NAMES + 1]
    listed = ", ".join(names[:_MOST_NAMES])
    if len(names) < 2 or finding.operation not in names or listed not in finding.recommendation:
        return finding.operation
    return listed + (", …" if len(names) > _MOST_NAMES else "")


def _saved(saving_s: float, of_s: float, what: str = "it") -> str:
    return f"{seconds(saving_s)} of {what} ({saving_s / of_s:.0%}) can be saved."
