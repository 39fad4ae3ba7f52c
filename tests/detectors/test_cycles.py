from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from otel_agentperf.detectors._cycles import Cycle, cycles


def _found(text: str, longest: int = 8, least: int = 3) -> list[Cycle]:
    return list(cycles(text, longest, least))


def test_finds_repetitions_and_what_is_cut_short():
    assert _found("xababababy") == [Cycle(1, 2, 9)]
    assert Cycle(1, 2, 8).times == 3
    assert _found("xabababay") == [Cycle(1, 2, 8)]
    assert _found("abab") == []


def test_the_shortest_cycle_is_the_one():
    assert _found("aaaaaa") == [Cycle(0, 1, 6)]


def test_two_loops_in_one_sequence():
    assert _found("aaaxbcbcbc") == [Cycle(0, 1, 3), Cycle(4, 2, 10)]


def test_none_equals_nothing():
    assert list(cycles([None] * 9, 8, 3)) == []


def test_longer_cycles_than_asked_for_are_not_looked_for():
    assert _found("abcd" * 3, longest=3) == []


def test_ten_thousand_items_take_no_time():
    items = [number * number % 7919 for number in range(10_000)]
    started = time.perf_counter()
    assert list(cycles(items, 8, 3)) == []
    assert time.perf_counter() - started < 1.0


@given(st.text("ab", max_size=40), st.integers(1, 8), st.integers(2, 4))
def test_what_is_found_repeats_and_does_not_overlap(text, longest, least):
    found = _found(text, longest, least)
    for cycle in found:
        part = text[cycle.start : cycle.end]
        assert cycle.times >= least
        assert cycle.length <= longest
        assert (part[: cycle.length] * len(part))[: len(part)] == part
    places = [place for cycle in found for place in range(cycle.start, cycle.end)]
    assert len(places) == len(set(places))
