"""The Agent Framework's `ResponseStream`, inside a span of ours: by the hooks that it offers.

The span is open from the first pull until the stream has been read to its end, failed, was closed, or is collected
as garbage, whichever comes first.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from opentelemetry import context as context_api

from .. import _guard
from ..capture.invocation import Invocation, attach
from ..capture.streams import read, reading, stop_inner
from ..capture.usage import get
from ._client_streams import _stop_elsewhere

_USAGE = (
    "input_token_count",
    "output_token_count",
    "cache_read_input_token_count",
    "cache_creation_input_token_count",
)


def watch_stream(begin: Callable[[], Invocation | None], stream: Any) -> Any:
    """The same stream, its work inside the span that `begin` starts."""
    with _guard.guard("agent_framework.stream"):
        watched = _Watched(begin, weakref.ref(stream))
        stream.with_pull_context_manager(watched.pull)
        stream.with_update_transform(watched.look)
        stream.with_cleanup_hook(watched.ended)
        weakref.finalize(stream, watched.forgotten).atexit = False
    return stream


class _Watched:
    """Does not hold the stream, which is to be collected when its reader forgets it."""

    def __init__(self, begin: Callable[[], Invocation | None], stream: weakref.ref[Any]) -> None:
        self._begin: Callable[[], Invocation | None] | None = begin
        self._stream = stream
        self._invocation: Invocation | None = None
        self._usage: Counter[str] = Counter()

    def pull(self) -> _Pull:
        """The context of each step."""
        if self._begin is not None:
            begin, self._begin = self._begin, None
            with _guard.guard("agent_framework.stream"):
                self._invocation = begin()
                if self._invocation is not None:
                    reading(self._invocation)
        return _Pull(self._invocation)

    @_guard.guarded("agent_framework.update", None)
    def look(self, update: Any) -> None:
        if self._invocation is not None:
            self._invocation.chunk()
            for part in get(update, "contents") or ():
                told = get(part, "usage_details") if get(part, "type") == "usage" else None
                self._usage.update({key: value for key in _USAGE if isinstance(value := get(told, key), int)})

    @_guard.guarded("agent_framework.stream_end", None)
    def ended(self) -> None:
        """Read to the end, failed, or closed."""
        invocation = self._invocation
        if invocation is None:
            return
        stop_inner(invocation)
        read(invocation)
        if invocation.kind == "llm":
            invocation.usage(*(self._usage.get(key) for key in _USAGE))
        error = get(self._stream(), "_stream_error")
        if isinstance(error, BaseException) and not isinstance(error, GeneratorExit):
            invocation.fail(error)
        else:
            invocation.stop()

    def forgotten(self) -> None:
        if self._invocation is not None and not self._invocation._ended:
            _stop_elsewhere(self)

    def stop(self) -> None:
        """Nobody will read any more."""
        if self._invocation is not None:
            stop_inner(self._invocation)
            read(self._invocation)
            self._invocation.stop()


class _Pull:
    """Makes the call's span current for one step."""

    def __init__(self, invocation: Invocation | None) -> None:
        self._invocation = invocation

    def __enter__(self) -> None:
        if self._invocation is not None:
            self._token = attach(self._invocation)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # A step that is collected as garbage may be left in another context, where there is nothing to undo.
        invocation = self._invocation
        if invocation is None or (kind is GeneratorExit and context_api.get_current() is not invocation.context):
            return
        context_api.detach(self._token)
