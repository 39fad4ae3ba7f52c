"""Google's Agent Development Kit: its own spans, which are on by default, completed by what they lack.

Theirs have names, parents, tokens and ids right. They do not tell what tools were called with and what they gave, nor
that one failed whose error a callback or the tool itself turned into an answer; they do not tell cancellation; and
the span of a model that gives no finish reason lasts until the tools it asked for have run.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import sys
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from types import TracebackType
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import INVALID_SPAN, Span, get_current_span, set_span_in_context

from .. import _guard
from ..capture.patching import Patches, when_imported
from ..capture.usage import get
from ..model import Kind
from ._native_spans import Completion, completion, end_at
from ._spans import named_error

MODULES = ("google.adk.telemetry._instrumentation",)
DISTRIBUTION = "google-adk"
VERSIONS = ">=2.13,<3"
SOURCE = "native"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs")
LIMITS = (
    "ADK traces with the global tracer provider, whatever instrument(tracer_provider=…) is given: set the global one.",
    "Live (bidirectional) sessions show their tools, but no model calls; run_async shows both.",
    "ADK puts the text of exceptions on its spans.",
)

_MODULE = MODULES[0]
_ERRORS = "google.adk.flows.llm_flows.tools._error_handler"
_RUNNERS = "google.adk.runners"
_NODES = "google.adk.telemetry.node_tracing"
_MARK = "_agentperf_call"


def patch(patches: Patches) -> None:
    """What opens ADK's spans, and what it asks about a tool that raised."""
    patches.wrap(_MODULE, "record_invocation", _invocation)
    patches.wrap(_MODULE, "record_agent_invocation", _agent)
    patches.wrap(_MODULE, "record_tool_execution", _tool)
    patches.wrap(_MODULE, "record_inference_telemetry", _model)
    patches.wrap(_MODULE, "InferenceScope.record_llm_response", _response)
    patches.wrap(_ERRORS, "run_on_tool_error_callbacks", _tool_raised)
    when_imported((_RUNNERS,), partial(_patch_runner, patches))
    when_imported((_NODES,), partial(patches.wrap, _NODES, "start_as_current_node_span", _node))


def _patch_runner(patches: Patches) -> None:
    """Private, and only it knows a run that was cancelled from one that was left."""
    if hasattr(sys.modules[_RUNNERS].Runner, "_cleanup_root_task"):
        patches.wrap(_RUNNERS, "Runner._cleanup_root_task", _cleaned_up)
    patches.wrap(_RUNNERS, "Runner.run_async", _streamed)


class _Around:
    """One of ADK's context managers, with a look at its span when it has been entered and before it is left."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._context: Any = None
        """the span's, where that is not the current one"""

    def __enter__(self) -> Any:
        return self._entered(self._inner.__enter__())

    def __exit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> Any:
        self._leaving(error)
        return self._inner.__exit__(kind, error, trace)

    async def __aenter__(self) -> Any:
        return self._entered(await self._inner.__aenter__())

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: TracebackType | None) -> Any:
        self._leaving(error)
        return await self._inner.__aexit__(kind, error, trace)

    def _entered(self, value: Any) -> Any:
        with _guard.guard("google_adk.entered"):
            return self.entered(value)
        return value

    def _leaving(self, error: BaseException | None) -> None:
        with _guard.guard("google_adk.leaving"):
            self.leaving(None if error is not None and self.left_by_reader(error) else error)

    def left_by_reader(self, error: BaseException) -> bool:
        """A stream that its reader closes early ended well."""
        if isinstance(error, GeneratorExit):
            return True
        run = _run_of(self._context)
        return isinstance(error, asyncio.CancelledError) and run is not None and run.was_left()

    def entered(self, value: Any) -> Any:
        """Look at what the manager gave; returns what its user gets."""
        raise NotImplementedError

    def leaving(self, error: BaseException | None) -> None:
        raise NotImplementedError


