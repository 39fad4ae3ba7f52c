"""A run of Claude Code, read off the messages that it sends: model calls, tools, sub-agents.

The agent itself works in another process. A message tells that something is done, so a model call starts where the
model began to be waited for (the prompt, the last tool result) and ends with the last message that belongs to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context

from .. import _semconv as names
from ..capture.invocation import Invocation, start
from ..capture.usage import Usage, get, usage
from ._spans import named_error

AGENT_TOOLS = frozenset({"Task", "Agent"})
"""what Claude Code calls the tool that runs a sub-agent"""
_ANSWER_TOOL = "StructuredOutput"
"""gives the answer the form that the program asked for: no tool of the user's"""
_SYNTHETIC = "<synthetic>"
"""the model of messages that Claude Code wrote itself, such as an API error"""
_PROVIDER = {names.GEN_AI_PROVIDER_NAME: "anthropic"}


class Totals(NamedTuple):
    """What the results of a connection told by now."""

    turn: Usage | None = None
    """of the last turn of the main conversation, or of all of them"""
    models: Mapping[str, int] | None = None
    """tokens that each model wrote, for whichever agent; None: nobody knows what a session that is taken up again
    starts with"""


class Call:
    """A model call. Its answer comes as a message a block, all with the same id."""

    def __init__(self, invocation: Invocation | None, message_id: str | None, at: int, model: str) -> None:
        self.invocation = invocation
        self.message_id = message_id
        self.model = model
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
        _end(self.invocation, error)
        self.invocation, self._said = None, []


