"""The span processor: collects every ended span, analyses a run when its root ends, puts the report on the root.

It sees the spans of all instrumentations, and works before or after any exporter in the provider's chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, TracerProvider

from . import _config, _guard
from . import _semconv as names
from ._fork import loading
from ._version import VERSION
from .analysis.agents import is_log, looks_like_agent
from .capture.tracing import SCOPE, state
from .ended import attributes_of, ended, exception_type, started
from .metrics import Metrics
from .postponing import Postponing
from .run_buffer import Bucket, RunBuffer

if TYPE_CHECKING:
    from .model import Report
    from .reporting import Reporter

Listener = Callable[["Report"], object]
L = TypeVar("L", bound=Listener)

_listeners: list[Listener] = []
_KIND_TOLD_LATE = "openinference.span.kind"
_LONE_NS = 100_000_000
"""A lone call shorter than the least saving can have no finding: without a listener it is not worth a report."""


def on_report(callback: L) -> L:
    """Call `callback` with each run's `Report` when the run has ended: on the thread that ended it, or on one of ours
    where the run was long and all exporters queue their spans. Usable as a decorator. What it raises is swallowed and
    counted; `off_report` undoes it."""
    _listeners.append(callback)
    return callback


def off_report(callback: Listener) -> None:
    """Do not call `callback` any more."""
    if callback in _listeners:
        _listeners.remove(callback)


def _tell(report: Report) -> None:
    for listener in list(_listeners):
        with _guard.guard("on_report"):
            listener(report)


class _EndedRun(NamedTuple):
    bucket: Bucket
    root: ReadableSpan
    is_whole: bool
    """its root is the bucket's, so that no more spans come"""
    measured: dict[str, Any]
    """what is known only while the root ends"""


