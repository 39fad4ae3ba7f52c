"""OTLP JSON into records: shared by files and by backends that answer in it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ..analysis.classify import RawSpan, classify
from ..model import SpanRecord
from . import ReadError

_SIDES = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_REMOTE_KNOWN, _REMOTE = 0x100, 0x200
_ENVELOPES = ("result", "batches")


def documents(text: str) -> Iterator[Any]:
    """All JSON documents in a text: one, one a line, or one after another."""
    decoder = json.JSONDecoder()
    position = _next(text, 0)
    while position < len(text):
        try:
            document, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            line = text.count("\n", 0, position) + 1
            raise ReadError(f"line {line}: not JSON ({getattr(error, 'msg', 'nested too deeply')})") from None
        yield document
        position = _next(text, end)


def _next(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,\x1e":
        position += 1
    return position


def records(document: Any) -> Iterator[SpanRecord]:
    """The spans of one OTLP JSON document (`{"resourceSpans": […]}`), bare, in a list, or in a backend's envelope."""
    if isinstance(document, list):
        for member in document:
            yield from records(member)
        return
    if not isinstance(document, Mapping):
        return
    for envelope in _ENVELOPES:
        if isinstance(document.get(envelope), (Mapping, list)):
            yield from records(document[envelope])
    for resource_spans in _list(document, "resourceSpans", "resource_spans"):
        yield from _resource(resource_spans)


def _resource(resource_spans: Mapping[str, Any]) -> Iterator[SpanRecord]:
    resource = attributes(_list(resource_spans.get("resource") or {}, "attributes"))
    service = str(resource.get("service.name", ""))
    process = json.dumps(resource, sort_keys=True, default=str)
    for scope_spans in _list(resource_spans, "scopeSpans", "scope_spans", "instrumentationLibrarySpans"):
        scope = str((scope_spans.get("scope") or scope_spans.get("instrumentationLibrary") or {}).get("name", ""))
        for span in _list(scope_spans, "spans"):
            yield classify(_raw(span, scope, service, process))


def _raw(span: Mapping[str, Any], scope: str, service: str, process: str) -> RawSpan:
    try:
        parent = _get(span, "parentSpanId", "parent_span_id")
        flags = int(span.get("flags") or 0)
        return RawSpan(
            trace_id=_identifier(_get(span, "traceId", "trace_id"), 16),
            span_id=_identifier(_get(span, "spanId", "span_id"), 8),
            parent_id=_identifier(parent, 8) if parent and set(parent) - {"0"} else None,
            name=str(span.get("name", "")),
            attributes=attributes(_list(span, "attributes")),
            start_ns=int(_get(span, "startTimeUnixNano", "start_time_unix_nano")),
            end_ns=int(_get(span, "endTimeUnixNano", "end_time_unix_nano")),
            failed=(span.get("status") or {}).get("code") in (2, "2", "STATUS_CODE_ERROR"),
            scope=scope,
            service=service,
            side=_side(span.get("kind")),
            remote_parent=bool(flags & _REMOTE_KNOWN and flags & _REMOTE),
            process=process,
        )
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        name = span.get("name") if isinstance(span, Mapping) else span
        raise ReadError(f"span {str(name)[:60]!r}: {error}") from None


def attributes(pairs: Any) -> dict[str, Any]:
    """`[{"key": …, "value": {"stringValue": …}}]` as a plain mapping."""
    return {str(pair.get("key")): _value(pair.get("value")) for pair in pairs if isinstance(pair, Mapping)}


def _value(value: Any) -> Any:
    if not isinstance(value, Mapping) or not value:
        return None
    kind, content = next(iter(value.items()))
    if kind in ("intValue", "int_value"):
        return int(content)
    if kind in ("arrayValue", "array_value"):
        return [_value(member) for member in (content or {}).get("values") or ()]
    if kind in ("kvlistValue", "kvlist_value"):
        return attributes((content or {}).get("values") or ())
    return content


def _identifier(text: Any, size: int) -> str:
    """Hexadecimal as OTLP JSON wants it, or the base64 of protobuf's own JSON."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"a {size}-byte id is missing")
    lowered = text.lower()
    if len(text) == 2 * size and not set(lowered) - set("0123456789abcdef"):
        return lowered
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != size:
        raise ValueError(f"{text[:40]!r} is no {size}-byte id")
    return decoded.hex()


def _side(kind: Any) -> str:
    if isinstance(kind, str):
        return kind.removeprefix("SPAN_KIND_").lower()
    return _SIDES.get(kind, "internal")


def _get(holder: Mapping[str, Any], *keys: str) -> Any:
    return next((holder[key] for key in keys if key in holder), None)


def _list(holder: Mapping[str, Any], *keys: str) -> Any:
    found = _get(holder, *keys)
    return found if isinstance(found, list) else ()
