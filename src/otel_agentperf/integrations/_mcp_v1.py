"""Version 1 of the MCP SDK, which makes no spans and sends no trace context: both as version 2 does it.

Requests other than tool calls (to list, to read, to ask for a prompt) get a span inside something that is traced
only: each would be a trace of its own otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry.trace import SpanKind, get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture.callables import like
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.streams import drive_coroutine
from ..capture.usage import get
from . import _mcp_spans as spans
from ._spans import own_attributes


def patch_sessions(patches: Patches, module: str) -> None:
    patches.wrap(module, "BaseSession.send_request", _sent)
    patches.wrap(module, "RequestResponder.respond", _responded)


def patch_servers(patches: Patches, module: str) -> None:
    patches.wrap(module, "Server._handle_request", _handled)


def _sent(wrapped: Callable[..., Any], session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    request = get(kwargs.get("request", args[0] if args else None), "root")
    return like(wrapped, drive_coroutine(partial(_begin_request, request), _send(wrapped, args, kwargs), _ended))


@_guard.guarded("mcp.request", None)
def _begin_request(request: Any) -> Invocation | None:
    method = get(request, "method")
    if method == spans.CALL or not isinstance(method, str) or not _is_traced():
        return None
    return spans.begin(method, _target(request))


def _target(request: Any) -> str:
    name = get(get(request, "params"), "name")
    return name if isinstance(name, str) else ""


def _is_traced() -> bool:
    return get_current_span().get_span_context().is_valid


async def _send(wrapped: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("mcp.send"):
        if args:
            args = (_with_context(args[0]), *args[1:])
        else:
            kwargs = {**kwargs, "request": _with_context(kwargs["request"])}
    return await wrapped(*args, **kwargs)


def _with_context(request: Any) -> Any:
    """The request with the trace context in its `_meta`, unless the program sends a `_meta` of its own: that must
    arrive as it is."""
    params = request.root.params
    if params is None or not _is_traced():
        return request
    if get(params, "meta") is not None:
        spans.sent_unlinked(_target(request.root))
        return request
    from mcp.types import RequestParams

    params = params.model_copy(update={"meta": RequestParams.Meta(**spans.carrier())})
    # Fields that were not set are left out on the wire, and a copy remembers which were.
    return request.model_copy(update={"root": request.root.model_copy(update={"params": params})})


def _handled(wrapped: Callable[..., Any], server: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    message = kwargs.get("message", args[0] if args else None)
    request = kwargs.get("req", args[1] if len(args) > 1 else None)
    return like(wrapped, drive_coroutine(partial(_begin_served, message, request), wrapped(*args, **kwargs), _ended))


@_guard.guarded("mcp.served", None)
def _begin_served(message: Any, request: Any) -> Invocation | None:
    parent = spans.context_of(get(message, "request_meta")) or spans.unlinked(_target(request))
    method = get(request, "method")
    if not isinstance(method, str) or (method != spans.CALL and parent is None and not _is_traced()):
        return None
    invocation = spans.begin(method, _target(request), SpanKind.SERVER, parent)
    if invocation is not None and method == spans.CALL:
        invocation.arguments(get(get(request, "params"), "arguments") or {})
    return invocation


def _ended(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result


def _responded(wrapped: Callable[..., Any], responder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The answer is written from inside the handler: only here is it seen whether it is an error."""
    with _guard.guard("mcp.responded"):
        _look_at(kwargs.get("response", args[0] if args else None))
    return wrapped(*args, **kwargs)


def _look_at(response: Any) -> None:
    span = get_current_span()
    told = own_attributes(span)
    if spans.METHOD not in told or getattr(span, "kind", None) is not SpanKind.SERVER:
        return
    result, code = get(response, "root"), get(response, "code")
    if result is None and isinstance(code, int):
        spans.mark_failed(span, str(code))
    elif told.get(names.GEN_AI_OPERATION_NAME) == names.EXECUTE_TOOL:
        spans.complete(span, None, result)
        if spans.has_failed(result):
            spans.mark_failed(span, "tool_error")