class AgentPerfSpanProcessor(SpanProcessor):
    """Add it to a `TracerProvider`, before or after the exporters: `provider.add_span_processor(…)`.

    `config`: settings, read from the environment unless given. `meter_provider`: the global one unless given.
    `tracer_provider`: the one it is added to, needed only where reports must leave on spans of their own. `load`: False
    leaves importing the analysis (70 ms) to a call of `load`, or to the first span.
    """

    def __init__(
        self,
        config: _config.Config | None = None,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        load: bool = True,
    ) -> None:
        self._config = config or state.config
        self._enabled = self._config.enabled
        self._buffer = RunBuffer(self._config.max_runs, self._config.max_spans, self._config.max_age_s)
        self._metrics = Metrics(meter_provider, self._buffer)
        self._own = self._metrics.own
        self._reporter: Reporter | None = None
        self._sees_endings = False
        self._postponing = Postponing(self)
        self._tracer = trace.get_tracer(SCOPE, VERSION, tracer_provider) if tracer_provider else None
        if load or self._config.thresholds or self._config.suppress:  # which may name what nothing goes by
            self.load()

    def load(self) -> Reporter:
        """Import and make what a run needs, before one starts rather than while its clock runs."""
        if self._reporter is not None:
            return self._reporter
        with loading:
            from .reporting import Reporter

            self._reporter = self._reporter or Reporter(self._config, self._metrics, self._buffer)
            return self._reporter

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put the span into its run's bucket."""
        if not self._enabled:
            return
        began = perf_counter_ns()
        try:
            context, parent, name, attributes = started(span)
            parent_id = None if parent is None else parent.span_id
            if parent is not None and parent.is_remote and not is_log(attributes):
                parent_id = None
            is_agent = looks_like_agent(name, attributes)
            bucket = self._buffer.started(context.trace_id, context.span_id, parent_id, span, is_agent)
            sensors = (self._reporter or self._loaded_late(span)).sensors
            if bucket is not None and (bucket.mark is None or began >= sensors.due_ns or sensors.are_watching()):
                sensors.span_started(name, context, bucket, is_agent, began)
                if bucket.orphan and names.SCORE in attributes:
                    bucket.orphan = False  # a report of ours on a span of its own: nothing is lost
        except Exception as fault:  # noqa: BLE001 - ours; it would reach the user's program
            _guard.swallowed("processor.on_start", fault)
        except BaseException:  # Ctrl-C: nobody is given the span, so nobody else could end it
            span.end()
            raise
        self._own.self_ns += perf_counter_ns() - began

    on_start.only_names = True  # type: ignore[attr-defined]  # see capture.tracing.State.may_wait

    def _on_ending(self, span: Span) -> None:
        """Record the span; at the end of its run, analyse that and enrich the span."""
        began = perf_counter_ns()
        self._sees_endings = True
        try:
            run = self._end(span)
            if run is not None and not (run.is_whole and self._postpone(run, span)):
                self._finish(run)
        except Exception as fault:  # noqa: BLE001 - see on_start
            _guard.swallowed("processor.on_ending", fault)
        except BaseException:  # Ctrl-C, or what a listener raises: `end` stops here, before it gets to the exporters
            with _guard.guard("processor.on_ending"):
                span._span_processor.on_end(span._readable_span())
            raise
        self._own.self_ns += perf_counter_ns() - began

    def on_end(self, span: ReadableSpan) -> None:
        """Where no `_on_ending` came (another SDK, a processor that wraps us and does not pass it on), the span
        cannot be changed any more: its report goes out on a span of its own."""
        if self._sees_endings:
            return
        context = span.get_span_context()
        if context is None or not self._buffer.is_open(context.trace_id, context.span_id):
            return
        with _guard.guard("processor.on_end"):
            run = self._end(span)
            if run is not None:
                self._finish(run, ending=False)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Spans that no report has seen, by reason: full, old, late, orphan."""
        return self._buffer.dropped

    def shutdown(self) -> None:
        """Report what is postponed, and the runs that are still open, as incomplete."""
        self._postponing.wait()
        now = time.time_ns()
        if self._reporter is not None:
            self._reporter.sensors.stop()
        for bucket, open_spans in self._buffer.drain():
            with _guard.guard("processor.shutdown"):
                self._report_open(bucket, open_spans, now)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Reports leave with their root spans: wait for those that are postponed."""
        return self._postponing.wait(timeout_millis / 1e3)

    def _end(self, span: ReadableSpan) -> _EndedRun | None:
        """Record the span. The run that ends with it, measured; None where none does."""
        record = ended(span)
        context, scope = record.context, record.scope
        span_id = context.span_id
        # What we put on a span is small; what others do may be megabytes that must not be kept until the run ends.
        if scope is not None and scope.name == SCOPE and names.BOUNDED.issuperset(record.attributes):
            bucket = self._buffer.ended(context.trace_id, span_id, record)
        else:
            classified = self.load().classified(record, exception_type(span))
            bucket = self._buffer.ended(context.trace_id, span_id, classified)
            state.siblings.forget(span_id)
        if bucket is None:
            return None
        is_root = bucket.root_id == span_id
        if bucket.is_run and not is_root:
            return None
        ends_run = self._ends_run(bucket, span, context, is_root)
        if is_root:
            self._buffer.close(context.trace_id, bucket)
        if ends_run:
            return _EndedRun(bucket, span, is_root, self.load().sensors.measured(span, bucket))
        if is_root:
            self.load().sensors.ended(context, bucket)
        return None

    def _finish(self, run: _EndedRun, ending: bool = True) -> None:
        """Analyse the run, and put the report on its root."""
        try:
            report = self.load().report(run.bucket, run.root, run.measured)
            if report is not None:
                self.load().deliver(report, run.root, self._tracer or state.tracer, ending)
                _tell(report)
        finally:
            context = run.root.get_span_context()
            if run.is_whole and context is not None:
                self.load().sensors.ended(context, run.bucket)

    def _postpone(self, run: _EndedRun, span: Span) -> bool:
        return self._postponing.postpone(span, run.bucket.size, partial(self._finish_later, run))

    def _finish_later(self, run: _EndedRun) -> None:
        began = perf_counter_ns()
        self._finish(run)
        self._own.self_ns += perf_counter_ns() - began

    def _ends_run(self, bucket: Bucket, span: ReadableSpan, context: SpanContext, is_root: bool) -> bool:
        attributes = attributes_of(span)
        if names.SCORE in attributes:
            return False  # a second processor of this kind
        if looks_like_agent(span.name, attributes):
            return is_root or not self._inside_agent(span, context)
        if not is_root or bucket.orphan or bucket.has_runs or self._buffer.has_open_runs(context.trace_id):
            return False
        lone = bucket.size == 1 and (span.end_time or 0) - (span.start_time or 0) < _LONE_NS
        return bool(_listeners) or not lone

    def _inside_agent(self, span: ReadableSpan, context: SpanContext) -> bool:
        """Is an agent open above? OpenInference says what a span is when it ends: an open one of the same
        instrumentation that has not said so yet may be one."""
        parent = span.parent
        parent_id = None if parent is None or parent.is_remote else parent.span_id
        late = span.instrumentation_scope if _KIND_TOLD_LATE in attributes_of(span) else None
        for ancestor in self._buffer.open_ancestors(context.trace_id, parent_id):
            attributes = attributes_of(ancestor)
            untold = _KIND_TOLD_LATE not in attributes and ancestor.instrumentation_scope == late
            if looks_like_agent(ancestor.name, attributes) or (late is not None and untold):
                return True
        return False

    def _report_open(self, bucket: Bucket, open_spans: list[Any], now: int) -> None:
        root = next((span for span in open_spans if span.get_span_context().span_id == bucket.root_id), None)
        if root is None:
            return
        bucket.records.extend(ended(span)._replace(end_ns=now) for span in open_spans)
        bucket.dropped += 1
        reporter = self.load()
        sensors = reporter.sensors
        report = reporter.report(bucket, root, sensors.measured(root, bucket))
        if report is not None:
            _tell(report)
        sensors.ended(root.get_span_context(), bucket)

    def _loaded_late(self, span: Any) -> Reporter:
        """With the first span, where nothing told that there would be one. What that takes is not the span's time."""
        began = perf_counter_ns()
        reporter = self.load()
        with suppress(AttributeError, TypeError):
            span._start_time += perf_counter_ns() - began
        return reporter


def processor_of(provider: Any) -> AgentPerfSpanProcessor | None:
    """Our processor among those of `provider`, None where there is none or the provider is not the SDK's."""
    members = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    return next((member for member in members if isinstance(member, AgentPerfSpanProcessor)), None)
