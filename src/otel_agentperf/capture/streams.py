"""Coroutines, generators and async generators, driven so that the context is attached only while they run.

A generator suspended at a `yield` is nobody's parent: were the context left attached, the consumer's own spans
would become its children, and closing it from elsewhere would log "Failed to detach context".
"""

from __future__ import annotations

import asyncio
import inspect
import sys
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
Ended = Callable[[Invocation, Any], Any]
"""takes over a call's result: returns what the caller gets, and ends the invocation itself, now or later"""


def ended_with(invocation: Invocation, result: Any, on_result: Ended | None = None) -> Any:
    """End the invocation with `result`, or, where the result is work still to come, when that is done."""
    kind = type(result)
    # Types are compared by identity: the result's metaclass may have a `__hash__` or an `__eq__` that raises.
    if kind is types.CoroutineType:
        return drive_coroutine(_work_to_come(invocation), result, on_result)
    # One that somebody already reads from is not this call's work.
    if kind is types.GeneratorType and inspect.getgeneratorstate(result) == inspect.GEN_CREATED:
        return drive_generator(_work_to_come(invocation), result, on_result)
    if kind is types.AsyncGeneratorType:
        return drive_async_generator(_work_to_come(invocation), result, on_result)
    if on_result is None:
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
    except BaseException as error:
        invocation.fail(error)
        raise


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
        closing = issubclass(type(error), GeneratorExit)  # its `__class__` may lie, or fail
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
    code = getattr(generator, "gi_code", None)
    can_be_awaited = code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE
    return (_drive_awaitable if can_be_awaited else _drive_generator)(start, generator, finish)


def _drive_generator(start: Start, generator: Iterator[T], finish: Ended | None) -> Generator[T, Any, Any]:
    invocation = start()
    if invocation is None:
        return (yield from generator)
    forward: Callable[[], T] = partial(next, generator)
    step = forward
    given: list[T] = []  # what the reader has got is not held on to, nor what it sent or threw
    try:
        while True:
            token = attach(invocation)
            try:
                given.append(step())
            finally:
                detach(invocation, token)
            step = forward
            invocation.chunk()
            try:
                sent = yield given.pop()
            except GeneratorExit:
                yield from _refusals(invocation, generator, finish)
                raise
            except BaseException as error:  # noqa: BLE001 - passed on to the generator
                step = _thrown(getattr(generator, "throw", _missed), error)
            else:
                if sent is not None:
                    step, sent = partial(generator.send, sent), None  # type: ignore[attr-defined]
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


_drive_awaitable: Any = types.coroutine(types.FunctionType(_drive_generator.__code__, globals()))
"""of a generator that `types.coroutine` made one to be awaited"""


async def drive_async_generator(
    start: Start, generator: AsyncIterator[T], finish: Ended | None = None
) -> AsyncGenerator[T, Any]:
    """The same for an async generator."""
    invocation = start()
    step: Callable[[], Any] = partial(_first, generator)
    closed: GeneratorExit | None = None
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
            step = _thrown(getattr(generator, "athrow", _missed), error)
    left = False
    given: list[T] = []
    reading(invocation)
    try:
        while True:
            token = attach(invocation)
            closing = False
            try:
                given.append(await step())
            except GeneratorExit:
                closing = True
                raise
            finally:
                detach(invocation, token, closing)
            step = generator.__anext__
            invocation.chunk()
            try:
                step = _asent(generator, (yield given.pop()))
            except GeneratorExit as error:
                closed = error
            except BaseException as error:  # noqa: BLE001 - passed on to the generator
                # Only its closing can be cancelled here: by a loop that ends before it got round to it.
                left = issubclass(type(error), asyncio.CancelledError)
                step = _thrown(getattr(generator, "athrow", _missed), error)
            if closed is not None:  # dealt with here, so that it is no context of what closing raises
                await _aclose(generator, invocation)
                raise closed
    except StopAsyncIteration:
        _finish(invocation, finish)
    except BaseException as error:
        _broken_off(invocation, finish, error, left)
        raise
    finally:
        closed = None  # else it and this frame would hold each other
        read(invocation)


def _broken_off(invocation: Invocation, finish: Ended | None, error: BaseException, left: bool) -> None:
    """A reader that leaves early, or (`left`) a loop that cancels the closing, is no failure."""
    if issubclass(type(error), (GeneratorExit, asyncio.CancelledError) if left else GeneratorExit):
        stop_inner(invocation)
        _finish(invocation, finish)
    else:
        invocation.fail(error)


_being_read: dict[int, list[Invocation]] = {}
"""streams by the id of the span around them: when their reader is closed, they are closed, or forgotten, later"""


def reading(invocation: Invocation) -> None:
    """Somebody reads from this stream, until `read`."""
    _being_read.setdefault(invocation._parent_id, []).append(invocation)


def read(invocation: Invocation) -> None:
    """It is over; once is enough."""
    streams = _being_read.get(invocation._parent_id)
    if streams is not None:
        with suppress(ValueError):  # read already, here or on another thread
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


def _thrown(throw: Callable[[BaseException], T], error: BaseException) -> Callable[[], T]:
    """The step after the reader threw something: it only passes through, so our frame is no part of its traceback."""
    trace = _TRACEBACK.__get__(error)
    _TRACEBACK.__set__(error, trace and trace.tb_next)
    return partial(throw, error)


_TRACEBACK: Any = BaseException.__traceback__
"""a subclass may have an attribute of that name, which may fail"""


def _missed(error: BaseException) -> Any:
    """Iterators that are no generators have no `throw`: the exception is theirs to miss."""
    raise error


def _first(generator: AsyncIterator[T]) -> Any:
    """The first step, kept from the event loop: when the loop ends it closes the generators it knows, all at once, and
    ours closes this one ("asynchronous generator is already running")."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return generator.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _asent(generator: AsyncIterator[T], sent: Any) -> Callable[[], Any]:
    """The step after the reader sent something, most often nothing."""
    return generator.__anext__ if sent is None else partial(generator.asend, sent)  # type: ignore[attr-defined]


def _close(invocation: Invocation, generator: Iterator[T]) -> list[T]:
    """Close it. What it yields all the same is for the one who closes, so that Python complains as it does without us:
    "generator ignored GeneratorExit". What it returns (StopIteration) is what closing gives, from Python 3.13 on."""
    close, throw = (getattr(generator, name, None) for name in ("close", "throw"))
    token = attach(invocation)
    try:
        if throw is not None:
            return [throw(GeneratorExit())]
        if close is not None:
            close()
    except GeneratorExit:
        pass
    finally:
        detach(invocation, token)
    return []


def _refusals(invocation: Invocation, generator: Iterator[T], finish: Ended | None) -> Iterator[T]:
    """Close it, and tell what it yielded instead of ending."""
    refusals = _close(invocation, generator)
    if refusals:
        if finish is None:
            invocation.fail(RuntimeError())
        else:
            _finish(invocation, finish)
    return iter(refusals)


async def _aclose(generator: AsyncIterator[Any], invocation: Invocation | None = None) -> None:
    close = getattr(generator, "aclose", None)
    token = None if invocation is None else attach(invocation)
    try:
        if close is not None:
            await close()
    finally:
        if invocation is not None:
            detach(invocation, token, closing=True)
