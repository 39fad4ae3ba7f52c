"""Many runs at a glance: what they have in common, and those with most to save."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from heapq import heappush, heappushpop
from statistics import median
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..model import Report
from ._text import fitted, seconds

_MOST_ROWS = 15
GRADE_STYLES = {"A": "bold green", "B": "green", "C": "yellow", "D": "yellow", "E": "red", "F": "bold red"}


class Row(NamedTuple):
    """A run in the table of runs."""

    name: str
    duration_s: float
    grade: str
    score: float
    saving_s: float
    told: str


class Digest:
    """What is kept of any number of reports: the first few and those with most to save whole, of the others numbers."""

    def __init__(self, reports: Iterable[Report], whole: int) -> None:
        self.first: list[Report] = []
        self.failed = 0
        self.durations = array("d")
        self.bottlenecks: dict[tuple[str, str], tuple[int, float]] = {}
        """findings, and the seconds that they can save, by kind and operation"""
        self._worst: list[tuple[float, int, Report]] = []
        self._rows: list[tuple[float, int, Row]] = []
        for report in reports:
            self._add(report, whole)

    @property
    def runs(self) -> int:
        return len(self.durations)

    @property
    def most_to_save(self) -> list[Report]:
        return [report for *_, report in sorted(self._worst, reverse=True)]

    @property
    def rows(self) -> list[Row]:
        """Of the runs with most to save."""
        return [row for *_, row in sorted(self._rows, reverse=True)]

    def _add(self, report: Report, whole: int) -> None:
        order = (report.saving_s, -self.runs)  # of those that save the same, the first; no two are equal
        _keep_largest(self._worst, (*order, report), whole)
        _keep_largest(self._rows, (*order, _row(report)), _MOST_ROWS)
        if self.runs < whole:
            self.first.append(report)
        self.failed += report.root.error is not None
        self.durations.append(report.root.duration_s)
        for finding in report.findings:
            findings, saving = self.bottlenecks.get((finding.kind, finding.operation), (0, 0.0))
            self.bottlenecks[finding.kind, finding.operation] = findings + 1, saving + finding.saving_s


def _keep_largest(heap: list[Any], entry: tuple[Any, ...], most: int) -> None:
    (heappush if len(heap) < most else heappushpop)(heap, entry)


def _row(report: Report) -> Row:
    told = ", ".join(_told(report)) or "none"
    root = report.root
    return Row(root.operation, root.duration_s, report.grade, report.score, report.saving_s, told)


def overview(digest: Digest, width: int) -> RenderableType:
    """Two tables, `width` cells wide: bottlenecks by how much they cost all runs, and runs by how much they lose."""
    name_cells = max(12, width - 54)
    parts: list[RenderableType] = [Text(_summary(digest), "bold")]
    bottlenecks = _bottlenecks(digest, name_cells)
    if bottlenecks is not None:
        parts += ["", bottlenecks]
    return Group(*parts, "", _runs(digest, name_cells))


def _summary(digest: Digest) -> str:
    return f"{digest.runs:,} runs, {digest.failed:,} failed, median {seconds(median(digest.durations))}"


def _bottlenecks(digest: Digest, name_cells: int) -> Table | None:
    if not digest.bottlenecks:
        return None
    table = _table(("bottleneck", 28), ("operation", name_cells), ("findings", -8), ("can save", -8))
    worst = sorted(digest.bottlenecks.items(), key=lambda entry: (-entry[1][1], -entry[1][0]))
    for (kind, operation), (findings, saving) in worst[:_MOST_ROWS]:
        table.add_row(fitted(kind, 28), fitted(operation, name_cells), f"{findings:,}", seconds(saving))
    return _with_rest(table, len(worst))


def _runs(digest: Digest, name_cells: int) -> Table:
    table = _table(("run", name_cells), ("took", -8), ("grade", 6), ("can save", -8), ("bottlenecks", 24))
    for row in digest.rows:
        table.add_row(
            fitted(row.name, name_cells),
            seconds(row.duration_s),
            Text(f"{row.grade} {row.score:.2f}", GRADE_STYLES[row.grade]),
            seconds(row.saving_s),
            fitted(row.told, 24),
        )
    return _with_rest(table, digest.runs)


def _told(report: Report) -> Iterator[str]:
    if report.root.error is not None:
        yield "failed"
    yield from dict.fromkeys(finding.kind for finding in report.findings)


def _table(*columns: tuple[str, int]) -> Table:
    """Headings with their width; negative: to the right."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for heading, cells in columns:
        table.add_column(heading, width=abs(cells), justify="right" if cells < 0 else "left", no_wrap=True)
    return table


def _with_rest(table: Table, members: int) -> Table:
    if members > _MOST_ROWS:
        table.add_row(Text(f"… {members - _MOST_ROWS:,} more", "dim"))
    return table
