"""The comparison of two sets of runs: for people, for programs, for a pull request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TextIO

from rich.table import Table
from rich.text import Text

from ..analysis.comparison import Change, FindingChange, GroupComparison, Limits, OperationChange
from ..renderers._text import count, fitted, plain, seconds
from ..renderers.terminal import console_on

SCHEMA = "agentperf.diff/v1"
_MOST_OPERATIONS = 10
_MOST_FINDINGS = 20
_NAMES = {"duration_s": "duration", "cost_usd": "cost", "failed_runs": "failed runs", "errors": "failed calls"}
_STYLES = {"worse": "bold red", "new": "bold red", "better": "green", "gone": "green"}
_NOTE = "Worse or better is what differs by more than the limits and more than chance explains (rank test, p ≤ 0.01)."


def _json(groups: Sequence[GroupComparison], limits: Limits, output: TextIO) -> None:
    document = {
        "schema": SCHEMA,
        "regression": any(group.regressed for group in groups),
        "new_findings": sum(len(group.new_findings) for group in groups),
        "limits": asdict(limits),
        "groups": [_group_object(group) for group in groups],
    }
    output.write(json.dumps(document, ensure_ascii=True) + "\n")


def _group_object(group: GroupComparison) -> dict[str, Any]:
    return {
        "name": group.name,
        "base_runs": group.base_runs,
        "head_runs": group.head_runs,
        "judged": group.judged,
        "regression": group.regressed,
        "figures": [asdict(change) for change in group.figures],
        "operations": [asdict(operation) for operation in group.operations],
        "findings": [
            {**asdict(change.finding), **{key: value for key, value in asdict(change).items() if key != "finding"}}
            for change in group.findings
        ],
    }


def _terminal(groups: Sequence[GroupComparison], limits: Limits, output: TextIO) -> None:
    with console_on(output) as console:
        for number, group in enumerate(groups):
            if number:
                console.print()
            for part in _parts(group, limits, console.width):
                console.print(part)
        if not groups:
            console.print("No agent runs.")
        elif any(group.judged for group in groups):
            console.print(Text("\n" + _NOTE, "dim"))


def _parts(group: GroupComparison, limits: Limits, width: int) -> Iterator[Any]:
    yield Text.assemble((plain(group.name), "bold"), f" · {_conclusion(group, limits)}")
    if group.figures:
        yield _table(group, width)
        for change in group.findings[:_MOST_FINDINGS]:
            style = _STYLES.get(change.status, "dim") if change.sure else "dim"
            yield Text(_finding_line(change), style)
        if len(group.findings) > _MOST_FINDINGS:
            yield Text(f"… {len(group.findings) - _MOST_FINDINGS:,} more findings", "dim")


def _table(group: GroupComparison, width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    name_cells = max(12, width - 55)
    for heading, cells in (("", name_cells), ("base", -10), ("head", -10), ("change", -16), ("", 14)):
        table.add_column(heading, width=abs(cells), justify="right" if cells < 0 else "left", no_wrap=True)
    for name, *numbers, verdict in _rows(group):
        table.add_row(fitted(name, name_cells), *numbers, Text(verdict, _STYLES.get(verdict, "dim")))
    if len(group.operations) > _MOST_OPERATIONS:
        table.add_row(Text(f"… {len(group.operations) - _MOST_OPERATIONS:,} more operations", "dim"))
    return table


def _rows(group: GroupComparison) -> Iterator[tuple[str, str, str, str, str]]:
    """Name, base, head, change and verdict, of the runs' figures and then of the operations."""
    for change in group.figures:
        if change.base or change.head:
            yield _row(_NAMES.get(change.figure, change.figure), change)
            if change.figure == "duration_s":
                yield "duration p95", seconds(change.base_p95), seconds(change.head_p95), "", ""
    for operation in group.operations[:_MOST_OPERATIONS]:
        yield _row(_operation_name(operation), operation.critical)


