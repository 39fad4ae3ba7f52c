"""Chance against difference."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.analysis import rank_test
from otel_agentperf.analysis.rank_test import least_p_value, p_value

FEW = st.lists(st.integers(0, 6), min_size=1, max_size=5)


def mid_rank(values: list[int], value: int) -> float:
    return sum(other < value for other in values) + (values.count(value) + 1) / 2


@given(FEW, FEW)
def test_small_samples_are_counted_out(base: list[int], head: list[int]) -> None:
    every = [*base, *head]
    expected = len(head) * (len(every) + 1) / 2
    observed = abs(sum(mid_rank(every, value) for value in head) - expected)
    sums = [abs(sum(mid_rank(every, value) for value in dealt) - expected) for dealt in combinations(every, len(head))]
    counted = sum(distance >= observed - 1e-9 for distance in sums) / len(sums)
    assert p_value(base, head) == pytest.approx(counted)


@given(FEW, FEW)
def test_it_does_not_matter_which_side_is_which(base: list[int], head: list[int]) -> None:
    assert p_value(base, head) == pytest.approx(p_value(head, base))


def test_the_approximation_meets_the_exact_count_where_they_change_over(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = []
    for seed in range(50):
        numbers = random.Random(seed)
        samples.append([[numbers.gauss(mean, 0.2) for _ in range(8)] for mean in (1.0, 1.2)])
    exact = [p_value(base, head) for base, head in samples]
    monkeypatch.setattr(rank_test, "_MOST_EXACT", 0)
    assert [p_value(base, head) for base, head in samples] == pytest.approx(exact, abs=0.015)


def test_values_worked_out_by_hand() -> None:
    assert p_value([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) == pytest.approx(2 / 252)
    # U is 350 of 400, its mean 200, its variance with 10 ties of two 400/12 x (41 - 60/1560): z is 149.5 / 36.95.
    assert p_value(range(20), range(10, 30)) == pytest.approx(5.21e-05, rel=0.01)


def test_nothing_to_compare_is_no_difference() -> None:
    assert p_value([], [1.0]) == p_value([1.0], []) == 1.0
    assert p_value([3.0] * 30, [3.0] * 30) == p_value([3.0], [3.0]) == 1.0


@given(st.integers(1, 8), st.integers(1, 8))
def test_the_least_is_that_of_samples_that_do_not_overlap(base: int, head: int) -> None:
    apart = p_value(range(base), range(100, 100 + head))
    assert least_p_value(base, head) == pytest.approx(apart)


def test_chance_seldom_looks_like_a_difference() -> None:
    numbers = random.Random(7)

    def sample() -> list[float]:
        return [numbers.lognormvariate(0, 0.5) for _ in range(12)]

    assert sum(p_value(sample(), sample()) <= 0.01 for _ in range(2_000)) <= 35
