"""CrewAI's tools: what a model that calls functions asks for goes to `BaseTool.run`, what one that only writes text
asks for to `CrewStructuredTool.invoke`. Below either is the user's own function."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.tracing import state
from ..capture.usage import get
from ._same_call import begin, is_under_way
from ._spans import mark_failed, named_error, own_attributes
from ._subclasses import patch_all_below

_asked: ContextVar[str | None] = ContextVar("otel_agentperf_crewai_asked", default=None)
"""the id of the tool call that the model asked for, until its tool is called"""


def patch_tools(patches: Patches) -> None:
    from crewai.tools.base_tool import BaseTool

    patch_all_below(patches, BaseTool, {"run": _patch_run, "arun": _patch_run})


def _patch_run(patches: Patches, tool: type, method: str) -> None:
    patches.trace(tool, method, _tool, _tool_ended, begin)


def patch_structured_tools(patches: Patches) -> None:
    for method in ("invoke", "ainvoke"):
        patches.trace("crewai.tools.structured_tool", f"CrewStructuredTool.{method}", _structured, _tool_ended, begin)


def patch_delegation(patches: Patches) -> None:
    patches.wrap("crewai.tools.agent_tools.base_agent_tools", "BaseAgentTool._execute", _delegated)


def patch_executor_tools(patches: Patches) -> None:
    patches.wrap("crewai.agents.agent_executor", "AgentExecutor._execute_single_native_tool_call", _asked_for)


def patch_step_tools(patches: Patches) -> None:
    patches.wrap("crewai.agents.step_executor", "execute_single_native_tool_call", _asked_for)


def patch_cache(patches: Patches) -> None:
    patches.trace("crewai.agents.cache.cache_handler", "CacheHandler.read", _look_up, _looked_up)


def _asked_for(wrapped: Callable[..., Any], executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = kwargs.get("tool_call", args[0] if args else None)
    call_id = get(call, "id") or get(call, "call_id") or get(call, "toolUseId")
    token = _asked.set(call_id if isinstance(call_id, str) and call_id else None)
    try:
        return wrapped(*args, **kwargs)
    finally:
        _asked.reset(token)


def _tool(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if not args:
        return _call(tool, kwargs)
    declared = tuple(get(get(tool, "args_schema"), "model_fields") or ())
    named = dict(zip(declared, args, strict=False))
    return _call(tool, {**named, **kwargs, **({"*": args[len(declared) :]} if len(args) > len(declared) else {})})


def _structured(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    given = kwargs.get("input", args[0] if args else None)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            return _call(tool, given)
    return _call(tool, given)


def _call(tool: Any, given: Any) -> Description | None:
    if is_under_way(id(tool)):
        return None
    call_id = _asked.get()
    if call_id is None:
        return "tool", _name(tool), None, (id(tool), given)
    _asked.set(None)
    return "tool", _name(tool), {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call_id)}, (id(tool), given)


def _name(tool: Any) -> Any:
    """An MCP server's tool as the server calls it: CrewAI puts the server's command line before it, and that may hold
    keys."""
    served = get(get(tool, "_original_tool") or tool, "original_tool_name")
    return served if isinstance(served, str) and served else tool.name


def _tool_ended(invocation: Invocation, result: Any) -> Any:
    """A `ToolFailure` is how a tool says that it failed without raising."""
    if type(result).__name__ == "ToolFailure":
        reason = get(get(result, "reason"), "value")
        invocation.result(result)
        invocation.fail(named_error(reason if isinstance(reason, str) and reason else "tool_failure"))
    else:
        invocation.stop(result)
    return result


def _delegated(wrapped: Callable[..., Any], tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Delegation turns a coworker's failure, and a coworker that there is none, into an answer for the model."""
    result = wrapped(*args, **kwargs)
    with _guard.guard("crewai.delegation"):
        if isinstance(result, str) and result.startswith(_refusals()):
            mark_failed(get_current_span(), "tool_error")
    return result


def _refusals() -> tuple[str, ...]:
    """How CrewAI's own sentences for that begin, in the language it speaks."""
    from crewai.utilities.i18n import I18N_DEFAULT

    keys = ("agent_tool_execution_error", "agent_tool_unexisting_coworker")
    return tuple(start for key in keys if (start := I18N_DEFAULT.errors(key).partition("{")[0]).strip())


def _look_up(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """A look-up saves a tool call, which is far dearer than its span. CrewAI's decorators for projects keep agents and
    tasks in such a cache, too: that is nobody's look-up, and happens outside of agents."""
    is_agents = own_attributes(get_current_span()).get(names.GEN_AI_OPERATION_NAME) == names.INVOKE_AGENT
    if state.config.cache_spans == "none" or not is_agents:
        return None
    tool = kwargs.get("tool", args[0] if args else None)
    given = kwargs.get("input", args[1] if len(args) > 1 else None)
    return "cache", "crewai tools", {names.CACHE_OPERATION: "get", names.CACHE_SYSTEM: "crewai"}, (tool, given)


def _looked_up(invocation: Invocation, found: Any) -> Any:
    invocation.hit(found is not None)
    invocation.stop()
    return found
