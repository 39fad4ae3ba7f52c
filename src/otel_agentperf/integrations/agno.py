"""agno: agents, teams, workflows, tools, models of any class, knowledge.

A team is an agent, its members are agents below it; its tools that hand a task to a member are steps, not tools. A
tool or a run that fails does not raise: agno answers with a status, which is read here.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import context as context_api
from opentelemetry.trace import Span, get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Describe, Description, call_inside
from ..capture.invocation import Invocation, error_type, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_async_generator, drive_coroutine, drive_generator
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import Usage, get
from ..model import Kind
from ._polymorphic import Watch, polymorphic
from ._spans import atapped, named_error, tapped
from ._subclasses import PatchMethod, patch_all_below

MODULES = ("agno",)
DISTRIBUTION = "agno"
VERSIONS = ">=2.9,<4"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs", "retrieval")
PARTS = (
    "agno.agent.agent", "agno.team.team", "agno.workflow.workflow", "agno.tools.function", "agno.models.base",
    "agno.knowledge.knowledge",
)  # fmt: skip
LIMITS = (
    "What a run with background=True does after its call returned is reported as late; background=False shows all.",
)

_HANDOFFS = frozenset({"delegate_task_to_member", "delegate_task_to_members", "execute_task", "execute_tasks_parallel"})
"""tools that a team gives its leader, to have a member run"""
_raised: WeakKeyDictionary[Span, str] = WeakKeyDictionary()
"""the type of the exception that a tool's answer stands for"""


class _Terms(NamedTuple):
    """What agno calls things in a run of an agent, a team, or a workflow."""

    identity: str
    output: str
    error: str
    cancelled: str


_TERMS = {
    "Agent": _Terms("agent_id", "RunOutput", "RunError", "RunCancelled"),
    "Team": _Terms("team_id", "TeamRunOutput", "TeamRunError", "TeamRunCancelled"),
    "Workflow": _Terms("workflow_id", "WorkflowRunOutput", "WorkflowError", "WorkflowCancelled"),
}


def patch(patches: Patches) -> None:
    """Each part when the program imports it."""
    for module, holder in zip(PARTS, _TERMS, strict=False):
        when_imported((module,), partial(_patch_runs, patches, module, holder))
    for module, patch_part in zip(PARTS[3:], (_patch_tools, _patch_models, _patch_knowledge), strict=True):
        when_imported((module,), partial(patch_part, patches, module))


def _patch_runs(patches: Patches, module: str, holder: str) -> None:
    kind: Kind = "workflow" if holder == "Workflow" else "agent"
    watch = partial(_Run, _TERMS[holder])
    for method in ("run", "arun", "continue_run", "acontinue_run"):
        later = _is_stream if not method.startswith("a") else _always
        patches.wrap(module, f"{holder}.{method}", polymorphic(_run(kind), later, watch))


def _patch_tools(patches: Patches, module: str) -> None:
    patches.wrap(module, "FunctionCall.execute", _execute)
    patches.wrap(module, "FunctionCall.aexecute", _aexecute)
    # Only this knows of the exception behind a tool's answer that it failed.
    patches.wrap(module, "log_exception", _exception_logged)


def _patch_models(patches: Patches, module: str) -> None:
    patch_all_below(patches, sys.modules[module].Model, _MODEL_METHODS)


def _patch_invoke(patches: Patches, model: type, method: str) -> None:
    patches.trace(model, method, _model, _answered)


def _patch_stream(patches: Patches, model: type, method: str) -> None:
    patches.wrap(model, method, _streamed)


_MODEL_METHODS: dict[str, PatchMethod] = {
    "invoke": _patch_invoke,
    "ainvoke": _patch_invoke,
    "invoke_stream": _patch_stream,
    "ainvoke_stream": _patch_stream,
}


def _patch_knowledge(patches: Patches, module: str) -> None:
    for path in ("Knowledge.search", "Knowledge.asearch"):
        patches.trace(module, path, _search)


