"""CrewAI: crews and flows as workflows, their agents, tools on both of its paths, models of any class, the tool cache.

CrewAI's event bus tells the same, but its handlers run on another thread: nothing would be current around the work,
so what a tool does would be traces of its own. Therefore the calls are wrapped. CrewAI's own tracing has a provider
of its own and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry import context as context_api

from .. import _semconv as names
from .. import sanitize
from ..capture.callables import Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches, when_imported
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import get
from ._crewai_models import patch_models
from ._crewai_tools import (
    patch_cache,
    patch_delegation,
    patch_executor_tools,
    patch_step_tools,
    patch_structured_tools,
    patch_tools,
)
from ._same_call import begin, is_under_way
from ._subclasses import patch_all_below

MODULES = ("crewai",)
DISTRIBUTION = "crewai"
VERSIONS = ">=1.15,<2"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs", "retrieval", "caches")
LIMITS = (
    "A BaseLLM of one's own tells its tokens only if it passes what the provider told to _track_token_usage_internal.",
)

_TASK = "execute_task"


def patch(patches: Patches) -> None:
    """Each part when the program imports it."""
    for module, patch_part in _PARTS.items():
        when_imported((module,), partial(patch_part, patches))


def _patch_crews(patches: Patches) -> None:
    for method in ("kickoff", "akickoff", "replay"):
        patches.trace("crewai.crew", f"Crew.{method}", _crew, _ended_with_raw)


def _patch_flows(patches: Patches) -> None:
    for method in ("kickoff_async", "resume_async"):
        patches.trace("crewai.flow.runtime", f"Flow.{method}", _flow)
    _trace_steps(patches, "crewai.flow.runtime", "Flow", ("_execute_method",), _flow_method)


def _patch_tasks(patches: Patches) -> None:
    _trace_steps(patches, "crewai.task", "Task", ("_execute_core", "_aexecute_core"), _task)


def _trace_steps(patches: Patches, module: str, owner: str, methods: tuple[str, ...], describe: Any) -> None:
    """Private methods, and only they are passed on every way; without them the steps are left out."""
    holder = getattr(__import__(module, fromlist=["_"]), owner)
    for method in methods:
        if hasattr(holder, method):
            patches.trace(module, f"{owner}.{method}", describe, _step_ended, _begin_step)


def _patch_agents(patches: Patches) -> None:
    from crewai.agents.agent_builder.base_agent import BaseAgent

    methods = {
        "execute_task": _patch_agent(_agent_with_task),
        "aexecute_task": _patch_agent(_agent_with_task),
        "kickoff": _patch_agent(_agent_alone),
        "kickoff_async": _patch_agent(_agent_alone),
    }
    patch_all_below(patches, BaseAgent, methods)


def _patch_agent(describe: Callable[..., Description | None]) -> Callable[[Patches, type, str], None]:
    return lambda patches, agent, method: patches.trace(agent, method, describe, _ended_with_raw, begin)


def _patch_lite_agent(patches: Patches) -> None:
    patches.trace("crewai.lite_agent", "LiteAgent.kickoff", _agent_alone, _ended_with_raw, begin)


def _patch_knowledge(patches: Patches) -> None:
    for method in ("query", "aquery"):
        patches.trace("crewai.knowledge.knowledge", f"Knowledge.{method}", _knowledge, _found)


def _patch_memory(patches: Patches) -> None:
    patches.trace("crewai.memory.unified_memory", "Memory.recall", _memory, _found)


_PARTS: dict[str, Callable[[Patches], None]] = {
    "crewai.crew": _patch_crews,
    "crewai.flow.runtime": _patch_flows,
    "crewai.task": _patch_tasks,
    "crewai.agents.agent_builder.base_agent": _patch_agents,
    "crewai.lite_agent": _patch_lite_agent,
    "crewai.tools.base_tool": patch_tools,
    "crewai.tools.structured_tool": patch_structured_tools,
    "crewai.tools.agent_tools.base_agent_tools": patch_delegation,
    "crewai.agents.agent_executor": patch_executor_tools,
    "crewai.agents.step_executor": patch_step_tools,
    "crewai.agents.cache.cache_handler": patch_cache,
    "crewai.llms.base_llm": patch_models,
    "crewai.knowledge.knowledge": _patch_knowledge,
    "crewai.memory.unified_memory": _patch_memory,
}
PARTS = tuple(_PARTS)


def _crew(crew: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """With `stream` or a checkpoint, the work is another kickoff's, which is called from in there or later."""
    if get(crew, "stream") or get(kwargs.get("from_checkpoint"), "restore_from"):
        return None
    return "workflow", _name(get(crew, "name")) or type(crew).__name__, None, kwargs.get("inputs", _first(args))


def _flow(flow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """CrewAI's own machinery is made of flows, too: an agent's loop is one."""
    if _is_internal(flow) or get(flow, "stream") or get(kwargs.get("from_checkpoint"), "restore_from"):
        return None
    return "workflow", _name(get(flow, "name")) or type(flow).__name__, None, kwargs.get("inputs", _first(args))


def _is_internal(flow: Any) -> bool:
    return getattr(type(flow), "is_crewai_internal", False) is True


def _flow_method(flow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if _is_internal(flow):
        return None
    return "other", f"flow_method {kwargs.get('method_name', _first(args))}", {}, None


def _task(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    """A task's description is content, so one without a name has none."""
    name = f"{_TASK} {_name(get(task, 'name'))}".strip()
    return "other", name, {names.GEN_AI_OPERATION_NAME: _TASK}, None


def _begin_step(kind: str, name: str, attributes: dict[str, Any], arguments: Any) -> Invocation | None:
    """A step around calls, neither a model's nor a tool's."""
    if context_api.get_value(SUPPRESSED):
        return None
    return _Step("other", state.tracer.start_span(sanitize.name(name), attributes=attributes))


class _Step(Invocation):
    """A flow's method that waits for a person's feedback raises, and the flow goes on another day."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        if type(error).__name__ == "HumanFeedbackPending":
            self.stop()
        else:
            super().fail(error)


def _step_ended(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result


def _agent_with_task(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    task = kwargs.get("task", _first(args))
    context = kwargs.get("context", args[1] if len(args) > 1 else None)
    return _agent(agent, (get(task, "description"), context))


def _agent_alone(agent: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    return _agent(agent, kwargs.get("messages", _first(args)))


def _agent(agent: Any, given: Any) -> Description | None:
    """Directly inside itself an agent tries again after an error, or one of its methods calls another."""
    name = _name(get(agent, "role")) or type(agent).__name__
    return None if is_under_way(id(agent)) else ("agent", name, None, (id(agent), given))


def _ended_with_raw(invocation: Invocation, result: Any) -> Any:
    """Of an output only what was said: ids, times and messages are never the same twice."""
    raw = get(result, "raw")
    invocation.stop(result if raw is None else raw)
    return result


def _knowledge(knowledge: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    name = _name(get(get(knowledge, "storage"), "collection_name")) or "knowledge"
    return "retrieval", name, None, kwargs.get("query", _first(args))


def _memory(memory: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    return "retrieval", "memory", None, kwargs.get("query", _first(args))


def _found(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result


def _first(args: tuple[Any, ...]) -> Any:
    return args[0] if args else None


def _name(told: Any) -> str:
    """YAML files leave a newline at the end of a name."""
    return " ".join(told.split()) if isinstance(told, str) else ""
