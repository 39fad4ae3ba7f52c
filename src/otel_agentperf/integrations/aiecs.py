"""AIECS: agents of every class, tools whoever calls them, LLM clients of any class, and the caches of tools.

An agent knows its tools by names of its own, so a call is told where the agent makes it; what the tool's class and
its executor do for that call then belongs to it. A call that is answered from the executor's cache is a call of the
tool all the same, as AIECS itself counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description, like
from ..capture.invocation import Invocation
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_async_generator
from ..capture.usage import Usage, get
from ._aiecs_tools import AGENT_METHODS, patch_dispatch, patch_executor, patch_lookups, patch_tools
from ._same_call import begin, is_under_way
from ._spans import atapped, named_error, own_attributes
from ._subclasses import PatchMethod, patch_all_below, patch_inherited

MODULES = ("aiecs",)
DISTRIBUTION = "aiecs"
VERSIONS = ">=2.1,<3"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "caches")
LIMITS = (
    "What a ToolExecutor tries again is one tool call; with TOOL_EXECUTOR_RETRY_ATTEMPTS=1 it tries nothing again.",
    "Streams of a client carry no tokens unless it is asked for chunks: agents do, programs pass return_chunks=True.",
)


def patch(patches: Patches) -> None:
    """Each part when the program imports it: its modules are thousands."""
    for module, patch_part in _PARTS.items():
        when_imported((module,), partial(patch_part, patches))


def _patch_agents(patches: Patches) -> None:
    from aiecs.domain.agent.base_agent import BaseAIAgent

    methods: dict[str, PatchMethod] = {
        "execute_task": _patch_task,
        "execute_task_streaming": _patch_streamed_task,
        "execute_with_recovery": _patch_task,
        "execute_with_recovery_streaming": _patch_streamed_task,
        "collaborate_on_task": _patch_collaboration,
    }
    patch_all_below(patches, BaseAIAgent, methods | AGENT_METHODS)


def _patch_task(patches: Patches, agent: type, method: str) -> None:
    patches.trace(agent, method, partial(_agent, patches), _task_ended, begin)


def _patch_collaboration(patches: Patches, agent: type, method: str) -> None:
    patches.trace(agent, method, _collaboration, _task_ended, begin)


def _patch_streamed_task(patches: Patches, agent: type, method: str) -> None:
    patches.wrap(agent, method, partial(_streamed_task, patches))


def _patch_clients(patches: Patches) -> None:
    from aiecs.llm.clients.base_client import BaseLLMClient

    patch_all_below(patches, BaseLLMClient, _CLIENT_METHODS)


def _patch_factory(patches: Patches) -> None:
    patches.wrap("aiecs.llm.client_factory", "LLMClientFactory.get_client", partial(_given_out, patches))


def _given_out(patches: Patches, wrapped: Callable[..., Any], factory: Any, args: Any, kwargs: Any) -> Any:
    client = wrapped(*args, **kwargs)
    _patch_client(patches, client)
    return client


def _patch_client(patches: Patches, client: Any) -> None:
    """A client need not be a `BaseLLMClient`: whatever can `generate_text` is one."""
    if client is not None and hasattr(type(client), "generate_text"):
        with _guard.guard("aiecs.client"):
            patch_inherited(patches, type(client), _CLIENT_METHODS)


def _patch_generate(patches: Patches, client: type, method: str) -> None:
    patches.trace(client, method, _generation, _generated, begin)


def _patch_stream(patches: Patches, client: type, method: str) -> None:
    patches.wrap(client, method, _streamed_text)


_CLIENT_METHODS: dict[str, PatchMethod] = {"generate_text": _patch_generate, "stream_text": _patch_stream}
_PARTS: dict[str, Callable[[Patches], None]] = {
    "aiecs.domain.agent.base_agent": _patch_agents,
    "aiecs.domain.agent.plugins.hooks.tool_dispatch": patch_dispatch,
    "aiecs.llm.client_factory": _patch_factory,
    "aiecs.llm.clients.base_client": _patch_clients,
    "aiecs.tools.base_tool": patch_tools,
    "aiecs.tools.tool_executor.tool_executor": patch_executor,
    "aiecs.utils.execution_utils": patch_lookups,
}
PARTS = tuple(_PARTS)


def _agent(patches: Patches, agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """Directly inside itself an agent tries again, or one of its methods calls another."""
    if is_under_way(id(agent)):
        return None
    _patch_client(patches, get(agent, "llm_client") or get(agent, "_llm_client"))
    return "agent", _agents_name(agent), None, (id(agent), _task(args, kwargs))


def _collaboration(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """What an agent has others do is not work of its own."""
    key = ("collaboration", id(agent))
    return None if is_under_way(key) else ("workflow", _agents_name(agent), None, (key, _task(args, kwargs)))


def _agents_name(agent: Any) -> str:
    return str(get(agent, "name") or get(agent, "agent_id") or type(agent).__name__)


def _task(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    task = kwargs.get("task", args[0] if args else None)
    given = {key: get(task, key) for key in ("description", "prompt", "task", "tool", "operation", "parameters")}
    return {key: value for key, value in given.items() if value is not None}


def _task_ended(invocation: Invocation, result: Any) -> Any:
    """Of a result only the output: times are never the same twice. AIECS tells some failures instead of raising."""
    invocation.result(get(result, "output"))
    if get(result, "success") is False:
        invocation.fail(named_error("task_failed"))
    else:
        invocation.stop()
    return result


class _Events:
    """What the events of a streamed task tell of its outcome."""

    def __init__(self) -> None:
        self._failure = ""

    def look(self, event: Any) -> None:
        kind = get(event, "type")
        if kind == "error":
            self._failure = "task_error"
        elif kind in ("result", "completed") and get(event, "success") is False:
            self._failure = self._failure or "task_failed"
        elif kind == "recovery_result":
            self._failure = "" if get(get(event, "recovery"), "success") else "task_failed"

    def ended(self, invocation: Invocation, result: Any) -> Any:
        if self._failure:
            invocation.fail(named_error(self._failure))
        else:
            invocation.stop()
        return result


def _streamed_task(
    patches: Patches, wrapped: Callable[..., Any], agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    events = _Events()
    made = wrapped(*args, **kwargs)
    start_now = partial(_begin_stream, partial(_agent, patches), agent, args, kwargs)
    return like(made, drive_async_generator(start_now, atapped(made, events.look), events.ended))


@_guard.guarded("aiecs.stream", None)
def _begin_stream(
    describe: Callable[..., Description | None], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Invocation | None:
    description = describe(instance, args, kwargs)
    return begin(*description) if description else None


def _generation(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if is_under_way(id(client)):
        return None
    told = (kwargs.get("model", args[1] if len(args) > 1 else None), get(client, "model"), get(client, "default_model"))
    provider = _provider(client)
    model = next((name for name in told if isinstance(name, str) and name), provider or type(client).__name__)
    attributes = {names.GEN_AI_PROVIDER_NAME: provider} if provider else None
    messages = kwargs.get("messages", args[0] if args else None)
    given = [(get(message, "role"), get(message, "content")) for message in messages or ()]
    return "llm", model, attributes, (id(client), given)


def _provider(client: Any) -> str:
    name = get(client, "provider_name")
    return sanitize.name(name.lower()) if isinstance(name, str) else ""


def _generated(invocation: Invocation, answer: Any) -> Any:
    invocation.usage(*_usage(answer))
    model = get(answer, "model")
    if isinstance(model, str) and model:
        invocation.set(names.GEN_AI_RESPONSE_MODEL, model)
        attributes = own_attributes(invocation.span)
        if attributes.get(names.GEN_AI_REQUEST_MODEL) == attributes.get(names.GEN_AI_PROVIDER_NAME):
            # The call named no model, so the client took one of its own.
            invocation.set(names.GEN_AI_REQUEST_MODEL, model)
            invocation.span.update_name(f"{names.CHAT} {sanitize.name(model)}")
    calls = [get(call, "function") for call in get(answer, "tool_calls") or ()]
    invocation.stop([get(answer, "content"), [(get(call, "name"), get(call, "arguments")) for call in calls]])
    return answer


def _usage(told: Any) -> Usage:
    """Anthropic's input leaves out what its cache read or wrote, and AIECS hands it on as it is."""
    read, written = get(told, "cache_read_tokens"), get(told, "cache_creation_tokens")
    prompt, completion = get(told, "prompt_tokens"), get(told, "completion_tokens")
    if isinstance(prompt, int) and get(told, "provider") in _EXCLUDING:
        prompt += sum(tokens for tokens in (read, written) if isinstance(tokens, int))
    return Usage(*(value if isinstance(value, int) else None for value in (prompt, completion, read, written)))


_EXCLUDING = ("AnthropicVertex",)


class _Chunks:
    """The tokens of a stream: the last chunk tells them."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._told: dict[str, Any] = {}

    def look(self, chunk: Any) -> None:
        told = get(chunk, "usage")
        if told is not None:
            self._told = {"provider": self._provider, **{key: get(told, key) for key in _USAGE_KEYS}}

    def ended(self, invocation: Invocation, result: Any) -> Any:
        invocation.usage(*_usage(self._told))
        invocation.stop()
        return result


_USAGE_KEYS = ("prompt_tokens", "completion_tokens", "cache_read_tokens", "cache_creation_tokens")


def _streamed_text(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = wrapped(*args, **kwargs)
    if not hasattr(made, "__anext__"):
        return made
    chunks = _Chunks(get(client, "provider_name"))
    start_now = partial(_begin_stream, _generation, client, args, kwargs)
    return like(made, drive_async_generator(start_now, atapped(made, chunks.look), chunks.ended))
