"""AIECS's tools, on each level a call may begin at: an agent, the tool's class, its executor; and their caches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any

from opentelemetry.trace import get_current_span

from .. import _semconv as names
from .. import sanitize
from ..capture.callables import Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.tracing import state
from ..capture.usage import get
from ..model import Kind
from ._same_call import begin, is_under_way
from ._subclasses import PatchMethod, patch_all_below
from .cachetools_caches import aside

_EXECUTOR = "aiecs.tools.tool_executor.tool_executor"
_WRAPPERS = ("OperationError", "RetryError")
"""exceptions that AIECS puts around the tool's own"""

_asked: ContextVar[str | None] = ContextVar("otel_agentperf_aiecs_asked", default=None)
"""the id of the tool call that the model asked for, until its tool is called"""


def _patch_call(patches: Patches, agent: type, method: str) -> None:
    patches.trace(agent, method, _agents_call, None, _begin)


def _patch_cached_call(patches: Patches, agent: type, method: str) -> None:
    patches.trace(agent, method, _cached_call, _looked_up_already)


AGENT_METHODS: dict[str, PatchMethod] = {
    "_execute_tool": _patch_call,
    "execute_tool": _patch_call,
    "execute_tool_with_cache": _patch_cached_call,
}
"""all agents' methods that call a tool, and the one that does it through a cache"""


def patch_dispatch(patches: Patches) -> None:
    patches.wrap("aiecs.domain.agent.plugins.hooks.tool_dispatch", "dispatch_tool_with_hooks", _dispatched)


def patch_tools(patches: Patches) -> None:
    from aiecs.tools.base_tool import BaseTool

    patch_all_below(patches, BaseTool, {"run": _patch_run, "run_async": _patch_run})


def _patch_run(patches: Patches, tool: type, method: str) -> None:
    patches.trace(tool, method, _tools_call, None, _begin)


def patch_executor(patches: Patches) -> None:
    for method in ("execute", "execute_async"):
        patches.trace(_EXECUTOR, f"ToolExecutor.{method}", _executors_call, None, _begin)
    for method in ("_get_from_cache", "_get_from_cache_async"):
        patches.trace(_EXECUTOR, f"ToolExecutor.{method}", _look_up, _looked_up)


def patch_lookups(patches: Patches) -> None:
    patches.wrap("aiecs.utils.execution_utils", "ExecutionUtils.get_from_cache", _aside)


def _aside(wrapped: Callable[..., Any], utils: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The executor keeps its results in a cache of cachetools, where the same look-up is not counted again."""
    return aside(get(utils, "_cache"), partial(wrapped, *args, **kwargs))


class _Call(Invocation):
    """A tool call whose failure is the tool's own exception, not what AIECS makes of it."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        for _ in _WRAPPERS:
            if type(error).__name__ in _WRAPPERS and error.__cause__ is not None:
                error = error.__cause__
        super().fail(error)


def _begin(kind: Kind, name: str, attributes: Mapping[str, Any] | None, arguments: Any) -> Invocation | None:
    invocation = begin(kind, name, attributes, arguments)
    if invocation is not None:
        invocation.__class__ = _Call
    return invocation


def _dispatched(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call_id = kwargs.get("tool_call_id")
    made = wrapped(*args, **kwargs)
    return _with_id(made, call_id) if isinstance(call_id, str) and kwargs.get("execute_tool") else made


async def _with_id(coroutine: Any, call_id: str) -> Any:
    before = _asked.get()
    _asked.set(call_id)
    try:
        return await coroutine
    finally:
        _asked.set(before)  # not `reset`: a forgotten coroutine is closed in some other context


def _agents_call(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    bound = {**dict(zip(("tool_name", "operation", "parameters"), args, strict=False)), **kwargs}
    given, operation = bound.get("parameters"), bound.get("operation")
    if isinstance(operation, dict):  # `execute_tool`, which has no operation of its own
        given, operation = operation, None
    given = dict(given) if isinstance(given, Mapping) else {}
    operation = operation or given.pop("operation", None)
    name = bound.get("tool_name")
    tool = (get(agent, "_tool_instances") or {}).get(name)
    return _call(tool if tool is not None else agent, str(name), operation, given)


def _tools_call(tool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    operation = args[0] if args else kwargs.get("op")
    return _call(tool, _name(tool), operation, {key: value for key, value in kwargs.items() if key != "op"})


def _executors_call(executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    bound = {**dict(zip(("tool_instance", "operation"), args, strict=False)), **kwargs}
    tool, operation = bound.pop("tool_instance", None), bound.pop("operation", None)
    return _call(tool, _name(tool), operation, bound)


def _call(tool: Any, name: str, operation: Any, given: dict[str, Any]) -> Description | None:
    """The same operation of the same tool, one level deeper, is the same call."""
    key = (id(tool), operation)
    if is_under_way(key):
        return None
    call_id = _asked.get()
    attributes = None
    if call_id is not None:
        _asked.set(None)
        attributes = {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call_id)}
    return "tool", name, attributes, (key, {"operation": operation, **given} if operation else given)


def _name(tool: Any) -> str:
    """The tool's own name, the one it is registered under, or its class's."""
    own = get(tool, "name")
    if isinstance(own, str) and own:
        return own
    from aiecs.tools import TOOL_CLASSES

    return next((name for name, known in TOOL_CLASSES.items() if known is type(tool)), type(tool).__name__)


def _look_up(executor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """A look-up saves a tool call, which is far dearer than its span; but it is no trace of its own."""
    if not get(get(executor, "config"), "enable_cache") or not _wanted():
        return None
    attributes = {names.CACHE_OPERATION: "get", names.CACHE_SYSTEM: "aiecs"}
    return "cache", "aiecs tools", attributes, kwargs.get("cache_key", args[0] if args else None)


def _wanted() -> bool:
    return state.config.cache_spans != "none" and get_current_span().get_span_context().is_valid


def _looked_up(invocation: Invocation, found: Any) -> Any:
    invocation.hit(found is not None)
    invocation.stop()
    return found


def _cached_call(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """An agent's own cache does not tell what it did, so it is looked at before."""
    settings = get(agent, "_cache_config")
    if not get(settings, "enabled") or not _wanted():
        return None
    bound = {**dict(zip(("tool_name", "parameters"), args, strict=False)), **kwargs}
    key = agent._generate_cache_key(**bound)
    age = time.time() - agent._cache_timestamps.get(key, 0)
    hit = key in agent._tool_cache and age < settings.get_ttl(bound["tool_name"])
    attributes = {names.CACHE_OPERATION: "get", names.CACHE_SYSTEM: "aiecs", names.CACHE_HIT: hit}
    return "cache", "aiecs agent tools", attributes, key


def _looked_up_already(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result
