"""Answers that a client gives out unread (`with_streaming_response`): their call lasts until they have been parsed, or
closed. The OpenAI and Anthropic clients are made alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from .. import _guard
from ..capture.invocation import Invocation
from ..capture.patching import Patches
from ..capture.streams import read
from ._client_streams import _stop_elsewhere

Finish = Callable[[Invocation, Any], None]
"""takes over a parsed answer: ends the call, or leaves that to the stream it is"""


class _Waiting:
    """The call of one answer, until it is parsed or closed, or forgotten."""

    __slots__ = ("invocation", "is_parsed")

    def __init__(self, invocation: Invocation) -> None:
        self.invocation = invocation
        self.is_parsed = False
        invocation._cpu_ns = -1  # the reader's time lies in between

    def __del__(self) -> None:
        if not self.is_parsed and not self.invocation._ended:
            _stop_elsewhere(self.invocation)


class UnreadResponses:
    """Those of one client."""

    def __init__(self, finish: Finish) -> None:
        self._finish = finish
        self._waiting: WeakKeyDictionary[Any, _Waiting] = WeakKeyDictionary()

    def patch(self, patches: Patches, module: str) -> None:
        """Notice when they are parsed, and when they are closed."""
        patches.wrap(module, "APIResponse.parse", self._parse)
        patches.wrap(module, "APIResponse.close", self._close)
        patches.wrap(module, "AsyncAPIResponse.parse", self._aparse)
        patches.wrap(module, "AsyncAPIResponse.close", self._aclose)

    def unpatch(self) -> None:
        """Nobody will notice any more."""
        for waiting in list(self._waiting.values()):
            if not waiting.is_parsed:
                waiting.invocation.stop()
        self._waiting.clear()

    def add(self, response: Any, invocation: Invocation) -> bool:
        """Wait for it, where it is one."""
        if type(response).__name__ not in ("APIResponse", "AsyncAPIResponse"):
            return False
        self._waiting[response] = _Waiting(invocation)
        return True

    def _parse(self, wrapped: Callable[..., Any], response: Any, args: Any, kwargs: Any) -> Any:
        try:
            parsed = wrapped(*args, **kwargs)
        except BaseException as error:
            self._failed(response, error)
            raise
        self._parsed(response, parsed)
        return parsed

    async def _aparse(self, wrapped: Callable[..., Any], response: Any, args: Any, kwargs: Any) -> Any:
        try:
            parsed = await wrapped(*args, **kwargs)
        except BaseException as error:
            self._failed(response, error)
            raise
        self._parsed(response, parsed)
        return parsed

    def _close(self, wrapped: Callable[..., Any], response: Any, args: Any, kwargs: Any) -> Any:
        try:
            return wrapped(*args, **kwargs)
        finally:
            self._closed(response)

    async def _aclose(self, wrapped: Callable[..., Any], response: Any, args: Any, kwargs: Any) -> Any:
        try:
            return await wrapped(*args, **kwargs)
        finally:
            self._closed(response)

    @_guard.guarded("unread response", None)
    def _parsed(self, response: Any, parsed: Any) -> None:
        waiting = self._waiting.get(response)
        if waiting is not None and not waiting.is_parsed:
            waiting.is_parsed = True
            self._finish(waiting.invocation, parsed)

    @_guard.guarded("unread response", None)
    def _failed(self, response: Any, error: BaseException) -> None:
        waiting = self._waiting.get(response)
        if waiting is not None:
            waiting.invocation.fail(error)

    @_guard.guarded("unread response", None)
    def _closed(self, response: Any) -> None:
        """Also where its stream has not been read to the end."""
        waiting = self._waiting.pop(response, None)
        if waiting is not None:
            read(waiting.invocation)
            waiting.invocation.stop()
