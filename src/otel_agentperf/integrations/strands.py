"""Strands Agents: its own spans, which are on by default, completed by what they lack.

Theirs have names, parents, tokens and ids right. What they lack: the arguments and results of tools, as hashes; the
types of errors; cancellation; the ends of those spans whose stream is left early; and a consumer of a stream that is
not inside the agent. Tools that a program calls itself (`agent.tool.search(…)`) get a span of ours.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry.trace import Span, get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import like
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_async_generator
from ..capture.usage import get
from ..model import Kind
from ._native_spans import Completion, completion, reader_left, watched
from ._spans import atapped, named_error

MODULES = ("strands",)
PARTS = ("strands.multiagent.swarm", "strands.multiagent.graph")
DISTRIBUTION = "strands-agents"
VERSIONS = ">=1.62,<2"
SOURCE = "native"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs")
LIMITS = (
    "Strands traces with the provider that is global when its first agent is made, not that of instrument(…): set it.",
    "Strands puts messages on its spans as events; OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_unredacted_attributes= redacts"
    " them, but not the text of exceptions.",
)

_TRACER = "strands.telemetry.tracer"
_EXECUTOR = "strands.tools.executors._executor"
_STRUCTURED = "strands.tools.structured_output.structured_output_tool"
_THREADING = "opentelemetry.instrumentation.threading"
_LOOP = "strands.event_loop.event_loop"
_PROVIDERS = {
    "AnthropicModel": "anthropic",
    "BedrockModel": "aws.bedrock",
    "GeminiModel": "gcp.gemini",
    "MistralModel": "mistral_ai",
    "OllamaModel": "ollama",
    "OpenAIModel": "openai",
    "OpenAIResponsesModel": "openai",
    "WriterModel": "writer",
}
"""by the class of the model; Strands names itself as the provider"""


def patch(patches: Patches) -> None:
    """What starts and ends Strands' spans, and the streams around them."""
    for kind, path in (("", "start_event_loop_cycle_span"), ("llm", "start_model_invoke_span"),
                       ("tool", "start_tool_call_span"), ("agent", "start_agent_span")):  # fmt: skip
        patches.wrap(_TRACER, f"Tracer.{path}", partial(_started, kind))
    patches.wrap(_TRACER, "Tracer.start_multiagent_span", _several_started)
    patches.wrap(_TRACER, "Tracer.end_event_loop_cycle_span", _cycle_ended)
    patches.wrap(_TRACER, "Tracer.end_model_invoke_span", _model_ended)
    patches.wrap(_TRACER, "Tracer.end_tool_call_span", _tool_ended)
    patches.wrap(_TRACER, "Tracer.end_agent_span", _agent_ended)
    patches.wrap(_TRACER, "Tracer.end_span_with_error", _failed)
    patches.wrap(_TRACER, "Tracer.end_span_with_cancellation", _cancelled)
    patches.wrap(_LOOP, "stream_messages", _model_streamed)
    patches.wrap(_EXECUTOR, "ToolExecutor._stream", _tool_streamed)
    patches.wrap(_STRUCTURED, "StructuredOutputTool.stream", _answer_given)
    patches.wrap("strands.agent.agent", "Agent.stream_async", _stream)
    patches.wrap(_THREADING, "ThreadingInstrumentor.instrument", _unless_instrumented)
    when_imported(PARTS[:1], partial(patches.wrap, PARTS[0], "Swarm.stream_async", _stream))
    when_imported(PARTS[1:], partial(patches.wrap, PARTS[1], "Graph.stream_async", _stream))


class _Open:
    """A span of Strands' that has not ended, and those below it."""

    __slots__ = ("above", "below", "call")

    def __init__(self, above: _Open | None) -> None:
        self.above = above
        self.call: Completion | None = None
        self.below: dict[Span, None] = {}


_KEY = "_agentperf_open"
"""of the span that an `_Open` is about: kept nowhere else, both are forgotten together"""


