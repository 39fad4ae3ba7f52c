"""Haystack: agents, pipelines as workflows, tools, and components by what they do: generators, retrievers, embedders.

Any class may be a chat generator or a retriever, so a component is known by its sockets: what takes messages and gives
replies is a model. Haystack's own tracing stays the user's: its one tracer is not replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.usage import get, usage
from ..model import Kind
from ._spans import own_attributes
from ._subclasses import PatchMethod, is_outermost, patch_all_below, patch_inherited

MODULES = ("haystack",)
DISTRIBUTION = "haystack-ai"
VERSIONS = ">=3,<4"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "retrieval")
PARTS = (
    "haystack.core.component.component", "haystack.core.pipeline.pipeline", "haystack.components.agents.agent",
    "haystack.tools.tool", "haystack.components.agents.tool_calling", "haystack.core.pipeline.async_pipeline",
)  # fmt: skip
LIMITS = ("Streamed replies carry no tokens unless generation_kwargs has stream_options={'include_usage': True}.",)

_QUERIES = frozenset({"query", "queries", "query_embedding", "query_sparse_embedding"})
_names: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
"""agents that are tools, by the tool's name: they have none of their own"""
_asked: ContextVar[tuple[Any, str] | None] = ContextVar("otel_agentperf_haystack", default=None)
"""the tool that is about to run, and the id of the call"""


def patch(patches: Patches) -> None:
    """Each part when the program imports it."""
    parts = (
        _patch_components,
        _patch_pipelines,
        _patch_agents,
        _patch_tools,
        _patch_tool_calls,
        _patch_async_pipelines,
    )
    for module, patch_part in zip(PARTS, parts, strict=True):
        when_imported((module,), partial(patch_part, patches, module))


def _patch_components(patches: Patches, module: str) -> None:
    """Each class when the first of it is made, or now; one that inherits from a component is registered nowhere."""

    def created(wrapped: Callable[..., Any], cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = wrapped(*args, **kwargs)
        with _guard.guard("haystack.component"):
            if _role(made) is not None:
                patch_inherited(patches, type(made), _COMPONENT_METHODS)
        return made

    patches.wrap(module, "ComponentMeta.__call__", created)
    waiting = list(sys.modules[module].component.registry.values())
    while waiting:
        cls = waiting.pop()
        if _role_of(cls.__name__, _declared_inputs(cls), _declared_outputs(cls)) is not None:
            patch_inherited(patches, cls, _COMPONENT_METHODS)
        waiting.extend(cls.__subclasses__())


def _patch_component(patches: Patches, cls: type, method: str) -> None:
    patches.trace(cls, method, partial(_component, cls, method), _component_ended)


_COMPONENT_METHODS: dict[str, PatchMethod] = {"run": _patch_component, "run_async": _patch_component}


def _patch_pipelines(patches: Patches, module: str) -> None:
    """`run_async` and `stream` go through the generator."""
    patches.trace(module, "Pipeline.run", _pipeline)
    if hasattr(sys.modules[module].Pipeline, "run_async_generator"):
        patches.trace(module, "Pipeline.run_async_generator", _pipeline, _ended_without_result)


def _patch_async_pipelines(patches: Patches, module: str) -> None:
    """A class of their own in Haystack 2, whose `run` goes through the generator, too."""
    patches.trace(module, "AsyncPipeline.run_async_generator", _pipeline, _ended_without_result)


def _patch_agents(patches: Patches, module: str) -> None:
    for path in ("Agent.run", "Agent.run_async"):
        patches.trace(module, path, partial(_agent, patches), _agent_ended)


def _patch_tools(patches: Patches, module: str) -> None:
    patch_all_below(patches, sys.modules[module].Tool, {"invoke": _patch_invoke, "invoke_async": _patch_invoke})


def _patch_invoke(patches: Patches, tool: type, method: str) -> None:
    patches.trace(tool, method, partial(_tool, tool, method), None, _begin_tool)


def _patch_tool_calls(patches: Patches, module: str) -> None:
    """Private, and only this knows the call's id."""
    if hasattr(sys.modules[module], "_create_tool_span"):
        patches.wrap(module, "_create_tool_span", _tool_called)


def _role(component: Any) -> Kind | None:
    inputs, outputs = (
        frozenset(get(get(component, f"__haystack_{side}__"), "_sockets_dict") or ()) for side in ("input", "output")
    )
    cls = type(component)
    return _role_of(cls.__name__, inputs or _declared_inputs(cls), outputs or _declared_outputs(cls))


def _role_of(name: str, inputs: frozenset[str], outputs: frozenset[str]) -> Kind | None:
    if "replies" in outputs and inputs & {"messages", "prompt"}:
        return "llm"
    if "documents" in outputs and (name.endswith("Retriever") or (inputs & _QUERIES and "documents" not in inputs)):
        return "retrieval"
    embeds = ("embedding" in outputs and "text" in inputs) or (name.endswith("Embedder") and "documents" in outputs)
    return "embedding" if embeds else None


def _declared_inputs(cls: Any) -> frozenset[str]:
    code = getattr(getattr(cls, "run", None), "__code__", None)
    return frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) if code is not None else frozenset()


