"""LangChain and LangGraph: graphs as agents, tools, models (chat and text), retrievers.

A compiled graph's `invoke` and `ainvoke` go through its `stream` and `astream`, so only these two are wrapped. A graph
that runs inside a tool or as a node of another graph is an agent below it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Describe, Description
from ..capture.invocation import Invocation, error_type, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_async_generator, drive_generator
from ..capture.usage import Usage, get, tokens_of, usage
from ._spans import atapped, mark_failed, own_attributes, tapped
from .langchain_caches import answered_from

MODULES = ("langchain_core",)
DISTRIBUTION = "langchain-core"
VERSIONS = ">=1,<2"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs", "retrieval")
PARTS = (
    "langgraph.pregel.main", "langchain_core.tools.base", "langchain_core.language_models.chat_models",
    "langchain_core.language_models.llms", "langchain_core.retrievers",
)  # fmt: skip
LIMITS = ("Streams of ChatOpenAI with a base_url carry no tokens unless it is made with stream_usage=True.",)

_UNNAMED = "LangGraph"
"""what a graph is called that nobody gave a name"""
_ASKED = (names.CHAT, names.TEXT_COMPLETION)


def patch(patches: Patches) -> None:
    """Each part when the program imports it: a program may use models without graphs."""
    parts = (_patch_graphs, _patch_tools, _patch_models, _patch_text_models, _patch_retrievers)
    for module, patch_part in zip(PARTS, parts, strict=True):
        when_imported((module,), partial(patch_part, patches, module))


def _patch_graphs(patches: Patches, module: str) -> None:
    for path in ("Pregel.stream", "Pregel.astream"):
        patches.trace(module, path, _graph, _ended_without_result, _begin)


def _patch_tools(patches: Patches, module: str) -> None:
    for path in ("BaseTool.run", "BaseTool.arun"):
        patches.trace(module, path, _tool, _tool_ended, _begin)
    for path in ("_handle_tool_error", "_handle_validation_error"):
        # Private, and only they know of an error that the model is told about instead of the caller.
        if hasattr(sys.modules[module], path):
            patches.wrap(module, path, _error_handled)


def _patch_models(patches: Patches, module: str) -> None:
    for path in ("BaseChatModel.generate", "BaseChatModel.agenerate"):
        patches.trace(module, path, _model, _model_ended)
    patches.wrap(module, "BaseChatModel.stream", _model_stream)
    patches.wrap(module, "BaseChatModel.astream", _model_astream)


def _patch_text_models(patches: Patches, module: str) -> None:
    """Those that take a text and give one (`LLM`)."""
    for path in ("BaseLLM.generate", "BaseLLM.agenerate"):
        patches.trace(module, path, _text_model, _text_ended)
    patches.wrap(module, "BaseLLM.stream", partial(_model_stream, describe=_text_model))
    patches.wrap(module, "BaseLLM.astream", partial(_model_astream, describe=_text_model))


def _patch_retrievers(patches: Patches, module: str) -> None:
    for path in ("BaseRetriever.invoke", "BaseRetriever.ainvoke"):
        patches.trace(module, path, _retriever)


class _Interruptible(Invocation):
    """A call that ends well when the graph itself ends it: to ask a human, or to hand over to the parent graph."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        errors = sys.modules.get("langgraph.errors")
        if errors is not None and isinstance(error, errors.GraphBubbleUp):
            self.stop()
        else:
            super().fail(error)


def _begin(*description: Any) -> Invocation | None:
    invocation = start(*description)
    if invocation is not None:
        invocation.__class__ = _Interruptible
    return invocation


