"""The run as a waterfall: a tree in which repeated calls are one row, with each row's stretches on the time axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import groupby

from rich.table import Table
from rich.text import Text

from ..model import AgentRun, SpanRecord
from ._text import fitted, seconds

LEGEND = "█ on the critical path   ░ in parallel, or waiting for the rows below it"

_MOST_ROWS, _FEWEST_ROWS = 40, 12
_SMALLEST_GROUP = 3
_MOST_NEIGHBOURS = 16
"""rows below one parent; beyond, calls of one operation are one row even with others between them"""
_SHORTEST_SHARE = 0.005
"""of the run; beyond the fewest rows, shorter ones are left out unless a call failed"""
_DURATION_CELLS = 8

Stretch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the waterfall: one call, or several of one operation under one parent."""

    depth: int
    spans: Sequence[SpanRecord]
    busy: Sequence[Stretch]
    """when any of the calls was open, nanoseconds"""
    critical: Sequence[Stretch]
    """when the row itself was on the critical path"""

    @property
    def duration_s(self) -> float:
        return sum(end - start for start, end in self.busy) / 1e9

    @property
    def failed(self) -> int:
        return sum(span.error is not None for span in self.spans)


def waterfall(run: AgentRun, width: int) -> Table:
    """The rows that take longest, in the order of the tree: name, duration, and bar, `width` cells in all."""
    bar_cells = max(8, width // 3)
    name_cells = width - bar_cells - _DURATION_CELLS - 2
    table = Table.grid(padding=(0, 1))
    for cells, justify in ((name_cells, "left"), (_DURATION_CELLS, "right"), (bar_cells, "left")):
        table.add_column(width=cells, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    found = list(rows(run))
    shown = _longest(found, _SHORTEST_SHARE * run.root.duration_s)
    for row in shown:
        table.add_row(_label(row, name_cells), seconds(row.duration_s), _bar(row, run.root, bar_cells))
    if len(found) > len(shown):
        table.add_row(Text(f"… {len(found) - len(shown):,} shorter rows", "dim"))
    return table


def _longest(found: Sequence[Row], least_s: float) -> list[Row]:
    """Those that matter, in their order."""
    longest = nlargest(_MOST_ROWS, range(len(found)), key=lambda index: found[index].duration_s)
    shown = {index for index in longest if found[index].duration_s >= least_s or found[index].failed}
    return [found[index] for index in sorted(shown.union(longest[:_FEWEST_ROWS]))]


def rows(run: AgentRun) -> Iterator[Row]:
    """All rows, from top to bottom."""
    segments: dict[str, list[Stretch]] = defaultdict(list)
    for segment in run.path:
        segments[segment.span.span_id].append((segment.start_ns, segment.end_ns))
    stack: list[tuple[int, list[SpanRecord]]] = [(0, [run.root])]
    while stack:
        depth, spans = stack.pop()
        critical = sorted(stretch for span in spans for stretch in segments.get(span.span_id, ()))
        yield Row(depth, spans, _union((span.start_ns, span.end_ns) for span in spans), critical)
        children = [child for span in spans for child in _children(run, span)]
        groups = _groups(children, apart=len(spans) == 1)
        stack.extend((depth + 1, group) for group in reversed(groups))


def _children(run: AgentRun, span: SpanRecord) -> Iterator[SpanRecord]:
    """Of one call that two instrumentations describe, only the row that is counted."""
    for child in run.children.get(span.span_id, ()):
        inner = list(_children(run, child)) if child.double else []
        yield from inner or [child]


def _groups(children: Sequence[SpanRecord], apart: bool) -> list[list[SpanRecord]]:
    """Calls of one operation together, when there are enough of them to be in the way. `apart`: only neighbours, as
    long as that gives few rows."""
    ordered = sorted(children, key=lambda span: span.start_ns)
    groups = [list(same) for _, same in groupby(ordered, key=_operation)]
    if not apart or len(groups) > _MOST_NEIGHBOURS:
        by_operation = defaultdict(list)
        for span in ordered:
            by_operation[_operation(span)].append(span)
        groups = list(by_operation.values())
    return [
        part for group in groups for part in ([group] if len(group) >= _SMALLEST_GROUP else [[span] for span in group])
    ]


def _operation(span: SpanRecord) -> tuple[str, str]:
    return span.kind, span.operation


def _union(stretches: Iterable[Stretch]) -> list[Stretch]:
    joined: list[Stretch] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _label(row: Row, cells: int) -> Text:
    first = row.spans[0]
    after = Text(f" ×{len(row.spans):,}" if len(row.spans) > 1 else "")
    after.append("" if first.kind == "other" else f" {first.kind}", "dim")
    if row.failed:
        after.append(" failed" if len(row.spans) == 1 else f" {row.failed:,} failed", "red")
    indent = min(2 * row.depth, cells // 3)
    name = fitted(first.operation, cells - indent - after.cell_len)
    name.stylize("red" if row.failed else "bold" if row.critical else "dim")
    return Text.assemble(" " * indent, name, after)


def _bar(row: Row, root: SpanRecord, cells: int) -> Text:
    """A cell is filled where the row took half of it; the one the row took most of always is."""
    cell_ns = max(1, root.duration_ns) / cells
    busy, critical = (_taken(stretches, root, cells, cell_ns) for stretches in (row.busy, row.critical))
    most = max(busy)
    text = Text()
    for of_row, on_path in zip(busy, critical, strict=True):
        if of_row < min(cell_ns / 2, most):
            text.append(" ")
        elif on_path * 2 >= of_row:
            text.append("█", "bold magenta")
        else:
            text.append("░", "dim")
    return text


def _taken(stretches: Iterable[Stretch], root: SpanRecord, cells: int, cell_ns: float) -> list[float]:
    """Nanoseconds of each cell of the time axis that the stretches take; at least one, however short they are."""
    taken = [0.0] * cells
    for start, end in stretches:
        first, last = (min(cells - 1, max(0, int((moment - root.start_ns) / cell_ns))) for moment in (start, end))
        for index in range(first, last + 1):
            cell_start = root.start_ns + index * cell_ns
            taken[index] += max(0.0, min(end, cell_start + cell_ns) - max(start, cell_start))
        if first == last:
            taken[first] = max(1.0, taken[first])
    return taken
