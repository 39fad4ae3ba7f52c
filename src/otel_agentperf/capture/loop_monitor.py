"""Notices callbacks that hold up an event loop, and names their code, while spans are open on that loop.

One daemon thread looks at the loops' threads a few dozen times a second; it rests when no run is open and ends when
none comes for a while. A program without event loops starts no thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

from .. import _guard
from .._fork import call_in_child
from ..model import Stall
from .loop_watch import Held, LoopWatch

TICK_S = 0.05
ALERT_TICK_S = 0.025
"""… while a loop may be held up"""
_CLOSED_TICKS = 8
"""A run is taken off the books just before its stalls are asked for, so they are kept a little longer."""
_LINGER_S = 5.0
_MOST_HELD = 256
"""stalls remembered for the runs that are still open"""
_MOST_OF_A_RUN = 32

running_loop = asyncio._get_running_loop


class LoopMonitor:
    """`is_open`: is any run going on? `least_s`: the shortest stall that counts. `at_tick` is called at
    each look with the time (`perf_counter`)."""

    def __init__(
        self, is_open: Callable[[], bool], least_s: float = 0.1, at_tick: Callable[[float], object] | None = None
    ) -> None:
        self._is_open = is_open
        self._least_ns = int(max(least_s, 2 * ALERT_TICK_S) * 1e9)
        self._at_tick = at_tick
        self._watches: dict[int, LoopWatch] = {}
        """by the thread's identity"""
        self._held: deque[Held] = deque(maxlen=_MOST_HELD)
        self._closed = 0
        """looks in a row that found no run open"""
        self._thread: threading.Thread | None = None
        self._reset()
        call_in_child(self._reset)

    def span_started(self, trace_id: int, span_id: int) -> None:
        """A span has started on this thread: if a loop runs here, watch it. Costs 0.3 µs."""
        loop = running_loop()
        if loop is None:
            return
        watch = self._watches.get(threading.get_ident())
        if watch is None or watch.loop() is not loop:
            watch = self._watch(loop)
        watch.span_started(loop, trace_id, span_id)

    def stalls(self, trace_id: int, start_ns: int, end_ns: int) -> tuple[Stall, ...]:
        """The longest stalls of the loops that the trace had spans on, between two times (epoch), in time order."""
        if not self._watches and not self._held:
            return ()
        with self._lock:
            now = perf_counter_ns()
            going_on = [held for watch in self._watches.values() for held in watch.held_now(now)]
            found = [held.seen_by(trace_id) for held in (*self._held, *going_on) if trace_id in held.traces]
        inside = (stall for stall in found if start_ns < stall.start_ns + stall.duration_ns and stall.start_ns < end_ns)
        longest = sorted(inside, key=lambda stall: -stall.duration_ns)[:_MOST_OF_A_RUN]
        return tuple(sorted(longest, key=lambda stall: stall.start_ns))

    def forget(self, trace_id: int) -> None:
        """The trace has ended."""
        for watch in list(self._watches.values()):
            watch.forget(trace_id)

    def stop(self) -> None:
        """Watch no more."""
        self._stopped = True
        self._wake.set()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> LoopWatch:
        with self._lock:
            watch = LoopWatch(loop, self._least_ns, self._held.append)
            self._watches[watch.ident] = watch
            if not self._stopped and (self._thread is None or not self._thread.is_alive()):
                self._start()
        self._wake.set()
        return watch

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="agentperf-loop-monitor", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down
            self._stopped = True
            return
        self._thread = thread

    def _run(self) -> None:
        while not self._stopped:
            if self._watches:
                pause = ALERT_TICK_S if any(watch.alert for watch in list(self._watches.values())) else TICK_S
                planned = perf_counter_ns() + int(pause * 1e9)
                time.sleep(pause)
                with _guard.guard("loop_monitor"):
                    self._tick(perf_counter_ns() - planned)
            elif not self._rest():
                return

    def _tick(self, overslept: int) -> None:
        self._closed = 0 if self._is_open() else self._closed + 1
        if self._closed > _CLOSED_TICKS:
            self._let_go()
            return
        frames = sys._current_frames()
        frames.pop(threading.get_ident(), None)  # ours holds `frames`: a circle
        with self._lock:
            now = perf_counter_ns()
            for ident, watch in list(self._watches.items()):
                if not watch.look(frames.get(ident), now, max(0, overslept)):
                    del self._watches[ident]
        if self._at_tick is not None:
            self._at_tick(now * 1e-9)

    def _let_go(self) -> None:
        """Forget the loops, but not of a run that starts right now: its first span finds them, or makes them anew."""
        with self._lock:
            watches, self._watches = self._watches, {}
            if self._is_open():
                self._watches = {**watches, **self._watches}
            else:
                self._held.clear()

    def _rest(self) -> bool:
        """Wait for the next run on a loop; False when none comes for a while."""
        self._wake.wait(_LINGER_S)
        with self._lock:
            woken = self._wake.is_set()
            self._wake.clear()
            if woken or self._watches:
                return True
            self._thread = None
            return False

    def _reset(self) -> None:
        """At the start, and in a forked child, which has no watching thread."""
        # Re-entrant: a signal handler that traces may interrupt us on the thread that holds it.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._stopped = False
        self._closed = 0
        self._thread = None
        self._watches = {}
        self._held.clear()
