"""The span processor: collects every ended span, analyses a run when its root ends, puts the report on the root.

It sees the spans of all instrumentations, and works before or after any exporter in the provider's chain.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from time import perf_counter_ns
from typing import Any, NamedTuple, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from . import _config, _guard
from . import _semconv as names
from .analysis.analyze import analyze, detectors
from .analysis.classify import RawSpan, classify, is_log, looks_like_agent
from .analysis.known import unknown_names
from .analysis.runs import find_runs
from .capture.tracing import SCOPE, library_version, state
from .enrich import enrich, report_attributes
from .metrics import Metrics
from .model import AgentRun, Report, SpanRecord
from .prices import price_source
from .run_buffer import Bucket, RunBuffer
from .sensors import Sensors

Listener = Callable[[Report], object]
L = TypeVar("L", bound=Listener)

_listeners: list[Listener] = []
_KIND_TOLD_LATE = "openinference.span.kind"
_LONE_NS = 100_000_000
"""A lone call shorter than the least saving can have no finding: without a listener it is not worth a report."""


def on_report(callback: L) -> L:
    """Call `callback` with each run's `Report` when the run has ended, on the thread that ended it. Usable as a
    decorator. What it raises is swallowed and counted; `off_report` undoes it."""
    _listeners.append(callback)
    return callback


def off_report(callback: Listener) -> None:
    """Do not call `callback` any more."""
    if callback in _listeners:
        _listeners.remove(callback)


class AgentPerfSpanProcessor(SpanProcessor):
    """Add it to a `TracerProvider`, before or after the exporters: `provider.add_span_processor(…)`.

    `config`: settings, read from the environment unless given. `meter_provider`: the global one unless given.
    `tracer_provider`: the one it is added to, needed only where reports must leave on spans of their own.
    """

    def __init__(
        self,
        config: _config.Config | None = None,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self._config = config or state.config
        self._enabled = self._config.enabled
        self._buffer = RunBuffer(self._config.max_runs, self._config.max_spans, self._config.max_age_s)
        self._metrics = Metrics(meter_provider, self._buffer)
        self._thresholds = self._config.threshold_map()
        self._sensors = Sensors(self._config, self._buffer)
        self._prices = price_source() if self._enabled else None
        self._sees_endings = False
        detectors()
        _config.warn_once(unknown_names(self._config))
        self._tracer = trace.get_tracer(SCOPE, library_version(), tracer_provider) if tracer_provider else None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put the span into its run's bucket."""
        if not self._enabled:
            return
        began = perf_counter_ns()
        try:
            context, parent = span.get_span_context(), span.parent
            attributes = _attributes(span)
            is_elsewhere = parent is None or (parent.is_remote and not is_log(attributes))
            parent_id = None if is_elsewhere or parent is None else parent.span_id
            is_agent = looks_like_agent(span.name, attributes)
            bucket = self._buffer.started(context.trace_id, context.span_id, parent_id, span, is_agent)
            sensors = self._sensors
            if bucket is not None and (bucket.mark is None or began >= sensors.due_ns or sensors.are_watching()):
                sensors.span_started(span.name, context, bucket, is_agent, began)
        except Exception as fault:  # noqa: BLE001 - ours; it would reach the user's program
            _guard.swallowed("processor.on_start", fault)
        self._metrics.self_ns += perf_counter_ns() - began

    on_start.only_names = True  # type: ignore[attr-defined]  # see capture.tracing.State.may_wait

    def _on_ending(self, span: Span) -> None:
        """Record the span; at the end of its run, analyse that and enrich the span."""
        began = perf_counter_ns()
        self._sees_endings = True
        try:
            report = self._end(span)
            if report is not None and not enrich(span, report):
                self._export_apart(span, report)
        except Exception as fault:  # noqa: BLE001 - see on_start
            _guard.swallowed("processor.on_ending", fault)
        self._metrics.self_ns += perf_counter_ns() - began

    def on_end(self, span: ReadableSpan) -> None:
        """Where no `_on_ending` came (another SDK, a processor that wraps us and does not pass it on), the span
        cannot be changed any more: its report goes out on a span of its own."""
        if self._sees_endings:
            return
        context = span.get_span_context()
        if context is None or not self._buffer.is_open(context.trace_id, context.span_id):
            return
        with _guard.guard("processor.on_end"):
            report = self._end(span)
            if report is not None:
                self._export_apart(span, report)

    def shutdown(self) -> None:
        """Report the runs that are still open, as incomplete."""
        now = time.time_ns()
        self._sensors.stop()
        for bucket, open_spans in self._buffer.drain():
            with _guard.guard("processor.shutdown"):
                self._report_open(bucket, open_spans, now)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here: reports leave with their root spans."""
        return True

    def _end(self, span: ReadableSpan) -> Report | None:
        ended = _ended(span)
        context, scope = ended.context, ended.scope
        span_id = context.span_id
        # Our own spans' attributes are small; others' may hold megabytes that must not be kept until the run ends.
        if scope is not None and scope.name == SCOPE:
            bucket = self._buffer.ended(context.trace_id, span_id, ended)
        else:
            bucket = self._buffer.ended(context.trace_id, span_id, ended.classified(_exception(span)))
            state.siblings.forget(span_id)
        if bucket is None:
            return None
        is_root = bucket.root_id == span_id
        if bucket.is_run and not is_root:
            return None
        report = self._report(bucket, span) if self._ends_run(bucket, span, context, is_root) else None
        if is_root:
            self._buffer.close(context.trace_id, bucket)
            self._sensors.ended(context, bucket)
        return report

    def _ends_run(self, bucket: Bucket, span: ReadableSpan, context: SpanContext, is_root: bool) -> bool:
        attributes = _attributes(span)
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
        late = span.instrumentation_scope if _KIND_TOLD_LATE in _attributes(span) else None
        for ancestor in self._buffer.open_ancestors(context.trace_id, parent_id):
            attributes = _attributes(ancestor)
            untold = _KIND_TOLD_LATE not in attributes and ancestor.instrumentation_scope == late
            if looks_like_agent(ancestor.name, attributes) or (late is not None and untold):
                return True
        return False

    def _report(self, bucket: Bucket, span: ReadableSpan) -> Report | None:
        run = self._find_run(bucket, span)
        if run is None:
            return None
        report = analyze(run, self._config, self._prices)
        self._metrics.record(report)
        self._sensors.learn(report)
        for listener in list(_listeners):
            with _guard.guard("on_report"):
                listener(report)
        return report

    def _find_run(self, bucket: Bucket, span: ReadableSpan) -> AgentRun | None:
        """The run of the root `span`, found by the very function that finds runs offline."""
        context = span.get_span_context()
        assert context is not None
        root_id = format_span_id(context.span_id)
        records = [_classified(record) for record in bucket.spans()]
        incomplete = bucket.dropped > 0
        if bucket.root_id == context.span_id:
            incomplete |= bucket.open_spans > 0
        else:
            records = _below(root_id, records)
        for index, record in enumerate(records):
            if record.span_id == root_id:
                found = self._sensors.found(context, record, records, bucket)
                records[index] = replace(record, incomplete=incomplete, **found)
        runs = find_runs(records, self._thresholds)
        return next((run for run in runs if run.root.span_id == root_id), None)

    def _report_open(self, bucket: Bucket, open_spans: list[Any], now: int) -> None:
        root = next((span for span in open_spans if span.get_span_context().span_id == bucket.root_id), None)
        if root is None:
            return
        bucket.records.extend(_ended(span)._replace(end_ns=now) for span in open_spans)
        bucket.dropped += 1
        self._report(bucket, root)
        self._sensors.ended(root.get_span_context(), bucket)

    def _export_apart(self, span: ReadableSpan, report: Report) -> None:
        context = span.get_span_context()
        if context is not None:
            parent = set_span_in_context(NonRecordingSpan(context), Context())
            tracer = self._tracer or state.tracer
            tracer.start_span("agentperf report", parent, attributes=report_attributes(report)).end()


def processor_of(provider: Any) -> AgentPerfSpanProcessor | None:
    """Our processor among those of `provider`, None where there is none or the provider is not the SDK's."""
    members = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    return next((member for member in members if isinstance(member, AgentPerfSpanProcessor)), None)


