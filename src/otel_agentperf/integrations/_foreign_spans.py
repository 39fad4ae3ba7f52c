"""Spans that a library makes by itself: found while they are current, and completed with what only we record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import Span, get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture.invocation import Invocation
from ..capture.tracing import state

_DEEPEST = 4
"""proxies of proxies: the API's tracer, a vendor's, the SDK's"""


class Completed(Invocation):
    """A call whose span is somebody else's: `stop` and `fail` write on it what they know, and its owner ends it."""

    __slots__ = ()

    def _end(self, error: BaseException | None, result: Any) -> None:
        if self._ended:
            return
        self._ended = True
        if self._recording:
            with _guard.guard("completed.end"):
                self._describe(error, result)


def reaches_us(source: Any) -> bool:
    """Do spans of this tracer, or does this span, go where ours go? One that nobody configured goes nowhere; a
    provider of the user's own may have no processor of ours."""
    return _processor(source) is _processor(state.tracer)


def goes_nowhere(tracer: Any) -> bool:
    """Has nobody given it a provider?"""
    return _processor(tracer) is None


def goes_elsewhere(tracer: Any) -> bool:
    """Do its spans go somewhere, but not where ours go?"""
    processor = _processor(tracer)
    return processor is not None and processor is not _processor(state.tracer)


def current_span(scope: str, operation: str) -> Span | None:
    """The current span, where it is one of that instrumentation for that operation, and reaches us."""
    span = get_current_span()
    if not span.is_recording() or getattr(_scope(span), "name", None) != scope:
        return None
    return span if attributes_of(span).get(names.GEN_AI_OPERATION_NAME) == operation and reaches_us(span) else None


def attributes_of(span: Any) -> Mapping[str, Any]:
    """The attributes of a span that is still open."""
    return getattr(span, "attributes", None) or {}


def _scope(span: Any) -> Any:
    return getattr(span, "instrumentation_scope", None) or getattr(span, "_instrumentation_scope", None)


def _processor(source: Any) -> Any:
    """What the spans go through at last, looked for behind proxies; None where there is none."""
    for _ in range(_DEEPEST):
        found = getattr(source, "span_processor", None) or getattr(source, "_span_processor", None)
        if found is not None:
            return found
        inner = (getattr(source, name, None) for name in ("_tracer", "tracer", "span"))
        source = next((one for one in inner if one is not None), None)
        if source is None:
            return None
    return None
