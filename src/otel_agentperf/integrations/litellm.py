"""LiteLLM: completions, responses and embeddings, sync, async and streamed, each attempt one model call.

What is wrapped is what LiteLLM's own decorator `client` has wrapped: the decorator answers from the cache, tries again
and logs. So an answer out of the cache is no model call, an attempt that failed is one, and what the program imported
by name before is seen, too. Below it the OpenAI client may show the same call; that is counted once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import CellType
from typing import Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Describe, Description
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.usage import Usage, get, usage
from ..model import Kind
from ._answer_caches import alooking_up, looking_up, lookup
from ._openai_answers import said, tell
from ._spans import own_attributes
from ._watched_objects import WatchedObjects

MODULES = ("litellm",)
DISTRIBUTION = "litellm"
VERSIONS = ">=1.80,<2"
SOURCE = "wrapped"
COVERS = ("llm", "tokens", "streaming", "caches")
PARTS = (
    "litellm.main",
    "litellm.responses.main",
    "litellm.caching.caching",
    "litellm.litellm_core_utils.streaming_handler",
    "litellm.responses.streaming_iterator",
    "litellm.integrations.opentelemetry",
)

_FUNCTIONS: tuple[tuple[str, str, Kind, str, str], ...] = (
    ("litellm.main", "completion", "llm", names.CHAT, "messages"),
    ("litellm.main", "acompletion", "llm", names.CHAT, "messages"),
    ("litellm.main", "text_completion", "llm", names.TEXT_COMPLETION, "prompt"),
    ("litellm.main", "atext_completion", "llm", names.TEXT_COMPLETION, "prompt"),
    ("litellm.main", "embedding", "embedding", names.EMBEDDINGS, "input"),
    ("litellm.main", "aembedding", "embedding", names.EMBEDDINGS, "input"),
    ("litellm.responses.main", "responses", "llm", names.CHAT, "input"),
    ("litellm.responses.main", "aresponses", "llm", names.CHAT, "input"),
)
_FIRST_IS_INPUT = ("text_completion", "atext_completion", "responses", "aresponses")
"""functions whose first parameter is the input, and whose second is the model"""
_INSIDE = ("acompletion", "atext_completion", "aembedding", "aresponses")
"""an asynchronous function calls its synchronous one with its own name set: the same call"""
_KEY = """model messages input prompt temperature top_p n stop seed max_tokens max_completion_tokens tools tool_choice
    functions response_format encoding_format dimensions cache_key""".split()
"""of what a look-up is made of"""
_STREAMS = (
    ("litellm.litellm_core_utils.streaming_handler", "CustomStreamWrapper"),
    ("litellm.responses.streaming_iterator", "ResponsesAPIStreamingIterator"),
    ("litellm.responses.streaming_iterator", "SyncResponsesAPIStreamingIterator"),
    ("litellm.responses.streaming_iterator", "MockResponsesAPIStreamingIterator"),
)
_WATCHED = frozenset(name for _, name in _STREAMS)
_OTEL = "litellm.integrations.opentelemetry"
_CALL_ID = "litellm.call_id"
_MOST = 1_000
"""calls of which it is remembered which span they had"""
_streams = WatchedObjects()
_calls: dict[str, SpanContext] = {}


def patch(patches: Patches) -> None:
    """Each function below its decorator, the cache, and the streams' steps."""
    for module, name, kind, operation, given in _FUNCTIONS:
        describe = partial(_describe, name in _FIRST_IS_INPUT, kind, operation, given)
        when_imported((module,), partial(_patch_function, patches, module, name, describe))
    when_imported(("litellm.caching.caching",), partial(_patch_cache, patches))
    when_imported((_OTEL,), partial(patches.wrap, _OTEL, "OpenTelemetry._get_span_context", _below_ours))
    for module, stream in _STREAMS:
        when_imported((module,), partial(_patch_stream, patches, module, stream))


def _patch_cache(patches: Patches) -> None:
    patches.wrap("litellm.caching.caching", "Cache.get_cache", looking_up(_look_up))
    patches.wrap("litellm.caching.caching", "Cache.async_get_cache", alooking_up(_look_up))


def _patch_stream(patches: Patches, module: str, name: str) -> None:
    stream = getattr(sys.modules[module], name)
    for step, wrapper in (("__next__", _streams.next), ("__anext__", _streams.anext), ("aclose", _streams.aclose)):
        if step in vars(stream):
            patches.wrap(module, f"{name}.{step}", wrapper)


