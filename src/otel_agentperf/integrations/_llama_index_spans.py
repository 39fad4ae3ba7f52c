"""The spans of LlamaIndex's dispatcher, each with one of ours that is current while its work runs."""

from __future__ import annotations

import sys
import weakref
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import lru_cache
from types import AsyncGeneratorType, GeneratorType
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation, start
from ..capture.streams import drive_async_generator, drive_generator
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import get
from ._spans import named_error, own_attributes

_ROLES = {
    "BaseTool": ("tool", frozenset(("call", "acall", "__call__"))),
    "BaseRetriever": ("retrieval", frozenset(("retrieve", "aretrieve"))),
    "BaseQueryEngine": ("engine", frozenset(("query", "aquery"))),
    "IngestionPipeline": ("engine", frozenset(("run", "arun"))),
    "BaseChatEngine": ("engine", frozenset(("chat", "achat", "stream_chat", "astream_chat"))),
    "BaseEmbedding": ("embedding", frozenset(f"{prefix}get_{what}_embedding{suffix}" for prefix in ("", "a")
                      for what, suffix in (("query", ""), ("text", ""), ("text", "_batch")))),
    "StreamingAgentChatResponse": ("reading", frozenset(("write_response_to_history", "awrite_response_to_history"))),
    "BaseWorkflowAgent": ("agent", frozenset(("run",))),
    "AgentWorkflow": ("team", frozenset(("run",))),
    "Workflow": ("workflow", frozenset(("run",))),
}  # fmt: skip
"""by the name of a base class: what it is, and its methods that are calls of it"""
_LIBRARY = ("llama_index", "workflows")
_TO_BE_CONTINUED = ("WaitingForEvent", "WorkflowCancelledByUser")
"""errors by which a workflow waits for a human, or is stopped by one"""


class Run:
    """A workflow that runs; where it is a team of agents, with the agent whose turn it is."""

    __slots__ = ("agent", "agent_name", "classes", "invocation", "role")

    def __init__(self, invocation: Invocation, role: str, kind: type) -> None:
        self.invocation = invocation
        self.role = role
        self.classes = frozenset(base.__qualname__ for base in kind.__mro__)
        """whose functions are its steps"""
        self.agent: Invocation | None = None
        self.agent_name = ""

    def turn_of(self, agent: str) -> None:
        """The steps from now on are this agent's."""
        if self.agent is None or agent != self.agent_name:
            if self.agent is not None:
                self.agent.stop()
            self.agent = start("agent", agent, parent=self.invocation.context)
            self.agent_name = agent


_run: ContextVar[Run | None] = ContextVar("otel_agentperf_llama_index_run", default=None)
_answering: ContextVar[Invocation | None] = ContextVar("otel_agentperf_llama_index_answering", default=None)
"""the chat engine whose answer is read, by a thread or a task that it starts"""
_call_id: ContextVar[str | None] = ContextVar("otel_agentperf_llama_index_call_id", default=None)


class _Opened:
    """A span of the dispatcher's that was entered: what is ours, and what is to be undone when it is left."""

    __slots__ = ("_context", "_token", "_variables", "invocation", "reading", "run")

    def __init__(self, invocation: Invocation | None, context: Context | None, run: Run | None = None) -> None:
        self.invocation = invocation
        self.run = run
        self.reading: Any = None
        """the streamed answer whose end is the end of `invocation`"""
        self._context = context
        self._token: Any = None if context is None else context_api.attach(context)
        self._variables: list[tuple[ContextVar[Any], Token[Any]]] = []

    def set(self, variable: ContextVar[Any], value: Any) -> None:
        self._variables.append((variable, variable.set(value)))

    def leave(self) -> None:
        """No longer current; where somebody closes it in another context, there is nothing to undo."""
        for variable, token in self._variables:
            with suppress(ValueError):
                variable.reset(token)
        if self._token is not None and context_api.get_current() is self._context:
            context_api.detach(self._token)


