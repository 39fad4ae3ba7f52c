"""Jaeger's own JSON into records: what its UI downloads and `/api/traces` answers (`{"data": [{"spans": …}]}`).

https://github.com/jaegertracing/jaeger-idl/blob/main/model/v1/model.proto and the conversion from OTLP in
opentelemetry-collector-contrib, pkg/translator/jaeger: times are microseconds, the resource is the process, the scope,
the span's kind and its status are tags, and values of lists are their JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import _semconv as names
from ..analysis.classify import RawSpan, classify
from ..model import SpanRecord
from ._otlp import identifier, list_of, mapping, process_of, scalar

_SCOPE_TAGS = ("otel.scope.name", "otel.library.name")
_LISTS = frozenset({names.DEPENDS_ON})
_TYPES = {"int64": "intValue", "float64": "doubleValue", "binary": "bytesValue"}
_LATEST_US = 2**64 // 1_000


def is_trace(part: Mapping[str, Any]) -> bool:
    return isinstance(part.get("spans"), list) and ("processes" in part or "traceID" in part)


def records(trace: Mapping[str, Any]) -> Iterator[SpanRecord | str]:
    """The spans of one trace; for those that cannot be used, what is wrong."""
    processes = {str(key): _Process(mapping(told)) for key, told in mapping(trace.get("processes")).items()}
    starts = {
        str(span.get("spanID")): span.get("startTime") for span in list_of(trace, "spans") if isinstance(span, Mapping)
    }
    for span in map(mapping, list_of(trace, "spans")):
        try:
            inline = mapping(span.get("process"))
            process = processes.get(str(span.get("processID"))) or _Process(inline)
            record = classify(_raw(span, process, starts))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a span, the others are good
            yield f"span {str(span.get('operationName'))[:60]!r}: {error}"
        else:
            yield record


class _Process:
    """Who made a span: its service, and what tells it from others."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.service = str(told.get("serviceName") or "")
        self.identity = process_of({"service.name": self.service, **_attributes(told)})


def _raw(span: Mapping[str, Any], process: _Process, starts: Mapping[str, Any]) -> RawSpan:
    attributes = _attributes(span)
    start, duration = _microseconds(span, "startTime"), _microseconds(span, "duration")
    parent = _parent(span, starts)
    return RawSpan(
        trace_id=_padded(span.get("traceID"), 16, "trace"),
        span_id=_padded(span.get("spanID"), 8, "span"),
        parent_id=_padded(parent, 8, "parent span") if str(parent or "").strip("0") else None,
        name=str(span.get("operationName") or ""),
        attributes=attributes,
        start_ns=1_000 * start,
        end_ns=1_000 * (start + duration),
        failed=attributes.get("error") in (True, "true") or attributes.get("otel.status_code") == "ERROR",
        scope=next((str(attributes[tag]) for tag in _SCOPE_TAGS if tag in attributes), ""),
        service=process.service,
        side=str(attributes.get("span.kind") or "internal"),
        process=process.identity,
        exception=_exception(list_of(span, "logs")),
    )


def _exception(logs: Sequence[Any]) -> str | None:
    for log in map(mapping, reversed(logs)):
        fields = {str(field.get("key")): field.get("value") for field in map(mapping, list_of(log, "fields"))}
        if fields.get("event") == "exception":
            told = fields.get("exception.type")
            return told if isinstance(told, str) else None
    return None


def _parent(span: Mapping[str, Any], starts: Mapping[str, Any]) -> Any:
    """Child of a span, or else following from one that started before. OpenTelemetry's links are such references
    too: ours, from a run to its evidence, point to spans that started later."""
    references = [mapping(reference) for reference in list_of(span, "references")]
    same = [reference for reference in references if reference.get("traceID") == span.get("traceID")]
    above = [reference.get("spanID") for reference in same if reference.get("refType") == "CHILD_OF"]
    if above or span.get("parentSpanID"):
        return above[0] if above else span["parentSpanID"]
    followed = (str(reference.get("spanID")) for reference in same if reference.get("refType") == "FOLLOWS_FROM")
    start = span["startTime"]
    return next((other for other in followed if other in starts and starts[other] < start), None)


def _padded(told: Any, size: int, whose: str) -> str:
    """Jaeger leaves out the zeros that an id begins with."""
    return identifier(told.rjust(2 * size, "0") if isinstance(told, str) and told else told, size, whose)


def _microseconds(span: Mapping[str, Any], key: str) -> int:
    told = span.get(key)
    if isinstance(told, bool) or not isinstance(told, (int, float)) or not 0 <= told < _LATEST_US:
        raise ValueError(f"its {key} {str(told)[:40]!r} is no time in microseconds")
    return int(told)


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for tag in map(mapping, list_of(holder, "tags")):
        key, value = str(tag.get("key")), scalar(_TYPES.get(str(tag.get("type")), ""), tag.get("value"))
        found[key] = _decoded(value) if key in _LISTS else value
    return found


def _decoded(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value
