"""One wrapper for every callable: functions, coroutine functions, generators, methods, callable objects.

It is a `wrapt` proxy, so signature, flags, pickling by name and binding stay what they were.
"""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from operator import attrgetter
from typing import Any

import wrapt

from .. import _guard
from ..model import Kind
from .invocation import Invocation, attach, detach, start
from .streams import Ended, drive_async_generator, drive_coroutine, drive_generator, ended_with
from .tracing import state

Description = tuple[Kind, str, Mapping[str, Any] | None, Any]
"""what a call is, as `invocation.start` takes it: kind, name, attributes of ours, arguments"""
Describe = Callable[[Any, tuple[Any, ...], dict[str, Any]], Description | None]
"""(instance, args, kwargs) → what this call is; None: leave it alone"""
Begin = Callable[..., Invocation | None]
"""`invocation.start`, or what an integration starts its calls with"""
_GENERIC = frozenset(
    """run arun invoke ainvoke call acall execute aexecute kickoff akickoff stream astream
    __call__ forward predict process step handle main""".split()
)
"""method names that say nothing: the object's own name does"""


def _annotate(wrapped: Any, value: Any) -> None:
    wrapped.__wrapped__.__annotations__ = value


_ANNOTATIONS: Any = property(lambda proxy: proxy.__wrapped__.__annotations__, _annotate)
"""In each class of ours: where a class has none, looking for its annotations (`isinstance` with a runtime protocol
does, from Python 3.13 on) leaves an empty dictionary there, which then hides those of every function."""


class _Bound(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]
    """The proxy of a method as an attribute access gives it; pickled and copied as methods are."""

    __annotations__ = _ANNOTATIONS

    def __new__(cls, wrapped: Any, instance: Any, *more: Any) -> Any:
        # A `weakref.WeakMethod` makes a method anew, of the plain function and its object.
        return super().__new__(cls, wrapped, instance, *more) if more else types.MethodType(wrapped, instance)

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        inner: Any = self.__wrapped__
        if isinstance(inner, types.MethodType):
            return inner.__reduce_ex__(protocol)
        # A staticmethod's function: each access makes a proxy of its own, so pickling by name would not find "it".
        return _named, (inner.__module__, inner.__qualname__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        inner: Any = self.__wrapped__
        if not isinstance(inner, types.MethodType):
            return self
        return getattr(copy.deepcopy(inner.__self__, memo), inner.__name__)


class TracedCallable(wrapt.FunctionWrapper):  # type: ignore[type-arg]
    """The proxy. Functions and classes are pickled by name and copied as themselves, callable objects as theirs."""

    __bound_function_wrapper__ = _Bound
    __annotations__ = _ANNOTATIONS

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        inner: Any = self.__wrapped__
        name = getattr(inner, "__qualname__", None)
        if name is None:
            return inner.__reduce_ex__(protocol)
        # By name, where it has one; by value (dill), where it is inside a function.
        return (_itself, (inner,)) if "<" in name else str(name)

    def __copy__(self) -> Any:
        return self._copied(copy.copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._copied(partial(copy.deepcopy, memo=memo))

    def _copied(self, copied: Callable[[Any], Any]) -> Any:
        inner = copied(self.__wrapped__)
        return self if inner is self.__wrapped__ else type(self)(inner, self._self_wrapper)


class _AsyncObject(TracedCallable):
    """Of an object with `async def __call__`: Starlette and others look whether its `__call__` is one."""

    __annotations__ = _ANNOTATIONS

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return await super().__call__(*args, **kwargs)


def _itself(inner: Any) -> Any:
    return inner


def _named(module: str, name: str) -> Any:
    return attrgetter(name)(import_module(module))


def traced(
    function: Callable[..., Any], describe: Describe, on_result: Ended | None = None, begin: Begin = start
) -> Any:
    """`function` with a span around each call that `describe` recognises; `on_result` takes over its result."""
    flavour = _flavour(function)
    state.expect()

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
            inner = wrapped(*args, **kwargs)
            return like(inner, flavour(partial(begin, *description), inner, on_result))
        return call_inside(begin, description, wrapped, args, kwargs, on_result)

    if (
        flavour is drive_coroutine
        and not isinstance(function, (partial, classmethod))
        and not inspect.isroutine(function)
    ):
        return _AsyncObject(function, wrapper)
    return TracedCallable(function, wrapper)


def like(inner: Any, driver: Any) -> Any:
    """The driver under the name of what it drives, for warnings, tracebacks and the repr of tasks."""
    driver.__name__ = getattr(inner, "__name__", driver.__name__)
    driver.__qualname__ = getattr(inner, "__qualname__", driver.__qualname__)
    return driver


def _flavour(function: Any) -> Callable[..., Any] | None:
    plain = getattr(function, "__func__", function)
    if not inspect.isroutine(plain) and not isinstance(plain, partial):
        plain = getattr(type(plain), "__call__", plain)  # noqa: B004 - its flags, not whether it has one
    if inspect.iscoroutinefunction(plain):
        return drive_coroutine
    if inspect.isasyncgenfunction(plain):
        return drive_async_generator
    return drive_generator if inspect.isgeneratorfunction(plain) else None


def call_inside(
    begin: Begin,
    description: Description,
    wrapped: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    on_result: Ended | None,
) -> Any:
    """Call `wrapped` inside a span of its own; what it gives may be work still to come."""
    invocation = begin(*description)
    if invocation is None:
        return wrapped(*args, **kwargs)
    token = attach(invocation)
    try:
        invocation.measure_cpu()
        result = wrapped(*args, **kwargs)
    except BaseException as error:
        detach(invocation, token)
        invocation.fail(error)
        raise
    detach(invocation, token)
    return ended_with(invocation, result, on_result)


class Arguments:
    """Binds a call's arguments to names, defaults included, so that `f(1)` and `f(x=1)` are the same call."""

    __slots__ = ("_defaults", "_names")

    def __init__(self, function: Any) -> None:
        self._names: tuple[str, ...] = ()
        self._defaults: dict[str, Any] = {}
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except Exception:  # noqa: BLE001 - of an object that fails when it is looked at: then they have no names
            return
        positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._names = tuple(positional[1:] if positional[:1] in (["self"], ["cls"]) else positional)
        self._defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name; further positional ones under `*`."""
        bound = dict(zip(self._names, args))  # noqa: B905 - passing strict=False costs as much as the rest
        if self._defaults:
            bound = {**self._defaults, **bound}
        bound.update(kwargs)
        if len(args) > len(self._names):
            bound["*"] = args[len(self._names) :]
        return bound


def describing(
    kind: Kind, function: Any, name: str | None = None, attributes: Mapping[str, Any] | None = None
) -> Describe:
    """Every call of `function` is one of `kind`, named `name` or after what is called."""
    plain = getattr(function, "__func__", function)
    arguments = Arguments(plain)
    own_name = name or str(getattr(plain, "__name__", None) or type(plain).__name__)
    is_generic = name is None and own_name in _GENERIC

    def describe(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        called = own_name if instance is None or not is_generic else _name_of(instance)
        return kind, called, attributes, arguments.bind(args, kwargs)

    return describe


def _name_of(instance: Any) -> str:
    """The object's name, where its method's says nothing. Its own look-ups may fail, and what they give may lie."""
    own: Any = None
    with suppress(Exception):  # a property of the user's: then its class has a name
        own = getattr(instance, "name", None)
    if issubclass(type(own), str) and str.__len__(own):
        return str.__str__(own)
    kind = type(instance)
    return type.__getattribute__(instance if issubclass(kind, type) else kind, "__name__")  # type: ignore[no-any-return]
