"""Tokens out of a model's answer, whatever client made it: an object or mapping with a `usage` of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

_INPUT = ("input_tokens", "prompt_tokens", "prompt_token_count")
_OUTPUT = ("output_tokens", "completion_tokens", "candidates_token_count")
_READ = ("cached_tokens", "cache_read", "cache_read_input_tokens", "cached_content_token_count")
_WRITE = ("cache_write_tokens", "cache_creation", "cache_creation_tokens", "cache_creation_input_tokens")
Reader = Callable[[str], Any]
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
            read = _reader(found)
            return _with_cached(read, _usage(read))
    return Usage()


def _with_cached(read: Reader, tokens: Usage) -> Usage:
    """Anthropic's `input_tokens` leave out what its cache held or took in, which it tells beside them; ours, and
    everybody else's, are all of the input."""
    beside = [_first(read, (key,)) for key in ("cache_read_input_tokens", "cache_creation_input_tokens")]
    if beside == [None, None] or tokens.input_tokens is None or _first(read, ("input_tokens",)) is None:
        return tokens
    if any(read(key) is not None for key in _DETAILS):
        return tokens
    return tokens._replace(input_tokens=tokens.input_tokens + sum(filter(None, beside)))


def usage(told: Any) -> Usage:
    """A provider's usage in our terms: OpenAI (chat and responses), Anthropic, Google, LangChain spellings."""
    return _usage(_reader(told))


def _usage(read: Reader) -> Usage:
    details = next((found for key in _DETAILS if (found := read(key)) is not None), None)
    inside = _reader(details)
    return Usage(
        _first(read, _INPUT),
        _first(read, _OUTPUT),
        _either(_first(inside, _READ), _first(read, _READ)),
        _either(_first(inside, _WRITE), _first(read, _WRITE)),
    )


def get(holder: Any, key: str) -> Any:
    """A member of a mapping or an attribute of an object; None when there is none, or when asking for it raises."""
    return _reader(holder)(key)


def _reader(holder: Any) -> Reader:
    """Reads members as `get` does; made once where many are asked for."""
    kind: Any = type(holder)
    ask: Reader
    try:
        if holder is None:
            return _nothing
        if kind is dict:
            return holder.get  # type: ignore[no-any-return]
        if isinstance(holder, Mapping):
            ask = holder.get
        elif _is_pydantic(kind):
            ask = _pydantic_reader(holder, kind)
        else:
            ask = partial(_attribute, holder)
    except Exception:  # noqa: BLE001 - the user's object's own
        return _nothing

    def read(key: str) -> Any:
        try:
            return ask(key)
        except Exception:  # noqa: BLE001 - as above
            return None

    return read


def _pydantic_reader(holder: Any, kind: Any) -> Reader:
    """Pydantic takes 4 µs to say that an object has no such attribute."""
    held = vars(holder)
    extra = holder.__pydantic_extra__ or held

    def read(key: str) -> Any:
        if key in held:
            return held[key]
        if key in extra:
            return extra[key]
        return getattr(holder, key, None) if key[:1] == "_" or _has(kind, key) else None

    return read


def _attribute(holder: Any, key: str) -> Any:
    return getattr(holder, key, None)


def _nothing(key: str) -> None:
    return None


@lru_cache(maxsize=1_024)
def _is_pydantic(kind: Any) -> bool:
    return any("__pydantic_extra__" in vars(base) for base in kind.__mro__)


@lru_cache(maxsize=4_096)
def _has(kind: Any, name: str) -> bool:
    """Has the class itself such an attribute, a property for instance?"""
    return any(name in vars(base) for base in kind.__mro__)


def _first(read: Reader, keys: tuple[str, ...]) -> int | None:
    for key in keys:
        value = read(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _either(first: int | None, second: int | None) -> int | None:
    return second if first is None else first
