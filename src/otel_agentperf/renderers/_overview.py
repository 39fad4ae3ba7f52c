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

from ..model import RUN_KINDS, Report
from ._alike import MOST_APART, grades, is_healthy
from ._outside import Outside, is_outside
from ._text import fitted, rounded_down, seconds
from ._verdict import SEVERITIES

_MOST_ROWS = 15
GRADE_STYLES = {"A": "bold green", "B": "green", "C": "yellow", "D": "yellow", "E": "red", "F": "bold red"}


class Row(NamedTuple):
    """A run in the table of runs, or several alike."""

    name: str
    duration_s: float
    grade: str
    told_grade: str
    saving_s: float
    told: str
    runs: int = 1


class Alike:
    """What is kept of healthy runs of one name."""

    def __init__(self) -> None:
        self.durations = array("d")
        self.grades: set[str] = set()
        self.first: Row | None = None

    def add(self, row: Row) -> None:
        self.durations.append(row.duration_s)
        self.grades.add(row.grade)
        self.first = self.first or row

    def row(self) -> Row:
        assert self.first is not None
        if len(self.durations) == 1:
            return self.first
        told = grades(sorted(self.grades))
        typical = median(self.durations)
        return Row(self.first.name, typical, max(self.grades), told, 0.0, "none, median time", len(self.durations))


class Digest:
    """What is kept of any number of reports: the first few and those with most to save whole, of the others numbers."""

    def __init__(self, whole: int) -> None:
        self.outside = Outside()
        self.agents = False
        """whether any was seen"""
        self._whole = whole
        self.first: list[Report] = []
        self.failed = 0
        self.durations = array("d")
        self.bottlenecks: dict[tuple[str, str], tuple[int, float, int]] = {}
        """findings, the seconds that they can save, and the place of the worst severity, by kind and operation"""
        self._worst: list[tuple[float, bool, float, int, Report]] = []
        self._rows: list[tuple[float, bool, float, int, Row]] = []
        self._troubled: list[tuple[float, bool, float, int, Row]] = []
        self._alike: dict[str, Alike] = {}

    @property
    def runs(self) -> int:
        return len(self.durations)

    @property
    def most_to_save(self) -> list[Report]:
        return [report for *_, report in sorted(self._worst, reverse=True)]

    @property
    def rows(self) -> list[Row]:
        """Of the runs with most to save; of very many, healthy ones of one name are together."""
        if self.runs <= MOST_APART:
            return [row for *_, row in sorted(self._rows, reverse=True)]
        alike = sorted((group.row() for group in self._alike.values()), key=lambda row: -row.runs)
        return [*(row for *_, row in sorted(self._troubled, reverse=True)), *alike][:_MOST_ROWS]

    def add(self, report: Report) -> None:
        # Of those that save the same, those with findings, the longest, the first: no two are equal.
        order = (report.saving_s, bool(report.findings), report.root.duration_s, -self.runs)
        row = _row(report)
        _keep_largest(self._worst, (*order, report), self._whole)
        _keep_largest(self._rows, (*order, row), _MOST_ROWS)
        if is_healthy(report):
            self._alike.setdefault(report.root.operation, Alike()).add(row)
        else:
            _keep_largest(self._troubled, (*order, row), _MOST_ROWS)
        if self.runs < self._whole:
            self.first.append(report)
        self.agents |= report.root.kind in RUN_KINDS
        self.failed += report.root.error is not None
        self.durations.append(report.root.duration_s)
        for finding in report.findings:
            place = SEVERITIES.index(finding.severity)
            findings, saving, worst = self.bottlenecks.get((finding.kind, finding.operation), (0, 0.0, place))
            told = findings + 1, saving + finding.saving_s, min(worst, place)
            self.bottlenecks[finding.kind, finding.operation] = told


def digest_of(reports: Iterable[Report], whole: int) -> Digest:
    """Single calls of no agent are only counted, unless there is nothing else."""
    runs, calls = Digest(whole), Digest(whole)
    for report in reports:
        if is_outside(report):
            calls.add(report)
            runs.outside.add(report)
        else:
            runs.add(report)
    return runs if runs.runs else calls


def _keep_largest(heap: list[Any], entry: tuple[Any, ...], most: int) -> None:
    (heappush if len(heap) < most else heappushpop)(heap, entry)


def _row(report: Report) -> Row:
    told = ", ".join(_told(report)) or "none"
    root = report.root
    grade = f"{report.grade} {rounded_down(report.score):.2f}"
    return Row(root.operation, root.duration_s, report.grade, grade, report.saving_s, told)


def overview(digest: Digest, width: int) -> RenderableType:
    """Two tables, `width` cells wide: bottlenecks by how much they cost all runs, and runs by how much they lose."""
    name_cells = max(12, width - 54)
    parts: list[RenderableType] = [Text(_summary(digest), "bold")]
    if digest.outside.names:
        parts.append(Text(digest.outside.line(), "dim"))
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
    worst = sorted(digest.bottlenecks.items(), key=lambda entry: (entry[1][2], -entry[1][1], -entry[1][0]))
    for (kind, operation), (findings, saving, _) in worst[:_MOST_ROWS]:
        table.add_row(fitted(kind, 28), fitted(operation, name_cells), f"{findings:,}", seconds(saving))
    return _with_rest(table, len(worst) - _MOST_ROWS)


def _runs(digest: Digest, name_cells: int) -> Table:
    table = _table(("run", name_cells), ("took", -8), ("score", 6), ("can save", -8), ("bottlenecks", 24))
    rows = digest.rows
    for row in rows:
        times = f" ×{row.runs:,}" if row.runs > 1 else ""
        table.add_row(
            fitted(row.name, name_cells - len(times)) + Text(times),
            seconds(row.duration_s),
            Text(row.told_grade, GRADE_STYLES[row.grade]),
            seconds(row.saving_s) if row.saving_s > 0 else "",
            fitted(row.told, 24),
        )
    return _with_rest(table, digest.runs - sum(row.runs for row in rows))


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


def _with_rest(table: Table, left: int) -> Table:
    if left > 0:
        table.add_row(Text(f"… {left:,} more", "dim"))
    return table