def _graph(graph: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    config = kwargs.get("config", args[1] if len(args) > 1 else None)
    return "agent", _graph_name(graph, config), None, kwargs.get("input", args[0] if args else None)


def _graph_name(graph: Any, config: Any) -> str:
    """The graph's own name; where nobody gave it one, the node's that it is, or its function's (`@entrypoint`)."""
    name = getattr(graph, "name", None)
    if isinstance(name, str) and name and name != _UNNAMED:
        return name
    nodes = tuple(getattr(graph, "nodes", None) or ())
    function = nodes[0] if len(nodes) == 1 else None  # a graph that was built has also a node where it starts
    node = get(get(config, "metadata") or {}, "langgraph_node") if config else None
    return next((name for name in (function, node) if isinstance(name, str) and name), _UNNAMED)


def _ended_without_result(invocation: Invocation, result: Any) -> Any:
    """A stream's items are not kept, so there is no result to compare."""
    invocation.stop()
    return result


def _tool(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    given = kwargs.get("tool_input", args[0] if args else None)
    call_id = kwargs.get("tool_call_id")
    if isinstance(given, dict):
        if given.get("type") == "tool_call":
            call_id, given = given.get("id") or call_id, given.get("args")
        else:
            # What the framework injects (the graph's state, the runtime) is not what the model asked for.
            visible: Callable[[Any], Any] = getattr(tool, "_filter_injected_args", lambda values: values)
            given = visible(given)
    identity = {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call_id)} if isinstance(call_id, str) and call_id else None
    return "tool", tool.name, identity, given


def _tool_ended(invocation: Invocation, result: Any) -> Any:
    """A message that says it is an error is one, whoever made it."""
    if get(result, "status") == "error":
        mark_failed(invocation.span, "tool_error")
    invocation.stop(get(result, "content") if get(result, "tool_call_id") else result)
    return result


def _error_handled(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The tool turns its exception into an answer for the model: a failed call all the same."""
    with _guard.guard("langchain.tool_error"):
        error = args[0] if args else kwargs.get("e")
        if isinstance(error, BaseException):
            mark_failed(get_current_span(), error_type(error))
    return wrapped(*args, **kwargs)


def _model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    name = _model_name(model, kwargs)
    around = own_attributes(get_current_span())
    asked = around.get(names.GEN_AI_OPERATION_NAME) in _ASKED
    if asked and around.get(names.GEN_AI_REQUEST_MODEL) == name:
        return None  # a model that cannot stream: its `stream` calls `invoke`
    given = next((kwargs[key] for key in ("messages", "prompts", "input") if key in kwargs), args[0] if args else None)
    return "llm", name, _provider(model), given


def _text_model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    description = _model(model, args, kwargs)
    if description is None:
        return None
    kind, name, attributes, given = description
    return kind, name, {**(attributes or {}), names.GEN_AI_OPERATION_NAME: names.TEXT_COMPLETION}, given


def _model_name(model: Any, kwargs: dict[str, Any]) -> str:
    named = (kwargs.get("model"), getattr(model, "model_name", None), getattr(model, "model", None))
    return next((name for name in named if isinstance(name, str) and name), type(model).__name__)


def _provider(model: Any) -> dict[str, Any] | None:
    try:
        provider = model._get_ls_params().get("ls_provider")
    except Exception:  # noqa: BLE001 - overridden by every integration: not ours to report
        return None
    return {names.GEN_AI_PROVIDER_NAME: sanitize.name(provider)} if isinstance(provider, str) and provider else None


def _text_ended(invocation: Invocation, result: Any) -> Any:
    generations = get(result, "generations") or ()
    invocation.usage(*tokens_of(get(result, "llm_output")))
    _answered_from_cache(invocation, len(generations))
    invocation.stop([[get(one, "text") for one in row] for row in generations])
    return result


def _model_ended(invocation: Invocation, result: Any) -> Any:
    total = _Total()
    for generations in getattr(result, "generations", None) or ():
        for generation in generations[:1]:
            total.add(getattr(generation, "message", None))
    total.record(invocation)
    _answered_from_cache(invocation, len(get(result, "generations") or ()))
    invocation.stop([[get(get(one, "message"), "content") for one in row] for row in get(result, "generations") or ()])
    return result


class _Total:
    """The tokens of several messages, or of a stream's chunks, which tell theirs piece by piece."""

    def __init__(self) -> None:
        self._told = Usage()

    def add(self, message: Any) -> None:
        """Add what a message or chunk tells. An answer out of LangChain's own cache cost nothing."""
        told = getattr(message, "usage_metadata", None)
        if told and get(told, "total_cost") != 0:
            pairs = zip(self._told, usage(told), strict=True)
            self._told = Usage(*(_sum(before, more) for before, more in pairs))

    def record(self, invocation: Invocation) -> None:
        invocation.usage(*self._told)


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first + (second or 0)


def _model_stream(
    wrapped: Callable[..., Any], model: Any, args: Any, kwargs: dict[str, Any], describe: Describe = _model
) -> Any:
    total = _Total()
    begin = partial(_begin_stream, describe, model, args, kwargs)
    return drive_generator(begin, tapped(wrapped(*args, **kwargs), total.add), partial(_stream_ended, total))


def _model_astream(
    wrapped: Callable[..., Any], model: Any, args: Any, kwargs: dict[str, Any], describe: Describe = _model
) -> Any:
    total = _Total()
    begin = partial(_begin_stream, describe, model, args, kwargs)
    return drive_async_generator(begin, atapped(wrapped(*args, **kwargs), total.add), partial(_stream_ended, total))


@_guard.guarded("langchain.stream", None)
def _begin_stream(describe: Describe, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    description = describe(model, args, kwargs)
    return start(*description) if description else None


def _answered_from_cache(invocation: Invocation, answers: int) -> None:
    """Where all answers came from a cache (see `langchain_caches`) no model was called: it is a hit of that cache."""
    cache, cached = answered_from(invocation.span)
    if 0 < answers <= cached:
        for key in (names.CACHE_HIT, names.CACHE_REPORTED, names.CACHE_COMPUTED_AFTER):
            invocation.set(key, True)
        invocation.set(names.CACHE_NAME, cache)
        invocation.set(names.CACHE_OPERATION, "get")


def _stream_ended(total: _Total, invocation: Invocation, result: Any) -> Any:
    total.record(invocation)
    _answered_from_cache(invocation, 1)
    invocation.stop()
    return result


def _retriever(retriever: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    query = kwargs.get("input", args[0] if args else None)
    return "retrieval", getattr(retriever, "name", None) or type(retriever).__name__, None, query
