"""What the attributes of a span measure, in every spelling seen: tokens, cache look-ups, resource use.

Attributes are other people's data: whatever does not have the type it should have counts as not told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from .. import _semconv as names
from ..model import CacheCounts, CacheLookup, ResourceUsage, Tokens

Attributes = Mapping[str, Any]

_INPUT_TOKENS = (
    names.GEN_AI_USAGE_INPUT_TOKENS,
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
)
_OUTPUT_TOKENS = (
    names.GEN_AI_USAGE_OUTPUT_TOKENS,
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
)
_CACHE_READ_TOKENS = (
    names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS,
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
)

_FIRST_CHUNK = (
    names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK,
    names.METRIC_FIRST_CHUNK,
    "gen_ai.server.time_to_first_token",
)


def tokens(attributes: Attributes) -> Tokens:
    return Tokens(
        number(first(attributes, _INPUT_TOKENS)),
        number(first(attributes, _OUTPUT_TOKENS)),
        number(first(attributes, _CACHE_READ_TOKENS)),
    )


def first_chunk_s(attributes: Attributes) -> float | None:
    """Seconds until a streamed answer began."""
    return measure(first(attributes, _FIRST_CHUNK))


def cache_lookup(attributes: Attributes) -> CacheLookup:
    hit = attributes.get(names.CACHE_HIT)
    return CacheLookup(
        operation=str(attributes[names.CACHE_OPERATION]),
        hit=hit if isinstance(hit, bool) else None,
        key=text(attributes.get(names.CACHE_KEY_HASH)),
        counted=attributes.get(names.CACHE_REPORTED) is True,
    )


def cache_counts(value: object) -> tuple[CacheCounts, ...]:
    if not isinstance(value, str):
        return ()
    try:
        return tuple(_cache_counts(**entry) for entry in json.loads(value))
    except (ValueError, TypeError, RecursionError):
        return ()


def _cache_counts(name: str, lookups: int, hits: int, hit_s: float = 0.0, miss_s: float = 0.0) -> CacheCounts:
    return CacheCounts(str(name), int(lookups), int(hits), float(hit_s), float(miss_s))


def resource_usage(attributes: Attributes) -> ResourceUsage | None:
    memory, cpu = measure(attributes.get(names.PROCESS_MEMORY)), measure(attributes.get(names.PROCESS_CPU))
    return None if memory is None and cpu is None else ResourceUsage(memory, cpu)


def first(attributes: Attributes, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            return value
    return None


def number(value: object) -> int | None:
    """Counts arrive as integers, as floats, and (from some exporters) as text."""
    convert: Callable[[Any], int] = int
    try:
        number = None if value is None or isinstance(value, bool) else convert(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return number if number is None or number >= 0 else None


def measure(value: object) -> float | None:
    """A number that can be calculated with: neither text nor NaN, and not below 0."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < inf
    return float(value) if usable else None  # type: ignore[arg-type]


def nanoseconds(seconds: object) -> int | None:
    measured = measure(seconds)
    return None if measured is None else int(measured * 1e9)


def text(value: object) -> str | None:
    return None if value is None else str(value)


def strings(value: object) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else None
