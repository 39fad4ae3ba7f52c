"""A run of Claude Code, read off the messages that it sends: model calls, tools, sub-agents.

The agent itself works in another process. A message tells that something is done, so a model call starts where the
model began to be waited for (the prompt, the last tool result) and ends with the last message that belongs to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry.context import Context

from .. import _semconv as names
from ..capture.invocation import Invocation, start
from ..capture.usage import Usage, get, usage
from ._spans import named_error

AGENT_TOOLS = frozenset({"Task", "Agent"})
"""what Claude Code calls the tool that runs a sub-agent"""
_SYNTHETIC = "<synthetic>"
"""the model of messages that Claude Code wrote itself, such as an API error"""
_PROVIDER = {names.GEN_AI_PROVIDER_NAME: "anthropic"}


class Call:
    """A model call. Its answer comes as a message a block, all with the same id."""

    def __init__(self, invocation: Invocation | None, message_id: str | None, at: int) -> None:
        self.invocation = invocation
        self.message_id = message_id
        self.told = Usage()
        self.has_answered = False
        self._said: list[Any] = []
        self._until = at

    def add(self, message: Mapping[str, Any], at: int) -> None:
        """One more message of the answer; its usage is the call's so far."""
        self.has_answered = True
        self._until = max(self._until, at)
        self.tell(tokens(get(message, "usage")))
        self._said += [_without_ids(block) for block in _blocks(message)]

    def tell(self, told: Usage) -> None:
        self.told = Usage(*map(_most, self.told, told))

    def end(self, error: BaseException | None = None) -> None:
        if self.invocation is None:
            return
        self.invocation.usage(*self.told)
        self.invocation.ended_at(self._until)
        self.invocation.result(self._said)
        if error is None:
            self.invocation.stop()
        else:
            self.invocation.fail(error)


class Lane:
    """An agent's conversation: the main one's, or a sub-agent's."""

    def __init__(self, agent: Invocation | None, since: int) -> None:
        self.agent = agent
        self.since = since
        self.call: Call | None = None

    def end_call(self, error: BaseException | None = None) -> None:
        if self.call is not None:
            self.call.end(error)
            self.call = None

    @property
    def context(self) -> Context | None:
        return self.agent.context if self.agent is not None else None


class Tool:
    """A tool that was asked for and has not answered."""

    def __init__(self, invocation: Invocation | None, name: str, arguments: Any) -> None:
        self.invocation = invocation
        self.name = name
        self.arguments = arguments
        self.served = False


