"""Coroutines, generators and async generators, driven so that the context is attached only while they run.

A generator suspended at a `yield` is nobody's parent: were the context left attached, the consumer's own spans
would become its children, and closing it from elsewhere would log "Failed to detach context".
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from .. import _guard
from .invocation import Invocation, attach, detach

T = TypeVar("T")
Start = Callable[[], Invocation | None]
"""starts the call's span at its first step; None: not traced"""


_TO_COME = frozenset({types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType})
Ended = Callable[[Invocation, Any], Any]
"""takes over a call's result: returns what the caller gets, and ends the invocation itself, now or later"""


def ended_with(invocation: Invocation, result: Any, on_result: Ended | None = None) -> Any:
    """End the invocation with `result`, or, where the result is work still to come, when that is done."""
    kind = type(result)
    if on_result is None and kind not in _TO_COME:
        invocation.stop(result)
        return result
    if kind is types.CoroutineType:
        return drive_coroutine(_work_to_come(invocation), result, on_result)
    # One that somebody already reads from is not this call's work.
    if kind is types.GeneratorType and inspect.getgeneratorstate(result) == inspect.GEN_CREATED:
        return drive_generator(_work_to_come(invocation), result, on_result)
    if kind is types.AsyncGeneratorType:
        return drive_async_generator(_work_to_come(invocation), result, on_result)
    if on_result is None:  # a generator that is read already
        invocation.stop(result)
        return result
    return _handed_over(invocation, result, on_result)


def _work_to_come(invocation: Invocation) -> Start:
    """The work happens later, between others' on the same thread: its CPU time would be theirs, too."""
    invocation._cpu_ns = -1
    return lambda: invocation


def _handed_over(invocation: Invocation, result: Any, on_result: Ended) -> Any:
    try:
        return on_result(invocation, result)
    except Exception as error:  # noqa: BLE001 - ours, and the user's result must not be lost
        _guard.swallowed("on_result", error)
        invocation.stop()
        return result


class _Startable(Generic[T]):
    """A coroutine that may never be started, because its task is cancelled before: Python takes no offence at that,
    nor should it at this one, inside the one that was cancelled."""

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        with suppress(Exception):
            if inspect.getcoroutinestate(self.coroutine) == inspect.CORO_CREATED:
                self.coroutine.close()


def drive_coroutine(
    start: Start, coroutine: Coroutine[Any, Any, T], on_result: Ended | None = None
) -> Coroutine[Any, Any, T]:
    """Await `coroutine` inside its span."""
    return _drive_coroutine(start, _Startable(coroutine), on_result)


async def _drive_coroutine(start: Start, work: _Startable[T], on_result: Ended | None) -> T:
    invocation = start()
    if invocation is None:
        return await work.coroutine
    token = attach(invocation)
    closing = False
    try:
        result = await work.coroutine
    except BaseException as error:
        closing = isinstance(error, GeneratorExit)
        invocation.fail(error)
        raise
    finally:
        detach(invocation, token, closing)
    final: T = ended_with(invocation, result, on_result)
    return final


def drive_generator(start: Start, generator: Iterator[T], finish: Ended | None = None) -> Generator[T, Any, Any]:
    """Iterate `generator` inside its span: values sent, exceptions thrown and the return value pass through.

    `finish` takes over when the stream has been read to its end or left early.
    """
    invocation = start()
    if invocation is None:
        return (yield from generator)
    step: Callable[[], T] = partial(next, generator)
    try:
        while True:
            token = attach(invocation)
            try:
                item = step()
            finally:
                detach(invocation, token)
            invocation.chunk()
            try:
                sent = yield item
            except GeneratorExit:
                refusals = _close(invocation, generator)
                if refusals:
                    if finish is None:
                        invocation.fail(RuntimeError())
                    else:
                        _finish(invocation, finish)
                    yield from refusals
                raise
            except BaseException as error:  # noqa: BLE001 - passed on to the generator
                step = partial(_throw, generator, error)
            else:
                step = partial(next, generator) if sent is None else partial(generator.send, sent)  # type: ignore[attr-defined]
    except StopIteration as end:
        # What was yielded is the result; a generator that returns nothing tells nothing of it.
        _finish(invocation, finish, *([] if end.value is None else [end.value]))
        return end.value
    except GeneratorExit:
        _finish(invocation, finish)
        raise
    except BaseException as error:
        invocation.fail(error)
        raise


