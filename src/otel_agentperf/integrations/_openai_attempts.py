"""The OpenAI client's own retries: the attempts of a call that was tried again, each as an http span.

The same generator made Anthropic's client, and its retries are the same.
The client retries inside one call, and current versions bring an HTTP library that no instrumentation sees: without
these spans a call refused twice looks like a slow one. A call that is not tried again gets no span here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.invocation import error_type
from ..capture.patching import Patches
from ..capture.tracing import SUPPRESSED, state

_CLIENTS = ("SyncAPIClient", "AsyncAPIClient")
_RETRY_AFTER = ("retry-after", "retry-after-ms")
_SENDS = ("handle_async_request", "handle_request")
"""the method of a transport that http instrumentations wrap"""


class _Target(NamedTuple):
    """Where the attempts of a call go, as their spans tell it."""

    parent: Context
    method: str
    attributes: Mapping[str, Any]


class _Call:
    """One request of the client with all its attempts; never shared, whatever the client is used for at once."""

    __slots__ = ("attempts", "start_ns", "target")

    def __init__(self) -> None:
        self.start_ns = time.time_ns()
        """of the attempt under way; 0 during the wait for the next one"""
        self.attempts = 0
        """that have failed"""
        self.target: _Target | None = None
        """None: nobody looks, or somebody else's instrumentation shows the attempts"""

    @_guard.guarded("openai.attempt", None)
    def refused(self, client: Any, options: Any, response: Any) -> None:
        """The attempt under way has failed, and the client is about to wait."""
        error = sys.exc_info()[1]  # the client waits in its `except` clause
        if self.attempts == 0:
            self.target = _target(client, options, response, error)
            self._start_below()
        self._emit(response, error)
        self.attempts += 1
        self.start_ns = 0

    def again(self) -> None:
        """The wait is over."""
        self.start_ns = time.time_ns()

    @_guard.guarded("openai.attempt", None)
    def ended(self, error: BaseException | None) -> None:
        """No further attempt: the last one tells when the wait ended."""
        if self.attempts and self.start_ns:
            self._emit(getattr(error, "response", None), _origin(error))
        self.start_ns = 0

    def _start_below(self) -> None:
        """The call's span may be the client's own, which starts after us."""
        if self.target is not None:
            call_ns = getattr(get_current_span(self.target.parent), "start_time", None) or 0
            self.start_ns = max(self.start_ns, call_ns + 1)

    def _emit(self, response: Any, error: BaseException | None) -> None:
        if self.target is None:
            return
        parent, method, shared = self.target
        attributes = {**shared, **_outcome(response, error)}
        if self.attempts:
            attributes["http.request.resend_count"] = self.attempts
        span = state.tracer.start_span(method, parent, SpanKind.CLIENT, attributes, start_time=self.start_ns)
        if names.ERROR_TYPE in attributes:
            span.set_status(Status(StatusCode.ERROR))
        span.end(time.time_ns())


_current: ContextVar[_Call | None] = ContextVar("agentperf_client_call", default=None)


def patch_attempts(patches: Patches, base_client: str) -> None:
    """Watch the retries of the clients in the module `base_client`; where a version of it has no such place, they
    stay unseen and all else goes on."""
    module: Any = __import__(base_client, fromlist=["_"])
    found = [getattr(module, client, None) for client in _CLIENTS]
    if not all(hasattr(client, name) for client in found for name in ("request", "_sleep_for_retry")):
        return
    for client, request, wait in zip(_CLIENTS, (_request, _arequest), (_wait, _await), strict=True):
        patches.wrap(base_client, f"{client}.request", request)
        patches.wrap(base_client, f"{client}._sleep_for_retry", wait)


def end_attempts(error: BaseException | None) -> None:
    """The call is over, with `error` if it failed: for clients that end its span before they return."""
    call = _current.get()
    if call is not None:
        call.ended(error)


def _request(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _Call()
    token = _current.set(call)
    error = None
    try:
        return wrapped(*args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        _current.reset(token)
        call.ended(error)
        error = None  # or the exception's traceback would hold this frame, and the frame the exception


async def _arequest(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call, before = _Call(), _current.get()
    _current.set(call)
    error = None
    try:
        return await wrapped(*args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        _current.set(before)  # not `reset`: a forgotten coroutine is closed in some other context
        call.ended(error)
        error = None


def _wait(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _current.get()
    if call is None:
        return wrapped(*args, **kwargs)
    call.refused(client, kwargs.get("options"), kwargs.get("response"))
    result = wrapped(*args, **kwargs)
    call.again()
    return result


async def _await(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _current.get()
    if call is None:
        return await wrapped(*args, **kwargs)
    call.refused(client, kwargs.get("options"), kwargs.get("response"))
    result = await wrapped(*args, **kwargs)
    call.again()
    return result


def _target(client: Any, options: Any, response: Any, error: BaseException | None) -> _Target | None:
    """Below a span that is recorded, and only there: alone, an attempt would be a trace of its own."""
    parent = context_api.get_current()
    if context_api.get_value(SUPPRESSED) or not get_current_span(parent).is_recording():
        return None
    request = getattr(response, "request", None) or _request_of(error)
    if _is_traced(client, request, get_current_span(parent).get_span_context().span_id):
        return None
    method = str(getattr(options, "method", None) or "POST").upper()
    attributes = {"http.request.method": method}
    address = request.url if request is not None else client.base_url
    url = urlsplit(str(address))
    attributes["url.full"] = sanitize.name(f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}")
    if url.hostname:
        attributes["server.address"] = url.hostname
    return _Target(parent, method, attributes)


def _request_of(error: BaseException | None) -> Any:
    try:
        return getattr(error, "request", None)
    except RuntimeError:  # httpx's: the error happened before there was a request
        return None


def _is_traced(client: Any, request: Any, parent_id: int) -> bool:
    """Does an http instrumentation make spans of the attempts? It has wrapped the transport or put one of its own in
    its place, or it has written its span's id into the request (the id of the call's span may be anybody's)."""
    transport = getattr(getattr(client, "_client", None), "_transport", None)
    send = next((found for name in _SENDS if (found := getattr(transport, name, None)) is not None), None)
    if hasattr(send, "__wrapped__") or type(transport).__module__.startswith("opentelemetry."):
        return True
    written = str(getattr(request, "headers", {}).get("traceparent", ""))
    return bool(written) and f"{parent_id:016x}" not in written


def _outcome(response: Any, error: BaseException | None) -> dict[str, Any]:
    """How an attempt ended; nothing of one that worked."""
    status = getattr(response, "status_code", None)
    if not isinstance(status, int):
        return {names.ERROR_TYPE: error_type(error)} if error is not None else {}
    told: dict[str, Any] = {"http.response.status_code": status}
    if status >= 400:
        told[names.ERROR_TYPE] = str(status)
    elif error is not None:
        told[names.ERROR_TYPE] = error_type(error)
    for header in _RETRY_AFTER:
        value = response.headers.get(header)
        if value is not None:
            told[f"http.response.header.{header}"] = [sanitize.name(value)]
    return told


def _origin(error: BaseException | None) -> BaseException | None:
    """What the HTTP library raised, which is what the earlier attempts tell."""
    cause = error.__cause__ if error is not None else None
    return error if cause is None else cause
