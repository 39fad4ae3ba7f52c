"""The Anthropic client: messages; sync, async, streamed, raw, beta, on Bedrock and Vertex alike.

From version 2 on the client makes good spans by itself: they are completed with what only we record (the hashes of
what was asked and said, the type of a cancellation). Where it makes none that reach us (an older version, switched
off, a provider of its own), there is one of ours. Its own retries are shown either way.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.usage import Usage, get
from ._client_streams import closed, iterated, watched
from ._native_spans import Completion, current_span, reaches_us
from ._openai_attempts import end_attempts, patch_attempts
from ._spans import named_error
from ._unread_responses import UnreadResponses

MODULES = ("anthropic",)
DISTRIBUTION = "anthropic"
VERSIONS = ">=0.75,<3"
SOURCE = "native"
COVERS = ("llm", "tokens", "streaming")
LIMITS = (
    "Before version 2 the tools that the client itself runs (beta.messages.tool_runner) are not traced;"
    " mark them with @tool, or upgrade.",
)

_CLIENT = "anthropic._base_client"
_TRACING = "anthropic._tracing"
_RUNNER = "anthropic.lib.tools._beta_runner"
_SCOPE = "com.anthropic.sdk.python"
_PATH = "/v1/messages"
_PLATFORMS = {"Bedrock": "aws.bedrock", "Vertex": "gcp.vertex_ai", "AWS": "aws.bedrock"}
"""by a part of the client's class name"""


def patch(patches: Patches) -> None:
    """The one method that all ways of asking go through, and the places where the client ends its own spans."""
    for client in ("SyncAPIClient", "AsyncAPIClient"):
        patches.trace(_CLIENT, f"{client}.post", _message, _answered)
    for stream in ("Stream.close", "AsyncStream.close"):
        patches.wrap("anthropic._streaming", stream, closed)
    patches.wrap("anthropic._streaming", "AsyncStream.__aiter__", iterated)
    for module, path, wrapper in (
        (_CLIENT, "finish_api_call_span", _finishing),
        (_TRACING, "FirstEnd.end", _stream_ending),
        (_RUNNER, "tool_use_span", _tool),
    ):
        if hasattr(_import(module), path.partition(".")[0]):
            patches.wrap(module, path, wrapper)
    _unread.patch(patches, "anthropic._response")
    patch_attempts(patches, _CLIENT)


def unpatch() -> None:
    """End the calls whose answers nobody has read yet."""
    _unread.unpatch()


def _import(module: str) -> Any:
    try:
        return __import__(module, fromlist=["_"])
    except ImportError:
        return None


# --- calls of ours --------------------------------------------------------------------------------------


