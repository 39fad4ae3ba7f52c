"""The google-genai client: generated content, streamed or not, embeddings, and the functions that the client calls.

The public methods may send several requests: to run the model's function calls (automatic function calling), or to
go on with an answer that was cut. Each request is a model call, so what sends one is wrapped. The functions are tool
calls; one span around the whole keeps a loop of both in one trace.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry import context as context_api

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches
from ..capture.streams import drive_coroutine, drive_generator
from ..capture.tracing import SUPPRESSED, state
from ..capture.usage import Usage, get, usage
from ._spans import atapped, tapped

MODULES = ("google.genai.chats",)  # the last of those that are patched here to be imported
DISTRIBUTION = "google-genai"
VERSIONS = ">=2,<4"
SOURCE = "wrapped"
COVERS = ("llm", "tokens", "streaming", "tools")
LIMITS = (
    "The client's own retries (HttpRetryOptions) are part of one model call; instrument httpx or requests to see them.",
    "Live sessions and the Interactions API are not traced; generate_content is.",
)

_MODULE = "google.genai.models"
_FUNCTIONS = "google.genai._extra_utils"


def patch(patches: Patches) -> None:
    """The methods that send one request each, the loops around them, and the calls of functions inside."""
    for models in ("Models", "AsyncModels"):
        patches.trace(_MODULE, f"{models}._generate_content", _call, _answered, _begin)
        patches.trace(_MODULE, f"{models}.embed_content", _embedding, _embedded, _begin)
        for path in ("generate_content", "generate_content_stream"):
            patches.trace(_MODULE, f"{models}.{path}", _direct_loop, _loop_ended, _begin_loop)
    patches.wrap(_MODULE, "Models._generate_content_stream", _streamed)
    patches.wrap(_MODULE, "AsyncModels._generate_content_stream", _astreamed)
    for path in ("invoke_function_from_dict_args", "invoke_function_from_dict_args_async"):
        patches.trace(_FUNCTIONS, path, _function, None, _begin_function)
    patches.trace("google.genai._adapters", "McpToGenAiToolAdapter.call_tool", _mcp_tool)
    for path in ("Chat.send_message", "Chat.send_message_stream", "AsyncChat.send_message",
                 "AsyncChat.send_message_stream"):  # fmt: skip
        # A chat has a loop of its own.
        patches.trace("google.genai.chats", path, _chat_loop, _loop_ended, _begin_loop)


class _Request(Invocation):
    """A call that tells the status of the answer that refused it."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        code = getattr(error, "code", None)
        if isinstance(code, int) and not isinstance(code, bool):
            self.set("http.response.status_code", code)
        super().fail(error)


class _Function(Invocation):
    """A call whose own error the client wraps in one that says what was called with what."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        cause = error.__cause__ or error.__context__
        wrapped = type(error).__name__ == "FunctionInvocationError" and cause is not None
        super().fail(cause if wrapped and cause is not None else error)


def _begin(*description: Any) -> Invocation | None:
    return _as(_Request, start(*description))


def _begin_function(*description: Any) -> Invocation | None:
    return _as(_Function, start(*description))


def _as(kind: type[Invocation], invocation: Invocation | None) -> Invocation | None:
    if invocation is not None:
        invocation.__class__ = kind
    return invocation


def _call(models: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    return "llm", _text(kwargs.get("model")), _attributes(models), kwargs.get("contents")


def _embedding(models: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    return "embedding", _text(kwargs.get("model")), _attributes(models), kwargs.get("contents")


def _text(name: Any) -> str:
    return name if isinstance(name, str) and name else "unknown"


def _attributes(models: Any) -> dict[str, Any]:
    is_vertex = getattr(getattr(models, "_api_client", None), "vertexai", None) is True
    return {names.GEN_AI_PROVIDER_NAME: "gcp.vertex_ai" if is_vertex else "gcp.gemini"}


class _Told:
    """What an answer, or the chunks of one, say of themselves. Each chunk's usage includes those before it."""

    def __init__(self) -> None:
        self._usage: Any = None
        self._version: Any = None
        self._said: list[Any] = []

    def add(self, answer: Any) -> None:
        self._usage = get(answer, "usage_metadata") or self._usage
        self._version = get(answer, "model_version") or self._version
        for candidate in get(answer, "candidates") or ():
            self._said.append(get(get(candidate, "content"), "parts"))

    def end(self, invocation: Invocation, result: Any = None) -> Any:
        if self._usage is not None:
            invocation.usage(*_tokens(self._usage))
        if isinstance(self._version, str):
            invocation.set(names.GEN_AI_RESPONSE_MODEL, self._version)
        invocation.stop(self._said)
        return result


