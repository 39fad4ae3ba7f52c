"""Finds where a sequence repeats itself, in time linear in its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Cycle(NamedTuple):
    """`length` items from `start` on, repeated up to `end` (exclusive); the last repetition may be cut short."""

    start: int
    length: int
    end: int

    @property
    def times(self) -> int:
        return (self.end - self.start) // self.length


def cycles(items: Sequence[object | None], longest: int, least: int) -> Iterator[Cycle]:
    """Where up to `longest` items are repeated at least `least` times in a row, shortest cycles first; what is part
    of one is not part of another. None equals nothing, itself included.
    """
    taken = [item is None for item in items]
    for length in range(1, min(longest, len(items) // max(1, least)) + 1):
        for cycle in _of_length(items, length, taken):
            if cycle.times >= least:
                taken[cycle.start : cycle.end] = [True] * (cycle.end - cycle.start)
                yield cycle


def _of_length(items: Sequence[object | None], length: int, taken: Sequence[bool]) -> Iterator[Cycle]:
    start = None
    for place in range(len(items) - length):
        again = place + length
        if items[place] == items[again] and not taken[place] and not taken[again]:
            start = place if start is None else start
        elif start is not None:
            yield Cycle(start, length, again)
            start = None
    if start is not None:
        yield Cycle(start, length, len(items))
