"""Caches of whole answers, in front of a model: each look-up is a span, for what it saves is a model call.

What such a cache is made of (a dictionary, a disk cache, a redis) is asked on its behalf and counts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard
from .. import _semconv as names
from ..capture.callables import Describe, Description, call_inside
from ..capture.invocation import Invocation, start
from ..capture.patching import Wrapper
from ..capture.streams import drive_coroutine
from ..capture.tracing import state
from ._lookups import asked_for, reset


def lookup(name: str, system: str, key: Any) -> Description | None:
    """What a look-up is; None where the user wants no spans of caches."""
    if state.config.cache_spans == "none":
        return None
    attributes = {names.CACHE_OPERATION: "get", names.CACHE_SYSTEM: system, names.CACHE_COMPUTED_AFTER: True}
    return "cache", name, attributes, key


def looking_up(describe: Describe, ended: Callable[[Invocation, Any], Any] | None = None) -> Wrapper:
    """Around the method that gives the answer, or None where there is none; `ended` tells what gives it otherwise."""

    def wrapper(wrapped: Callable[..., Any], cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        description = _described(describe, cache, args, kwargs)
        if description is None:
            return wrapped(*args, **kwargs)
        token = asked_for.set(True)
        try:
            return call_inside(start, description, wrapped, args, kwargs, ended or _ended)
        finally:
            reset(token)

    return wrapper


def alooking_up(describe: Describe) -> Wrapper:
    """The same around a coroutine function."""

    async def wrapper(wrapped: Callable[..., Any], cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        description = _described(describe, cache, args, kwargs)
        if description is None:
            return await wrapped(*args, **kwargs)
        token = asked_for.set(True)
        try:
            return await drive_coroutine(partial(start, *description), wrapped(*args, **kwargs), _ended)
        finally:
            reset(token)

    return wrapper


@_guard.guarded("answer cache", None)
def _described(describe: Describe, cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    return describe(cache, args, kwargs)


def _ended(invocation: Invocation, found: Any) -> Any:
    invocation.hit(found is not None)
    invocation.stop()
    return found
