"""What happens when a run has ended: its spans become a run, the run a report, and the report leaves on the root.

Apart from the processor, which collects, because it stands on the whole analysis: 70 ms with the sensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from . import _config
from . import _semconv as names
from .analysis.analyze import analyze, detectors
from .analysis.classify import RawSpan, classify
from .analysis.known import unknown_names
from .analysis.runs import find_runs
from .analysis.sampling import decide
from .ended import EndedSpan
from .enrich import enrich, report_attributes
from .metrics import Metrics
from .model import AgentRun, Report, SpanRecord
from .prices import price_source
from .run_buffer import Bucket, RunBuffer
from .sensors import Sensors

_SIDES = {kind: kind.name.lower() for kind in SpanKind}


class Reporter:
    """Of one processor."""

    def __init__(self, config: _config.Config, metrics: Metrics, buffer: RunBuffer) -> None:
        self.sensors = Sensors(config, buffer)
        self._config = config
        self._metrics = metrics
        self._thresholds = config.threshold_map()
        self._rules = config.sampling_rules()
        self._prices = price_source()
        detectors()
        _config.warn_once(unknown_names(config))

    def report(self, bucket: Bucket, span: ReadableSpan, measured: Mapping[str, Any]) -> Report | None:
        """The report of the run whose root is `span`; None where there is no run. Its numbers are recorded.
        `measured`: what the sensors did when the root ended."""
        run = self._find_run(bucket, span, measured)
        if run is None:
            return None
        report = analyze(run, self._config, self._prices)
        self._metrics.record(report)
        self.sensors.learn(report)
        return report

    def deliver(self, report: Report, span: Any, tracer: Tracer, ending: bool = True) -> None:
        """Put the report on the root `span` where that is `ending` and can still be changed, otherwise on a span of
        its own."""
        attributes = {**report_attributes(report), **self._sampling(report, span)}
        if ending and enrich(span, report, attributes):
            return
        context: SpanContext | None = span.get_span_context()
        if context is not None:
            parent = set_span_in_context(NonRecordingSpan(context), Context())
            tracer.start_span("agentperf report", parent, attributes=attributes).end()

    def _sampling(self, report: Report, span: Any) -> dict[str, Any]:
        """Whether the user's rules want the run exported; nothing where no rule speaks of it."""
        if not self._rules:
            return {}
        from .sampling import start_of

        start = start_of(span.name, span.attributes or {}, span.resource.attributes)
        decision = decide(self._rules, span.get_span_context().trace_id, start, report)
        if decision is None:
            return {}
        keys = (names.SAMPLED, names.SAMPLING_RULE, names.SAMPLING_SHARE)
        return dict(zip(keys, decision, strict=True))

    @staticmethod
    def classified(span: SpanRecord | EndedSpan, exception: str | None = None) -> SpanRecord:
        """In our terms. `exception`: the type of the last one that the span recorded."""
        return span if isinstance(span, SpanRecord) else classify(_raw(span, exception))

    def _find_run(self, bucket: Bucket, span: ReadableSpan, measured: Mapping[str, Any]) -> AgentRun | None:
        """The run of the root `span`, found by the very function that finds runs offline."""
        context = span.get_span_context()
        assert context is not None
        root_id = format_span_id(context.span_id)
        records = [self.classified(record) for record in bucket.spans()]
        incomplete = bucket.dropped > 0
        if bucket.root_id == context.span_id:
            incomplete |= bucket.open_spans > 0
        else:
            records = _below(root_id, records)
        for index, record in enumerate(records):
            if record.span_id == root_id:
                found = self.sensors.found(context, record, records)
                records[index] = replace(record, incomplete=incomplete, **measured, **found)
        runs = find_runs(records, self._thresholds)
        return next((run for run in runs if run.root.span_id == root_id), None)


_trace_id, _parent_id = lru_cache(64)(format_trace_id), lru_cache(64)(format_span_id)
"""most spans share theirs with the one before"""


def _raw(span: EndedSpan, exception: str | None) -> RawSpan:
    parent = span.parent
    context = span.context
    return RawSpan(
        _trace_id(context.trace_id),
        f"{context.span_id:016x}",
        _parent_id(parent.span_id) if parent is not None else None,
        span.name,
        span.attributes,
        span.start_ns or 0,
        span.end_ns or 0,
        span.status.status_code is StatusCode.ERROR,
        span.scope.name if span.scope is not None else "",
        _service(span.resource),
        "internal" if span.kind is SpanKind.INTERNAL else _SIDES[span.kind],
        parent is not None and parent.is_remote,
        exception=exception,
    )


def _service(resource: Resource) -> str:
    """All spans of a provider have the same resource; looking into it takes a microsecond."""
    global _last_service
    known, service = _last_service
    if known is not resource:
        service = str(resource.attributes.get("service.name", ""))
        _last_service = resource, service
    return service


_last_service: tuple[Resource | None, str] = (None, "")


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
