"""Counts of in-process caches: asked for when a run ends, by whoever registered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otel_agentperf import _guard
from otel_agentperf.capture import counts
from otel_agentperf.model import CacheCounts


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "_sources", [])


def test_sources_are_asked_and_what_was_not_looked_into_is_left_out() -> None:
    counts.register(lambda: [CacheCounts("a", 3, 2), CacheCounts("idle", 0, 0)])
    assert counts.drain() == (CacheCounts("a", 3, 2),)


def test_two_caches_of_one_name_are_added_and_their_costs_averaged_by_weight() -> None:
    counts.register(lambda: [CacheCounts("a", 4, 3, hit_s=1.0, miss_s=10.0)])
    counts.register(lambda: [CacheCounts("a", 4, 1, hit_s=3.0, miss_s=2.0)])
    assert counts.drain() == (CacheCounts("a", 8, 4, hit_s=1.5, miss_s=4.0),)


def test_a_source_is_registered_once_and_can_leave() -> None:
    def source() -> Iterator[CacheCounts]:
        yield CacheCounts("a", 1, 0)

    counts.register(source)
    counts.register(source)
    assert counts.drain() == (CacheCounts("a", 1, 0),)
    counts.unregister(source)
    counts.unregister(source)
    assert counts.drain() == ()


def test_a_source_that_fails_silences_only_itself(swallow: None) -> None:
    def broken() -> Iterator[CacheCounts]:
        raise RuntimeError

    counts.register(broken)
    counts.register(lambda: [CacheCounts("a", 1, 1)])
    assert counts.drain() == (CacheCounts("a", 1, 1),)
    assert _guard.counts == {("cache counts", "RuntimeError"): 1}


def test_of_very_many_caches_the_most_asked_are_told_and_the_others_together() -> None:
    counts.register(lambda: [CacheCounts(f"cache {number}", number + 1, 1) for number in range(1_000)])
    told = counts.drain()
    assert len(told) == 100
    assert [told[0].name, told[-1].name] == ["cache 999", counts.OTHER]
    assert sum(count.lookups for count in told) == sum(range(1, 1_001))
    assert sum(count.hits for count in told) == 1_000
