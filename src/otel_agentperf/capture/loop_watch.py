"""One event loop as its monitor sees it: is it idle, working, or held up by one callback?

A look at the loop's thread tells idle from busy and costs the program nothing. Only a busy loop is asked for a beat
(a callback that runs when the loop gets round to it); while the beat is out, the looks name the task and the code
that keep it. One callback is one task's step: many short ones that pile up are no stall.
"""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from asyncio import current_task
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import get_ident, get_native_id
from time import perf_counter_ns
from types import FrameType
from typing import Any, NamedTuple

from ..model import Stall
from .locations import blocking_location
from .loop_queue import LoopQueue

_MOST_LOOKS = 40
"""of one stall that name its code; a longer one is looked at less often"""
_MOST_STARTED = 64
_MOST_KNOWN = 1_024
_WAITING = frozenset({"select", "_poll"})


class Held(NamedTuple):
    """A stall, with the traces that had spans on its loop."""

    stall: Stall
    traces: set[int]
    trace_id: int
    """whose callback it was; 0: unknown"""

    def seen_by(self, trace_id: int) -> Stall:
        """The stall as a run of the trace tells it."""
        if self.trace_id in (0, trace_id):
            return self.stall
        return replace(self.stall, span_id="", elsewhere=True)


class _Step:
    """One callback (a task's step) that was found running in one or more looks."""

    __slots__ = ("busy_ns", "cpu_ns", "end", "looks", "overslept", "places", "queue", "ready", "span_id", "start",
                 "task", "trace_id", "waited_ns")  # fmt: skip

    def __init__(self, task: int, start: int, cpu_ns: int, trace_id: int, span_id: int) -> None:
        self.task = task
        self.start = start
        self.end = 0
        self.cpu_ns = cpu_ns
        """the thread's CPU time when it was last known to be free"""
        self.busy_ns = 0
        self.trace_id, self.span_id = trace_id, span_id
        self.looks = 0
        self.overslept = 0
        self.waited_ns = -1
        """how long the thread had waited for a core at the second look"""
        self.places: Counter[str | None] = Counter()
        self.queue: LoopQueue | None = None
        self.ready: dict[int, int] = {}
        """the last spans of tasks that stood ready, and since when"""


