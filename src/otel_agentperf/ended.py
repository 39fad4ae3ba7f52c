"""What is read off the SDK's spans, in as few looks as possible: this is done for every span."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode


class EndedSpan(NamedTuple):
    """What is kept of a span of ours until its run ends: a third of what the span itself holds."""

    context: SpanContext
    parent: SpanContext | None
    name: str
    attributes: Mapping[str, Any]
    start_ns: int | None
    end_ns: int | None
    status: Status
    scope: InstrumentationScope | None
    resource: Resource
    kind: SpanKind


_STARTED = attrgetter("_context", "_parent", "_name", "_attributes._dict")
_INSIDE = attrgetter("_context", "_parent", "_name", "_attributes._dict", "_start_time", "_end_time", "_status",
                     "_instrumentation_scope", "_resource", "_kind")  # fmt: skip
_OUTSIDE = attrgetter("context", "parent", "name", "attributes", "start_time", "end_time", "status",
                      "instrumentation_scope", "resource", "kind")  # fmt: skip


def started(span: Any) -> tuple[SpanContext, SpanContext | None, str, Mapping[str, Any]]:
    """Context, parent, name and attributes of a span that has just started."""
    try:
        return _STARTED(span)
    except AttributeError:
        return span.get_span_context(), span.parent, span.name, attributes_of(span)


def ended(span: ReadableSpan) -> EndedSpan:
    """In one look at the SDK's fields, which costs a fifth of asking for them one by one."""
    try:
        return tuple.__new__(EndedSpan, _INSIDE(span))
    except AttributeError:
        return EndedSpan(*_OUTSIDE(span))


def exception_type(span: ReadableSpan) -> str | None:
    """The type of the last exception that a failed span recorded. The event itself, which also holds what the
    exception said and its stack, is not kept."""
    if span.status.status_code is not StatusCode.ERROR:
        return None
    recorded = (event.attributes or {} for event in reversed(span.events) if event.name == "exception")
    told = next(recorded, {}).get("exception.type")
    return told if isinstance(told, str) else None


def attributes_of(span: Any) -> Mapping[str, Any]:
    """The attributes as a plain dictionary: reading them through the SDK's proxies costs several times as much."""
    try:
        return span._attributes._dict  # type: ignore[no-any-return]
    except AttributeError:
        return span.attributes or {}
