from __future__ import annotations

import pytest

from _traces import agent, cache, findings, llm, node, run_of, saving_of, the_finding, together, tool, wait

KIND = "ineffective_cache"


def _get(key: str, hit: bool, *computation, **fields):
    """A look-up whose computation, on a miss, is its child."""
    return cache("answers", *(computation or [0.01]), key=key, hit=hit, **fields)


def _work(seconds: float = 0.5, key: str = "k", **fields):
    return tool("compute", seconds, args={"key": key}, result=f"of {key}", **fields)


def _miss(key: str, **fields):
    return _get(key, False, wait(0.01), _work(key=key), **fields)


def _hit(key: str, **fields):
    return _get(key, True, **fields)


SILENT = {
    "the first computation, inside the look-up, failed": agent(
        "a",
        cache("answers", tool("compute", 0.5, error="X"), key="k", hit=False),
        cache("answers", tool("compute", 0.5), key="k", hit=False),
    ),
    "warm-up": agent("a", *[_miss(f"k{i}") for i in range(8)]),
    "warm-up, then hits": agent("a", *[_miss(f"k{i}") for i in range(4)], *[_hit(f"k{i}") for i in range(4)]),
    "deleted between the misses": agent(
        "a", *[part for _ in range(5) for part in (_miss("k"), cache("answers", 0.01, key="k", operation="delete"))]
    ),
    "cleared between the misses": agent(
        "a", *[part for _ in range(5) for part in (_miss("k"), cache("answers", 0.01, operation="clear"))]
    ),
    "concurrent misses of one key": agent("a", together(*[_miss("k")] * 6), *[_hit("k")] * 3),
    "a second look-up before the next sibling has computed": agent(
        "a",
        cache("answers", 0.01, key="k", hit=False, at=0.0),
        _work(2.0, at=0.02),
        cache("answers", 0.01, key="k", hit=False, at=1.0),
    ),
    "keys unknown": agent("a", *[cache("answers", wait(0.01), _work(), hit=False) for _ in range(6)]),
    "outcomes unknown": agent("a", *[cache("answers", 0.5, key="k") for _ in range(6)]),
    "the computation failed": agent(
        "a", *[part for _ in range(2) for part in (cache("answers", 0.01, key="k", hit=False), _work(error="x"))]
    ),
    "cheap misses": agent("a", llm(5.0), *[_get("k", False, wait(0.001))] * 6),
    "hits only": agent("a", *[_hit("k")] * 9),
    "the same key of two caches": agent("a", _miss("k"), cache("other", wait(0.01), _work(), key="k", hit=False)),
    "sets": agent("a", *[cache("answers", 0.5, key="k", operation="set")] * 6),
}


@pytest.mark.parametrize("trace", SILENT.values(), ids=SILENT.keys())
def test_silent(trace):
    assert findings(run_of(trace), KIND) == []


def _sibling(key: str):
    return (cache("answers", 0.01, key=key, hit=False), _work(key=key))


LOUD = {
    "a cache too small, computed inside the look-up": (
        agent("a", *[_miss(f"k{i % 3}") for i in range(9)], _hit("k2")),
        agent("a", *[_miss(f"k{i}") for i in range(3)], *[_hit("k1")] * 6, _hit("k2")),
        6,
    ),
    "computed after the look-up": (
        agent("a", *[part for i in range(9) for part in _sibling(f"k{i % 3}")]),
        agent("a", *[part for i in range(3) for part in _sibling(f"k{i}")], *[_hit("k1")] * 6),
        6,
    ),
    "one key missed twice": (
        agent("a", _miss("k"), llm(1.0), _miss("k")),
        agent("a", _miss("k"), llm(1.0), _hit("k")),
        1,
    ),
    "known from a hit": (
        agent("a", _hit("k"), llm(1.0), _miss("k"), llm(1.0), _miss("k")),
        agent("a", _hit("k"), llm(1.0), _hit("k"), llm(1.0), _hit("k")),
        2,
    ),
    "in graph nodes": (
        agent("a", *[node("step", _miss("k"), wait(0.1)) for _ in range(4)]),
        agent("a", node("step", _miss("k"), wait(0.1)), *[node("step", _hit("k"), wait(0.1)) for _ in range(3)]),
        3,
    ),
    "another key deleted in between": (
        agent("a", _miss("k"), cache("answers", 0.01, key="z", operation="delete"), _miss("k")),
        agent("a", _miss("k"), cache("answers", 0.01, key="z", operation="delete"), _hit("k")),
        1,
    ),
}


@pytest.mark.parametrize(("broken", "repaired", "repeated"), LOUD.values(), ids=LOUD.keys())
def test_loud(broken, repaired, repeated):
    run = run_of(broken)
    finding = the_finding(run, KIND)
    assert finding.operation == "answers"
    assert f"{repeated} misses" in finding.recommendation
    assert finding.evidence
    assert finding.saving_s == pytest.approx(saving_of(broken, repaired), rel=0.1)
    assert "answers" in finding.recommendation


def test_it_speaks_for_the_repeated_computations():
    run = run_of(agent("a", *[part for i in range(9) for part in _sibling(f"k{i % 3}")]))
    assert [finding.kind for finding in findings(run)] == [KIND]


def test_in_process_caches_are_counted_on_the_root():
    counts = '[{"name": "answers", "lookups": 40, "hits": 30, "hit_s": 0.0, "miss_s": 0.5}]'
    misses = [_get("k", False, wait(0.01), _work(), counted=True) for _ in range(4)]
    finding = the_finding(run_of(agent("a", *misses, more={"agentperf.caches": counts})), KIND)
    assert finding.calls == 40
    assert "30 of 40" in finding.recommendation
    assert finding.saving_s == pytest.approx(3 * 0.51, rel=0.01)
