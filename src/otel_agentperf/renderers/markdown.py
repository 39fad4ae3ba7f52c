"""The report as a comment on a pull request: short, worst first, details folded away.

Written for GitHub's Markdown (GFM); the escaping in `_markup` holds for CommonMark in general.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median, median_low
from typing import TextIO

from ..model import Cost, OperationStats, Report
from ._alike import grades, grouped
from ._kinds import title
from ._markup import code, prose
from ._outside import apart
from ._text import count, encodable, rounded_down, seconds
from ._verdict import Bottleneck, bottlenecks, subject, verdict_of_all

SUMMARY = "for pull requests: a table of runs, and what to fix, worst first"

_MOST_RUNS = 10
_MOST_BOTTLENECKS = 10
_MOST_DETAILED = 3
_MOST_OPERATIONS = 15
_SIGNS = {"critical": "🔴", "warning": "🟠", "info": "🔵"}


def render(reports: Iterable[Report], output: TextIO) -> None:
    """Write one comment about all runs."""
    lines = "\n".join(_lines(*apart(reports))) + "\n"
    output.write(encodable(lines, getattr(output, "encoding", None) or "utf-8"))


def _lines(reports: Sequence[Report], notes: Sequence[str]) -> Iterator[str]:
    yield f"## {prose(verdict_of_all(reports))}"
    if not reports:
        return
    worst = sorted(reports, key=lambda report: -report.saving_s)
    yield ""
    yield from _runs(worst)
    yield from (f"\n{prose(note)}" for note in notes)
    yield ""
    yield from _findings(reports)
    suppressed = sum(len(report.suppressed) for report in reports)
    if suppressed:
        yield f"\n{count(suppressed, 'finding')} suppressed by the settings."
    left_out = sum(report.findings_left_out for report in reports)
    if left_out:
        yield f"\n{count(left_out, 'more finding')} of the same kinds left out: the worst are told."
    for report in worst[:_MOST_DETAILED]:
        yield ""
        yield from _operations(report)


def _runs(reports: Sequence[Report]) -> Iterator[str]:
    yield "| run | took | can be saved | efficiency | score | model calls | tool calls | tokens | cost | findings |"
    yield "|---|--:|--:|--:|:-:|--:|--:|--:|--:|--:|"
    groups = [[reports[number] for number in group] for group in grouped(reports)]
    for group in groups[:_MOST_RUNS]:
        yield f"| {' | '.join(_run(group[0]) if len(group) == 1 else _alike(group))} |"
    left = sum(map(len, groups[_MOST_RUNS:]))
    if left:
        yield f"\n{count(left, 'run')} with less to save {'is' if left == 1 else 'are'} not listed."


def _run(report: Report) -> tuple[str, ...]:
    took, saving = report.root.duration_s, report.saving_s
    return (
        code(report.root.operation) + "".join(f", {note}" for note in _notes(report)),
        seconds(took),
        f"{seconds(saving)} ({saving / took:.0%})" if saving > 0 else "–",
        f"{report.efficiency:.0%}",
        f"{rounded_down(report.score):.2f} ({report.grade})",
        f"{report.calls('llm'):,}",
        f"{report.calls('tool'):,}" + (f", {report.errors('tool'):,} failed" if report.errors("tool") else ""),
        f"{_tokens(report):,}" if report.tokens else "–",
        _cost(report.cost),
        f"{len(report.findings):,}",
    )


def _alike(reports: Sequence[Report]) -> tuple[str, ...]:
    """Runs of one name without findings: what is typical of them."""
    return (
        f"{code(reports[0].root.operation)} ×{len(reports):,}, medians",
        seconds(median(report.root.duration_s for report in reports)),
        "–",
        f"{median(report.efficiency for report in reports):.0%}",
        f"{rounded_down(median(report.score for report in reports)):.2f}"
        f" ({grades([report.grade for report in reports])})",
        f"{median_low(report.calls('llm') for report in reports):,}",
        f"{median_low(report.calls('tool') for report in reports):,}",
        f"{median_low(map(_tokens, reports)):,}" if any(report.tokens for report in reports) else "–",
        "–",
        "0",
    )


def _tokens(report: Report) -> int:
    return (report.tokens.input or 0) + (report.tokens.output or 0)


def _cost(cost: Cost) -> str:
    if cost.usd is None:
        return "–"
    return f"{'' if cost.complete else '≥ '}&#36;{cost.usd:.{4 if cost.usd < 1 else 2}f}"


def _notes(report: Report) -> Iterator[str]:
    if report.root.error is not None:
        yield f"**failed:** {code(report.root.error)}"
    if report.run.incomplete:
        yield "incomplete: some spans are missing"


def _findings(reports: Sequence[Report]) -> Iterator[str]:
    found = bottlenecks(report.findings for report in reports)
    if not found:
        yield "No bottleneck was found."
        return
    yield "### What to fix"
    yield ""
    for number, bottleneck in enumerate(found[:_MOST_BOTTLENECKS], 1):
        yield from _finding(number, bottleneck, reports)
    if len(found) > _MOST_BOTTLENECKS:
        yield f"\n{count(len(found) - _MOST_BOTTLENECKS, 'finding')} that weigh less not listed."


def _finding(number: int, bottleneck: Bottleneck, reports: Sequence[Report]) -> Iterator[str]:
    worst, runs = bottleneck.worst, len(reports)
    name = subject(worst, reports[bottleneck.worst_run].run)
    parts = [f"{_SIGNS[worst.severity]} **{code(name)}** {title(worst.kind)}"]
    if bottleneck.saving_s > 0:
        share = f" ({worst.saving_pct:.0f}%)" if runs == 1 else ""
        parts.append(f"saves **{seconds(bottleneck.saving_s)}**{share}")
    parts.append(worst.severity)
    if runs > 1:
        parts.append(f"in {bottleneck.runs:,} of {runs:,} runs")
    yield f"{number}. {' · '.join(parts)}<br>"
    yield f"   {'Where it costs most: ' if bottleneck.runs > 1 else ''}{prose(worst.recommendation)}"


def _operations(report: Report) -> Iterator[str]:
    # The blank line after the summary is what lets Markdown go on inside the HTML.
    yield f"<details><summary>Operations of {_summary(report.root.operation)}</summary>"
    yield ""
    yield "| operation | kind | calls | failed | critical path | total | median | p95 |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for operation in report.operations[:_MOST_OPERATIONS]:
        yield _operation(operation, report.root.duration_s)
    if len(report.operations) > _MOST_OPERATIONS:
        yield f"\n{count(len(report.operations) - _MOST_OPERATIONS, 'operation')} with less time not listed."
    yield ""
    yield "</details>"


def _summary(name: str) -> str:
    """Markdown's backticks mean nothing inside the `<summary>` tag."""
    shown = code(name)
    return f"<code>{shown[1:-1]}</code>" if shown.startswith("`") else shown


def _operation(operation: OperationStats, duration_s: float) -> str:
    share = f" ({operation.critical_s / duration_s:.0%})" if duration_s else ""
    cells = (
        code(operation.name),
        operation.kind,
        f"{operation.calls:,}",
        f"{operation.errors:,}",
        seconds(operation.critical_s) + share,
        seconds(operation.total_s),
        seconds(operation.p50_s),
        seconds(operation.p95_s),
    )
    return f"| {' | '.join(cells)} |"
