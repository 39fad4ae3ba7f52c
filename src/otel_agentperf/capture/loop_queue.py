"""Who stands ready on an event loop while one callback holds it up, and what falls due: the timers and sockets that
others wait for.

Read while nothing but the callback can change it. Which tasks are ready is known for every loop; timers and sockets
only for asyncio's own, whose fields these are: other loops (uvloop) keep them in C.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from contextlib import suppress
from time import perf_counter, perf_counter_ns
from typing import Any

_MOST_SOCKETS = 256
_MOST_TIMERS = 10_000
_MOST_DUE = 32


class LoopQueue:
    """Made early in a stall that began at `start` (`perf_counter_ns`); looked at now and then while it lasts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: int) -> None:
        self._start = start
        self.ready: dict[int, int] = {}
        """other tasks that could go on, by id, and since when (`perf_counter_ns`)"""
        self._waiters: dict[int, int] | None = None
        """the task that waits for a future, both by id, as first seen"""
        self._timers: list[int] = []
        self._offset: float | None = None
        """from the loop's clock to `perf_counter`; asked for once, so that a timer always falls due at one moment"""
        self._sockets: dict[int, int] = {}
        self._seen = start
        self._known = hasattr(loop, "_scheduled")

    def look(self, loop: Any) -> None:
        """Note what has fallen due since the last look."""
        if self._waiters is None:
            self._waiters = {}
            with suppress(AttributeError, RuntimeError, TypeError):
                self._look_at_tasks(loop)
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
        return tuple(sorted(moment - self._start for moment in moments if moment < end))[:_MOST_DUE]

    def _look_at_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """A task that waits for nothing, or for what is done already, is in the loop's queue."""
        running = asyncio.current_task(loop)
        waiters: dict[int, int] = {}
        for task in asyncio.all_tasks(loop):
            waits_for: Any = task._fut_waiter  # type: ignore[attr-defined]
            if task is running:
                continue
            if waits_for is None or waits_for.done():
                self.ready[id(task)] = self._start
            else:
                waiters[id(waits_for)] = id(task)
        self._waiters = waiters

    def _look_at_timers(self, loop: Any) -> None:
        if len(loop._scheduled) > _MOST_TIMERS:
            return
        if self._offset is None:
            self._offset = perf_counter() - loop.time()
        now = perf_counter_ns()
        self._timers = []
        for timer in list(loop._scheduled):
            # The start is known to half a look: what was due before it, and is still there, fell due right after it.
            moment = max(self._start, int((timer._when + self._offset) * 1e9))
            if moment > now or timer._cancelled:
                continue
            self._timers.append(moment)
            for waited_for in timer._args or ():
                task = (self._waiters or {}).get(id(waited_for))
                if task is not None:
                    self.ready[task] = moment

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