def _message(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    """None: not a message, or one that the client makes a span of."""
    path, body = args[0] if args else kwargs.get("path"), kwargs.get("body")
    if not isinstance(path, str) or path.partition("?")[0] != _PATH or _is_traced(client):
        return None
    model = get(body, "model")
    attributes = {names.GEN_AI_PROVIDER_NAME: _provider(client)}
    return "llm", model if isinstance(model, str) and model else "unknown", attributes, get(body, "messages")


def _is_traced(client: Any) -> bool:
    """The client makes a span of its own; it has no tracer where that is switched off."""
    tracer = getattr(client, "_tracer", None)
    return tracer is not None and reaches_us(tracer)


def _provider(client: Any) -> str:
    name = type(client).__name__
    return next((platform for part, platform in _PLATFORMS.items() if part in name), "anthropic")


def _answered(invocation: Invocation, answer: Any) -> Any:
    """An answer ends the call; a stream ends it when it has been read."""
    if not _unread.add(answer, invocation):
        _finish(invocation, _parsed(answer))
    return answer


def _finish(invocation: Invocation, answer: Any) -> None:
    if not watched(invocation, answer, _note):
        _tell(invocation, answer, _tokens(get(answer, "usage")))
        invocation.stop(*_said(answer))


_unread = UnreadResponses(_finish)


def _parsed(answer: Any) -> Any:
    """What a raw response holds, where it has been read."""
    response = getattr(answer, "http_response", None)
    if response is None:
        return answer
    try:
        if type(answer).__name__ == "LegacyAPIResponse":
            return answer.parse()  # it keeps what it has parsed: what its caller will get, too
        return response.json() if response.is_closed else None
    except Exception:  # noqa: BLE001 - the caller's own `parse` will raise it again
        return None


def _tell(invocation: Invocation, answer: Any, tokens: Usage) -> None:
    invocation.usage(*tokens)
    model = get(answer, "model")
    if isinstance(model, str):
        invocation.set(names.GEN_AI_RESPONSE_MODEL, sanitize.name(model))


def _tokens(told: Any) -> Usage:
    """The API's input leaves out what was read from or written to the cache; ours includes both."""
    new, read, written = (
        _number(told, key) for key in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    total = None if new is None else new + (read or 0) + (written or 0)
    return Usage(total, _number(told, "output_tokens"), read, written)


def _number(holder: Any, key: str) -> int | None:
    value = get(holder, key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _said(answer: Any) -> tuple[Any, ...]:
    """What was said, without the ids that make every answer differ; nothing where that is not known."""
    content = get(answer, "content")
    return ([_block(block) for block in content],) if isinstance(content, list) else ()


def _block(block: Any) -> list[Any]:
    fields = (get(block, key) for key in ("type", "text", "thinking", "name", "input"))
    return [field for field in fields if field is not None]


def _note(invocation: Invocation, event: Any) -> None:
    kind = get(event, "type")
    if kind == "content_block_delta":
        invocation.chunk()
    elif kind == "message_start":
        message = get(event, "message")
        _tell(invocation, message, _tokens(get(message, "usage"))._replace(output_tokens=None))  # not counted yet
    elif kind == "message_delta":
        output = _number(get(event, "usage"), "output_tokens")
        invocation.usage(output_tokens=output)
    elif kind == "error":
        told = get(get(event, "error"), "type")
        invocation.fail(named_error(told if isinstance(told, str) and told else "error"))


# --- calls that the client makes spans of ---------------------------------------------------------------


def _finishing(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """(client, span, result): the client has its answer, and is about to end its span, or to leave that to a stream."""
    with _guard.guard("anthropic.finish"):
        _, span, result = args
        if get(get(result, "options"), "span_name") == "anthropic.messages.create" and reaches_us(span):
            end_attempts(get(result, "error"))
            _complete(Completion("llm", span), result)
    return wrapped(*args, **kwargs)


def _complete(invocation: Invocation, result: Any) -> None:
    invocation.arguments(get(get(get(result, "options"), "json_data"), "messages"))
    error = get(result, "error")
    if isinstance(error, BaseException):
        invocation.fail(error)  # the client's own word for it replaces ours; of a cancellation it has none
    else:
        invocation.stop(*_said(_parsed(get(result, "data"))))


def _stream_ending(wrapped: Callable[..., Any], observer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """(how, error): a stream is over. To the client one whose reading was cancelled is one that was closed."""
    with _guard.guard("anthropic.stream_end"):
        span, raised = get(get(observer, "inner"), "_span"), sys.exc_info()[1]
        ends = span is not None and "closed" in args and not get(observer, "_ended") and reaches_us(span)
        if ends and isinstance(raised, asyncio.CancelledError):
            Completion("llm", span).fail(raised)
    return wrapped(*args, **kwargs)


def _tool(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tool that the client's tool runner runs."""
    return _running(wrapped(*args, **kwargs), kwargs.get("input"))


@contextmanager
def _running(manager: Any, given: Any) -> Generator[Any]:
    with manager as run:
        span = current_span(_SCOPE, names.EXECUTE_TOOL)
        if span is None:
            yield run
            return
        invocation = Completion("tool", span)
        invocation.arguments(given)
        try:
            yield run
        except BaseException as error:
            invocation.fail(error)
            raise
        result = get(run, "result")
        if get(result, "is_error") is not True:
            invocation.stop(get(result, "content"))