async def drive_async_generator(
    start: Start, generator: AsyncIterator[T], finish: Ended | None = None
) -> AsyncGenerator[T, Any]:
    """The same for an async generator."""
    invocation = start()
    step: Callable[[], Any] = generator.__anext__
    while invocation is None:  # there is no `yield from` for these
        try:
            item = await step()
        except StopAsyncIteration:
            return
        try:
            step = _asent(generator, (yield item))
        except GeneratorExit:
            await _aclose(generator)
            raise
        except BaseException as error:  # noqa: BLE001 - passed on to the generator
            step = partial(_athrow, generator, error)
    left = False
    reading(invocation)
    try:
        while True:
            token = attach(invocation)
            closing = False
            try:
                item = await step()
            except GeneratorExit:
                closing = True
                raise
            finally:
                detach(invocation, token, closing)
            invocation.chunk()
            try:
                step = _asent(generator, (yield item))
            except GeneratorExit:
                token = attach(invocation)
                try:
                    await _aclose(generator)
                finally:
                    detach(invocation, token, closing=True)
                raise
            except BaseException as error:  # noqa: BLE001 - passed on to the generator
                # Only its closing can be cancelled here: by a loop that ends before it got round to it.
                left = isinstance(error, asyncio.CancelledError)
                step = partial(_athrow, generator, error)
    except StopAsyncIteration:
        _finish(invocation, finish)
    except BaseException as error:
        if isinstance(error, GeneratorExit) or (left and isinstance(error, asyncio.CancelledError)):
            stop_inner(invocation)
            _finish(invocation, finish)
        else:
            invocation.fail(error)
        raise
    finally:
        read(invocation)


_being_read: dict[int, list[Invocation]] = {}
"""async streams by the id of the span around them: when their reader is closed, the event loop closes them later"""


def reading(invocation: Invocation) -> None:
    """Somebody reads from this async stream, until `read`."""
    _being_read.setdefault(invocation._parent_id, []).append(invocation)


def read(invocation: Invocation) -> None:
    """It is over; once is enough."""
    streams = _being_read.get(invocation._parent_id)
    if streams is not None and invocation in streams:
        streams.remove(invocation)
        if not streams:
            _being_read.pop(invocation._parent_id, None)


def stop_inner(invocation: Invocation) -> None:
    """A stream was left early: so were those inside it, which would otherwise end after it."""
    own_id = invocation.span.get_span_context().span_id
    for inner in _being_read.pop(own_id, ()) if own_id else ():
        stop_inner(inner)
        inner.stop()


def _finish(invocation: Invocation, finish: Ended | None, *result: Any) -> None:
    if finish is not None:
        _handed_over(invocation, None, finish)
    else:
        invocation.stop(*result)


def _throw(generator: Iterator[T], error: BaseException) -> T:
    """Iterators that are no generators have no `throw`: the exception is theirs to miss."""
    throw = getattr(generator, "throw", None)
    if throw is None:
        raise error
    item: T = throw(error)
    return item


def _asent(generator: AsyncIterator[T], sent: Any) -> Callable[[], Any]:
    """The step after the reader sent something, most often nothing."""
    return generator.__anext__ if sent is None else partial(generator.asend, sent)  # type: ignore[attr-defined]


async def _athrow(generator: AsyncIterator[T], error: BaseException) -> T:
    throw = getattr(generator, "athrow", None)
    if throw is None:
        raise error
    item: T = await throw(error)
    return item


def _close(invocation: Invocation, generator: Iterator[T]) -> list[T]:
    """Close it. What it yields all the same is for the one who closes, so that Python complains as it does without us:
    "generator ignored GeneratorExit"."""
    close, throw = (getattr(generator, name, None) for name in ("close", "throw"))
    token = attach(invocation)
    try:
        if throw is not None:
            return [throw(GeneratorExit())]
        if close is not None:
            close()
    except (GeneratorExit, StopIteration):
        pass
    finally:
        detach(invocation, token)
    return []


async def _aclose(generator: AsyncIterator[Any]) -> None:
    close = getattr(generator, "aclose", None)
    if close is not None:
        await close()
