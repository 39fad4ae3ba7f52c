"""What falls due on an event loop while one callback holds it up: the timers and sockets that others wait for.

Read from asyncio's own loops, whose fields these are, while nothing but the callback can change them. Other loops
(uvloop) keep them in C: there nothing is known.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from time import perf_counter, perf_counter_ns
from typing import Any

_MOST_SOCKETS = 256
_MOST_TIMERS = 10_000
_MOST_DUE = 32


class LoopQueue:
    """Made early in a stall that began at `start` (`perf_counter_ns`); looked at now and then while it lasts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: int) -> None:
        self._start = start
        self._timers: list[int] = []
        self._sockets: dict[int, int] = {}
        self._seen = start
        self._known = hasattr(loop, "_scheduled")

    def look(self, loop: Any) -> None:
        """Note what has fallen due since the last look."""
        if not self._known:
            return
        try:
            self._look_at_timers(loop)
            self._look_at_sockets(loop)
        except (AttributeError, RuntimeError, TypeError, OSError, ValueError):
            self._known = False  # a loop that looks different, or that the callback is changing

    def due(self, end: int) -> tuple[int, ...]:
        """When something fell due, in nanoseconds after the start, in time order."""
        moments = [*self._timers, *self._sockets.values()]
        return tuple(sorted(moment - self._start for moment in moments if self._start < moment < end))[:_MOST_DUE]

    def _look_at_timers(self, loop: Any) -> None:
        if len(loop._scheduled) > _MOST_TIMERS:
            return
        offset = perf_counter() - loop.time()
        now = perf_counter_ns()
        whens = [int((timer._when + offset) * 1e9) for timer in list(loop._scheduled) if not timer._cancelled]
        self._timers = [moment for moment in whens if self._start < moment <= now]

    def _look_at_sockets(self, loop: Any) -> None:
        selector = getattr(loop, "_selector", None)
        if selector is None or not hasattr(select, "poll"):
            return
        wakeup = loop._ssock.fileno()  # our own beat is in there
        sockets = [key for key in list(selector.get_map().values()) if key.fd != wakeup and key.fd not in self._sockets]
        if not sockets or len(sockets) > _MOST_SOCKETS:
            return
        poll = select.poll()
        for key in sockets:
            reading, writing = key.events & selectors.EVENT_READ, key.events & selectors.EVENT_WRITE
            poll.register(key.fd, (reading and select.POLLIN) | (writing and select.POLLOUT))
        now = perf_counter_ns()
        for ready, _ in poll.poll(0):
            self._sockets[ready] = (self._seen + now) // 2
        self._seen = now