def _run(kind: Kind) -> Describe:
    def describe(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
        name = getattr(instance, "name", None)
        given = kwargs.get("input", args[0] if args else None)
        return kind, name if isinstance(name, str) and name else type(instance).__name__, None, given

    return describe


def _is_stream(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    stream = kwargs.get("stream")
    return bool(getattr(instance, "stream", None) if stream is None else stream)


def _always(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return True


class _Run(Watch):
    """A run that failed or was cancelled says so in its output, a stream in one of its events."""

    def __init__(self, terms: _Terms, instance: Any) -> None:
        super().__init__(instance)
        self._terms = terms
        self._outcome = ""

    def look(self, item: Any) -> None:
        """Members and sub-agents send their items through the same stream. The output, where it is asked for, is the
        last item: many a reader leaves then."""
        own = getattr(self.instance, "id", None)
        if own is None or get(item, self._terms.identity) != own:
            return
        event = get(item, "event")
        if event in (self._terms.error, self._terms.cancelled):
            self._outcome = "error" if event == self._terms.error else "cancelled"
        elif type(item).__name__ == self._terms.output and self.invocation is not None:
            self.ended(self.invocation, item)

    def ended(self, invocation: Invocation, result: Any) -> Any:
        outcome = self._outcome or str(getattr(get(result, "status"), "value", "")).lower()
        if outcome == "error":
            invocation.fail(named_error(f"{invocation.kind}_error"))
        elif outcome == "cancelled":
            invocation.fail(named_error("RunCancelledException"))
        else:
            invocation.stop(*([] if result is None else [get(result, "content")]))
        return result


def _tool(call: Any) -> Description:
    identity = call.call_id
    known = {names.GEN_AI_TOOL_CALL_ID: sanitize.name(identity)} if isinstance(identity, str) and identity else None
    return "tool", call.function.name, known, call.arguments or {}


def _is_handoff(call: Any) -> bool:
    function = call.function
    return function.name in _HANDOFFS and getattr(function, "_team", None) is not None


def _begin_tool(call: Any, *_: Any) -> Invocation | None:
    try:
        return _begin_handoff(call) if _is_handoff(call) else start(*_tool(call))
    except Exception as fault:  # noqa: BLE001 - ours; the user's call goes on untraced
        _guard.swallowed("agno.tool", fault)
        return None


def _begin_handoff(call: Any) -> Invocation | None:
    if context_api.get_value(SUPPRESSED):
        return None
    team = call.function._team
    name = f"handoff {team.name or 'team'} to {_member(team, call.arguments or {})}"
    return Invocation("other", state.tracer.start_span(sanitize.name(name)))


def _member(team: Any, arguments: dict[str, Any]) -> str:
    """The member's own name: what the model wrote is an argument, and those are not shown."""
    asked = arguments.get("member_id")
    if asked is None:
        return "its members"
    for member in team.members if isinstance(team.members, list) else ():
        name = getattr(member, "name", None) or "member"
        if asked in (name, getattr(member, "id", None), name.lower().replace(" ", "-")):
            return str(name)
    return "a member"


def _execute(wrapped: Callable[..., Any], call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    description: Any = (call,)
    return call_inside(_begin_tool, description, wrapped, args, kwargs, partial(_tool_ended, call))


def _aexecute(wrapped: Callable[..., Any], call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return drive_coroutine(partial(_begin_tool, call), wrapped(*args, **kwargs), partial(_tool_ended, call))


def _tool_ended(call: Any, invocation: Invocation, outcome: Any) -> Any:
    """A tool that is a generator works while it is read."""
    made = get(outcome, "result")
    drive: Any = {types.GeneratorType: drive_generator, types.AsyncGeneratorType: drive_async_generator}.get(type(made))
    if drive is not None:
        invocation._cpu_ns = -1  # the reader's time lies in between
        outcome.result = call.result = drive(lambda: invocation, made)
        return outcome
    raised = _raised.pop(invocation.span, "tool_error")
    if get(outcome, "status") == "failure":
        invocation.fail(named_error(raised))
    else:
        invocation.stop(*([made] if invocation.kind == "tool" else []))
    return outcome


def _exception_logged(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _guard.guard("agno.tool_error"):
        if args and isinstance(args[0], BaseException):
            _raised[get_current_span()] = error_type(args[0])
    return wrapped(*args, **kwargs)


def _model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    name = getattr(model, "id", None)
    messages = kwargs.get("messages", args[0] if args else None)
    return "llm", name if isinstance(name, str) and name else type(model).__name__, _provider(model), messages


def _provider(model: Any) -> dict[str, Any] | None:
    provider = getattr(model, "provider", None)
    return {names.GEN_AI_PROVIDER_NAME: sanitize.name(provider.lower())} if isinstance(provider, str) else None


def _answered(invocation: Invocation, answer: Any) -> Any:
    _record(invocation, _usage(answer))
    asked = [get(call, "function") for call in get(answer, "tool_calls") or ()]
    invocation.stop([get(answer, "content"), asked])
    return answer


def _usage(answer: Any) -> Usage:
    """agno says 0 where the model did not say."""
    told = get(answer, "response_usage")
    keys = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    counts = [get(told, key) for key in keys] if told is not None else []
    return Usage(*(count if isinstance(count, int) and count else None for count in counts))


def _record(invocation: Invocation, told: Usage) -> None:
    if told.input_tokens or told.output_tokens:
        invocation.usage(
            told.input_tokens or 0, told.output_tokens or 0, told.cache_read_tokens, told.cache_write_tokens
        )


def _streamed(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    total = _Total()
    begin = partial(_begin_stream, model, args, kwargs)
    made = wrapped(*args, **kwargs)
    if hasattr(made, "__aiter__"):
        return drive_async_generator(begin, atapped(made, total.add), total.ended)
    return drive_generator(begin, tapped(made, total.add), total.ended)


@_guard.guarded("agno.stream", None)
def _begin_stream(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    return start(*_model(model, args, kwargs))


class _Total:
    """The tokens of a stream's pieces, summed as agno itself does."""

    def __init__(self) -> None:
        self._told = Usage()

    def add(self, piece: Any) -> None:
        pairs = zip(self._told, _usage(piece), strict=True)
        self._told = Usage(*(more if before is None else before + (more or 0) for before, more in pairs))

    def ended(self, invocation: Invocation, result: Any) -> Any:
        _record(invocation, self._told)
        invocation.stop()
        return result


def _search(knowledge: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    name = getattr(knowledge, "name", None)
    return "retrieval", name or type(knowledge).__name__, None, kwargs.get("query", args[0] if args else None)