class _Run:
    """One invocation of a runner, carried in its context: was it cancelled, or did its reader have enough?"""

    __slots__ = ("_outer", "_stream", "left")

    def __init__(self, outer: Any) -> None:
        self._outer = outer if isinstance(outer, _Run) else None
        self._stream = _stream_underway()
        self.left = False

    def was_left(self) -> bool:
        """Its agents run in a task; where that is cancelled while nobody waits for an event, an event loop ends."""
        stream = self._stream() if self._stream is not None else None
        unread = self._stream is not None and (stream is None or not stream.ag_running)
        return self.left or unread or (self._outer is not None and self._outer.was_left())


_streams: weakref.WeakSet[Any] = weakref.WeakSet()
"""the streams of events that `Runner.run_async` gave, as long as somebody holds them"""


def _streamed(wrapped: Callable[..., Any], runner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    events = wrapped(*args, **kwargs)
    with _guard.guard("google_adk.streamed"):
        _streams.add(events)
    return events


def _stream_underway() -> Any:
    """The stream, as a weak reference, whose step this is: its frame is among those of our callers."""
    frames = {stream.ag_frame: stream for stream in list(_streams)}
    frame: Any = sys._getframe(1)
    while frame is not None and frame not in frames:
        frame = frame.f_back
    return weakref.ref(frames[frame]) if frame is not None else None


_RUN = context_api.create_key("agentperf_google_adk_run")


def _run_of(context: Any = None) -> _Run | None:
    run = context_api.get_value(_RUN, context)
    return run if isinstance(run, _Run) else None


class _Cancellable(_Around):
    """An agent or a whole invocation: ADK tells of every error but a cancellation."""

    def __init__(self, inner: Any, kind: Kind) -> None:
        super().__init__(inner)
        self._kind = kind

    def entered(self, value: Any) -> Any:
        self._context = value.otel_context
        return value

    def leaving(self, error: BaseException | None) -> None:
        if error is None or isinstance(error, Exception) or self._context is None:
            return  # what is an Exception, ADK tells itself
        call = completion(self._kind, get_current_span(self._context))
        if call is not None:
            call.fail(error)


class _Invocation(_Cancellable):
    """The outermost span of an invocation; its context is handed on by value."""

    def entered(self, value: Any) -> Any:
        outer, scope = value
        self._context = context_api.set_value(_RUN, _Run(context_api.get_value(_RUN, outer)), outer)
        return self._context, scope

    def left_by_reader(self, error: BaseException) -> bool:
        return _was_closed(error) or super().left_by_reader(error)


def _was_closed(error: BaseException | None) -> bool:
    """Did the reader of the events stop reading? `Runner.run`, which reads in a thread, says so in words."""
    closed = getattr(sys.modules.get(_RUNNERS), "_CALLER_CLOSED_EARLY_MSG", None)
    if not isinstance(error, asyncio.CancelledError):
        return isinstance(error, GeneratorExit)
    return closed is not None and error.args[:1] == (closed,)


def _cleaned_up(wrapped: Callable[..., Any], runner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The runner cancels the task that its agents run in, whether it was cancelled itself or only left."""
    return _noting_why(wrapped(*args, **kwargs))


async def _noting_why(coroutine: Any) -> Any:
    run = _run_of()
    if run is not None and _was_closed(sys.exc_info()[1]):
        run.left = True
    return await coroutine


def _invocation(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _Invocation(wrapped(*args, **kwargs), "workflow")


def _agent(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _Cancellable(wrapped(*args, **kwargs), "agent")


class _ToolCall(_Around):
    """The execution of a tool, with the callbacks around it."""

    def __init__(self, inner: Any, given: Any) -> None:
        super().__init__(inner)
        self.span: Span = INVALID_SPAN
        self.raised: BaseException | None = None
        """what the tool raised, whether or not somebody answers for it"""
        self._given = given
        self._scope: Any = None
        self._call: Completion | None = None
        self._outer: _ToolCall | None = None

    def entered(self, value: Any) -> Any:
        self._scope = value
        self._outer = _running.get()
        _running.set(self)
        self.span = get_current_span()
        self._call = completion("tool", self.span, self._given)
        return value

    def leaving(self, error: BaseException | None) -> None:
        _running.set(self._outer)  # not `reset`: a forgotten coroutine is closed in some other context
        if self._call is None:
            return
        event = get(self._scope, "function_response_event")
        response = _response_of(event)
        if response is not None:
            self._call.result(response)
        error = error or self.raised or _told_error(get(self._scope, "error_type"), event, response)
        if error is None:
            self._call.stop()
        else:
            self._call.fail(error)


_running: ContextVar[_ToolCall | None] = ContextVar("otel_agentperf_google_adk", default=None)


def _tool(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = kwargs.get("function_args", args[2] if len(args) > 2 else None)
    return _ToolCall(wrapped(*args, **kwargs), given)


def _node(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An agent or another node that is about to run."""
    with _guard.guard("google_adk.node"):
        args = (_below_tool(args[0]), *args[1:])
    return wrapped(*args, **kwargs)


def _below_tool(parent: Any) -> Any:
    """The context of a tool that runs the node itself was made before the tool's span: ADK would put the node beside
    the tool that waits for it."""
    running = _running.get()
    if running is None or running.span is not get_current_span():
        return parent
    told, parent = parent.telemetry_context, copy.copy(parent)
    inside = set_span_in_context(running.span, told.otel_context)
    parent._telemetry_context = dataclasses.replace(told, otel_context=inside)
    return parent


def _tool_raised(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    running, error = _running.get(), kwargs.get("error")
    if running is not None and isinstance(error, BaseException):
        running.raised = error
    return wrapped(*args, **kwargs)


def _response_of(event: Any) -> Any:
    parts = get(get(event, "content"), "parts") or ()
    return get(get(parts[0], "function_response"), "response") if parts else None


def _told_error(known: Any, event: Any, response: Any) -> BaseException | None:
    """An error that the tool returned: what ADK recognises, and the form that its documentation gives tools
    (`{"status": "error", …}`, `{"error": …}`). Asking for a confirmation looks the same and is none."""
    if isinstance(known, str) and known:
        return named_error(known)
    actions = get(event, "actions")
    if get(actions, "requested_tool_confirmations") or get(actions, "requested_auth_configs"):
        return None
    status = get(response, "status") if isinstance(response, dict) else None
    failed = isinstance(response, dict) and bool(response.get("error"))
    return named_error("tool_error") if failed or (isinstance(status, str) and status.lower() == "error") else None


class _ModelCall(_Around):
    """One call of a model, streamed or not."""

    def __init__(self, inner: Any, request: Any) -> None:
        super().__init__(inner)
        self._request = request
        self._call: Completion | None = None
        self._last_ns = 0

    def entered(self, value: Any) -> Any:
        span = get(get(value, "span"), "span")
        if span is not None:  # otherwise another instrumentation tells of this call
            self._call = completion("llm", span, get(self._request, "contents"))
        if self._call is not None:
            setattr(value, _MARK, self)
        return value

    def answered(self, response: Any) -> None:
        """The model gave a piece of its answer, or all of it. ADK ends the span where it tells why it stopped."""
        if self._call is None:
            return
        self._last_ns = time.time_ns()
        if get(response, "partial"):
            self._call.chunk()
        else:
            self._call.result([get(get(response, "content"), "parts")])
        code = get(response, "error_code")
        if isinstance(code, str) and code:
            self._call.fail(named_error(code))
        elif get(response, "finish_reason") is not None:
            self._call.stop()

    def leaving(self, error: BaseException | None) -> None:
        if self._call is None:
            return
        if error is not None:
            code = get(error, "code")
            if isinstance(code, int):
                self._call.set("http.response.status_code", code)
            self._call.fail(error)
            return
        self._call.stop()
        if self._last_ns and self._call.span.is_recording():
            end_at(self._call.span, self._last_ns)


def _model(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    request = kwargs.get("llm_request", args[0] if args else None)
    return _ModelCall(wrapped(*args, **kwargs), request)


def _response(wrapped: Callable[..., Any], scope: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("google_adk.response"):
        call = getattr(scope, _MARK, None)
        if isinstance(call, _ModelCall):
            call.answered(kwargs.get("response", args[1] if len(args) > 1 else None))
    return wrapped(*args, **kwargs)
