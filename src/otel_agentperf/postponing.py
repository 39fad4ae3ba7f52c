"""Long runs are analysed on a thread of ours, so that the program does not wait where it ends one.

Their root span is told to the exporters' processors only then, with the report on it. That is done where all of these
queue spans themselves, so that the program expects to wait for a flush anyway: one that exports at once still gets the
root at once. A flush and a shutdown of the provider wait for what is postponed, as does the interpreter's end.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Condition, Thread, current_thread
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, SynchronousMultiSpanProcessor

from . import _guard
from ._fork import call_in_child

LONG = 500
"""spans of a run from which it is worth it: their analysis takes 10 to 20 ms"""
_MOST_WAITING = 50_000
"""spans of all that waits; what is more is analysed where it ends"""
_HEAD_START_S = 0.001
"""for the thread that ended the run: it would not get the interpreter lock back for 5 ms"""


class Postponing:
    """The runs of one processor that wait for their analysis, and the thread that goes through them."""

    _thread: Thread | None

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._reset()
        call_in_child(self._reset)

    def postpone(self, span: Any, spans: int, finish: Callable[[], object]) -> bool:
        """Have `finish`, which puts the report on `span`, called on our thread, and the other processors told then that
        the span has ended. False: it has to be called here. To be called while the span is ending."""
        chain = getattr(span, "_span_processor", None)
        if spans < LONG or type(chain) is not SynchronousMultiSpanProcessor:
            return False
        others = [member for member in chain._span_processors if member is not self._processor]
        if not others or not all(map(queues, others)):
            return False
        if chain._span_processors[0] is not self._processor:
            self._go_first(chain)
        span._span_processor = _Ending(self, chain, span, spans, finish)
        return True

    def _go_first(self, chain: SynchronousMultiSpanProcessor) -> None:
        """To be flushed and shut down before those that we hand the root to."""
        with chain._lock:
            others = (member for member in chain._span_processors if member is not self._processor)
            chain._span_processors = (self._processor, *others)

    def submit(self, spans: int, job: Callable[[], object]) -> bool:
        """Is the job taken?"""
        with self._changed:
            if self._spans + spans > _MOST_WAITING:
                return False
            self._jobs.append((spans, job))
            if len(self._jobs) == 1:
                # Not a daemon: the interpreter's end waits for it, and then has the provider flushed.
                self._thread = Thread(target=self._work, name="otel-agentperf", daemon=False)
                try:
                    self._thread.start()
                except RuntimeError:  # no more threads, or the interpreter is ending
                    self._jobs.clear()
                    return False
            self._spans += spans
            return True

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until nothing waits any more; False when that takes too long, or a job of ours asks for it."""
        if current_thread() is self._thread:
            return False
        until = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._jobs:
                left = None if until is None else until - time.monotonic()
                if (left is not None and left <= 0) or not self._changed.wait(left):
                    return not self._jobs
        return True

    def _work(self) -> None:
        """Go through the jobs. The one that is under way stays the first, so that a flush waits for it; the thread
        ends with the last."""
        left = True
        time.sleep(_HEAD_START_S)
        while left:
            spans, job = self._jobs[0]
            with suppress(BaseException):  # a listener that exits: here it would end nobody but this thread
                job()
            del job
            with self._changed:
                self._jobs.popleft()
                self._spans -= spans
                self._changed.notify_all()
                left = bool(self._jobs)

    def _reset(self) -> None:
        """At the start, and in a forked child: what waits is the parent's, as are the lock and the thread."""
        self._changed = Condition()
        self._jobs: deque[tuple[int, Callable[[], object]]] = deque()
        self._spans = 0
        self._thread = None


class _Ending(SpanProcessor):
    """In the place of a provider's processors, for the rest of one span's end."""

    def __init__(
        self, owner: Postponing, chain: SpanProcessor, span: Any, spans: int, finish: Callable[[], object]
    ) -> None:
        self._owner, self._chain, self._span, self._spans, self._finish = owner, chain, span, spans, finish

    def on_end(self, span: ReadableSpan) -> None:
        """The SDK has done with the span."""
        self._span._span_processor = self._chain
        taken = False
        with _guard.guard("postponing"):
            taken = self._owner.submit(self._spans, self._told)
        if not taken:
            self._told()

    def _told(self) -> None:
        try:
            with _guard.guard("postponing.finish"):
                self._finish()
        finally:
            with _guard.guard("postponing.on_end"):
                self._chain.on_end(self._span._readable_span())


def queues(processor: SpanProcessor) -> bool:
    """Does it export later, so that nobody counts on a span's being exported when it has ended?"""
    batch = getattr(sys.modules.get("opentelemetry.sdk.trace.export"), "BatchSpanProcessor", ())
    return isinstance(processor, batch) or getattr(processor, "queues", False) is True