class _Held:
    """What a closure holds, as an attribute, so that it can be replaced and put back like one."""

    def __init__(self, cell: CellType) -> None:
        vars(self).update(_cell=cell, held=cell.cell_contents)

    def __setattr__(self, name: str, value: Any) -> None:
        self._cell.cell_contents = vars(self)[name] = value  # type: ignore[attr-defined]


def _patch_function(patches: Patches, module: str, name: str, describe: Describe) -> None:
    holder: Any = _Held(_cell(getattr(sys.modules[module], name)))
    patches.trace(holder, "held", describe, _answered, _begin)


def _cell(function: Any) -> CellType:
    """Where the decorator keeps the function; raises where it does so otherwise: the library's shape has changed."""
    while function is not None:
        code = getattr(function, "__code__", None)
        if code is not None and "original_function" in code.co_freevars:
            found: CellType = function.__closure__[code.co_freevars.index("original_function")]
            return found
        function = getattr(function, "__wrapped__", None)
    raise AttributeError("original_function")


def _describe(
    first_is_input: bool, kind: Kind, operation: str, given: str, instance: Any, args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Description | None:  # fmt: skip
    if any(kwargs.get(name) is True for name in _INSIDE):
        return None
    parameters = (given, "model") if first_is_input else ("model", given)
    bound = {**dict(zip(parameters, args)), **kwargs}  # noqa: B905 - further ones are of no interest
    model, provider = _model(bound.get("model"), bound.get("custom_llm_provider"))
    attributes = {names.GEN_AI_OPERATION_NAME: operation}
    if provider:
        attributes[names.GEN_AI_PROVIDER_NAME] = provider
    if _OTEL in sys.modules:
        attributes[_CALL_ID] = str(kwargs.get("litellm_call_id"))
    return kind, model, attributes, bound.get(given)


def _begin(kind: Kind, name: str, attributes: dict[str, Any], given: Any) -> Invocation | None:
    call_id = attributes.pop(_CALL_ID, None)
    invocation = start(kind, name, attributes, given)
    if call_id and invocation is not None:
        while len(_calls) >= _MOST:
            _calls.pop(next(iter(_calls)), None)
        _calls[call_id] = invocation.span.get_span_context()
    return invocation


def _below_ours(wrapped: Callable[..., Any], logger: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """LiteLLM's own span of a call, made when that is over: below ours, where it is known for the same call. It would
    be a trace of its own otherwise, or would write what it tells into the span around the call."""
    found = wrapped(*args, **kwargs)
    with _guard.guard("litellm.otel"):
        ours = _calls.get(get(args[0] if args else kwargs.get("kwargs"), "litellm_call_id"))
        parent = found[1]
        if ours is not None and (parent is None or own_attributes(parent)):
            return set_span_in_context(NonRecordingSpan(ours)), None
    return found


def _model(told: Any, provider: Any) -> tuple[str, str]:
    """The model as its provider is asked for it, and the provider: `openai/gpt-5` is `gpt-5` of `openai`."""
    name = told if isinstance(told, str) and told else "unknown"
    before, slash, rest = name.partition("/")
    if slash and rest and before in sys.modules["litellm"].provider_list:
        return rest, sanitize.name(before)
    return name, sanitize.name(str(provider)) if isinstance(provider, str) else ""


def _answered(invocation: Invocation, answer: Any) -> Any:
    """An answer ends the call; a stream ends it when it has been read."""
    inner = getattr(answer, "completion_stream", None)
    stream = inner if type(inner).__name__ == "CustomStreamWrapper" else answer
    if type(stream).__name__ in _WATCHED:
        _streams.add(stream, invocation, _read)
    else:
        tell(invocation, answer)
        invocation.stop(*said(answer))
    return answer


def _read(invocation: Invocation, stream: Any) -> None:
    """The tokens that the provider told in the stream; LiteLLM itself makes up what is missing by counting."""
    completed = get(get(stream, "completed_response"), "response")
    if completed is not None:
        tell(invocation, completed)
        return
    told = Usage()
    for chunk in get(stream, "chunks") or ():
        found = get(chunk, "usage")
        if found is not None:
            told = Usage(*(new or old for new, old in zip(usage(found), told, strict=True)))
    invocation.usage(*told)


def _look_up(cache: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    if cache.should_use_cache(**kwargs) is not True:
        return None
    key = {name: kwargs[name] for name in _KEY if kwargs.get(name) is not None}
    return lookup("litellm", sanitize.name(str(getattr(cache.type, "value", cache.type))), key)
