"""Prices from the library that the extra `prices` installs."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import pytest

from _traces import agent, llm, run_of
from otel_agentperf.analysis.analyze import analyze
from otel_agentperf.model import Tokens
from otel_agentperf.prices import _Rates, price_source

pytest.importorskip("genai_prices")


def cost_of(model, tokens=(1_000_000, 0), provider=None, **more):
    if provider is not None:
        more["gen_ai.provider.name"] = provider
    return analyze(run_of(agent("a", llm(1.0, model=model, tokens=tokens, more=more))), None, price_source()).cost


def test_a_known_model_has_a_price_and_the_basis_names_the_library():
    cost = cost_of("gpt-4o", provider="openai")
    assert cost.usd == pytest.approx(2.5)
    assert cost.basis.startswith("genai-prices ")


def test_output_costs_more_than_input_and_cached_input_less():
    usd = cost_of("gpt-4o", provider="openai").usd
    assert cost_of("gpt-4o", (0, 1_000_000), "openai").usd > usd
    cached = {"gen_ai.usage.cache_read.input_tokens": 1_000_000}
    assert 0 < cost_of("gpt-4o", (1_000_000, 0), "openai", **cached).usd < usd


def test_writing_to_the_cache_has_its_price():
    written = {"gen_ai.usage.cache_creation.input_tokens": 1_000_000}
    plain = cost_of("claude-sonnet-4-5", (100_000, 0), "anthropic").usd
    assert cost_of("claude-sonnet-4-5", (100_000, 0), "anthropic", **written).usd > 10 * plain


@pytest.mark.parametrize("provider", ["x_ai", "x-ai"])
def test_providers_as_the_conventions_spell_them(provider):
    assert cost_of("grok-4", provider=provider).usd > 0


def test_a_framework_in_the_providers_place_is_no_provider():
    assert cost_of("gpt-4o", provider="langchain").usd == cost_of("gpt-4o").usd == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("model", "provider"), [("no-such-model", None), ("gpt-4o", "ollama"), ("no-such", "openai"), ("gpt", "openai")]
)
def test_what_it_does_not_know_is_unknown(model, provider):
    cost = cost_of(model, provider=provider)
    assert (cost.usd, cost.unknown_models) == (None, (model,))


def test_a_clock_set_wrong_costs_the_price_not_the_run():
    run = run_of(agent("a", llm(1.0, model="gpt-4o", tokens=(1, 1))), start_s=1e12)
    assert analyze(run, None, price_source()).cost.usd is None


def test_the_library_is_not_loaded_before_a_price_is_needed():
    code = """
        import sys
        from opentelemetry.sdk.trace import TracerProvider
        from otel_agentperf import AgentPerfSpanProcessor, agent
        from otel_agentperf.capture.tracing import state
        provider = TracerProvider(); provider.add_span_processor(AgentPerfSpanProcessor()); state.use(provider)
        with agent("planner"): pass
        assert "genai_prices" not in sys.modules
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    subprocess.run([sys.executable, "-c", lines], check=True, timeout=60)


def test_each_call_costs_to_the_cent_what_the_library_says():
    """It is asked for the price of a token only; tiers, times of the day and cached tokens must not get lost."""
    from genai_prices import Usage
    from genai_prices.data_snapshot import get_snapshot

    for model in (model for provider in get_snapshot().providers for model in provider.models):
        for hour in (3, 20):
            price = model.get_prices(datetime(2026, 11, 21, hour, tzinfo=timezone.utc))
            rates = _Rates(price)
            for given in (0, 1, 128_000, 128_001, 200_000, 200_001, 3_000_000):
                tokens = Tokens(given, 700, given // 2, given // 3)
                usage = Usage(
                    input_tokens=given, output_tokens=700, cache_read_tokens=given // 2, cache_write_tokens=given // 3
                )
                expected = float(price.calc_price(usage)["total_price"])
                assert rates.usd(tokens) == pytest.approx(expected, rel=1e-9), (model.id, given)
