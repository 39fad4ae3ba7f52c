"""Pydantic AI: agents, tools, and models of any class; with its own instrumentation, or without.

Its own spans are off unless the program asks for them (`Agent.instrument_all()`, `instrument=`, Logfire). They are
left off: they cannot be had without the tools' descriptions, and cost the whole history, serialized again, for each
request. Where the program did switch them on there are none of ours beside, and theirs are completed with the hashes
of arguments and results.

Any class may be a model; one that only passes requests on to others (`WrapperModel`, `FallbackModel`) is not a call.
Output tools are how a run ends, not tools.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation, attach, detach, start
from ..capture.patching import Patches
from ..capture.usage import Usage, get
from ._native_spans import Completion, current_span, reaches_us
from ._spans import own_attributes
from ._subclasses import patch_all_below

MODULES = ("pydantic_ai",)
DISTRIBUTION = "pydantic-ai-slim"
VERSIONS = ">=2,<3"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs")
LIMITS = (
    "Realtime sessions are shown only where Pydantic AI's own instrumentation is on (Agent.instrument_all()).",
    "An agent that a durable execution engine runs elsewhere (Temporal, DBOS, Prefect) is traced in that process only.",
)

_SCOPE = "pydantic-ai"
_CONTROL_FLOW = frozenset({"CallDeferred", "ApprovalRequired", "SkipToolExecution"})
"""exceptions that say who is to run or to answer the call instead: nothing has failed"""
_TRANSLATIONS = frozenset({"ToolRetryError", "ToolFailedError", "UnexpectedModelBehavior"})
"""exceptions that the framework makes of the tool's own"""
_PASSING_ON = frozenset({"WrapperModel", "FallbackModel"})

_entered: ContextVar[object] = ContextVar("agentperf_pydantic_ai_run", default=None)
_completed: ContextVar[int] = ContextVar("agentperf_pydantic_ai_completed", default=0)
"""the id of the framework's own model span that stands for a request already"""


def patch(patches: Patches) -> None:
    """`Agent.iter`, which every kind of run goes through, tool calls, and each model where it is asked."""
    from pydantic_ai.models import Model

    patches.wrap("pydantic_ai.agent", "Agent.iter", _run)
    patches.trace("pydantic_ai.tool_manager", "ToolManager.execute_tool_call", _tool, None, _begin_tool)
    patches.trace("pydantic_ai.tool_manager", "ToolManager._raw_execute", _running_tool, None, _complete_tool)
    patch_all_below(patches, Model, {"request": _patch_request, "request_stream": _patch_stream})


def _patch_request(patches: Patches, model: type, method: str) -> None:
    if not _passes_on(model):
        patches.trace(model, method, _model, _answered, _begin_model)
    elif model.__name__ == "FallbackModel":
        patches.wrap(model, method, _several)


def _patch_stream(patches: Patches, model: type, method: str) -> None:
    if _is_base(model):
        return  # the framework compares a model's method with this one to know whether it can stream
    if not _passes_on(model):
        patches.wrap(model, method, _streamed)
    elif model.__name__ == "FallbackModel":
        patches.wrap(model, method, _several)


def _is_base(model: type) -> bool:
    return (model.__module__, model.__qualname__) == ("pydantic_ai.models", "Model")


def _passes_on(model: type) -> bool:
    return any(base.__name__ in _PASSING_ON and base.__module__.startswith("pydantic_ai.") for base in model.__mro__)


# --- agents ---------------------------------------------------------------------------------------------


class _Current:
    """A run's span, current until `leave`. Where that happens in another context (a generator that is collected as
    garbage), there is nothing to undo, and OpenTelemetry would log an error."""

    def __init__(self, invocation: Invocation) -> None:
        self._token = attach(invocation)
        self._own_token = _entered.set(self)

    def leave(self) -> None:
        try:
            _entered.reset(self._own_token)
        except ValueError:
            return
        context_api.detach(self._token)


