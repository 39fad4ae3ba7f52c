"""Functions that give a result, a coroutine, a generator or an async generator, by how they are called."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard
from ..capture.callables import Describe, call_inside, like
from ..capture.invocation import Invocation, start
from ..capture.patching import Wrapper
from ..capture.streams import drive_async_generator, drive_coroutine, drive_generator
from ._spans import atapped, tapped


class Watch:
    """Looks at what a call of `instance` gives: the items of a stream, then the end."""

    def __init__(self, instance: Any) -> None:
        self.instance = instance
        self.invocation: Invocation | None = None

    def look(self, item: Any) -> None:
        """An item of a stream; a result that is no stream has none. It may end the invocation."""

    def ended(self, invocation: Invocation, result: Any) -> Any:
        """The call is over; `result` is None after a stream. Returns what the caller gets."""
        invocation.stop(*([] if result is None else [result]))
        return result


def polymorphic(
    describe: Describe,
    comes_later: Callable[[Any, tuple[Any, ...], dict[str, Any]], bool],
    watch: Callable[[Any], Watch] = Watch,
) -> Wrapper:
    """A wrapper for `Patches.wrap` that gives each call a span.

    `comes_later`: does this call only make something to be awaited or read? Then the span starts with its first
    step: one that nobody reads is no call.
    """
    described = _guard.guarded("describe", None)(describe)
    is_later = _guard.guarded("describe", False)(comes_later)

    def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        description = described(instance, args, kwargs)
        if description is None:
            return wrapped(*args, **kwargs)
        seen = watch(instance)
        if not is_later(instance, args, kwargs):
            return call_inside(start, description, wrapped, args, kwargs, seen.ended)
        made = wrapped(*args, **kwargs)
        return _driven(partial(_begin, seen, *description), made, seen)

    return wrapper


def _begin(watch: Watch, *description: Any) -> Invocation | None:
    watch.invocation = start(*description)
    return watch.invocation


def _driven(begin: Callable[[], Invocation | None], made: Any, watch: Watch) -> Any:
    kind = type(made)
    looks = type(watch).look is not Watch.look
    look = _guard.guarded("look", None)(watch.look)
    if kind is types.CoroutineType:
        return like(made, drive_coroutine(begin, made, watch.ended))
    if kind is types.GeneratorType:
        return like(made, drive_generator(begin, tapped(made, look) if looks else made, watch.ended))
    if kind is types.AsyncGeneratorType:
        return like(made, drive_async_generator(begin, atapped(made, look) if looks else made, watch.ended))
    return made
