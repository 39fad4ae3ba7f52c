"""Hand-made traces (`_traces`) as OTLP protobuf, encoded by the SDK's own exporter."""

from __future__ import annotations

import gzip
from collections.abc import Iterable

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from _traces import Node, raw_spans
from otel_agentperf.analysis.classify import RawSpan

KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}


def request(*tops: Node, service: str = "svc", **where: str) -> bytes:
    """An ExportTraceServiceRequest with the spans of the trees."""
    resource = Resource({"service.name": service})
    return encode_spans([readable(raw, resource) for raw in raw_spans(*tops, **where)]).SerializeToString()  # type: ignore[arg-type]


def framed(messages: Iterable[bytes]) -> bytes:
    """Each behind its length, as the Collector's file exporter writes them."""
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def packed(content: bytes) -> bytes:
    return gzip.compress(content)


def readable(raw: RawSpan, resource: Resource) -> ReadableSpan:
    trace_id = int(raw.trace_id, 16)
    parent = raw.parent_id and _context(trace_id, raw.parent_id, raw.remote_parent)
    return ReadableSpan(
        name=raw.name,
        context=_context(trace_id, raw.span_id),
        parent=parent or None,
        resource=resource,
        attributes=dict(raw.attributes),
        kind=KINDS[raw.side],
        instrumentation_scope=InstrumentationScope(raw.scope),
        status=Status(StatusCode.ERROR if raw.failed else StatusCode.UNSET),
        start_time=raw.start_ns,
        end_time=raw.end_ns,
    )


def _context(trace_id: int, span_id: str, remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, int(span_id, 16), remote, TraceFlags(1))
