"""What the model calls of a run cost, by the user's prices and those of a price library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .._entries import ModelPrice, best_match
from ..model import AgentRun, Cost, SpanRecord, Tokens

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class PriceSource:
    """Where prices come from that the user did not give: a library, asked outside of the analysis' own files."""

    name: str
    """with the version of its data"""
    usd: Callable[[SpanRecord], float | None]
    """of one model call; None: it does not know the price"""


def costs(run: AgentRun, prices: Sequence[ModelPrice], source: PriceSource | None) -> dict[str, float]:
    """USD by span id of the model calls whose price is known. The user's prices come first."""
    own = {price.model: price for price in prices}
    found = {call.span_id: _usd(call, own, source) for call in billed(run) if _is_told(call)}
    return {span_id: usd for span_id, usd in found.items() if usd is not None}


def billed(run: AgentRun) -> list[SpanRecord]:
    """The model calls; a failed one that told no tokens was not answered."""
    calls = (span for span in run.spans if span.kind in ("llm", "embedding"))
    return [span for span in calls if span.tokens or span.error is None]


def total(run: AgentRun, prices: Sequence[ModelPrice], source: PriceSource | None) -> Cost:
    """The sum, and what it stands on."""
    calls = billed(run)
    told = [call for call in calls if _is_told(call)]
    own = {price.model for price in prices}
    configured = {name for call in told if (name := _own_price(call, own)) is not None}
    unknown = tuple(sorted({call.operation for call in told if call.span_id not in run.costs}))
    from_source = any(_own_price(call, own) is None and call.span_id in run.costs for call in told)
    basis = [
        source.name if source and from_source else "",
        f"{_listed(configured)} as configured" if configured else "",
        f"no price known for {_listed(unknown)}" if unknown else "",
        f"{len(calls) - len(told)} of {len(calls)} model calls told no tokens" if len(told) < len(calls) else "",
        "" if source or own or not calls else "no price library is installed",
        "" if calls else "no model calls were seen",
    ]
    return Cost(
        usd=sum(run.costs.values()) if run.costs else None,
        basis="; ".join(filter(None, basis)),
        unknown_models=unknown,
        complete=bool(calls) and len(run.costs) == len(calls),
    )


def _is_told(call: SpanRecord) -> bool:
    """Does the span say how much was read and written? An embedding writes nothing."""
    return call.tokens.input is not None and (call.tokens.output is not None or call.kind == "embedding")


def _usd(call: SpanRecord, own: Mapping[str, ModelPrice], source: PriceSource | None) -> float | None:
    name = _own_price(call, own)
    if name is not None:
        return _by_own_price(own[name], all_input(call.tokens))
    return source.usd(call) if source else None


def _own_price(call: SpanRecord, own: Mapping[str, ModelPrice] | set[str]) -> str | None:
    return best_match(own, call.operation) or best_match(own, call.model)


def all_input(tokens: Tokens) -> Tokens:
    """With cached tokens among the input, where they belong by convention. Some count them beside it, which shows
    when they are more than it."""
    cached = (tokens.cache_read or 0) + (tokens.cache_write or 0)
    given = tokens.input or 0
    return Tokens(given if cached <= given else given + cached, tokens.output, tokens.cache_read, tokens.cache_write)


def _by_own_price(price: ModelPrice, tokens: Tokens) -> float:
    cached = tokens.cache_read or 0
    fresh = (tokens.input or 0) - cached
    per_cached = price.input if price.cached is None else price.cached
    return (fresh * price.input + cached * per_cached + (tokens.output or 0) * price.output) / 1e6


def _listed(names: Sequence[str] | set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:_MOST_NAMED]) + (" …" if len(shown) > _MOST_NAMED else "")
