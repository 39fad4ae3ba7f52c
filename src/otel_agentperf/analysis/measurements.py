"""What the attributes of a span measure, in every spelling seen: tokens, cache look-ups, resource use.

Attributes are other people's data: whatever does not have the type it should have counts as not told.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, TypeVar

from .. import _semconv as names
from ..model import (
    CacheCounts,
    CacheLookup,
    FullCpu,
    HotFrame,
    Kind,
    PastCalls,
    ResourceUsage,
    SpanProfile,
    Stall,
    Tokens,
)

Attributes = Mapping[str, Any]
T = TypeVar("T")

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
_CACHE_WRITE_TOKENS = (
    names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
_PROVIDER = (names.GEN_AI_PROVIDER_NAME, "gen_ai.system", "llm.provider", "llm.system")
_MODEL = (names.GEN_AI_RESPONSE_MODEL, "llm.model_name", names.GEN_AI_REQUEST_MODEL, "llm.request.model")
_MOST_PAST = 64
_MOST_PROFILED = 16
_SPAN_ID = re.compile("[0-9a-f]{16}")

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
        number(first(attributes, _CACHE_WRITE_TOKENS)),
    )


def provider(attributes: Attributes) -> str:
    """Who answers a model call."""
    return text(first(attributes, _PROVIDER)) or ""


def model(attributes: Attributes) -> str:
    """The model that answered."""
    return text(first(attributes, _MODEL)) or ""


def first_chunk_s(attributes: Attributes) -> float | None:
    """Seconds until a streamed answer began."""
    return measure(first(attributes, _FIRST_CHUNK))


def cache_lookup(attributes: Attributes) -> CacheLookup:
    hit = attributes.get(names.CACHE_HIT)
    lookups, found = number(attributes.get(names.CACHE_LOOKUPS)) or 1, number(attributes.get(names.CACHE_FOUND))
    return CacheLookup(
        operation=str(attributes[names.CACHE_OPERATION]),
        hit=hit if isinstance(hit, bool) else None,
        key=text(attributes.get(names.CACHE_KEY_HASH)),
        counted=attributes.get(names.CACHE_REPORTED) is True,
        computed_after=attributes.get(names.CACHE_COMPUTED_AFTER) is True,
        lookups=lookups,
        found=min(found, lookups) if found is not None else (lookups if hit is True else 0),
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


def history(value: object) -> tuple[PastCalls, ...]:
    """What the process knew of earlier runs: `[[kind, operation, calls, p50_s, p95_s], …]`."""
    if not isinstance(value, str):
        return ()
    try:
        return tuple(_past_calls(*entry) for entry in json.loads(value)[:_MOST_PAST])
    except (ValueError, TypeError, RecursionError, OverflowError):
        return ()


def _past_calls(kind: Kind, operation: str, calls: int, p50_s: float, p95_s: float) -> PastCalls:
    if not 0 <= p50_s <= p95_s < inf:
        raise ValueError
    return PastCalls(kind, str(operation), int(calls), float(p50_s), float(p95_s))


_USAGE = {
    "memory_mb": names.PROCESS_MEMORY,
    "cpu_percent": names.PROCESS_CPU,
    "memory_peak_mb": names.PROCESS_MEMORY_PEAK,
    "memory_limit_mb": names.PROCESS_MEMORY_LIMIT,
    "cpu_peak_percent": names.PROCESS_CPU_PEAK,
    "cores": names.PROCESS_CORES,
    "machine_cpu_percent": names.MACHINE_CPU,
    "machine_memory_percent": names.MACHINE_MEMORY,
}
USAGE_KEYS = frozenset({*_USAGE.values(), names.FULL_CPU})
_MOST_ENTRIES = 64


def resource_usage(attributes: Attributes) -> ResourceUsage | None:
    told = {field: measure(attributes.get(key)) for field, key in _USAGE.items()}
    full_cpu = _entries(attributes.get(names.FULL_CPU), _full_cpu)
    return ResourceUsage(**told, full_cpu=full_cpu) if full_cpu or any(map(_is_told, told.values())) else None


def stalls(value: object) -> tuple[Stall, ...]:
    """What held up the run's event loops, as `measured_attributes` of `enrich` tells it."""
    return _entries(value, _stall)


def _entries(value: object, make: Callable[..., T]) -> tuple[T, ...]:
    """The objects that a JSON array tells, one for each of its entries."""
    if not isinstance(value, str):
        return ()
    try:
        return tuple(make(**entry) for entry in json.loads(value)[:_MOST_ENTRIES])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return ()


def _is_told(value: float | None) -> bool:
    return value is not None


def _full_cpu(start_ns: int, duration_ns: int, own: float, machine: float) -> FullCpu:
    return FullCpu(int(start_ns), int(duration_ns), float(own), float(machine))


def _stall(
    start_ns: int,
    duration_ns: int,
    frame: str,
    span_id: str = "",
    waiting: Sequence[str] = (),
    due_ns: Sequence[int] = (),
    elsewhere: bool = False,
    ready: Sequence[tuple[str, int]] = (),
) -> Stall:
    return Stall(
        int(start_ns),
        max(0, int(duration_ns)),
        str(frame),
        str(span_id),
        tuple(map(str, waiting)),
        tuple(sorted(map(int, due_ns))),
        elsewhere is True,
        tuple((str(waiting_span), max(0, int(moment))) for waiting_span, moment in ready),
    )


def profile(value: object) -> tuple[SpanProfile, ...]:
    """What a profiler saw of a run's spans, as `profile_attributes` of `enrich` tells it."""
    if not isinstance(value, str):
        return ()
    try:
        return tuple(_span_profile(**entry) for entry in json.loads(value)[:_MOST_PROFILED])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return ()


def _span_profile(
    span_id: str, name: str, samples: int, frames: list[dict[str, Any]], cpu_s: float, calls: int = 1
) -> SpanProfile:
    hot = tuple(_hot_frame(**frame) for frame in frames[:_MOST_PROFILED])
    if not (_SPAN_ID.fullmatch(span_id) and 0 <= cpu_s < inf and int(samples) >= 0 and int(calls) >= 1):
        raise ValueError
    return SpanProfile(span_id, str(name), int(samples), hot, float(cpu_s), int(calls))


def _hot_frame(function: str, file: str, line: int, share: float, caller: str = "") -> HotFrame:
    if not (0 <= share <= 1 and int(line) >= 0):
        raise ValueError
    return HotFrame(str(function), str(file), int(line), float(share), str(caller))


def first(attributes: Attributes, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = attributes.get(key)
        if value is not None:
            return value
    return None


def number(value: object) -> int | None:
    """Counts arrive as integers, as floats, and (from some exporters) as text."""
    if type(value) is int:
        return value if value >= 0 else None
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


_LONGEST_S = 1e10
"""seconds, 300 years; what is longer measures nothing, and may not even be an integer of nanoseconds"""


def nanoseconds(seconds: object) -> int | None:
    measured = seconds if type(seconds) is float and seconds >= 0 else measure(seconds)
    return None if measured is None or measured > _LONGEST_S else int(measured * 1e9)


def text(value: object) -> str | None:
    return None if value is None else str(value)


def strings(value: object) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else None
