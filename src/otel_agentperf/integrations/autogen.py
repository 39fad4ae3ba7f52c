"""AutoGen: agents, teams, tools, workbenches, hand-offs, and model clients of any class.

AutoGen makes spans itself, of agents and of tools, but none of model calls. We make all of them instead, and leave
its own out wherever ours go the same way: they carry docstrings and the text of exceptions, and those of streams stay
attached while somebody else's code runs. So do we with the messages that a team's runtime passes around, each in four
spans with its whole text: what they show is in the agents' spans.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description, like
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_async_generator, drive_coroutine
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import get
from ._answer_caches import looking_up, lookup
from ._native_spans import goes_elsewhere
from ._spans import atapped, mark_failed, own_attributes
from ._subclasses import PatchMethod, patch_all_below

TITLE = "AutoGen"
MODULES = ("autogen_core",)
DISTRIBUTION = "autogen-agentchat"
VERSIONS = ">=0.7,<1"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs", "caches")
PARTS = (
    "autogen_core.models", "autogen_core.tools", "autogen_core._single_threaded_agent_runtime",
    "autogen_agentchat.base", "autogen_agentchat.agents", "autogen_agentchat.teams", "autogen_ext.tools.mcp._workbench",
    "autogen_ext.models.cache",
)  # fmt: skip
LIMITS = (
    "Streamed answers of OpenAI clients carry no tokens unless the client is made with"
    " stream_options={'include_usage': True}.",
    "The messages inside a team's runtime have no spans unless AUTOGEN_DISABLE_RUNTIME_TRACING=false is set.",
)

_TURN = context_api.create_key("agentperf-autogen-turn")
"""context key: the name of the agent whose turn it is; a turn that is passed down through its methods is one call"""
_TEAM = context_api.create_key("agentperf-autogen-team")
"""context key: inside a team's run"""
_HANDOFF = context_api.create_key("agentperf-autogen-handoff")
"""context key: the tool that runs only hands over"""
_CACHE = "ChatCompletionCache"
"""a client that answers itself or passes on: the call is that of the client inside"""

_running: WeakValueDictionary[str, Context] = WeakValueDictionary()
"""the contexts of running teams by the team's id: a runtime that was started before works in a context of its own"""


def patch(patches: Patches) -> None:
    """Each part when the program imports it: models are used without agents, agents without teams."""
    parts = (_patch_models, _patch_tools, _patch_runtime, _patch_chat_agents, _patch_agents, _patch_teams, _patch_mcp,
             _patch_cache)  # fmt: skip
    for module, patch_part in zip(PARTS, parts, strict=True):
        when_imported((module,), partial(patch_part, patches))


def _patch_models(patches: Patches) -> None:
    from autogen_core.models import ChatCompletionClient

    patch_all_below(patches, ChatCompletionClient, {"create": _patch_create, "create_stream": _patch_create_stream})


def _patch_create(patches: Patches, client: type, method: str) -> None:
    if not _passes_on(client):
        patches.trace(client, method, _model, _answered)


def _patch_create_stream(patches: Patches, client: type, method: str) -> None:
    if not _passes_on(client):
        patches.wrap(client, method, _model_streamed)


def _passes_on(client: type) -> bool:
    return any(base.__name__ == _CACHE and base.__module__.startswith("autogen_ext.") for base in client.__mro__)


def _patch_tools(patches: Patches) -> None:
    from autogen_core.tools import BaseTool, Workbench

    _silence(patches, "autogen_core.tools._base", "trace_tool_span")
    patch_all_below(patches, BaseTool, {"run_json": _patch_tool, "run_json_stream": _patch_stream_tool})
    patch_all_below(patches, Workbench, {"call_tool": _patch_workbench, "call_tool_stream": _patch_stream_workbench})


def _patch_tool(patches: Patches, tool: type, method: str) -> None:
    patches.trace(tool, method, _tool, _tool_ended, _begin)


def _patch_stream_tool(patches: Patches, tool: type, method: str) -> None:
    patches.wrap(tool, method, partial(_streamed, _tool, _tool_ended))


def _patch_workbench(patches: Patches, workbench: type, method: str) -> None:
    if not _is_of_tools(workbench):
        patches.trace(workbench, method, _workbench_call, _workbench_ended, _begin)


