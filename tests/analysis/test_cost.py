"""What a run cost, and what is not known about it."""

from __future__ import annotations

import pytest

from _traces import agent, llm, run_of, span, tool
from otel_agentperf._config import Config
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.analysis.cost import PriceSource
from otel_agentperf.enrich import report_attributes

CACHED = {"gen_ai.usage.cache_read.input_tokens": 800_000}
LIBRARY = PriceSource("library 1.0", lambda call: {"gpt": 0.5}.get(call.operation))


def cost_of(*parts, prices="", source=None):
    return analyze(run_of(agent("a", *parts)), Config(prices=prices), source).cost


def test_tokens_times_the_configured_price():
    cost = cost_of(llm(1.0, tokens=(1_000_000, 500_000)), prices="gpt=2/8")
    assert cost.usd == pytest.approx(2 + 4)
    assert cost.complete
    assert cost.basis == "gpt as configured"


def test_cached_input_at_its_own_price():
    call = llm(1.0, tokens=(1_000_000, 0), more=CACHED)
    assert cost_of(call, prices="gpt=2/8/0.5").usd == pytest.approx(0.2 * 2 + 0.8 * 0.5)


def test_cached_input_costs_what_other_input_does_where_no_price_is_given():
    assert cost_of(llm(1.0, tokens=(1_000_000, 0), more=CACHED), prices="gpt=2/8").usd == pytest.approx(2)


def test_cached_input_that_is_counted_beside_the_other_is_added():
    call = llm(1.0, tokens=(200_000, 0), more=CACHED)
    assert cost_of(call, prices="gpt=2/8/0.5").usd == pytest.approx(0.2 * 2 + 0.8 * 0.5)


def test_an_unknown_price_is_not_zero():
    cost = cost_of(llm(1.0, tokens=(1_000, 10)))
    assert (cost.usd, cost.unknown_models, cost.complete) == (None, ("gpt",), False)
    assert "no price known for gpt" in cost.basis
    assert "no price library" in cost.basis


def test_a_part_of_the_cost_is_told_as_a_part():
    cost = cost_of(llm(1.0, tokens=(1, 1)), llm(1.0, model="other", tokens=(1, 1)), source=LIBRARY)
    assert (cost.usd, cost.unknown_models, cost.complete) == (0.5, ("other",), False)
    assert "library 1.0" in cost.basis
    assert "no price known for other" in cost.basis


def test_calls_that_told_no_tokens_are_not_free():
    cost = cost_of(llm(1.0, tokens=(1, 1)), llm(1.0), llm(1.0, tokens=(5, None)), source=LIBRARY)
    assert (cost.usd, cost.complete) == (0.5, False)
    assert "2 of 3 model calls told no tokens" in cost.basis


def test_a_failed_call_without_tokens_costs_nothing():
    cost = cost_of(llm(1.0, tokens=(1, 1)), llm(1.0, error="429"), source=LIBRARY)
    assert (cost.usd, cost.complete) == (0.5, True)


def test_the_users_price_goes_before_the_librarys():
    cost = cost_of(llm(1.0, tokens=(1_000_000, 0)), prices="gp*=3/3", source=LIBRARY)
    assert cost.usd == pytest.approx(3)
    assert "library" not in cost.basis


def test_a_price_for_the_model_that_answered():
    call = llm(1.0, model="alias", tokens=(1_000_000, 0), more={"gen_ai.response.model": "gpt-2026"})
    assert cost_of(call, prices="gpt-2026=3/3").usd == pytest.approx(3)


def test_an_embedding_writes_nothing():
    embedding = span(
        "embeddings small",
        1.0,
        attributes={
            "gen_ai.operation.name": "embeddings",
            "gen_ai.request.model": "small",
            "gen_ai.usage.input_tokens": 1_000_000,
        },
    )
    cost = cost_of(embedding, prices="small=0.02/0")
    assert (cost.usd, cost.complete) == (pytest.approx(0.02), True)


def test_a_run_without_model_calls_has_no_known_cost():
    cost = cost_of(tool("t", 1.0), source=LIBRARY)
    assert (cost.usd, cost.complete, cost.basis) == (None, False, "no model calls were seen")


def test_the_root_says_the_cost_only_where_all_of_it_is_known():
    whole = analyze(run_of(agent("a", llm(1.0, tokens=(1, 1)))), None, LIBRARY)
    part = analyze(run_of(agent("a", llm(1.0, tokens=(1, 1)), llm(1.0))), None, LIBRARY)
    assert report_attributes(whole)["agentperf.cost.usd"] == 0.5
    assert "agentperf.cost.usd" not in report_attributes(part)
