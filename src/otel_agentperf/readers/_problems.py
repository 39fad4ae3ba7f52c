"""What was wrong with a source: the first few faults in words, and how many more there were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_NAMED = 3


class Problems:
    """Grows with the faults that it names only: a file of a million broken lines has a short list too."""

    def __init__(self, told: Iterable[str] = ()) -> None:
        self._named: list[str] = []
        self._more = 0
        for problem in told:
            self.append(problem)

    def append(self, problem: str) -> None:
        if len(self._named) < _NAMED:
            self._named.append(problem)
        else:
            self._more += 1

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __bool__(self) -> bool:
        return bool(self._named)

    def __str__(self) -> str:
        return "; ".join(self._named) + (f"; and {self._more} more" if self._more else "")
