"""Many runs at a glance: what they have in common, and those with most to save."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..model import Finding, Report
from ._text import fitted, seconds

_MOST_ROWS = 15
GRADE_STYLES = {"A": "bold green", "B": "green", "C": "yellow", "D": "yellow", "E": "red", "F": "bold red"}


def overview(reports: Sequence[Report], width: int) -> RenderableType:
    """Two tables, `width` cells wide: bottlenecks by how much they cost all runs, and runs by how much they lose."""
    name_cells = max(12, width - 54)
    parts: list[RenderableType] = [Text(_summary(reports), "bold")]
    bottlenecks = _bottlenecks(reports, name_cells)
    if bottlenecks is not None:
        parts += ["", bottlenecks]
    return Group(*parts, "", _runs(reports, name_cells))


def most_to_save(reports: Sequence[Report]) -> list[Report]:
    return sorted(reports, key=lambda report: -report.saving_s)


def _summary(reports: Sequence[Report]) -> str:
    failed = sum(report.root.error is not None for report in reports)
    middle = median(report.root.duration_s for report in reports)
    return f"{len(reports):,} runs, {failed:,} failed, median {seconds(middle)}"


def _bottlenecks(reports: Sequence[Report], name_cells: int) -> Table | None:
    found: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for report in reports:
        for finding in report.findings:
            found[finding.kind, finding.operation].append(finding)
    if not found:
        return None
    table = _table(("bottleneck", 28), ("operation", name_cells), ("findings", -8), ("can save", -8))
    worst = sorted(found.items(), key=lambda entry: (-_saving(entry[1]), -len(entry[1])))
    for (kind, operation), findings in worst[:_MOST_ROWS]:
        table.add_row(fitted(kind, 28), fitted(operation, name_cells), f"{len(findings):,}", seconds(_saving(findings)))
    return _with_rest(table, len(worst))


def _runs(reports: Sequence[Report], name_cells: int) -> Table:
    table = _table(("run", name_cells), ("took", -8), ("grade", 6), ("can save", -8), ("bottlenecks", 24))
    for report in most_to_save(reports)[:_MOST_ROWS]:
        grade = Text(f"{report.grade} {report.score:.2f}", GRADE_STYLES[report.grade])
        table.add_row(
            fitted(report.root.operation, name_cells),
            seconds(report.root.duration_s),
            grade,
            seconds(report.saving_s),
            fitted(", ".join(_told(report)) or "none", 24),
        )
    return _with_rest(table, len(reports))


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


def _saving(findings: Sequence[Finding]) -> float:
    return sum(finding.saving_s for finding in findings)