class Run:
    """One run of the agent; `agent` is its span."""

    def __init__(self, agent: Invocation | None, since: int | None = None, before: Usage | None = None) -> None:
        self.agent = agent
        self.before = before
        """what the last turn of the same connection cost, or all of them"""
        self.failure: Exception | None = None
        self.tools: dict[str, Tool] = {}
        self._lanes: dict[str | None, Lane] = {None: Lane(agent, since or time.time_ns())}
        self._spent: list[Usage] = []
        self._seen: set[str] = set()

    def message(self, message: Mapping[str, Any], at: int) -> None:
        """Take in a message as it was sent; `at`: when it arrived."""
        kind = message.get("type")
        lane = self._lane(message)
        if kind == "assistant":
            self._answered(lane, message, message.get("message") or {}, at)
        elif kind == "user":
            self._told_to_model(lane, message.get("message") or {}, at)
        elif kind == "stream_event":
            self._streamed(lane, message.get("event") or {}, at)
        elif kind == "system":
            self._system(lane, message, at)
        elif kind == "result":
            self._result(message)

    def end(self, error: BaseException | None = None) -> None:
        """End what is still open below the agent. Whose reader left early ended well."""
        for lane in self._lanes.values():
            # What it answered is there, whatever came after it.
            self._spend(lane, error if lane.call is not None and not lane.call.has_answered else None)
        for call_id in list(self.tools):
            self._end_tool(call_id, error)
        for lane in self._lanes.values():
            if lane.agent is not self.agent and lane.agent is not None:
                _end(lane.agent, error)
        self.tools.clear()

    def _lane(self, message: Mapping[str, Any]) -> Lane:
        """The sub-agent's that the message belongs to; of one nobody started, the main one's."""
        return self._lanes.get(message.get("parent_tool_use_id")) or self._lanes[None]

    def _answered(self, lane: Lane, envelope: Mapping[str, Any], message: Mapping[str, Any], at: int) -> None:
        error, model = envelope.get("error"), message.get("model")
        if model == _SYNTHETIC and not error:
            return
        self._call(lane, message, at)
        if lane.call is not None:
            lane.call.add(message, at)
            if error:
                self._spend(lane, named_error(str(error)))
        for block in _blocks(message):
            if block.get("type") == "tool_use":
                self._begin_tool(lane, block, at)

    def _call(self, lane: Lane, message: Mapping[str, Any], at: int) -> None:
        """See to it that `lane.call` is the one the message belongs to."""
        message_id = message.get("id")
        if message_id is not None and message_id in self._seen:
            if lane.call is not None and lane.call.message_id != message_id:
                self._spend(lane)
            return
        if message_id is None and lane.call is not None and lane.call.message_id is None:
            return
        self._spend(lane)
        if message_id is not None:
            self._seen.add(message_id)
        model = message.get("model")
        name = model if isinstance(model, str) and model else "unknown"
        invocation = start("llm", name, _PROVIDER, parent=lane.context, start_time=min(lane.since, at))
        if invocation is not None and name != _SYNTHETIC:
            invocation.set(names.GEN_AI_RESPONSE_MODEL, name)
        lane.call = Call(invocation, message_id, at)

    def _spend(self, lane: Lane, error: BaseException | None = None) -> None:
        if lane.call is not None:
            self._spent.append(lane.call.told)
            lane.end_call(error)

    def _streamed(self, lane: Lane, event: Mapping[str, Any], at: int) -> None:
        """Partial messages, where the program asks for them: when the answer began, and what it cost in the end."""
        kind = event.get("type")
        if kind == "message_start":
            self._call(lane, event.get("message") or {}, at)
            if lane.call is not None:
                lane.call.tell(tokens(get(event.get("message"), "usage")))
        elif lane.call is not None and kind == "content_block_delta" and lane.call.invocation is not None:
            lane.call.invocation.chunk()
        elif lane.call is not None and kind == "message_delta":
            lane.call.tell(Usage(output_tokens=usage(event.get("usage")).output_tokens))

    def _begin_tool(self, lane: Lane, block: Mapping[str, Any], at: int) -> None:
        call_id, name, arguments = block.get("id"), block.get("name"), block.get("input")
        if not isinstance(call_id, str) or not isinstance(name, str) or call_id in self.tools:
            return
        identity = {names.GEN_AI_TOOL_CALL_ID: call_id}
        invocation = start("tool", name, identity, arguments, parent=lane.context, start_time=at)
        self.tools[call_id] = Tool(invocation, name, arguments)
        if name in AGENT_TOOLS and invocation is not None:
            kind = get(arguments, "subagent_type")
            agent = kind if isinstance(kind, str) and kind else "general-purpose"
            self._lanes[call_id] = Lane(start("agent", agent, parent=invocation.context, start_time=at), at)

    def _told_to_model(self, lane: Lane, message: Mapping[str, Any], at: int) -> None:
        for block in _blocks(message):
            if block.get("type") == "tool_result":
                self._tool_answered(block, at)
        if lane.call is None or lane.call.message_id is None:
            self._spend(lane)  # what comes next without an id is another answer
        lane.since = at

    def _tool_answered(self, block: Mapping[str, Any], at: int) -> None:
        call_id = block.get("tool_use_id")
        tool = self.tools.get(call_id) if isinstance(call_id, str) else None
        if tool is None or not isinstance(call_id, str):
            return
        error = named_error("tool_error") if block.get("is_error") is True else None
        in_background = get(tool.arguments, "run_in_background") is True
        if call_id in self._lanes and not in_background:
            self._end_lane(call_id, error, at)
        if tool.invocation is not None:
            tool.invocation.result(_text_of(block.get("content")))
            tool.invocation.ended_at(at)
        self._end_tool(call_id, error)

    def _end_tool(self, call_id: str, error: BaseException | None) -> None:
        tool = self.tools.pop(call_id)
        if tool.invocation is not None:
            _end(tool.invocation, error)

    def _end_lane(self, call_id: str, error: BaseException | None, at: int | None = None) -> None:
        lane = self._lanes[call_id]
        self._spend(lane)
        if lane.agent is not None:
            if at is not None:
                lane.agent.ended_at(at)
            _end(lane.agent, error)

    def _system(self, lane: Lane, message: Mapping[str, Any], at: int) -> None:
        if message.get("subtype") == "init":
            lane.since = at  # Claude Code had to start first
        call_id, status = message.get("tool_use_id"), message.get("status")
        # A sub-agent in the background: its tool has answered long ago.
        if message.get("subtype") == "task_notification" and call_id in self._lanes and call_id not in self.tools:
            self._end_lane(str(call_id), named_error("task_failed") if status == "failed" else None)

    def _result(self, message: Mapping[str, Any]) -> None:
        """The end of a turn, with what it cost in all: the messages may have told less."""
        main = self._lanes[None]
        total = tokens(message.get("usage"))
        if self.agent is not None:
            self.agent.result(message.get("result"))
        calls = [*self._spent, *(lane.call.told for lane in self._lanes.values() if lane.call is not None)]
        spent = Usage(*(sum(call[place] or 0 for call in calls) for place in range(len(total))))
        missing = Usage(*map(_missing, total, spent, self.before or Usage()))
        self.before = total
        if main.call is not None:
            main.call.tell(Usage(*map(_sum, main.call.told, missing)))
        elif not calls and self.agent is not None:
            self.agent.usage(*total)
        for lane in self._lanes.values():
            self._spend(lane)
        self._spent.clear()
        self.failure = _failure(message)


