"""Prices of model calls from `genai-prices`, where it is installed (the extra `prices`). Its data comes with it:
nothing is fetched."""

from __future__ import annotations

from bisect import bisect_left
from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from operator import mul
from typing import Any

from . import _guard
from ._fork import loading
from .analysis.cost import PriceSource, all_input
from .model import SpanRecord, Tokens

_NO_PROVIDERS = frozenset({"_other", "langchain", "litellm", "openai_agents", "unknown"})
"""told where a provider should be, by instrumentations that do not know it"""


def price_source() -> PriceSource | None:
    """The library's prices, None where it is not installed. It is loaded with the first call that needs a price
    (measured: 90 to 150 ms, once a process), so this may be asked early."""
    try:
        return PriceSource(f"genai-prices {version('genai-prices')}", _usd)
    except PackageNotFoundError:
        return None


@_guard.guarded("prices", None)
def _usd(call: SpanRecord) -> float | None:
    """The price on the day of the call."""
    tokens = all_input(call.tokens)
    told = call.provider.strip().lower().replace("_", "-")
    provider = None if call.provider.strip().lower() in _NO_PROVIDERS else told or None
    for name in dict.fromkeys(filter(None, (call.model, call.operation))):
        model = _model(name, provider)
        if model is None:
            continue
        try:
            price = model.get_prices(datetime.fromtimestamp(call.start_ns / 1e9, timezone.utc))
            return _rates_of(price).usd(tokens)
        except (ValueError, OverflowError, OSError):  # the last two: a clock that was set wrong
            continue
    return None


@lru_cache(maxsize=1_024)
def _model(name: str, provider: str | None) -> Any:
    """What the library knows of a model; None where it does not know that."""
    library = _library()
    try:
        return library and library.calc_price(library.Usage(), name, provider_id=provider).model
    except (LookupError, ValueError):
        return None


class _Rates:
    """What a token of each sort costs by one price of the library, which takes 0.1 ms to say what a call costs: it is
    asked once for each of the price's tiers, of which the whole input decides."""

    def __init__(self, price: Any) -> None:
        self._price = price
        tiers = (tier for value in vars(price).values() for tier in getattr(value, "tiers", ()))
        self._starts = sorted({0, *(tier.start for tier in tiers)})
        self._by_tier: dict[int, tuple[float, ...]] = {}

    def usd(self, tokens: Tokens) -> float:
        """Raises ValueError where more was cached than there was."""
        whole, read, written = tokens.input or 0, tokens.cache_read or 0, tokens.cache_write or 0
        if read + written > whole:
            raise ValueError("more cached than there was")
        start = self._starts[max(0, bisect_left(self._starts, whole) - 1)]
        rates = self._by_tier.get(start) or self._by_tier.setdefault(start, self._asked(start + 1))
        counts = (1, whole - read - written, read, written, tokens.output or 0)
        return float(sum(map(mul, rates, counts)))

    def _asked(self, tokens: int) -> tuple[float, ...]:
        """Of the call itself, and of a token: read, from the cache, into the cache, written."""

        def usd(**usage: int) -> Any:
            return self._price.calc_price(_library().Usage(**usage))["total_price"]

        call, read = usd(), usd(input_tokens=tokens)
        cached = (usd(input_tokens=tokens, **{key: tokens}) for key in ("cache_read_tokens", "cache_write_tokens"))
        written = usd(input_tokens=tokens, output_tokens=tokens) - read
        return float(call), *(
            float(of_all / tokens) for of_all in (read - call, *(it - call for it in cached), written)
        )


_rates: dict[int, _Rates] = {}


def _rates_of(price: Any) -> _Rates:
    """By identity: the library's prices have no hash, and live as long as it does."""
    return _rates.get(id(price)) or _rates.setdefault(id(price), _Rates(price))


@lru_cache(maxsize=1)
def _library() -> Any:
    with loading, _guard.guard("prices.library"):
        import genai_prices

        return genai_prices
    return None