def _declared_outputs(cls: Any) -> frozenset[str]:
    """Of the nearest `run` that declares any: a class may override its parent's without saying it again."""
    methods = (vars(owner).get("run") for owner in cls.__mro__)
    return next(
        (frozenset(found) for run in methods if (found := getattr(run, "_output_types_cache", None))), frozenset()
    )


def _component(
    owner: type, method: str, component: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Description | None:
    kind = _role(component) or ("llm" if hasattr(type(component), "run") and "messages" in kwargs else None)
    if kind is None or not is_outermost(owner, component, method):
        return None
    given = {**dict(zip(_positional(owner, method), args, strict=False)), **kwargs}
    given.pop("streaming_callback", None)
    if kind == "retrieval":
        name = _own_name(component) or type(component).__name__
        return None if _is_inside(names.RETRIEVAL, names.GEN_AI_DATA_SOURCE_ID, name) else (kind, name, None, given)
    return kind, _model_name(component), None, given.get("messages", given)


def _positional(owner: type, method: str) -> tuple[str, ...]:
    code = getattr(vars(owner)[method], "__code__", None)
    return tuple(code.co_varnames[1 : code.co_argcount]) if code is not None else ()


def _own_name(component: Any) -> str | None:
    """What it is called in its pipeline."""
    name = getattr(component, "__component_name__", None)
    return name if isinstance(name, str) and name else None


def _model_name(component: Any) -> str:
    told = (getattr(component, key, None) for key in ("model", "model_name", "azure_deployment", "_model"))
    return next((name for name in told if isinstance(name, str) and name), type(component).__name__)


def _is_inside(operation: str, key: str, name: str) -> bool:
    attributes = own_attributes(get_current_span())
    return attributes.get(names.GEN_AI_OPERATION_NAME) == operation and attributes.get(key) == name


def _component_ended(invocation: Invocation, result: Any) -> Any:
    if invocation.kind == "retrieval":
        invocation.stop([get(document, "content") for document in get(result, "documents") or ()])
        return result
    replies = get(result, "replies") or ()
    meta = _first_of([get(reply, "meta") for reply in replies]) or get(result, "meta")
    told = _first_of(meta) if isinstance(meta, list) else meta
    invocation.usage(*usage(get(told, "usage")))
    model = get(told, "model")
    if isinstance(model, str):
        invocation.set(names.GEN_AI_RESPONSE_MODEL, model)
    invocation.stop(*([[_said(reply) for reply in replies]] if replies else []))
    return result


def _first_of(items: list[Any]) -> Any:
    """Of several replies to one request each tells the tokens of all."""
    return next((item for item in items if item), None)


def _said(reply: Any) -> Any:
    if isinstance(reply, str):
        return reply
    return get(reply, "text"), [
        (get(call, "tool_name"), get(call, "arguments")) for call in get(reply, "tool_calls") or ()
    ]


def _pipeline(pipeline: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    name = get(getattr(pipeline, "metadata", None) or {}, "name")
    given = kwargs.get("data", args[0] if args else None)
    return "workflow", name if isinstance(name, str) and name else type(pipeline).__name__, None, given


def _ended_without_result(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result


def _agent(patches: Patches, agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """A chat generator need not be a component: whatever can `run` is one."""
    generator = type(agent.chat_generator)
    if _role(agent.chat_generator) in ("llm", None) and hasattr(generator, "run"):
        patch_inherited(patches, generator, _COMPONENT_METHODS)
    if type(agent).__name__ == "LLM" and type(agent).__module__.startswith("haystack."):
        return None  # an agent by inheritance only: one call of its model
    name = _own_name(agent) or _names.get(agent) or type(agent).__name__
    return "agent", name, None, kwargs.get("messages", args[0] if args else kwargs)


def _agent_ended(invocation: Invocation, result: Any) -> Any:
    invocation.stop(get(get(result, "last_message"), "text"))
    return result


def _tool(owner: type, method: str, tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """What the framework injects (the agent's state, a callback) is not what the model asked for."""
    if not is_outermost(owner, tool, method) or _is_inside(names.EXECUTE_TOOL, names.GEN_AI_TOOL_NAME, tool.name):
        return None
    component = getattr(tool, "_component", None)
    if hasattr(component, "chat_generator"):
        _names[component] = tool.name
    declared = get(get(tool, "parameters"), "properties")
    given = {name: value for name, value in kwargs.items() if declared is None or name in declared}
    asked = _asked.get()
    identity = asked[1] if asked is not None and asked[0] is tool else None
    _asked.set(None)
    return "tool", tool.name, {names.GEN_AI_TOOL_CALL_ID: sanitize.name(identity)} if identity else None, given


class _ToolCall(Invocation):
    """Haystack wraps what a tool raises."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        wrapped = type(error).__name__ == "ToolInvocationError" and error.__cause__
        super().fail(wrapped or error)


def _begin_tool(*description: Any) -> Invocation | None:
    invocation = start(*description)
    if invocation is not None:
        invocation.__class__ = _ToolCall
    return invocation


def _tool_called(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("haystack.tool_call"):
        tool, call = (
            kwargs.get(name, args[place] if len(args) > place else None)
            for place, name in enumerate(("tool", "tool_call"))
        )
        identity = get(call, "id")
        _asked.set((tool, identity) if isinstance(identity, str) and identity else None)
    return wrapped(*args, **kwargs)
