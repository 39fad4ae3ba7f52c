"""Counts of in-process caches: a look-up there costs less than a span, so integrations count and the run collects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

from .. import _guard

if TYPE_CHECKING:
    from ..model import CacheCounts

Source = Callable[[], Iterable["CacheCounts"]]
"""what the caches of one integration did since the source was last asked"""

_MOST_CACHES = 100
OTHER = "_OTHER"
_sources: list[Source] = []


def register(source: Source) -> None:
    """Ask `source` whenever a run ends."""
    if source not in _sources:
        _sources.append(source)


def unregister(source: Source) -> None:
    """Do not ask it any more."""
    if source in _sources:
        _sources.remove(source)


def drain() -> tuple[CacheCounts, ...]:
    """The counts since the last call, by cache name; caches that nobody looked into are left out.

    Of runs that overlap, the one that ends first gets the look-ups of all. Of very many caches those that were asked
    most are told, and the others together.
    """
    found: dict[str, CacheCounts] = {}
    for source in list(_sources):
        with _guard.guard("cache counts"):
            for count in source():
                if count.lookups > 0:
                    known = found.get(count.name)
                    found[count.name] = _sum(known, count) if known else count
    if len(found) <= _MOST_CACHES:
        return tuple(found.values())
    ranked = sorted(found.values(), key=lambda count: -count.lookups)
    others = (replace(count, name=OTHER) for count in ranked[_MOST_CACHES - 1 :])
    return (*ranked[: _MOST_CACHES - 1], reduce(_sum, others))


def _sum(first: CacheCounts, second: CacheCounts) -> CacheCounts:
    """Two caches of one name: their look-ups together, their costs averaged."""
    from ..model import CacheCounts  # where a run has ended, and the model is loaded anyway

    misses = (first.lookups - first.hits, second.lookups - second.hits)
    return CacheCounts(
        first.name,
        first.lookups + second.lookups,
        first.hits + second.hits,
        _mean((first.hits, first.hit_s), (second.hits, second.hit_s)),
        _mean((misses[0], first.miss_s), (misses[1], second.miss_s)),
    )


def _mean(*weighted: tuple[int, float]) -> float:
    count = sum(weight for weight, _ in weighted)
    return sum(weight * value for weight, value in weighted) / count if count else 0.0
