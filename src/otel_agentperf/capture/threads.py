"""Context into thread pools: work submitted inside a span becomes its child, not a trace of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import context as context_api

from .patching import Patches


def patch(patches: Patches) -> None:
    """Carry the current context over `ThreadPoolExecutor.submit` (and so `loop.run_in_executor`). Nothing else of
    the caller's context variables is carried; where the work brings its own context, that wins."""
    patches.wrap("concurrent.futures.thread", "ThreadPoolExecutor.submit", _submit)


def _submit(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    context = context_api.get_current()
    if not args or not context:
        return wrapped(*args, **kwargs)
    return wrapped(_run_in, context, *args, **kwargs)


def _run_in(context: Any, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = context_api.attach(context)
    try:
        return function(*args, **kwargs)
    finally:
        context_api.detach(token)
