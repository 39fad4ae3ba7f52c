"""Two sets of runs against each other: what got slower, dearer or worse, and which findings came and went.

A figure is judged by its median in both sets. It is worse (or better) when there are enough runs on both sides, the
difference is beyond the limits, and chance does not explain it: the rank test gives at most 1 %, or, of so few runs
that they cannot tell as much, no run of one side lies among those of the other. Jitter moves ranks both ways.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TypeVar

from .comparison import (
    Change,
    FindingChange,
    FindingFigures,
    GroupComparison,
    Limits,
    OperationChange,
    OperationFigures,
    RunFigures,
    Status,
    Verdict,
)
from .rank_test import least_p_value, p_value
from .summary import percentile

T = TypeVar("T")
Members = Mapping[int, T]
"""by number of the run that it is in"""
Sides = tuple[Sequence[float], Sequence[float]]
"""the values of the base's runs and of the head's"""

_CHANCE = 0.01
_STATUSES: tuple[Status, ...] = ("new", "worse", "gone", "better", "same")


@dataclass(frozen=True, slots=True)
class _Figure:
    """How a figure is compared."""

    name: str
    share: float = 0.0
    """the difference that counts, as a share of the base"""
    least: float = 0.0
    """and in the figure's own unit"""
    more_is_worse: bool = True
    rare: bool = False
    """most runs have none of it, so that its mean says more than its median"""


def compare(
    base: Iterable[RunFigures], head: Iterable[RunFigures], limits: Limits | None = None
) -> list[GroupComparison]:
    """One comparison for each name of a run, those with regressions first."""
    limits = limits or Limits()
    before, after = _by_name(base), _by_name(head)
    groups = [_group(name, before.get(name, []), after.get(name, []), limits) for name in {**before, **after}]
    return sorted(groups, key=lambda group: (not group.regressed, not group.new_findings, group.name))


def _by_name(runs: Iterable[RunFigures]) -> dict[str, list[RunFigures]]:
    groups: dict[str, list[RunFigures]] = defaultdict(list)
    for run in runs:
        groups[run.name].append(run)
    return groups


def _group(name: str, base: Sequence[RunFigures], head: Sequence[RunFigures], limits: Limits) -> GroupComparison:
    both = bool(base and head)
    return GroupComparison(
        name=name,
        base_runs=len(base),
        head_runs=len(head),
        judged=_enough(len(base), len(head), limits),
        figures=tuple(_figures(base, head, limits)) if both else (),
        operations=tuple(_operations(base, head, limits)) if both else (),
        findings=tuple(_findings(base, head, limits)) if both else (),
    )


def _figures(base: Sequence[RunFigures], head: Sequence[RunFigures], limits: Limits) -> Iterator[Change]:
    def sides(value: Callable[[RunFigures], float | None]) -> Sides:
        before, after = ([told for run in runs if (told := value(run)) is not None] for runs in (base, head))
        return before, after

    yield _change(_time("duration_s", limits), sides(lambda run: run.duration_s), limits)
    # Where one side has none at all, nobody told them there.
    for name, told in (("tokens", sides(lambda run: run.tokens)), ("cost_usd", sides(lambda run: run.cost_usd))):
        if all(map(any, told)):
            yield _change(_Figure(name, share=limits.more_tokens), told, limits)
    score = _Figure("score", least=limits.lower_score, more_is_worse=False)
    yield _change(score, sides(lambda run: run.score), limits)
    yield _change(_Figure("failed_runs", rare=True), sides(lambda run: run.failed), limits)
    errors = sides(lambda run: sum(operation.errors for operation in run.operations))
    yield _change(_Figure("errors", rare=True), errors, limits)


def _time(name: str, limits: Limits) -> _Figure:
    return _Figure(name, share=limits.slower, least=limits.slower_s)


def _change(figure: _Figure, sides: Sides, limits: Limits) -> Change:
    middle = fmean if figure.rare else median
    before, after = (float(middle(values)) for values in sides)
    p = p_value(*sides)
    return Change(
        figure=figure.name,
        base=before,
        head=after,
        base_p95=percentile(sorted(sides[0]), 0.95),
        head_p95=percentile(sorted(sides[1]), 0.95),
        p=p,
        verdict=_verdict(figure, before, after, p, (len(sides[0]), len(sides[1])), limits),
    )