class Lane:
    """An agent's conversation: the main one's, or a sub-agent's."""

    def __init__(self, agent: Invocation | None, since: int) -> None:
        self.agent = agent
        self.since = since
        self.call: Call | None = None
        self.calls: list[Call] = []
        """those of this turn"""
        self.in_background = False
        self.is_waiting = True
        """for the model's answer to what it was told last"""

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

    def __init__(self, agent: Invocation | None, since: int | None = None, before: Totals | None = None) -> None:
        self.agent = agent
        self.before = before or Totals()
        self.failure: Exception | None = None
        self.tools: dict[str, Tool] = {}
        self._lanes: dict[str | None, Lane] = {None: Lane(agent, since or time.time_ns())}
        self._held: dict[str, Call] = {}
        """the last call of each model that is over, open until the result says what it cost"""
        self._seen: set[str] = set()

    def message(self, message: Mapping[str, Any], at: int) -> None:
        """Take in a message as it was sent; `at`: when it arrived."""
        kind = message.get("type")
        lane = self._lane(message)
        if kind == "assistant":
            self._answered(lane, message, message.get("message") or {}, at)
        elif kind == "user":
            self._told_to_model(lane, message, at)
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
        self._let_go()
        for call_id in list(self.tools):
            self._end_tool(call_id, error)
        for lane in self._lanes.values():
            if lane.agent is not self.agent and lane.agent is not None:
                _end(lane.agent, error)
        self.tools.clear()

    def left(self, at: int) -> None:
        """Nobody listens any more: what is open ended here, however long Claude Code takes to go."""
        open_below = [tool.invocation for tool in self.tools.values()]
        open_below += [lane.agent for lane in self._lanes.values() if lane.agent is not self.agent]
        for invocation in open_below:
            if invocation is not None:
                invocation.ended_at(at)

    def _lane(self, message: Mapping[str, Any]) -> Lane:
        """The sub-agent's that the message belongs to; of one nobody started, the main one's."""
        return self._lanes.get(message.get("parent_tool_use_id")) or self._lanes[None]

    def _answered(self, lane: Lane, envelope: Mapping[str, Any], message: Mapping[str, Any], at: int) -> None:
        error, model = envelope.get("error"), message.get("model")
        if model == _SYNTHETIC and not error:
            return
        lane.is_waiting = False
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
        lane.call = Call(invocation, message_id, at, name)
        lane.calls.append(lane.call)

    def _spend(self, lane: Lane, error: BaseException | None = None) -> None:
        """The lane's call is over."""
        call, lane.call = lane.call, None
        if call is not None and error is not None:
            call.end(error)
        elif call is not None:
            before = self._held.pop(call.model, None)
            if before is not None:
                before.end()
            self._held[call.model] = call

    def _let_go(self) -> None:
        for call in self._held.values():
            call.end()
        self._held.clear()

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
        if name == _ANSWER_TOOL and invocation is not None:
            invocation.set(names.STEP, True)
        self.tools[call_id] = Tool(invocation, name, arguments)
        if name in AGENT_TOOLS and invocation is not None:
            kind = get(arguments, "subagent_type")
            agent = kind if isinstance(kind, str) and kind else "general-purpose"
            self._lanes[call_id] = Lane(start("agent", agent, parent=invocation.context, start_time=at), at)
            self._lanes[call_id].in_background = get(arguments, "run_in_background") is True

    def _told_to_model(self, lane: Lane, envelope: Mapping[str, Any], at: int) -> None:
        for block in _blocks(envelope.get("message") or {}):
            if block.get("type") == "tool_result":
                self._tool_answered(block, envelope.get("tool_use_result"), at)
        if lane.call is None or lane.call.message_id is None:
            self._spend(lane)  # what comes next without an id is another answer
        lane.since = at
        lane.is_waiting = True

    def _tool_answered(self, block: Mapping[str, Any], told: Any, at: int) -> None:
        call_id = block.get("tool_use_id")
        tool = self.tools.get(call_id) if isinstance(call_id, str) else None
        if tool is None or not isinstance(call_id, str):
            return
        error = named_error("tool_error") if block.get("is_error") is True else None
        lane = self._lanes.get(call_id)
        if lane is not None and not lane.in_background:
            self._last_answer(lane, told, at)
            self._end_lane(call_id, error, at)
        if tool.invocation is not None:
            tool.invocation.result(_text_of(block.get("content")))
            tool.invocation.ended_at(at)
        self._end_tool(call_id, error)

    def _last_answer(self, lane: Lane, told: Any, at: int) -> None:
        """A sub-agent's last answer is the result of its tool, told with what it cost instead of as a message."""
        model, cost = get(told, "resolvedModel"), tokens(get(told, "usage"))
        if get(told, "status") != "completed" or not isinstance(model, str) or cost.output_tokens is None:
            return
        if lane.is_waiting:
            self._call(lane, {"model": model}, at)
            if lane.call is not None:
                lane.call.has_answered = True
        if lane.call is not None:
            lane.call.tell(cost)

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
        call_id, subtype = message.get("tool_use_id"), message.get("subtype")
        if not isinstance(call_id, str) or call_id not in self._lanes:
            return
        if subtype == "task_started" and message.get("is_backgrounded") is True:
            self._lanes[call_id].in_background = True
        elif subtype == "task_notification" and call_id not in self.tools:
            # In the background: its tool has answered long ago.
            failed = message.get("status") == "failed"
            self._end_lane(call_id, named_error("task_failed") if failed else None, at)

    def _result(self, message: Mapping[str, Any]) -> None:
        """The end of a turn, with what it cost in all: the messages may have told less."""
        main = self._lanes[None]
        total, models = tokens(message.get("usage")), _written(message.get("modelUsage"))
        if self.agent is not None:
            self.agent.result(message.get("result"))
        spent = Usage(*(sum(call.told[place] or 0 for call in main.calls) for place in range(len(total))))
        if main.call is not None:
            main.call.tell(Usage(*map(_sum, main.call.told, map(_missing, total, spent, self.before.turn or Usage()))))
        elif not any(lane.calls for lane in self._lanes.values()) and self.agent is not None:
            self.agent.usage(*total)
        for lane in self._lanes.values():
            self._spend(lane)
        if self.before.models is not None:
            self._tell_the_rest(models, self.before.models)
        self._let_go()
        for lane in self._lanes.values():
            lane.calls.clear()
        self.before = Totals(total, models or self.before.models)
        self.failure = _failure(message)

    def _tell_the_rest(self, models: Mapping[str, int], before: Mapping[str, int]) -> None:
        """What each model wrote that its calls did not tell goes to the last of them."""
        for model, written in models.items():
            calls = [call for lane in self._lanes.values() for call in lane.calls if call.model == model]
            rest = written - before.get(model, 0) - sum(call.told.output_tokens or 0 for call in calls)
            last = self._held.get(model)
            if last is not None and rest > 0:
                last.tell(Usage(output_tokens=(last.told.output_tokens or 0) + rest))


def _written(models: Any) -> dict[str, int]:
    """The tokens that each model wrote since the session began."""
    told = models.items() if isinstance(models, Mapping) else ()
    return {name: count for name, cost in told if isinstance(count := get(cost, "outputTokens"), int)}


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
