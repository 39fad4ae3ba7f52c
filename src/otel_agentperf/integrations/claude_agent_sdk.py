"""The Claude Agent SDK: `query()` and `ClaudeSDKClient`.

The agent, its tools and its model calls are in Claude Code's process; here are only its messages, which `_claude_runs`
reads. They are looked at when the program takes them, with the time they arrived: a program that leaves early does not
know the rest. What Claude Code asks this process for (a tool of an in-process MCP server, a hook, a permission) runs
inside the span of the tool that it is about.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry import context as context_api
from opentelemetry.context import Context

from .. import _guard
from ..capture.callables import like
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches
from ..capture.streams import drive_async_generator
from ..capture.usage import get
from . import _mcp_spans
from ._claude_runs import Run, Tool, Totals

MODULES = ("claude_agent_sdk",)
DISTRIBUTION = "claude-agent-sdk"
VERSIONS = ">=0.2,<0.3"
SOURCE = "wrapped"
COVERS = ("agents", "tools", "llm", "tokens", "streaming")
LIMITS = (
    "Times are those at which Claude Code's messages arrived; retries inside it are not told.",
    "The time to the first token, and what each single call wrote, are told only with include_partial_messages=True; "
    "the tokens of a run are right without it.",
)

_UNNAMED = "claude"
_SESSION = context_api.create_key("otel-agentperf-claude")
_MOST_WAITING = 1_000


def patch(patches: Patches) -> None:
    """Private classes: the public function is imported by its name before we come."""
    patches.wrap("claude_agent_sdk._internal.client", "InternalClient.process_query", _query)
    patches.wrap("claude_agent_sdk.client", "ClaudeSDKClient._connect_inner", _connect)
    patches.wrap("claude_agent_sdk.client", "ClaudeSDKClient.query", _prompt)
    query = "claude_agent_sdk._internal.query"
    patches.wrap(query, "Query.__init__", _made)
    patches.wrap(query, "Query.receive_messages", _received)
    patches.wrap(query, "Query._handle_control_request", _asked)
    patches.wrap(query, "Query.close", _closed)


class Session:
    """A connection to Claude Code. One of `query()` is one run; one of a client has a run a prompt, in their order."""

    def __init__(self, options: Any, whole: Invocation | None = None) -> None:
        self.options = options
        self._before = Totals(None, None if _resumes(options) else {})
        self.runs: deque[Run] = deque([Run(whole)] if whole is not None else [])
        self.is_whole = whole is not None
        self._waiting: deque[tuple[Any, int]] = deque(maxlen=_MOST_WAITING)
        self._ahead = 0
        """messages that were looked at, and not yet taken"""
        self._around = context_api.get_current()

    def prompted(self, prompt: Any = None, since: int | None = None) -> None:
        """The program asked for something, or (with `since`) Claude Code began by itself."""
        around = self._around if since is not None else None
        given = prompt if isinstance(prompt, str) else None
        agent = start("agent", _name(self.options), None, given, parent=around, start_time=since)
        if agent is not None:
            self.runs.append(Run(agent, since))

    def arrived(self, message: Any) -> None:
        self._waiting.append((message, time.time_ns()))

    def taken(self, message: Any) -> None:
        """The program got the next one."""
        if self._ahead:
            self._ahead -= 1
        else:
            self._look(*(self._waiting.popleft() if self._waiting else (message, time.time_ns())))

    def catch_up(self) -> None:
        """Claude Code has gone on: what it said before belongs to what it asks now."""
        while self._waiting:
            self._ahead += 1
            self._look(*self._waiting.popleft())

    def end(self, error: BaseException | None = None) -> None:
        while self.runs:
            self._end(self.runs.popleft(), error)

    def leave(self) -> None:
        """The connection begins to close, which takes Claude Code some seconds where it is at work."""
        for run in self.runs:
            run.left(time.time_ns())

    def tool_of(self, server: Any, call: Mapping[str, Any]) -> Tool | None:
        """The tool call that a request to an in-process MCP server serves."""
        parameters = call.get("params") or {}
        asked = get(parameters.get("_meta"), "claudecode/toolUseId")
        name = f"mcp__{server}__{parameters.get('name')}"
        tools = self.runs[0].tools if self.runs else {}
        waiting = [tool for tool in tools.values() if tool.name == name and not tool.served]
        same = [tool for tool in waiting if tool.arguments == parameters.get("arguments")]
        return tools.get(asked) or next(iter(same or waiting), None)

    def context(self, tool: Tool | None) -> Context | None:
        """Where the work for that tool belongs; where it is for none, the run's."""
        if tool is not None and tool.invocation is not None:
            return tool.invocation.context
        agent = self.runs[0].agent if self.runs else None
        return agent.context if agent is not None else None

    def _look(self, message: Any, at: int) -> None:
        kind = get(message, "type")
        if not self.runs and kind in ("assistant", "stream_event"):
            self.prompted(since=at)
        if not self.runs:
            return
        run = self.runs[0]
        run.before = self._before
        run.message(message, at)
        self._before = run.before
        if kind == "result" and not self.is_whole:
            self.runs.popleft()
            if run.agent is not None:
                run.agent.ended_at(at)
            self._end(run)

    def _end(self, run: Run, error: BaseException | None = None) -> None:
        run.end(error)
        error = error or run.failure
        if run.agent is not None and error is None:
            run.agent.stop()
        elif run.agent is not None and error is not None:
            run.agent.fail(error)


_sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
"""by the SDK's `Query`"""


class _Whole(Invocation):
    """The run of `query()`: however it ends, all below it ends first."""

    __slots__ = ()

    def stop(self, *result: Any) -> None:
        self._end_below(None)
        session = _session_in(self.context)
        failure = session.runs[0].failure if session is not None and session.runs else None
        if failure is not None:
            super().fail(failure)
        else:
            super().stop()

    def fail(self, error: BaseException) -> None:
        self._end_below(error)
        super().fail(error)

    def _end_below(self, error: BaseException | None) -> None:
        with _guard.guard("claude_agent_sdk.end"):
            session = _session_in(self.context)
            if session is not None and session.runs:
                session.runs[0].end(error)


class _Arrivals:
    """The SDK's stream of messages on its way in, with a look at when each arrives."""

    def __init__(self, stream: Any, session: Session) -> None:
        self._stream = stream
        self._session = session

    async def send(self, item: Any) -> None:
        self._session.arrived(item)
        await self._stream.send(item)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _name(options: Any) -> str:
    name = get(options, "agent")
    return name if isinstance(name, str) and name else _UNNAMED


def _resumes(options: Any) -> bool:
    """Does it take up an earlier session, and its costs?"""
    more = get(options, "extra_args") or {}
    told = (get(options, "resume"), get(options, "continue_conversation"), "resume" in more, "continue" in more)
    return any(told)


def _session_in(context: Context | None) -> Session | None:
    found = context_api.get_value(_SESSION, context)
    return found if isinstance(found, Session) else None