def _verdict(figure: _Figure, before: float, after: float, p: float, runs: tuple[int, int], limits: Limits) -> Verdict:
    if not _enough(*runs, limits):
        return "too few runs"
    difference = after - before
    is_large = difference and abs(difference) >= max(figure.least, figure.share * abs(before))
    if not is_large or p > max(_CHANCE, least_p_value(*runs)):
        return "same"
    return "worse" if (difference > 0) == figure.more_is_worse else "better"


def _enough(base: int, head: int, limits: Limits) -> bool:
    return min(base, head) >= max(1, limits.min_samples)


def _operations(base: Sequence[RunFigures], head: Sequence[RunFigures], limits: Limits) -> list[OperationChange]:
    before, after = _operations_of(base), _operations_of(head)
    found = [
        _operation(
            kind, name, before.get((kind, name), {}), after.get((kind, name), {}), (len(base), len(head)), limits
        )
        for kind, name in {**before, **after}
    ]
    return sorted(found, key=lambda operation: (-abs(operation.critical.difference), operation.name))


def _operation(
    kind: str,
    name: str,
    before: Members[OperationFigures],
    after: Members[OperationFigures],
    runs: tuple[int, int],
    limits: Limits,
) -> OperationChange:
    def sides(value: Callable[[OperationFigures], float]) -> Sides:
        return _padded(map(value, before.values()), runs[0]), _padded(map(value, after.values()), runs[1])

    calls = sides(lambda member: member.calls)
    return OperationChange(
        kind=kind,
        name=name,
        base_calls=fmean(calls[0]),
        head_calls=fmean(calls[1]),
        critical=_change(_time("critical_s", limits), sides(lambda member: member.critical_s), limits),
        own=_change(_time("self_s", limits), sides(lambda member: member.self_s), limits),
        errors=_change(_Figure("errors", rare=True), sides(lambda member: member.errors), limits),
    )


def _operations_of(runs: Sequence[RunFigures]) -> dict[tuple[str, str], dict[int, OperationFigures]]:
    found: dict[tuple[str, str], dict[int, OperationFigures]] = defaultdict(dict)
    for number, run in enumerate(runs):
        for operation in run.operations:
            found[operation.kind, operation.name][number] = operation
    return found


def _findings(base: Sequence[RunFigures], head: Sequence[RunFigures], limits: Limits) -> list[FindingChange]:
    before, after = _findings_of(base), _findings_of(head)
    runs = len(base), len(head)
    found = [_finding(before.get(key, {}), after.get(key, {}), runs, limits) for key in {**before, **after}]
    return sorted(
        found, key=lambda change: (_STATUSES.index(change.status), -change.head_saving_s, change.finding.kind)
    )


def _findings_of(runs: Sequence[RunFigures]) -> dict[str, dict[int, list[FindingFigures]]]:
    found: dict[str, dict[int, list[FindingFigures]]] = defaultdict(lambda: defaultdict(list))
    for number, run in enumerate(runs):
        for finding in run.findings:
            found[finding.fingerprint][number].append(finding)
    return found


def _finding(
    before: Members[list[FindingFigures]],
    after: Members[list[FindingFigures]],
    runs: tuple[int, int],
    limits: Limits,
) -> FindingChange:
    """In how many runs it is, and how much it costs there, both say whether it got worse."""
    presence = _change(
        _Figure("runs", rare=True), (_padded([1] * len(before), runs[0]), _padded([1] * len(after), runs[1])), limits
    )
    savings = _padded(map(_saving, before.values()), runs[0]), _padded(map(_saving, after.values()), runs[1])
    verdicts = presence.verdict, _change(_time("saving_s", limits), savings, limits).verdict
    return FindingChange(
        finding=next(iter((after or before).values()))[0],
        status=_status(bool(before), bool(after), verdicts),
        sure="worse" in verdicts or "better" in verdicts,
        base_runs=len(before),
        head_runs=len(after),
        base_saving_s=fmean(savings[0]),
        head_saving_s=fmean(savings[1]),
    )


def _status(before: bool, after: bool, verdicts: Iterable[Verdict]) -> Status:
    if not before:
        return "new"
    if not after:
        return "gone"
    return next((verdict for verdict in verdicts if verdict == "worse" or verdict == "better"), "same")


def _saving(findings: Iterable[FindingFigures]) -> float:
    return sum(finding.saving_s for finding in findings)


def _padded(values: Iterable[float], runs: int) -> list[float]:
    """With zeros for the runs that have none of it."""
    told = list(values)
    return [*told, *[0.0] * (runs - len(told))]
