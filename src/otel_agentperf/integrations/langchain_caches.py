"""LangChain's caches of model answers: every `BaseCache`, the library's, the community's and the user's own.

A look-up is counted under the class's name. What it saves is a model call, so the span of a model call that was
answered from a cache is a cache hit and no model call (see `langchain`).
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

from opentelemetry.trace import SpanKind, get_current_span

from .. import _guard
from ..capture.patching import Patches
from ._lookups import Registry, asked_for, reset
from ._subclasses import patch_all_below

MODULES = ("langchain_core.caches",)
DISTRIBUTION = "langchain-core"
VERSIONS = ">=1,<2"
SOURCE = "counted"
COVERS = ("caches",)
LIMITS = ("Look-ups of under 0.1 ms are counted without a span unless OTEL_AGENTPERF_CACHE_SPANS=all is set.",)

_registry = Registry("langchain")
_answered: weakref.WeakKeyDictionary[Any, tuple[str, int]] = weakref.WeakKeyDictionary()
"""by the span of the model call that asked"""


def patch(patches: Patches) -> None:
    """The base only declares its methods, so each class's own are replaced."""
    from langchain_core.caches import BaseCache

    operations: dict[str, Told] = {
        "lookup": _looked_up, "alookup": _looked_up, "update": _stored, "aupdate": _stored,
        "clear": _cleared, "aclear": _cleared,
    }  # fmt: skip
    patch_all_below(patches, BaseCache, {name: functools.partial(_replace, told) for name, told in operations.items()})
    _registry.switch(on=True)


def unpatch() -> None:
    """Stop counting."""
    _registry.switch(on=False)


Told = Callable[[Any, tuple[Any, ...], dict[str, Any], Any, float], None]
"""(cache, args, kwargs, result, started) → nothing"""


def _replace(told: Told, patches: Patches, cls: type, name: str) -> None:
    is_base = cls.__module__ == "langchain_core.caches" and cls.__name__ == "BaseCache"
    # The base's async methods run the sync ones elsewhere.
    if inspect.isfunction(vars(cls)[name]) and not is_base:
        is_async = inspect.iscoroutinefunction(vars(cls)[name])
        patches.change(cls, name, functools.partial(_async if is_async else _sync, told))


def _sync(told: Told, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return original(self, *args, **kwargs)
        started = perf_counter()
        token = asked_for.set(True)
        try:
            result = original(self, *args, **kwargs)
        except BaseException as error:
            _failed(self, told, args, kwargs, started, error)
            raise
        finally:
            reset(token)
        with _guard.guard("langchain_caches"):
            told(self, args, kwargs, result, started)
        return result

    return call


def _async(told: Told, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if asked_for.get():
            return await original(self, *args, **kwargs)
        started = perf_counter()
        token = asked_for.set(True)
        try:
            result = await original(self, *args, **kwargs)
        except BaseException as error:
            _failed(self, told, args, kwargs, started, error)
            raise
        finally:
            reset(token)
        with _guard.guard("langchain_caches"):
            told(self, args, kwargs, result, started)
        return result

    return call


def _key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Prompt and model, as `lookup` and `update` take them."""
    named = [kwargs[name] for name in ("prompt", "llm_string") if name in kwargs]
    return (*args, *named)[:2]


def _looked_up(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, started: float) -> None:
    found = result is not None
    lookups = _registry.of(cache)
    lookups.looked_up(_key(args, kwargs), found, started)
    if found:
        _note_hit(lookups.name)


def _note_hit(name: str) -> None:
    """Remember for the model call that may have asked that an answer came from here."""
    span: Any = get_current_span()
    if getattr(span, "kind", None) is SpanKind.CLIENT:
        answers = _answered.get(span, (name, 0))[1]
        _answered[span] = (name, answers + 1)


def answered_from(span: Any) -> tuple[str, int]:
    """The cache, and how many answers of the model call with that span came from it."""
    return _answered.get(span, ("", 0))


def _stored(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, started: float) -> None:
    _registry.of(cache).stored(_key(args, kwargs), started)


def _cleared(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, started: float) -> None:
    _registry.of(cache).deleted(None, started, "clear")


def _failed(
    cache: Any, told: Told, args: tuple[Any, ...], kwargs: dict[str, Any], started: float, error: BaseException
) -> None:
    operation = "get" if told is _looked_up else "set" if told is _stored else "clear"
    _registry.of(cache).failed(operation, _key(args, kwargs), started, error)
