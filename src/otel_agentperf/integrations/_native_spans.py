"""Spans that a framework makes itself, completed by what they lack; whoever started one also ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from functools import partial
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import Span, get_current_span

from .. import _guard
from .. import _semconv as names
from ..capture.invocation import Invocation
from ..capture.tracing import SCOPE, state
from ..model import Kind

_DEEPEST = 4
"""proxies of proxies: the API's tracer, a vendor's, the SDK's"""


class Completion(Invocation):
    """A call that somebody else's span stands for. `stop` and `fail` write on that what is known, and leave it open."""

    __slots__ = ()

    def _end(self, error: BaseException | None, result: Any) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            if self._recording and self.span.is_recording():
                self._describe(error, result)
        except Exception as fault:  # noqa: BLE001 - ours
            _guard.swallowed("native_span.end", fault)


def completion(kind: Kind, span: Span, arguments: Any = None) -> Completion | None:
    """Begin to complete a span that has just started; None: nobody looks at it, or it is one of ours."""
    scope = getattr(span, "instrumentation_scope", None)
    if not span.is_recording() or (scope is not None and scope.name == SCOPE):
        return None
    completed = Completion(kind, span)
    if arguments is not None:
        completed.arguments(arguments)
    return completed


def reaches_us(source: Any) -> bool:
    """Do spans of this tracer, or does this span, go where ours go? One that nobody configured goes nowhere; a
    provider of the user's own may have no processor of ours."""
    return _processor(source) is _processor(state.tracer)


def goes_nowhere(tracer: Any) -> bool:
    """Has nobody given it a provider?"""
    return _processor(tracer) is None


def goes_elsewhere(tracer: Any) -> bool:
    """Do its spans go somewhere, but not where ours go?"""
    processor = _processor(tracer)
    return processor is not None and processor is not _processor(state.tracer)


def current_span(scope: str, operation: str) -> Span | None:
    """The current span, where it is one of that instrumentation for that operation, and reaches us."""
    span = get_current_span()
    if not span.is_recording() or getattr(_scope(span), "name", None) != scope:
        return None
    attributes = getattr(span, "attributes", None) or {}
    return span if attributes.get(names.GEN_AI_OPERATION_NAME) == operation and reaches_us(span) else None


def _scope(span: Any) -> Any:
    return getattr(span, "instrumentation_scope", None) or getattr(span, "_instrumentation_scope", None)


def _processor(source: Any) -> Any:
    """What the spans go through at last, looked for behind proxies; None where there is none."""
    for _ in range(_DEEPEST):
        found = getattr(source, "span_processor", None) or getattr(source, "_span_processor", None)
        if found is not None:
            return found
        inner = (getattr(source, name, None) for name in ("_tracer", "tracer", "span"))
        source = next((one for one in inner if one is not None), None)
        if source is None:
            return None
    return None


def end_at(span: Any, moment_ns: int) -> None:
    """Let the end of a span that its maker ends later count from `moment_ns`."""
    end = span.end
    span.end = lambda end_time=None: end(moment_ns if end_time is None else end_time)


class _Reader:
    """Who reads a stream. What runs inside it has him in its context, also in a task that began before he left."""

    __slots__ = ("left", "outer")

    def __init__(self, outer: _Reader | None) -> None:
        self.left = False
        self.outer = outer


_reader: ContextVar[_Reader | None] = ContextVar("otel_agentperf_reader", default=None)


def reader_left() -> bool:
    """Has the reader of a stream that we are inside of left it early? Such a stream ended well; but what runs inside
    it may only see that it is cancelled."""
    reader = _reader.get()
    while reader is not None and not reader.left:
        reader = reader.outer
    return reader is not None


async def watched(generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    """The same stream. What it leaves current when it yields is current again when it goes on, but not in between:
    otherwise the reader's own spans would become its children, and all that follow where the reader leaves early."""
    context: Any = None
    step: Any = generator.__anext__
    reader = _Reader(_reader.get())

    async def drive(step: Any) -> Any:
        nonlocal context
        token = context_api.attach(context_api.get_current() if context is None else context)
        before = _reader.get()
        _reader.set(reader)
        closing = False
        try:
            return await step()
        except GeneratorExit:
            closing = True  # from some other context, perhaps, where there is nothing to undo
            raise
        finally:
            if not closing:
                context = context_api.get_current()
                context_api.detach(token)
                _reader.set(before)

    while True:
        try:
            item = await drive(step)
        except StopAsyncIteration:
            return
        try:
            sent = yield item
        except GeneratorExit:
            reader.left = True
            await drive(generator.aclose)
            raise
        except BaseException as error:  # noqa: BLE001 - passed on to the generator
            # A reader that is cancelled does not tell the stream; this is an event loop that ends before it has
            # closed a stream that was left.
            reader.left = isinstance(error, asyncio.CancelledError)
            before = error.__traceback__
            step = partial(generator.athrow, error.with_traceback(before.tb_next if before else None))
        else:
            step = generator.__anext__ if sent is None else partial(generator.asend, sent)
