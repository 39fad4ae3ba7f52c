"""The result in plain words: one sentence about a run, one about many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ..model import Finding, Report
from ._text import count, plain, seconds

SEVERITIES = ("critical", "warning", "info")
"""worst first"""


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
    """The same over many runs, whose times are added up."""
    if not reports:
        return "No agent runs."
    if len(reports) == 1:
        return verdict(reports[0])
    took, saving = sum(report.root.duration_s for report in reports), sum(report.saving_s for report in reports)
    head = f"{len(reports):,} runs took {seconds(took)} in total"
    failed = sum(report.root.error is not None for report in reports)
    if failed:
        head += f", {failed:,} failed"
    if saving > 0:
        return f"{head}; {_saved(saving, took)}"
    if any(report.findings for report in reports):
        return f"{head}; the findings would save no time."
    return f"{head}; nothing to save was found."


def typical_s(reports: Sequence[Report]) -> float:
    return median([report.root.duration_s for report in reports] or [0.0])


def bottlenecks(found_in: Iterable[Iterable[Finding]]) -> list[Bottleneck]:
    """What the runs' findings have in common, by what it costs all of them."""
    groups: dict[str, list[tuple[int, Finding]]] = defaultdict(list)
    for number, findings in enumerate(found_in):
        for finding in findings:
            groups[finding.fingerprint].append((number, finding))
    found = [_bottleneck(members) for members in groups.values()]
    return sorted(found, key=lambda one: (-one.saving_s, SEVERITIES.index(one.worst.severity), -one.runs))


def _bottleneck(members: Sequence[tuple[int, Finding]]) -> Bottleneck:
    number, worst = min(members, key=lambda member: (SEVERITIES.index(member[1].severity), -member[1].saving_s))
    saving = sum(finding.saving_s for _, finding in members)
    return Bottleneck(worst, number, len({run for run, _ in members}), saving)


def _saved(saving_s: float, of_s: float) -> str:
    return f"{seconds(saving_s)} of it ({saving_s / of_s:.0%}) can be saved."
