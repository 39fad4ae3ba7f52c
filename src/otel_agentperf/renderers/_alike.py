"""Many healthy runs of one name are one row."""

from __future__ import annotations

from collections.abc import Sequence

from ..model import Report

MOST_APART = 20
"""runs; where there are more, those of one name that have nothing to tell are put together"""


def is_healthy(report: Report) -> bool:
    return not report.findings and report.root.error is None and not report.run.incomplete


def grouped(reports: Sequence[Report]) -> list[list[int]]:
    """The reports by number, those alike together, in the order of the first of each."""
    if len(reports) <= MOST_APART:
        return [[number] for number in range(len(reports))]
    groups: dict[object, list[int]] = {}
    for number, report in enumerate(reports):
        groups.setdefault(report.root.operation if is_healthy(report) else number, []).append(number)
    return list(groups.values())


def grades(found: Sequence[str]) -> str:
    """`A`, or the best and the worst: `A to C`."""
    best, worst = min(found), max(found)
    return best if best == worst else f"{best} to {worst}"
