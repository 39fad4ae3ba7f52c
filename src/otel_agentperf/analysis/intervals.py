"""Children clipped to their parent, and the parent's own time between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import attrgetter
from typing import NamedTuple

from ..model import SpanRecord

_start = attrgetter("start")


class Clipped(NamedTuple):
    """A child as its parent's timeline sees it, nanoseconds."""

    span: SpanRecord
    start: int
    end: int


def clip(children: Iterable[SpanRecord], start: int, end: int) -> list[Clipped]:
    """The children inside [start, end], cut at its edges; those wholly outside are dropped."""
    clipped = []
    for span in children:
        first, last = max(span.start_ns, start), min(span.end_ns, end)
        if first <= last:
            clipped.append(Clipped(span, first, last))
    return clipped


def by_finish(children: Iterable[Clipped]) -> list[Clipped]:
    """The children by end. Of those that end together the longest is last: it explains most of the time before;
    but one without any length comes after all others, as it started when they had ended."""
    children = list(children)
    if all(one.end < other.end for one, other in pairwise(children)):
        return children
    return sorted(children, key=lambda child: (child.end, child.start == child.end, -child.start))


def in_sequence(children: Iterable[Clipped]) -> bool:
    """Is never more than one of the children open? They are in the order of their starts."""
    return all(one.end <= other.start for one, other in pairwise(children))


def uncovered(children: Sequence[Clipped], start: int, end: int) -> list[tuple[int, int]]:
    """The stretches of [start, end] in which no child is open, in order."""
    stretches = []
    reached = start
    for child in sorted(children, key=_start):
        if child.start > reached:
            stretches.append((reached, child.start))
        reached = max(reached, child.end)
    if end > reached:
        stretches.append((reached, end))
    return stretches