def _tokens(told: Any) -> Usage:
    """Thoughts are output, and what the provider's own tools brought is input: neither is in the other counts."""
    tokens = usage(told)
    thoughts, brought = get(told, "thoughts_token_count"), get(told, "tool_use_prompt_token_count")
    return tokens._replace(
        input_tokens=_sum(tokens.input_tokens, brought), output_tokens=_sum(tokens.output_tokens, thoughts)
    )


def _sum(first: int | None, second: Any) -> int | None:
    return first if not isinstance(second, int) else (first or 0) + second


def _answered(invocation: Invocation, answer: Any) -> Any:
    told = _Told()
    told.add(answer)
    return told.end(invocation, answer)


def _embedded(invocation: Invocation, answer: Any) -> Any:
    """Vectors are no content; some models tell the tokens of each text."""
    counts = [get(get(one, "statistics"), "token_count") for one in get(answer, "embeddings") or ()]
    known = [int(count) for count in counts if isinstance(count, (int, float))]
    if known:
        invocation.usage(sum(known))
    else:
        invocation.usage(*usage(get(answer, "usage_metadata")))
    invocation.stop()
    return answer


def _streamed(wrapped: Callable[..., Any], models: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    told = _Told()
    begin = partial(_begin_stream, models, args, kwargs)
    return drive_generator(begin, tapped(wrapped(*args, **kwargs), told.add), told.end)


def _astreamed(wrapped: Callable[..., Any], models: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A coroutine that sends the request and gives the stream: the span is around both."""
    told = _Told()
    begin = partial(_begin_stream, models, args, kwargs)
    return drive_coroutine(begin, _opened(wrapped(*args, **kwargs), told), told.end)


async def _opened(coroutine: Any, told: _Told) -> Any:
    return atapped(await coroutine, told.add)


@_guard.guarded("google_genai.stream", None)
def _begin_stream(models: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Invocation | None:
    return _begin(*_call(models, args, kwargs))


def _direct_loop(models: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    return _loop(kwargs.get("model"), kwargs.get("config"))


def _chat_loop(chat: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    given = kwargs.get("config", args[1] if len(args) > 1 else None)
    return _loop(getattr(chat, "_model", None), given or getattr(chat, "_config", None))


def _loop(model: Any, config: Any) -> Description | None:
    """Only where there is a function to call: anything else is one model call."""
    tools, switch = get(config, "tools"), get(config, "automatic_function_calling")
    if not isinstance(tools, (list, tuple)) or get(switch, "disable") is True:
        return None
    if not any(callable(tool) or hasattr(tool, "call_tool") for tool in tools):
        return None
    return "other", f"automatic function calling {_text(model)}", None, None


def _begin_loop(kind: Any, name: str, attributes: Any, arguments: Any) -> Invocation | None:
    if context_api.get_value(SUPPRESSED):
        return None
    return Invocation("other", state.tracer.start_span(sanitize.name(name)))


def _loop_ended(invocation: Invocation, result: Any) -> Any:
    invocation.stop()
    return result


def _function(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    given = kwargs.get("args", args[0] if args else None)
    function = kwargs.get("function_to_invoke", args[1] if len(args) > 1 else None)
    return "tool", getattr(function, "__name__", type(function).__name__), None, given


def _mcp_tool(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    call = kwargs.get("function_call", args[0] if args else None)
    return "tool", _text(get(call, "name")), None, get(call, "args")
