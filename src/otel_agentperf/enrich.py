"""Puts a report on its run's root span, while that span is ending.

`Span.end()` freezes the attributes before any processor sees the span, so `set_attribute` is too late; but it builds
what the exporters get from the span's fields only after `_on_ending` (docs/adr/0002). So the attribute container is
replaced by a larger one with the report in it, and events and links are appended. All of that is private to the SDK:
`enrich` says False where it looks different, and the processor makes a span of its own for the report.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from operator import attrgetter
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, TraceFlags

from . import _semconv as names
from .model import CacheCounts, Finding, PastCalls, Report, ResourceUsage, SpanRecord, Stall
from .sanitize import valid

_LINKS = 8
_EVIDENCE_IDS = 64
_CRITICAL_PATH_ENTRIES = 5
_PAST = attrgetter(*(field.name for field in fields(PastCalls)))


def report_attributes(report: Report) -> dict[str, Any]:
    """The attributes of a run's root, as the docs list them; what was not measured is left out."""
    parts, kinds = report.score_parts, sorted({finding.kind for finding in report.findings})
    attributes: dict[str, Any] = {
        names.SCORE: report.score,
        names.SCORE_SUCCESS: parts.success,
        names.SCORE_SPEED: parts.speed,
        names.SCORE_RESOURCE: parts.resource,
        names.GRADE: report.grade,
        names.EFFICIENCY: report.efficiency,
        names.BOTTLENECK_COUNT: len(report.findings),
        names.BOTTLENECK_KINDS: tuple(kinds),
        names.SAVING_MS: round(report.saving_s * 1e3),
        names.CRITICAL_PATH: tuple(critical_path_entries(report)),
        names.LLM_CALLS: report.calls("llm"),
        names.TOOL_CALLS: report.calls("tool"),
        names.TOOL_ERRORS: report.errors("tool"),
        names.CACHE_HITS: sum(cache.hits for cache in report.caches),
        names.CACHE_MISSES: sum(cache.lookups - cache.hits for cache in report.caches),
        names.TOKENS_INPUT: report.tokens.input,
        names.TOKENS_OUTPUT: report.tokens.output,
        # A part of the cost would pass for all of it.
        names.COST_USD: report.cost.usd if report.cost.complete else None,
        names.INCOMPLETE: report.run.incomplete,
        **{names.BOTTLENECK_FLAG + kind: True for kind in kinds},
        **profile_attributes(report.root),
        **measured_attributes(report.root.counts, report.root.usage, report.root.stalls),
        names.HISTORY: json.dumps(list(map(_PAST, report.root.history))) if report.root.history else None,
    }
    return _clean(attributes)


def measured_attributes(
    counts: tuple[CacheCounts, ...], usage: ResourceUsage | None, stalls: tuple[Stall, ...] = ()
) -> dict[str, Any]:
    """What only the process itself knows, so that an offline analysis of the exported run finds it."""
    return {
        names.CACHES: json.dumps([asdict(count) for count in counts]) if counts else None,
        names.PROCESS_MEMORY: usage.memory_mb if usage else None,
        names.PROCESS_CPU: usage.cpu_percent if usage else None,
        names.STALLS: json.dumps([asdict(stall) for stall in stalls]) if stalls else None,
        **(_usage_attributes(usage) if usage else {}),
    }


def _usage_attributes(usage: ResourceUsage) -> dict[str, Any]:
    return {
        names.PROCESS_MEMORY_PEAK: usage.memory_peak_mb,
        names.PROCESS_MEMORY_LIMIT: usage.memory_limit_mb,
        names.PROCESS_CPU_PEAK: usage.cpu_peak_percent,
        names.PROCESS_CORES: usage.cores,
        names.MACHINE_CPU: usage.machine_cpu_percent,
        names.MACHINE_MEMORY: usage.machine_memory_percent,
        names.FULL_CPU: json.dumps([asdict(full) for full in usage.full_cpu]) if usage.full_cpu else None,
    }


def profile_attributes(root: SpanRecord) -> dict[str, Any]:
    """Where the CPU went, which only the process itself saw: the spans it belongs to have been exported by now."""
    return {
        names.PROFILE: json.dumps([asdict(profile) for profile in root.profile]) if root.profile else None,
        names.PROFILE_NOTE: root.profile_note or None,
    }


def critical_path_entries(report: Report) -> Iterator[str]:
    """The operations that took most of the critical path: `search 41% 1.23s`."""
    duration = report.root.duration_s
    for operation in report.operations[:_CRITICAL_PATH_ENTRIES]:
        if operation.critical_s > 0 and duration:
            yield f"{operation.name} {operation.critical_s / duration:.0%} {operation.critical_s:.2f}s"


def finding_attributes(finding: Finding) -> dict[str, Any]:
    """The attributes of a finding's event."""
    attributes = {
        "kind": finding.kind,
        "severity": finding.severity,
        "operation": finding.operation,
        "calls": finding.calls,
        "wasted_ms": round(finding.wasted_s * 1e3),
        "saving_ms": round(finding.saving_s * 1e3),
        "threshold": finding.threshold,
        "recommendation": finding.recommendation,
        "agent": finding.agent,
        "fingerprint": finding.fingerprint,
        "evidence": finding.evidence[:_EVIDENCE_IDS],
    }
    return _clean(attributes)


def _clean(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what was not measured. Names are other instrumentations', so their Unicode may be broken."""
    return {
        key: valid(value) if type(value) is str else tuple(map(valid, value)) if type(value) is tuple else value
        for key, value in attributes.items()
        if value is not None
    }


def enrich(span: Any, report: Report, added: Mapping[str, Any] | None = None) -> bool:
    """Add the report, as attributes `added`, to a span whose `_on_ending` is being called. False: this SDK's spans
    look different."""
    old = getattr(span, "_attributes", None)
    events, links = getattr(span, "_events", None), getattr(span, "_links", None)
    if type(old) is not BoundedAttributes or type(events) is not BoundedList or type(links) is not BoundedList:
        return False
    added = report_attributes(report) if added is None else added
    # Room for all: a full container would drop the user's oldest attributes for ours.
    room = None if old.maxlen is None else len(old) + len(added)
    new = BoundedAttributes(room, immutable=False, max_value_len=old.max_value_len)
    new._dict.update(old._dict)  # in there already; the SDK would check each again
    if old.max_value_len is None:
        new._dict.update(added)
    else:
        for key, value in added.items():
            new[key] = value
    new.dropped = old.dropped
    new._immutable = True
    span._attributes = new
    span._events = _with(events, _events(report))
    span._links = _with(links, _links(span, report))
    return True


def _with(old: BoundedList[Any], more: Iterable[Any]) -> BoundedList[Any]:
    new = BoundedList.from_seq(None, [*old, *more])
    new.dropped = old.dropped
    return new


def _events(report: Report) -> Iterator[Event]:
    for finding in report.findings:
        attributes = BoundedAttributes(attributes=finding_attributes(finding))
        yield Event(names.BOTTLENECK_EVENT, attributes, report.root.end_ns)


def _links(span: Any, report: Report) -> Iterator[Link]:
    context = span.get_span_context()
    evidence = list(dict.fromkeys(span_id for finding in report.findings for span_id in finding.evidence))
    for span_id in evidence[:_LINKS]:
        target = SpanContext(context.trace_id, int(span_id, 16), False, TraceFlags(context.trace_flags))
        yield Link(target, BoundedAttributes(attributes={"agentperf.evidence": True}))
