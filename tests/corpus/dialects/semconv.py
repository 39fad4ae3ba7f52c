"""The GenAI semantic conventions, as pydantic-ai, ADK, Strands and others write them; content shown or hidden."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..program import Span
from ..world import World
from .plain import digest

_OPERATIONS = {
    "agent": "invoke_agent", "workflow": "invoke_workflow", "tool": "execute_tool", "llm": "chat",
    "embedding": "embeddings", "retrieval": "retrieval",
}  # fmt: skip
_NAMES = {
    "agent": "gen_ai.agent.name", "workflow": "gen_ai.workflow.name", "tool": "gen_ai.tool.name",
    "llm": "gen_ai.request.model", "embedding": "gen_ai.request.model", "retrieval": "gen_ai.data_source.id",
}  # fmt: skip


def attributes(span: Span, world: World, ids: Mapping[int, str]) -> tuple[str, dict[str, Any]]:
    name, told = core(span, world, ids)
    if world.content_shown:
        hidden = span.kind == "llm" and span.error and not world.failed_prompts_shown
        if span.kind in _CONTENT and not hidden:
            _CONTENT[span.kind](span, told)
    return name, told


def core(span: Span, world: World, ids: Mapping[int, str]) -> tuple[str, dict[str, Any]]:
    """Without content."""
    if span.kind == "step":
        return span.name, {}
    told: dict[str, Any] = {
        "gen_ai.operation.name": _OPERATIONS[span.kind],
        _NAMES[span.kind]: span.name,
        "error.type": span.error,
        "gen_ai.usage.input_tokens": span.tokens[0],
        "gen_ai.usage.output_tokens": span.tokens[1],
        "gen_ai.usage.cache_read.input_tokens": span.tokens[2],
    }
    if span.asked and world.call_ids:
        told["gen_ai.tool.call.id"] = f"call_{digest(ids[id(span)])}"
    return f"{_OPERATIONS[span.kind]} {span.name}", told


def _tool(span: Span, told: dict[str, Any]) -> None:
    told["gen_ai.tool.call.arguments"] = None if span.args is None else _text(span.args)
    told["gen_ai.tool.call.result"] = None if span.error else _text(span.result)
    told["agentperf.result.size"] = span.size


def _llm(span: Span, told: dict[str, Any]) -> None:
    if span.messages is None:
        return
    prompt = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in span.messages]
    asked = [
        {"type": "tool_call", "id": f"c{place}", "name": tool, "arguments": {}} for place, tool in enumerate(span.asks)
    ]
    parts = asked or [{"type": "text", "content": span.answer}]
    told["gen_ai.input.messages"] = json.dumps(prompt)
    told["gen_ai.output.messages"] = None if span.error else json.dumps([{"role": "assistant", "parts": parts}])


def _retrieval(span: Span, told: dict[str, Any]) -> None:
    told["gen_ai.retrieval.query.text"] = _text(span.args)
    told["gen_ai.retrieval.documents"] = _text(span.result)


_CONTENT = {"tool": _tool, "llm": _llm, "retrieval": _retrieval}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
