"""OpenLLMetry: `traceloop.span.kind` with the entity's input and output, `gen_ai.prompt.N`, `llm.request.type`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..program import Span
from ..world import World


def attributes(span: Span, world: World, ids: Mapping[int, str]) -> tuple[str, dict[str, Any]]:
    if span.kind in ("llm", "embedding"):
        return _model_call(span)
    if span.kind == "retrieval":
        return f"{span.name}.retrieval", {
            "gen_ai.operation.name": "retrieval", "traceloop.entity.name": span.name,
            "traceloop.entity.input": _text(span.args), "traceloop.entity.output": _text(span.result),
        }  # fmt: skip
    entity = "task" if span.kind == "step" else span.kind
    told: dict[str, Any] = {"traceloop.span.kind": entity, "traceloop.entity.name": span.name, "error.type": span.error}
    if span.kind == "tool":
        told["traceloop.entity.input"] = None if span.args is None else _text(span.args)
        told["traceloop.entity.output"] = None if span.error else _text(span.result)
    return f"{span.name}.{entity}", told


def _model_call(span: Span) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {
        "llm.request.type": "chat" if span.kind == "llm" else "embedding",
        "gen_ai.system": "openai",
        "gen_ai.request.model": span.name,
        "gen_ai.usage.prompt_tokens": span.tokens[0],
        "gen_ai.usage.completion_tokens": span.tokens[1],
        "gen_ai.usage.cache_read_input_tokens": span.tokens[2],
        "error.type": span.error,
    }
    if span.kind == "embedding":
        told["gen_ai.prompt.0.content"] = span.args
    for place, (role, text) in enumerate(span.messages or ()):
        told[f"gen_ai.prompt.{place}.role"] = role
        told[f"gen_ai.prompt.{place}.content"] = text
    if span.kind == "llm" and span.messages is not None and not span.error:
        told["gen_ai.completion.0.role"] = "assistant"
        for place, tool in enumerate(span.asks):
            told[f"gen_ai.completion.0.tool_calls.{place}.name"] = tool
        if not span.asks:
            told["gen_ai.completion.0.content"] = span.answer
    return "openai.chat" if span.kind == "llm" else "openai.embeddings", told


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
