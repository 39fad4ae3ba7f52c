"""One wrapper for every callable: functions, coroutine functions, generators, methods, callable objects.

It is a `wrapt` proxy, so signature, flags, pickling by name and binding stay what they were.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import wrapt

from .. import _guard
from ..model import Kind
from .invocation import attach, detach, start
from .streams import Ended, drive_async_generator, drive_coroutine, drive_generator, ended_with

Description = tuple[Kind, str, Mapping[str, Any] | None, Any]
"""what a call is, as `invocation.start` takes it: kind, name, attributes of ours, arguments"""
Describe = Callable[[Any, tuple[Any, ...], dict[str, Any]], Description | None]
"""(instance, args, kwargs) → what this call is; None: leave it alone"""
_GENERIC = frozenset(
    """run arun invoke ainvoke call acall execute aexecute kickoff akickoff stream astream
    __call__ forward predict process step handle main""".split()
)
"""method names that say nothing: the object's own name does"""


class TracedCallable(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """The proxy; pickled by name and copied as itself, as functions are."""

    def __reduce_ex__(self, protocol: Any) -> str:
        return str(self.__wrapped__.__qualname__)

    def __copy__(self) -> TracedCallable:
        return self

    def __deepcopy__(self, memo: object) -> TracedCallable:
        return self


def traced(function: Callable[..., Any], describe: Describe, on_result: Ended | None = None) -> Any:
    """`function` with a span around each call that `describe` recognises; `on_result` takes over its result."""
    flavour = _flavour(function)

    def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            description = describe(instance, args, kwargs)
        except Exception as fault:  # noqa: BLE001 - ours; the user's call goes on untraced
            _guard.swallowed("describe", fault)
            description = None
        if description is None:
            return wrapped(*args, **kwargs)
        if flavour is not None:
            # The span starts with the first step: creating a coroutine or generator is not its work.
            return flavour(partial(start, *description), wrapped(*args, **kwargs), on_result)
        return _call(description, wrapped, args, kwargs, on_result)

    return TracedCallable(function, wrapper)


def _flavour(function: Any) -> Callable[..., Any] | None:
    plain = getattr(function, "__func__", function)
    if not inspect.isroutine(plain) and not isinstance(plain, partial):
        plain = getattr(type(plain), "__call__", plain)  # noqa: B004 - its flags, not whether it has one
    if inspect.iscoroutinefunction(plain):
        return drive_coroutine
    if inspect.isasyncgenfunction(plain):
        return drive_async_generator
    return drive_generator if inspect.isgeneratorfunction(plain) else None


def _call(
    description: Description,
    wrapped: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    on_result: Ended | None,
) -> Any:
    invocation = start(*description)
    if invocation is None:
        return wrapped(*args, **kwargs)
    invocation.measure_cpu()
    token = attach(invocation)
    try:
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        invocation.fail(error)
        raise
    finally:
        detach(invocation, token)
    return ended_with(invocation, result, on_result)


class Arguments:
    """Binds a call's arguments to names, defaults included, so that `f(1)` and `f(x=1)` are the same call."""

    __slots__ = ("_defaults", "_names")

    def __init__(self, function: Any, name: str = "") -> None:
        self._names: tuple[str, ...] = ()
        self._defaults: dict[str, Any] = {}
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (ValueError, TypeError):
            return
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._names = tuple(positional[1:] if positional[:1] in (["self"], ["cls"]) else positional)
        self._defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name; further positional ones under `*`."""
        bound = {**self._defaults, **dict(zip(self._names, args, strict=False)), **kwargs}
        if len(args) > len(self._names):
            bound["*"] = args[len(self._names) :]
        return bound


def call_name(function: Any, instance: Any = None) -> str:
    """The bare name of what is called: the function's, or the object's where the method's name says nothing."""
    function = getattr(function, "__func__", function)
    name = getattr(function, "__name__", None) or type(function).__name__
    if instance is None or name not in _GENERIC:
        return str(name)
    own = getattr(instance, "name", None)
    if isinstance(own, str) and own:
        return own
    return instance.__name__ if isinstance(instance, type) else type(instance).__name__
