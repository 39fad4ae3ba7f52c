"""Tokens out of a model's answer, whatever client made it: an object or mapping with a `usage` of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count")
_OUTPUT = ("output_tokens", "completion_tokens", "candidates_token_count")
_READ = ("cached_tokens", "cache_read", "cache_read_input_tokens", "cached_content_token_count")
_WRITE = ("cache_write_tokens", "cache_creation", "cache_creation_tokens", "cache_creation_input_tokens")
_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")


class Usage(NamedTuple):
    """Tokens; None is "not told"."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


def tokens_of(answer: Any) -> Usage:
    """The usage that `answer`, or its `usage`, `usage_metadata` or `token_usage`, tells."""
    for key in ("usage", "usage_metadata", "token_usage"):
        found = get(answer, key)
        if found is not None:
            return _with_cached(found, usage(found))
    return Usage()


def _with_cached(told: Any, tokens: Usage) -> Usage:
    """Anthropic's `input_tokens` leave out what its cache held or took in, which it tells beside them; ours, and
    everybody else's, are all of the input."""
    beside = [_first(told, (key,)) for key in ("cache_read_input_tokens", "cache_creation_input_tokens")]
    if beside == [None, None] or tokens.input_tokens is None or _first(told, ("input_tokens",)) is None:
        return tokens
    if any(get(told, key) is not None for key in _DETAILS):
        return tokens
    return tokens._replace(input_tokens=tokens.input_tokens + sum(filter(None, beside)))


def usage(told: Any) -> Usage:
    """A provider's usage in our terms: OpenAI (chat and responses), Anthropic, Google, LangChain spellings."""
    details = next((found for key in _DETAILS if (found := get(told, key)) is not None), None)
    return Usage(
        _first(told, _INPUT),
        _first(told, _OUTPUT),
        _either(_first(details, _READ), _first(told, _READ)),
        _either(_first(details, _WRITE), _first(told, _WRITE)),
    )


def get(holder: Any, key: str) -> Any:
    """A member of a mapping or an attribute of an object; None when there is none, or when asking for it raises."""
    kind: Any = type(holder)
    try:
        if kind is dict:
            return holder.get(key)
        if _is_pydantic(kind):
            return _field(holder, kind, key)
        return holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key, None)
    except Exception:  # noqa: BLE001 - the user's object's own
        return None


def _field(holder: Any, kind: Any, key: str) -> Any:
    """Pydantic takes 4 µs to say that an object has no such attribute."""
    held = vars(holder)
    if key in held:
        return held[key]
    extra = holder.__pydantic_extra__
    if extra and key in extra:
        return extra[key]
    return getattr(holder, key, None) if key[:1] == "_" or _has(kind, key) else None


@lru_cache(maxsize=1_024)
def _is_pydantic(kind: Any) -> bool:
    return any("__pydantic_extra__" in vars(base) for base in kind.__mro__)


@lru_cache(maxsize=4_096)
def _has(kind: Any, name: str) -> bool:
    """Has the class itself such an attribute, a property for instance?"""
    return any(name in vars(base) for base in kind.__mro__)


def _first(holder: Any, keys: tuple[str, ...]) -> int | None:
    for key in keys if holder is not None else ():
        value = get(holder, key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first
