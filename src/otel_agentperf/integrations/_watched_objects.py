"""Streams whose class is the library's and is known: the class's own steps are wrapped, and each stream that belongs
to a call is watched until it has been read to its end, failed, was closed, or is collected as garbage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from .. import _guard
from ..capture.invocation import Invocation, attach, detach
from ..capture.streams import stop_inner
from ._client_streams import _stop_elsewhere

Finish = Callable[[Invocation, Any], None]
"""records what the stream, read to its end, tells of its call"""


class _Watch:
    """A stream's call while it is open."""

    __slots__ = ("finish", "invocation", "is_open")

    def __init__(self, invocation: Invocation, finish: Finish) -> None:
        self.invocation = invocation
        self.finish = finish
        self.is_open = True
        invocation._cpu_ns = -1  # the reader's time lies in between

    def stop(self, stream: Any) -> None:
        self.is_open = False
        with _guard.guard("watched stream"):
            stop_inner(self.invocation)
            self.finish(self.invocation, stream)
        self.invocation.stop()

    def fail(self, error: BaseException) -> None:
        self.is_open = False
        self.invocation.fail(error)

    def __del__(self) -> None:
        if self.is_open:
            self.is_open = False
            _stop_elsewhere(_Left(self.invocation))


class _Left:
    """The call of a forgotten stream: the client's stream below it is forgotten, too, but only after it."""

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def stop(self) -> None:
        stop_inner(self._invocation)
        self._invocation.stop()


class WatchedObjects:
    """The streams of one library, and wrappers for the methods of their classes."""

    def __init__(self) -> None:
        self._watches: WeakKeyDictionary[Any, _Watch] = WeakKeyDictionary()

    def add(self, stream: Any, invocation: Invocation, finish: Finish) -> None:
        """From now on `stream` ends `invocation`."""
        self._watches[stream] = _Watch(invocation, finish)

    def next(self, wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Around `__next__`."""
        watch = self._watches.get(stream)
        if watch is None or not watch.is_open:
            return wrapped(*args, **kwargs)
        token = attach(watch.invocation)
        try:
            item = wrapped(*args, **kwargs)
        except StopIteration:
            watch.stop(stream)
            raise
        except BaseException as error:
            watch.fail(error)
            raise
        finally:
            detach(watch.invocation, token)
        watch.invocation.chunk()
        return item

    async def anext(
        self, wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Around `__anext__`."""
        watch = self._watches.get(stream)
        if watch is None or not watch.is_open:
            return await wrapped(*args, **kwargs)
        token = attach(watch.invocation)
        closing = False
        try:
            item = await wrapped(*args, **kwargs)
        except StopAsyncIteration:
            watch.stop(stream)
            raise
        except BaseException as error:
            closing = isinstance(error, GeneratorExit)
            watch.fail(error)
            raise
        finally:
            detach(watch.invocation, token, closing)
        watch.invocation.chunk()
        return item

    async def aclose(
        self, wrapped: Callable[..., Any], stream: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Around `aclose`: a stream that its reader closes early ended well."""
        try:
            return await wrapped(*args, **kwargs)
        finally:
            watch = self._watches.get(stream)
            if watch is not None and watch.is_open:
                watch.stop(stream)
