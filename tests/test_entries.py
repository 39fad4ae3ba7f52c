"""The settings that are lists of entries."""

from __future__ import annotations

import json

import pytest

from otel_agentperf._entries import (
    Budget,
    ModelPrice,
    Suppression,
    best_match,
    budgets,
    faults,
    matches,
    numbers,
    prices,
    suppressions,
)


def test_budgets_of_runs_agents_and_tools() -> None:
    assert budgets("run.duration_s=20, tool.search.duration_s=2,agent.planner.calls=10", "here") == (
        Budget("run", "", "duration_s", 20.0, "here"),
        Budget("tool", "search", "duration_s", 2.0, "here"),
        Budget("agent", "planner", "calls", 10.0, "here"),
    )


def test_names_in_budgets_may_hold_dots() -> None:
    (budget,) = budgets("tool.files.read.v2.tokens=5")
    assert (budget.name, budget.metric, budget.key) == ("files.read.v2", "tokens", "tool.files.read.v2.tokens")


@pytest.mark.parametrize(
    "wrong",
    [
        "run.duration=20",
        "run.x.tokens=1",
        "tool.duration_s=2",
        "model.gpt.tokens=5",
        "run.tokens=many",
        "run.tokens=-1",
        "run.tokens=nan",
        "run.tokens",
        "=5",
    ],
)
def test_a_wrong_budget_is_named_and_the_others_kept(wrong: str) -> None:
    text = f"run.calls=3,{wrong},tool.a.calls=1"
    assert [budget.key for budget in budgets(text)] == ["run.calls", "tool.a.calls"]
    (fault,) = faults("budgets", text)
    assert repr(wrong) in fault


def test_prices_with_and_without_cached_input() -> None:
    assert prices("openai/gpt:8b=0.15/0.60, claude@2024=3/15/0.3,free=0/0") == (
        ModelPrice("openai/gpt:8b", 0.15, 0.60),
        ModelPrice("claude@2024", 3.0, 15.0, 0.3),
        ModelPrice("free", 0.0, 0.0),
    )


@pytest.mark.parametrize("wrong", ["gpt=1", "gpt", "gpt=a/b", "gpt=1/2/3/4", "=1/2", "gpt=1/-2"])
def test_a_wrong_price_is_named_and_the_others_kept(wrong: str) -> None:
    assert [price.model for price in prices(f"a=1/2,{wrong},b=1/2")] == ["a", "b"]
    (fault,) = faults("prices", f"a=1/2,{wrong},b=1/2")
    assert repr(wrong) in fault


def test_suppressions_in_one_line() -> None:
    text = "n_plus_one_calls:search=paged, on purpose; 9f3a00aa11bb=known ;:SELECT 1@planner=fine;retry_storm@a b;slow"
    assert suppressions(text) == (
        Suppression(kind="n_plus_one_calls", operation="search", reason="paged, on purpose"),
        Suppression(name="9f3a00aa11bb", reason="known"),
        Suppression(operation="SELECT 1", agent="planner", reason="fine"),
        Suppression(kind="retry_storm", agent="a b"),
        Suppression(name="slow"),
    )


def test_suppressions_as_json() -> None:
    given = [{"kind": "slow_operation", "operation": "a=b;c", "reason": "old"}, "retry_storm=flaky"]
    assert suppressions(json.dumps(given)) == (
        Suppression(kind="slow_operation", operation="a=b;c", reason="old"),
        Suppression(name="retry_storm", reason="flaky"),
    )


@pytest.mark.parametrize(
    "wrong", ["=because", ":=x", '[{"reason": "all of it"}]', '[{"kinds": "a"}]', "[not json", "[]x"]
)
def test_a_wrong_suppression_suppresses_nothing_and_is_named(wrong: str) -> None:
    assert suppressions(wrong) == ()
    assert len(faults("suppress", wrong)) == 1


def test_the_operation_of_a_threshold_may_hold_commas_and_equals_signs() -> None:
    text = "slow_operation.db_s@SELECT a, b FROM t WHERE a = ?=2.5,min_saving_s=1"
    assert dict(numbers(text)) == {"slow_operation.db_s@SELECT a, b FROM t WHERE a = ?": 2.5, "min_saving_s": 1.0}


def test_only_the_asterisk_is_special() -> None:
    assert matches("https://x.io/*/items", "https://x.io/u/7/items")
    assert matches("SELECT ? FROM t[1]", "SELECT ? FROM t[1]")
    assert not matches("SELECT ? FROM t", "SELECT a FROM t")
    assert not matches("a.c", "abc")
    assert not matches("search", "search_all")


def test_the_name_itself_goes_before_patterns_and_long_patterns_before_short_ones() -> None:
    assert best_match(["*", "gpt-*", "gpt-4o"], "gpt-4o") == "gpt-4o"
    assert best_match(["*", "gpt-*", "gpt-4o"], "gpt-5") == "gpt-*"
    assert best_match(["gpt-*"], "claude") is None
