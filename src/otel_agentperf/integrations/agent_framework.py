"""Microsoft Agent Framework: its own spans, completed; or ours, where it makes none that we see.

It traces agents, model calls, tools and workflows by default. What we add is the hash of arguments and results, that a
workflow's run is a workflow, and silence on docstrings. Whatever it does not trace gets spans of ours: everything
where the user switched its instrumentation off or sent it elsewhere, and agents and clients without its telemetry
layers.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture.callables import Description, TracedCallable, like
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_coroutine, stop_inner
from ..capture.tracing import state
from ..capture.usage import get
from ._native_spans import Completion, current_span, goes_nowhere, reaches_us
from ._response_streams import watch_stream
from ._subclasses import patch_all_below

TITLE = "Microsoft Agent Framework"
MODULES = ("agent_framework",)
DISTRIBUTION = "agent-framework-core"
VERSIONS = ">=1,<2"
SOURCE = "native"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs")
PARTS = (
    "agent_framework._agents", "agent_framework._clients", "agent_framework._tools",
    "agent_framework._workflows._workflow", "agent_framework._workflows._functional",
    "agent_framework._workflows._workflow_builder", "agent_framework.observability",
)  # fmt: skip
LIMITS = ()

_SCOPE = "agent_framework"
_WORKFLOW_RUN = "workflow.run"
_CONTENT = frozenset(
    {"gen_ai.tool.description", "gen_ai.agent.description", "gen_ai.tool.definitions", "workflow.description"}
)
"""attributes that hold docstrings, whatever the framework's own switch for content says"""
_WRITES = ("set_attribute", "set_attributes", "set_status", "add_event", "record_exception")
_inner_streams: weakref.WeakKeyDictionary[Any, list[weakref.ref[Any]]] = weakref.WeakKeyDictionary()
"""the spans of streams that are open, each with those of streams inside it"""

_call_id: ContextVar[Any] = ContextVar("agentperf_agent_framework_call_id", default=None)


def patch(patches: Patches) -> None:
    """Each part when the framework imports it, which it does when a name of it is first used."""
    parts = (_patch_agents, _patch_clients, _patch_tools, _patch_workflows, _patch_functional, _patch_builder,
             _patch_attributes)  # fmt: skip
    for module, patch_part in zip(PARTS, parts, strict=True):
        when_imported((module,), partial(patch_part, patches, module))


def _patch_agents(patches: Patches, module: str) -> None:
    from agent_framework._agents import BaseAgent

    def patch_agent(patches: Patches, agent: type, method: str) -> None:
        patches.wrap(agent, method, partial(_run, agent))

    patch_all_below(patches, BaseAgent, {"run": patch_agent})


def _patch_clients(patches: Patches, module: str) -> None:
    from agent_framework._clients import BaseChatClient

    def patch_client(patches: Patches, client: type, method: str) -> None:
        patches.wrap(client, method, _ask)

    patch_all_below(patches, BaseChatClient, {"_inner_get_response": patch_client})


def _patch_tools(patches: Patches, module: str) -> None:
    patches.wrap(module, "FunctionTool.invoke", _invoke)
    patches.trace(module, "FunctionTool._invoke_function", _tool, None, _begin_tool)
    patches.wrap(module, "get_function_span_attributes", _without_content)


def _patch_workflows(patches: Patches, module: str) -> None:
    patches.wrap(module, "start_workflow_span", _workflow_span)
    patches.wrap(module, "_activate_span", _activated_for_a_workflow)
    patches.trace(module, "Workflow._run_workflow_with_tracing", _workflow, _ended_without_result)


def _patch_functional(patches: Patches, module: str) -> None:
    patches.wrap(module, "start_workflow_span", _workflow_span)
    patches.wrap(module, "_activate_span", _activated_for_a_workflow)
    patches.trace(module, "FunctionalWorkflow._run_core", _workflow, _ended_without_result)


def _patch_builder(patches: Patches, module: str) -> None:
    patches.wrap(module, "create_workflow_span", _silent)


def _patch_attributes(patches: Patches, module: str) -> None:
    patches.wrap(module, "_get_span_attributes", _without_content)
    patches.wrap(module, "_get_span", _open_span)
    patches.wrap(module, "_start_streaming_span", _stream_span)
    patches.wrap(module, "_activate_span", _activated)


# --- the framework's spans ------------------------------------------------------------------------------


def _is_native() -> bool:
    """Does the framework make spans, and do we see them?"""
    from agent_framework.observability import OBSERVABILITY_SETTINGS

    return OBSERVABILITY_SETTINGS.ENABLED and reaches_us(_tracer())


