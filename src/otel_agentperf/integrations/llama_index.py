"""LlamaIndex, through its own instrumentation: a span handler of its dispatcher whose spans are ours.

Agents and workflows run as one task each, whose context their steps inherit. In an `AgentWorkflow` the turns of one
agent until it hands over are one call of that agent. The tool that hands over is a step, no tool of the user's.

Language models are wrapped instead: the dispatcher's span of a streamed call is over before anything was read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import _guard, sanitize
from .. import _semconv as names
from ..capture.callables import Description, call_inside
from ..capture.invocation import Invocation, start
from ..capture.patching import Patches, when_imported
from ..capture.streams import drive_coroutine
from ..capture.usage import Usage, get, tokens_of, usage
from ._llama_index_spans import SpanHandler, root_dispatcher
from ._spans import atapped, tapped
from ._subclasses import patch_all_below

MODULES = ("llama_index.core",)
DISTRIBUTION = "llama-index-core"
VERSIONS = ">=0.14,<0.15"
SOURCE = "hook"
COVERS = ("agents", "tools", "llm", "tokens", "streaming", "handoffs", "retrieval")
PARTS = ("llama_index.core.base.llms.base",)
LIMITS = (
    "Streamed OpenAI calls carry no tokens unless the model is made with "
    "additional_kwargs={'stream_options': {'include_usage': True}}.",
)

_PACKAGE = "llama_index.llms."
_handler = SpanHandler()


def patch(patches: Patches) -> None:
    """Register with the dispatcher beside whoever else listens there."""
    when_imported(PARTS, partial(_patch_models, patches))
    patches.wrap("llama_index_instrumentation.dispatcher", "Dispatcher.add_span_handler", _stay_last)
    _handler.active = True
    dispatcher = root_dispatcher()
    dispatcher.span_handlers = [*dispatcher.span_handlers, _handler]


def unpatch() -> None:
    """Take the handler back."""
    if not _handler.active:
        return
    _handler.active = False
    dispatcher = root_dispatcher()
    dispatcher.span_handlers = [one for one in dispatcher.span_handlers if one is not _handler]


def _stay_last(wrapped: Callable[..., Any], dispatcher: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Handlers are told of a span's end in the order of its start. Were one behind us that has made its span current,
    too, it would bring back our context when we have left it."""
    result = wrapped(*args, **kwargs)
    handlers = dispatcher.span_handlers
    if _handler in handlers:
        dispatcher.span_handlers = [*(one for one in handlers if one is not _handler), _handler]
    return result


def _patch_models(patches: Patches) -> None:
    from llama_index.core.base.llms.base import BaseLLM

    called = dict.fromkeys(("chat", "achat", "complete", "acomplete"), _patch_call)
    streamed = dict.fromkeys(("stream_chat", "stream_complete"), partial(_patch_stream, _streamed))
    astreamed = dict.fromkeys(("astream_chat", "astream_complete"), partial(_patch_stream, _astreamed))
    patch_all_below(patches, BaseLLM, {**called, **streamed, **astreamed})


def _patch_call(patches: Patches, model: type, method: str) -> None:
    patches.trace(model, method, _model, _answered)


def _patch_stream(wrapper: Callable[..., Any], patches: Patches, model: type, method: str) -> None:
    patches.wrap(model, method, wrapper)


def _model(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description:
    given = kwargs.get("messages", kwargs.get("prompt", args[0] if args else None))
    module = type(model).__module__
    provider = module.removeprefix(_PACKAGE).partition(".")[0] if module.startswith(_PACKAGE) else ""
    return "llm", _name(model), {names.GEN_AI_PROVIDER_NAME: sanitize.name(provider)} if provider else None, given


def _name(model: Any) -> str:
    named = (get(model, key) for key in ("model", "model_name"))
    name = next((one for one in named if isinstance(one, str) and one), None)
    name = name or get(get(model, "metadata"), "model_name")
    return name if isinstance(name, str) and name and name != "unknown" else type(model).__name__


def _answered(invocation: Invocation, answer: Any) -> Any:
    invocation.usage(*_tokens(answer))
    invocation.stop(get(get(answer, "message"), "content") or get(answer, "text"))
    return answer


def _tokens(answer: Any) -> Usage:
    """From the client's own answer, or where LlamaIndex copies it to."""
    told = tokens_of(get(answer, "raw"))
    return told if any(told) else usage(get(answer, "additional_kwargs") or {})


class _Stream:
    """What a stream's chunks tell of the call."""

    def __init__(self) -> None:
        self._told = Usage()

    def look(self, chunk: Any) -> None:
        with _guard.guard("llama_index.chunk"):
            told = _tokens(chunk)
            if any(told):
                self._told = Usage(*(new or old for new, old in zip(told, self._told, strict=True)))

    def ended(self, invocation: Invocation, result: Any) -> Any:
        invocation.usage(*self._told)
        invocation.stop()
        return result


@_guard.guarded("llama_index.model", None)
def _description(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Description | None:
    return _model(model, args, kwargs)


def _streamed(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    description = _description(model, args, kwargs)
    if description is None:
        return wrapped(*args, **kwargs)
    stream = _Stream()

    def call() -> Any:
        items = wrapped(*args, **kwargs)
        return tapped(items, stream.look) if inspect.isgenerator(items) else items

    return call_inside(start, description, call, (), {}, stream.ended)


async def _astreamed(wrapped: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    description = _description(model, args, kwargs)
    if description is None:
        return await wrapped(*args, **kwargs)
    stream = _Stream()

    async def call() -> Any:
        items = await wrapped(*args, **kwargs)
        return atapped(items, stream.look) if inspect.isasyncgen(items) else items

    return await drive_coroutine(partial(start, *description), call(), stream.ended)