class SpanHandler:
    """The dispatcher calls these in the context of the work they stand for."""

    def __init__(self) -> None:
        self.active = False
        self.open_spans: dict[str, _Opened] = {}

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, parent_id: str | None = None, **more: Any
    ) -> None:
        with _guard.guard("llama_index.enter"):
            if self.active and not context_api.get_value(SUPPRESSED):
                opened = _open(id_.partition("-")[0], instance, bound_args.arguments)
                if opened is not None:
                    self.open_spans[id_] = opened

    def span_exit(self, id_: str, bound_args: Any, instance: Any = None, result: Any = None, **more: Any) -> None:
        with _guard.guard("llama_index.exit"):
            opened = self.open_spans.pop(id_, None)
            if opened is not None:
                opened.leave()
                _ended_well(opened, result)

    def span_drop(
        self, id_: str, bound_args: Any, instance: Any = None, err: BaseException | None = None, **more: Any
    ) -> None:
        with _guard.guard("llama_index.drop"):
            opened = self.open_spans.pop(id_, None)
            if opened is not None:
                opened.leave()
                _ended_with(opened, err)

    def capture_propagation_context(self) -> dict[str, Any]:
        return {}

    def restore_propagation_context(self, context: dict[str, Any]) -> None:
        """The context of the task that starts a run is inherited."""

    def close(self) -> None:
        """Nothing waits here."""


def _open(name: str, instance: Any, arguments: dict[str, Any]) -> _Opened | None:
    """`name`: class and method"""
    if instance is None:
        return _step(name, arguments)
    role = _role(type(instance), name.rpartition(".")[2])  # type: ignore[arg-type]
    if role in ("agent", "team", "workflow"):
        return _workflow(role, instance, arguments)
    if role == "reading":
        engine = _answering.get()
        if engine is not None:
            engine._cpu_ns = -1  # it ends on a thread, or between tasks, that are others'
        opened = _Opened(engine, None)
        opened.reading = instance
        return opened
    description = _DESCRIBE[role](instance, arguments) if role else None
    invocation = begin(*description) if description is not None else None
    if invocation is None:
        return None
    opened = _Opened(invocation, invocation.context)
    if role == "engine":
        opened.set(_answering, invocation)
    return opened


def begin(kind: Any, name: str, *rest: Any) -> Invocation | None:
    """As `start`; steps and hand-offs have no convention."""
    if kind != "other":
        return start(kind, name, *rest)
    return Invocation("other", state.tracer.start_span(sanitize.name(name)))


@lru_cache(maxsize=1024)
def _role(kind: type, method: str) -> str:
    """What a class is for us; empty where the method is no call of it."""
    for base in kind.__mro__:
        role, methods = _ROLES.get(base.__name__, ("", frozenset[str]()))
        if role and base.__module__.partition(".")[0] in _LIBRARY:
            return role if method in methods else ""
    return ""


def _workflow(role: str, workflow: Any, arguments: dict[str, Any]) -> _Opened | None:
    name = get(workflow, "name") if role == "agent" else get(workflow, "_workflow_name")
    name = name if isinstance(name, str) and name else type(workflow).__name__
    event = arguments.get("start_event")
    given = get(event, "user_msg") or get(event, "_data") or None
    invocation = start("agent" if role == "agent" else "workflow", name, None, given)
    if invocation is None:
        return None
    run = Run(invocation, role, type(workflow))
    opened = _Opened(invocation, invocation.context, run)
    opened.set(_run, run)
    return opened


def _step(name: str, arguments: dict[str, Any]) -> _Opened | None:
    """A step of a workflow: in a team it is its agent's; of a workflow of the user's own it is shown."""
    run = _run.get()
    if run is None or name.rpartition(".")[0] not in run.classes:
        return None
    event = arguments.get("ev")
    invocation = None
    if run.role == "team":
        agent = get(event, "current_agent_name")
        if isinstance(agent, str) and agent:
            run.turn_of(agent)
    elif run.role == "workflow":
        invocation = begin("other", name.rpartition(".")[2])
    current = invocation or run.agent
    opened = _Opened(invocation, current.context if current is not None else None)
    call_id = get(event, "tool_id")
    opened.set(_call_id, call_id if isinstance(call_id, str) else None)
    return opened


def _tool(tool: Any, arguments: dict[str, Any]) -> Description | None:
    name = get(tool.metadata, "name") or type(tool).__name__
    if own_attributes(get_current_span()).get(names.GEN_AI_TOOL_NAME) == name:
        return None  # `acall` through `call`, or an adapter's through its tool's
    given = dict(arguments.get("kwargs") or {})
    if _is_handoff(tool):
        run = _run.get()
        origin = run.agent_name if run is not None else ""
        return "other", f"handoff {origin} to {given.get('to_agent')}", None, None
    given.pop(get(tool, "ctx_param_name"), None)
    for position, value in enumerate(arguments.get("args") or ()):
        given[str(position)] = value
    if "input" in arguments:
        given["input"] = arguments["input"]
    call_id = _call_id.get()
    return "tool", name, {names.GEN_AI_TOOL_CALL_ID: sanitize.name(call_id)} if call_id else None, given


