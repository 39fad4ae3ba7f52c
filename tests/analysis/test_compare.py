"""What got slower, dearer or worse; and first of all what did not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from otel_agentperf.analysis.compare import compare
from otel_agentperf.analysis.comparison import (
    Change,
    FindingFigures,
    GroupComparison,
    Limits,
    OperationFigures,
    RunFigures,
)

LOOP = FindingFigures("f1", "n_plus_one_calls", "planner", "search", "warning", 0.5)
RETRY = FindingFigures("f2", "retry_storm", "planner", "save", "warning", 0.0)


def run(duration_s: float = 1.0, **fields: object) -> RunFigures:
    whole = RunFigures("planner", duration_s, failed=False, score=0.9, tokens=100, cost_usd=None)
    return replace(whole, **fields)  # type: ignore[arg-type]


def search(critical_s: float, calls: int = 1, errors: int = 0) -> tuple[OperationFigures, ...]:
    return (OperationFigures("tool", "search", calls, errors, critical_s, critical_s),)


def jittery(seed: int, runs: int, seconds: float = 1.0, share: float = 0.3) -> list[RunFigures]:
    """As model calls are: long to one side."""
    numbers = random.Random(seed)
    return [run(seconds * numbers.lognormvariate(0, share), tokens=numbers.randrange(80, 120)) for _ in range(runs)]


def group(base: Sequence[RunFigures], head: Sequence[RunFigures], **limits: float) -> GroupComparison:
    (found,) = compare(base, head, Limits(**limits))  # type: ignore[arg-type]
    return found


def figure(found: GroupComparison, name: str) -> Change:
    return next(change for change in found.figures if change.figure == name)


@pytest.mark.parametrize("runs", [5, 8, 20, 60])
def test_jitter_is_no_regression(runs: int) -> None:
    regressed = [group(jittery(seed, runs), jittery(1_000 + seed, runs)).regressed for seed in range(200)]
    assert sum(regressed) <= 4, "two figures vary, and each may be worse by chance once in 200"


def test_the_same_runs_are_the_same() -> None:
    base = [run(1.0 + n / 10, operations=search(0.5), findings=(LOOP,)) for n in range(10)]
    found = group(base, base)
    assert {change.verdict for change in found.figures} == {"same"}
    assert [change.status for change in found.findings] == ["same"]
    assert not found.regressed


@pytest.mark.parametrize(
    ("before", "after"),
    [(1.0, 1.09), (0.10, 0.145), (0.001, 0.02), (20.0, 21.5)],
    ids=["9 %", "45 ms", "19 ms", "1.5 s of 20"],
)
def test_differences_within_the_limits_are_none_however_sure(before: float, after: float) -> None:
    found = group([run(before)] * 30, [run(after)] * 30)
    assert figure(found, "duration_s").verdict == "same"


def test_one_slow_run_of_many_is_no_regression() -> None:
    assert not group(
        [run(1.0 + n / 100) for n in range(10)], [*[run(1.0 + n / 100) for n in range(9)], run(60)]
    ).regressed


def test_runs_that_are_slower_beyond_chance_are_a_regression() -> None:
    found = group(jittery(1, 20), jittery(2, 20, seconds=1.6))
    change = figure(found, "duration_s")
    assert (change.verdict, found.regressed) == ("worse", True)
    assert change.p < 0.01
    assert change.share == pytest.approx(0.6, abs=0.25)
    assert figure(group(jittery(2, 20, seconds=1.6), jittery(1, 20)), "duration_s").verdict == "better"


def test_five_runs_on_each_side_that_do_not_overlap_are_enough() -> None:
    assert group([run(1 + n / 10) for n in range(5)], [run(2 + n / 10) for n in range(5)]).regressed
    assert not group([run(1 + n / 10) for n in range(5)], [run(1.35 + n / 10) for n in range(5)]).regressed


def test_too_few_runs_are_shown_and_not_judged() -> None:
    found = group([run(1.0)] * 4, [run(9.0, findings=(LOOP,))] * 20)
    assert (found.judged, found.regressed, found.new_findings) == (False, False, ())
    change = figure(found, "duration_s")
    assert (change.base, change.head, change.verdict) == (1.0, 9.0, "too few runs")
    assert [(change.status, change.sure) for change in found.findings] == [("new", False)]


def test_a_single_run_on_each_side_is_judged_where_the_user_wants_it() -> None:
    found = group([run(1.0)], [run(2.0, findings=(LOOP,))], min_samples=1)
    assert (found.regressed, len(found.new_findings)) == (True, 1)
    assert not group([run(1.0)], [run(1.05)], min_samples=1).regressed
    assert not group([run(1.0), run(3.0)], [run(2.0), run(4.0)], min_samples=1).regressed


def test_tokens_and_cost_are_compared() -> None:
    found = group([run(tokens=100, cost_usd=0.01)] * 6, [run(tokens=150, cost_usd=0.02)] * 6)
    assert [change.figure for change in found.figures if change.verdict == "worse"] == ["tokens", "cost_usd"]
    assert not group([run(tokens=100)] * 6, [run(tokens=108)] * 6).regressed


def test_what_one_side_does_not_tell_is_not_compared() -> None:
    found = group([run(tokens=0, cost_usd=None)] * 6, [run(tokens=500, cost_usd=0.02)] * 6)
    assert {change.figure for change in found.figures} == {"duration_s", "score", "failed_runs", "errors"}
    assert not found.regressed


def test_a_lower_score_is_worse_and_a_higher_one_better() -> None:
    assert figure(group([run(score=0.9)] * 6, [run(score=0.7)] * 6), "score").verdict == "worse"
    assert figure(group([run(score=0.7)] * 6, [run(score=0.9)] * 6), "score").verdict == "better"
    assert figure(group([run(score=0.9)] * 6, [run(score=0.87)] * 6), "score").verdict == "same"


def test_failures_are_compared_by_how_many_runs_fail() -> None:
    mixed = [run(failed=n % 3 == 0) for n in range(30)]
    assert figure(group([run()] * 30, mixed), "failed_runs").verdict == "worse"
    assert figure(group(mixed, mixed), "failed_runs").verdict == "same"
    assert figure(group([run()] * 30, [*[run()] * 28, run(failed=True)]), "failed_runs").verdict == "same"


def test_failed_calls_are_compared() -> None:
    found = group([run(operations=search(0.1))] * 8, [run(operations=search(0.1, errors=2))] * 8)
    assert figure(found, "errors").verdict == "worse"
    assert found.operations[0].errors.verdict == "worse"


def test_operations_tell_where_the_time_went() -> None:
    base = [run(1.0, operations=search(0.5))] * 6
    head = [run(2.0, operations=(*search(1.0, calls=3), OperationFigures("tool", "save", 1, 0, 0.6, 0.6)))] * 6
    found = group(base, head)
    assert [(change.name, change.critical.verdict) for change in found.operations] == [
        ("save", "worse"),
        ("search", "worse"),
    ]
    by_name = {change.name: change for change in found.operations}
    assert (by_name["search"].base_calls, by_name["search"].head_calls) == (1, 3)
    assert by_name["save"].critical.base == 0
    assert by_name["save"].critical.share is None


def test_an_operation_alone_is_no_regression() -> None:
    """It explains one; of many operations some are always slower by chance."""
    assert not group([run(operations=search(0.1))] * 6, [run(operations=search(0.4))] * 6).regressed


def test_findings_come_and_go() -> None:
    found = group([run(findings=(RETRY,))] * 6, [run(findings=(LOOP,))] * 6)
    assert [(change.finding.kind, change.status, change.sure) for change in found.findings] == [
        ("n_plus_one_calls", "new", True),
        ("retry_storm", "gone", True),
    ]
    assert [change.finding.fingerprint for change in found.new_findings] == ["f1"]


def test_a_finding_that_is_seen_now_and_then_is_not_surely_new() -> None:
    found = group([run()] * 20, [*[run()] * 18, run(findings=(LOOP,)), run(findings=(LOOP,))])
    assert [(change.status, change.sure, change.head_runs) for change in found.findings] == [("new", False, 2)]
    assert found.new_findings == ()


def test_a_finding_is_worse_when_it_costs_more_or_comes_more_often() -> None:
    dearer = replace(LOOP, saving_s=0.9)
    costs = group([run(findings=(LOOP,))] * 8, [run(findings=(dearer,))] * 8)
    often = group([run(findings=(RETRY,)), *[run()] * 11], [run(findings=(RETRY,))] * 12)
    less = group([run(findings=(dearer,))] * 8, [run(findings=(LOOP,))] * 8)
    assert [found.findings[0].status for found in (costs, often, less)] == ["worse", "worse", "better"]
    assert costs.findings[0].head_saving_s == pytest.approx(0.9)


def test_two_findings_of_a_fingerprint_in_a_run_are_one() -> None:
    found = group([run(findings=(LOOP, LOOP))] * 6, [run(findings=(LOOP, LOOP))] * 6)
    (change,) = found.findings
    assert (change.status, change.base_runs, change.base_saving_s) == ("same", 6, pytest.approx(1.0))


def test_runs_are_grouped_by_name_and_regressions_come_first() -> None:
    other = [replace(run(), name="alone")] * 6
    found = compare([*other, *[run(1.0)] * 6], [*[run(3.0)] * 6, *[replace(run(), name="fresh")] * 2])
    assert [(one.name, one.base_runs, one.head_runs) for one in found] == [
        ("planner", 6, 6),
        ("alone", 6, 0),
        ("fresh", 0, 2),
    ]
    assert found[1].figures == found[2].figures == ()


def test_nothing_at_all_is_no_group() -> None:
    assert compare([], []) == []
