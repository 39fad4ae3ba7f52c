"""The OpenAI Agents SDK, through its own tracing: a `TracingProcessor` whose spans are ours.

The SDK starts and finishes its spans in the context that their work runs in, so ours can be current there: a tool's
own spans nest below it. Its trace is a workflow; its task and turn spans are left out, they only repeat it.

Model calls are taken from the `Model` interface instead: custom models emit no span, and a failed attempt that the
SDK tries again shows none either. Where the user switched the SDK's tracing off, its no-op spans tell us the same.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard
from ..capture.callables import Description
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches
from ..capture.streams import drive_async_generator
from ..capture.usage import get
from ._openai_agents_spans import First, Last, OpenSpan, Processor, describe_tool, innermost, record_usage
from ._openai_answers import FAILED, failure
from ._spans import atapped, named_error

MODULES = ("agents",)
DISTRIBUTION = "openai-agents"
VERSIONS = ">=0.24,<1"
SOURCE = "hook"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs")
LIMITS = ("Streamed chat completions carry no tokens unless the model settings have include_usage=True.",)

_processor = Processor()
_first, _last = First(_processor), Last(_processor)


def patch(patches: Patches) -> None:
    """Register with the SDK, whatever its tracing is set to; its own exporter is the user's and stays."""
    if not hasattr(sys.modules["agents"], "add_trace_processor"):
        return  # a package of the user's own that is called so, too
    _patch_disabled(patches)
    _patch_tools(patches)
    _patch_models(patches)
    _processor.active = True
    _surround(sys.modules["agents.tracing"].get_trace_provider())


def unpatch() -> None:
    """Take the processors back; from a provider that keeps its processors elsewhere, they are only switched off. While
    runs are under way, the half stays that ends what has begun."""
    if not _processor.active:
        return
    _processor.active = False
    multi = getattr(sys.modules["agents.tracing"].get_trace_provider(), "_multi_processor", None)
    if multi is not None:
        multi.set_processors([*_others(multi), *([_last] if _processor.is_busy else [])])


def _surround(provider: Any) -> None:
    """Begin before the processors of others and end after them: theirs that make spans make them inside ours. Looked
    after at each trace: `set_trace_processors([...])`, which drops the SDK's exporter, is not meant for us."""
    multi = getattr(provider, "_multi_processor", None)
    if multi is None:
        provider.register_processor(_processor)
    elif len(multi._processors) < 2 or multi._processors[0] is not _first or multi._processors[-1] is not _last:
        multi.set_processors([_first, *_others(multi), _last])


def _others(multi: Any) -> list[Any]:
    return [one for one in multi._processors if one is not _first and one is not _last]


def _patch_disabled(patches: Patches) -> None:
    """Where tracing is switched off, the SDK goes through the same motions with no-op objects."""
    from agents.tracing.spans import NoOpSpan
    from agents.tracing.traces import NoOpTrace

    class SilentSpan(NoOpSpan):  # type: ignore[misc]
        def start(self, mark_as_current: bool = False) -> None:
            _processor.on_span_start(self)
            super().start(mark_as_current)

        def finish(self, reset_current: bool = False) -> None:
            _processor.on_span_end(self)
            super().finish(reset_current)

    class SilentTrace(NoOpTrace):  # type: ignore[misc]
        workflow = ""

        def start(self, mark_as_current: bool = False) -> None:
            _processor.on_trace_start(self)
            super().start(mark_as_current)

        def finish(self, reset_current: bool = False) -> None:
            _processor.on_trace_end(self)
            super().finish(reset_current)

    def create_span(wrapped: Callable[..., Any], provider: Any, args: Any, kwargs: Any) -> Any:
        span = wrapped(*args, **kwargs)
        # Those that are asked for as no-ops only hide another span from the work inside.
        return SilentSpan(span.span_data) if type(span) is NoOpSpan and not kwargs.get("disabled") else span

    def create_trace(wrapped: Callable[..., Any], provider: Any, args: Any, kwargs: Any) -> Any:
        with _guard.guard("openai_agents.processors"):
            if hasattr(provider, "_multi_processor"):
                _surround(provider)
        trace = wrapped(*args, **kwargs)
        if type(trace) is not NoOpTrace or kwargs.get("disabled"):
            return trace
        silent = SilentTrace()
        silent.workflow = kwargs.get("name", args[0] if args else "") or "workflow"
        return silent

    patches.wrap("agents.tracing.provider", "DefaultTraceProvider.create_span", create_span)
    patches.wrap("agents.tracing.provider", "DefaultTraceProvider.create_trace", create_trace)