def _patch_stream_workbench(patches: Patches, workbench: type, method: str) -> None:
    if not _is_of_tools(workbench):
        patches.wrap(workbench, method, partial(_streamed, _workbench_call, _workbench_ended))


def _is_of_tools(workbench: type) -> bool:
    """One that only finds the tool, which is a call of its own."""
    return any(base.__name__ == "StaticWorkbench" for base in workbench.__mro__)


def _patch_runtime(patches: Patches) -> None:
    patches.wrap("autogen_core._telemetry._tracing", "TraceHelper.trace_block", _message_block)


def _patch_chat_agents(patches: Patches) -> None:
    from autogen_agentchat.base import ChatAgent

    whole, stream = _patch_agent, _patch_agent_stream
    methods: dict[str, PatchMethod] = {
        "run": whole,
        "on_messages": whole,
        "run_stream": stream,
        "on_messages_stream": stream,
    }
    patch_all_below(patches, ChatAgent, methods)


def _patch_agent(patches: Patches, agent: type, method: str) -> None:
    patches.trace(agent, method, _agent, _agent_ended, _begin)


def _patch_agent_stream(patches: Patches, agent: type, method: str) -> None:
    patches.wrap(agent, method, partial(_streamed, _agent, _agent_ended))


def _patch_agents(patches: Patches) -> None:
    module = "autogen_agentchat.agents._base_chat_agent"
    _silence(patches, module, "trace_create_agent_span")
    _silence(patches, module, "trace_invoke_agent_span")
    patches.wrap("autogen_agentchat.agents", "AssistantAgent._execute_tool_call", _tool_asked_for)


def _patch_teams(patches: Patches) -> None:
    group_chat = "autogen_agentchat.teams._group_chat"
    _silence(patches, f"{group_chat}._chat_agent_container", "trace_invoke_agent_span")
    patches.wrap("autogen_agentchat.teams", "BaseGroupChat.run_stream", _team_run)
    module = f"{group_chat}._sequential_routed_agent"
    patches.wrap(module, "SequentialRoutedAgent.on_message_impl", _message_handled)


def _patch_mcp(patches: Patches) -> None:
    _silence(patches, "autogen_ext.tools.mcp._workbench", "trace_tool_span")


def _patch_cache(patches: Patches) -> None:
    patches.wrap("autogen_ext.models.cache", f"{_CACHE}._check_cache", looking_up(_look_up, _looked_up))


# --- AutoGen's own spans --------------------------------------------------------------------------------


