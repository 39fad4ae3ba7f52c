"""What was said in answers of the OpenAI API's shape, whoever gave them."""

from __future__ import annotations

from typing import Any

from .. import _semconv as names
from ..capture.invocation import Invocation
from ..capture.usage import get, tokens_of
from ._spans import named_error

FAILED = ("response.failed", "error")
"""events of a streamed response that has failed"""


def tell(invocation: Invocation, answer: Any) -> None:
    """Record the tokens of an answer, and the model that gave it."""
    invocation.usage(*tokens_of(answer))
    model = get(answer, "model")
    if isinstance(model, str):
        invocation.set(names.GEN_AI_RESPONSE_MODEL, model)


def said(answer: Any) -> tuple[Any, ...]:
    """What was said, without the ids that make every answer differ; nothing where that is not known."""
    choices, output = get(answer, "choices"), get(answer, "output")
    if choices is not None:
        told = [get(choice, "message") or get(choice, "text") for choice in choices]
        return ([item if isinstance(item, str) else _message(item) for item in told],)
    return ([_message(item) for item in output],) if isinstance(output, list) else ()


def failure(told: Any) -> BaseException:
    """What a failed response, or the event that says so, is told as."""
    code = get(get(told, "error"), "code") or get(told, "code")
    return named_error(code if isinstance(code, str) and code else "response_failed")


def _message(item: Any) -> dict[str, Any]:
    calls = [get(call, "function") for call in get(item, "tool_calls") or ()]
    asked = [(get(call, "name"), get(call, "arguments")) for call in [*calls, item] if get(call, "name")]
    return {"content": get(item, "content"), "tool_calls": asked} if asked else {"content": get(item, "content")}
