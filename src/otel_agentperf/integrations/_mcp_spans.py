"""The spans of MCP requests, on the client's and on the server's side, for both major versions of the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

from opentelemetry import context as context_api
from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span, set_span_in_context

from .. import _semconv as names
from .. import sanitize
from ..capture.invocation import Invocation
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import get
from ._spans import own_attributes

CALL = "tools/call"
METHOD = "mcp.method.name"

_here: WeakValueDictionary[int, Span] = WeakValueDictionary()
"""the spans of this process that a request was sent from, by span id"""
_unlinked: WeakValueDictionary[str, Span] = WeakValueDictionary()
"""those whose request carries no trace context, by tool"""


def begin(
    method: str, target: str = "", kind: SpanKind = SpanKind.CLIENT, parent: Context | None = None
) -> Invocation | None:
    """Start a request's span, named as the conventions for MCP name it. None: not traced."""
    if context_api.get_value(SUPPRESSED):
        return None
    target = sanitize.name(target) if target else ""
    attributes = {METHOD: sanitize.name(method)}
    if method == CALL:
        attributes |= {names.GEN_AI_OPERATION_NAME: names.EXECUTE_TOOL, names.GEN_AI_TOOL_NAME: target}
    name = f"{attributes[METHOD]} {target}".strip()
    span = state.tracer.start_span(name, parent, kind, attributes)
    return Invocation("tool" if method == CALL else "other", span)


def is_calling(tool: str) -> bool:
    """Is the current span ours for a call of that tool, seen from the client? One call may go through two layers."""
    span = get_current_span()
    told = own_attributes(span)
    client = getattr(span, "kind", None) is SpanKind.CLIENT
    return client and told.get(METHOD) == CALL and told.get(names.GEN_AI_TOOL_NAME) == sanitize.name(tool)


def has_failed(result: Any) -> bool:
    """A result may be the error."""
    return _field(result, "is_error", "isError") is True


def said(result: Any) -> tuple[Any, ...]:
    """What a tool's result says, as `Invocation.stop` takes it: without what every answer has; nothing for what is
    no result."""
    content = get(result, "content")
    if not isinstance(content, list):
        return ()
    blocks = [
        get(block, "text") or get(block, "data") or get(block, "uri") or get(block, "resource") for block in content
    ]
    return (blocks[0] if len(blocks) == 1 else blocks or _field(result, "structured_content", "structuredContent"),)


def _field(result: Any, name: str, wire_name: str) -> Any:
    """Version 1 names fields as the wire does; where a result has both names, asking for the old one may warn."""
    return get(result, name) if hasattr(result, name) else get(result, wire_name)


def complete(span: Span, arguments: Any, result: Any) -> None:
    """Add to a server's span what the call was given and gave: hashes and sizes, and content where it is on."""
    if not span.is_recording():
        return
    for value, by_identity, keys, content_key in (
        (arguments, True, (names.ARGS_HASH, names.ARGS_SIZE), names.GEN_AI_TOOL_CALL_ARGUMENTS),
        (next(iter(said(result)), None), False, (names.RESULT_HASH, names.RESULT_SIZE), names.GEN_AI_TOOL_CALL_RESULT),
    ):
        if value is None:
            continue
        hashed, size, _, _ = state.hasher.parts(value, by_identity)
        if hashed is not None:
            span.set_attribute(keys[0], hashed)
        if size is not None:
            span.set_attribute(keys[1], size)
        if state.config.content:
            span.set_attribute(content_key, sanitize.content(value, state.config.content_limit, state.redact))


def mark_failed(span: Span, error_type: str) -> None:
    span.set_attribute(names.ERROR_TYPE, error_type)
    span.set_status(Status(StatusCode.ERROR))


def sent_from_here() -> None:
    """Remember the current span: its trace context goes out with a request, perhaps to a server in this process."""
    span = get_current_span()
    if span.get_span_context().is_valid:
        _here[span.get_span_context().span_id] = span


def sent_unlinked(tool: str) -> None:
    """The current span calls that tool without a word of it in the request."""
    _unlinked[tool] = get_current_span()


def unlinked(tool: str) -> Context | None:
    """The context of a call that this process itself makes, where the request does not tell; None: who knows whose."""
    span = _unlinked.get(tool)
    return set_span_in_context(span) if span is not None and span.is_recording() else None


def with_local_parent(context: Context | None) -> Context | None:
    """The same context, with the very span of this process in it where that is the caller: a server in the client's
    own process is no remote one, and what its tools do belongs to the client's run."""
    told = get_current_span(context).get_span_context() if context is not None else None
    span = _here.get(told.span_id) if told is not None and told.is_remote else None
    if span is None or told is None or span.get_span_context().trace_id != told.trace_id:
        return context
    return set_span_in_context(span, context)


def context_of(meta: Any) -> Context | None:
    """The caller's context out of a request's `_meta`; None where that has none."""
    carrier = {
        key: value for key in ("traceparent", "tracestate", "baggage") if isinstance(value := get(meta, key), str)
    }
    context = propagate.extract(carrier) if carrier else None
    if context is None or not get_current_span(context).get_span_context().is_valid:
        return None
    return with_local_parent(context)


def carrier() -> Mapping[str, str]:
    """What `_meta` has to hold for the server to find its caller."""
    told: dict[str, str] = {}
    propagate.inject(told)
    sent_from_here()
    return told
