"""Which functions took the CPU time of a run's spans, from what a profiler sampled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from ..model import HotFrame, SpanProfile, SpanRecord

_MOST_SPANS, _MOST_FRAMES = 5, 5
_LEAST_NS = 50_000_000
"""below it a span is not what made a run slow, and a sampler has too few samples to say where it went"""
_LEAST_SHARE = 0.05
"""of a span, for a function to be named; of the run's sampled time, for a call to stand apart from its peers"""

Stack = tuple[int, int]
"""numbers of the function that ran, and of the program's own function that led to it (0: itself, or none)"""


@dataclass(slots=True)
class SpanSamples:
    """What was sampled while one span was the current one."""

    cpu_ns: int = 0
    samples: int = 0
    frames: dict[Stack, int] = field(default_factory=dict)
    """CPU nanoseconds; less than `cpu_ns` where it was not seen what ran"""


class Place(NamedTuple):
    """Where a function is: no content, and no folder outside of the program's."""

    function: str
    file: str
    line: int
    """of its definition"""

    def __str__(self) -> str:
        return f"{self.function} {self.file}:{self.line}"


_Member = tuple[SpanRecord, SpanSamples]


def hottest(sampled: Iterable[_Member], place: Callable[[int], Place]) -> tuple[SpanProfile, ...]:
    """The five calls of a run that took most CPU time themselves, 50 ms or more, with their five hottest functions.

    `sampled`: the run's spans with what was sampled while each was current. Calls of one operation that are each too
    short to matter count as one, under the longest of them. `place` says where the function of a number is.
    """
    members = list(sampled)
    apart_ns = _LEAST_SHARE * sum(samples.cpu_ns for _, samples in members)
    groups: dict[object, list[_Member]] = defaultdict(list)
    for record, samples in members:
        alone = samples.cpu_ns >= apart_ns
        groups[record.span_id if alone else (record.kind, record.operation)].append((record, samples))
    hot = [group for group in groups.values() if _cpu_ns(group) >= _LEAST_NS and any(one.frames for _, one in group)]
    return tuple(_profile(group, place) for group in nlargest(_MOST_SPANS, hot, key=_cpu_ns))


def _cpu_ns(group: Sequence[_Member]) -> int:
    return sum(samples.cpu_ns for _, samples in group)


def _profile(group: Sequence[_Member], place: Callable[[int], Place]) -> SpanProfile:
    heaviest, _ = max(group, key=lambda member: member[1].cpu_ns)
    total = _cpu_ns(group)
    return SpanProfile(
        span_id=heaviest.span_id,
        name=heaviest.operation,
        calls=len(group),
        samples=sum(samples.samples for _, samples in group),
        cpu_s=round(total / 1e9, 4),
        frames=tuple(_frames(group, total, place)),
    )


def _frames(group: Sequence[_Member], total: int, place: Callable[[int], Place]) -> Iterator[HotFrame]:
    """By function, each with the caller that led to most of its time."""
    by_function: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for _, samples in group:
        for (function, caller), spent in samples.frames.items():
            by_function[function][caller] += spent
    times = {function: sum(callers.values()) for function, callers in by_function.items()}
    for function in nlargest(_MOST_FRAMES, times, key=times.__getitem__):
        share, callers = times[function] / total, by_function[function]
        if share >= _LEAST_SHARE:
            caller = max(callers, key=callers.__getitem__)
            yield HotFrame(*place(function), round(min(1.0, share), 3), str(place(caller)) if caller else "")
