"""Semantic Kernel: agents, kernel functions, chat and text completion services, group chats and orchestrations.

Its own spans of functions and of the loop around them are always on; those of agents and models only with an
environment variable that is read at import. They hold docstrings and the text of exceptions, and those of streams stay
attached while somebody else's code runs. So we make all spans ourselves, and leave its own out wherever ours go the
same way, unless the program asked for those with content.

A kernel function is a tool, whoever calls it; a prompt as a function only where a model asked for it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description, like
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_async_generator
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import get, usage
from ._native_spans import goes_elsewhere
from ._semantic_kernel_orchestrations import patch_orchestrations, patch_runtime
from ._spans import atapped, own_attributes
from ._subclasses import patch_all_below

TITLE = "Semantic Kernel"
MODULES = ("semantic_kernel",)
DISTRIBUTION = "semantic-kernel"
VERSIONS = ">=1,<2"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs")
PARTS = (
    "semantic_kernel.functions.kernel_function",
    "semantic_kernel.utils.telemetry.model_diagnostics.function_tracer",
    "semantic_kernel.utils.telemetry.model_diagnostics.decorators",
    "semantic_kernel.utils.telemetry.agent_diagnostics.decorators",
    "semantic_kernel.connectors.ai.chat_completion_client_base",
    "semantic_kernel.connectors.ai.text_completion_client_base",
    "semantic_kernel.agents.agent",
    "semantic_kernel.agents.group_chat.agent_group_chat",
    "semantic_kernel.agents.orchestration.orchestration_base",
    "semantic_kernel.agents.orchestration.agent_actor_base",
    "semantic_kernel.agents.runtime.core.telemetry.tracing",
)
LIMITS = ("The messages inside an orchestration's runtime have no spans.",)

_TURN = context_api.create_key("agentperf-semantic-kernel-turn")
"""context key: the agent whose turn it is; a turn that is passed down through its methods is one call"""
_LOOP = "AutoFunctionInvocationLoop"
"""what the framework calls its span of it"""
_HANDOFF = "Handoff"
"""the plugin by which the agents of an orchestration hand over"""
_TRANSFER = "transfer_to_"


def patch(patches: Patches) -> None:
    """Each part when the program imports it."""
    parts: tuple[Callable[[Patches, str], None], ...] = (
        _patch_functions, _patch_function_spans, _patch_diagnostics, _patch_diagnostics, _patch_chats, _patch_texts,
        _patch_agents, _patch_group_chats, patch_orchestrations, patch_orchestrations, patch_runtime,
    )  # fmt: skip
    for module, patch_part in zip(PARTS, parts, strict=True):
        when_imported((module,), partial(patch_part, patches, module))


def _patch_functions(patches: Patches, module: str) -> None:
    patches.trace(module, "KernelFunction.invoke", _function, _function_ended, _begin_function)
    patches.trace(module, "KernelFunction.invoke_stream", _function, _ended_without_result, _begin_function)


def _patch_function_spans(patches: Patches, module: str) -> None:
    patches.wrap(module, "start_as_current_span", _no_function_span)


def _patch_diagnostics(patches: Patches, module: str) -> None:
    tracer = trace.get_tracer(module)

    def enabled(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return wrapped(*args, **kwargs) and not _is_replaced(tracer)

    patches.wrap(module, "are_model_diagnostics_enabled", enabled)


def _patch_chats(patches: Patches, module: str) -> None:
    from semantic_kernel.connectors.ai.chat_completion_client_base import ChatCompletionClientBase

    patch_all_below(patches, ChatCompletionClientBase, {
        "_inner_get_chat_message_contents": _patch_completion,
        "_inner_get_streaming_chat_message_contents": _patch_streamed_completion,
    })  # fmt: skip
    for method in ("get_chat_message_contents", "get_streaming_chat_message_contents"):
        patches.trace(module, f"ChatCompletionClientBase.{method}", _loop, _ended_without_result)
    patches.wrap(module, "ChatCompletionClientBase._start_auto_function_invocation_activity", _no_loop_span)
    patches.wrap(module, "use_span", _used_span)


def _patch_texts(patches: Patches, module: str) -> None:
    from semantic_kernel.connectors.ai.text_completion_client_base import TextCompletionClientBase

    patch_all_below(patches, TextCompletionClientBase, {
        "_inner_get_text_contents": _patch_completion,
        "_inner_get_streaming_text_contents": _patch_streamed_completion,
    })  # fmt: skip


def _patch_completion(patches: Patches, service: type, method: str) -> None:
    patches.trace(service, method, _completion, _completed)


def _patch_streamed_completion(patches: Patches, service: type, method: str) -> None:
    patches.wrap(service, method, _streamed_completion)


def _patch_agents(patches: Patches, module: str) -> None:
    from semantic_kernel.agents.agent import Agent

    patch_all_below(patches, Agent, {
        "get_response": lambda patches, agent, method: patches.trace(agent, method, _agent, _responded, _begin_agent),
        "invoke": _patch_agent_stream,
        "invoke_stream": _patch_agent_stream,
    })  # fmt: skip


def _patch_agent_stream(patches: Patches, agent: type, method: str) -> None:
    patches.trace(agent, method, _agent, _ended_without_result, _begin_agent)


def _patch_group_chats(patches: Patches, module: str) -> None:
    for path in ("AgentGroupChat.invoke", "AgentGroupChat.invoke_stream"):
        patches.trace(module, path, _group_chat, _ended_without_result)


def _ended_without_result(invocation: Invocation, result: Any) -> Any:
    """A stream's items are not kept, so there is no result to compare."""
    invocation.stop()
    return result


