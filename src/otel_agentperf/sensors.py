"""What is watched while runs go on, besides their spans: resources, event loops, a profile on request, and how long
calls usually take. What they found travels on the run's root."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from . import _guard
from ._config import Config
from ._fork import loading
from .capture import counts
from .history import History
from .resources import Resources
from .run_buffer import Bucket, RunBuffer

if TYPE_CHECKING:
    from .capture.loop_monitor import LoopMonitor
    from .capture.profiling import Profiling
    from .model import Report, SpanRecord

_LATER_NS = 1_000_000_000
"""where resources are not read at all"""


class Sensors:
    """Of one processor. No method raises, but `span_started`, which its caller guards."""

    def __init__(self, config: Config, buffer: RunBuffer) -> None:
        thresholds = config.threshold_map()
        self._buffer = buffer
        self._resources = Resources(thresholds.get("resource_saturation.cpu", 0.9), config.resource_monitor)
        self._thresholds = thresholds
        self._watches_loops = config.loop_monitor
        self._loops: LoopMonitor | None = None
        if self._watches_loops and "asyncio" in sys.modules:
            self._loop_monitor()
        self._history = History() if config.history and config.enabled else None
        self._profiling = _profiling(config)
        self.due_ns = 0
        """when resources are to be read again, in `perf_counter_ns`"""
        self._running_loop: Callable[[], object] = self._look_for_loop
        self.are_watching = self._running_loop if self._profiling is None else lambda: True
        """does each span that starts on this thread matter?"""

    def span_started(self, name: str, context: SpanContext, bucket: Bucket, is_agent: bool, now_ns: int) -> None:
        """A span has started in `bucket`, on this thread. Need not be called where a bucket has its mark, nothing is
        due, and nothing watches: that spares most spans a tenth of a microsecond or two."""
        if bucket.mark is None:
            self._bucket_started(bucket, is_agent)
        if self._watches_loops and self._running_loop() is not None:
            (self._loops or self._loop_monitor()).span_started(context.trace_id, context.span_id)
        if now_ns >= self.due_ns:
            self._resources.sample(now_ns * 1e-9)
            self.due_ns = int(self._resources.due_s * 1e9) if self._resources.due_s > 0 else now_ns + _LATER_NS
        if self._profiling is not None:
            self._profile(self._profiling, name, context, bucket)

    def _look_for_loop(self) -> object:
        """The event loop that runs on this thread. Asyncio's own function takes our place as soon as a program has
        imported that."""
        look: Callable[[], object] | None = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
        if look is None:
            return None
        self._running_loop = look
        if self._profiling is None:
            self.are_watching = look
        return look()

    def _bucket_started(self, bucket: Bucket, is_agent: bool) -> None:
        if bucket.size == 1 and bucket.outer is None and len(self._buffer) == 1:
            counts.drain()  # what was looked up outside of any run belongs to none
        # A lone call is no run; reading the clocks for each would cost it a tenth more.
        if is_agent or bucket.size > 1:
            bucket.mark = self._resources.mark()

    def _loop_monitor(self) -> LoopMonitor:
        """With the first span on an event loop: programs without asyncio do not import it for us."""
        block_s = [value for name, value in self._thresholds.items() if name.startswith("blocked_event_loop.block_s")]
        with loading:
            from .capture.loop_monitor import LoopMonitor

            self._loops = self._loops or LoopMonitor(
                lambda: len(self._buffer) > 0, min(block_s, default=0.1), self._resources.sample
            )
            return self._loops

    def _profile(self, profiling: Profiling, name: str, context: SpanContext, bucket: Bucket) -> None:
        """Begin a profile with the root of a bucket that is to have one; sample the thread of every span in it."""
        if bucket.root_id == context.span_id:
            is_open = partial(self._buffer.is_open, context.trace_id, context.span_id)
            profiling.begin(name, bucket.is_run, context.trace_id, context.span_id, is_open)
        profiling.started(context.trace_id)

    def measured(self, root: ReadableSpan, bucket: Bucket) -> dict[str, Any]:
        """The fields of the root's record that are to be read when it ends."""
        fields: dict[str, Any] = {"counts": counts.drain()}
        with _guard.guard("sensors.resources"):
            context = root.get_span_context()
            if context is not None and bucket.root_id == context.span_id and bucket.mark is not None:
                fields["usage"] = self._resources.since(bucket.mark, root.start_time or 0)
        return fields

    def found(self, context: SpanContext, root: SpanRecord, records: Sequence[SpanRecord]) -> dict[str, Any]:
        """Those that can wait for the analysis, for the run of `records`."""
        fields: dict[str, Any] = {}
        with _guard.guard("sensors.loops"):
            if self._loops is not None:
                fields["stalls"] = self._loops.stalls(context.trace_id, root.start_ns, root.end_ns)
        with _guard.guard("sensors.profiling"):
            if self._profiling is not None:
                fields["profile"], fields["profile_note"] = self._profiling.result(context.trace_id, records)
        with _guard.guard("sensors.history"):
            if self._history is not None:
                fields["history"] = self._history.known(records)
        return fields

    def learn(self, report: Report) -> None:
        """A run has been reported."""
        with _guard.guard("sensors.history"):
            if self._history is not None:
                self._history.learn(report.run)
        with _guard.guard("sensors.profiling"):
            if self._profiling is not None:
                self._profiling.learn(report)

    def ended(self, context: SpanContext, bucket: Bucket) -> None:
        """The root of `bucket` has ended, and its report, if it has one, is made."""
        with _guard.guard("sensors.ended"):
            if self._loops is not None and bucket.outer is None:
                self._loops.forget(context.trace_id)
            if self._profiling is not None:
                self._profiling.ended(context.trace_id, bucket.root_id)

    def stop(self) -> None:
        """The processor is shut down."""
        if self._loops is not None:
            self._loops.stop()


def _profiling(config: Config) -> Profiling | None:
    """None, and nothing imported, unless runs are to be profiled."""
    if config.profile == "off" or not config.enabled:
        return None
    with _guard.guard("sensors.profiling"):
        from .capture.profiling import profiling

        return profiling(config)
    return None