def _silence(patches: Patches, module: str, function: str) -> None:
    """Leave out what `function` traces where ours would stand beside it."""
    tracer = trace.get_tracer("autogen-core")

    def silent(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return wrapped(*args, **kwargs) if goes_elsewhere(tracer) else nullcontext(INVALID_SPAN)

    patches.wrap(module, function, silent)


def _message_block(wrapped: Callable[..., Any], helper: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A message on its way: none of a team's, and of others not what it says."""
    with _guard.guard("autogen.message"):
        if not goes_elsewhere(helper.tracer):
            told = kwargs.get("attributes")
            destination = kwargs.get("destination", args[1] if len(args) > 1 else None)
            if _is_unwanted() and _is_of_team(destination, told):
                return nullcontext(INVALID_SPAN)
            if told and not state.config.content:
                hidden = ("message", "message_context")
                kwargs = {**kwargs, "attributes": {key: told[key] for key in told if key not in hidden}}
    return wrapped(*args, **kwargs)


def _is_unwanted() -> bool:
    return os.environ.get("AUTOGEN_DISABLE_RUNTIME_TRACING", "").lower() != "false"


def _is_of_team(destination: Any, told: Any) -> bool:
    """Inside a run, or to or from somebody whose type ends in the team's id, as the key or source does."""
    if context_api.get_value(_TEAM):
        return True
    key = getattr(destination, "key", None) or getattr(destination, "source", None)
    addressee, sender = getattr(destination, "type", None), get(told or {}, "sender_agent_type")
    if isinstance(key, str) and isinstance(addressee, str) and addressee.endswith(f"_{key}"):
        return True
    return isinstance(sender, str) and sender.rpartition("_")[2].count("-") == 4


# --- agents and teams -----------------------------------------------------------------------------------


def _begin(*description: Any) -> Invocation | None:
    """Start a call whose own work knows whose turn it is."""
    invocation = start(*description)
    if invocation is not None:
        turn = description[1] if invocation.kind == "agent" else None
        invocation.context = context_api.set_value(_TURN, turn, invocation.context)
    return invocation


def _agent(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """None: one of the agent's methods calls another."""
    name = agent.name
    if context_api.get_value(_TURN) == name:
        return None
    given = kwargs.get("task", kwargs.get("messages", args[0] if args else None))
    return "agent", name, None, _said(given)


def _said(given: Any) -> Any:
    """What messages say, without the ids and times that make every one differ."""
    if isinstance(given, str) or given is None:
        return given
    messages = given if isinstance(given, Sequence) else (given,)
    return [get(message, "content") for message in messages]


def _agent_ended(invocation: Invocation, result: Any) -> Any:
    """A task's result, or a response; None after a stream that brought neither."""
    messages = get(result, "messages")
    last = messages[-1] if messages else get(result, "chat_message")
    said = get(last, "content")
    invocation.stop(*([] if said is None else [said]))
    return result


def _team_run(wrapped: Callable[..., Any], team: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    last: list[Any] = [None]
    items = atapped(_remembered(team, made), partial(last.__setitem__, 0))
    begin = partial(_begin_team, team, kwargs)
    return like(made, drive_async_generator(begin, items, lambda invocation, _: _agent_ended(invocation, last[0])))


@_guard.guarded("autogen.team", None)
def _begin_team(team: Any, kwargs: dict[str, Any]) -> Invocation | None:
    name = get(team, "name")
    invocation = start("workflow", name if isinstance(name, str) and name else type(team).__name__, None,
                       _said(kwargs.get("task")))  # fmt: skip
    if invocation is not None:
        inside = context_api.set_value(_TEAM, True, invocation.context)
        invocation.context = context_api.set_value(_TURN, None, inside)
    return invocation


async def _remembered(team: Any, items: Any) -> AsyncGenerator[Any, None]:
    """The same items, while the team's runtime can ask for the context of the run."""
    key = get(team, "_team_id")
    context = context_api.get_current()
    if isinstance(key, str) and context.get(_TEAM):
        _running[key] = context
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(key, str) and _running.get(key) is context:
            _running.pop(key, None)
        await items.aclose()


def _message_handled(wrapped: Callable[..., Any], member: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A team's manager or participant at work: inside the team's run, wherever its runtime was started."""
    made = wrapped(*args, **kwargs)
    context = None
    with _guard.guard("autogen.member"):
        context = _running.get(member.id.key)
    return made if context is None else like(made, _inside(context, made))


async def _inside(context: Context, work: Coroutine[Any, Any, Any]) -> Any:
    token = context_api.attach(context)
    closing = False
    try:
        return await work
    except GeneratorExit:
        closing = True
        raise
    finally:
        if not closing or context_api.get_current() is context:
            context_api.detach(token)


# --- tools and hand-offs --------------------------------------------------------------------------------


def _streamed(
    describe: Callable[..., Description | None],
    ended: Callable[[Invocation, Any], Any],
    wrapped: Callable[..., Any],
    instance: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """A call whose last item is its result."""
    made = wrapped(*args, **kwargs)
    description = None
    with _guard.guard("autogen.stream"):
        description = describe(instance, args, kwargs)
    if description is None or not hasattr(made, "__anext__"):
        return made
    last: list[Any] = [None]
    items = atapped(made, partial(last.__setitem__, 0))
    begin = partial(_begin, *description)
    return like(made, drive_async_generator(begin, items, lambda invocation, _: ended(invocation, last[0])))


def _tool(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """None: a hand-over, or what a workbench or a method of the tool calls in turn."""
    call_id = kwargs.get("call_id", args[2] if len(args) > 2 else None)
    name = tool.name
    if context_api.get_value(_HANDOFF) or _is_running(name, call_id):
        return None
    return "tool", name, _identity(call_id), kwargs.get("args", args[0] if args else None)


def _workbench_call(workbench: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    given = dict(zip(("name", "arguments", "cancellation_token", "call_id"), args, strict=False)) | kwargs
    name, call_id = given["name"], given.get("call_id")
    return None if _is_running(name, call_id) else ("tool", name, _identity(call_id), given.get("arguments"))


def _is_running(name: str, call_id: Any) -> bool:
    """Is this very call the current span? One without an id may be the tool calling itself."""
    attributes = own_attributes(get_current_span())
    return bool(call_id) and attributes.get(names.GEN_AI_TOOL_CALL_ID) == call_id \
        and attributes.get(names.GEN_AI_TOOL_NAME) == name  # fmt: skip


def _identity(call_id: Any) -> dict[str, Any] | None:
    return {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call_id)} if isinstance(call_id, str) and call_id else None


def _tool_ended(invocation: Invocation, result: Any) -> Any:
    """What an agent or a team as a tool gives is all its messages."""
    if get(result, "messages") is not None:
        return _agent_ended(invocation, result)
    invocation.stop(*([] if result is None else [result]))
    return result


def _workbench_ended(invocation: Invocation, result: Any) -> Any:
    if get(result, "is_error") is True:
        mark_failed(invocation.span, "tool_error")
    said = get(result, "result")
    invocation.stop(*([] if said is None else [[get(part, "content") for part in said]]))
    return result


def _tool_asked_for(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A hand-over is a step, not a tool that somebody wrote."""
    made = wrapped(*args, **kwargs)
    with _guard.guard("autogen.handoff"):
        asked = get(kwargs.get("tool_call"), "name")
        if any(get(tool, "name") == asked for tool in kwargs.get("handoff_tools") or ()):
            begin = partial(_begin_handoff, kwargs.get("agent_name"), str(asked).removeprefix("transfer_to_"))
            return like(made, drive_coroutine(begin, made, _handed_over))
    return made


@_guard.guarded("autogen.handoff", None)
def _begin_handoff(source: Any, target: str) -> Invocation | None:
    if context_api.get_value(SUPPRESSED):
        return None
    name = sanitize.name(f"handoff {source} to {target}")
    invocation = Invocation("other", state.tracer.start_span(name))
    invocation.context = context_api.set_value(_HANDOFF, True, invocation.context)
    return invocation


def _handed_over(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result


# --- models ---------------------------------------------------------------------------------------------


def _model(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    messages = kwargs.get("messages", args[0] if args else None)
    return "llm", _model_name(client, kwargs), None, messages


def _model_name(client: Any, kwargs: dict[str, Any]) -> str:
    """As the program gave it; the class's where the client has none."""
    told = [get(kwargs.get("extra_create_args") or {}, "model"), get(get(client, "_create_args") or {}, "model")]
    told += [get(client, key) for key in ("model", "model_name", "_model", "_model_name")]
    return next((name for name in told if isinstance(name, str) and name), type(client).__name__)


def _answered(invocation: Invocation, answer: Any) -> Any:
    """Clients say 0 and 0 where the model did not say. None: a stream without an answer."""
    usage = get(answer, "usage")
    given, written = get(usage, "prompt_tokens"), get(usage, "completion_tokens")
    if given or written:
        invocation.usage(given, written)
    said = get(answer, "content")
    invocation.stop(*([] if said is None else [said]))
    return answer


def _model_streamed(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    if not hasattr(made, "__anext__"):
        return made
    last: list[Any] = [None]
    items = atapped(made, partial(last.__setitem__, 0))
    begin = partial(_begin_stream, client, args, kwargs)
    return like(made, drive_async_generator(begin, items, lambda invocation, _: _answered(invocation, last[0])))


@_guard.guarded("autogen.stream", None)
def _begin_stream(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    return start(*_model(client, args, kwargs))


def _look_up(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    messages = kwargs.get("messages", args[0] if args else None)
    return lookup(_CACHE, "autogen", _said(messages))


def _looked_up(invocation: Invocation, found: Any) -> Any:
    """Answer and key."""
    invocation.hit(found[0] is not None)
    invocation.stop()
    return found