class LoopWatch:
    """Made on the loop's own thread. `found` gets each stall of `least_ns` or longer.

    `span_started` and the beat run on the loop's thread and take no lock; all else runs under the monitor's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, least_ns: int, found: Callable[[Held], object]) -> None:
        self.loop = weakref.ref(loop)
        self.ident = get_ident()
        self._native_id = get_native_id()
        self._cpu_clock = _cpu_clock(self.ident)
        self._least_ns, self._found = least_ns, found
        self.alert = False
        """look again soon: the loop was idle and is not, or its beat stays out"""
        self._runner = 0
        """id of the frame that runs the loop, where no Python code waits for events (uvloop)"""
        self._traces: set[int] = set()
        self._last_spans: dict[int, tuple[int, int, int]] = {}
        """trace and span that each task started last, and when, by the task's id"""
        self._started: list[tuple[int, int, int]] = []
        """span, task and time of starts while a beat was out"""
        self._beat_ns = 0
        self._back_ns = self._back_cpu = 0
        self._free_ns = perf_counter_ns()
        self._free_cpu = self._cpu_ns()
        self._was_idle = True
        self._step: _Step | None = None
        self._steps: list[_Step] = []
        """earlier ones that the beat which is out has waited for"""

    def span_started(self, loop: asyncio.AbstractEventLoop, trace_id: int, span_id: int) -> None:
        """A span has started on the loop. Each of them passes here: it costs about as much as two attributes."""
        if trace_id not in self._traces or len(self._last_spans) >= _MOST_KNOWN:
            self._make_room(trace_id)
        task, now = id(current_task(loop)), perf_counter_ns()
        self._last_spans[task] = (trace_id, span_id, now)
        if self._beat_ns and not self._back_ns and len(self._started) < _MOST_STARTED:
            self._started.append((span_id, task, now))

    def _make_room(self, trace_id: int) -> None:
        if len(self._traces) >= _MOST_KNOWN or len(self._last_spans) >= _MOST_KNOWN:
            self._traces.clear()
            self._last_spans.clear()
        self._traces.add(trace_id)

    def forget(self, trace_id: int) -> None:
        """The trace's run has ended."""
        self._traces.discard(trace_id)

    def look(self, frame: FrameType | None, now: int, overslept: int) -> bool:
        """What is the loop doing? `frame` is the thread's innermost, `overslept` how much later than planned (in
        nanoseconds) the look comes. False: the loop runs no more."""
        self.alert = False
        self.settle()
        loop = self.loop()
        if loop is None or frame is None or loop.is_closed() or not loop.is_running():
            return False
        if self._is_idle(frame):
            self._free(now)
            return True
        self._busy(loop, frame, now, overslept)
        self.alert = bool(self._beat_ns) or self._was_idle
        self._was_idle = False
        if not self._beat_ns:
            self._beat_ns = now
            try:
                loop.call_soon_threadsafe(self._back)
            except RuntimeError:  # closed since
                return False
        return True

    def settle(self) -> None:
        """If the beat is back, say what it had waited for."""
        back = self._back_ns
        if not back:
            return
        self._end_step(back, self._back_cpu)
        for held in filter(None, map(self._judged, self._steps)):
            self._found(held)
        self._steps = []
        self._started = []
        self._free_ns, self._free_cpu = back, self._back_cpu
        self._beat_ns = self._back_ns = 0

    def held_now(self, now: int) -> Iterator[Held]:
        """A run ends while a beat is out: what has held that up so far counts for it."""
        self.settle()
        if self._step is not None:
            self._step.end = now
        steps = (*self._steps, self._step) if self._step is not None else self._steps
        yield from filter(None, map(self._judged, steps))

    def _back(self) -> None:
        """The beat, on the loop's thread."""
        self._runner = id(sys._getframe(1))
        self._back_cpu = time.thread_time_ns()
        self._back_ns = perf_counter_ns()

    def _is_idle(self, frame: FrameType) -> bool:
        code = frame.f_code
        if id(frame) == self._runner:
            return True
        return code.co_name in _WAITING and code.co_filename.endswith(("selectors.py", "windows_events.py"))

    def _free(self, now: int) -> None:
        """Idle with a beat out: it is just coming."""
        if self._step is not None:
            self._end_step((now + self._free_ns) // 2, self._cpu_ns())
        self._was_idle = True
        self._free_ns, self._free_cpu = now, self._cpu_ns()

    def _busy(self, loop: asyncio.AbstractEventLoop, frame: FrameType, now: int, overslept: int) -> None:
        task = id(current_task(loop))
        step = self._step
        if step is None or step.task != task:
            *last_span, began = self._last_spans.get(task, (0, 0, 0))
            # Where a span of the task started in between, the callback ran by then; otherwise in the middle.
            start = began if self._free_ns <= began < now else (self._free_ns + now - overslept) // 2
            self._end_step(start, self._cpu_ns())
            step = self._step = _Step(task, start, self._free_cpu, *last_span)
        step.looks += 1
        step.overslept += overslept
        if step.looks == 2:
            step.waited_ns = self._waited_for_core()
            step.queue = LoopQueue(loop, step.start)
        # The first look names nothing (a healthy loop is busy now and then, and words cost more than looks), but where
        # code that keeps the interpreter lock let us look only afterwards.
        if 1 < step.looks < _MOST_LOOKS or step.looks % 10 == 0 or overslept >= self._least_ns:
            step.places[blocking_location(frame)] += 1
            if step.queue is not None:
                step.queue.look(loop)
                self._note_ready(step)
        self._free_ns, self._free_cpu = now, self._cpu_ns()

    def _note_ready(self, step: _Step) -> None:
        """Now: when the stall is over, its tasks go on and start other spans."""
        if step.queue is None:
            return
        for task, moment in step.queue.ready.items():
            known = self._last_spans.get(task)
            if known is not None and len(step.ready) < _MOST_STARTED:
                step.ready.setdefault(known[1], moment)

    def _end_step(self, end: int, cpu_ns: int) -> None:
        step, self._step = self._step, None
        if step is not None and len(self._steps) < _MOST_STARTED:
            step.end = end
            step.busy_ns = cpu_ns - step.cpu_ns
            self._steps.append(step)

    def _judged(self, step: _Step) -> Held | None:
        wall = step.end - step.start
        seen = step.looks > 1 or step.overslept >= self._least_ns
        if wall < self._least_ns or not seen or not self._is_its_own(step, wall):
            return None
        place = _most_common(step.places)
        if place is None:
            return None
        waiting = [span for span, task, moment in self._started if task != step.task and moment >= step.start]
        epoch = time.time_ns() - perf_counter_ns()
        stall = Stall(
            start_ns=step.start + epoch,
            duration_ns=wall,
            frame=place,
            span_id=f"{step.span_id:016x}" if step.span_id else "",
            waiting=tuple(f"{span:016x}" for span in waiting),
            due_ns=step.queue.due(step.end) if step.queue is not None else (),
            ready=tuple((f"{span:016x}", moment - step.start) for span, moment in step.ready.items()),
        )
        return Held(stall, self._traces, step.trace_id)

    def _is_its_own(self, step: _Step, wall: int) -> bool:
        """Did the callback itself take so long? Not when the machine was overloaded or another thread held the
        interpreter lock: then our own looks come late, or the thread waits for a core."""
        busy = step.busy_ns or self._cpu_ns() - step.cpu_ns
        if busy >= min(self._least_ns, wall // 2):
            return True
        waited = self._waited_for_core() - step.waited_ns if step.waited_ns >= 0 else 0
        return 2 * step.overslept < wall and 2 * waited < wall

    def _cpu_ns(self) -> int:
        """CPU time of the loop's thread; 0 where it cannot be asked for or the thread is gone."""
        if self._cpu_clock is None:
            return 0
        try:
            return time.clock_gettime_ns(self._cpu_clock)
        except OSError:
            return 0

    def _waited_for_core(self) -> int:
        """Nanoseconds that the loop's thread was ready to run and had no core; -1: unknown (not Linux)."""
        try:
            with open(f"/proc/self/task/{self._native_id}/schedstat", "rb") as file:
                return int(file.read().split()[1])
        except (OSError, ValueError, IndexError):
            return -1


def _cpu_clock(ident: int) -> Any:
    """Made on the thread itself: asking for the clock of a thread that has ended may crash."""
    try:
        return time.pthread_getcpuclockid(ident)
    except (AttributeError, OSError):
        return None


def _most_common(places: Counter[str | None]) -> str | None:
    """The function that was seen most, at its line that was seen most."""
    functions: Counter[str | None] = Counter()
    for place, looks in places.items():
        functions[_function(place)] += looks
    if not functions:
        return None
    most = functions.most_common(1)[0][0]
    return max((place for place in places if _function(place) == most), key=lambda place: places[place])


def _function(place: str | None) -> str | None:
    """The location without its line."""
    return None if place is None else place.rpartition(":")[0] + " " + place.rpartition(" ")[2]
