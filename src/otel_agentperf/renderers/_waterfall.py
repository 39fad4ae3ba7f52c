"""The run as rows: a tree in which repeated calls are one row, each with its stretches on the run's time axis."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..model import AgentRun, SpanRecord

_SMALLEST_GROUP = 3
_SHORTEST_SHARE = 0.005
"""of the run; shorter rows off the critical path are left out"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the waterfall: one call, or several of one operation under one parent."""

    depth: int
    spans: Sequence[SpanRecord]
    critical: Sequence[tuple[int, int]]
    """the stretches in which the row itself was on the critical path, nanoseconds"""

    @property
    def duration_s(self) -> float:
        return sum(span.duration_ns for span in self.spans) / 1e9


def rows(run: AgentRun) -> Iterator[Row]:
    """The rows from top to bottom, without those too short to matter."""
    segments: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for segment in run.path:
        segments[segment.span.span_id].append((segment.start_ns, segment.end_ns))
    stack: list[tuple[int, list[SpanRecord]]] = [(0, [run.root])]
    least = _SHORTEST_SHARE * run.root.duration_ns
    while stack:
        depth, spans = stack.pop()
        critical = sorted(stretch for span in spans for stretch in segments.get(span.span_id, ()))
        long_enough = sum(span.duration_ns for span in spans) >= least
        if depth and not long_enough and not any(span.error for span in spans):
            continue
        yield Row(depth, spans, critical)
        children = [child for span in spans for child in run.children.get(span.span_id, ())]
        stack.extend((depth + 1, group) for group in reversed(_groups(children)))


def _groups(children: Sequence[SpanRecord]) -> list[list[SpanRecord]]:
    """Neighbours of one operation together, when there are enough of them to be in the way."""
    groups: list[list[SpanRecord]] = []
    for _, same in groupby(
        sorted(children, key=lambda span: span.start_ns), key=lambda span: (span.kind, span.operation)
    ):
        members = list(same)
        groups.extend([members] if len(members) >= _SMALLEST_GROUP else [[member] for member in members])
    return groups
