"""Hand-made traces (`_traces`) as OTLP JSON documents, the way the Collector's file exporter writes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from _traces import Node, raw_spans
from otel_agentperf.analysis.classify import RawSpan

KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}


def document(*tops: Node, service: str = "svc", **where: Any) -> dict[str, Any]:
    """One document with the spans of the trees."""
    return document_of((span_object(raw) for raw in raw_spans(*tops, **where)), service)


def document_of(spans: Iterable[Any], service: str = "svc") -> dict[str, Any]:
    resource = {"attributes": [pair("service.name", service)]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "test"}, "spans": [*spans]}]}]}


def span_object(raw: RawSpan) -> dict[str, Any]:
    return {
        "traceId": raw.trace_id,
        "spanId": raw.span_id,
        "parentSpanId": raw.parent_id or "",
        "name": raw.name,
        "kind": KINDS[raw.side],
        "startTimeUnixNano": str(raw.start_ns),
        "endTimeUnixNano": str(raw.end_ns),
        "attributes": [pair(key, value) for key, value in raw.attributes.items()],
        "status": {"code": 2} if raw.failed else {},
        "flags": 256,
    }


def pair(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": any_value(value)}


def any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [any_value(member) for member in value]}}
    return {"stringValue": str(value)}
