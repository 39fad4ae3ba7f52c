"""Streams that a client library returns as objects of its own: watched from the inside, by their iterator.

The span is open from the request until the stream has been read to its end, failed, was closed, or is collected
as garbage, whichever comes first.
"""

from __future__ import annotations

import _thread
from collections.abc import AsyncIterator, Callable, Iterator
from copy import copy
from typing import Any, Protocol

from .. import _guard
from ..capture.invocation import Invocation
from ..capture.streams import read, reading

Note = Callable[[Invocation, Any], None]
"""looks at one chunk: tokens, time to the first one"""
_PATIENCE_S = 0.05


class Stoppable(Protocol):
    """A call, or what stands for one."""

    def stop(self) -> None: ...


class _Watched:
    """What sync and async iterators have in common."""

    def __init__(self, invocation: Invocation, iterator: Any, note: Note) -> None:
        self._invocation = invocation
        self._iterator = iterator
        self._note = note
        self._open = True
        invocation._cpu_ns = -1  # the reader's time lies in between
        reading(invocation)

    def stop(self) -> None:
        """The reader is done, at the end or earlier."""
        self._over()
        self._invocation.stop()

    def _failed(self, error: BaseException) -> None:
        self._over()
        self._invocation.fail(error)

    def _over(self) -> None:
        self._open = False
        read(self._invocation)

    def _seen(self, chunk: Any) -> None:
        with _guard.guard("client stream"):
            self._note(self._invocation, chunk)

    def __del__(self) -> None:
        if self._open:
            self._over()
            if not self._invocation._ended:
                _stop_elsewhere(self._invocation)


class WatchedIterator(_Watched):
    """Takes the place of a stream's iterator."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self.stop()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self._seen(chunk)
        return chunk

    def close(self) -> None:
        try:
            self._iterator.close()
        finally:
            self.stop()


class WatchedAsyncIterator(_Watched):
    """The same for an async stream."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await self._iterator.__anext__()
        except StopAsyncIteration:
            self.stop()
            raise
        except BaseException as error:
            self._failed(error)
            raise
        self._seen(chunk)
        return chunk

    async def aclose(self) -> None:
        try:
            await self._iterator.aclose()
        finally:
            self.stop()


def watched(invocation: Invocation, stream: Any, note: Note) -> bool:
    """Watch what is a stream of the OpenAI or Anthropic client, which are made alike. False: it is none."""
    iterator = getattr(stream, "_iterator", None)
    if hasattr(iterator, "__anext__"):
        stream._iterator = WatchedAsyncIterator(invocation, _on_a_copy(stream, iterator), note)
    elif hasattr(iterator, "__next__"):
        stream._iterator = WatchedIterator(invocation, _on_a_copy(stream, iterator), note)
    else:
        return False
    return True


def _on_a_copy(stream: Any, iterator: Any) -> Any:
    """The same iterator, made anew on a copy of the stream, as Anthropic's client makes it from version 2 on: one that
    refers to the stream keeps what the reader forgot, and its span, until the garbage collector finds the circle."""
    frame = getattr(iterator, "gi_frame", None) or getattr(iterator, "ag_frame", None)
    make = getattr(type(stream), "__stream__", None)
    if frame is None or frame.f_code is not getattr(make, "__code__", None) or frame.f_locals.get("self") is not stream:
        return iterator
    twin = copy(stream)
    del twin._iterator
    return twin.__stream__()


def iterated(wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A wrapper for the `__aiter__` of such a stream. Its own would be an async generator around the iterator, which
    the event loop closes some time after the reader has left it."""
    iterator = vars(stream).get("_iterator")
    return iterator if isinstance(iterator, WatchedAsyncIterator) else wrapped(*args, **kwargs)


def closed(wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A wrapper for the `close` of such a stream, which does not reach its iterator."""
    with _guard.guard("client stream close"):
        iterator = vars(stream).get("_iterator")
        if isinstance(iterator, _Watched):
            iterator.stop()
    return wrapped(*args, **kwargs)


def _stop_elsewhere(invocation: Stoppable) -> None:
    """End the span of a forgotten stream. The garbage collector may run while this thread holds a lock of the SDK's,
    so another thread ends the span; it is waited for only so long that a held lock is no deadlock."""
    done = _thread.allocate_lock()
    done.acquire()

    def stop() -> None:
        try:
            invocation.stop()
        finally:
            done.release()

    try:
        _thread.start_new_thread(stop, ())
    except RuntimeError:  # the interpreter is shutting down
        return
    done.acquire(timeout=_PATIENCE_S)