def _opened(span: Any) -> _Open | None:
    opened: _Open | None = getattr(span, _KEY, None)
    return opened


def _started(
    kind: Kind | str, wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    span = wrapped(*args, **kwargs)
    with _guard.guard("strands.started"):
        if span is not None and span.is_recording():
            parent = _parent(kind, args, kwargs)
            above = _opened(parent)
            opened = _Open(above)
            setattr(span, _KEY, opened)
            if above is not None:
                above.below[span] = None
            if kind:
                given = _given(kind, args, kwargs)
                opened.call = completion(kind, span, given)  # type: ignore[arg-type]
    return span


def _several_started(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A swarm or a graph, which Strands gives no name."""
    span = wrapped(*args, **kwargs)
    with _guard.guard("strands.several_started"):
        instance = kwargs.get("instance", args[1] if len(args) > 1 else None)
        if isinstance(instance, str):
            span.set_attribute(names.GEN_AI_WORKFLOW_NAME, sanitize.name(instance))
    return span


def _parent(kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind in ("llm", "tool"):
        return kwargs.get("parent_span", args[1] if len(args) > 1 else None)
    if kind:
        return None  # an agent ends by itself
    state = kwargs.get("invocation_state", args[0] if args else None)
    return kwargs.get("parent_span", args[2] if len(args) > 2 else None) or get(state, "event_loop_parent_span")


def _given(kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind == "tool":
        return get(kwargs.get("tool", args[0] if args else None), "input")
    return kwargs.get("messages", args[0] if args else None)


def _closed(span: Any) -> Completion | None:
    """What is known of a span that is about to end."""
    opened = _opened(span)
    if opened is None:
        return None
    delattr(span, _KEY)
    if opened.above is not None:
        opened.above.below.pop(span, None)
    return opened.call


def _cycle_ended(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("strands.cycle_ended"):
        _closed(kwargs.get("span", args[0] if args else None))
    return wrapped(*args, **kwargs)


def _model_ended(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("strands.model_ended"):
        call = _closed(kwargs.get("span", args[0] if args else None))
        if call is not None:
            call.stop(get(kwargs.get("message", args[1] if len(args) > 1 else None), "content"))
    return wrapped(*args, **kwargs)


def _tool_ended(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("strands.tool_ended"):
        span: Any = kwargs.get("span", args[0] if args else None)
        result = kwargs.get("tool_result", args[1] if len(args) > 1 else None)
        error = kwargs.get("error", args[2] if len(args) > 2 else None)
        call, raised = _closed(span), sys.exc_info()[1]
        untold = result is None and error is None and raised is not None and not isinstance(raised, Exception)
        if call is not None and untold:  # a cancellation, Ctrl-C, an exit
            _interrupt(call, raised)
            span.end()  # Strands would call it a success
        elif call is not None:
            _end_tool(call, result, error)
    return wrapped(*args, **kwargs)


def _end_tool(call: Completion, result: Any, error: BaseException | None) -> None:
    if result is not None:
        # Without the id of the call, which makes every result differ.
        call.result(get(result, "content"))
    if error is None and get(result, "status") == "error":
        error = named_error("tool_error")
    if error is None:
        call.stop()
    else:
        call.fail(error)


def _agent_ended(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("strands.agent_ended"):
        call = _closed(kwargs.get("span", args[0] if args else None))
        error = kwargs.get("error", args[2] if len(args) > 2 else None)
        response = kwargs.get("response", args[1] if len(args) > 1 else None)
        if call is not None and error is not None:
            call.fail(error)
        elif call is not None:
            call.stop(get(get(response, "message"), "content"))
    return wrapped(*args, **kwargs)


def _failed(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("strands.failed"):
        call = _closed(kwargs.get("span", args[0] if args else None))
        error = kwargs.get("exception", args[2] if len(args) > 2 else None)
        if call is not None and isinstance(error, BaseException):
            call.fail(error)
    return wrapped(*args, **kwargs)


def _cancelled(wrapped: Callable[..., Any], tracer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An agent was cancelled, or its reader left: Strands ends the agent's span, and forgets those below it."""
    with _guard.guard("strands.cancelled"):
        span = kwargs.get("span", args[0] if args else None)
        why = kwargs.get("cancellation", args[1] if len(args) > 1 else None)
        _end_below(span, why)
        call = _closed(span)
        if call is not None:
            _interrupt(call, why)
    return wrapped(*args, **kwargs)


def _end_below(span: Any, why: Any) -> None:
    opened = _opened(span)
    for below in list(opened.below) if opened is not None else ():
        _end_below(below, why)
        call = _closed(below)
        if call is not None:
            _interrupt(call, why)
        if below.is_recording():
            below.end()


def _interrupt(call: Completion, why: Any) -> None:
    if why is None or isinstance(why, GeneratorExit) or reader_left():
        call.stop()
    else:
        call.fail(why)


def _model_streamed(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Called with the model, inside its span."""
    with _guard.guard("strands.model"):
        span, model = get_current_span(), kwargs.get("model", args[0] if args else None)
        opened = _opened(span)
        if opened is not None and model is not None:
            attributes = getattr(span, "attributes", None) or {}
            if names.GEN_AI_REQUEST_MODEL not in attributes:
                span.set_attribute(names.GEN_AI_REQUEST_MODEL, sanitize.name(_model_name(model)))
            provider = _PROVIDERS.get(type(model).__name__)
            if provider is not None:
                span.set_attribute(names.GEN_AI_PROVIDER_NAME, provider)
    return wrapped(*args, **kwargs)


def _model_name(model: Any) -> str:
    told = (get(get(model, "config"), "model_id"), get(model, "model_id"), get(model, "model"))
    return next((name for name in told if isinstance(name, str) and name), type(model).__name__)


def _tool_streamed(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tool that the program calls itself has no tracer, and no span of Strands'."""
    events = wrapped(*args, **kwargs)
    agent = kwargs.get("agent", args[0] if args else None)
    tool_use = kwargs.get("tool_use", args[1] if len(args) > 1 else None)
    # Sessions of another kind trace their tools themselves.
    if kwargs.get("tracer") is not None or not hasattr(agent, "event_loop_metrics") or not isinstance(tool_use, dict):
        return events
    told: list[Any] = []

    def look(event: Any) -> None:
        found = getattr(event, "tool_result", None)
        if found is not None:
            told[:] = [found, getattr(event, "exception", None)]

    def ended(invocation: Invocation, result: Any) -> Any:
        content, error = told or (None, None)
        if content is not None:
            invocation.result(get(content, "content"))
        if error is None and get(content, "status") == "error":
            error = named_error("tool_error")
        if error is None:
            invocation.stop()
        else:
            invocation.fail(error)
        return result

    begin = partial(_begin_tool, tool_use)
    return like(events, drive_async_generator(begin, atapped(events, look), ended))


@_guard.guarded("strands.tool", None)
def _begin_tool(tool_use: dict[str, Any]) -> Invocation | None:
    return start("tool", str(tool_use.get("name")), None, tool_use.get("input"))


def _answer_given(wrapped: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The form that an answer has to have is no tool of the user's, though the model calls it as one."""
    with _guard.guard("strands.structured_output"):
        span = get_current_span()
        if _opened(span) is not None:
            span.set_attribute(names.STEP, True)
    return wrapped(*args, **kwargs)


def _unless_instrumented(wrapped: Callable[..., Any], instance: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Strands switches it on whether or not it is on, which is nothing to warn of."""
    return None if instance.is_instrumented_by_opentelemetry else wrapped(*args, **kwargs)


def _stream(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    events = wrapped(*args, **kwargs)
    return like(events, watched(events))