def _run(wrapped: Callable[..., Any], agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    manager = wrapped(*args, **kwargs)
    with _guard.guard("pydantic_ai.run"):
        if not _is_traced(agent, kwargs):
            return _inside(agent, kwargs.get("user_prompt", args[0] if args else None), manager)
    return manager


def _is_traced(agent: Any, kwargs: dict[str, Any]) -> bool:
    """Will the framework make a span of this run, and do we see it?"""
    return any(reaches_us(one.tracer) for one in _settings(agent, kwargs) if hasattr(one, "tracer"))


def _settings(agent: Any, kwargs: dict[str, Any]) -> Iterator[Any]:
    """What the framework's instrumentation is set to: by the model, for the agent, for all agents, by a capability."""
    model = kwargs.get("model") or get(agent, "model")
    instrument = getattr(agent, "instrument", None)
    if instrument is None:
        instrument = getattr(agent, "_instrument_default", None)
    yield getattr(model, "instrumentation_settings", None)
    if instrument is True:
        from pydantic_ai.models.instrumented import InstrumentationSettings

        yield InstrumentationSettings()
    else:
        yield instrument
    for capability in (get(agent, "root_capability"), *(kwargs.get("capabilities") or ())):
        yield from _capability_settings(capability)


def _capability_settings(capability: Any) -> Iterable[Any]:
    """Of the framework's instrumentation among an agent's or a run's capabilities."""
    found: list[Any] = []
    visit = getattr(capability, "apply", None)
    if visit is not None:
        visit(lambda leaf: found.append(leaf.settings) if type(leaf).__name__ == "Instrumentation" else None)
    return found


@asynccontextmanager
async def _inside(agent: Any, prompt: Any, manager: Any) -> AsyncGenerator[Any]:
    """Enter the run inside its span, and end the span when the run is left."""
    invocation = start("agent", get(agent, "name") or "agent", None, prompt)
    if invocation is None:
        async with manager as run:
            yield run
        return
    current = _Current(invocation)
    try:
        async with manager as run:
            yield run
    except GeneratorExit:
        invocation.stop()
        raise
    except BaseException as error:
        invocation.fail(error)
        raise
    finally:
        current.leave()
    result = get(run, "result")
    invocation.stop(*([] if result is None else [get(result, "output")]))


# --- tools ----------------------------------------------------------------------------------------------


class _ToolCall(Invocation):
    """A call whose failure is told by the tool's own exception."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        if type(error).__name__ in _CONTROL_FLOW:
            self.stop()
        else:
            super().fail(_own_error(error))


class _CompletedToolCall(_ToolCall, Completion):
    """The same on the framework's span."""

    __slots__ = ()


def _own_error(error: BaseException) -> BaseException:
    while type(error).__name__ in _TRANSLATIONS and error.__cause__ is not None:
        error = error.__cause__
    return error


def _tool(manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """Also of a call with arguments that are not valid: the framework only raises what is wrong with it. None: of a
    tool that there is not, of a call that is put off, and where the framework makes a span."""
    call = args[0] if args else kwargs["validated"]
    if get(call, "tool") is None or get(call, "deferral") is not None:
        return None
    settings = _capability_settings(get(manager, "root_capability"))
    return None if any(reaches_us(one.tracer) for one in settings) else _described(call)


def _running_tool(manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if current_span(_SCOPE, names.EXECUTE_TOOL) is None:
        return None
    return _described(args[0] if args else kwargs["validated"])


def _described(call: Any) -> Description:
    asked = call.call
    given = call.validated_args if call.validated_args is not None else asked.args
    return "tool", asked.tool_name, {names.GEN_AI_TOOL_CALL_ID: asked.tool_call_id}, given


def _begin_tool(*description: Any) -> Invocation | None:
    invocation = start(*description)
    if invocation is not None:
        invocation.__class__ = _ToolCall
    return invocation


def _complete_tool(kind: Any, name: str, attributes: Any, arguments: Any) -> Invocation | None:
    span = current_span(_SCOPE, names.EXECUTE_TOOL)
    if span is None:
        return None
    invocation = _CompletedToolCall("tool", span)
    invocation.arguments(arguments)
    return invocation


# --- models ---------------------------------------------------------------------------------------------


def _model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if own_attributes(get_current_span()).get(names.GEN_AI_OPERATION_NAME) == names.CHAT:
        return None  # a class's own method calling its base's
    name, provider = get(model, "model_name"), get(model, "system")
    attributes = {names.GEN_AI_PROVIDER_NAME: provider} if isinstance(provider, str) and provider else None
    messages = kwargs.get("messages", args[0] if args else ())
    return "llm", name if isinstance(name, str) and name else type(model).__name__, attributes, _said(messages)


def _said(messages: Iterable[Any]) -> list[Any]:
    """What a history says, without the times and ids that make every one differ."""
    told: list[Any] = []
    for message in messages:
        if get(message, "instructions"):
            told.append(message.instructions)
        told.extend(_part(part) for part in get(message, "parts") or ())
    return told


def _part(part: Any) -> list[Any]:
    fields = (get(part, "part_kind"), get(part, "tool_name"), get(part, "args"), get(part, "content"))
    return [field for field in fields if field is not None]


def _begin_model(*description: Any) -> Invocation | None:
    """The framework's own span stands for the first request that is made inside it."""
    span = current_span(_SCOPE, names.CHAT)
    if span is None or _completed.get() == span.get_span_context().span_id:
        return start(*description)
    _completed.set(span.get_span_context().span_id)
    invocation = Completion("llm", span)
    invocation.arguments(description[3])
    return invocation


def _several(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The framework's span is around all the attempts of a fallback; each of them is a call."""
    with _guard.guard("pydantic_ai.fallback"):
        span = current_span(_SCOPE, names.CHAT)
        if span is not None:
            _completed.set(span.get_span_context().span_id)
    return wrapped(*args, **kwargs)


def _answered(invocation: Invocation, answer: Any) -> Any:
    _record_usage(invocation, get(answer, "usage"))
    invocation.stop([_part(part) for part in get(answer, "parts") or ()])
    return answer


def _record_usage(invocation: Invocation, told: Any) -> None:
    """The framework says 0 where the model did not say. Its own span has its own numbers."""
    fields = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    tokens = Usage(*(value if isinstance(value := get(told, field), int) else None for field in fields))
    if not isinstance(invocation, Completion) and (tokens.input_tokens or tokens.output_tokens):
        read, written = tokens.cache_read_tokens or None, tokens.cache_write_tokens or None
        invocation.usage(tokens.input_tokens, tokens.output_tokens, read, written)


def _streamed(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    manager = wrapped(*args, **kwargs)
    with _guard.guard("pydantic_ai.stream"):
        description = _model(model, args, kwargs)
        if description is not None:
            return _stream(description, manager)
    return manager


@asynccontextmanager
async def _stream(description: Description, manager: Any) -> AsyncGenerator[Any]:
    """The call lasts until the stream is left; while somebody reads it, its span is not theirs."""
    invocation = _begin_model(*description)
    if invocation is None:
        async with manager as response:
            yield response
        return
    began = time.perf_counter()
    response = None
    try:
        async with _EnteredInside(invocation, manager) as response:
            yield response
    except GeneratorExit:
        _end_stream(invocation, response, began)
        raise
    except BaseException as error:
        _tell_stream(invocation, response, began)
        invocation.fail(error)
        raise
    _end_stream(invocation, response, began)


class _EnteredInside:
    """A context manager that is entered with a call's span current, and not otherwise."""

    def __init__(self, invocation: Invocation, manager: Any) -> None:
        self._invocation = invocation
        self._manager = manager

    async def __aenter__(self) -> Any:
        token = attach(self._invocation)
        closing = False
        try:
            return await self._manager.__aenter__()
        except GeneratorExit:
            closing = True
            raise
        finally:
            detach(self._invocation, token, closing)

    async def __aexit__(self, *error: Any) -> Any:
        return await self._manager.__aexit__(*error)


def _end_stream(invocation: Invocation, response: Any, began: float) -> None:
    _tell_stream(invocation, response, began)
    invocation.stop()


@_guard.guarded("pydantic_ai.stream", None)
def _tell_stream(invocation: Invocation, response: Any, began: float) -> None:
    if response is None:
        return
    told = get(response, "usage")
    _record_usage(invocation, told() if callable(told) else told)
    first = get(response, "time_to_first_chunk")
    if not isinstance(invocation, Completion) and first is not None:
        invocation.set(names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, first(began))