# --- the framework's spans ------------------------------------------------------------------------------


@_guard.guarded("semantic_kernel.tracer", False)
def _is_replaced(tracer: Any) -> bool:
    """Would the framework's span stand beside ours? One that is to hold content is the program's own choice."""
    return not goes_elsewhere(tracer) and not _wants_content()


def _wants_content() -> bool:
    from semantic_kernel.utils.telemetry.model_diagnostics.function_tracer import are_sensitive_events_enabled

    return are_sensitive_events_enabled() is True


def _no_function_span(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tracer = kwargs.get("tracer", args[0] if args else None)
    return nullcontext(INVALID_SPAN) if _is_replaced(tracer) else wrapped(*args, **kwargs)


def _no_loop_span(wrapped: Callable[..., Any], service: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from semantic_kernel.connectors.ai import chat_completion_client_base

    return INVALID_SPAN if _is_replaced(chat_completion_client_base.tracer) else wrapped(*args, **kwargs)


def _used_span(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A span that was left out is not made current either: it would hide the one that is."""
    span = kwargs.get("span", args[0] if args else None)
    return nullcontext(span) if span is INVALID_SPAN else wrapped(*args, **kwargs)


# --- agents ---------------------------------------------------------------------------------------------


def _agent(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    given = kwargs.get("messages", args[0] if args else None)
    attributes = {_TURN: agent}
    return "agent", get(agent, "name") or type(agent).__name__, attributes, _said(given)


def _begin_agent(kind: Any, name: str, attributes: Any, arguments: Any) -> Invocation | None:
    """None also: the work of the base's method, which the agent's own one called."""
    agent = attributes[_TURN]
    if context_api.get_value(_TURN) is agent:
        return None
    invocation = start(kind, name, None, arguments)
    if invocation is not None:
        invocation.context = context_api.set_value(_TURN, agent, invocation.context)
    return invocation


def _responded(invocation: Invocation, response: Any) -> Any:
    said = get(get(response, "message"), "content")
    invocation.stop(*([] if said is None else [said]))
    return response


def _group_chat(chat: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """None: the turn of one agent."""
    if kwargs.get("agent", args[0] if args else None) is not None:
        return None
    return "workflow", type(chat).__name__, None, None


def _said(given: Any) -> Any:
    """What messages say, without the ids that make every one differ."""
    if isinstance(given, str) or given is None:
        return given
    messages = get(given, "messages") or (given if isinstance(given, (list, tuple)) else (given,))
    return [message if isinstance(message, str) else _message(message) for message in messages]


def _message(message: Any) -> list[Any]:
    fields = ("text", "name", "arguments", "result")
    said = [[get(item, field) for field in fields] for item in get(message, "items") or ()]
    return [str(get(get(message, "role"), "value") or ""), *said]


# --- functions ------------------------------------------------------------------------------------------


def _function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """None: a prompt that the program runs, which is no more than the model call in it."""
    metadata = kwargs.get("metadata", args[2] if len(args) > 2 else None)
    call_id = get(metadata, "id") if metadata else None
    if call_id is None and get(function, "is_prompt"):
        return None
    identity = {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call_id)} if isinstance(call_id, str) and call_id else None
    given = kwargs.get("arguments", args[1] if len(args) > 1 else None)
    if given is None:
        given = kwargs
    known = [get(parameter, "name") for parameter in get(function, "parameters") or ()]
    return "tool", function.fully_qualified_name, identity, {name: given[name] for name in known if name in given}


def _begin_function(kind: Any, name: str, attributes: Any, arguments: Any) -> Invocation | None:
    """A hand-over is a step, not a tool that somebody wrote; and so is the end of it all."""
    plugin, _, function = name.partition("-")
    if plugin != _HANDOFF or not (function.startswith(_TRANSFER) or function == "complete_task"):
        return start(kind, name, attributes, arguments)
    if context_api.get_value(SUPPRESSED):
        return None
    agent = get(context_api.get_value(_TURN), "name")
    target = function.removeprefix(_TRANSFER)
    step = f"handoff {agent} to {target}" if target != function else f"{function} {agent}"
    return _Step("other", state.tracer.start_span(sanitize.name(step)))


class _Step(Invocation):
    """Neither a call of a model nor of a tool: what it gives is not recorded."""

    __slots__ = ()

    def stop(self, result: Any = None) -> None:
        super().stop()


def _function_ended(invocation: Invocation, result: Any) -> Any:
    invocation.stop(get(result, "value"))
    return result


# --- models ---------------------------------------------------------------------------------------------


def _completion(service: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    given = kwargs.get("chat_history", kwargs.get("prompt", args[0] if args else None))
    settings = kwargs.get("settings", args[1] if len(args) > 1 else None)
    model = get(settings, "ai_model_id") or get(service, "ai_model_id")
    provider = get(service, "MODEL_PROVIDER_NAME")
    attributes = {names.GEN_AI_PROVIDER_NAME: provider} if isinstance(provider, str) and provider else None
    return "llm", model if isinstance(model, str) and model else type(service).__name__, attributes, _said(given)


def _loop(service: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """Model calls and the functions they ask for, where nothing else holds them together."""
    settings = kwargs.get("settings", args[1] if len(args) > 1 else None)
    is_loop = get(get(settings, "function_choice_behavior"), "auto_invoke_kernel_functions") is True
    if not is_loop or kwargs.get("kernel") is None or own_attributes(get_current_span()):
        return None
    return "workflow", _LOOP, None, _said(kwargs.get("chat_history", args[0] if args else None))


def _completed(invocation: Invocation, answers: Any) -> Any:
    """Several answers of one call tell the usage of all of them."""
    if isinstance(answers, list) and answers:
        _tell_usage(invocation, answers)
        invocation.stop([_message(answer) if get(answer, "items") else get(answer, "text") for answer in answers])
    else:
        invocation.stop()
    return answers


def _tell_usage(invocation: Invocation, answers: list[Any]) -> None:
    told = [usage(get(get(answer, "metadata") or {}, "usage")) for answer in answers]
    known = [tokens for tokens in told if tokens.input_tokens or tokens.output_tokens]
    if known:
        invocation.usage(*known[-1])


def _streamed_completion(
    wrapped: Callable[..., Any], service: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    made = wrapped(*args, **kwargs)
    if not hasattr(made, "__anext__"):
        return made
    telling: list[Any] = []

    def look(answers: Any) -> None:
        telling.extend(answer for answer in answers or () if get(get(answer, "metadata") or {}, "usage"))
        del telling[:-1]

    def ended(invocation: Invocation, result: Any) -> Any:
        _tell_usage(invocation, telling)
        invocation.stop()
        return result

    begin = partial(_begin_completion, service, args, kwargs)
    return like(
        made, drive_async_generator(begin, atapped(made, _guard.guarded("semantic_kernel.stream", None)(look)), ended)
    )


@_guard.guarded("semantic_kernel.stream", None)
def _begin_completion(service: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    return start(*_completion(service, args, kwargs))