def _tracer() -> Any:
    from agent_framework.observability import get_tracer

    return get_tracer()


def _has_layer(instance: Any, layer: str) -> bool:
    return any(base.__name__ == layer for base in type(instance).__mro__)


def _without_content(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    attributes = wrapped(*args, **kwargs)
    with _guard.guard("agent_framework.attributes"):
        if _is_native():
            _clean(attributes)
    return attributes


def _clean(attributes: dict[str, Any]) -> None:
    """Without docstrings, and without a call id that says that there is none."""
    if not state.config.content:
        for key in _CONTENT & attributes.keys():
            del attributes[key]
    if attributes.get(names.GEN_AI_TOOL_CALL_ID) == "unknown":
        del attributes[names.GEN_AI_TOOL_CALL_ID]


def _workflow_span(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The span of a workflow's run, which says so from its start."""
    with _guard.guard("agent_framework.workflow"):
        name = kwargs.get("name", args[0] if args else None)
        given = kwargs.get("attributes", args[1] if len(args) > 1 else None)
        if name == _WORKFLOW_RUN and _is_native():
            attributes = dict(given or {})
            _clean(attributes)
            attributes[names.GEN_AI_OPERATION_NAME] = names.INVOKE_WORKFLOW
            attributes[names.GEN_AI_WORKFLOW_NAME] = _workflow_name(attributes.get("workflow.name"))
            args = (name, attributes, *args[2:])
            kwargs = {key: value for key, value in kwargs.items() if key not in ("name", "attributes")}
    return wrapped(*args, **kwargs)


def _workflow_name(name: Any) -> str:
    """One that nobody named has a number of its own each time."""
    return name if isinstance(name, str) and name and not name.startswith("WorkflowBuilder-") else "workflow"


def _stream_span(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The span of a stream, which takes with it those of streams inside.

    Where a reader forgets a stream, the framework ends the outer span first, and goes on to write on the inner one.
    """
    outer = get_current_span()
    span = wrapped(*args, **kwargs)
    with _guard.guard("agent_framework.stream_span"):
        if span.is_recording() and reaches_us(span):
            _inner_streams[span] = []
            _inner_streams.get(outer, []).append(weakref.ref(span))
            span.end = partial(_end_stream_span, weakref.ref(span), span.end.__func__)
    return span


def _end_stream_span(reference: weakref.ref[Any], end: Callable[..., None], end_time: int | None = None) -> None:
    span = reference()
    if span is None or not span.is_recording():
        return
    for inner in _inner_streams.pop(span, ()):
        stream = inner()
        if stream is not None:
            stream.end(end_time)
    stop_inner(Completion("llm", span))
    end(span, end_time)
    for name in _WRITES:
        setattr(span, name, _written_too_late)


def _written_too_late(*args: Any, **kwargs: Any) -> None:
    """Nobody reads it any more, and the SDK would warn."""


def _activated(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A span that nobody records is not made current: it would hide ours."""
    hides = False
    with _guard.guard("agent_framework.activate"):
        span = kwargs.get("span", args[0] if args else None)
        hides = isinstance(span, NonRecordingSpan) and goes_nowhere(_tracer())
    return nullcontext() if hides else wrapped(*args, **kwargs)


def _activated_for_a_workflow(
    wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    activated = _activated(wrapped, instance, args, kwargs)
    return _telling_of_cancellation(activated, kwargs.get("span", args[0] if args else None))


def _open_span(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _telling_of_cancellation(wrapped(*args, **kwargs))


@contextmanager
def _telling_of_cancellation(opened: Any, span: Any = None) -> Iterator[Any]:
    """The framework tells of its spans what failed, but not what was cancelled."""
    with opened as entered:
        try:
            yield entered
        except asyncio.CancelledError as error:
            with _guard.guard("agent_framework.cancelled"):
                cancelled = entered if span is None else span
                if reaches_us(cancelled):
                    Completion("agent", cancelled).fail(error)
            raise


def _silent(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Building a workflow is no run, and its span would hold the whole definition."""
    silent = False
    with _guard.guard("agent_framework.build"):
        silent = _is_native()
    return nullcontext(INVALID_SPAN) if silent else wrapped(*args, **kwargs)


def _workflow(workflow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    return None if _is_native() else ("workflow", _workflow_name(get(workflow, "name")), None, None)


def _ended_without_result(invocation: Invocation, result: Any) -> Any:
    """Events are not kept, so there is no result to compare."""
    invocation.stop()
    return result


# --- agents ---------------------------------------------------------------------------------------------


def _run(owner: type, wrapped: Callable[..., Any], agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    description = _agent(owner, agent, args, kwargs)
    if description is None:
        return wrapped(*args, **kwargs)
    return _traced(partial(start, *description), wrapped, args, kwargs, _agent_ended)


@_guard.guarded("agent_framework.agent", None)
def _agent(owner: type, agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """None: the framework makes the span, or this is a base's method that the agent's own one calls."""
    patched = (cls for cls in type(agent).__mro__ if isinstance(vars(cls).get("run"), TracedCallable))
    if next(patched, owner) is not owner or (_has_layer(agent, "AgentTelemetryLayer") and _is_native()):
        return None
    given = kwargs.get("messages", args[0] if args else None)
    return "agent", get(agent, "name") or get(agent, "id") or "agent", None, _said(given)


def _said(given: Any) -> Any:
    """What messages say, without the ids that make every one differ."""
    if isinstance(given, str) or given is None:
        return given
    messages = given if isinstance(given, (list, tuple)) else (given,)
    return [message if isinstance(message, str) else _message(message) for message in messages]


def _message(message: Any) -> Any:
    contents = get(message, "contents")
    return [_content(part) for part in contents] if contents else get(message, "text")


def _content(part: Any) -> list[Any]:
    fields = (get(part, field) for field in ("type", "text", "name", "arguments", "result"))
    return [field for field in fields if field is not None]


def _agent_ended(invocation: Invocation, answer: Any) -> Any:
    said = get(answer, "text")
    invocation.stop(*([] if said is None else [said]))
    return answer


def _traced(
    begin: Callable[[], Invocation | None],
    wrapped: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ended: Callable[[Invocation, Any], Any],
) -> Any:
    """A call that gives a coroutine, or a stream where it was asked for one."""
    made = wrapped(*args, **kwargs)
    if hasattr(made, "with_pull_context_manager"):
        return watch_stream(begin, made)
    if hasattr(made, "__await__"):
        return like(made, drive_coroutine(begin, made, ended))
    return made


# --- models ---------------------------------------------------------------------------------------------


def _ask(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    span = description = None
    with _guard.guard("agent_framework.model"):
        description = _model(client, kwargs)
        span = current_span(_SCOPE, names.CHAT)
    if span is not None:
        Completion("llm", span).arguments(description[3] if description else None)
    if span is not None or description is None:
        return wrapped(*args, **kwargs)
    return _traced(partial(start, *description), wrapped, args, kwargs, _answered)


def _model(client: Any, kwargs: dict[str, Any]) -> Description:
    model = get(kwargs.get("options") or {}, "model") or get(client, "model")
    provider = get(client, "otel_provider_name") or get(client, "OTEL_PROVIDER_NAME")
    attributes = {names.GEN_AI_PROVIDER_NAME: provider} if isinstance(provider, str) and provider else None
    name = model if isinstance(model, str) and model else type(client).__name__
    return "llm", name, attributes, _said(kwargs.get("messages"))


def _answered(invocation: Invocation, answer: Any) -> Any:
    """A client without its own streams may give one here, too."""
    if hasattr(answer, "with_pull_context_manager"):
        return watch_stream(lambda: invocation, answer)
    told = get(answer, "usage_details") or {}
    invocation.usage(*(get(told, f"{kind}_token_count") for kind in _USAGE))
    said = get(answer, "text")
    invocation.stop(*([] if said is None else [said]))
    return answer


_USAGE = ("input", "output", "cache_read_input", "cache_creation_input")


# --- tools ----------------------------------------------------------------------------------------------


def _invoke(wrapped: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    return like(made, _knowing(kwargs.get("tool_call_id"), made))


async def _knowing(call_id: Any, work: Any) -> Any:
    """The tool's own function is called deeper down, where its call's id is not told."""
    _call_id.set(call_id)
    return await work


def _tool(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    given = dict(kwargs.get("call_kwargs", args[0] if args else {}))
    given.pop(get(tool, "_context_parameter_name"), None)
    call_id = _call_id.get()
    return "tool", tool.name, {names.GEN_AI_TOOL_CALL_ID: call_id} if call_id else None, given


def _begin_tool(kind: Any, name: str, attributes: Any, arguments: Any) -> Invocation | None:
    span = current_span(_SCOPE, names.EXECUTE_TOOL)
    if span is None:
        return start(kind, name, attributes, arguments)
    invocation = Completion("tool", span)
    invocation.arguments(arguments)
    return invocation
