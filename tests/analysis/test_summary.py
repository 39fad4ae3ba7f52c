from __future__ import annotations

import pytest

from _traces import agent, cache, db, llm, run_of, tool, wait
from otel_agentperf._config import Config
from otel_agentperf.analysis import summary


def test_operations_by_kind_and_name():
    run = run_of(agent("a", llm(1.0), tool("gpt", 2.0, error="x"), llm(3.0), wait(0.5)))
    stats = {(stat.kind, stat.name): stat for stat in summary.operations(run)}
    assert set(stats) == {("agent", "a"), ("llm", "gpt"), ("tool", "gpt")}
    model = stats["llm", "gpt"]
    assert (model.calls, model.errors, model.total_s, model.self_s, model.critical_s) == (2, 0, 4.0, 4.0, 4.0)
    assert (model.p50_s, model.p95_s) == (2.0, pytest.approx(2.9))
    assert stats["tool", "gpt"].errors == 1
    assert stats["agent", "a"].self_s == 0.5


def test_the_most_critical_is_first():
    run = run_of(agent("a", llm(1.0), tool("t", 5.0), tool("beside", 4.0, at=1.0)))
    assert [stat.name for stat in summary.operations(run)] == ["t", "gpt", "a", "beside"]


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0), (0.95, 3.85)])
def test_percentile(share, value):
    assert summary.percentile([1.0, 2.0, 3.0, 4.0], share) == pytest.approx(value)
    assert summary.percentile([7.0], share) == 7.0


def test_agents():
    run = run_of(agent("boss", *[tool("ask", agent("helper", 2.0, failed=bad)) for bad in (False, True)]))
    stats = {stat.name: stat for stat in summary.agents(run, Config(baselines="helper=4"))}
    assert (stats["helper"].calls, stats["helper"].errors) == (2, 1)
    assert stats["helper"].score == pytest.approx((0.4 * 0.5 + 0.3 * 0.5) / 0.7)
    assert stats["boss"].score == pytest.approx((0.4 * 1 + 0.3 * 0.6) / 0.7)


def test_caches_from_spans():
    parts = [cache("c", wait(0.5), key="k", hit=False), *[cache("c", 0.1, key="k", hit=True)] * 3]
    [stat] = summary.caches(run_of(agent("a", *parts, cache("c", 0.1, key="k", operation="set"))))
    assert (stat.name, stat.lookups, stat.hits, stat.time_saved_s) == ("c", 4, 3, pytest.approx(1.2))


def test_time_saved_is_unknown_without_a_miss_to_compare_with():
    [stat] = summary.caches(run_of(agent("a", cache("c", 0.1, key="k", hit=True))))
    assert stat.time_saved_s is None
    [stat] = summary.caches(run_of(agent("a", cache("c", 0.1, key="k", hit=False))))
    assert stat.time_saved_s == 0.0


def test_caches_from_counts():
    told = (
        '[{"name": "c", "lookups": 9, "hits": 4, "hit_s": 0.1, "miss_s": 0.6}, {"name": "d", "lookups": 2, "hits": 1}]'
    )
    run = run_of(agent("a", cache("c", 0.5, hit=False, counted=True), more={"agentperf.caches": told}))
    stats = {stat.name: stat for stat in summary.caches(run)}
    assert (stats["c"].lookups, stats["c"].time_saved_s) == (9, pytest.approx(2.0))
    assert stats["d"].time_saved_s is None


def told(run):
    found = summary.tokens(run.spans)
    return found.input, found.output, found.cache_read


USAGE = {"gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 10}


def test_tokens_are_those_of_the_model_calls():
    run = run_of(agent("a", llm(1.0, tokens=(10, 5)), llm(1.0, tokens=(20, 5)), more=USAGE))
    assert told(run) == (30, 10, None)


def test_agents_totals_serve_only_without_model_calls():
    assert told(run_of(agent("a", llm(1.0), more=USAGE))) == (30, 10, None)
    assert told(run_of(agent("a", agent("b", 1.0, more=USAGE), more=USAGE))) == (30, 10, None)
    assert told(run_of(agent("a", agent("b", 1.0, more=USAGE), tool("t", agent("c", 1.0, more=USAGE))))) == (
        60,
        20,
        None,
    )


def test_no_tokens_are_not_zero_tokens():
    assert told(run_of(agent("a", llm(1.0)))) == (None, None, None)


def test_score_parts():
    run = run_of(agent("a", tool("t", 1.0), tool("u", 1.0, error="x"), db("SELECT 1", 3.0, error="x")))
    parts = summary.score_parts(run, summary.operations(run), Config())
    assert (parts.success, parts.speed, parts.resource) == (pytest.approx(2 / 3), 0.5, None)


def test_a_failed_root_has_no_success():
    run = run_of(agent("a", tool("t", 1.0), failed=True))
    assert summary.score_parts(run, summary.operations(run), Config()).success == 0.0