class _Ended(NamedTuple):
    """What is kept of a span of ours until its run ends: a third of what the span itself holds."""

    context: SpanContext
    parent: SpanContext | None
    name: str
    attributes: Mapping[str, Any]
    start_ns: int | None
    end_ns: int | None
    status: Status
    scope: InstrumentationScope | None
    resource: Resource
    kind: SpanKind

    def classified(self, exception: str | None = None) -> SpanRecord:
        parent = self.parent
        raw = RawSpan(
            format_trace_id(self.context.trace_id),
            format_span_id(self.context.span_id),
            format_span_id(parent.span_id) if parent is not None else None,
            self.name,
            self.attributes,
            self.start_ns or 0,
            self.end_ns or 0,
            self.status.status_code is StatusCode.ERROR,
            self.scope.name if self.scope is not None else "",
            str(self.resource.attributes.get("service.name", "")),
            self.kind.name.lower(),
            parent is not None and parent.is_remote,
            exception=exception,
        )
        return classify(raw)


_INSIDE = attrgetter("_context", "_parent", "_name", "_attributes._dict", "_start_time", "_end_time", "_status",
                     "_instrumentation_scope", "_resource", "_kind")  # fmt: skip
_OUTSIDE = attrgetter("context", "parent", "name", "attributes", "start_time", "end_time", "status",
                      "instrumentation_scope", "resource", "kind")  # fmt: skip


def _ended(span: ReadableSpan) -> _Ended:
    """In one look at the SDK's fields, which costs a fifth of asking for them one by one."""
    try:
        return tuple.__new__(_Ended, _INSIDE(span))
    except AttributeError:
        return _Ended(*_OUTSIDE(span))


def _exception(span: ReadableSpan) -> str | None:
    """The type of the last exception that a failed span recorded. The event itself, which also holds what the
    exception said and its stack, is not kept."""
    if span.status.status_code is not StatusCode.ERROR:
        return None
    recorded = (event.attributes or {} for event in reversed(span.events) if event.name == "exception")
    told = next(recorded, {}).get("exception.type")
    return told if isinstance(told, str) else None


def _attributes(span: Any) -> Mapping[str, Any]:
    """The attributes as a plain dictionary: reading them through the SDK's proxies costs several times as much."""
    try:
        return span._attributes._dict  # type: ignore[no-any-return]
    except AttributeError:
        return span.attributes or {}


def _classified(record: SpanRecord | _Ended) -> SpanRecord:
    return record if isinstance(record, SpanRecord) else record.classified()


def _below(root_id: str, records: Iterable[SpanRecord]) -> list[SpanRecord]:
    """The record of `root_id` and all below it."""
    children: dict[str | None, list[SpanRecord]] = defaultdict(list)
    for record in records:
        children[record.span_id if record.span_id == root_id else record.parent_id].append(record)
    found, stack = [], [root_id]
    while stack:
        for record in children.pop(stack.pop(), ()):
            found.append(record)
            if record.span_id != root_id:
                stack.append(record.span_id)
    return found
