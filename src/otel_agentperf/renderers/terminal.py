"""The report for people: the run as a waterfall with its critical path, then the findings, worst first."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TextIO

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..model import Finding, Kind, Report
from ._waterfall import Row, rows

SUMMARY = "for people: waterfall, critical path, findings"

_MOST_ROWS = 40
_MOST_DETAILED = 5
_BAR_WIDTH = 26
_WIDEST = 110
_GRADE_STYLES = {"A": "bold green", "B": "green", "C": "yellow", "D": "yellow", "E": "red", "F": "bold red"}
_SEVERITY_STYLES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}

_COUNTED: tuple[tuple[Kind, str], ...] = (("agent", "agent"), ("llm", "model"), ("tool", "tool"))


class _Glyphs:
    """What the output can show: block characters, or plain ASCII."""

    def __init__(self, encoding: str) -> None:
        try:
            "█░·×→✓".encode(encoding)
            self.critical, self.other, self.dot, self.times, self.arrow, self.check = "█░·×→✓"
        except (UnicodeEncodeError, LookupError):
            self.critical, self.other, self.dot, self.times, self.arrow, self.check = "#-|x>*"


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write the reports; colours and width as the stream and NO_COLOR say, 80 columns in a pipe."""
    reports = list(reports)
    console = _console(output)
    glyphs = _Glyphs(console.encoding)
    detailed = reports
    if len(reports) > _MOST_DETAILED:
        console.print(_overview(reports, glyphs))
        detailed = sorted(reports, key=lambda report: -report.saving_s)[:_MOST_DETAILED]
        console.print(Text(f"\nThe {_MOST_DETAILED} runs with most to save:\n", "bold"))
    for number, report in enumerate(detailed):
        if number:
            console.print()
        _print_report(console, report, glyphs)