def _patch_tools(patches: Patches) -> None:
    """Private functions, and only they have the call's id, and the error behind what the model is told."""
    for module, path, wrapper in (
        ("agents.run_internal.tool_execution", "_invoke_function_tool_with_metadata", _tool_invoked),
        ("agents.tool", "maybe_invoke_function_tool_failure_error_function", _tool_failed),
    ):
        if hasattr(sys.modules.get(module), path):
            patches.wrap(module, path, wrapper)


def _patch_models(patches: Patches) -> None:
    """Every implementation of the interface, also those still to be defined: they override what is asked."""
    from agents.models.interface import Model

    def init_subclass(cls: Any, /, **kwargs: Any) -> None:
        super(Model, cls).__init_subclass__(**kwargs)
        if patches.active:
            with _guard.guard("openai_agents.model"):
                _patch_model(patches, cls)

    patches.replace(Model, "__init_subclass__", classmethod(init_subclass))
    waiting = list(Model.__subclasses__())
    while waiting:
        model = waiting.pop()
        _patch_model(patches, model)
        waiting.extend(model.__subclasses__())


def _patch_model(patches: Patches, model: type) -> None:
    if "get_response" in vars(model):
        patches.trace(model, "get_response", _model_call, _model_answered)
    if "stream_response" in vars(model):
        patches.wrap(model, "stream_response", _model_streamed)


def _tool_invoked(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    opened = innermost.get()
    if opened is None or opened.invocation.kind != "tool":
        return wrapped(*args, **kwargs)
    with _guard.guard("openai_agents.tool"):
        describe_tool(opened, kwargs.get("arguments"), get(kwargs.get("context"), "tool_call_id"), None)
        opened.described = True
    return _with_outcome(opened, wrapped(*args, **kwargs))


async def _with_outcome(opened: OpenSpan, coroutine: Any) -> Any:
    outcome = await coroutine
    opened.invocation.result(getattr(outcome, "output", outcome))
    if get(outcome, "is_sdk_generated_error") is True and opened.error is None:
        opened.error = named_error("tool_error")
    return outcome


def _tool_failed(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    opened, error = innermost.get(), kwargs.get("error")
    if opened is not None and opened.invocation.kind == "tool" and isinstance(error, BaseException):
        opened.error = error
    return wrapped(*args, **kwargs)


def _model_call(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    name = getattr(model, "model", None)
    given = kwargs.get("input", args[1] if len(args) > 1 else None)
    return "llm", name if isinstance(name, str) and name else type(model).__name__, None, given


def _model_answered(invocation: Invocation, answer: Any) -> Any:
    record_usage(invocation, get(answer, "usage"))
    invocation.stop()
    return answer


def _model_streamed(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    told: list[Any] = []
    failed: list[BaseException] = []

    def look(event: Any) -> None:
        response = get(event, "response")
        found = get(response, "usage")
        if found is not None:
            told[:] = [found]
        if get(event, "type") in FAILED:
            failed[:] = [failure(response or event)]

    def ended(invocation: Invocation, result: Any) -> Any:
        record_usage(invocation, told[0] if told else None)
        if failed:
            invocation.fail(failed[0])  # the run says so when it has got the event: its error is another's
        else:
            invocation.stop()
        return result

    begin = partial(_begin_stream, model, args, kwargs)
    return drive_async_generator(begin, atapped(wrapped(*args, **kwargs), look), ended)


@_guard.guarded("openai_agents.stream", None)
def _begin_stream(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    return start(*_model_call(model, args, kwargs))