def _query(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    options = kwargs.get("options", args[1] if len(args) > 1 else None)
    prompt = kwargs.get("prompt", args[0] if args else None)
    messages = wrapped(*args, **kwargs)
    return like(messages, drive_async_generator(partial(_begin_whole, options, prompt), messages))


@_guard.guarded("claude_agent_sdk.query", None)
def _begin_whole(options: Any, prompt: Any) -> Invocation | None:
    agent = start("agent", _name(options), arguments=prompt if isinstance(prompt, str) else None)
    if agent is not None:
        agent.context = context_api.set_value(_SESSION, Session(options, agent), agent.context)
        agent.__class__ = _Whole
    return agent


def _connect(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return like(wrapped, _connected(client, wrapped, args, kwargs))


async def _connected(client: Any, wrapped: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Inside, the SDK makes its `Query`, which is how that one finds its session."""
    token = None
    with _guard.guard("claude_agent_sdk.connect"):
        session = Session(get(client, "options"))
        if isinstance(kwargs.get("prompt", args[0] if args else None), str):
            session.prompted(kwargs.get("prompt", args[0] if args else None))
        token = context_api.attach(context_api.set_value(_SESSION, session))
    try:
        return await wrapped(*args, **kwargs)
    finally:
        if token is not None:
            context_api.detach(token)


def _made(wrapped: Callable[..., Any], query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    wrapped(*args, **kwargs)
    with _guard.guard("claude_agent_sdk.made"):
        session = _session_in(None)
        if session is not None:
            _sessions[query] = session
            if hasattr(query, "_message_send"):
                query._message_send = _Arrivals(query._message_send, session)


def _prompt(wrapped: Callable[..., Any], client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    prompt = kwargs.get("prompt", args[0] if args else None)
    return like(wrapped, _prompted(client, prompt, wrapped(*args, **kwargs)))


async def _prompted(client: Any, prompt: Any, sending: Coroutine[Any, Any, Any]) -> Any:
    with _guard.guard("claude_agent_sdk.prompt"):
        query = get(client, "_query")
        session = _sessions.get(query) if query is not None else None
        if session is not None:
            session.prompted(prompt)
    return await sending


def _received(wrapped: Callable[..., Any], query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    session = _sessions.get(query)
    messages = wrapped(*args, **kwargs)
    return messages if session is None else like(messages, _watched(session, messages))


async def _watched(session: Session, messages: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    try:
        async for message in messages:
            with _guard.guard("claude_agent_sdk.message"):
                session.taken(message)
            yield message
    except Exception as error:
        with _guard.guard("claude_agent_sdk.failed"):
            if not session.is_whole:
                session.end(error)
        raise
    finally:
        await messages.aclose()


def _asked(wrapped: Callable[..., Any], query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    session = _sessions.get(query)
    if session is None or len(args) != 1:
        return wrapped(*args, **kwargs)
    return like(wrapped, _answer(session, wrapped, args[0]))


async def _answer(session: Session, wrapped: Callable[..., Any], request: Any) -> Any:
    """What Claude Code asks of this process, inside the span it belongs to."""
    token = None
    with _guard.guard("claude_agent_sdk.asked"):
        session.catch_up()
        asked = get(request, "request") or {}
        call = get(asked, "message")
        is_call = isinstance(call, Mapping) and call.get("method") == _mcp_spans.CALL
        tool = session.tool_of(asked.get("server_name"), call) if is_call else _tool(session, asked.get("tool_use_id"))
        context = session.context(tool)
        if context is not None:
            token = context_api.attach(context)
            if is_call:
                request = _with_context(request, asked, call)
                if tool is not None:
                    tool.served = True
    try:
        return await wrapped(request)
    finally:
        if token is not None:
            context_api.detach(token)


def _tool(session: Session, call_id: Any) -> Tool | None:
    return session.runs[0].tools.get(call_id) if session.runs and isinstance(call_id, str) else None


def _with_context(request: Mapping[str, Any], asked: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """The request with the trace context in its `_meta`: the server works in a task that is older than the call."""
    parameters = dict(call.get("params") or {})
    parameters["_meta"] = {**_mcp_spans.carrier(), **(parameters.get("_meta") or {})}
    return {**request, "request": {**asked, "message": {**call, "params": parameters}}}


def _closed(wrapped: Callable[..., Any], query: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return like(wrapped, _close(_sessions.get(query), wrapped(*args, **kwargs)))


async def _close(session: Session | None, closing: Coroutine[Any, Any, Any]) -> Any:
    """A run of a client that is still open has no result to come."""
    with _guard.guard("claude_agent_sdk.leave"):
        if session is not None:
            session.leave()
    try:
        return await closing
    finally:
        with _guard.guard("claude_agent_sdk.close"):
            if session is not None and not session.is_whole:
                session.end()
