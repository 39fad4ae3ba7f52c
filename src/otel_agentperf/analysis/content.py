"""What a span shows of a call's content: its arguments, its result, and the tools that a model's answer asks for.

Key spellings are those of the GenAI conventions, OpenInference (which spreads messages over many attributes, such as
`llm.input_messages.0.message.content`) and OpenLLMetry (`gen_ai.prompt.0.content`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .. import _semconv as names
from .._visible import visible_text
from ..model import Kind
from .measurements import first, number

Attributes = Mapping[str, Any]

_LONGEST_NAME = 1_024
_CALL_ARGUMENTS = (
    names.GEN_AI_TOOL_CALL_ARGUMENTS,
    "tool_arguments",
    "gcp.vertex.agent.tool_call_args",
    "input.value",
    "traceloop.entity.input",
    "gen_ai.prompt",
)
_ARGUMENTS: dict[Kind, tuple[str, ...]] = {
    "llm": (names.GEN_AI_INPUT_MESSAGES, "input.value", "traceloop.entity.input", "gen_ai.prompt"),
    "retrieval": ("gen_ai.retrieval.query.text", *_CALL_ARGUMENTS),
}
_CALL_RESULTS = (
    names.GEN_AI_TOOL_CALL_RESULT,
    names.GEN_AI_OUTPUT_MESSAGES,
    "tool_response",
    "gcp.vertex.agent.tool_response",
    "output.value",
    "traceloop.entity.output",
    "gen_ai.completion",
)
_RESULTS: dict[Kind, tuple[str, ...]] = {"retrieval": ("gen_ai.retrieval.documents", *_CALL_RESULTS)}

# Read before `input.value` and `output.value`, which hold an id for each message of LangChain.
_SPREAD_ARGUMENTS: dict[Kind, tuple[str, ...]] = {
    "llm": ("llm.input_messages.", "gen_ai.prompt."),
    "embedding": ("embedding.embeddings.", "gen_ai.prompt."),
}
_SPREAD_RESULTS: dict[Kind, tuple[str, ...]] = {
    "llm": ("llm.output_messages.", "gen_ai.completion."),
    "retrieval": ("retrieval.documents.",),
}
_NO_CONTENT = (".embedding.vector", ".document.score")
_NO_ANSWER = (".role", ".finish_reason")
_TOOL_NAME = {"llm.output_messages.": ".tool_call.function.name", "gen_ai.completion.": ".name"}
_TOOL_CALLS = frozenset({"tool_call", "tool_use", "function_call", "function"})
"""types of a message's part that is a tool call, in the GenAI conventions, Anthropic's and OpenAI's own JSON"""
_RESULT_SIZES = (names.RESULT_SIZE, "http.response.body.size", "http.response_content_length")
_ARGUMENT_SIZES = (names.ARGS_SIZE, "http.request.body.size", "http.request_content_length")


def arguments_text(kind: Kind, attributes: Attributes) -> str | None:
    """The canonical text of the call's arguments; None when not visible, or cut off."""
    spread = _spread_text(attributes, _SPREAD_ARGUMENTS.get(kind, ()))
    return spread or visible_text(first(attributes, _ARGUMENTS.get(kind, _CALL_ARGUMENTS)))


def result_text(kind: Kind, attributes: Attributes) -> str | None:
    """The canonical text of the call's result; None when not visible, or cut off."""
    spread = _spread_text(attributes, _SPREAD_RESULTS.get(kind, ()))
    return spread or visible_text(first(attributes, _RESULTS.get(kind, _CALL_RESULTS)))


def result_size(attributes: Attributes) -> int | None:
    """Bytes of the result or of the response's body."""
    return number(first(attributes, _RESULT_SIZES))


def arguments_size(attributes: Attributes) -> int | None:
    """Bytes of the arguments or of the request's body."""
    return number(first(attributes, _ARGUMENT_SIZES))


def shown_size(kind: Kind, attributes: Attributes) -> int | None:
    """Characters of the result that the span shows, however long and even where it was cut off."""
    sizes = [
        len(value)
        for prefix in _SPREAD_RESULTS.get(kind, ())
        for key, value in attributes.items()
        if key.startswith(prefix) and isinstance(value, str)
    ]
    shown = first(attributes, _RESULTS.get(kind, _CALL_RESULTS))
    return sum(sizes) or (len(shown) if isinstance(shown, str) else None)


def asks(attributes: Attributes) -> tuple[str, ...] | None:
    """The names of the tools that a model's answer asks for, one for each call; None when the answer is not
    visible, so that an answer without tool calls can be told from one that nobody recorded."""
    messages = attributes.get(names.GEN_AI_OUTPUT_MESSAGES)
    if messages is not None:
        return _asks_in_messages(messages)
    for prefix, suffix in _TOOL_NAME.items():
        shown = [key for key in attributes if key.startswith(prefix) and not key.endswith(_NO_ANSWER)]
        if shown:
            called = (key for key in shown if ".tool_calls." in key and key.endswith(suffix))
            return tuple(str(attributes[key])[:_LONGEST_NAME] for key in called if attributes[key])
    return None


def _asks_in_messages(messages: object) -> tuple[str, ...] | None:
    visible = visible_text(messages)
    if visible is None:
        return None
    if not any(kind in visible for kind in _TOOL_CALLS):
        return ()
    try:
        return tuple(_tool_names(json.loads(visible)))
    except (ValueError, RecursionError):
        return None


def _tool_names(value: Any) -> Iterator[str]:
    """In the order of the calls, however deep the messages hold them."""
    if isinstance(value, list):
        for item in value:
            yield from _tool_names(item)
    elif isinstance(value, dict):
        function = value.get("function")
        name = value.get("name") or (function.get("name") if isinstance(function, dict) else None)
        if value.get("type") in _TOOL_CALLS and isinstance(name, str) and name:
            yield name
        else:
            for key in ("parts", "content", "tool_calls"):
                yield from _tool_names(value.get(key))


def _spread_text(attributes: Attributes, prefixes: tuple[str, ...]) -> str | None:
    for prefix in prefixes:
        shown = {
            key: value
            for key, value in attributes.items()
            if key.startswith(prefix) and not key.endswith(_NO_CONTENT) and value != ""
        }
        if shown:
            return None if any(visible_text(value) is None for value in shown.values()) else visible_text(shown)
    return None
