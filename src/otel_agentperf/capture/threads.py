"""Context into thread pools: work submitted inside a span becomes its child, not a trace of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from opentelemetry import context as context_api

from .patching import Patches

MODULES = ("concurrent.futures.thread",)


def patch(patches: Patches) -> None:
    """Carry the current context over `ThreadPoolExecutor.submit` (and so `loop.run_in_executor`). Nothing else of
    the caller's context variables is carried; where the work brings its own context, that wins."""
    patches.change(MODULES[0], "ThreadPoolExecutor.submit", partial(_carrying, patches))


def _carrying(patches: Patches, submit: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(submit)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not args:
            return submit(**kwargs)  # which says what is missing
        bound = submit.__get__(args[0])  # another instrumentation's wrapper tells methods by their binding
        context = context_api.get_current()
        if len(args) == 1 or not context or not patches.active:
            return bound(*args[1:], **kwargs)
        return bound(_run_in, context, *args[1:], **kwargs)

    return call


def _run_in(context: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = context_api.attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        context_api.detach(token)
