"""Prices of model calls from `genai-prices`, where it is installed (the extra `prices`). Its data comes with it:
nothing is fetched."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from . import _guard
from ._fork import loading
from .analysis.cost import PriceSource, all_input
from .model import SpanRecord

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
    tokens, library = all_input(call.tokens), _library()
    if library is None:
        return None
    usage = library.Usage(
        input_tokens=tokens.input,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )
    told = call.provider.strip().lower().replace("_", "-")
    provider = None if call.provider.strip().lower() in _NO_PROVIDERS else told or None
    for model in dict.fromkeys(filter(None, (call.model, call.operation))):
        try:
            when = datetime.fromtimestamp(call.start_ns / 1e9, timezone.utc)
            priced = library.calc_price(usage, model, provider_id=provider, genai_request_timestamp=when)
        except (LookupError, ValueError, OverflowError, OSError):  # the last two: a clock that was set wrong
            continue
        return float(priced.total_price)
    return None


@lru_cache(maxsize=1)
def _library() -> Any:
    with loading, _guard.guard("prices.library"):
        import genai_prices

        return genai_prices
    return None
