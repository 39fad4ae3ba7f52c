"""OpenInference: `openinference.span.kind`, messages spread over many attributes, and errors only as an event."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..program import Span
from ..world import World

_KINDS = {
    "agent": "AGENT", "workflow": "CHAIN", "step": "CHAIN", "tool": "TOOL", "llm": "LLM",
    "embedding": "EMBEDDING", "retrieval": "RETRIEVER",
}  # fmt: skip


def attributes(span: Span, world: World, ids: Mapping[int, str]) -> tuple[str, dict[str, Any]]:
    told: dict[str, Any] = {"openinference.span.kind": _KINDS[span.kind]}
    if span.kind == "agent":
        told["agent.name"] = span.name
    if span.kind == "tool":
        told["tool.name"] = span.name
    if span.kind in ("tool", "retrieval"):
        told["input.value"] = None if span.args is None else _text(span.args)
        told["output.value"] = None if span.error else _text(span.result)
        told["input.mime_type"] = "application/json"
    if span.kind == "embedding":
        told["embedding.model_name"] = span.name
        told["embedding.embeddings.0.embedding.text"] = span.args
    if span.kind == "llm":
        told.update(_llm(span))
    return _name(span), told


def _name(span: Span) -> str:
    names = {"agent": f"{span.name}.run", "llm": "ChatCompletion", "embedding": "CreateEmbeddings"}
    return names.get(span.kind, span.name)


def _llm(span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {
        "llm.model_name": span.name,
        "llm.token_count.prompt": span.tokens[0],
        "llm.token_count.completion": span.tokens[1],
        "llm.token_count.prompt_details.cache_read": span.tokens[2],
    }
    for place, (role, text) in enumerate(span.messages or ()):
        told[f"llm.input_messages.{place}.message.role"] = role
        told[f"llm.input_messages.{place}.message.content"] = text
    if span.messages is None or span.error:
        return told
    told["llm.output_messages.0.message.role"] = "assistant"
    for place, tool in enumerate(span.asks):
        told[f"llm.output_messages.0.message.tool_calls.{place}.tool_call.function.name"] = tool
    if not span.asks:
        told["llm.output_messages.0.message.content"] = span.answer
    return told


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
