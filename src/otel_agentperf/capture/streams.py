"""Coroutines, generators and async generators, driven so that the context is attached only while they run.

A generator suspended at a `yield` is nobody's parent: were the context left attached, the consumer's own spans
would become its children, and closing it from elsewhere would log "Failed to detach context".
"""

from __future__ import annotations

import inspect
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any, TypeVar

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


async def drive_coroutine(start: Start, coroutine: Coroutine[Any, Any, T], on_result: Ended | None = None) -> T:
    """Await `coroutine` inside its span."""
    invocation = start()
    if invocation is None:
        return await coroutine
    token = attach(invocation)
    closing = False
    try:
        result = await coroutine
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
                _close(invocation, generator)
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
    if invocation is None:
        async for item in generator:
            yield item
        return
    step: Callable[[], Any] = generator.__anext__
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
                sent = yield item
            except GeneratorExit:
                await _aclose(invocation, generator)
                raise
            except BaseException as error:  # noqa: BLE001 - passed on to the generator
                step = partial(_athrow, generator, error)
            else:
                step = generator.__anext__ if sent is None else partial(generator.asend, sent)  # type: ignore[attr-defined]
    except StopAsyncIteration:
        _finish(invocation, finish)
    except GeneratorExit:
        _finish(invocation, finish)
        raise
    except BaseException as error:
        invocation.fail(error)
        raise


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


async def _athrow(generator: AsyncIterator[T], error: BaseException) -> T:
    throw = getattr(generator, "athrow", None)
    if throw is None:
        raise error
    item: T = await throw(error)
    return item


def _close(invocation: Invocation, generator: Iterator[Any]) -> None:
    close = getattr(generator, "close", None)
    if close is not None:
        token = attach(invocation)
        try:
            close()
        finally:
            detach(invocation, token)


async def _aclose(invocation: Invocation, generator: AsyncIterator[Any]) -> None:
    close = getattr(generator, "aclose", None)
    if close is not None:
        token = attach(invocation)
        try:
            await close()
        finally:
            detach(invocation, token, closing=True)