def tokens(told: Any) -> Usage:
    """Anthropic's input does not hold what was read from or written to the prompt cache; ours does."""
    said = usage(told)
    if said.input_tokens is None:
        return said
    cached = (said.cache_read_tokens or 0) + (said.cache_write_tokens or 0)
    return said._replace(input_tokens=said.input_tokens + cached)


def _failure(result: Mapping[str, Any]) -> Exception | None:
    if result.get("is_error") is not True and not str(result.get("subtype", "")).startswith("error"):
        return None
    status, kind = result.get("api_error_status"), result.get("subtype")
    return named_error(str(status or (kind if kind != "success" else None) or "error"))


def _end(invocation: Invocation, error: BaseException | None) -> None:
    if error is None:
        invocation.stop()
    else:
        invocation.fail(error)


def _blocks(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    return (block for block in content if isinstance(block, Mapping)) if isinstance(content, list) else iter(())


def _without_ids(block: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key not in ("id", "signature")}


def _text_of(content: Any) -> Any:
    """A result that is one text, as that text."""
    if isinstance(content, list) and len(content) == 1 and isinstance(get(content[0], "text"), str):
        return get(content[0], "text")
    return content


def _most(first: int | None, second: int | None) -> int | None:
    return second if first is None else first if second is None else max(first, second)


def _sum(first: int | None, second: int | None) -> int | None:
    return second if first is None else first + (second or 0)


def _missing(total: int | None, spent: int | None, before: int | None) -> int | None:
    """What the calls did not tell. A total that holds both may be that of all turns."""
    if total is None:
        return None
    rest = total - (spent or 0)
    return max(0, rest - before if spent and before and rest >= before else rest)
