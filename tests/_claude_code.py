"""Claude Code as the SDK meets it: a transport that speaks its protocol, and what it says to each prompt.

query(prompt="…", transport=ClaudeCode([answer("m1", uses("t1", "Bash", command="ls")), results(t1="a.py"), done()]))
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import anyio
from claude_agent_sdk import Transport

MODEL = "claude-sonnet-4-5"
USAGE = {"input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 4}
INPUT, OUTPUT, CACHED = 44, 7, 30
Said = dict[str, Any]


@dataclass(frozen=True)
class Asks:
    """Claude Code asks the program's process for something, and waits for its answer."""

    request: Said
    check: Callable[[Said], None] = lambda answer: None


@dataclass(frozen=True)
class Waits:
    seconds: float


@dataclass(frozen=True)
class Dies:
    error: Exception


Step = Said | Asks | Waits | Dies


def text(said: str) -> Said:
    return {"type": "text", "text": said}


def uses(call_id: str, tool: str, **arguments: Any) -> Said:
    return {"type": "tool_use", "id": call_id, "name": tool, "input": arguments}


def answer(
    message_id: str | None, *blocks: Said, inside: str | None = None, usage: Said | None = USAGE, **more: Any
) -> Said:
    """One message of a model's answer; those of the same answer have the same id."""
    message = {"role": "assistant", "model": MODEL, "id": message_id, "content": list(blocks), "usage": usage}
    fields = {"model": more.pop("model", MODEL)}
    return {
        "type": "assistant",
        "message": {**message, **fields},
        "parent_tool_use_id": inside,
        "session_id": "s",
        **more,
    }


def results(inside: str | None = None, failed: tuple[str, ...] = (), **told: Any) -> Said:
    """What tools answered, by the ids of their calls."""
    blocks = [
        {"type": "tool_result", "tool_use_id": call_id, "content": said, "is_error": call_id in failed or None}
        for call_id, said in told.items()
    ]
    return {
        "type": "user",
        "message": {"role": "user", "content": blocks},
        "parent_tool_use_id": inside,
        "session_id": "s",
    }


def done(said: str = "Done.", usage: Said | None = None, **more: Any) -> Said:
    return {
        "type": "result", "subtype": "success", "duration_ms": 5, "duration_api_ms": 4, "is_error": False,
        "num_turns": 1, "session_id": "s", "total_cost_usd": 0.01, "usage": usage, "result": said, **more,
    }  # fmt: skip


def init() -> Said:
    return {"type": "system", "subtype": "init", "session_id": "s", "model": MODEL, "tools": []}


def event(inside: str | None = None, **event: Any) -> Said:
    return {"type": "stream_event", "uuid": "u", "session_id": "s", "event": event, "parent_tool_use_id": inside}


def mcp(server: str, method: str, check: Callable[[Said], None] = lambda answer: None, **params: Any) -> Asks:
    """A request to an in-process MCP server."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return Asks({"subtype": "mcp_message", "server_name": server, "message": message}, check)


def handshake(server: str) -> list[Step]:
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    return [mcp(server, "initialize", **client), mcp(server, "tools/list")]


class ClaudeCode(Transport):
    """Answers each prompt with the next script; ends with the program's input."""

    def __init__(self, *scripts: list[Step]) -> None:
        self._scripts = list(scripts)
        self._answers: dict[str, tuple[anyio.Event, list[Said]]] = {}

    async def connect(self) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[Said](100)

    async def write(self, data: str) -> None:
        message = json.loads(data)
        if message["type"] == "control_response":
            told = message["response"]
            event, answers = self._answers[told["request_id"]]
            answers.append(told)
            event.set()
        else:
            await self._send.send(message)

    async def read_messages(self) -> AsyncIterator[Said]:
        numbers = iter(range(1_000))
        async for message in self._receive:
            if message["type"] == "control_request":
                body = {"subtype": "success", "request_id": message["request_id"], "response": {}}
                self.hooks = message["request"].get("hooks")
                yield {"type": "control_response", "response": body}
                continue
            for step in self._scripts.pop(0) if self._scripts else ():
                if isinstance(step, Asks):
                    request_id = f"asked_{next(numbers)}"
                    self._answers[request_id] = anyio.Event(), []
                    yield {"type": "control_request", "request_id": request_id, "request": step.request}
                    event, answers = self._answers[request_id]
                    await event.wait()
                    step.check(answers[0])
                elif isinstance(step, Waits):
                    await anyio.sleep(step.seconds)
                elif isinstance(step, Dies):
                    raise step.error
                else:
                    yield step

    async def end_input(self) -> None:
        self._send.close()

    async def close(self) -> None:
        self._send.close()
        self._receive.close()

    def is_ready(self) -> bool:
        return True
