"""The span processor: collects every ended span, analyses a run when its root ends, puts the report on the root.

It sees the spans of all instrumentations, and works before or after any exporter in the provider's chain.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanContext, StatusCode, format_span_id, format_trace_id, set_span_in_context

from . import _config, _guard
from .analysis.analyze import analyze
from .analysis.classify import RawSpan, classify, looks_like_agent
from .analysis.runs import find_runs
from .capture import counts
from .capture.tracing import SCOPE, state
from .enrich import enrich, report_attributes
from .metrics import Metrics
from .model import AgentRun, Report, SpanRecord
from .resources import Mark, Resources
from .run_buffer import Bucket, RunBuffer

Listener = Callable[[Report], object]
L = TypeVar("L", bound=Listener)

_listeners: list[Listener] = []
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
    """

    def __init__(self, config: _config.Config | None = None, meter_provider: MeterProvider | None = None) -> None:
        self._config = config or state.config
        self._buffer = RunBuffer(self._config.max_runs, self._config.max_spans, self._config.max_age_s)
        self._metrics = Metrics(meter_provider)
        self._metrics.dropped = self._buffer.dropped
        self._resources = Resources()
        self._marks: dict[int, Mark] = {}
        self._thresholds = self._config.threshold_map()
        self._services: dict[int, str] = {}

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Put the span into its run's bucket."""
        if not self._config.enabled:
            return
        started = time.perf_counter_ns()
        try:
            self._start(span)
        except Exception as fault:  # noqa: BLE001 - ours; it would reach the user's program
            _guard.swallowed("processor.on_start", fault)
        self._metrics.self_ns += time.perf_counter_ns() - started

    def _on_ending(self, span: Span) -> None:
        """Record the span; at the end of its run, analyse that and enrich the span."""
        started = time.perf_counter_ns()
        try:
            report = self._end(span)
            if report is not None and not enrich(span, report):
                self._export_apart(span, report)
        except Exception as fault:  # noqa: BLE001 - see on_start
            _guard.swallowed("processor.on_ending", fault)
        self._metrics.self_ns += time.perf_counter_ns() - started

    def on_end(self, span: ReadableSpan) -> None:
        """Where no `_on_ending` came (another SDK, a processor that wraps us and does not pass it on), the span
        cannot be changed any more: its report goes out on a span of its own."""
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
        for bucket, open_spans in self._buffer.drain():
            with _guard.guard("processor.shutdown"):
                self._report_open(bucket, open_spans, now)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits here: reports leave with their root spans."""
        return True

    def _start(self, span: Span) -> None:
        context, parent = span.get_span_context(), span.parent
        assert context is not None
        is_agent = looks_like_agent(span.name, _attributes(span))
        if is_agent:
            self._metrics.active_agents += 1
        parent_id = None if parent is None or parent.is_remote else parent.span_id
        if not len(self._buffer):
            counts.drain()  # what was looked up outside of any run belongs to none
        if self._buffer.started(context.trace_id, context.span_id, parent_id, span, is_agent):
            self._marks[context.span_id] = self._resources.mark()

    def _end(self, span: ReadableSpan) -> Report | None:
        context = span.get_span_context()
        assert context is not None
        attributes = _attributes(span)
        is_agent = looks_like_agent(span.name, attributes)
        raw = self._raw(span, context, attributes)
        # Our own spans' attributes are small; others' may hold megabytes that must not be kept until the run ends.
        record = raw if raw.scope == SCOPE else classify(raw)
        bucket = self._buffer.ended(context.trace_id, context.span_id, record)
        if is_agent:
            self._metrics.active_agents = max(0, self._metrics.active_agents - 1)
        mark = self._marks.pop(context.span_id, None)
        if bucket is None or not self._ends_run(bucket, span, is_agent):
            return None
        return self._report(bucket, raw, mark)

    def _ends_run(self, bucket: Bucket, span: ReadableSpan, is_agent: bool) -> bool:
        context = span.get_span_context()
        assert context is not None
        if is_agent:
            return bucket.root_id == context.span_id or not (bucket.is_run or self._inside_agent(span, context))
        if bucket.root_id != context.span_id or bucket.orphan or bucket.nested:
            return False
        lone = bucket.size == 1 and (span.end_time or 0) - (span.start_time or 0) < _LONE_NS
        return bool(_listeners) or not lone

    def _inside_agent(self, span: ReadableSpan, context: SpanContext) -> bool:
        parent = span.parent
        parent_id = None if parent is None or parent.is_remote else parent.span_id
        above = self._buffer.open_ancestors(context.trace_id, parent_id)
        return any(looks_like_agent(ancestor.name, _attributes(ancestor)) for ancestor in above)

    def _report(self, bucket: Bucket, raw: RawSpan, mark: Mark | None) -> Report | None:
        records = [_classified(record) for record in bucket.spans()]
        incomplete = bucket.dropped > 0 or bucket.orphan or (bucket.open_spans > 0 and raw.span_id == _hex(bucket))
        run = self._find(records, raw.span_id, incomplete, mark)
        if raw.span_id == _hex(bucket):
            self._buffer.close(bucket)
        if run is None:
            return None
        report = analyze(run, self._config)
        self._metrics.record(report, SCOPE)
        for listener in list(_listeners):
            with _guard.guard("on_report"):
                listener(report)
        return report

    def _find(self, records: list[SpanRecord], root_id: str, incomplete: bool, mark: Mark | None) -> AgentRun | None:
        """The run of `root_id`, found by the very function that finds runs offline."""
        for index, record in enumerate(records):
            if record.span_id == root_id:
                usage = self._resources.since(mark) if mark else None
                records[index] = replace(record, counts=counts.drain(), usage=usage, incomplete=incomplete)
        runs = find_runs(records, self._thresholds)
        return next((run for run in runs if run.root.span_id == root_id), None)

    def _report_open(self, bucket: Bucket, open_spans: list[Any], now: int) -> None:
        root = next((span for span in open_spans if span.get_span_context().span_id == bucket.root_id), None)
        if root is None:
            return
        for span in open_spans:
            raw = self._raw(span, span.get_span_context(), _attributes(span))
            bucket.records.append(classify(raw._replace(end_ns=now)))
        raw = self._raw(root, root.get_span_context(), _attributes(root))
        bucket.dropped += 1
        self._report(bucket, raw, self._marks.pop(bucket.root_id, None))

    def _export_apart(self, span: ReadableSpan, report: Report) -> None:
        context = span.get_span_context()
        if context is not None:
            from opentelemetry.trace import NonRecordingSpan

            parent = set_span_in_context(NonRecordingSpan(context), Context())
            attributes = report_attributes(report)
            state.tracer.start_span("agentperf report", parent, attributes=attributes).end()

    def _raw(self, span: ReadableSpan, context: SpanContext, attributes: dict[str, Any]) -> RawSpan:
        parent = span.parent
        scope = span.instrumentation_scope
        return RawSpan(
            format_trace_id(context.trace_id),
            format_span_id(context.span_id),
            format_span_id(parent.span_id) if parent is not None else None,
            span.name,
            attributes,
            span.start_time or 0,
            span.end_time or 0,
            span.status.status_code is StatusCode.ERROR,
            scope.name if scope is not None else "",
            self._service(span),
            span.kind.name.lower(),
            parent is not None and parent.is_remote,
        )

    def _service(self, span: ReadableSpan) -> str:
        key = id(span.resource)
        service = self._services.get(key)
        if service is None:
            service = self._services[key] = str(span.resource.attributes.get("service.name", ""))
        return service


def _attributes(span: Any) -> dict[str, Any]:
    """The attributes as a plain dictionary: reading them through the SDK's proxies costs several times as much."""
    inside = getattr(getattr(span, "_attributes", None), "_dict", None)
    return inside if type(inside) is dict else dict(span.attributes or {})


def _classified(record: SpanRecord | RawSpan) -> SpanRecord:
    return record if isinstance(record, SpanRecord) else classify(record)


def _hex(bucket: Bucket) -> str:
    return format_span_id(bucket.root_id)