def _console(output: TextIO) -> Console:
    console = Console(file=output, highlight=False, soft_wrap=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 80
    console.width = min(console.width, _WIDEST)
    return console


def _print_report(console: Console, report: Report, glyphs: _Glyphs) -> None:
    console.print(_headline(report, glyphs))
    console.print(_totals(report, glyphs), style="dim")
    console.print()
    console.print(_waterfall(report, glyphs, console.width))
    console.print(_legend(glyphs), style="dim")
    console.print()
    _print_findings(console, report, glyphs)


def _headline(report: Report, glyphs: _Glyphs) -> Text:
    root = report.root
    text = Text.assemble((plain(root.operation), "bold"), f"  {seconds(root.duration_s)}  grade ")
    text.append(f"{report.grade} ({report.score:.2f})", _GRADE_STYLES[report.grade])
    text.append(f"  efficiency {report.efficiency:.0%}")
    if root.error is not None:
        text.append(f"  failed: {plain(root.error)}", "bold red")
    if report.run.incomplete:
        text.append("  incomplete: some spans are missing", "yellow")
    return text


def _totals(report: Report, glyphs: _Glyphs) -> Text:
    parts = report.score_parts
    shares = ((name, getattr(parts, name)) for name in ("success", "speed", "resource"))
    told = [" ".join((name, "not measured" if share is None else f"{share:.2f}")) for name, share in shares]
    for kind, singular in _COUNTED:
        calls, errors = report.calls(kind), report.errors(kind)
        if calls:
            failed = f" ({errors} failed)" if errors else ""
            told.append(f"{calls} {singular} call{'s' if calls != 1 else ''}{failed}")
    if report.tokens:
        told.append(f"tokens {report.tokens.input or 0:,} in, {report.tokens.output or 0:,} out")
    told.extend(f"cache {plain(cache.name)} {cache.hits}/{cache.lookups} hits" for cache in report.caches[:3])
    return Text(f" {glyphs.dot} ".join(told))


def _waterfall(report: Report, glyphs: _Glyphs, width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis", width=max(20, width - _BAR_WIDTH - 12))
    table.add_column(justify="right", no_wrap=True, width=8)
    table.add_column(no_wrap=True, width=_BAR_WIDTH)
    found = rows(report.run)
    for row in islice(found, _MOST_ROWS):
        failed = any(span.error for span in row.spans)
        label = Text(
            "  " * row.depth + plain(row.spans[0].operation), "red" if failed else "bold" if row.critical else "dim"
        )
        if len(row.spans) > 1:
            label.append(f" {glyphs.times}{len(row.spans)}")
        label.append(f" {row.spans[0].kind}", "dim not bold")
        table.add_row(label, seconds(row.duration_s), _bar(row, report, glyphs))
    left = sum(1 for _ in found)
    if left:
        table.add_row(Text(f"  … {left} more rows", "dim"))
    return table


def _bar(row: Row, report: Report, glyphs: _Glyphs) -> Text:
    """The row's stretches on the run's time axis; what was on the critical path in full blocks."""
    cells = [" "] * _BAR_WIDTH
    for glyph, stretches in (
        (glyphs.other, [(span.start_ns, span.end_ns) for span in row.spans]),
        (glyphs.critical, row.critical),
    ):
        for start, end in stretches:
            first, last = _cell(start, report), _cell(end, report)
            if first == last and glyph == glyphs.critical and len(stretches) > 1:
                continue  # a parent's moments between its children would fill a cell each
            for index in range(first, max(first + 1, last)):
                cells[index] = glyph
    text = Text()
    for cell in cells:
        text.append(cell, "bold magenta" if cell == glyphs.critical else "dim")
    return text


def _cell(moment: int, report: Report) -> int:
    root = report.root
    share = (moment - root.start_ns) / max(1, root.duration_ns)
    return min(_BAR_WIDTH - 1, max(0, round(share * _BAR_WIDTH)))


def _legend(glyphs: _Glyphs) -> Text:
    return Text(f"{glyphs.critical * 2} on the critical path   {glyphs.other * 2} waiting, or at the same time")


def _print_findings(console: Console, report: Report, glyphs: _Glyphs) -> None:
    if not report.findings:
        console.print(Text(f"{glyphs.check} No bottlenecks found.", "green"))
        return
    for number, finding in enumerate(report.findings, 1):
        console.print(_finding_line(number, finding, glyphs))
        console.print(Padding(Text(plain(finding.recommendation)), (0, 0, 0, 3), expand=False))
    after = report.root.duration_s - report.saving_s
    console.print()
    console.print(
        Text(
            f"Mending all of it: {seconds(report.root.duration_s)} {glyphs.arrow} {seconds(after)} "
            f"(replayed together: {seconds(report.saving_s)} saved).",
            "bold",
        )
    )


def _finding_line(number: int, finding: Finding, glyphs: _Glyphs) -> Text:
    text = Text(f"{number}. ", "bold")
    text.append(finding.severity, _SEVERITY_STYLES[finding.severity])
    text.append(f" {finding.kind} {glyphs.dot} ")
    text.append(plain(finding.operation), "bold")
    if finding.change is not None:
        text.append(f" {glyphs.dot} saves {seconds(finding.saving_s)} ({finding.saving_pct:.0f} %)")
    return text


def _overview(reports: Sequence[Report], glyphs: _Glyphs) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for heading, justify in (("run", "left"), ("duration", "right"), ("grade", "left"), ("saves", "right")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("findings", overflow="fold")
    for report in reports:
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in report.findings)) or glyphs.check
        grade = Text(f"{report.grade} {report.score:.2f}", _GRADE_STYLES[report.grade])
        name = Text(plain(report.root.operation)[:24])
        table.add_row(name, seconds(report.root.duration_s), grade, seconds(report.saving_s), Text(kinds))
    return table


def seconds(value: float) -> str:
    """`12 ms`, `1.23 s`, `123 s`."""
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms"
    return f"{value:.2f} s" if value < 99.5 else f"{value:.0f} s"


def plain(text: str) -> str:
    """Names come from traces and may hold control characters or terminal escapes."""
    return "".join(character if character.isprintable() else "�" for character in text)
