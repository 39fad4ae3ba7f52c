"""Spans that a framework makes itself, completed by what they lack; whoever started one also ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from functools import partial
from typing import Any

from opentelemetry import context as context_api
from opentelemetry.trace import Span

from .. import _guard
from ..capture.invocation import Invocation
from ..capture.tracing import SCOPE
from ..model import Kind


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


def end_at(span: Any, moment_ns: int) -> None:
    """Let the end of a span that its maker ends later count from `moment_ns`."""
    end = span.end
    span.end = lambda end_time=None: end(moment_ns if end_time is None else end_time)


reader_left: ContextVar[bool] = ContextVar("otel_agentperf_reader_left", default=False)
"""set while a stream is closed that its reader left early. Such a stream ended well; but what runs inside it, perhaps
as a task, may only see that it is cancelled"""


async def watched(generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, Any]:
    """The same stream. What it leaves current when it yields is current again when it goes on, but not in between:
    otherwise the reader's own spans would become its children, and all that follow where the reader leaves early."""
    context: Any = None
    step: Any = generator.__anext__
    left = False

    async def drive(step: Any) -> Any:
        nonlocal context
        token = context_api.attach(context_api.get_current() if context is None else context)
        before = reader_left.get()
        reader_left.set(before or left)
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
                reader_left.set(before)

    while True:
        try:
            item = await drive(step)
        except StopAsyncIteration:
            return
        try:
            sent = yield item
        except GeneratorExit:
            left = True
            await drive(generator.aclose)
            raise
        except BaseException as error:  # noqa: BLE001 - passed on to the generator
            # A reader that is cancelled does not tell the stream; this is an event loop that ends before it has
            # closed a stream that was left.
            left = isinstance(error, asyncio.CancelledError)
            before = error.__traceback__
            step = partial(generator.athrow, error.with_traceback(before.tb_next if before else None))
        else:
            step = generator.__anext__ if sent is None else partial(generator.asend, sent)