def _is_handoff(tool: Any) -> bool:
    function = get(tool, "_real_fn")
    return getattr(function, "__module__", "") == "llama_index.core.agent.workflow.multi_agent_workflow"


def _retrieval(retriever: Any, arguments: dict[str, Any]) -> Description:
    query = arguments.get("str_or_query_bundle")
    return "retrieval", type(retriever).__name__, None, get(query, "query_str") or query


def _embedding(model: Any, arguments: dict[str, Any]) -> Description | None:
    """None: an index whose nodes have their embeddings asks for none."""
    given = next((value for value in arguments.values() if isinstance(value, (str, list))), None)
    if given == []:
        return None
    name = get(model, "model_name")
    is_named = isinstance(name, str) and name not in ("", "unknown")
    return "embedding", name if is_named else type(model).__name__, None, given


def _engine(engine: Any, arguments: dict[str, Any]) -> Description:
    """What the program asks is a run; what a tool or another engine asks is a step."""
    if own_attributes(get_current_span()):
        return "other", type(engine).__name__, None, None
    return "workflow", type(engine).__name__, None, next(iter(arguments.values()), None)


_DESCRIBE = {"tool": _tool, "retrieval": _retrieval, "embedding": _embedding, "engine": _engine}


def _ended_well(opened: _Opened, result: Any) -> None:
    if opened.run is not None and opened.run.agent is not None:
        opened.run.agent.stop()
    invocation = opened.invocation
    if invocation is None:
        return
    if opened.reading is not None:
        invocation.stop(get(opened.reading, "response"))
        return
    task = get(result, "awrite_response_to_history_task")
    if task is not None or get(result, "write_response_to_history_thread") is not None:
        if task is not None:  # which may be cancelled before it began
            task.add_done_callback(lambda _: invocation.stop())
        return
    try:
        _end(invocation, result)
    finally:
        if invocation.kind not in ("workflow", "other"):  # which may have to be read
            invocation.stop()


def _end(invocation: Invocation, result: Any) -> None:
    if invocation.kind == "tool" and get(result, "is_error") is True:
        error = get(result, "exception")
        invocation.fail(error if isinstance(error, BaseException) else named_error("tool_error"))
    elif invocation.kind == "tool":
        invocation.stop(get(result, "content"))
    elif invocation.kind == "retrieval":
        invocation.stop([get(get(one, "node"), "text") for one in result or ()])
    elif invocation.kind in ("agent", "workflow"):
        told = get(result, "result") or result
        if not _is_to_be_read(invocation, told):
            said = get(told, "response") or told
            invocation.stop(get(said, "content") or said)
    elif not _is_to_be_read(invocation, result):
        invocation.stop()


def _is_to_be_read(invocation: Invocation, answer: Any) -> bool:
    """An answer that streams: the run is over when it has been read, or nobody can begin to any more."""

    def begin() -> Invocation:
        unread.detach()
        return invocation

    words = getattr(answer, "__dict__", {}).get("response_gen")
    if type(words) is GeneratorType:
        answer.response_gen = drive_generator(begin, words)
    elif type(words) is AsyncGeneratorType:
        answer.response_gen = drive_async_generator(begin, words)
    else:
        return False
    unread = weakref.finalize(answer.response_gen, invocation.stop)
    return True


def _ended_with(opened: _Opened, error: BaseException | None) -> None:
    error = error or named_error("error")
    ended = [opened.run.agent if opened.run is not None else None, opened.invocation]
    for invocation in ended:
        if invocation is None:
            continue
        if type(error).__name__ in _TO_BE_CONTINUED and type(error).__module__.partition(".")[0] in _LIBRARY:
            invocation.stop()
        else:
            invocation.fail(error)


def root_dispatcher() -> Any:
    """The dispatcher that every other one passes its spans on to."""
    return sys.modules["llama_index_instrumentation"].get_dispatcher()