def _row(name: str, change: Change) -> tuple[str, str, str, str, str]:
    verdict = change.verdict if change.verdict in ("worse", "better") else ""
    return name, _value(change, change.base), _value(change, change.head), _difference(change), verdict


def _operation_name(operation: OperationChange) -> str:
    calls = f"{operation.base_calls:.3g}"
    if operation.head_calls != operation.base_calls:
        calls += f"→{operation.head_calls:.3g}"
    return f"  {plain(operation.name)} ×{calls}"


def _value(change: Change, value: float) -> str:
    if change.figure.endswith("_s"):
        return seconds(value)
    if change.figure == "cost_usd":
        return f"${value:.4g}"
    if change.figure == "failed_runs":
        return f"{value:.0%}"
    return f"{value:.2f}" if change.figure in ("score", "errors") else f"{value:,.0f}"


def _difference(change: Change) -> str:
    size = _value(change, abs(change.difference))
    if size == _value(change, 0):
        return "same"
    told = f"{'+' if change.difference > 0 else '-'}{size}"
    return told if change.share is None or change.figure in ("score", "failed_runs") else f"{told} {change.share:+.0%}"


def _finding_line(change: FindingChange) -> str:
    finding = change.finding
    runs = f"in {change.base_runs:,} → {count(change.head_runs, 'run')}"
    line = f"{change.status}: {plain(finding.operation)} · {finding.kind} · {runs}"
    if change.base_saving_s or change.head_saving_s:
        line += f" · costs {seconds(change.base_saving_s)} → {seconds(change.head_saving_s)} a run"
    return line if change.sure or change.status == "same" else f"{line} (too few to judge)"


def _conclusion(group: GroupComparison, limits: Limits) -> str:
    runs = f"{group.base_runs:,} → {count(group.head_runs, 'run')}"
    if not group.base_runs or not group.head_runs:
        return f"{runs}, only in {'base' if group.base_runs else 'head'}"
    if not group.judged:
        return f"{runs}, too few to judge (it takes {limits.min_samples:,} on each side)"
    worse = [_NAMES.get(change.figure, change.figure) for change in group.figures if change.verdict == "worse"]
    better = [_NAMES.get(change.figure, change.figure) for change in group.figures if change.verdict == "better"]
    told = [f"{word}: {', '.join(names)}" for word, names in (("worse", worse), ("better", better)) if names]
    new = len(group.new_findings)
    told += [count(new, "new finding")] if new else []
    return f"{runs}, {'; '.join(told) or 'no change'}"


def _markdown(groups: Sequence[GroupComparison], limits: Limits, output: TextIO) -> None:
    lines: list[str] = []
    for group in groups:
        lines += [f"### {_escaped(plain(group.name))}: {_escaped(_conclusion(group, limits))}", ""]
        if group.figures:
            lines += ["| | base | head | change | |", "|---|--:|--:|--:|---|"]
            lines += ["| " + " | ".join(_cells(row)) + " |" for row in _rows(group)]
            lines += ["", *(f"- {_escaped(_finding_line(change))}" for change in group.findings[:_MOST_FINDINGS])]
            lines += [""] * bool(group.findings)
    if not groups:
        lines.append("No agent runs.")
    elif any(group.judged for group in groups):
        lines.append(_NOTE)
    output.write("\n".join(lines).rstrip("\n") + "\n")


def _cells(row: Sequence[str]) -> Iterator[str]:
    *cells, verdict = row
    yield from (_escaped(cell.strip()) for cell in cells)
    yield verdict and f"**{verdict}**"


def _escaped(text: str) -> str:
    """Names come from traces, and may hold what Markdown or HTML takes for its own."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}" if sign != "<" else "&lt;")
    return text


Format = Callable[[Sequence[GroupComparison], Limits, TextIO], None]
FORMATS: Mapping[str, Format] = {"terminal": _terminal, "json": _json, "markdown": _markdown}
